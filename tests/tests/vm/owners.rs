//! Contract H3 and H6: a box whose owner or VM does not do what it should, and boxes that were lost. No
//! verb waits for ever, none touches what is not surely ended, and what can be put right is.

use std::fs;
use std::time::Duration;

use boxwood_tests::{Lab, Live, Running, SmallHome, StoreKind};
use rustix::process::Signal;

const WAIT: [&str; 4] = ["busybox", "sh", "-c", "echo ready; sleep 600"];

fn detached(lab: &Lab, name: &str) -> Live {
    lab.detached(name, WAIT);
    lab.logged(name, "ready\n");
    lab.live(name)
}

#[test]
fn h3_a_box_whose_shim_is_stopped_is_not_removed_and_its_processes_are_named() {
    let lab = Lab::new();
    let live = detached(&lab, "web");
    live.shim.signal(Signal::STOP).unwrap();
    let refused = lab.boxwood(["rm", "-f", "web"]).within(Duration::from_secs(60)).output();
    let pids = [live.shim.pid, live.qemu.pid].map(|pid| format!("(pid {pid})"));
    drop(refused.refused(&["did not answer", &pids[0], &pids[1]]));
    live.qemu.is_alive();
    assert_eq!(lab.state("web"), "running");
    live.shim.signal(Signal::CONT).unwrap();
    // What was asked for was heard meanwhile, or is asked for again.
    lab.boxwood(["rm", "-f", "web"]).output().exits(0);
    live.qemu.is_gone_soon();
    assert_eq!(lab.boxes(), [""; 0]);
}

#[test]
fn h3_a_stopped_shim_is_named_in_time_and_begins_nothing_later_that_nobody_waits_for() {
    let lab = Lab::new();
    let live = detached(&lab, "web");
    let daemon = lab.daemon();
    let host = format!("unix://{}", daemon.socket().display());
    live.shim.signal(Signal::STOP).unwrap();
    named(
        &lab,
        &live,
        &[
            &["exec", "web", "true"],
            &["exec", "-d", "web", "sleep", "600"],
            &["attach", "web"],
            &["attach", "--logs", "web"],
            &["snapshot", "create", "web", "kept"],
            &["fork", "web"],
            &["--host", &host, "exec", "web", "true"],
            &["--host", &host, "attach", "web"],
            &["--host", &host, "snapshot", "create", "web", "kept"],
            &["update", "--stop-timeout", "7", "web"],
        ],
    );
    live.shim.signal(Signal::CONT).unwrap();
    // Whoever comes now comes behind what lies there.
    let beside = lab.exec(["web", "ps", "-o", "args"]).output().exits(0).text();
    assert_eq!(beside.matches("sleep 600").count(), 1, "{beside}");
    drop(lab.boxwood(["snapshot", "ls", "-q"]).output().exits(0).prints(""));
    assert_eq!((lab.state("web"), lab.boxes().len()), ("running".to_owned(), 1));
    daemon.stop();
    lab.boxwood(["rm", "-f", "web"]).output().exits(0);
}

#[test]
fn h3_a_stop_of_a_box_whose_shim_is_stopped_names_it_in_time_and_is_done_when_it_goes_on() {
    let lab = Lab::new();
    let live = detached(&lab, "web");
    live.shim.signal(Signal::STOP).unwrap();
    named(
        &lab,
        &live,
        &[&["stop", "-t", "0", "web"], &["stop", "-t", "60", "web"], &["kill", "web"]],
    );
    live.shim.signal(Signal::CONT).unwrap();
    // By TERM or KILL, whichever it reads first.
    let code = lab.boxwood(["wait", "web"]).output().exits(0).word();
    assert!(["137", "143"].contains(&&*code), "{code}");
    lab.remove("web");
}

