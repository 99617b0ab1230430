//! Contract G9: a box is stopped in order, and what it wrote is there when it starts again.

use boxwood_tests::Lab;

/// Waits to be told to end; what it hears it writes down.
const PATIENT: &str = "for s in HUP INT QUIT USR1 TERM; do trap \"echo $s; exit 7\" $s; done; echo ready; sleep 600 & wait";

fn patient(lab: &Lab, flags: &[&str]) {
    lab.detached("web", flags.iter().chain(&["busybox", "sh", "-c", PATIENT]));
    lab.logged("web", "ready\n");
}

#[test]
fn g9_stop_sends_term_and_main_decides() {
    let lab = Lab::new();
    patient(&lab, &[]);
    let stopped = lab.boxwood(["stop", "web"]).output().exits(0).prints("web\n").quietly();
    assert!(
        stopped.took.as_secs() < 9,
        "it was not killed, so nothing was waited for: {stopped:?}"
    );
    assert_eq!(lab.inspect("web", "{{.State.Status}} {{.State.ExitCode}}"), "exited 7");
    lab.boxwood(["logs", "web"]).output().prints("ready\nTERM\n");
    // A box that has ended is stopped already.
    lab.boxwood(["stop", "web"]).output().exits(0).prints("web\n").quietly();
    lab.remove("web");
}

#[test]
fn g9_stop_sends_the_signal_that_the_user_chose() {
    let lab = Lab::new();
    patient(&lab, &["--stop-signal", "QUIT"]);
    lab.boxwood(["stop", "web"]).output().exits(0);
    lab.boxwood(["logs", "web"]).output().prints("ready\nQUIT\n");
    lab.remove("web");
    patient(&lab, &["--stop-signal", "QUIT"]);
    lab.boxwood(["stop", "-s", "SIGHUP", "web"]).output().exits(0);
    lab.boxwood(["logs", "web"]).output().prints("ready\nHUP\n");
    lab.remove("web");
}

#[test]
fn g9_stop_sends_the_signal_that_the_image_names() {
    use boxwood_tests::archive::{Image, Layer};
    let lab = Lab::with(boxwood_tests::StoreKind::OwnImages);
    let config = serde_json::json!({ "Env": ["PATH=/bin"], "StopSignal": "SIGUSR1" });
    let image = Image::of(vec![Layer::busybox().end()]).with(config);
    lab.boxwood(["load"]).stdin(image.docker_archive(&["app:1"])).output().exits(0);
    let script = PATIENT.replace("sleep", "/bin/busybox sleep");
    lab.detached("web", ["app:1", "sh", "-c", &script]);
    lab.logged("web", "ready\n");
    lab.boxwood(["stop", "web"]).output().exits(0);
    lab.boxwood(["logs", "web"]).output().prints("ready\nUSR1\n");
    lab.remove("web");
}

#[test]
fn g9_a_main_that_does_not_end_is_killed_when_its_time_is_up() {
    let lab = Lab::new();
    let stubborn = "trap 'echo no' TERM; echo ready; while :; do sleep 600 & wait; done";
    for (run, stop, least) in [
        (&["--stop-timeout", "10"][..], &["stop", "-t", "1", "web"][..], 0.9),
        (&["--stop-timeout", "1"], &["stop", "web"], 0.9),
        (&[], &["stop", "-t", "0", "web"], 0.0),
    ] {
        lab.detached("web", run.iter().chain(&["busybox", "sh", "-c", stubborn]));
        lab.logged("web", "ready\n");
        let stopped = lab.boxwood(stop).output().exits(0);
        let took = stopped.took.as_secs_f64();
        assert!((least..8.0).contains(&took), "{stopped:?}");
        let end = "{{.State.Status}} {{.State.ExitCode}} {{.State.ResultKnown}}";
        assert_eq!(lab.inspect("web", end), "exited 137 true");
        lab.remove("web");
    }
}

