//! Contract H10: a box that has ended by itself is started again, by its shim and with no daemon.

use boxwood_tests::{Folder, Lab, StoreKind};
use rustix::process::Signal;

/// Counts its starts on the disk of the box, tells, and fails.
const CRASHING: &str = "echo start >> /starts; n=$(wc -l < /starts); echo start $n; exit 3";

/// Waits until what `inspect` says about a box is this.
#[track_caller]
fn becomes(lab: &Lab, name: &str, format: &str, expected: &str) {
    let id = lab.inspect(name, "{{.Id}}");
    let folder = Folder::watch(&lab.box_folder(&id));
    folder.until(|| (lab.inspect(name, format) == expected).then_some(()));
}

#[test]
fn h10_a_main_that_fails_is_started_again_on_its_disk_so_many_times() {
    let lab = Lab::new();
    let flags = ["run", "-d", "--name", "web", "--restart", "on-failure:2", "busybox"];
    lab.boxwood(flags).args(["sh", "-c", CRASHING]).output().exits(0);
    becomes(&lab, "web", "{{.State.Status}}", "exited");
    assert_eq!(lab.inspect("web", "{{.RestartCount}} {{.State.ExitCode}}"), "2 3");
    let logs = lab.boxwood(["logs", "web"]).output().exits(0);
    drop(logs.prints("start 1\nstart 2\nstart 3\n"));
    let policy =
        "{{.HostConfig.RestartPolicy.Name}}:{{.HostConfig.RestartPolicy.MaximumRetryCount}}";
    assert_eq!(lab.inspect("web", policy), "on-failure:2");
    // Started by hand it has its retries again.
    let started = lab.boxwood(["start", "web"]).output();
    drop(started.exits(0));
    becomes(&lab, "web", "{{.State.Status}} {{.RestartCount}}", "exited 2");
    lab.remove("web");
}

#[test]
fn h10_a_main_that_succeeds_is_started_again_only_by_always() {
    let lab = Lab::new();
    let script = "echo start >> /starts; [ $(wc -l < /starts) = 3 ] && exec sleep 600; exit 0";
    for policy in ["always", "unless-stopped"] {
        let flags = ["run", "-d", "--name", "web", "--restart", policy, "busybox"];
        lab.boxwood(flags).args(["sh", "-c", script]).output().exits(0);
        becomes(&lab, "web", "{{.State.Status}} {{.RestartCount}}", "running 2");
        lab.boxwood(["stop", "-t", "1", "web"]).output().exits(0);
        assert_eq!(lab.state("web"), "exited");
        lab.remove("web");
    }
    let flags = ["run", "--name", "job", "--restart", "on-failure", "busybox", "true"];
    lab.boxwood(flags).output().exits(0);
    assert_eq!(lab.inspect("job", "{{.State.Status}} {{.RestartCount}}"), "exited 0");
    lab.remove("job");
}

#[test]
fn h10_a_vm_that_was_killed_is_started_again_by_the_same_shim() {
    let lab = Lab::new();
    let script = "echo kept > /kept$$; sync; ls / | grep -c kept; exec sleep 600";
    let flags = ["run", "-d", "--name", "web", "--restart", "always", "busybox"];
    lab.boxwood(flags).args(["sh", "-c", script]).output().exits(0);
    lab.logged("web", "1\n");
    let live = lab.live("web");
    live.qemu.kill();
    becomes(&lab, "web", "{{.State.Status}} {{.RestartCount}}", "running 1");
    live.shim.is_alive();
    lab.exec(["web", "true"]).output().exits(0);
    let again = lab.live("web");
    again.qemu.is_alive();
    lab.remove("web");
}

#[test]
fn h10_a_box_in_the_back_off_says_so_and_is_stopped_killed_and_removed_at_once() {
    let lab = Lab::new();
    for verb in [&["stop"][..], &["kill"], &["rm", "-f"]] {
        let flags = ["run", "-d", "--name", "web", "--restart", "always", "busybox"];
        lab.boxwood(flags).args(["sh", "-c", "exit 3"]).output().exits(0);
        // By then a back-off is longer than any verb takes.
        becomes(&lab, "web", "{{.State.Status}} {{ge .RestartCount 5}}", "restarting true");
        let rows = lab.boxwood(["ps", "--format", "{{.Status}}"]).output().exits(0).text();
        assert!(rows.starts_with("Restarting (3) ") && rows.ends_with(" ago\n"), "{rows}");
        lab.boxwood(["exec", "web", "true"])
            .output()
            .refused(&["restarting", "wait until it runs"]);
        lab.boxwood(["start", "web"]).output().refused(&["running already"]);
        lab.boxwood(["rm", "web"]).output().refused(&["restarting"]);
        let id = lab.inspect("web", "{{.Id}}");
        let count = lab.inspect("web", "{{.RestartCount}}");
        lab.boxwood(verb).args(["web"]).output().exits(0).prints("web\n");
        if lab.box_folder(&id).exists() {
            let end = lab.inspect("web", "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}");
            assert_eq!(end, format!("exited 3 {count}"));
            lab.remove("web");
        }
        lab.is_clean();
    }
}

