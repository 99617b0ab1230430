//! Contract H1, H3, H5 and H6, at every step of a box's life: whoever is killed there, after the next command
//! nothing is left of what died, no record lies, and what was asked for can be asked for again.

use std::fs;

use boxwood_tests::{Daemon, Lab, Process};
use rustix::process::Signal;
use serde_json::json;

const SLEEP: [&str; 3] = ["busybox", "sleep", "100000"];

/// The step was reached, and what was wished happened: nothing is proven by a step that is never taken.
#[track_caller]
pub(crate) fn was_reached(lab: &Lab, step: &str) {
    assert!(lab.reached().exists(), "'{step}' is not reached");
}

/// What is listed is true, and can be removed; then nothing is left.
#[track_caller]
pub(crate) fn nobody_lies(lab: &Lab, step: &str) {
    let format = "{{.Names}} {{.State}}";
    for row in lab.boxwood(["ps", "-a", "--format", format]).output().exits(0).quietly().lines() {
        let (name, listed) = row.split_once(' ').unwrap();
        let is = lab.boxwood(["inspect", "--format", "{{.State.Status}} {{.State.ShimPid}}", name]);
        // It may have been about to go.
        let is = is.output();
        if is.code() != Some(0) {
            is.explains(&["no such box"]);
            continue;
        }
        let (word, (state, shim)) = (is.word(), is.word().split_once(' ').map(own).unwrap());
        let live = ["starting", "running", "paused", "stopping", "restarting"].contains(&&*state);
        let alive = shim.parse().ok().and_then(Process::get).is_some_and(|one| one.state != 'Z');
        assert!(
            !live || alive || listed != state,
            "{step}: {name} is listed as {listed}, is {word}"
        );
    }
    let left = lab.boxes();
    if !left.is_empty() {
        lab.boxwood(["rm", "-f"]).args(left).output().exits(0);
    }
    assert_eq!(lab.boxes(), [""; 0], "{step}");
    let _ = fs::remove_file(lab.reached());
    lab.is_clean();
}

fn own((state, shim): (&str, &str)) -> (String, String) {
    (state.to_owned(), shim.to_owned())
}

/// Runs a command that is killed at this step.
#[track_caller]
pub(crate) fn killed_at(lab: &Lab, step: &str, args: &[&str]) {
    let killed = lab.failing(&format!("{step}=kill"), args).output();
    was_reached(lab, step);
    assert_eq!(killed.signal(), Some(Signal::KILL.as_raw()), "{step}: {killed:?}");
}

#[test]
fn h1_a_client_killed_at_any_step_of_a_creation_leaves_nothing_half_made() {
    let lab = Lab::new();
    for step in [
        "write: beside",
        "create: directory made",
        "create: name taken",
        "create: published",
        "create: disk made",
        "create: announced",
    ] {
        killed_at(&lab, step, &["create", "--name", "web", "busybox", "true"]);
        // The name is free, or the box that has it is there and whole.
        let again = lab.boxwood(["create", "--name", "web", "busybox", "true"]).output();
        if again.code() != Some(0) {
            again.refused(&["the name 'web' is in use"]);
            lab.boxwood(["inspect", "web"]).output().exits(0);
        }
        nobody_lies(&lab, step);
    }
}

#[test]
fn h1_a_client_killed_at_any_step_of_a_start_leaves_a_box_that_tells_the_truth() {
    let lab = Lab::new();
    for step in
        ["create: published", "create: disk made", "start: before the shim", "start: shim spawned"]
    {
        for flags in [&["--rm"][..], &[], &["-d"], &["-d", "--rm"]] {
            let args = [&["run", "--name", "web"], flags, &SLEEP].concat();
            killed_at(&lab, step, &args);
            nobody_lies(&lab, step);
        }
    }
    for step in [
        "start again: box held",
        "start again: spec written",
        "start: before the shim",
        "start: shim spawned",
    ] {
        lab.boxwood(["create", "--name", "web"]).args(SLEEP).output().exits(0);
        killed_at(&lab, step, &["start", "web"]);
        // It can be asked for again, if it was not done.
        let again = lab.boxwood(["start", "web"]).output();
        if again.code() != Some(0) {
            again.refused(&["running already"]);
        }
        nobody_lies(&lab, step);
    }
}

