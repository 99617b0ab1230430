//! Contracts S1, S2 and H1, at every step of a capture, a restore and a fork: whoever is killed there, no half
//! snapshot is seen, nothing is left after the next command, and what was asked for can be asked for again.

use std::fs;

use boxwood_tests::{Folder, Lab};
use rustix::process::Signal;

use crate::failpoints::{killed_at, was_reached};

const DATA: &str = "cat /dev/shm/data | sha256sum; cat /data | sha256sum";

/// A box that has noise in its memory and on its disk.
const MAIN: &str = "[ -e /data ] || { head -c 3145728 /dev/urandom > /data; sync; }; \
    head -c 1048576 /dev/urandom > /dev/shm/data; echo ready; sleep 100000";

/// What a snapshot's directory may have, besides numbered parts.
const PARTS: [&str; 9] = [
    "snapshot.json",
    "sketch.json",
    "manifest.json",
    "manifest.sha256",
    "state",
    "base",
    "ram",
    "ram.made",
    "verified",
];

/// Starts the source with this wish, and says what digests its data has.
#[track_caller]
fn source(lab: &Lab, wish: &str) -> Vec<String> {
    let run = ["run", "-d", "--name", "web", "busybox", "sh", "-c", MAIN];
    match wish {
        "" => lab.boxwood(run),
        wish => lab.failing(wish, run),
    }
    .output()
    .exits(0);
    lab.logged("web", "ready\n");
    data(lab, "web")
}

#[track_caller]
fn data(lab: &Lab, name: &str) -> Vec<String> {
    let digests = lab.exec([name, "sh", "-c", DATA]).output().exits(0).quietly().lines();
    assert_eq!(digests.len(), 2);
    digests
}

/// The names of the snapshots, after a command that found nothing else, in any of them or beside them.
#[track_caller]
fn snapshots(lab: &Lab, step: &str) -> Vec<String> {
    let listed = lab.boxwood(["snapshot", "ls", "-q"]).output().exits(0).quietly().lines();
    let names = |folder: &std::path::Path| -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    };
    let all = lab.home().join("snapshots");
    for name in names(&all) {
        assert!(listed.contains(&name), "{step}: {name} is left");
        for part in names(&all.join(&name)) {
            let numbered = part.strip_prefix("pages.").or(part.strip_prefix("disk."));
            let known =
                PARTS.contains(&&*part) || numbered.is_some_and(|n| n.parse::<u8>().is_ok());
            assert!(known, "{step}: {name}/{part} is left");
        }
    }
    for id in lab.boxes() {
        let folder = lab.box_folder(&id);
        // Its owner, if that lives, may be writing the record at this moment.
        let half = || names(&folder).iter().any(|name| name.ends_with(".new"));
        Folder::watch(&folder).until(|| (!half()).then_some(()));
    }
    listed
}

/// The snapshot that is there is whole; then it goes.
#[track_caller]
fn is_whole(lab: &Lab, expected: &[String], step: &str) {
    lab.boxwood(["snapshot", "verify", "warm"]).output().exits(0);
    lab.restored("warm", "whole");
    assert_eq!(data(lab, "whole"), expected, "{step}");
    lab.remove("whole");
    lab.forget("warm");
}

#[test]
fn s1_a_client_killed_at_any_step_of_a_capture_leaves_no_half_snapshot() {
    let lab = Lab::new();
    let expected = source(&lab, "");
    for step in [
        "snapshot: directory made",
        "snapshot: shim asked",
        "snapshot: captured",
        "write: beside",
        "snapshot: described",
        "snapshot: manifest written",
        "snapshot: sealed",
        "snapshot: published",
    ] {
        killed_at(&lab, step, &["snapshot", "create", "web", "warm"]);
        let published = step == "snapshot: published";
        let listed: &[&str] = if published { &["warm"] } else { &[] };
        assert_eq!(snapshots(&lab, step), listed, "{step}");
        assert_eq!(data(&lab, "web"), expected, "{step}");
        if !published {
            lab.snapshot("web", "warm");
        }
        if published || step == "snapshot: captured" {
            is_whole(&lab, &expected, step);
        } else {
            lab.forget("warm");
        }
    }
    lab.remove("web");
}

#[test]
fn s1_a_client_killed_at_any_step_of_a_capture_of_a_disk_leaves_a_box_with_its_data() {
    let lab = Lab::new();
    let expected = source(&lab, "");
    let create = ["snapshot", "create", "--disk-only", "web", "warm"];
    for step in [
        "snapshot: directory made",
        "snapshot: overlay made",
        "disk: made a layer",
        "snapshot: disk switched",
        "snapshot: sealed",
    ] {
        lab.boxwood(["stop", "-t", "0", "web"]).output().exits(0);
        killed_at(&lab, step, &create);
        assert_eq!(snapshots(&lab, step), [""; 0], "{step}");
        lab.boxwood(create).output().exits(0);
        for name in ["web", "anew"] {
            match name {
                "web" => lab.boxwood(["start", "web"]),
                _ => lab.boxwood(["restore", "--disk-only", "--name", "anew", "warm"]),
            }
            .output()
            .exits(0);
            assert_eq!(data(&lab, name)[1], expected[1], "{step}: {name}");
        }
        lab.remove("anew");
        lab.forget("warm");
    }
    lab.remove("web");
}