#[test]
fn h10_wait_in_the_back_off_hears_the_next_end_and_a_stop_is_one() {
    let lab = Lab::new();
    let flags = ["run", "-d", "--name", "web", "--restart", "always", "busybox"];
    lab.boxwood(flags).args(["sh", "-c", "exit 4"]).output().exits(0);
    becomes(&lab, "web", "{{.State.Status}}", "restarting");
    lab.boxwood(["wait", "web"]).output().exits(0).prints("4\n");
    lab.boxwood(["stop", "web"]).output().exits(0);
    lab.boxwood(["wait", "web"]).output().exits(0).prints("4\n");
    lab.remove("web");
}

#[test]
fn h10_a_client_hears_the_first_end_and_its_box_is_restarted_without_it() {
    let lab = Lab::new();
    let script = "echo start >> /starts; [ $(wc -l < /starts) = 2 ] && exec sleep 600; exit 3";
    let flags = ["run", "--name", "web", "--restart", "on-failure", "busybox"];
    lab.boxwood(flags).args(["sh", "-c", script]).output().exits(3).quietly();
    becomes(&lab, "web", "{{.State.Status}}", "running");
    lab.remove("web");
    // Before that, the box goes with its client and stays where it is.
    let run = lab.boxwood(flags).args(["sh", "-c", "echo ready; sleep 600; exit 3"]).spawn();
    drop(run.says("ready\n"));
    let live = lab.live("web");
    run.signal(Signal::KILL);
    drop(run.wait());
    live.shim.is_gone_soon();
    assert_eq!(lab.inspect("web", "{{.State.Status}} {{.RestartCount}}"), "exited 0");
    lab.remove("web");
}

#[test]
fn h10_a_client_that_goes_late_takes_nothing_along() {
    let lab = Lab::new();
    let script = "echo start >> /starts; [ $(wc -l < /starts) = 2 ] && exec sleep 600; \
        echo ready; sleep 1; exit 3";
    let flags = ["run", "--name", "web", "--restart", "on-failure", "busybox"];
    let run = lab.boxwood(flags).args(["sh", "-c", script]).spawn();
    drop(run.says("ready\n"));
    run.signal(Signal::STOP);
    becomes(&lab, "web", "{{.State.Status}} {{.RestartCount}}", "running 1");
    run.signal(Signal::CONT);
    run.wait().exits(3);
    // Longer than main would take to be stopped.
    lab.exec(["web", "sleep", "1"]).output().exits(0);
    assert_eq!(lab.inspect("web", "{{.State.Status}} {{.RestartCount}}"), "running 1");
    lab.remove("web");
}

#[test]
fn h10_nobody_restarts_a_box_whose_shim_was_lost() {
    let lab = Lab::new();
    let flags = ["run", "-d", "--name", "web", "--restart", "always", "busybox", "sleep", "600"];
    lab.boxwood(flags).output().exits(0);
    let live = lab.live("web");
    live.shim.kill();
    live.qemu.is_gone_soon();
    lab.boxwood(["ps"]).output().exits(0);
    assert_eq!(lab.inspect("web", "{{.State.Status}} {{.State.ExitReason}}"), "exited lost");
    lab.remove("web");
}

#[test]
fn h10_main_that_can_not_be_started_is_not_tried_again() {
    let lab = Lab::new();
    let flags = ["run", "--name", "web", "--restart", "always", "busybox", "/no/such"];
    lab.boxwood(flags).output().exits(127);
    assert_eq!(lab.inspect("web", "{{.State.Status}} {{.RestartCount}}"), "failed 0");
    lab.remove("web");
}

#[test]
fn h13_policies_that_are_none_are_refused() {
    let lab = Lab::new();
    for (policy, words) in [
        ("sometimes", "unknown policy 'sometimes'"),
        ("always:3", "maximum retry count can only be used with 'on-failure'"),
        ("on-failure:x", "maximum retry count must be an integer"),
        ("on-failure:-1", "maximum retry count cannot be negative"),
    ] {
        let run = lab.boxwood(["run", "--restart", policy, "busybox", "true"]);
        drop(lab.refuses(run, &[words]));
    }
    let run = lab.boxwood(["run", "--rm", "--restart", "always", "busybox", "true"]);
    drop(lab.refuses(run, &["cannot specify both --restart and --rm"]));
}

#[test]
fn h10_a_template_that_was_removed_meanwhile_is_made_again() {
    let lab = Lab::with(StoreKind::CopiedTemplates);
    let flags = ["run", "-d", "--name", "web", "--restart", "always", "busybox", "sleep", "600"];
    lab.boxwood(flags).output().exits(0);
    for key in lab.boxwood(["template", "ls", "-q"]).output().exits(0).lines() {
        drop(lab.boxwood(["template", "rm", &key]).output());
    }
    lab.live("web").qemu.kill();
    becomes(&lab, "web", "{{.State.Status}} {{.RestartCount}}", "running 1");
    lab.remove("web");
}
