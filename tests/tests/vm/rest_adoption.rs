//! Contract H6 and H10: a daemon that begins finds boxes whose shims were lost, with the host or alone. It
//! starts those that their policies want to run, as Docker does, and no other.

use std::fs;

use boxwood_tests::{Folder, Lab};
use serde_json::Value;

const SLEEP: [&str; 3] = ["busybox", "sleep", "100000"];

/// A box with this policy.
fn make(lab: &Lab, name: &str, policy: &str) {
    lab.detached(name, ["--restart", policy].iter().chain(&SLEEP));
}

/// Its shim is killed, and its VM goes with it.
fn lose(lab: &Lab, name: &str) {
    let live = lab.live(name);
    live.shim.kill();
    live.qemu.is_gone_soon();
}

/// What the host's next boot finds: everything has gone at once, and the record is of another boot.
fn lose_with_the_host(lab: &Lab, name: &str) {
    let path = lab.box_folder(&lab.inspect(name, "{{.Id}}")).join("record.json");
    let live = lab.live(name);
    let record = fs::read(&path).unwrap();
    live.shim.kill();
    live.qemu.is_gone_soon();
    let mut record: Value = serde_json::from_slice(&record).unwrap();
    record["shim"]["boot_id"] = "another-boot".into();
    fs::write(&path, record.to_string()).unwrap();
}

/// A daemon begins, and starts these.
#[track_caller]
fn daemon_starts(lab: &Lab, due: &[&str]) {
    let events = Folder::watch(&lab.home().join("events"));
    let daemon = lab.daemon();
    for name in due {
        events.until(|| (lab.state(name) == "running").then_some(()));
    }
    daemon.stop();
}

#[test]
fn h10_a_daemon_that_begins_starts_what_its_policy_wants_to_run_after_a_lost_shim() {
    let lab = Lab::new();
    for (name, policy) in [
        ("always", "always"),
        ("unless", "unless-stopped"),
        ("failing", "on-failure"),
        ("never", "no"),
    ] {
        make(&lab, name, policy);
        lose(&lab, name);
    }
    for (name, policy) in [("always-stopped", "always"), ("unless-stopped", "unless-stopped")] {
        make(&lab, name, policy);
        lab.boxwood(["stop", "-t", "0", name]).output().exits(0);
    }
    lab.boxwood(["create", "--name", "created", "--restart", "always"])
        .args(SLEEP)
        .output()
        .exits(0);
    make(&lab, "running", "always");
    let running = lab.live("running");
    // No verb does it by the way.
    let states = || {
        let format = ["ps", "-a", "--format", "{{.Names}} {{.State}}"];
        let mut lines = lab.boxwood(format).output().exits(0).quietly().lines();
        lines.sort();
        lines.join(", ")
    };
    assert_eq!(
        states(),
        "always exited, always-stopped exited, created created, failing exited, never exited, \
         running running, unless exited, unless-stopped exited"
    );
    daemon_starts(&lab, &["always", "unless", "failing", "always-stopped"]);
    assert_eq!(
        states(),
        "always running, always-stopped running, created created, failing running, never exited, \
         running running, unless running, unless-stopped exited"
    );
    running.shim.is_alive();
    running.qemu.is_alive();
    // Another one finds nothing to do.
    let before = lab.inspect("always", "{{.State.StartedAt}}");
    lab.daemon().stop();
    assert_eq!(lab.inspect("always", "{{.State.StartedAt}}"), before);
    lab.boxwood(["rm", "-f"]).args(lab.boxes()).output().exits(0);
}

#[test]
fn h6_after_a_boot_of_the_host_a_box_says_so_and_a_daemon_starts_what_is_due() {
    let lab = Lab::new();
    make(&lab, "due", "unless-stopped");
    lab.exec(["due", "sh", "-c", "echo kept > /kept; sync"]).output().exits(0);
    make(&lab, "other", "no");
    lab.boxwood(["run", "-d", "--rm", "--name", "brief"]).args(SLEEP).output().exits(0);
    for name in ["due", "other", "brief"] {
        lose_with_the_host(&lab, name);
    }
    let end = "{{.State.Status}} {{.State.ExitReason}} {{.State.ExitCode}} {{.State.ResultKnown}}";
    for name in ["due", "other"] {
        assert_eq!(lab.inspect(name, end), "exited host-rebooted 255 false");
    }
    daemon_starts(&lab, &["due"]);
    lab.exec(["due", "cat", "/kept"]).output().exits(0).prints("kept\n");
    assert_eq!(lab.state("other"), "exited");
    lab.boxwood(["inspect", "brief"]).output().exits(125).explains(&["no such box"]);
    lab.boxwood(["rm", "-f", "due", "other"]).output().exits(0);
}

#[test]
fn h6_a_box_that_is_due_and_can_not_be_started_keeps_no_other_from_it() {
    let lab = Lab::new();
    for name in ["one", "two", "three"] {
        make(&lab, name, "always");
        lose(&lab, name);
    }
    let folder = lab.box_folder(&lab.inspect("two", "{{.Id}}"));
    fs::remove_file(folder.join("disk")).unwrap();
    let events = Folder::watch(&lab.home().join("events"));
    let daemon = lab.daemon();
    for name in ["one", "three"] {
        events.until(|| (lab.state(name) == "running").then_some(()));
    }
    events.until(|| (lab.state("two") == "failed").then_some(()));
    let said = daemon.stop().complaint();
    assert!(said.contains("is due and can't be started"), "{said}");
    lab.boxwood(["rm", "-f", "one", "two", "three"]).output().exits(0);
}
