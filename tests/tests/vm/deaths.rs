//! Contract H2, H3, H5 and H6: a VM or its shim dies in whatever way, or can't; what is told about it is right,
//! at once, and no other process is harmed.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use boxwood_tests::{Cgroup, Lab, Process, Running, SmallHome, Watched};
use rustix::process::Signal;
use serde_json::Value;

/// What a death may take to be known.
const KNOWN: Duration = Duration::from_millis(100);
/// What a zombie may live.
const ZOMBIE: Duration = Duration::from_millis(50);

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// The events of this kind, as they happen.
fn listening(lab: &Lab, action: &str) -> Running {
    let format =
        "{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}} {{.timeNano}}";
    let filter = format!("event={action}");
    let events = lab.boxwood(["events", "--since", "1h", "-f", &filter, "--format", format]);
    events.within(Duration::from_secs(100)).spawn()
}

/// It is gone or at least no zombie soon after it was seen to end.
#[track_caller]
fn is_no_zombie(process: &Watched) {
    let began = Instant::now();
    while let Some(left) = Process::get(process.pid).filter(|left| left.state == 'Z') {
        // That a zombie goes is no event for anybody but its parent.
        let parent = Process::get(left.parent).map(|parent| parent.to_string());
        assert!(began.elapsed() < ZOMBIE, "{left} is a zombie of {parent:?}");
        std::thread::yield_now();
    }
}

#[test]
fn h2_the_death_of_a_vm_is_told_within_100_ms_and_leaves_no_zombie() {
    let lab = Lab::new();
    let events = listening(&lab, "die");
    let mut times = Vec::new();
    for (round, signal) in [Signal::KILL, Signal::TERM, Signal::SEGV].into_iter().enumerate() {
        let name = format!("web{round}");
        lab.idle(&name);
        let live = lab.live(&name);
        let killed = now();
        live.qemu.signal(signal).unwrap();
        let told = events.says(&format!("die {name} 255 "));
        is_no_zombie(&live.qemu);
        let line = told.lines().find(|line| line.contains(&name)).unwrap();
        let at = Duration::from_nanos(line.rsplit(' ').next().unwrap().parse().unwrap());
        times.push(at.saturating_sub(killed));
        let end =
            "{{.State.Status}} {{.State.ExitReason}} {{.State.ExitCode}} {{.State.ResultKnown}}";
        assert_eq!(lab.inspect(&name, end), "exited vm-died 255 false", "{signal:?}");
        live.shim.is_gone_soon();
        lab.remove(&name);
    }
    assert!(median(&mut times) < KNOWN, "{times:?}");
    events.signal(Signal::KILL);
    drop(events.wait());
}

/// Of a host that others use, too.
fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn h6_the_death_of_a_shim_is_known_to_the_next_command_at_once() {
    let lab = Lab::new();
    let mut times = Vec::new();
    for _ in 0..3 {
        lab.idle("web");
        let live = lab.live("web");
        let began = Instant::now();
        live.shim.signal(Signal::KILL).unwrap();
        live.shim.is_gone_soon();
        live.qemu.is_gone_soon();
        times.push(began.elapsed());
        let end = "{{.State.Status}} {{.State.ExitReason}} {{.State.ExitCode}}";
        assert_eq!(lab.inspect("web", end), "exited lost 255");
        // Both are the host's init's to reap now.
        lab.remove("web");
    }
    assert!(median(&mut times) < KNOWN, "{times:?}");
}

#[test]
fn h1_a_shim_that_the_host_kills_for_memory_takes_its_vm_along() {
    let Some(group) = Cgroup::make("memory") else {
        eprintln!("skipped: no memory cgroup can be made here");
        return;
    };
    let lab = Lab::new();
    lab.idle("web");
    let live = lab.live("web");
    group.take(live.shim.pid);
    group.set("memory.limit_in_bytes", "4096");
    // The next that it needs is refused.
    let exec = lab.exec(["web", "head", "-c", "3000000", "/dev/zero"]).output();
    assert!(exec.code() != Some(0), "{exec:?}");
    live.shim.is_gone_soon();
    live.qemu.is_gone_soon();
    assert_eq!(lab.inspect("web", "{{.State.Status}} {{.State.ExitReason}}"), "exited lost");
    lab.boxwood(["start", "web"]).output().exits(0);
    lab.remove("web");
}