#[test]
fn g4_a_kill_reaches_what_left_mains_group_and_session() {
    let lab = Lab::new();
    // With its own disk kept, the guest waits until everything in the box has ended.
    let script =
        "setsid sh -c 'trap \"\" TERM HUP INT; sleep 600' & trap '' TERM; echo ready; wait; wait";
    lab.detached("web", ["busybox", "sh", "-c", script]);
    lab.logged("web", "ready\n");
    let stopped = lab.boxwood(["stop", "-t", "0", "web"]).output().exits(0);
    assert!(stopped.took.as_secs() < 8, "{stopped:?}");
    assert_eq!(lab.inspect("web", "{{.State.ExitCode}} {{.State.Error}}"), "137");
    lab.remove("web");
}

#[test]
fn g9_what_was_written_before_a_stop_is_there_after_a_start() {
    let lab = Lab::new();
    let script = "if [ -e /data ]; then cat /data /var/deep/file; exit 3; fi; \
        echo kept > /data; mkdir -p /var/deep; echo deep > /var/deep/file; rm /etc/group; \
        trap 'exit 5' TERM; echo ready; sleep 600 & wait";
    let id = lab.detached("web", ["busybox", "sh", "-c", script]);
    lab.logged("web", "ready\n");
    lab.boxwood(["stop", "web"]).output().exits(0);
    assert_eq!(lab.inspect("web", "{{.State.ExitCode}}"), "5");
    checked_disk(&lab, &id);
    let again = lab.boxwood(["start", "-a", "web"]).output();
    again.exits(3).prints("kept\ndeep\n").quietly();
    checked_disk(&lab, &id);
    lab.remove("web");
}

#[test]
fn g9_a_disk_is_whole_after_every_end() {
    let lab = Lab::new();
    let id = lab.boxwood(["run", "--name", "web", "busybox", "sh", "-c"]);
    id.args(["i=0; while [ $i -lt 200 ]; do echo $i > /f$i; i=$((i + 1)); done; exit 9"])
        .output()
        .exits(9);
    let id = lab.inspect("web", "{{.Id}}");
    checked_disk(&lab, &id);
    lab.remove("web");
}

#[test]
fn g9_a_box_whose_vm_was_killed_starts_again_on_its_disk() {
    let lab = Lab::new();
    let script = "if [ -e /data ]; then cat /data; exit 3; fi; \
        echo synced > /data; sync; echo ready; sleep 600";
    lab.detached("web", ["busybox", "sh", "-c", script]);
    lab.logged("web", "ready\n");
    lab.live("web").qemu.kill();
    lab.boxwood(["wait", "web"]).output().exits(0);
    lab.boxwood(["start", "-a", "web"]).output().exits(3).prints("synced\n");
    lab.remove("web");
}

#[test]
fn a_box_started_again_keeps_its_name_its_settings_and_its_log() {
    let lab = Lab::new();
    let run = lab.boxwood(["run", "--name", "job", "-e", "A=1", "-h", "h1", "busybox", "sh", "-c"]);
    run.args(["echo \"$A $(hostname)\"; exit 4"]).output().exits(4).prints("1 h1\n");
    let id = lab.inspect("job", "{{.Id}}");
    lab.boxwood(["start", "-a", "job"]).output().exits(4).prints("1 h1\n");
    assert_eq!(lab.inspect("job", "{{.Id}}"), id);
    lab.boxwood(["logs", "job"]).output().prints("1 h1\n1 h1\n");
    // Without -a it goes to the background and its name is printed.
    lab.boxwood(["start", "job"]).output().exits(0);
    lab.boxwood(["wait", "job"]).output().prints("4\n");
    lab.remove("job");
}

/// The box's disk holds a file system without a fault, and was left clean.
#[track_caller]
fn checked_disk(lab: &Lab, id: &str) {
    let disk = lab.box_folder(id).join("disk");
    let path = "/usr/sbin:/sbin:/usr/bin:/bin";
    let check = lab.program("env").args([&format!("PATH={path}"), "e2fsck", "-fn"]).args([&disk]);
    let checked = check.output().exits(0);
    assert!(!checked.text().contains("journal"), "the journal was not empty: {checked:?}");
}
