//! Contract H11: what main wrote can be read while it runs and after, whole or in part, and is bounded.

use boxwood_tests::Lab;
use rustix::process::Signal;

fn logs(lab: &Lab, args: &[&str]) -> String {
    lab.boxwood(["logs"]).args(args).output().exits(0).quietly().text()
}

/// Numbers, one in each line.
fn numbers(range: std::ops::RangeInclusive<u32>) -> String {
    range.map(|n| format!("{n}\n")).collect()
}

#[test]
fn h11_a_part_of_a_log_is_shown_as_docker_shows_it() {
    let lab = Lab::new();
    let script = "seq 1 9; echo wrong >&2; sleep 2; seq 10 12; printf end";
    lab.boxwood(["run", "--name", "job", "busybox", "sh", "-c", script]).output().exits(0);
    let all = lab.boxwood(["logs", "job"]).output().exits(0);
    assert_eq!((all.text(), all.complaint()), (numbers(1..=12) + "end", "wrong\n".to_owned()));
    for tail in [&["--tail", "3"][..], &["-n", "3"], &["-n3"]] {
        assert_eq!(logs(&lab, &[tail, &["job"]].concat()), "11\n12\nend");
    }
    assert_eq!(logs(&lab, &["-n", "0", "job"]), "");
    assert_eq!(lab.boxwood(["logs", "-n", "all", "job"]).output().text(), numbers(1..=12) + "end");
    assert_eq!(lab.boxwood(["logs", "-n", "-1", "job"]).output().text(), numbers(1..=12) + "end");
    // Each line has the time at which it began.
    let stamped = logs(&lab, &["-t", "-n", "4", "job"]);
    let times: Vec<&str> = stamped.lines().map(|line| line.split(' ').next().unwrap()).collect();
    let words: Vec<&str> = stamped.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(words, ["10", "11", "12", "end"], "{stamped}");
    assert!(times.is_sorted() && times[0].ends_with('Z'), "{stamped}");
    assert_eq!(logs(&lab, &["--since", times[0], "job"]), numbers(10..=12) + "end");
    let early = lab.boxwood(["logs", "--until", times[0], "job"]).output().exits(0).text();
    assert!(early.starts_with(&numbers(1..=9)), "{early}");
    assert_eq!(lab.boxwood(["logs", "--until", "10m", "job"]).output().text(), "");
    // It has ended, so there is nothing to wait for.
    assert_eq!(logs(&lab, &["-f", "-n", "2", "job"]), "12\nend");
    lab.boxwood(["logs", "-n", "many", "job"]).output().refused(&["--tail"]);
    lab.boxwood(["logs", "--since", "then", "job"]).output().refused(&["--since"]);
    lab.remove("job");
}

#[test]
fn h11_a_follower_hears_all_to_the_end() {
    let lab = Lab::new();
    let script = "n=0; while read -r _; do n=$((n+1)); echo $n; done; echo over >&2; exit 3";
    let mut run =
        lab.boxwood(["run", "-i", "--name", "web", "busybox", "sh", "-c", script]).spawn();
    run.write("\n\n\n");
    drop(run.says("3\n"));
    let all = lab.boxwood(["logs", "-f", "web"]).spawn();
    let last = lab.boxwood(["logs", "-f", "--tail", "1", "web"]).spawn();
    drop(all.says("3\n"));
    drop(last.says("3\n"));
    run.write("\n");
    drop(all.says("4\n"));
    run.close_stdin();
    run.wait().exits(3);
    let all = all.wait().exits(0);
    assert_eq!((all.text(), all.complaint()), (numbers(1..=4), "over\n".to_owned()));
    assert_eq!(last.wait().exits(0).text(), "3\n4\n");
    lab.remove("web");
}

#[test]
fn h11_a_follower_stays_with_a_box_whose_shim_stands_still() {
    let lab = Lab::new();
    let script = "trap 'echo last; exit 3' TERM; echo first; while :; do sleep 600 & wait; done";
    lab.detached("web", ["busybox", "sh", "-c", script]);
    let follow = lab.boxwood(["logs", "-f", "web"]).spawn();
    drop(follow.says("first\n"));
    let live = lab.live("web");
    live.shim.signal(Signal::STOP).unwrap();
    // Who came later has given up on it.
    drop(lab.exec(["web", "true"]).output().refused(&["did not answer"]));
    live.shim.signal(Signal::CONT).unwrap();
    lab.boxwood(["stop", "web"]).output().exits(0);
    drop(follow.wait().exits(0).prints("first\nlast\n"));
    lab.remove("web");
}

