//! Contracts G1 to G7 for `exec`: a process beside main is as exact as main, at any time and in any
//! number.

use std::io::{Read, pipe};

use boxwood_tests::Lab;

const MIB: usize = 1 << 20;

#[test]
fn g2_a_session_returns_its_own_code_or_signal() {
    let lab = Lab::new();
    lab.idle("web");
    for code in [0, 1, 7, 124, 125, 137, 255] {
        let run = lab.exec(["web", "sh", "-c", &format!("exit {code}")]).output();
        run.exits(code).prints("").quietly();
    }
    for (signal, code) in [("TERM", 143), ("KILL", 137), ("SEGV", 139)] {
        let run = lab.exec(["web", "sh", "-c", &format!("kill -{signal} $$")]).output();
        run.exits(code).quietly();
    }
    assert_eq!(lab.state("web"), "running");
    lab.remove("web");
}

#[test]
fn g7_what_follows_the_box_is_the_commands() {
    let lab = Lab::new();
    lab.idle("web");
    for (words, text) in [
        (&["printf", "%s,", "-e", "X=1"][..], "-e,X=1,"),
        (&["printf", "%s,", "--help"], "--help,"),
        (&["--", "printf", "%s,", "--", "-d"], "--,-d,"),
    ] {
        lab.exec(["web"]).args(words).output().exits(0).prints(text).quietly();
    }
    lab.exec(["web", "--help"]).output().exits(127);
    lab.remove("web");
}

#[test]
fn g2_of_10_sessions_at_once_right_after_a_start_and_64_later_each_has_its_own_result() {
    let lab = Lab::new();
    lab.idle("web");
    for count in [10, 64] {
        std::thread::scope(|scope| {
            for number in 0..count {
                let lab = &lab;
                scope.spawn(move || {
                    let script = format!("echo {number}; exit {}", number + 100);
                    let run = lab.exec(["web", "sh", "-c", &script]).output();
                    run.exits(number + 100).prints(format!("{number}\n")).quietly();
                });
            }
        });
    }
    lab.remove("web");
}

#[test]
fn g1_a_session_asked_for_while_the_box_starts_waits_for_main() {
    let lab = Lab::new();
    // So much that main's request takes several windows, and the session is there first.
    let file = lab.folder().join("env");
    let settings: String = (0..40).map(|n| format!("V{n}={}\n", "x".repeat(30_000))).collect();
    std::fs::write(&file, settings).unwrap();
    let mut start = None;
    let id = lab.appearing(|| {
        let run = lab.boxwood(["run", "-d", "--name", "web", "--env-file"]);
        start = Some(run.args([&file]).args(["busybox", "sleep", "100000"]).spawn());
    });
    // Main runs by the time this does.
    let script = "grep -c sleep /proc/[0-9]*/comm | grep -c :1; echo ${#V39}";
    let session = lab.exec([&id, "sh", "-c", script]);
    session.output().exits(0).prints("1\n30000\n").quietly();
    start.unwrap().wait().exits(0);
    lab.remove("web");
}

#[test]
fn g7_a_session_has_the_boxs_environment_user_and_directory_and_the_users_own() {
    let lab = Lab::new();
    let box_flags = ["-e", "A=1", "-e", "B=1", "-w", "/srv", "-u", "1000:1001"];
    lab.detached("web", box_flags.iter().chain(&["-h", "host", "busybox", "sleep", "100000"]));
    let script = "echo $A $B $C $HOSTNAME; pwd; id -u; id -g";
    let plain = lab.exec(["web", "sh", "-c", script]).output();
    plain.exits(0).prints("1 1 host\n/srv\n1000\n1001\n").quietly();
    let file = lab.folder().join("env");
    std::fs::write(&file, "# comment\nB=file\nC=file\n").unwrap();
    let own = lab.exec(["--env-file".as_ref(), file.as_os_str()]);
    let own = own.args(["-e", "C=flag", "-e", "A", "-w", "/tmp", "-u", "0", "web", "sh", "-c"]);
    own.args([script]).output().exits(0).prints("file flag host\n/tmp\n0\n0\n").quietly();
    lab.remove("web");
}

