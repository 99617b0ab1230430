//! `--host`: the verbs say and return over a daemon what they say and return here.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use boxwood_tests::archive::{Image, Layer};
use boxwood_tests::{Daemon, Invocation, Lab, StoreKind};
use rustix::process::Signal;

/// `boxwood` with a home of its own that is empty: whatever it finds, the daemon told it.
pub(crate) fn there(lab: &Lab, daemon: &Daemon, args: &[&str]) -> Invocation {
    let host = format!("unix://{}", daemon.socket().display());
    lab.boxwood(args).env("BOXWOOD_HOME", lab.folder().join("nothing")).env("BOXWOOD_HOST", host)
}

#[test]
fn verbs_say_the_same_over_a_daemon() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let script = "echo out; echo err >&2; exec sleep 1000";
    let id = there(&lab, &daemon, &["run", "-d", "--name", "web", "-l", "job=7", "busybox", "sh"])
        .args(["-c", script])
        .output()
        .exits(0)
        .quietly()
        .word();
    assert_eq!(lab.inspect("web", "{{.Id}}"), id);
    lab.logged("web", "err\n");
    // What was wanted is so.
    there(&lab, &daemon, &["start", "web"]).output().exits(0).prints("web\n");
    for args in [
        &["ps", "--format", "{{.ID}} {{.Image}} {{.Command}} {{.Names}} {{.State}} {{.Labels}}"][..],
        &["ps", "-aq", "--no-trunc"],
        &["ps", "-q", "--filter", "label=job=7", "--filter", "status=running"],
        &["ps", "-q", "--filter", "label=job=8"],
        &["inspect", "--format", "{{.Id}} {{.State.Status}} {{json .Config}}", "web"],
        &["logs", "web"],
        &["logs", "-t", "-n", "1", "web"],
        &["images", "--no-trunc"],
        &["version"],
        &["version", "--json"],
        &["events", "--since", "1h", "--until", "0s"],
        &["events", "--since", "1h", "--until", "0s", "-f", "event=start", "--format", "json"],
        &["events", "--since", "1h", "--until", "0s", "-f", "label=job=7", "-f", "container=web"],
        &["top", "--format", "{{.User}} {{.PID}} {{.TTY}} {{.Command}}", "web"],
        &["template", "ls", "--format", "{{.Key}} {{.Shape}} {{.Image}} {{.CreatedAt}} {{.Size}}"],
        &["template", "ls", "-q"],
        &["metrics"],
    ] {
        let here = lab.boxwood(args).output().exits(0);
        let there = there(&lab, &daemon, args).output().exits(0);
        assert_eq!((here.text(), here.complaint()), (there.text(), there.complaint()), "{args:?}");
    }
    let say = |args: &[&str]| there(&lab, &daemon, args).output();
    say(&["pause", "web"]).exits(0).prints("web\n");
    assert_eq!(lab.state("web"), "paused");
    say(&["unpause", "web"]).exits(0).prints("web\n");
    say(&["rename", "web", "www"]).exits(0).prints("");
    say(&["kill", "-s", "USR2", "www"]).exits(0).prints("www\n");
    say(&["wait", "www"]).exits(0).prints("140\n");
    say(&["start", "www"]).exits(0).prints("www\n");
    say(&["update", "--restart", "on-failure:3", "--no-healthcheck", "www"])
        .exits(0)
        .prints("www\n");
    assert_eq!(lab.inspect("www", "{{.HostConfig.RestartPolicy.Name}}"), "on-failure");
    say(&["restart", "-t", "0", "www"]).exits(0).prints("www\n");
    say(&["stop", "-t", "0", "www"]).exits(0).prints("www\n");
    say(&["rm", "www"]).exits(0).prints("www\n");
    say(&["rm", "www"]).refused(&["no such box: www"]);
    let removed = say(&["rm", "-f", "www"]).exits(0);
    removed.prints("").complains("boxwood: no such box: www\n");
    say(&["inspect", "www"]).exits(125).complains("boxwood: no such box: www\n");
    for verb in [&["setup"][..], &["doctor"]] {
        say(verb).refused(&["without --host"]);
    }
    // The home that it was given was never looked at.
    assert!(!lab.folder().join("nothing").exists());
    daemon.stop();
}