#[test]
fn h11_a_log_is_bounded_and_a_follower_loses_nothing_when_it_is_rotated() {
    let lab = Lab::new();
    let script =
        "read -r _; for k in 1 2 3 4 5 6 7 8; do seq $((k*2000-1999)) $((k*2000)); read -r _; done";
    let flags =
        ["run", "-i", "--name", "web", "--log-opt", "max-size=16k", "--log-opt", "max-file=3"];
    let mut run = lab.boxwood(flags).args(["busybox", "sh", "-c", script]).spawn();
    // Whoever follows is there before it begins.
    lab.runs("web");
    let follow = lab.boxwood(["logs", "-f", "web"]).spawn();
    run.write("\n");
    for k in 1..=8 {
        drop(follow.says(&format!("\n{}\n", k * 2000)));
        run.write("\n");
    }
    run.close_stdin();
    run.wait().exits(0);
    assert_eq!(follow.wait().exits(0).text(), numbers(1..=16_000));
    let kept = logs(&lab, &["web"]);
    assert!(kept.len() < 100_000 && kept.ends_with("15999\n16000\n"), "{}", kept.len());
    let first: u32 = kept.lines().nth(1).unwrap().parse().unwrap();
    assert!(kept.ends_with(&numbers(first..=16_000)), "{first}");
    let path = std::path::PathBuf::from(lab.inspect("web", "{{.LogPath}}"));
    let pieces = std::fs::read_dir(path.parent().unwrap()).unwrap();
    assert_eq!(pieces.count(), 3);
    let set = lab.inspect("web", "{{json .HostConfig.LogConfig}}");
    assert!(set.contains("16384"), "{set}");
    lab.remove("web");
    for (option, words) in [
        ("max-size=0", "positive"),
        ("max-file=0", "cannot be less than 1"),
        ("mode=x", "unknown log opt"),
    ] {
        let run = lab.boxwood(["run", "--log-opt", option, "busybox", "true"]);
        drop(lab.refuses(run, &[words]));
    }
}

#[test]
fn h11_a_follower_stays_while_a_box_is_restarted_and_goes_with_it() {
    let lab = Lab::new();
    let script = "echo start >> /starts; n=$(wc -l < /starts); echo run $n; exit 1";
    let flags =
        ["create", "--name", "web", "--restart", "on-failure:2", "busybox", "sh", "-c", script];
    lab.boxwood(flags).output().exits(0);
    lab.boxwood(["start", "web"]).output().exits(0);
    let follow = lab.boxwood(["logs", "-f", "web"]).output().exits(0);
    drop(follow.prints("run 1\nrun 2\nrun 3\n"));
    lab.remove("web");
    // Also when it is removed under it.
    lab.detached("web", ["busybox", "sh", "-c", "echo up; exec sleep 600"]);
    let follow = lab.boxwood(["logs", "-f", "web"]).spawn();
    drop(follow.says("up\n"));
    lab.remove("web");
    follow.wait().exits(0).prints("up\n");
}

#[test]
fn h11_what_a_killed_shim_had_logged_is_read_and_what_comes_later_too() {
    let lab = Lab::new();
    let script = "echo start >> /starts; sync; n=$(wc -l < /starts); echo run $n; exec sleep 600";
    lab.detached("web", ["busybox", "sh", "-c", script]);
    lab.logged("web", "run 1\n");
    let path = lab.inspect("web", "{{.LogPath}}");
    lab.live("web").shim.kill();
    // As if it had been killed in the middle of a write.
    let mut log = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    std::io::Write::write_all(&mut log, &[1, 2, 3, 4, 5]).unwrap();
    assert_eq!(logs(&lab, &["web"]), "run 1\n");
    lab.boxwood(["start", "web"]).output().exits(0);
    lab.logged("web", "run 2\n");
    assert_eq!(logs(&lab, &["web"]), "run 1\nrun 2\n");
    lab.remove("web");
}