#[test]
fn g1_a_session_has_0_1_and_2_and_nothing_else() {
    let lab = Lab::new();
    lab.idle("web");
    // What lists them has its list open as one more.
    let run = lab.exec(["web", "ls", "/proc/self/fd"]).output();
    run.exits(0).prints("0\n1\n2\n3\n").quietly();
    lab.exec(["web", "readlink", "/proc/self/fd/0"]).output().prints("/dev/null\n");
    lab.remove("web");
}

#[test]
fn g3_all_that_a_session_wrote_before_its_end_arrives() {
    let lab = Lab::new();
    lab.idle("web");
    for bytes in [1, 4096, 65_536, 65_537, 300_000] {
        let script = format!("head -c {bytes} /dev/zero; head -c {bytes} /dev/zero >&2");
        let run = lab.exec(["web", "sh", "-c", &script]).output().exits(0);
        assert_eq!((run.stdout.len(), run.stderr.len()), (bytes, bytes));
    }
    lab.remove("web");
}

#[test]
fn g5_the_end_of_input_closes_input_alone() {
    let lab = Lab::new();
    lab.idle("web");
    let run = lab.exec(["-i", "web", "sh", "-c", "cat; echo after >&2; echo later"]);
    run.stdin("before\n").output().exits(0).prints("before\nlater\n").complains("after\n");
    // And input that nobody reads keeps nothing.
    let run = lab.exec(["-i", "web", "echo", "done"]).stdin(vec![0; 2 * MIB]);
    run.output().exits(0).prints("done\n");
    lab.remove("web");
}

#[test]
fn g5_a_slow_reader_slows_its_own_session_and_no_other() {
    let lab = Lab::new();
    lab.idle("web");
    let (mut reader, writer) = pipe().unwrap();
    let slow = lab.exec(["web", "sh", "-c", "head -c 33554432 /dev/zero; echo end >&2"]);
    let slow = slow.stdout_to(writer).spawn();
    let mut bytes = vec![0; 64 << 10];
    let mut taken = reader.read(&mut bytes).unwrap();
    for _ in 0..3 {
        lab.exec(["web", "echo", "quick"]).output().exits(0).prints("quick\n");
    }
    let logs = lab.boxwood(["logs", "web"]).output();
    logs.exits(0).prints("");
    loop {
        match reader.read(&mut bytes).unwrap() {
            0 => break,
            count => taken += count,
        }
    }
    assert_eq!(taken, 32 * MIB);
    slow.wait().exits(0).complains("end\n");
    lab.remove("web");
}

#[test]
fn g4_a_signal_to_the_client_reaches_every_process_of_the_session() {
    let lab = Lab::new();
    lab.idle("web");
    let script = "setsid sh -c 'trap \"echo child; exit\" USR1; echo ready; while :; do sleep 0.1; done' & \
        trap 'echo leader; wait; exit 9' USR1; echo ready; while :; do sleep 0.1; done";
    let run = lab.exec(["web", "sh", "-c", script]).spawn();
    run.says("ready\nready\n");
    run.signal(rustix::process::Signal::USR1);
    let heard = run.wait().exits(9).text();
    assert!(heard.contains("leader\n") && heard.contains("child\n"), "{heard}");
    lab.remove("web");
}

#[test]
fn g2_a_detached_session_returns_when_it_has_started_and_goes_on() {
    let lab = Lab::new();
    lab.idle("web");
    lab.exec(["web", "mkfifo", "/start", "/end"]).output().exits(0);
    let script = "cat /start; echo over > /end";
    lab.exec(["-d", "web", "sh", "-c", script]).output().exits(0).prints("").quietly();
    lab.exec(["web", "sh", "-c", "echo go > /start; cat /end"]).output().exits(0).prints("over\n");
    lab.exec(["-d", "web", "no-such"]).output().exits(127).explains(&["no-such"]);
    lab.remove("web");
}