#[test]
fn what_boxes_do_and_take_is_asked_of_a_daemon() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let id = lab.idle("web");
    let say = |args: &[&str]| there(&lab, &daemon, args);
    let format = "{{.ID}} {{.Name}} {{.MemUsage}} {{.PIDs}}";
    for args in
        [&["stats", "--no-stream", "--format", format][..], &["stats", "--no-stream", "web"]]
    {
        let row = say(args).output().exits(0).quietly().text();
        assert!(row.contains(&id[..12]) && row.contains(" / 512MiB"), "{row}");
    }
    say(&["stats", "--no-stream", "nothing"]).output().refused(&["no such box: nothing"]);
    say(&["top", "nothing"]).output().refused(&["no such box: nothing"]);
    // First what was, then what happens.
    let format = "{{.Action}} {{.Actor.Attributes.name}}";
    let events = say(&["events", "--since", "1h", "--format", format]).spawn();
    events.says("start web\n");
    lab.boxwood(["pause", "web"]).output().exits(0);
    events.says("pause web\n");
    events.signal(Signal::KILL);
    drop(events.wait());
    lab.remove("web");
    daemon.stop();
}

#[test]
fn what_is_not_in_use_is_removed_through_a_daemon() {
    let lab = Lab::with(StoreKind::CopiedTemplates);
    let daemon = lab.daemon();
    lab.idle("web");
    lab.boxwood(["run", "--name", "old", "busybox", "true"]).output().exits(0);
    let old = lab.inspect("old", "{{.Id}}");
    let say = |args: &[&str]| there(&lab, &daemon, args).output();
    say(&["prune"]).refused(&["--force"]);
    let pruned = say(&["prune", "-f"]).exits(0).text();
    assert!(
        pruned.starts_with(&format!("Deleted box: {old}\nTotal reclaimed space: ")),
        "{pruned}"
    );
    let keys = say(&["template", "ls", "-q"]).exits(0).lines();
    assert!(!keys.is_empty());
    say(&["template", "rm", &keys[0]]).exits(0).prints(format!("{}\n", keys[0]));
    say(&["template", "rm", &keys[0]]).refused(&["no such template"]);
    let pruned = say(&["prune", "-f", "--templates"]).exits(0).text();
    assert_eq!(pruned.matches("Deleted template: ").count(), keys.len() - 1, "{pruned}");
    assert_eq!(lab.boxwood(["template", "ls", "-q"]).output().exits(0).text(), "");
    assert_eq!(lab.boxes().len(), 1);
    lab.remove("web");
    daemon.stop();
}

#[test]
fn g5_streams_and_exact_codes_come_over_a_daemon() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let say = |args: &[&str]| there(&lab, &daemon, args);
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n * 7 % 256) as u8).collect();
    let run = say(&["run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo err >&2; exit 7"]);
    let run = run.stdin(bytes.clone()).output().exits(7).complains("err\n");
    assert!(run.stdout == bytes);
    say(&["run", "--rm", "busybox", "/nothing"]).output().exits(127).explains(&["/nothing"]);
    say(&["run", "-d", "--rm", "busybox", "/nothing"]).output().exits(127).explains(&["/nothing"]);
    say(&["run", "--rm", "busybox", "sh", "-c", "kill -9 $$"]).output().exits(137);
    lab.idle("web");
    let exec = say(&["exec", "-i", "web", "sh", "-c", "cat; exit 3"]).stdin(bytes.clone());
    assert!(exec.output().exits(3).stdout == bytes);
    say(&["exec", "web", "/nothing"]).output().exits(127).explains(&["/nothing"]);
    say(&["exec", "--timeout", "200ms", "web", "sleep", "60"]).output().exits(124);
    say(&["exec", "-d", "web", "sleep", "60"]).output().exits(0).quietly();
    say(&["exec", "-d", "web", "/nothing"]).output().exits(127).explains(&["/nothing"]);
    say(&["exec", "nothing", "true"]).output().refused(&["no such box: nothing"]);
    // Signals are handed on.
    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done";
    let exec = say(&["exec", "web", "sh", "-c", script]).spawn();
    exec.says("ready");
    exec.signal(Signal::TERM);
    exec.wait().exits(9);
    let run = say(&["run", "--rm", "busybox", "sh", "-c", script]).spawn();
    run.says("ready");
    run.signal(Signal::TERM);
    run.wait().exits(9);
    // Who dies takes the box along (contract H7).
    let run = say(&["run", "--name", "goes", "busybox", "sh", "-c", script]).spawn();
    run.says("ready");
    run.signal(Signal::KILL);
    drop(run.wait());
    assert_eq!(lab.boxwood(["wait", "goes"]).output().exits(0).word(), "9");
    lab.remove("goes");
    lab.remove("web");
    daemon.stop();
}