#[test]
fn h1_a_client_killed_at_any_step_of_an_end_leaves_it_to_the_next() {
    let lab = Lab::new();
    for (step, verbs) in [
        (
            "end: shim asked",
            &[
                &["stop", "-t", "1", "web"][..],
                &["rm", "-f", "web"],
                &["restart", "-t", "1", "web"],
            ][..],
        ),
        ("start again: spec written", &[&["restart", "-t", "1", "web"]]),
        ("remove: box held", &[&["rm", "-f", "web"]]),
        ("remove: renamed", &[&["rm", "-f", "web"]]),
        ("remove: counters added", &[&["rm", "-f", "web"]]),
        ("remove: counters kept", &[&["rm", "-f", "web"]]),
        ("remove: name freed", &[&["rm", "-f", "web"]]),
        ("remove: gone", &[&["rm", "-f", "web"]]),
    ] {
        for verb in verbs {
            lab.idle("web");
            let live = lab.live("web");
            killed_at(&lab, step, verb);
            // What was asked for is done; a box that was to be removed and is there can be.
            live.qemu.is_gone_soon();
            live.shim.is_gone_soon();
            nobody_lies(&lab, step);
        }
    }
    let registered = "boxwood_boxes_registered_total 10";
    let metrics = lab.boxwood(["metrics"]).output().exits(0).text();
    assert!(metrics.contains(registered), "each is counted once: {metrics}");
}

const STARTING: [&str; 6] = [
    "shim: box opened",
    "shim: starting written",
    "shim: vm restored",
    "shim: guest greeted",
    "shim: main started",
    "shim: running written",
];

#[test]
fn h1_a_shim_killed_at_any_step_of_a_start_takes_its_vm_along_and_nobody_lies() {
    let lab = Lab::new();
    for step in STARTING {
        for flags in [&["-d"][..], &["--rm"], &[]] {
            let run = lab.failing(&format!("{step}=kill"), ["run", "--name", "web"]);
            let run = run.args(flags).args(SLEEP).output();
            was_reached(&lab, step);
            assert!(run.code().is_some_and(|code| code != 0), "{step}: {run:?}");
            if flags != ["--rm"] {
                let state = lab.state("web");
                let ran = step == "shim: running written";
                // The one that opened the box had not said yet that it was there.
                let expected = match step {
                    "shim: box opened" => "created",
                    _ if ran => "exited",
                    _ => "failed",
                };
                assert_eq!(state, expected, "{step}");
                if state != "created" {
                    assert_eq!(lab.inspect("web", "{{.State.ResultKnown}}"), "false", "{step}");
                }
            }
            nobody_lies(&lab, step);
        }
    }
}

#[test]
fn h1_a_vm_killed_at_any_step_of_a_start_ends_its_box_with_a_reason() {
    let lab = Lab::new();
    for step in &STARTING[2..] {
        let run = lab.failing(&format!("{step}=kill-child"), ["run", "--name", "web"]);
        let run = run.args(SLEEP).output();
        was_reached(&lab, step);
        assert!(matches!(run.code(), Some(125 | 255)), "{step}: {run:?}");
        let end = lab.inspect("web", "{{.State.Status}} {{.State.ExitReason}}");
        let ran = ["shim: main started", "shim: running written"].contains(step);
        assert!(
            end == if ran { "exited vm-died" } else { "failed failed-to-start" },
            "{step}: {end}"
        );
        nobody_lies(&lab, step);
    }
}

#[test]
fn h1_a_shim_killed_at_any_step_of_an_end_leaves_a_result_that_is_true() {
    let lab = Lab::new();
    for (step, known) in [
        ("shim: stop asked", false),
        ("shim: result written", true),
        ("shim: vm ended", true),
        ("shim: end written", true),
        ("shim: lock let go", true),
    ] {
        let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done";
        let run = ["run", "-d", "--name", "web", "busybox", "sh", "-c", script];
        lab.failing(&format!("{step}=kill"), run).output().exits(0);
        lab.logged("web", "ready\n");
        let live = lab.live("web");
        let waiting = lab.boxwood(["wait", "web"]).spawn();
        // Somebody who wants to know the result at once.
        drop(lab.boxwood(["stop", "web"]).output());
        was_reached(&lab, step);
        live.shim.is_gone_soon();
        live.qemu.is_gone_soon();
        drop(waiting.wait());
        let end =
            lab.inspect("web", "{{.State.Status}} {{.State.ExitCode}} {{.State.ResultKnown}}");
        // Whatever is known for sure is told, and nothing else.
        let unknown = "exited 255 false";
        assert!(end == "exited 3 true" || !known && end == unknown, "{step}: {end}");
        nobody_lies(&lab, step);
    }
}