#[test]
fn h5_limits_of_the_host_end_a_box_with_a_reason() {
    let lab = Lab::new();
    let limited = |limit: &str, name: &str, script: &str| {
        let line = format!("ulimit {limit}; exec \"$@\"");
        let sh = lab.program("sh").args(["-c", &line, "sh"]).args([lab.binary()]);
        sh.args(["run", "--name", name, "busybox", "sh", "-c", script]).output()
    };
    // Too little address space for QEMU to begin.
    limited("-v 400000", "memory", "true").exits(125).explains(&["QEMU", "Cannot allocate memory"]);
    let end = "{{.State.Status}} {{.State.ExitReason}} {{.State.ResultKnown}}";
    assert_eq!(lab.inspect("memory", end), "failed failed-to-start false");
    // Too little processor time to go on.
    limited("-t 1", "cpu", "while :; do :; done").exits(255).explains(&["the VM died"]);
    assert_eq!(lab.inspect("cpu", end), "exited vm-died false");
    lab.remove("memory");
    lab.remove("cpu");
}

#[test]
fn h3_a_vm_that_can_not_be_reaped_is_named_and_its_box_stays_until_it_can() {
    let Some(group) = Cgroup::make("freezer") else {
        eprintln!("skipped: no freezer cgroup can be made here");
        return;
    };
    let lab = Lab::new();
    let id = lab.idle("web");
    let live = lab.live("web");
    group.take(live.qemu.pid);
    // As one that waits for a disk that does not answer: SIGKILL is pending, and nothing happens.
    group.set("freezer.state", "FROZEN");
    let record = || std::fs::read_to_string(lab.box_folder(&id).join("record.json")).unwrap();
    let refused = lab.boxwood(["rm", "-f", "web"]).within(Duration::from_secs(60)).output();
    let pids = [live.shim.pid, live.qemu.pid].map(|pid| format!("(pid {pid})"));
    drop(refused.refused(&["did not answer", &pids[0], &pids[1]]));
    live.qemu.is_alive();
    live.shim.is_alive();
    assert!(record().contains("running") || record().contains("stopping"), "{}", record());
    assert!(lab.box_folder(&id).join("disk").exists());
    // It runs as far as anybody knows, or can't be started; no second VM is.
    let again = lab.boxwood(["start", "web"]).output();
    assert!([Some(0), Some(125)].contains(&again.code()), "{again:?}");
    assert_eq!(lab.live("web").qemu.pid, live.qemu.pid);
    group.set("freezer.state", "THAWED");
    live.qemu.is_gone_soon();
    lab.boxwood(["rm", "-f", "web"]).output().exits(0);
    live.shim.is_gone_soon();
    assert_eq!(lab.boxes(), [""; 0]);
}

#[test]
fn h6_a_process_that_has_the_number_of_a_lost_one_is_left_alone() {
    let lab = Lab::new();
    let stranger = lab.program("sleep").args(["1000"]).spawn();
    let strangers = Process::get(stranger.pid()).unwrap();
    for (ticks, verbs) in [
        // As after a wrap of the numbers, and as a forger would write it.
        (1, &[&["ps", "-a"][..], &["stop", "web"], &["rm", "-f", "web"]][..]),
        (strangers.started, &[&["rm", "-f", "web"]]),
        (strangers.started, &[&["start", "web"], &["rm", "-f", "web"]]),
        (strangers.started, &[&["prune", "-f"]]),
    ] {
        let id = lab.idle("web");
        let path = lab.box_folder(&id).join("record.json");
        let live = lab.live("web");
        let record = std::fs::read(&path).unwrap();
        live.shim.kill();
        live.qemu.is_gone_soon();
        let mut record: Value = serde_json::from_slice(&record).unwrap();
        assert_eq!(record["state"], "running");
        record["shim"]["pid"] = stranger.pid().into();
        record["shim"]["start_ticks"] = ticks.into();
        record["vmm_pid"] = stranger.pid().into();
        std::fs::write(&path, record.to_string()).unwrap();
        for verb in verbs {
            lab.boxwood(*verb).output().exits(0);
        }
        assert_eq!(lab.boxes(), [""; 0]);
        let still = Process::get(stranger.pid()).unwrap();
        assert_eq!((still.started, still.state), (strangers.started, 'S'));
    }
    stranger.signal(Signal::KILL);
    drop(stranger.wait());
}