/// The steps of a capture in the shim.
const CAPTURE: [&str; 12] = [
    "capture: asked",
    "capture: guest holds",
    "capture: files made",
    "capture: vm stands still",
    "capture: memory saved",
    "disk: made a layer",
    "capture: files switched",
    "capture: overlay taken",
    "capture: vm goes on",
    "capture: done",
    "capture: disk linked",
    "capture: told",
];

/// Captures a box that loses its shim or its VM meanwhile, at each step.
fn captured_while(what: &str) {
    let lab = Lab::new();
    for step in CAPTURE {
        let expected = source(&lab, &format!("{step}={what}"));
        let live = lab.live("web");
        let created = lab.boxwood(["snapshot", "create", "web", "warm"]).output();
        was_reached(&lab, step);
        live.qemu.is_gone_soon();
        live.shim.is_gone_soon();
        let listed = snapshots(&lab, step);
        match created.code() {
            // All of it was there by then, or nothing is.
            Some(0) => {
                assert_eq!(listed, ["warm"], "{step}");
                is_whole(&lab, &expected, step);
            }
            _ => {
                drop(created.refused(&["box"]));
                assert_eq!(listed, [""; 0], "{step}");
            }
        }
        assert_eq!(lab.state("web"), "exited", "{step}");
        lab.boxwood(["start", "web"]).output().exits(0);
        lab.logged("web", "ready\nready\n");
        let again = data(&lab, "web");
        assert_eq!(again[1], expected[1], "{step}");
        lab.snapshot("web", "warm");
        is_whole(&lab, &again, step);
        lab.remove("web");
        let _ = fs::remove_file(lab.reached());
        lab.is_clean();
    }
}

#[test]
fn s1_a_shim_killed_at_any_step_of_a_capture_leaves_no_half_snapshot_and_the_disk_whole() {
    captured_while("kill");
}

#[test]
fn s1_a_vm_killed_at_any_step_of_a_capture_leaves_no_half_snapshot_and_the_disk_whole() {
    captured_while("kill-child");
}

/// As if the snapshot had just been made: nothing was checked, and nothing made of it.
fn forget_what_can_be_made(lab: &Lab) {
    for name in ["ram", "ram.made", "verified"] {
        let _ = fs::remove_file(lab.home().join("snapshots/warm").join(name));
    }
}

/// A box that somebody who was killed wanted is not there, and can be asked for again, or it is there and
/// goes on when it is started. Then it goes.
#[track_caller]
fn can_be_had(lab: &Lab, (name, again): (&str, &[&str]), expected: &[String], step: &str) {
    match lab.boxwood(["inspect", name]).output().code() {
        Some(0) => match &*lab.state(name) {
            "created" => drop(lab.boxwood(["start", name]).output().exits(0)),
            state => {
                assert_eq!(step, "start: shim spawned", "{state}");
                lab.runs(name);
            }
        },
        _ => drop(lab.boxwood(again).output().exits(0)),
    }
    assert_eq!(data(lab, name), expected, "{step}: {name}");
    lab.remove(name);
}

#[test]
fn s3_a_client_killed_at_any_step_of_a_restore_leaves_no_half_box_and_the_snapshot_whole() {
    let lab = Lab::new();
    let expected = source(&lab, "");
    lab.snapshot("web", "warm");
    let restore = ["restore", "--name", "clone", "warm"];
    for step in [
        "restore: files checked",
        "restore: check written",
        "restore: snapshot checked",
        "create: name taken",
        "create: published",
        "restore: disk begun",
        "restore: layers given",
        "restore: overlay begun",
        "restore: overlay made",
        "disk: layers taken",
        "restore: disk given",
        "start: before the shim",
        "start: shim spawned",
    ] {
        forget_what_can_be_made(&lab);
        killed_at(&lab, step, &restore);
        assert_eq!(snapshots(&lab, step), ["warm"], "{step}");
        can_be_had(&lab, ("clone", &restore), &expected, step);
    }
    assert_eq!(data(&lab, "web"), expected);
    is_whole(&lab, &expected, "the last");
    lab.remove("web");
}

