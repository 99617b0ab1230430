//! Contract G2, G3, G7 and G8: main is what the image and the user say, is started once, and is
//! reaped exactly; so is everything it leaves behind.

use boxwood_tests::archive::{Image, Layer};
use boxwood_tests::{Lab, StoreKind};
use rustix::process::Signal;
use serde_json::json;

/// A lab with the image `app`, which says everything an image can say about its main.
fn lab_with_app() -> Lab {
    let lab = Lab::with(StoreKind::OwnImages);
    let layer = Layer::busybox().folder("srv").file(
        "bin/say",
        0o755,
        b"#!/bin/sh\necho \"say: $*\"; echo \"$(id -u):$(id -g) $(pwd) $A $B\"\n",
    );
    let image = Image::of(vec![layer.end()]).with(json!({
        "Entrypoint": ["/bin/say", "first"],
        "Cmd": ["second", "third"],
        "Env": ["PATH=/bin", "A=of the image", "B=b"],
        "User": "web",
        "WorkingDir": "/srv",
        "StopSignal": "SIGUSR1",
    }));
    let loaded = lab.boxwood(["load"]).stdin(image.docker_archive(&["app:1"])).output();
    loaded.exits(0).prints("Loaded image: app:1\n").quietly();
    lab
}

#[test]
fn g7_what_the_image_says_holds() {
    let lab = lab_with_app();
    let run = lab.run(["app:1"]).output().exits(0).quietly();
    run.prints("say: first second third\n1234:5678 /srv of the image b\n");
}

#[test]
fn g7_what_the_user_says_holds_instead() {
    let lab = lab_with_app();
    // Other arguments take the place of the image's command, not of its entrypoint.
    let run = lab.run(["app:1", "--own", "x"]).output().exits(0);
    run.prints("say: first --own x\n1234:5678 /srv of the image b\n");
    // Another entrypoint takes the image's command away, too.
    let run = lab.run(["--entrypoint", "/bin/say", "app:1"]).output().exits(0);
    run.prints("say: \n1234:5678 /srv of the image b\n");
    let run = lab.run(["--entrypoint=", "app:1", "/bin/busybox", "echo", "hi"]).output();
    run.exits(0).prints("hi\n");
    let run = lab.run(["-u", "0", "-w", "/etc", "-e", "A=mine", "-e", "B", "app:1"]).output();
    run.exits(0).prints("say: first second third\n0:0 /etc mine \n");
    lab.refuses(lab.run(["--entrypoint=", "app:1"]), &["no command"]);
}

#[test]
fn g7_what_is_empty_says_nothing() {
    let lab = lab_with_app();
    // As Docker has it; but an empty entrypoint is none, and no environment variable is empty.
    let run = lab.run(["-u", "", "-w", "", "-h", "", "--detach-keys", "", "app:1"]).output();
    run.exits(0).prints("say: first second third\n1234:5678 /srv of the image b\n").quietly();
    let flags = ["--entrypoint", "", "--hostname", "", "app:1", "/bin/busybox", "hostname"];
    let name = lab.run(flags).output().exits(0).word();
    assert_eq!(name.len(), 12, "{name}");
    lab.detached("web", ["-u", "1234", "-w", "/etc", "busybox", "sleep", "600"]);
    let flags = ["-u", "", "-w", "", "--detach-keys", "", "web", "sh", "-c", "id -u; pwd"];
    lab.exec(flags).output().exits(0).prints("1234\n/etc\n").quietly();
    lab.remove("web");
}

#[test]
fn g7_users_and_groups_are_looked_up_in_the_image() {
    let lab = lab_with_app();
    for (user, ids) in [
        ("web", "1234 5678 5678 77 /srv"),
        ("1234", "1234 5678 5678 77 /srv"),
        ("web:extra", "1234 77 77 /srv"),
        ("web:0", "1234 0 0 /srv"),
        ("4321", "4321 0 0 /"),
        ("4321:99", "4321 99 99 /"),
        ("0", "0 0 0 /root"),
    ] {
        let script = "/bin/busybox echo $(busybox id -u) $(busybox id -g) $(busybox id -G) $HOME";
        let run = lab.run(["--entrypoint=", "-u", user, "app:1", "/bin/sh", "-c", script]);
        run.output().exits(0).prints(format!("{ids}\n"));
    }
}