#[test]
fn h6_a_full_disk_tears_no_record_loses_no_end_and_all_works_again_when_there_is_room() {
    if !boxwood_tests::is_root() {
        eprintln!("skipped: mounting takes root");
        return;
    }
    let lab = Lab::new();
    let home = SmallHome::mount(&lab, "16m");
    lab.idle("web");
    let live = lab.live("web");
    lab.boxwood(["create", "--name", "idle", "busybox", "sleep", "1000"]).output().exits(0);
    home.fill();
    for verb in [
        &["create", "busybox", "true"][..],
        &["run", "--rm", "busybox", "true"],
        &["run", "-d", "busybox", "true"],
        &["start", "idle"],
        &["rename", "idle", "idler"],
        &["update", "--restart", "always", "web"],
    ] {
        lab.boxwood(verb).output().refused(&["No space left on device"]);
    }
    // What was refused has changed nothing, and everything else goes on.
    let format = ["ps", "-a", "--format", "{{.Names}} {{.State}}"];
    let listed = lab.boxwood(format).output().exits(0).quietly();
    drop(listed.prints("idle created\nweb running\n"));
    live.qemu.is_alive();
    lab.exec(["web", "true"]).output().exits(0);
    lab.boxwood(["metrics"]).output().exits(0);
    // Room for how a box ends was taken when it was started.
    let id = lab.inspect("web", "{{.Id}}");
    let end = "{{.State.Status}} {{.State.ExitCode}} {{.State.ResultKnown}}";
    lab.boxwood(["stop", "web"]).output().exits(0);
    assert_eq!(lab.inspect("web", end), "exited 143 true");
    home.make_room();
    lab.boxwood(["start", "web", "idle"]).output().exits(0);
    let again = [lab.live("web"), lab.live("idle")];
    // The same for one that is lost.
    home.fill();
    again[1].shim.kill();
    again[1].qemu.is_gone_soon();
    assert_eq!(lab.inspect("idle", end), "exited 255 false");
    // Without that room an end can't be written down: it is unknown to those who come later, and no invention.
    std::fs::remove_file(lab.box_folder(&id).join(".end")).unwrap();
    home.fill();
    // Who asked for it hears it.
    let told = format!("box {} has ended with code 143, which could not be written", &id[..12]);
    let words = [told.as_str(), "No space left on device", "unknown"];
    lab.boxwood(["stop", "web"]).output().refused(&words);
    assert_eq!(lab.inspect("web", end), "exited 255 false");
    home.make_room();
    // It was told at once, and is not told again by who finds that it is over.
    let format = "{{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}";
    let dies = ["events", "--since", "1h", "--until", "0s", "-f", "event=die", "--format", format];
    let told = lab.boxwood(dies).output().exits(0);
    assert_eq!(told.text().matches("web ").count(), 2, "{told:?}");
    assert_eq!(lab.inspect("web", end), "exited 255 false");
    lab.boxwood(["rm", "web", "idle"]).output().exits(0);
    assert!(home.names("boxes").is_empty());
    // What leaves it keeps it mounted.
    again.iter().chain([&live]).for_each(|one| one.shim.is_gone_soon());
}
