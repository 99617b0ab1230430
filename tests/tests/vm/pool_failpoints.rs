//! Contracts H1, H3 and S4, at every step of a pool and of a claim: whoever is killed there, nothing is left after
//! the next command, no VM is given twice, and a box can be had.

use std::fs;
use std::time::Instant;

use boxwood_tests::{Folder, Lab, Process, Running, Watched};
use rustix::process::Signal;

use crate::failpoints::{killed_at, was_reached};
use crate::pools::{full, processes, set};

/// After whatever happened: boxes can be had, each with a VM of its own, and then nothing is left of any of them
/// or of the pool.
#[track_caller]
fn goes_on(lab: &Lab, count: usize, step: &str) {
    lab.boxwood(["ps", "-a"]).output().exits(0);
    let left: Vec<String> = lab.boxes();
    if !left.is_empty() {
        lab.boxwood(["rm", "-f"]).args(left).output().exits(0);
    }
    let run = |n: i32| {
        let script = format!("cat /proc/sys/kernel/random/boot_id; exit {n}");
        lab.run(["busybox", "sh", "-c", &script]).spawn()
    };
    let running: Vec<(i32, Running)> = (1..=3).map(|n| (n, run(n))).collect();
    let mut seen: Vec<String> =
        running.into_iter().map(|(n, run)| run.wait().exits(n).word()).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3, "{step}: a VM was given twice");
    full(lab, count);
    set(lab, &["0"]);
    assert!(!lab.home().join("pool").exists(), "{step}");
    let _ = fs::remove_file(lab.reached());
    lab.is_clean();
}

#[test]
fn h1_a_client_killed_at_any_step_of_a_pool_leaves_one_that_can_be_filled() {
    let lab = Lab::new();
    for step in [
        "write: beside",
        "pool: wish written",
        "pool: directory made",
        "pool: member made",
        "pool: member has a disk",
        "pool: member started",
    ] {
        killed_at(&lab, step, &["pool", "set", "2"]);
        lab.boxwood(["ps", "-a"]).output().exits(0);
        // What is there is a member with its shim, which may be about to be ready.
        for entry in fs::read_dir(lab.home().join("pool")).into_iter().flatten().flatten() {
            let whole = entry.path().join("member.json").exists();
            assert!(whole, "{step}: {:?} is left", entry.file_name());
        }
        set(&lab, &["2"]);
        goes_on(&lab, 2, step);
    }
}

#[test]
fn h1_a_replacement_that_is_killed_is_made_by_the_next_claim() {
    let lab = Lab::new();
    for step in ["pool: directory made", "pool: member made", "pool: member has a disk"] {
        set(&lab, &["2"]);
        full(&lab, 2);
        // It is not the client that comes there.
        let run = ["run", "--rm", "busybox", "sh", "-c", "exit 7"];
        lab.failing(&format!("{step}=kill"), run).output().exits(7);
        Folder::watch(lab.folder()).until(|| lab.reached().exists().then_some(()));
        goes_on(&lab, 2, step);
    }
}

#[test]
fn h1_a_client_killed_at_any_step_of_a_claim_leaves_the_vm_to_its_box_or_to_another() {
    let lab = Lab::new();
    for step in [
        "pool: vm found",
        "create: directory made",
        "create: published",
        "start: before the shim",
        "pool: claim answered",
        "pool: vm claimed",
        "start: shim spawned",
    ] {
        for flags in [&["--rm"][..], &["-d"]] {
            set(&lab, &["2"]);
            full(&lab, 2);
            let run = ["run", "--name", "web"];
            killed_at(&lab, step, &[&run, flags, &["busybox", "sleep", "100000"]].concat());
            lab.boxwood(["ps", "-a"]).output().exits(0);
            // A box that is there can be started, if it does not run, or goes with its client.
            if flags == ["-d"] && lab.boxwood(["inspect", "web"]).output().code() == Some(0) {
                let started = lab.boxwood(["start", "web"]).output();
                let running = started.code() == Some(0)
                    || String::from_utf8_lossy(&started.stderr).contains("running already");
                if running {
                    lab.exec(["web", "true"]).output().exits(0);
                } else {
                    // Nobody had given it a disk yet.
                    started.refused(&["no such box"]);
                }
            }
            goes_on(&lab, 2, step);
        }
    }
}