#[test]
fn h10_a_shim_killed_between_two_runs_leaves_the_end_of_the_first() {
    let lab = Lab::new();
    let step = "shim: restarting written";
    let run =
        ["run", "-d", "--name", "web", "--restart", "always", "busybox", "sh", "-c", "exit 7"];
    lab.failing(&format!("{step}=kill"), run).output().exits(0);
    let folder = boxwood_tests::Folder::watch(lab.folder());
    folder.until(|| lab.reached().exists().then_some(()));
    drop(lab.boxwood(["wait", "web"]).output());
    assert_eq!(lab.state("web"), "exited");
    nobody_lies(&lab, step);
}

#[test]
fn h1_a_shim_killed_while_it_removes_its_box_leaves_nothing_of_it() {
    let lab = Lab::new();
    for step in [
        "remove: renamed",
        "remove: counters added",
        "remove: counters kept",
        "remove: name freed",
        "shim: end written",
    ] {
        let run = lab.failing(&format!("{step}=kill"), ["run", "--rm", "--name", "web"]);
        drop(run.args(["busybox", "true"]).output());
        was_reached(&lab, step);
        assert_eq!(lab.boxes(), [""; 0], "{step}");
        let _ = fs::remove_file(lab.reached());
        lab.is_clean();
    }
}

#[test]
fn h6_a_recovery_that_is_killed_is_done_by_the_next() {
    let lab = Lab::new();
    lab.idle("web");
    let live = lab.live("web");
    live.shim.kill();
    live.qemu.is_gone_soon();
    for step in ["recover: lost box seen", "write: beside"] {
        killed_at(&lab, step, &["ps"]);
    }
    assert_eq!(lab.inspect("web", "{{.State.Status}} {{.State.ExitReason}}"), "exited lost");
    nobody_lies(&lab, "recovery");
}

#[test]
fn h1_a_daemon_killed_at_any_step_leaves_what_a_client_would() {
    let lab = Lab::new();
    let create = || {
        let asked = json!({
            "image": "busybox", "name": "web", "command": ["sleep", "100000"], "start": true,
        });
        ("POST /v1/boxes", asked.to_string())
    };
    let delete = || ("DELETE /v1/boxes/web?force=true", String::new());
    let stop = || ("POST /v1/boxes/web/stop", r#"{"timeout_ms":0}"#.to_owned());
    for (step, (line, body)) in [
        ("create: published", create()),
        ("daemon: box created", create()),
        ("start: before the shim", create()),
        ("start: shim spawned", create()),
        ("end: shim asked", stop()),
        ("end: shim asked", delete()),
        ("remove: box held", delete()),
        ("remove: renamed", delete()),
        ("remove: name freed", delete()),
    ] {
        let daemon = Daemon::start(lab.failing(&format!("{step}=kill"), ["serve"]));
        if line != "POST /v1/boxes" {
            lab.idle("web");
        }
        daemon.send(line, &body);
        daemon.was_killed();
        was_reached(&lab, step);
        // Another one takes over what there is.
        let daemon = lab.daemon();
        daemon.get("/v1/boxes?all=true").is(200);
        daemon.stop();
        nobody_lies(&lab, step);
    }
}

#[test]
fn h7_a_daemon_killed_as_it_begins_or_ends_leaves_no_box_and_no_socket_in_the_way() {
    let lab = Lab::new();
    lab.idle("stays");
    killed_at(&lab, "daemon: listening", &["serve"]);
    let step = "daemon: told to end";
    let daemon = Daemon::start(lab.failing(&format!("{step}=kill"), ["serve"]));
    let asked = json!({"image": "busybox", "name": "goes", "command": ["sleep", "100000"]});
    daemon.post("/v1/boxes", &asked).is(201);
    let stream = daemon.stream("/v1/boxes/goes/start");
    lab.runs("goes");
    let live = lab.live("goes");
    daemon.signal(Signal::TERM);
    daemon.was_killed();
    was_reached(&lab, step);
    drop(stream);
    live.shim.is_gone_soon();
    live.qemu.is_gone_soon();
    assert_eq!(lab.state("stays"), "running");
    lab.daemon().stop();
    nobody_lies(&lab, step);
}
