//! Contracts G4, G6 and G9 for `exec`: how sessions end that do not end by themselves. A pipe in the
//! box tells when the last process of a session is gone.

use std::time::Duration;

use boxwood_tests::{Lab, Running};
use rustix::process::Signal;

/// A box with a pipe, and what a session's processes hold it by.
fn watched_box(lab: &Lab) {
    lab.idle("web");
    lab.exec(["web", "mkfifo", "/held"]).output().exits(0);
}

/// Hears when nobody holds the pipe any more.
fn held(lab: &Lab) -> Running {
    lab.exec(["web", "sh", "-c", "exec 3</held; echo open; cat <&3"]).spawn()
}

const HOLD: &str = "exec 4>/held; ";

#[test]
fn g4_a_timeout_kills_the_whole_tree_and_is_told() {
    let lab = Lab::new();
    watched_box(&lab);
    let heard = held(&lab);
    let script = format!(
        "{HOLD} trap '' TERM HUP; setsid sh -c 'trap \"\" TERM HUP; sleep 600' & echo begun; sleep 500"
    );
    let run = lab.exec(["--timeout", "1.5", "web", "sh", "-c", &script]).output();
    let run = run.exits(124).prints("begun\n").explains(&["'sh'", "killed", "1.5 s"]);
    assert!(run.took > Duration::from_millis(1500), "{run:?}");
    heard.wait().exits(0).prints("open\n");
    // A command that ends in time is not touched, and what it left goes on.
    let run = lab.exec(["--timeout", "100s", "web", "sh", "-c", "echo ok; exit 3"]).output();
    run.exits(3).prints("ok\n").quietly();
    lab.remove("web");
}

#[test]
fn h6_a_command_whose_supervisor_was_killed_has_an_end_that_nobody_knows() {
    let lab = Lab::new();
    lab.idle("web");
    let run = lab.exec(["web", "sh", "-c", "echo begun; sleep 600"]).spawn();
    run.says("begun\n");
    let live = lab.live("web");
    live.shim.signal(Signal::KILL).unwrap();
    run.wait().exits(255).explains(&["not known", "boxwood inspect"]);
    lab.remove("web");
}

#[test]
fn g4_a_timeout_holds_without_a_client() {
    let lab = Lab::new();
    watched_box(&lab);
    let heard = held(&lab);
    let script = format!("{HOLD} trap '' TERM HUP; sleep 600; sleep 600");
    lab.exec(["-d", "--timeout", "500ms", "web", "sh", "-c", &script]).output().exits(0);
    heard.wait().exits(0).prints("open\n");
    lab.remove("web");
}

#[test]
fn g6_a_session_whose_client_is_killed_is_hung_up() {
    let lab = Lab::new();
    watched_box(&lab);
    let heard = held(&lab);
    let run = lab.exec(["web", "sh", "-c", &format!("{HOLD} echo ready; sleep 600 & wait")]);
    let run = run.spawn();
    run.says("ready");
    run.signal(Signal::KILL);
    let gone = heard.wait().exits(0).prints("open\n");
    assert!(gone.took < Duration::from_secs(30), "{gone:?}");
    assert_eq!(lab.state("web"), "running");
    lab.remove("web");
}

#[test]
fn g6_who_ignores_the_hang_up_and_term_is_killed_also_when_the_leader_has_gone() {
    let lab = Lab::new();
    watched_box(&lab);
    let heard = held(&lab);
    let script = format!(
        "{HOLD} setsid sh -c 'trap \"\" HUP TERM; echo ready; while :; do sleep 600; done' & wait"
    );
    let run = lab.exec(["web", "sh", "-c", &script]).spawn();
    run.says("ready");
    run.signal(Signal::KILL);
    // Others do not notice.
    lab.exec(["web", "echo", "quick"]).output().exits(0).prints("quick\n");
    heard.wait().exits(0).prints("open\n");
    lab.remove("web");
}

#[test]
fn g6_a_client_that_dies_while_its_input_is_not_read_is_noticed() {
    let lab = Lab::new();
    watched_box(&lab);
    let heard = held(&lab);
    let run = lab.exec(["-i", "web", "sh", "-c", &format!("{HOLD} echo ready; sleep 600")]);
    let zeros = std::fs::File::open("/dev/zero").unwrap();
    let run = run.stdin_from(zeros).spawn();
    run.says("ready");
    run.signal(Signal::KILL);
    heard.wait().exits(0).prints("open\n");
    lab.remove("web");
}

#[test]
fn g6_signals_reach_a_session_whose_input_is_not_read() {
    let lab = Lab::new();
    lab.idle("web");
    let run = lab.exec(["-i", "web", "sh", "-c", "echo ready; exec sleep 600"]);
    let run = run.stdin_from(std::fs::File::open("/dev/zero").unwrap()).spawn();
    run.says("ready");
    run.signal(Signal::TERM);
    run.wait().exits(143);
    lab.remove("web");
}

#[test]
fn g6_a_reader_that_goes_ends_its_session_and_not_the_box() {
    let lab = Lab::new();
    lab.idle("web");
    let (reader, writer) = std::io::pipe().unwrap();
    let run = lab.exec(["web", "yes"]).stdout_to(writer).spawn();
    drop(reader);
    run.wait().exits(141).quietly();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let run = lab.exec(["web", "yes"]).stdout_to(full).output();
    run.exits(125).explains(&["can't write", "No space left"]);
    lab.exec(["web", "echo", "here"]).output().exits(0).prints("here\n");
    lab.remove("web");
}

