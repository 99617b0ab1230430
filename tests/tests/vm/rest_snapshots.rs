//! Snapshots, forks and the pool over REST: what is refused changes nothing, and who goes leaves nothing
//! behind.

use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use boxwood_tests::{Lab, Tree};
use serde_json::{Value, json};

#[test]
fn h13_bad_requests_for_snapshots_and_pools_are_refused_with_one_line_and_change_nothing() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    lab.idle("web");
    lab.snapshot("web", "warm");
    let taken = json!({"name": "web"});
    daemon.post("/v1/snapshots/warm/restore", &taken).fails(409, "conflict", &["'web' is in use"]);
    let before = Tree::of(&lab.home().join("snapshots"));
    let names = lab.boxes();
    let bad: &[(&str, Value, &[&str])] = &[
        ("boxes/web/snapshot", json!({"name": "x1", "nam": "x"}), &["unknown field `nam`"]),
        ("boxes/web/snapshot", json!({}), &["missing field `name`"]),
        ("boxes/web/snapshot", json!({"name": "../x"}), &["invalid box name"]),
        ("boxes/web/snapshot", json!({"name": "x1", "disk_only": 1}), &["boolean"]),
        ("boxes/web/fork", json!({"number": 0}), &["1 to 1000"]),
        ("boxes/web/fork", json!({"number": 1001}), &["1 to 1000"]),
        ("boxes/web/fork", json!({"name": "a/b"}), &["invalid box name"]),
        ("boxes/web/fork", json!({"name": "x".repeat(127), "number": 2}), &["invalid box name"]),
        ("boxes/web/fork", json!({"image": "busybox"}), &["unknown field `image`"]),
        ("snapshots/warm/restore", json!({"nam": "x"}), &["unknown field `nam`"]),
        ("snapshots/warm/restore", json!({"env": ["=x"]}), &["invalid environment variable"]),
        ("snapshots/warm/restore", json!({"env": ["a\u{0}b"]}), &["no NUL"]),
        ("snapshots/warm/restore", json!({"labels": {"boxwood.x": ""}}), &["boxwood."]),
        ("pool", json!({"count": 1001}), &["1001 VMs are too many"]),
        ("pool", json!({"count": 1, "cpus": 65}), &["1 to 64 CPUs"]),
        ("pool", json!({"count": 0, "memory_bytes": (64 << 20) - 1}), &["at least 64 MiB"]),
        ("pool", json!({"count": -1}), &["-1"]),
        ("pool", json!({"cuont": 1}), &["unknown field `cuont`"]),
        ("pool", json!({}), &["missing field `count`"]),
    ];
    for (path, body, words) in bad {
        daemon.post(&format!("/v1/{path}"), body).fails(400, "bad_request", words);
    }
    let taken = json!({"name": "warm"});
    daemon.post("/v1/boxes/web/snapshot", &taken).fails(409, "conflict", &["named 'warm' already"]);
    let taken = json!({"name": "web"});
    daemon.post("/v1/boxes/web/fork", &taken).fails(409, "conflict", &["'web' is in use"]);
    for name in ["nothing", "..%2Fweb", "%2e%2e", "a%00b", ".new-x", "*"] {
        for (verb, rest) in [
            ("GET", ""),
            ("GET", "/export"),
            ("DELETE", ""),
            ("POST", "/verify"),
            ("POST", "/restore"),
        ] {
            let answer = daemon.ask(&format!("{verb} /v1/snapshots/{name}{rest}"), "", b"");
            assert!([400, 404].contains(&answer.status), "{answer:?}");
        }
    }
    daemon.tell("/v1/boxes/nothing/fork").fails(404, "not_found", &["no such box: nothing"]);
    let pool = json!({"count": 1, "image": "no/such"});
    daemon.post("/v1/pool", &pool).fails(404, "not_found", &["no/such"]);
    let json = "Content-Type: application/json\r\n";
    for path in ["boxes/web/snapshot", "boxes/web/fork", "snapshots/warm/restore", "pool"] {
        let huge = vec![b' '; 2 << 20];
        let answer = daemon.ask(&format!("POST /v1/{path}"), json, &huge);
        answer.fails(413, "too_large", &["1048576 bytes"]);
    }
    for body in [&b"no archive"[..], b"", &[0x28, 0xb5, 0x2f, 0xfd], &[0; 10240]] {
        let answer = daemon.ask("POST /v1/snapshots", "", body);
        answer.fails(400, "bad_request", &["this is no snapshot"]);
    }
    let answer = daemon.ask("POST /v1/snapshots?name=a/b", "", b"x");
    answer.fails(400, "bad_request", &["invalid box name"]);
    let answer = daemon.ask("POST /v1/snapshots?nam=x", "", b"x");
    answer.fails(400, "bad_request", &["unknown field `nam`"]);
    before.is_still(&lab.home().join("snapshots"));
    assert_eq!(lab.boxes(), names);
    // It is in use by the snapshot, though no box runs it.
    lab.remove("web");
    let image = daemon.delete("/v1/images/busybox");
    image.fails(409, "conflict", &["snapshot warm"]);
    daemon.delete("/v1/snapshots/warm").is(204);
    daemon.delete("/v1/snapshots/warm").fails(404, "not_found", &["no such snapshot: warm"]);
    let said = daemon.stop();
    assert!(!said.complaint().contains("breaks off"), "{}", said.complaint());
}

