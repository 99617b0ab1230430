//! Contract H5: a box that is paused stands still, goes on, and ends; and the verbs for boxes at rest.

use boxwood_tests::{Lab, StoreKind};
use rustix::process::Signal;

/// A box that counts in its log, ten times a second.
fn counting(lab: &Lab, name: &str) {
    let script = "n=0; while :; do n=$((n + 1)); echo $n; usleep 100000; done";
    lab.detached(name, ["busybox", "sh", "-c", script]);
    lab.logged(name, "2\n");
}

fn log(lab: &Lab, name: &str) -> String {
    lab.boxwood(["logs", name]).output().exits(0).text()
}

#[test]
fn h5_a_paused_box_stands_still_and_goes_on() {
    let lab = Lab::new();
    counting(&lab, "web");
    lab.boxwood(["pause", "web"]).output().exits(0).prints("web\n");
    assert_eq!(lab.inspect("web", "{{.State.Status}} {{.State.Paused}}"), "paused true");
    let status = lab.boxwood(["ps", "--format", "{{.Status}}"]).output().exits(0).text();
    assert!(status.ends_with("(Paused)\n"), "{status}");
    let before = log(&lab, "web");
    // Long enough for a box that counts to have counted.
    let other = lab.run(["busybox", "sleep", "1"]).output();
    drop(other.exits(0));
    assert_eq!(log(&lab, "web"), before);
    lab.boxwood(["pause", "web"]).output().refused(&["paused already"]);
    lab.boxwood(["kill", "-s", "USR1", "web"]).output().refused(&["unpause it first"]);
    lab.boxwood(["exec", "web", "true"]).output().refused(&["unpause it first"]);
    lab.boxwood(["unpause", "web"]).output().exits(0).prints("web\n");
    let next = before.lines().count() + 2;
    lab.logged("web", &format!("{next}\n"));
    lab.boxwood(["unpause", "web"]).output().refused(&["not paused"]);
    lab.remove("web");
}

#[test]
fn h5_a_paused_box_can_be_stopped_killed_and_removed() {
    let lab = Lab::new();
    for (verb, code) in [(&["stop", "-t", "2"][..], "143"), (&["kill"], "137")] {
        counting(&lab, "web");
        lab.boxwood(["pause", "web"]).output().exits(0);
        lab.boxwood(verb).args(["web"]).output().exits(0);
        let end = lab.inspect("web", "{{.State.Status}} {{.State.ExitReason}} {{.State.ExitCode}}");
        assert_eq!(end, format!("exited exited {code}"));
        lab.remove("web");
    }
    counting(&lab, "web");
    lab.boxwood(["pause", "web"]).output().exits(0);
    lab.boxwood(["rm", "-f", "web"]).output().exits(0);
    assert_eq!(lab.boxes(), [""; 0]);
}

#[test]
fn h5_a_pause_that_fails_is_taken_back() {
    let lab = Lab::new();
    counting(&lab, "web");
    let live = lab.live("web");
    // Until it goes on it hears nothing, and then everything that it was told.
    live.qemu.signal(Signal::STOP).unwrap();
    lab.boxwood(["pause", "web"]).output().refused(&["pause the VM"]);
    assert_eq!(lab.state("web"), "running");
    live.qemu.signal(Signal::CONT).unwrap();
    // It answers once it has done what it was told before.
    lab.exec(["web", "true"]).output().exits(0);
    let next = log(&lab, "web").lines().count() + 2;
    lab.logged("web", &format!("{next}\n"));
    lab.boxwood(["pause", "web"]).output().exits(0);
    assert_eq!(lab.state("web"), "paused");
    lab.boxwood(["unpause", "web"]).output().exits(0);
    lab.remove("web");
}

#[test]
fn h5_a_command_has_no_less_time_because_its_box_stood_still() {
    let lab = Lab::new();
    lab.idle("web");
    let timed = lab.exec(["--timeout", "3", "web", "sh", "-c", "echo begun; sleep 600"]).spawn();
    timed.says("begun");
    lab.boxwood(["pause", "web"]).output().exits(0);
    // Longer than its shim waits for word of a command whose time is up.
    drop(lab.run(["busybox", "sleep", "14"]).output().exits(0));
    lab.boxwood(["unpause", "web"]).output().exits(0);
    timed.wait().exits(124).prints("begun\n");
    lab.remove("web");
}

#[test]
fn a_box_that_does_not_run_can_not_be_paused() {
    let lab = Lab::new();
    lab.boxwood(["run", "--name", "web", "busybox", "true"]).output().exits(0);
    for verb in ["pause", "unpause"] {
        lab.boxwood([verb, "web"]).output().refused(&["exited"]);
        lab.boxwood([verb, "nobody"]).output().refused(&["no such box"]);
    }
    lab.remove("web");
}

