//! The verbs around a box's life, and what they print.

use boxwood_tests::Lab;
use serde_json::Value;

const WAITING: [&str; 4] = ["busybox", "sh", "-c", "echo out; echo err >&2; sleep 600"];

#[test]
fn a_detached_box_prints_its_id_and_runs_on() {
    let lab = Lab::new();
    let id = lab.detached("web", WAITING);
    assert_eq!(id.len(), 64, "{id}");
    assert_eq!(lab.boxes().join(" "), id);
    assert_eq!(lab.state("web"), "running");
    let live = lab.live("web");
    live.shim.is_alive();
    live.qemu.is_alive();
    lab.remove("web");
    live.qemu.is_gone_soon();
    live.shim.is_gone_soon();
    assert_eq!(lab.boxes(), [""; 0]);
}

#[test]
fn ps_lists_running_boxes_and_with_a_all() {
    let lab = Lab::new();
    let running = lab.detached("up", WAITING);
    lab.boxwood(["run", "--name", "down", "busybox", "sh", "-c", "exit 3"]).output().exits(3);
    let rows = |args: &[&str]| lab.boxwood(args).output().exits(0).quietly().lines();
    let listed = rows(&["ps"]);
    assert_eq!(listed.len(), 2, "{listed:?}");
    for heading in ["BOX ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "NAMES"] {
        assert!(listed[0].contains(heading), "{listed:?}");
    }
    assert!(listed[1].starts_with(&running[..12]), "{listed:?}");
    assert!(listed[1].contains("busybox") && listed[1].contains("Up "), "{listed:?}");
    assert_eq!(rows(&["ps", "-q"]), [&running[..12]]);
    assert_eq!(rows(&["ps", "-q", "--no-trunc"]).join(" "), running);
    // The newest first.
    let format = "{{.Names}}: {{.State}}";
    assert_eq!(rows(&["ps", "-a", "--format", format]), ["down: exited", "up: running"]);
    let status = rows(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]);
    assert!(status[0].starts_with("down Exited (3) "), "{status:?}");
    let table = rows(&["ps", "--format", "table {{.Names}}\\t{{.Image}}"]);
    assert_eq!(table.len(), 2, "{table:?}");
    assert!(table[0].starts_with("NAMES") && table[0].ends_with("IMAGE"), "{table:?}");
    let json: Value = serde_json::from_str(&rows(&["ps", "--json"])[0]).unwrap();
    assert_eq!((&json["Names"], &json["State"]), (&Value::from("up"), &Value::from("running")));
    lab.remove("up");
    lab.remove("down");
}

#[test]
fn inspect_tells_everything_in_dockers_shape() {
    let lab = Lab::new();
    let id = lab.detached("web", ["-m", "512m", "-h", "h1", "-e", "A=1"].iter().chain(&WAITING));
    let found = lab.boxwood(["inspect", "web"]).output().exits(0).quietly();
    let view: Value = serde_json::from_slice(&found.stdout).unwrap();
    let view = &view[0];
    assert_eq!(view["Id"], *id);
    assert_eq!(view["Name"], "/web");
    assert_eq!(view["State"]["Status"], "running");
    assert_eq!(view["State"]["Running"], true);
    assert_eq!(view["Config"]["Hostname"], "h1");
    assert_eq!(view["Config"]["Cmd"], serde_json::json!(["sh", "-c", WAITING[3]]));
    assert!(view["Config"]["Env"].as_array().unwrap().contains(&"A=1".into()));
    assert_eq!(view["HostConfig"]["Memory"], 512 << 20);
    assert_eq!(view["State"]["FinishedAt"], "0001-01-01T00:00:00Z");
    let format = "{{.State.ExitCode}} {{.Config.Image}} {{json .Config.Hostname}}";
    assert_eq!(lab.inspect("web", format), "0 busybox \"h1\"");
    lab.boxwood(["stop", "-t", "0", "web"]).output().exits(0).prints("web\n");
    assert_eq!(lab.inspect("web", "{{.State.Status}} {{.State.Pid}}"), "exited 0");
    assert_ne!(lab.inspect("web", "{{.State.FinishedAt}}"), "0001-01-01T00:00:00Z");
    lab.remove("web");
}

#[test]
fn names_ids_and_their_beginnings_all_mean_the_box() {
    let lab = Lab::new();
    lab.boxwood(["run", "--name", "one", "busybox", "true"]).output().exits(0);
    let id = lab.inspect("one", "{{.Id}}");
    for text in ["one", &id, &id[..12], &id[..5]] {
        assert_eq!(lab.inspect(text, "{{.Id}}"), id);
    }
    // A box without a name of the user's has one of its own.
    lab.boxwood(["run", "busybox", "true"]).output().exits(0);
    let names = lab.boxwood(["ps", "-a", "--format", "{{.Names}}"]).output().lines();
    assert_eq!(names.len(), 2);
    assert_eq!(lab.inspect(&names[0], "{{.Name}}"), format!("/{}", names[0]));
    lab.boxwood(["rm", &names[0], &id[..12]]).output().exits(0);
    assert_eq!(lab.boxes(), [""; 0]);
}