#[test]
fn s3_a_shim_or_vm_killed_at_any_step_of_a_restore_leaves_the_snapshot_whole() {
    let lab = Lab::new();
    let expected = source(&lab, "");
    lab.snapshot("web", "warm");
    for (number, step) in [
        "shim: box opened",
        "shim: starting written",
        "shim: snapshot found",
        "shim: vm restored",
        "shim: guest greeted",
        "shim: main started",
        "shim: running written",
    ]
    .into_iter()
    .enumerate()
    {
        for what in ["kill", "kill-child"] {
            if what == "kill-child" && number < 3 {
                continue;
            }
            let restore = ["restore", "--name", "clone", "warm"];
            let restored = lab.failing(&format!("{step}={what}"), restore).output();
            was_reached(&lab, step);
            assert_eq!(snapshots(&lab, step), ["warm"], "{step}");
            // Main runs by then, and the client is told that before the end of the VM is heard of.
            let told = what == "kill-child" && number > 4;
            assert!(told || restored.code() == Some(125), "{step}={what}: {restored:?}");
            if told {
                lab.boxwood(["wait", "clone"]).output().exits(0);
            }
            let state = lab.state("clone");
            let ended = match step {
                "shim: box opened" => "created",
                "shim: main started" if what == "kill-child" => "exited",
                "shim: running written" => "exited",
                _ => "failed",
            };
            assert_eq!(state, ended, "{step}={what}");
            // Its disk is the snapshot's, whatever becomes of its main.
            lab.boxwood(["start", "clone"]).output().exits(0);
            lab.exec(["clone", "sh", "-c", "until [ -e /dev/shm/data ]; do sleep 0.1; done"])
                .output()
                .exits(0);
            assert_eq!(data(&lab, "clone")[1], expected[1], "{step}={what}");
            lab.remove("clone");
            lab.restored("warm", "again");
            assert_eq!(data(&lab, "again"), expected, "{step}={what}");
            lab.remove("again");
        }
    }
    assert_eq!(data(&lab, "web"), expected);
    lab.remove("web");
    lab.forget("warm");
}

#[test]
fn s1_a_shim_killed_while_it_makes_the_memory_whole_leaves_nothing_of_it_and_the_snapshot_whole() {
    let lab = Lab::new();
    let expected = source(&lab, "");
    lab.snapshot("web", "warm");
    let ram = lab.home().join("snapshots/warm/ram");
    for (step, named) in [("restore: memory made", false), ("restore: memory named", true)] {
        forget_what_can_be_made(&lab);
        let folder = Folder::watch(lab.folder());
        // Its guest may have answered by then, or not.
        let wish = format!("{step}=kill");
        lab.failing(&wish, ["restore", "--name", "clone", "warm"]).output();
        folder.until(|| lab.reached().exists().then_some(()));
        lab.boxwood(["wait", "clone"]).output();
        assert_eq!(snapshots(&lab, step), ["warm"], "{step}");
        assert_eq!(ram.exists(), named, "{step}");
        lab.remove("clone");
        lab.restored("warm", "again");
        assert_eq!(data(&lab, "again"), expected, "{step}");
        lab.remove("again");
    }
    is_whole(&lab, &expected, "the last");
    lab.remove("web");
}

#[test]
fn s3_a_client_killed_at_any_step_of_a_fork_leaves_no_half_box_and_the_source_serves_on() {
    let lab = Lab::new();
    let expected = source(&lab, "");
    let fork = ["fork", "-n", "2", "--name", "try", "web"];
    for step in [
        "snapshot: directory made",
        "snapshot: shim asked",
        "snapshot: captured",
        "fork: captured",
        "restore: memory made",
        "restore: memory named",
        "fork: memory made",
        "create: published",
        "restore: memory lent",
        "restore: layers given",
        "restore: overlay begun",
        "restore: overlay made",
        "disk: layers taken",
        "restore: disk given",
        "start: before the shim",
        "start: shim spawned",
    ] {
        killed_at(&lab, step, &fork);
        assert_eq!(snapshots(&lab, step), [""; 0], "{step}");
        assert_eq!(data(&lab, "web"), expected, "{step}");
        for name in ["try-1", "try-2"] {
            can_be_had(&lab, (name, &["fork", "--name", name, "web"]), &expected, step);
        }
    }
    lab.remove("web");
}

#[test]
fn s2_a_box_that_is_told_to_stop_before_its_guest_stands_still_stops_and_nothing_is_captured() {
    let lab = Lab::new();
    let step = "capture: asked";
    let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let run = ["run", "-d", "--name", "web", "busybox", "sh", "-c", script];
    lab.failing(&format!("{step}=stop"), run).output().exits(0);
    lab.logged("web", "ready\n");
    let live = lab.live("web");
    let folder = Folder::watch(lab.folder());
    let creating = lab.boxwood(["snapshot", "create", "web", "warm"]).spawn();
    folder.until(|| lab.reached().exists().then_some(()));
    // The shim is about to ask its guest, and has this to read next.
    killed_at(&lab, "end: shim asked", &["stop", "-t", "60", "web"]);
    live.shim.signal(Signal::CONT).unwrap();
    lab.boxwood(["wait", "web"]).output().exits(0).prints("3\n");
    creating.wait().refused(&["being stopped"]);
    assert_eq!(snapshots(&lab, step), [""; 0]);
    lab.remove("web");
}
