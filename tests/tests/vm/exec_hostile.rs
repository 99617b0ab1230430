//! A box whose root does what it can to keep commands from being run in it.

use std::time::{Duration, Instant};

use boxwood_tests::Lab;
use rustix::process::Signal;

/// Longer than a command takes that is kept from running, and much shorter than for ever.
const BOUNDED: Duration = Duration::from_secs(40);

#[test]
fn g1_a_frozen_cgroup_keeps_no_command_and_no_guest_waiting() {
    let lab = Lab::new();
    lab.idle("web");
    let freeze = "mount -o remount,rw /sys/fs/cgroup; for d in /sys/fs/cgroup/session-*; do \
        [ $d = /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup) ] || echo 1 > $d/cgroup.freeze; done; \
        grep -l 1 /sys/fs/cgroup/session-*/cgroup.freeze | wc -l";
    let frozen = lab.exec(["web", "sh", "-c", freeze]).output().exits(0).text();
    assert_ne!(frozen.trim(), "0", "there was nothing to freeze");
    for _ in 0..10 {
        let said = lab.exec(["web", "echo", "hi"]).within(BOUNDED).output();
        said.exits(0).prints("hi\n");
    }
    lab.remove("web");
}

#[test]
fn g1_a_box_that_stops_all_its_processes_stops_its_guest_for_no_longer_than_it_takes_to_see_it() {
    let lab = Lab::new();
    lab.idle("web");
    let storm = "while :; do kill -STOP -1; done";
    lab.exec(["-d", "web", "sh", "-c", storm]).output().exits(0);
    // Each folder of the path is a chance to be stopped.
    let path = "PATH=/a:/b:/c:/d:/e:/f:/g:/h:/i:/j:/k:/l:/m:/n:/bin";
    for _ in 0..10 {
        // Stopped before it executes it is refused; after that it is a stopped process of the box.
        lab.exec(["-d", "-e", path, "web", "true"]).within(BOUNDED).output();
    }
    let began = Instant::now();
    lab.boxwood(["top", "web"]).within(BOUNDED).output().exits(0);
    assert!(began.elapsed() < BOUNDED);
    lab.remove("web");
}

#[test]
fn g7_a_command_that_is_killed_before_it_runs_was_not_started() {
    let lab = Lab::new();
    lab.idle("web");
    let storm = "trap '' TERM; while :; do for p in /proc/[0-9]*; do p=${p#/proc/}; \
        [ $p -le $$ ] || kill -9 $p; done; done 2>/dev/null";
    lab.exec(["-d", "web", "sh", "-c", storm]).output().exits(0);
    for _ in 0..20 {
        let run = lab.exec(["web", "true"]).within(BOUNDED).output();
        // It ran, was killed while it ran, or was never executed: and says which.
        assert!([Some(0), Some(137), Some(125)].contains(&run.code()), "{run:?}");
    }
    lab.remove("web");
}

#[test]
fn g4_a_bomb_of_processes_is_ended_when_its_time_is_up() {
    let lab = Lab::new();
    lab.idle("web");
    let bomb = "b(){ b|b & }; b; sleep 100";
    let began = Instant::now();
    let run = lab.exec(["--timeout", "2s", "web", "sh", "-c", bomb]).within(BOUNDED).output();
    // Later than that its shim would say that nobody knows what became of it.
    run.exits(124);
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    lab.exec(["web", "echo", "well"]).within(BOUNDED).output().exits(0).prints("well\n");
    lab.remove("web");
}

#[test]
fn g6_a_client_whose_session_does_not_start_ends_when_it_is_told_to() {
    let lab = Lab::new();
    lab.idle("web");
    let live = lab.live("web");
    // Nobody answers in there.
    live.qemu.signal(Signal::STOP).unwrap();
    let run = lab.exec(["web", "true"]).spawn();
    while !hears_term(run.pid()) {}
    run.signal(Signal::TERM);
    assert_eq!(run.wait().code(), Some(143));
    live.qemu.signal(Signal::CONT).unwrap();
    lab.exec(["web", "true"]).output().exits(0);
    lab.remove("web");
}

/// Whether a process does something of its own when it is told to end (proc(5), `SigCgt`).
fn hears_term(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & 1 << 14 != 0
}