#[test]
fn h11_logs_show_both_streams_apart_while_the_box_runs_and_after() {
    let lab = Lab::new();
    lab.detached("web", WAITING);
    lab.logged("web", "out\n");
    lab.logged("web", "err\n");
    let complete = || {
        let logs = lab.boxwood(["logs", "web"]).output().exits(0);
        logs.prints("out\n").complains("err\n")
    };
    drop(complete());
    lab.boxwood(["stop", "-t", "0", "web"]).output().exits(0);
    drop(complete());
    let stamped = lab.boxwood(["logs", "-t", "web"]).output().exits(0).text();
    let (time, text) = stamped.split_once(' ').unwrap();
    assert!(time.ends_with('Z') && time.contains('T') && text == "out\n", "{stamped:?}");
    lab.remove("web");
}

#[test]
fn h11_logs_are_bytes_and_whole() {
    let lab = Lab::new();
    let script = "head -c 3000000 /dev/urandom | tee /noise; sha256sum /noise >&2";
    let run = lab.boxwood(["run", "--name", "noise", "busybox", "sh", "-c", script]).output();
    let logs = lab.boxwood(["logs", "noise"]).output().exits(0);
    assert!(logs.stdout == run.stdout && logs.stderr == run.stderr, "{run:?}\n{logs:?}");
    let sum = boxwood_tests::archive::digest(&logs.stdout);
    assert!(logs.complaint().starts_with(sum.trim_start_matches("sha256:")), "{logs:?}");
    lab.remove("noise");
}