#[test]
fn a_box_is_restarted_with_its_disk() {
    let lab = Lab::new();
    let script = "echo start >> /log; cat /log; echo ready; sleep 600";
    lab.detached("web", ["busybox", "sh", "-c", script]);
    lab.logged("web", "ready\n");
    lab.boxwood(["restart", "-t", "1", "web"]).output().exits(0).prints("web\n");
    lab.logged("web", "start\nstart\nready\n");
    lab.boxwood(["stop", "web"]).output().exits(0);
    lab.boxwood(["restart", "web"]).output().exits(0).prints("web\n");
    lab.logged("web", "start\nstart\nstart\nready\n");
    lab.boxwood(["restart", "nobody", "web"]).output().exits(125).prints("web\n");
    lab.remove("web");
    lab.boxwood(["run", "-d", "--rm", "--name", "brief", "busybox", "sleep", "600"]).output();
    lab.boxwood(["restart", "brief"]).output().refused(&["--rm"]);
    lab.remove("brief");
}

#[test]
fn prune_removes_what_does_not_run_and_nothing_else() {
    let lab = Lab::with(StoreKind::CopiedTemplates);
    lab.boxwood(["run", "--name", "done", "busybox", "true"]).output().exits(0);
    let id = lab.inspect("done", "{{.Id}}");
    counting(&lab, "web");
    lab.boxwood(["prune"]).output().refused(&["--force"]);
    let pruned = lab.boxwood(["prune", "-f"]).output().exits(0).text();
    assert!(pruned.starts_with(&format!("Deleted box: {id}\n")), "{pruned}");
    assert!(pruned.contains("\nTotal reclaimed space: "), "{pruned}");
    assert_eq!(lab.boxes().len(), 1);
    assert_eq!(lab.state("web"), "running");
    lab.boxwood(["prune", "-f", "--templates"]).output().exits(0);
    assert_eq!(lab.boxwood(["template", "ls", "-q"]).output().exits(0).lines(), [""; 0]);
    lab.remove("web");
}

#[test]
fn boxes_are_found_by_their_labels_states_and_codes() {
    let lab = Lab::new();
    let file = lab.folder().join("labels");
    std::fs::write(&file, "job=7\nkind=test\n").unwrap();
    let run = lab.boxwood(["run", "--name", "one", "-l", "job=8", "--label-file"]).args([&file]);
    run.args(["busybox", "sh", "-c", "exit 3"]).output().exits(3);
    lab.boxwood(["run", "--name", "two", "-l", "kind", "busybox", "true"]).output().exits(0);
    let found = |filters: &[&str]| {
        let filters = filters.iter().flat_map(|filter| ["--filter", filter]);
        let ps = lab.boxwood(["ps", "-a", "--format", "{{.Names}}"]).args(filters);
        ps.output().exits(0).lines().join(" ")
    };
    assert_eq!(found(&["label=job=8"]), "one");
    assert_eq!(found(&["label=job=7"]), "");
    assert_eq!(found(&["label=kind"]), "two one");
    assert_eq!(found(&["label=kind", "label=job"]), "one");
    assert_eq!(found(&["exited=3"]), "one");
    assert_eq!(found(&["exited=3", "exited=0"]), "two one");
    assert_eq!(found(&["status=exited", "name=tw"]), "two");
    assert_eq!(found(&["status=running"]), "");
    assert_eq!(found(&["ancestor=busybox", "exited=0"]), "two");
    assert_eq!(lab.inspect("one", "{{.Config.Labels.job}} {{.Config.Labels.kind}}"), "8 test");
    let last = lab.boxwood(["ps", "-lq", "--no-trunc"]).output().exits(0);
    drop(last.prints(format!("{}\n", lab.inspect("two", "{{.Id}}"))));
    lab.boxwood(["ps", "--filter", "color=red"]).output().refused(&["color"]);
    lab.boxwood(["run", "-l", "=x", "busybox", "true"]).output().refused(&["label"]);
    lab.remove("one");
    lab.remove("two");
}

#[test]
fn a_box_is_created_now_and_started_later() {
    let lab = Lab::new();
    let created = lab.boxwood(["create", "--name", "later", "-e", "A=1", "busybox"]);
    let created = created.args(["sh", "-c", "echo $A; exit 5"]).output().exits(0).quietly();
    assert_eq!(created.word(), lab.inspect("later", "{{.Id}}"));
    assert_eq!(lab.state("later"), "created");
    lab.boxwood(["wait", "later"]).output().refused(&["never started"]);
    lab.boxwood(["start", "-a", "later"]).output().exits(5).prints("1\n");
    lab.boxwood(["start", "-a", "later"]).output().exits(5).prints("1\n");
    lab.remove("later");
    // One that is removed at its end waits for its start, too.
    lab.boxwood(["create", "--rm", "--name", "brief", "busybox", "echo", "hi"]).output().exits(0);
    lab.boxwood(["ps"]).output().exits(0);
    lab.boxwood(["start", "-a", "brief"]).output().exits(0).prints("hi\n");
    assert_eq!(lab.boxes(), [""; 0]);
    lab.boxwood(["create", "no-such-image"]).output().refused(&["no-such-image"]);
    lab.boxwood(["create", "--name", "never", "busybox", "true"]).output().exits(0);
    lab.boxwood(["rm", "never"]).output().exits(0);
}