#[test]
fn h13_a_daemon_refuses_in_the_words_of_the_verbs() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    lab.idle("web");
    lab.boxwood(["create", "--name", "idle", "busybox", "true"]).output().exits(0);
    lab.boxwood(["run", "--name", "done", "busybox", "sh", "-c", "exit 3"]).output().exits(3);
    for verb in [
        &["exec", "nothing", "true"][..],
        &["exec", "done", "true"],
        &["exec", "-d", "idle", "true"],
        &["exec", "web", "/nothing"],
        &["exec", "-d", "web", "/nothing"],
        &["exec", "-u", "nobody-such", "web", "true"],
        &["run", "--name", "web", "busybox", "true"],
        &["run", "no-such-image", "true"],
        &["run", "busybox", "/nothing"],
        &["create", "--no-healthcheck", "--health-retries", "2", "busybox"],
        &["update", "--no-healthcheck", "--health-retries", "2", "web"],
        &["kill", "-s", "NOPE", "web"],
        &["kill", "done"],
        &["rm", "web"],
        &["pause", "done"],
        &["unpause", "web"],
        &["rename", "idle", "web"],
        &["attach", "done"],
        &["logs", "nothing"],
        &["rmi", "nothing"],
        &["snapshot", "create", "done", "kept"],
        &["restore", "none"],
        &["fork", "done"],
    ] {
        let here = lab.boxwood(verb).output();
        let there = there(&lab, &daemon, verb).output();
        // Each that is run here is a box of its own.
        let text = |said: String| {
            let words = said.split(' ').map(|word| if word.len() == 13 { "ID:" } else { word });
            words.collect::<Vec<_>>().join(" ")
        };
        let words = |output: &boxwood_tests::Output| (output.code(), text(output.complaint()));
        assert_eq!(words(&there), words(&here), "{verb:?}");
        assert_ne!(here.code(), Some(0), "{here:?}");
    }
    for id in lab.boxes() {
        lab.boxwood(["rm", "-f", &id]).output().exits(0);
    }
    daemon.stop();
}

#[test]
fn a_daemon_is_asked_over_tcp_with_a_token() {
    let lab = Lab::new();
    let path = lab.folder().join("token");
    fs::write(&path, "a-token-of-the-tests").unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    let path = path.to_str().unwrap();
    let daemon = lab.daemon_with(&["--tcp", "127.0.0.1:0", "--token-file", path]);
    let host = format!("http://{}", daemon.address());
    let say = |args: &[&str]| lab.boxwood(["--host", &host]).args(args);
    say(&["version"]).output().refused(&["wants a token", "BOXWOOD_TOKEN_FILE", &host]);
    let wrong = lab.folder().join("wrong");
    fs::write(&wrong, "another-token-of-the-tests").unwrap();
    fs::set_permissions(&wrong, PermissionsExt::from_mode(0o600)).unwrap();
    let words = ["another token", wrong.to_str().unwrap(), "BOXWOOD_TOKEN_FILE"];
    say(&["version"]).env("BOXWOOD_TOKEN_FILE", &wrong).output().refused(&words);
    let run = say(&["run", "--rm", "busybox", "echo", "hello"]);
    run.env("BOXWOOD_TOKEN_FILE", path).output().exits(0).prints("hello\n");
    daemon.stop();
    say(&["ps"])
        .env("BOXWOOD_TOKEN_FILE", path)
        .output()
        .refused(&["can't reach the daemon", &host]);
    lab.boxwood(["--host", "nonsense", "ps"]).output().refused(&["'nonsense' is no host"]);
}