/// Each of these is refused with the processes of a box that does not answer.
fn named(lab: &Lab, live: &Live, verbs: &[&[&str]]) {
    let ask = |verb: &&[&str]| lab.boxwood(*verb).within(Duration::from_secs(30)).spawn();
    let asked: Vec<Running> = verbs.iter().map(ask).collect();
    let pids = [live.shim.pid, live.qemu.pid].map(|pid| format!("(pid {pid})"));
    for (verb, running) in verbs.iter().zip(asked) {
        let refused = running.wait().refused(&["did not answer within 10 s", &pids[0], &pids[1]]);
        // Nobody knows its state.
        assert!(!refused.complaint().contains("is running"), "{refused:?}");
        assert_eq!(refused.complaint().contains("is changed"), verb[0] == "update", "{refused:?}");
    }
}

#[test]
fn h3_a_vm_that_does_nothing_is_killed_by_kill() {
    let lab = Lab::new();
    let live = detached(&lab, "web");
    live.qemu.signal(Signal::STOP).unwrap();
    lab.boxwood(["kill", "web"]).within(Duration::from_secs(60)).output().exits(0);
    assert_eq!(lab.inspect("web", "{{.State.ExitReason}} {{.State.ExitCode}}"), "killed 137");
    lab.remove("web");
}

#[test]
fn h3_signals_for_a_guest_that_takes_none_keep_nobody_waiting() {
    let lab = Lab::new();
    let live = detached(&lab, "web");
    live.qemu.signal(Signal::STOP).unwrap();
    let signals: Vec<Running> = (0..100)
        .map(|_| lab.boxwood(["kill", "-s", "USR1", "web"]).within(Duration::from_secs(60)).spawn())
        .collect();
    lab.boxwood(["rm", "-f", "web"]).output().exits(0);
    for signal in signals {
        drop(signal.wait());
    }
    live.shim.is_gone_soon();
}

