//! What boxes take of the host, and what becomes of them when there is no more of it: reasons that are known.

use boxwood_tests::{Cgroup, Lab};
use serde_json::Value;

const END: &str = "{{.State.ExitReason}} {{.State.OOMKilled}} {{.State.ExitCode}}";

fn actions(lab: &Lab, name: &str) -> String {
    let events = ["events", "--since", "1h", "--until", "0s", "--format", "{{.Action}}", "-f"];
    let filter = format!("container={name}");
    let mut heard = lab.boxwood(events).args([filter]).output().exits(0).lines();
    // It may come between any two, or not at all.
    heard.retain(|action| !action.starts_with("health_status"));
    heard.join(" ")
}

#[test]
fn h5_a_main_that_takes_all_memory_of_its_box_ran_out_of_it() {
    let lab = Lab::new();
    // So that there is a template of this shape, and nothing to say about it later.
    drop(lab.run(["-m", "64m", "busybox", "true"]).output().exits(0));
    for flags in [&[][..], &["--rm"]] {
        let run = lab.boxwood(["run", "--name", "hog", "-m", "64m"]).args(flags);
        let run = run.args(["busybox", "tail", "/dev/zero"]).output();
        run.exits(137).explains(&["the box ran out of memory"]);
        if flags.is_empty() {
            assert_eq!(lab.inspect("hog", END), "out-of-memory true 137");
            assert_eq!(actions(&lab, "hog"), "create attach start oom die");
            lab.remove("hog");
        }
    }
    // What the kernel would keep free for huge pages is more than such a box has.
    let reserve = ["-m", "64m", "busybox", "cat", "/proc/sys/vm/watermark_boost_factor"];
    lab.run(reserve).output().exits(0).prints("0\n");
    // A main that somebody kills did not run out of memory.
    lab.idle("web");
    lab.boxwood(["kill", "web"]).output().exits(0);
    assert_eq!(lab.inspect("web", END), "exited false 137");
    lab.remove("web");
}

#[test]
fn h5_a_vm_that_the_host_kills_for_memory_is_told_from_one_that_died() {
    // Before the lab, so that it goes after it: nothing is in it any more then.
    let Some(group) = Cgroup::make("memory") else {
        eprintln!("skipped: no memory cgroup can be made here");
        return;
    };
    group.set("memory.limit_in_bytes", "100000000");
    let lab = Lab::new();
    let script = r#"echo 0 > "$1/cgroup.procs"; shift; exec "$@""#;
    let run =
        lab.program("sh").args(["-c", script, "sh"]).args([group.path()]).args([lab.binary()]);
    let run = run.args(["run", "--name", "hog", "busybox", "tail", "/dev/zero"]).output();
    run.exits(137).explains(&["the host ran out of memory"]);
    assert_eq!(lab.inspect("hog", END), "host-out-of-memory true 137");
    assert_eq!(actions(&lab, "hog"), "create attach start oom die");
    lab.remove("hog");
    // Killed by somebody it just died.
    lab.idle("web");
    lab.live("web").qemu.kill();
    lab.boxwood(["wait", "web"]).output().exits(0).prints("255\n");
    assert_eq!(lab.inspect("web", END), "vm-died false 255");
    lab.remove("web");
}

#[test]
fn stats_show_what_a_box_takes() {
    let lab = Lab::new();
    lab.detached("busy", ["busybox", "sh", "-c", "while :; do :; done"]);
    lab.idle("still");
    let stats = lab.boxwood(["stats", "--no-stream", "--format", "json"]).output().exits(0);
    let rows: Vec<Value> =
        stats.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |name: &str| rows.iter().find(|row| row["Name"] == name).unwrap();
    let percent = |row: &Value| -> f64 {
        row["CPUPerc"].as_str().unwrap().trim_end_matches('%').parse().unwrap()
    };
    assert!(percent(of("busy")) > 10.0 && percent(of("still")) < 10.0, "{rows:?}");
    assert!(of("still")["MemUsage"].as_str().unwrap().ends_with(" / 512MiB"), "{rows:?}");
    assert_eq!(of("still")["PIDs"], "1");
    lab.boxwood(["stop", "-t", "0", "busy"]).output().exits(0);
    let table = lab.boxwood(["stats", "--no-stream"]).output().exits(0).text();
    assert!(
        table.starts_with("BOX ID ") && table.contains("still") && !table.contains("busy"),
        "{table}"
    );
    let all = lab.boxwood(["stats", "-a", "--no-stream", "--no-trunc"]).output().exits(0).text();
    assert!(all.contains(&lab.inspect("busy", "{{.Id}}")), "{all}");
    lab.boxwood(["stats", "--no-stream", "nobody"]).output().refused(&["no such box"]);
    lab.remove("busy");
    lab.remove("still");
}