#[test]
fn an_archive_is_sent_to_a_daemon() {
    let lab = Lab::with(StoreKind::OwnImages);
    let daemon = lab.daemon();
    let archive = Image::of(vec![Layer::busybox().end()]).docker_archive(&["my/box:1"]);
    let load = there(&lab, &daemon, &["load"]).stdin(archive.clone()).output();
    load.exits(0).prints("Loaded image: my/box:1\n");
    let path = lab.folder().join("image.tar");
    fs::write(&path, &archive).unwrap();
    let load = there(&lab, &daemon, &["load", "-q", "-i", path.to_str().unwrap()]).output();
    let id = load.exits(0).word();
    assert!(id.starts_with("sha256:"), "{id}");
    there(&lab, &daemon, &["rmi", "my/box:1"])
        .output()
        .exits(0)
        .prints(format!("Untagged: my/box:1\nDeleted: {id}\n"));
    daemon.stop();
}

#[test]
fn a_root_file_system_is_imported_by_a_daemon() {
    let lab = Lab::with(StoreKind::OwnImages);
    let daemon = lab.daemon();
    let say = |args: &[&str]| there(&lab, &daemon, args);
    let script = b"#!/bin/sh\necho \"$1: $A $(busybox id -u) $PWD\"\n";
    let tar = Layer::busybox().file("bin/x", 0o755, script).folder("srv").end();
    let path = lab.folder().join("rootfs.tar");
    fs::write(&path, &tar).unwrap();
    let path = path.to_str().unwrap();
    let settings = [
        &["--entrypoint", "/bin/x", "--cmd", "a b&c", "-e", "A=1+1=2"][..],
        &["-e", "PATH=/bin", "-u", "web", "-w", "/srv"],
    ];
    let import =
        |from: &str, name: &str| say(&["import"]).args(settings.concat()).args([from, name]);
    let id = import(path, "from-file").output().exits(0).quietly().word();
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    import("-", "from-pipe").stdin(tar).output().exits(0);
    for name in ["from-file", "from-pipe"] {
        lab.run([name]).output().exits(0).prints("a b&c: 1+1=2 1234 /srv\n").quietly();
    }
    say(&["import", "/", "x"]).output().refused(&["directory", "tar -c"]);
    say(&["import", "-e", "A", "-", "x"]).stdin("").output().refused(&["'A'", "NAME=value"]);
    say(&["import", "-w", "srv", "-", "x"]).stdin("").output().refused(&["'srv'", "absolute"]);
    say(&["import", "-", "x"]).stdin("no archive").output().refused(&["archive"]);
    assert_eq!(say(&["images", "-q"]).output().exits(0).lines().len(), 1);
    daemon.stop();
}

#[test]
fn who_follows_something_over_a_daemon_that_ends_is_told_so_in_a_line() {
    let lab = Lab::new();
    lab.detached("web", ["busybox", "sh", "-c", "echo ready; exec sleep 1000"]);
    for ends in [Signal::KILL, Signal::TERM] {
        let daemon = lab.daemon();
        let logs = there(&lab, &daemon, &["logs", "-f", "web"]).spawn();
        logs.says("ready\n");
        let events = there(&lab, &daemon, &["events", "--since", "1h"]).spawn();
        events.says("start");
        match ends {
            Signal::TERM => drop(daemon.stop()),
            _ => daemon.kill(),
        }
        for followed in [logs, events] {
            // As with a command whose daemon is lost: it goes on, and nobody here knows how.
            let told = followed.wait().exits(255);
            assert_eq!(
                told.complaint(),
                "boxwood: the daemon ended, or the connection to it, before it had told everything\n"
            );
        }
    }
    assert_eq!(lab.state("web"), "running");
    lab.remove("web");
}