#[test]
fn g9_sessions_end_with_main() {
    let lab = Lab::new();
    for (name, flags) in [("kept", &[][..]), ("gone", &["--rm"])] {
        let script = "trap 'exit 5' TERM; echo up; sleep 600 & wait";
        lab.detached(name, flags.iter().chain(&["busybox", "sh", "-c", script]));
        lab.logged(name, "up\n");
        let run = lab.exec([name, "sh", "-c", "trap '' TERM HUP; echo ready; sleep 600"]).spawn();
        run.says("ready");
        lab.boxwood(["stop", name]).output().exits(0);
        run.wait().exits(137);
    }
    assert_eq!(lab.inspect("kept", "{{.State.ExitCode}}"), "5");
    lab.remove("kept");
}

#[test]
fn h1_sessions_end_with_a_vm_that_dies() {
    let lab = Lab::new();
    lab.idle("web");
    let run = lab.exec(["web", "sh", "-c", "echo ready; sleep 600"]).spawn();
    run.says("ready");
    lab.live("web").qemu.kill();
    run.wait().exits(137).explains(&["ended", "the VM died"]);
    lab.remove("web");
}

#[test]
fn g4_no_process_leaves_the_cgroup_of_its_session_that_does_not_go_to_great_lengths() {
    let lab = Lab::new();
    lab.idle("web");
    let script = "setsid sh -c 'echo $$ > /sys/fs/cgroup/cgroup.procs; exec sleep 4243' & wait";
    let run = lab.exec(["--timeout", "1s", "web", "sh", "-c", script]).output();
    assert!(run.exits(124).complaint().contains("Read-only file system"));
    let count = lab.exec(["web", "sh", "-c", "cat /proc/[0-9]*/cmdline | grep -c 4243; true"]);
    // Only this count itself has the number in its arguments.
    count.output().exits(0).prints("1\n");
    // It is there to be read, as with Docker.
    let shown = "cat /sys/fs/cgroup/cgroup.controllers /proc/self/cgroup; \
        grep -o ' /sys/fs/cgroup cgroup2 r[ow]' /proc/mounts; mkdir /sys/fs/cgroup/own 2>&1";
    let run = lab.exec(["web", "sh", "-c", shown]).output().exits(1);
    assert!(run.text().contains(" /sys/fs/cgroup cgroup2 ro\n"), "{run:?}");
    assert!(run.text().contains("Read-only file system"), "{run:?}");
    lab.remove("web");
}

#[test]
fn g4_cgroups_that_root_in_the_box_took_away_or_filled_stop_no_session() {
    let lab = Lab::new();
    lab.idle("web");
    // Those that are made ahead are the box's to see, and root's to remove.
    let script = "mount -o remount,rw /sys/fs/cgroup 2>/dev/null; cd /sys/fs/cgroup && ls -d session-* && \
        rmdir session-*; ls -d session-* | wc -l";
    let run = lab.exec(["web", "sh", "-c", script]).output();
    let left: u32 = run.lines().last().unwrap().parse().unwrap();
    // Its own is in use.
    assert_eq!(left, 1, "{run:?}");
    std::thread::scope(|scope| {
        for number in 0..12 {
            let lab = &lab;
            scope.spawn(move || {
                let script = format!("sleep 0.1; exit {number}");
                lab.exec(["web", "sh", "-c", &script]).output().exits(number).quietly();
            });
        }
    });
    // A kill still reaches what a session started.
    let run = lab.exec(["--timeout", "200ms", "web", "sh", "-c", "setsid sleep 4242 & wait"]);
    run.output().exits(124);
    let count = lab.exec(["web", "sh", "-c", "cat /proc/[0-9]*/cmdline | grep -c 4242; true"]);
    // Only this count itself has the number in its arguments.
    count.output().exits(0).prints("1\n");
    lab.remove("web");
}

/// Where the end of a command is when nobody reads what it wrote: it has gone to its client, or waits behind that in
/// the stream's window, or in the guest.
#[test]
fn h12_an_end_that_a_killed_client_had_not_read_yet_is_told_once() {
    let lab = Lab::new();
    watched_box(&lab);
    let format = "die {{.Actor.Attributes.exitCode}}.";
    let follow = ["events", "--since", "1h", "-f", "event=exec_die", "--format", format];
    let followed = lab.boxwood(follow).spawn();
    let codes = 1..=6;
    for code in codes.clone() {
        let heard = held(&lab);
        let (_reader, writer) = std::io::pipe().unwrap();
        let script = format!("{HOLD} head -c {code}00000 /dev/zero; exit {code}");
        let client = lab.exec(["web", "sh", "-c", &script]).stdout_to(writer).spawn();
        heard.wait().exits(0).prints("open\n");
        // The guest has done what it could about the end before it serves another.
        lab.exec(["web", "true"]).output().exits(0);
        client.signal(Signal::KILL);
        drop(client.wait());
        followed.says(&format!("die {code}.\n"));
    }
    lab.remove("web");
    followed.signal(Signal::INT);
    let told = followed.wait().lines();
    for code in codes {
        let line = format!("die {code}.");
        assert_eq!(told.iter().filter(|told| **told == line).count(), 1, "{line} in {told:?}");
    }
}