#[test]
fn g7_a_working_directory_that_is_missing_is_made() {
    let lab = Lab::new();
    lab.run(["-w", "/new/deep", "busybox", "pwd"]).output().exits(0).prints("/new/deep\n");
}

#[test]
fn g7_the_environment_is_dockers() {
    let lab = Lab::new();
    let file = lab.folder().join("env");
    // As Docker's: a byte order mark is none of the text, and a name that the caller does not have is passed over.
    let text = "\u{feff}FIRST=1\n# a comment\n\nFILE=of the file\nBOTH=file\nPASSED\nABSENT\n";
    std::fs::write(&file, text).unwrap();
    let run = lab
        .run(["--hostname", "h1", "-e", "BOTH=flag", "-e", "EMPTY=", "-e", "GONE", "--env-file"])
        .args([&file])
        .args(["busybox", "env"])
        .env("PASSED", "of the caller");
    let mut lines = run.output().exits(0).lines();
    lines.sort();
    let expected = [
        "BOTH=flag",
        "EMPTY=",
        "FILE=of the file",
        "FIRST=1",
        "HOME=/root",
        "HOSTNAME=h1",
        "PASSED=of the caller",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn g1_main_starts_with_three_descriptors_and_nothing_else() {
    let lab = Lab::new();
    for flags in [&[][..], &["-i"]] {
        let run = lab.run(flags).args(["busybox", "sh", "-c", "ls /proc/$$/fd; true"]);
        run.output().exits(0).prints("0\n1\n2\n");
    }
}

#[test]
fn g2_a_thousand_orphans_leave_no_zombie_and_do_not_blur_the_result() {
    let lab = Lab::new();
    // Each `( … & )` is a child that ends at once and leaves a grandchild to PID 1. The last of them
    // wait, so that they can all end in the same moment.
    let script = r#"
        n=0
        while [ $n -lt 1000 ]; do ( : & ); n=$((n + 1)); done
        while [ $n -lt 1060 ]; do ( sleep 600 & ); n=$((n + 1)); done
        killall -KILL sleep
        usleep 50000
        zombies=0 all=0
        for stat in /proc/[0-9]*/stat; do
            read -r line 2>/dev/null < $stat || continue
            all=$((all + 1))
            case "$line" in *") Z "*) zombies=$((zombies + 1)) ;; esac
        done
        echo "$zombies zombies"
        [ $all -gt 1 ] && exit 42"#;
    lab.sh(script).output().exits(42).prints("0 zombies\n").quietly();
}

#[test]
fn g2_orphans_that_outlive_their_parents_are_reaped_when_they_end() {
    let lab = Lab::new();
    let script = r#"
        ( sh -c 'read -r pid rest < /proc/self/stat; echo $pid > /pid; sleep 0.1' & )
        while [ ! -s /pid ]; do usleep 1000; done
        pid=$(cat /pid)
        [ -d /proc/$pid ] && echo alive
        while grep -q ') [RS]' /proc/$pid/stat 2>/dev/null; do usleep 1000; done
        usleep 50000
        [ -d /proc/$pid ] || echo reaped
        exit 5"#;
    lab.sh(script).output().exits(5).prints("alive\nreaped\n").quietly();
}

#[test]
fn g3_a_process_that_main_leaves_behind_delays_nothing() {
    let lab = Lab::new();
    for flags in [&["run", "--rm"][..], &["run", "--name", "kept"]] {
        let run = lab.boxwood(flags).args(["busybox", "sh", "-c", "sleep 600 & echo done"]);
        let run = run.output().exits(0).prints("done\n").quietly();
        assert!(run.took.as_secs() < 10, "{run:?}");
    }
    lab.remove("kept");
}

#[test]
fn g3_output_that_main_wrote_before_its_end_is_whole_though_others_hold_the_pipe() {
    let lab = Lab::new();
    let run = lab.sh("sleep 600 & head -c 200000 /dev/zero; exit 4").output().exits(4);
    assert_eq!(run.stdout.len(), 200_000);
}

#[test]
fn g7_a_detached_start_is_told_only_after_exec_succeeded() {
    let lab = Lab::new();
    let run = lab.boxwood(["run", "-d", "--name", "no", "busybox", "no-such-command"]).output();
    run.exits(127).prints("").explains(&["no-such-command"]);
    assert_eq!(lab.state("no"), "failed");
    lab.remove("no");
    let run = lab.boxwood(["run", "-d", "--rm", "busybox", "/etc/passwd"]).output();
    run.exits(126).prints("").explains(&["/etc/passwd"]);
}

#[test]
fn g8_output_is_complete_from_the_first_byte() {
    let lab = Lab::new();
    for _ in 0..5 {
        lab.run(["busybox", "echo", "first"]).output().exits(0).prints("first\n");
    }
    lab.boxwood(["run", "-d", "--name", "quick", "busybox", "echo", "first"]).output().exits(0);
    lab.boxwood(["wait", "quick"]).output().exits(0).prints("0\n");
    lab.boxwood(["logs", "quick"]).output().exits(0).prints("first\n");
    lab.remove("quick");
}

#[test]
fn g8_a_signal_that_comes_before_main_exists_reaches_it() {
    let lab = Lab::new();
    // What starts main is large: a signal that is sent meanwhile overtakes it.
    let mut start = lab.boxwood(["run", "--name", "early"]);
    for number in 0..8 {
        start = start.args(["-e", &format!("LARGE{number}={}", "x".repeat(100_000))]);
    }
    let start = start.args(["busybox", "sleep", "600"]);
    let mut run = None;
    let id = lab.appearing(|| run = Some(start.spawn()));
    // From when its shim has taken it over it can be signalled.
    let folder = boxwood_tests::Folder::watch(&lab.box_folder(&id));
    folder.until(|| (lab.state("early") != "created").then_some(()));
    lab.boxwood(["kill", "-s", "USR2", "early"]).output().exits(0);
    run.unwrap().wait().exits(140);
    lab.remove("early");
}

#[test]
fn g8_main_is_started_once() {
    let lab = Lab::new();
    lab.detached("once", ["busybox", "sh", "-c", "echo started; sleep 600"]);
    // As Docker does: there is nothing to do.
    lab.boxwood(["start", "once"]).output().exits(0).prints("once\n");
    lab.logged("once", "started");
    lab.boxwood(["logs", "once"]).output().exits(0).prints("started\n");
    lab.remove("once");
}

#[test]
fn signals_to_the_client_reach_main() {
    let lab = Lab::new();
    for (signal, name, code) in
        [(Signal::INT, "INT", 21), (Signal::TERM, "TERM", 22), (Signal::USR1, "USR1", 23)]
    {
        let script =
            format!("trap 'echo heard {name}; exit {code}' {name}; echo ready; sleep 600 & wait");
        let run = lab.sh(&script).spawn();
        drop(run.says("ready\n"));
        run.signal(signal);
        run.wait().exits(code).prints(format!("ready\nheard {name}\n"));
    }
}

#[test]
fn a_main_that_does_not_mind_a_signal_ends_by_it() {
    let lab = Lab::new();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let run = lab.sh("echo ready; exec sleep 600").spawn();
        drop(run.says("ready\n"));
        run.signal(signal);
        run.wait().exits(code).prints("ready\n");
    }
}

#[test]
fn a_main_that_ignores_a_signal_goes_on() {
    let lab = Lab::new();
    let script = "trap '' TERM; echo ready; read -r line; echo \"$line\"; exit 6";
    let mut run = lab.run(["-i", "busybox", "sh", "-c", script]).spawn();
    drop(run.says("ready\n"));
    run.signal(Signal::TERM);
    run.write("still here\n");
    run.wait().exits(6).prints("ready\nstill here\n");
}