#[test]
fn h13_boxes_that_are_in_no_state_for_it_are_not_captured() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    lab.boxwood(["create", "--name", "web", "busybox", "true"]).output().exits(0);
    let warm = json!({"name": "warm"});
    daemon.post("/v1/boxes/web/snapshot", &warm).fails(409, "wrong_state", &["running box"]);
    daemon.tell("/v1/boxes/web/fork").fails(409, "wrong_state", &["running box"]);
    let disk = json!({"name": "disk", "disk_only": true});
    let made = daemon.post("/v1/boxes/web/snapshot", &disk).is(201).json();
    assert_eq!((&made["name"], &made["part"]), (&json!("disk"), &json!("disk")));
    assert_eq!(daemon.get("/v1/snapshots/disk").is(200).json()["source"]["name"], "web");
    // Without its memory it can't go on, and that is nobody's fault.
    daemon.tell("/v1/snapshots/disk/restore").fails(409, "conflict", &["--disk-only"]);
    let layer = lab.home().join("snapshots/disk/disk.0");
    File::options().append(true).open(layer).unwrap().write_all(b"x").unwrap();
    daemon.tell("/v1/snapshots/disk/verify").fails(409, "conflict", &["disk.0"]);
    let listed = daemon.get("/v1/snapshots").is(200).json();
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(lab.boxes().len(), 1);
    daemon.delete("/v1/snapshots/disk").is(204);
    daemon.delete("/v1/boxes/web").is(204);
    daemon.stop();
}

/// A request whose client goes as soon as this holds.
fn leave(daemon: &boxwood_tests::Daemon, request: &str, body: &str, when: impl Fn() -> bool) {
    let mut wire = daemon.connect();
    let head = format!(
        "{request} HTTP/1.1\r\nHost: box\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    wire.write_all(format!("{head}{body}").as_bytes()).unwrap();
    until(when);
}

fn until(holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < end, "it does not come to that");
    }
}

#[test]
fn a_capture_whose_client_goes_is_given_up_and_the_box_goes_on() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    lab.idle("web");
    let snapshots = lab.home().join("snapshots");
    let there = || std::fs::read_dir(&snapshots).is_ok_and(|names| names.count() > 0);
    leave(&daemon, "POST /v1/boxes/web/snapshot", r#"{"name":"warm"}"#, there);
    // What was begun goes with the client, and nobody else has to sweep it away.
    until(|| !there());
    lab.exec(["web", "echo", "here"]).output().exits(0).prints("here\n");
    assert_eq!(lab.boxwood(["snapshot", "ls", "-q"]).output().exits(0).text(), "");
    // Nor is anything of it in the way of the next one.
    lab.snapshot("web", "warm");
    lab.forget("warm");
    lab.remove("web");
    daemon.stop();
}

#[test]
fn s3_a_fork_does_not_answer_for_the_request_that_its_source_was_created_by() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let headers = "Content-Type: application/json\r\nIdempotency-Key: job-7\r\n";
    let asked = json!({
        "image": "busybox", "name": "web", "command": ["sleep", "1000"], "start": true,
    });
    let create = || daemon.ask("POST /v1/boxes", headers, asked.to_string().as_bytes());
    let first = create().is(201).json();
    daemon.post("/v1/boxes/web/fork", &json!({"name": "child"})).is(201);
    assert_eq!(create().is(200).json()["id"], first["id"]);
    daemon.delete("/v1/boxes/web?force=true").is(204);
    let again = create().is(201).json();
    assert_eq!(again["name"], "web");
    assert_eq!(lab.boxes().len(), 2);
    for name in ["web", "child"] {
        lab.remove(name);
    }
    daemon.stop();
}

#[test]
fn an_export_is_sent_as_it_is_read_and_ends_with_its_client() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let script = "head -c 50000000 /dev/urandom > /dev/shm/data; echo ready; exec sleep 1000";
    lab.detached("web", ["busybox", "sh", "-c", script]);
    lab.logged("web", "ready\n");
    lab.snapshot("web", "warm");
    let open = || {
        let files = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
        let links = files.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        links.filter(|path| path.to_string_lossy().contains("/snapshots/warm/")).count()
    };
    let mut wire = daemon.connect();
    wire.write_all(b"GET /v1/snapshots/warm/export HTTP/1.1\r\nHost: box\r\n\r\n").unwrap();
    let mut head = [0; 1024];
    wire.read_exact(&mut head).unwrap();
    assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head));
    // It is not read ahead of who takes it: 50 MB of noise are somewhere, and not there.
    until(|| open() > 0);
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let peak: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(peak < 48_000, "{peak} KiB");
    drop(wire);
    until(|| open() == 0);
    // A daemon that ends lets go of a client who takes nothing, and tells nobody that it is whole.
    let mut wire = daemon.connect();
    wire.write_all(b"GET /v1/snapshots/warm/export HTTP/1.1\r\nHost: box\r\n\r\n").unwrap();
    wire.read_exact(&mut head).unwrap();
    let mut rest = Vec::new();
    daemon.stop();
    let read: io::Result<usize> = wire.read_to_end(&mut rest);
    let whole = read.is_ok() && rest.ends_with(b"0\r\n\r\n");
    assert!(!whole, "{} bytes came", rest.len());
    lab.forget("warm");
    lab.remove("web");
}
