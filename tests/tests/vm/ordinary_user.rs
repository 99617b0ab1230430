//! The same for a user without any rights: root starts these tests as one.

use std::fs;

use boxwood_tests::{Invocation, Lab, Tree, is_root};
use rustix::process::Signal;

/// Nobody's id.
const USER: u32 = 54_321;

#[test]
fn an_ordinary_user_runs_boxes_of_their_own() {
    if !is_root() {
        eprintln!("not root: all the other tests are this one");
        return;
    }
    let lab = Lab::of_user(USER);
    // The first run makes the default image and bakes a template.
    let first = lab.run(["-m", "128m", "busybox", "sh", "-c", "id -u; exit 7"]).output();
    first.exits(7).prints("0\n");
    let run = |args: &[&str]| lab.run(["-m", "128m"]).args(args);
    run(&["busybox", "true"]).output().exits(0).quietly();
    run(&["-i", "busybox", "cat"]).stdin("in\n").output().exits(0).prints("in\n").quietly();
    run(&["busybox", "sh", "-c", "echo out; echo err >&2"])
        .output()
        .prints("out\n")
        .complains("err\n");
    run(&["busybox", "no-such-command"]).output().exits(127).explains(&["no-such-command"]);
    run(&["-u", "nobody", "busybox", "id", "-un"]).output().exits(0).prints("nobody\n");

    // Everything runs as that user and nobody else.
    let args = [
        "-m",
        "128m",
        "busybox",
        "sh",
        "-c",
        "trap 'echo bye > /f; exit 3' TERM; echo ready; sleep 600 & wait",
    ];
    lab.detached("web", args);
    lab.logged("web", "ready\n");
    let live = lab.live("web");
    for watched in [&live.shim, &live.qemu] {
        let status = fs::read_to_string(format!("/proc/{}/status", watched.pid)).unwrap();
        let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
        assert_eq!(uids.split_ascii_whitespace().collect::<Vec<_>>(), ["54321"; 4]);
    }
    lab.boxwood(["stop", "web"]).output().exits(0).quietly();
    assert_eq!(lab.inspect("web", "{{.State.ExitCode}}"), "3");
    lab.boxwood(["start", "web"]).output().exits(0);
    let live = lab.live("web");
    live.shim.signal(Signal::KILL).unwrap();
    live.qemu.is_gone_soon();
    assert_eq!(lab.state("web"), "exited");
    lab.remove("web");
    let doctor = lab.boxwood(["doctor"]).output();
    doctor.exits(0);
}

#[test]
fn h13_a_home_that_an_ordinary_user_may_not_write_is_refused() {
    if !is_root() {
        eprintln!("not root: there is no home that is another's");
        return;
    }
    let lab = Lab::of_user(USER);
    let others = lab.folder().join("others");
    fs::create_dir(&others).unwrap();
    fs::create_dir(others.join("home")).unwrap();
    for home in [others.join("home"), others.join("new")] {
        let before = Tree::of(&others);
        let run = lab.run(["busybox", "true"]).env("BOXWOOD_HOME", &home).output();
        run.refused(&[home.to_str().unwrap(), "ermission denied"]);
        before.is_still(&others);
    }
}

#[test]
fn h13_a_system_store_that_only_root_may_read_hinders_nobody() {
    if !is_root() {
        eprintln!("not root: there is no store that is closed to this user");
        return;
    }
    if Invocation::new("unshare").args(["-m", "true"]).output().code() != Some(0) {
        eprintln!("skipped: in a plain chroot nobody can have mounts of their own");
        return;
    }
    let lab = Lab::of_user(USER);
    let (open, kernels) = (lab.folder().join("open"), lab.store().join("kernel"));
    fs::create_dir(&open).unwrap();
    let vmlinux = fs::read_dir(kernels).unwrap().map(|entry| entry.unwrap().path());
    let vmlinux = vmlinux.map(|kernel| kernel.join("vmlinux")).find(|path| path.exists()).unwrap();
    fs::copy(vmlinux, open.join("vmlinux")).unwrap();
    // In a mount namespace of its own, root's places are there, closed, and the user has nothing.
    let script = r#"
        mount -t tmpfs -o mode=755 tmpfs /var/lib
        (umask 077; mkdir -p /var/lib/boxwood/store/kernel)
        exec setpriv --reuid "$1" --regid "$1" --clear-groups "$0" doctor"#;
    let doctor = Invocation::new("unshare").args(["-m", "sh", "-ec", script]);
    let doctor = doctor.args([lab.binary()]).args([USER.to_string()]);
    let doctor = doctor
        .env("BOXWOOD_HOME", lab.folder().join("new"))
        .env("BOXWOOD_STORE", "")
        .env("BOXWOOD_KERNEL", open.join("vmlinux"))
        .output()
        .exits(0);
    for part in ["kernel", "empty disk"] {
        let line = format!("warn  {part:<12}  not ");
        assert!(doctor.text().contains(&line), "{line}: {doctor:?}");
    }
}

#[test]
fn h13_an_ordinary_user_without_a_home_is_asked_for_a_place() {
    if !is_root() {
        eprintln!("not root: there is no other user's temporary directory to look at");
        return;
    }
    let lab = Lab::of_user(USER);
    for verb in ["ps", "doctor"] {
        lab.boxwood([verb]).only_env(&[]).output().refused(&["BOXWOOD_HOME"]);
    }
}