#[test]
fn h3_a_box_is_killed_though_its_client_reads_nothing() {
    let lab = Lab::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let run = lab.boxwood(["run", "--name", "web", "busybox", "yes"]).stdout_to(writer);
    let mut running = None;
    lab.appearing(|| running = Some(run.spawn()));
    lab.logged("web", "y\n");
    lab.boxwood(["kill", "web"]).within(Duration::from_secs(30)).output().exits(0);
    drop(reader);
    drop(running.map(Running::wait));
    assert_eq!(lab.inspect("web", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    lab.remove("web");
}

#[test]
fn three_interrupts_leave_a_vm_that_does_nothing() {
    let lab = Lab::new();
    let run = lab.boxwood(["run", "--name", "web"]).args(WAIT).spawn();
    drop(run.says("ready\n"));
    let live = lab.live("web");
    live.qemu.signal(Signal::STOP).unwrap();
    for _ in 0..3 {
        run.signal(Signal::INT);
        // One signal that is pending hides the next.
        std::thread::yield_now();
        drop(lab.state("web"));
    }
    run.wait().exits(130).explains(&["left by SIGINT"]);
    // Its client has gone, so it is stopped, and then made to.
    lab.boxwood(["kill", "web"]).within(Duration::from_secs(60)).output().exits(0);
    live.shim.is_gone_soon();
    lab.remove("web");
}

#[test]
fn h3_a_box_is_removed_by_force_while_what_its_start_needs_is_made() {
    let lab = Lab::with(StoreKind::OwnTemplates);
    lab.boxwood(["run", "--name", "web", "-m", "128m", "busybox", "true"]).output().exits(0);
    lab.boxwood(["template", "rm", "--all"]).output().exits(0);
    let start = lab.boxwood(["start", "web"]).spawn();
    drop(start.complains("baking"));
    lab.boxwood(["rm", "-f", "web"]).within(Duration::from_secs(60)).output().exits(0);
    drop(start.wait());
    assert_eq!(lab.boxes(), [""; 0]);
}

#[test]
fn h1_the_name_of_a_lost_box_that_was_to_be_removed_is_free() {
    let lab = Lab::new();
    lab.boxwood(["run", "-d", "--rm", "--name", "web"]).args(WAIT).output().exits(0);
    let live = lab.live("web");
    live.shim.kill();
    live.qemu.is_gone_soon();
    lab.boxwood(["run", "--rm", "--name", "web", "busybox", "echo", "hi"])
        .output()
        .exits(0)
        .prints("hi\n")
        .quietly();
    // One that is not lost keeps it.
    detached(&lab, "web");
    lab.boxwood(["run", "--rm", "--name", "web", "busybox", "true"]).output().refused(&["in use"]);
    lab.remove("web");
}

#[test]
fn g2_the_end_of_a_lost_box_that_was_to_be_removed_is_unknown() {
    let lab = Lab::new();
    let run = lab.boxwood(["run", "--rm", "--name", "web"]).args(WAIT).spawn();
    drop(run.says("ready\n"));
    lab.live("web").shim.kill();
    run.wait().exits(255).explains(&["lost"]);
}

#[test]
fn a_box_with_a_missing_file_is_damaged_and_can_be_removed_by_force() {
    let lab = Lab::new();
    for file in ["spec.json", "record.json", "lock"] {
        let id = lab.boxwood(["run", "-d", "--name", "web", "busybox", "true"]).output();
        let id = id.exits(0).word();
        lab.boxwood(["wait", "web"]).output().exits(0);
        fs::remove_file(lab.box_folder(&id).join(file)).unwrap();
        lab.boxwood(["rm", "web"]).output().refused(&[file]);
        lab.boxwood(["rm", "-f", "web"]).output().exits(0);
        assert!(!lab.box_folder(&id).exists(), "{file}");
    }
    // While it runs nothing of it is touched.
    let live = detached(&lab, "web");
    let folder = lab.box_folder(&lab.inspect("web", "{{.Id}}"));
    let spec = fs::read(folder.join("spec.json")).unwrap();
    fs::remove_file(folder.join("spec.json")).unwrap();
    lab.boxwood(["rm", "-f", "web"]).output().refused(&["still runs"]);
    live.qemu.is_alive();
    fs::write(folder.join("spec.json"), spec).unwrap();
    lab.boxwood(["rm", "-f", "web"]).output().exits(0);
}

#[test]
fn a_box_that_can_not_be_started_is_told_by_start() {
    let lab = Lab::new();
    lab.boxwood(["run", "--name", "bad", "busybox", "no-such-command"]).output().exits(127);
    lab.boxwood(["run", "--name", "good", "busybox", "true"]).output().exits(0);
    let start = lab.boxwood(["start", "bad", "good"]).output();
    start.exits(127).prints("good\n").explains(&["no-such-command"]);
    lab.boxwood(["wait", "good"]).output().exits(0);
    lab.remove("bad");
    lab.remove("good");
}

#[test]
fn a_box_is_renamed_while_it_runs() {
    let lab = Lab::new();
    detached(&lab, "web");
    lab.boxwood(["rename", "web", "old"]).output().exits(0).quietly();
    assert_eq!(lab.inspect("old", "{{.State.Status}} {{.Name}}"), "running /old");
    lab.boxwood(["inspect", "web"]).output().exits(125).explains(&["no such box"]);
    lab.boxwood(["rename", "old", "bad/name"]).output().refused(&["bad/name"]);
    lab.boxwood(["rename", "old", "old"]).output().refused(&["already"]);
    lab.remove("old");
}

#[test]
fn h13_a_full_home_can_be_made_room_in() {
    if !boxwood_tests::is_root() {
        eprintln!("skipped: mounting takes root");
        return;
    }
    let lab = Lab::new();
    let home = SmallHome::mount(&lab, "16m");
    detached(&lab, "web");
    home.fill();
    lab.boxwood(["rm", "-f", "web"]).output().exits(0);
    // A lost one, too, whose end can't be written down.
    fs::remove_file(lab.home().join("ballast")).unwrap();
    let live = detached(&lab, "web");
    home.fill();
    live.shim.kill();
    live.qemu.is_gone_soon();
    assert_eq!(lab.boxes().len(), 1);
    lab.boxwood(["rm", "-f", "web"]).output().exits(0);
    assert_eq!(lab.boxes(), [""; 0]);
}