#[test]
fn kill_sends_a_signal_and_sigkill_by_default() {
    let lab = Lab::new();
    let script = "trap 'echo heard' USR1; echo ready; while :; do sleep 600 & wait; done";
    lab.detached("web", ["busybox", "sh", "-c", script]);
    lab.logged("web", "ready\n");
    lab.boxwood(["kill", "-s", "USR1", "web"]).output().exits(0).prints("web\n").quietly();
    lab.logged("web", "heard\n");
    assert_eq!(lab.state("web"), "running");
    let live = lab.live("web");
    lab.boxwood(["kill", "web"]).output().exits(0).prints("web\n").quietly();
    live.qemu.is_gone_soon();
    assert_eq!(lab.inspect("web", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    lab.boxwood(["kill", "web"]).output().refused(&["not running"]);
    lab.remove("web");
}

#[test]
fn wait_blocks_until_the_end_and_prints_the_code() {
    let lab = Lab::new();
    lab.detached(
        "job",
        ["busybox", "sh", "-c", "trap 'exit 9' TERM; echo ready; sleep 600 & wait"],
    );
    lab.logged("job", "ready\n");
    let waiting = lab.boxwood(["wait", "job"]).spawn();
    lab.boxwood(["kill", "-s", "TERM", "job"]).output().exits(0);
    waiting.wait().exits(0).prints("9\n").quietly();
    // Also after the end, and for several.
    lab.boxwood(["wait", "job", "job"]).output().exits(0).prints("9\n9\n");
    lab.remove("job");
}

#[test]
fn wait_hears_the_end_of_a_box_that_is_removed_with_it() {
    let lab = Lab::new();
    let run = lab.run([
        "--name",
        "gone",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 9' TERM; echo ready; sleep 600 & wait",
    ]);
    let run = run.spawn();
    drop(run.says("ready\n"));
    let waiting = lab.boxwood(["wait", "gone"]).spawn();
    // Once it listens, the shim has one more connection; a second command gives it the time.
    lab.boxwood(["ps"]).output().exits(0);
    lab.boxwood(["kill", "-s", "TERM", "gone"]).output().exits(0);
    run.wait().exits(9);
    let waited = waiting.wait();
    // It heard the end, or it came when the box was gone already.
    let heard = waited.code() == Some(0) && waited.text() == "9\n";
    let late = waited.complaint().contains("no such box");
    assert!(heard || late, "{waited:?}");
}

#[test]
fn rm_refuses_a_running_box_and_rm_f_does_not() {
    let lab = Lab::new();
    lab.detached("web", WAITING);
    let refused = lab.boxwood(["rm", "web"]).output();
    refused.refused(&["running", "rm -f"]);
    let live = lab.live("web");
    lab.boxwood(["rm", "-f", "web"]).output().exits(0).prints("web\n").quietly();
    live.qemu.is_gone_soon();
    assert_eq!(lab.boxes(), [""; 0]);
}

#[test]
fn rm_does_what_it_can_and_tells_what_it_cannot() {
    let lab = Lab::new();
    lab.boxwood(["run", "--name", "there", "busybox", "true"]).output().exits(0);
    let removed = lab.boxwood(["rm", "absent", "there"]).output();
    removed.exits(125).prints("there\n").explains(&["absent"]);
    assert_eq!(lab.boxes(), [""; 0]);
}

#[test]
fn a_detached_box_with_rm_is_gone_after_its_end() {
    let lab = Lab::new();
    lab.boxwood(["run", "-d", "--rm", "--name", "brief", "busybox", "sleep", "600"])
        .output()
        .exits(0);
    let live = lab.live("brief");
    lab.boxwood(["stop", "-t", "0", "brief"]).output().exits(0);
    live.shim.is_gone_soon();
    assert_eq!(lab.boxes(), [""; 0]);
    lab.is_clean();
}

#[test]
fn h7_a_detached_box_survives_its_client_and_later_ones() {
    let lab = Lab::new();
    // In a group of its own, so that the whole job of the client can be killed.
    let run = lab.boxwood(["run", "-d", "--name", "web"]).args(WAITING).own_group();
    run.output().exits(0);
    let live = lab.live("web");
    for verb in [&["ps"][..], &["logs", "web"], &["inspect", "web"]] {
        lab.boxwood(verb).output().exits(0);
        live.qemu.is_alive();
    }
    lab.remove("web");
}

#[test]
fn h7_an_upgrade_of_the_binary_disturbs_no_running_box() {
    let lab = Lab::new();
    let copy = lab.folder().join("boxwood");
    std::fs::copy(lab.binary(), &copy).unwrap();
    // The guest lies beside the binary, or the test says where.
    let guest =
        lab.binary().parent().unwrap().join("../x86_64-unknown-linux-gnu/release/boxwood-guest");
    let start = lab.program(&copy).args(["run", "-d", "--name", "web"]).args(WAITING);
    start.env("BOXWOOD_GUEST", guest).output().exits(0);
    std::fs::remove_file(&copy).unwrap();
    std::fs::copy(lab.binary(), &copy).unwrap();
    let live = lab.live("web");
    live.qemu.is_alive();
    lab.program(&copy).args(["kill", "-s", "CONT", "web"]).output().exits(0);
    lab.program(&copy).args(["stop", "-t", "0", "web"]).output().exits(0);
    live.shim.is_gone_soon();
    lab.remove("web");
}

#[test]
fn a_box_has_the_shape_it_was_asked_for() {
    let lab = Lab::new();
    let memory = "read -r _ kib _ < /proc/meminfo; echo $((kib / 1024))";
    for (flag, least, most) in [("64m", 20, 64), ("256m", 180, 256), ("512m", 420, 512)] {
        let run = lab.run(["-m", flag, "busybox", "sh", "-c", memory]).output().exits(0);
        let mib: u64 = run.word().parse().unwrap();
        assert!((least..=most).contains(&mib), "{flag}: {mib} MiB");
    }
    lab.run(["--cpus", "2", "busybox", "nproc"]).output().exits(0).prints("2\n");
    lab.run(["busybox", "nproc"]).output().exits(0).prints("1\n");
}

#[test]
fn two_cpus_work_at_the_same_time() {
    let lab = Lab::new();
    let script =
        "for n in 1 2 3 4; do (head -c 20000000 /dev/zero | sha256sum) & done; wait; exit 8";
    let run = lab.run(["--cpus", "2", "busybox", "sh", "-c", script]).output().exits(8);
    let lines = run.lines();
    assert!(lines.len() == 4 && lines.iter().all(|line| *line == lines[0]), "{run:?}");
}

#[test]
fn version_and_completion_need_no_home() {
    let lab = Lab::new();
    let home = lab.folder().join("untouched");
    let version = lab.boxwood(["version"]).env("BOXWOOD_HOME", &home).output().exits(0);
    assert!(version.quietly().text().starts_with("boxwood "));
    lab.boxwood(["--version"]).env("BOXWOOD_HOME", &home).output().exits(0);
    let shell = lab.boxwood(["completion", "bash"]).env("BOXWOOD_HOME", &home).output();
    assert!(shell.exits(0).text().contains("complete"));
    assert!(!home.exists());
}

#[test]
fn doctor_says_that_boxes_can_run_here() {
    let lab = Lab::new();
    let doctor = lab.boxwood(["doctor"]).output().exits(0);
    for word in ["accelerator", "qemu", "kernel", "template"] {
        assert!(doctor.text().contains(word), "no word of {word}\n{doctor:?}");
    }
    let json = lab.boxwood(["doctor", "--json"]).output().exits(0);
    assert!(serde_json::from_slice::<Value>(&json.stdout).is_ok(), "{json:?}");
}

#[test]
fn relative_places_mean_the_same_to_every_process_of_a_box() {
    let lab = Lab::new();
    let script = r#"cd "$BOXWOOD_STORE"; BOXWOOD_STORE=. exec "$0" run --rm busybox echo here"#;
    let run = lab.program("sh").args(["-c", script]).args([lab.binary()]);
    run.output().exits(0).prints("here\n").quietly();
    let script = r#"cd "$BOXWOOD_HOME/.."; BOXWOOD_HOME=home exec "$0" run --rm busybox echo here"#;
    let run = lab.program("sh").args(["-c", script]).args([lab.binary()]);
    run.output().exits(0).prints("here\n").quietly();
}