#[test]
fn h1_a_shim_or_vm_killed_while_it_warms_up_is_told_and_leaves_nothing() {
    let lab = Lab::new();
    for (step, what) in [
        ("warm: begun", "kill"),
        ("warm: vm restored", "kill"),
        ("warm: vm restored", "kill-child"),
        ("warm: exercised", "kill"),
        ("warm: exercised", "kill-child"),
        ("warm: ready", "kill"),
        ("warm: ready", "kill-child"),
    ] {
        let wished = lab.failing(&format!("{step}={what}"), ["pool", "set", "2"]).output();
        was_reached(&lab, step);
        // Those that are ready before they die may be heard.
        if wished.code() != Some(0) {
            drop(wished.refused(&["pool"]));
        }
        // All of them come to that step.
        for shim in processes(&lab, false) {
            if let Ok(shim) = Watched::open(shim.as_raw_nonzero().get().cast_unsigned(), "shim") {
                shim.is_gone_soon();
            }
        }
        goes_on(&lab, 2, step);
    }
}

#[test]
fn h1_a_shim_or_vm_killed_at_any_step_of_a_claim_costs_its_box_at_most() {
    let lab = Lab::new();
    for (step, what, claimed) in [
        ("warm: claim heard", "kill", false),
        ("warm: claim heard", "kill-child", false),
        ("warm: claim answered", "kill", false),
        ("warm: claimed", "kill", true),
        ("warm: disk taken along", "kill", true),
        ("warm: member gone", "kill", true),
        ("shim: box opened", "kill", true),
        ("shim: vm restored", "kill", true),
        ("shim: vm restored", "kill-child", true),
        ("shim: guest greeted", "kill", true),
    ] {
        lab.failing(&format!("{step}={what}"), ["pool", "set", "1"]).output().exits(0);
        full(&lab, 1);
        let run = ["run", "-d", "--name", "web", "busybox", "sleep", "100000"];
        let ran = lab.boxwood(run).output();
        was_reached(&lab, step);
        match ran.code() {
            // It was started without.
            Some(0) => assert!(!claimed, "{step}={what}"),
            // The answer may have come before the end.
            _ => drop(ran.refused(&["box"])),
        }
        lab.boxwood(["ps", "-a"]).output().exits(0);
        // Whatever is there can be started; else it can be asked for again.
        let start = match lab.boxwood(["inspect", "web"]).output().code() {
            Some(0) => lab.boxwood(["start", "web"]),
            _ => lab.boxwood(run),
        };
        start.output().exits(0);
        lab.exec(["web", "true"]).output().exits(0);
        lab.remove("web");
        goes_on(&lab, 1, step);
    }
}

#[test]
fn s4_a_vm_that_one_client_has_found_is_not_given_to_another() {
    let lab = Lab::new();
    set(&lab, &["1"]);
    let waiting = full(&lab, 1);
    let step = "pool: vm found";
    let run = ["run", "--rm", "busybox", "sh", "-c", "exit 7"];
    let slow = lab.failing(&format!("{step}=stop"), run).spawn();
    Folder::watch(lab.folder()).until(|| lab.reached().exists().then_some(()));
    let stands = || Process::get(slow.pid()).is_some_and(|process| process.state == 'T');
    // No event tells of that to who is not its parent's `waitpid`.
    let end = Instant::now() + boxwood_tests::DEADLINE;
    while !stands() {
        assert!(Instant::now() < end, "it did not stop");
        std::thread::yield_now();
    }
    // For others there is none, so they start without.
    for code in [3, 4] {
        lab.run(["busybox", "sh", "-c", &format!("exit {code}")]).output().exits(code).quietly();
        assert_eq!(full(&lab, 1), waiting);
    }
    slow.signal(Signal::CONT);
    slow.wait().exits(7).quietly();
    assert_ne!(full(&lab, 1), waiting, "the first one has it");
    goes_on(&lab, 1, step);
}

#[test]
fn h3_a_shim_that_comes_to_a_claim_too_late_leaves_the_box_to_the_one_that_has_it() {
    let lab = Lab::new();
    let step = "warm: claim heard";
    lab.failing(&format!("{step}=stop"), ["pool", "set", "1"]).output().exits(0);
    full(&lab, 1);
    // Its client waits, and then starts it without.
    let script = "echo own > /own; sync; echo ready; sleep 100000";
    lab.detached("web", ["busybox", "sh", "-c", script]);
    was_reached(&lab, step);
    let pid: u32 = fs::read_to_string(lab.reached()).unwrap().parse().unwrap();
    let late = Watched::open(pid, "the shim that waited").unwrap();
    lab.logged("web", "ready\n");
    late.signal(Signal::CONT).unwrap();
    late.is_gone_soon();
    lab.exec(["web", "cat", "/own"]).output().exits(0).prints("own\n");
    lab.boxwood(["restart", "-t", "0", "web"]).output().exits(0);
    // Its main writes the file anew.
    lab.logged("web", "ready\nready\n");
    lab.exec(["web", "cat", "/own"]).output().exits(0).prints("own\n");
    lab.remove("web");
    goes_on(&lab, 1, step);
}
