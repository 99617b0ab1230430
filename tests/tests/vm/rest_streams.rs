//! Streams over REST: exec, attach, start with a client, logs that go on. Contracts G4 to G6 and H7
//! hold through the daemon as they do without it.

use std::time::Duration;

use boxwood_tests::{Frame, Lab, Process, Running};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A box with a pipe, and what a command holds it by.
fn watched_box(lab: &Lab) {
    lab.idle("web");
    lab.exec(["web", "mkfifo", "/held"]).output().exits(0);
}

/// Hears when nobody holds the pipe any more.
fn held(lab: &Lab) -> Running {
    lab.exec(["web", "sh", "-c", "exec 3</held; echo open; cat <&3"]).spawn()
}

fn sh(script: &str) -> Value {
    json!({"command": ["sh", "-c", script]})
}

fn code(end: &Value) -> &Value {
    &end["session_ended"]["end"]["exited"]["status"]["code"]
}

#[test]
fn g5_bytes_go_both_ways_over_rest_and_the_end_of_input_is_a_half_close() {
    let lab = Lab::new();
    lab.idle("web");
    let daemon = lab.daemon();
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n * 7 % 256) as u8).collect();
    let script = "cat; echo end >&2; exit 7";
    let asked = json!({"command": ["sh", "-c", script], "open_stdin": true, "env": ["A=b"]});
    let (id, mut stream) = daemon.exec("web", &asked);
    // Both at once: neither side may wait for the other.
    let end = std::thread::scope(|scope| {
        let (mut writer, input) = (stream.writer(), &bytes);
        scope.spawn(move || {
            writer.stdin(input);
            writer.eof();
        });
        stream.ends()
    });
    assert_eq!(code(&end), 7, "{end}");
    assert!(stream.stdout == bytes, "{} bytes came back", stream.stdout.len());
    assert_eq!(stream.stderr, b"end\n");
    let info = daemon.get(&format!("/v1/exec/{id}")).is(200).json();
    assert_eq!((&info["state"], &info["end"]["code"]), (&json!("ended"), &json!(7)));
    daemon.tell(&format!("/v1/exec/{id}/start")).fails(409, "wrong_state", &["started before"]);
    let late = daemon.post(&format!("/v1/exec/{id}/signal"), &json!({"signal": "TERM"}));
    late.fails(409, "wrong_state", &["has ended"]);
    daemon.stop();
    lab.remove("web");
}

#[test]
fn g2_results_of_commands_are_exact_over_rest() {
    let lab = Lab::new();
    lab.idle("web");
    let daemon = lab.daemon();
    let end_of = |asked: Value| {
        let (id, mut stream) = daemon.exec("web", &asked);
        let end = stream.ends();
        (end, daemon.get(&format!("/v1/exec/{id}")).is(200).json()["end"].clone())
    };
    let (end, info) = end_of(sh("kill -9 $$"));
    assert_eq!(end["session_ended"]["end"]["exited"]["status"]["signal"], 9, "{end}");
    assert_eq!((&info["code"], &info["signal"]), (&json!(137), &json!(9)));
    let (end, info) = end_of(json!({"command": ["/nothing"]}));
    assert_eq!(end["session_ended"]["end"]["refused"]["refusal"], "NotFound", "{end}");
    assert_eq!((&info["code"], &info["reason"]), (&json!(127), &json!("refused")));
    let (end, info) = end_of(json!({"command": ["sleep", "100"], "timeout_ms": 300}));
    assert_eq!(end["session_ended"]["end"], "timed_out", "{end}");
    assert_eq!(info["code"], 124);
    daemon.stop();
    lab.remove("web");
}

#[test]
fn g6_a_client_of_rest_that_dies_ends_its_command_and_no_other() {
    let lab = Lab::new();
    watched_box(&lab);
    let daemon = lab.daemon();
    let heard = held(&lab);
    let (_, mut other) = daemon.exec("web", &sh("echo ready; sleep 600"));
    other.says("ready");
    let script = "exec 4>/held; echo ready; sleep 600 & wait";
    let (id, mut stream) = daemon.exec("web", &sh(script));
    stream.says("ready");
    assert_eq!(daemon.get(&format!("/v1/exec/{id}")).json()["state"], "running");
    drop(stream);
    heard.wait().exits(0).prints("open\n");
    lab.exec(["web", "pidof", "sleep"]).output().exits(0);
    drop(other);
    daemon.stop();
    lab.remove("web");
}

#[test]
fn g6_a_client_of_rest_that_dies_while_its_input_is_not_read_is_noticed() {
    let lab = Lab::new();
    watched_box(&lab);
    let daemon = lab.daemon();
    let heard = held(&lab);
    let asked = json!({
        "command": ["sh", "-c", "exec 4>/held; echo ready; sleep 600"], "open_stdin": true,
    });
    let (_, mut stream) = daemon.exec("web", &asked);
    stream.says("ready");
    let mut writer = stream.writer();
    // As much as is taken, and then no more.
    writer.fill();
    drop((stream, writer));
    heard.wait().exits(0).prints("open\n");
    daemon.stop();
    lab.remove("web");
}

#[test]
fn g5_a_client_that_reads_nothing_slows_its_own_command_alone() {
    let lab = Lab::new();
    lab.idle("web");
    let daemon = lab.daemon();
    let (_, mut stream) = daemon.exec("web", &json!({"command": ["yes"]}));
    stream.says("y\n");
    for _ in 0..5 {
        let (_, mut quick) = daemon.exec("web", &sh("echo quick"));
        quick.ends();
        assert_eq!(quick.stdout, b"quick\n");
    }
    let resident = resident(daemon.pid());
    assert!(resident < 40_000, "{resident} KiB");
    drop(stream);
    daemon.stop();
    lab.remove("web");
}

/// What a process holds in memory, in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn g4_commands_are_signalled_resized_released_and_detached_over_rest() {
    let lab = Lab::new();
    lab.idle("web");
    let daemon = lab.daemon();
    let script =
        "trap 'stty size' WINCH; trap 'exit 9' TERM; stty size; while :; do sleep 0.1; done";
    let asked = json!({
        "command": ["sh", "-c", script], "open_stdin": true,
        "terminal": {"rows": 24, "columns": 80},
    });
    let (id, mut stream) = daemon.exec("web", &asked);
    stream.says("24 80");
    let size = json!({"rows": 50, "columns": 132});
    daemon.post(&format!("/v1/exec/{id}/resize"), &size).is(204);
    stream.says("50 132");
    daemon.post(&format!("/v1/exec/{id}/signal"), &json!({"signal": "SIGTERM"})).is(204);
    assert_eq!(code(&stream.ends()), 9);

    // What is released goes on without its client.
    let (id, mut stream) = daemon.exec("web", &sh("echo ready; exec sleep 7777"));
    stream.says("ready");
    daemon.tell(&format!("/v1/exec/{id}/release")).is(204);
    drop(stream);
    assert_eq!(daemon.get(&format!("/v1/exec/{id}")).json()["state"], "detached");
    lab.exec(["web", "sh", "-c", "ps | grep -q '[s]leep 7777'"]).output().exits(0);
    daemon.post(&format!("/v1/exec/{id}/signal"), &json!({"signal": "KILL"})).is(204);

    let asked = json!({"command": ["sh", "-c", "sleep 8888"], "detach": true});
    let created = daemon.post("/v1/boxes/web/exec", &asked).is(201).json();
    let id = created["id"].as_str().unwrap();
    daemon.tell(&format!("/v1/exec/{id}/start")).is(204);
    lab.exec(["web", "sh", "-c", "ps | grep -q '[s]leep 8888'"]).output().exits(0);
    let asked = json!({"command": ["/nothing"], "detach": true});
    let created = daemon.post("/v1/boxes/web/exec", &asked).is(201).json();
    let start = format!("/v1/exec/{}/start", created["id"].as_str().unwrap());
    daemon.tell(&start).fails(409, "not_started", &["/nothing"]);
    daemon.stop();
    lab.remove("web");
}

#[test]
fn h7_a_box_started_with_a_client_is_stopped_when_that_dies() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let script =
        "trap 'echo bye; exit 3' TERM; read line; echo got $line; while :; do sleep 0.1; done";
    let asked = json!({
        "image": "busybox", "name": "web", "command": ["sh", "-c", script], "open_stdin": true,
    });
    daemon.post("/v1/boxes", &asked).is(201);
    let mut stream = daemon.stream("/v1/boxes/web/start");
    stream.stdin(b"hello\n");
    stream.says("got hello\n");
    // Another one may listen, and leave.
    let mut other = daemon.stream("/v1/boxes/web/attach");
    assert!(matches!(other.frame(), Some(Frame::Reply(reply)) if reply == "attached"));
    drop(other);
    assert_eq!(lab.state("web"), "running");
    drop(stream);
    let exit = daemon.get("/v1/boxes/web/wait").is(200).json()["exit"].clone();
    assert_eq!((&exit["code"], &exit["known"]), (&json!(3), &json!(true)));
    lab.logged("web", "bye\n");

    // Released, it stays.
    let mut stream = daemon.stream("/v1/boxes/web/start");
    stream.stdin(b"again\n");
    stream.says("got again\n");
    daemon.tell("/v1/boxes/web/release").is(204);
    drop(stream);
    daemon.get("/v1/health").is(200);
    let waited = daemon.get("/v1/boxes/web/wait?timeout_ms=500").is(200).json();
    assert_eq!(waited["exit"], Value::Null);
    daemon.stop();
    lab.remove("web");
}

#[test]
fn a_client_that_started_a_box_hears_its_end() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let asked = json!({
        "image": "busybox", "name": "web", "command": ["sh", "-c", "cat; exit 5"],
        "open_stdin": true, "auto_remove": true,
    });
    daemon.post("/v1/boxes", &asked).is(201);
    let mut stream = daemon.stream("/v1/boxes/web/start");
    stream.stdin(b"all of it");
    stream.eof();
    let end = stream.ends();
    assert_eq!(end["ended"]["exit"]["code"], 5, "{end}");
    assert_eq!(stream.stdout, b"all of it");
    daemon.get("/v1/boxes/web").fails(404, "not_found", &[]);
    daemon.stop();
}

#[test]
fn h11_a_log_is_followed_to_the_end_of_its_box() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let script = "echo one; read x </a; echo two; read x </b; printf three; exit 2";
    let asked = json!({
        "image": "busybox", "name": "web", "start": true,
        "command": ["sh", "-c", format!("mkfifo /a /b; {script}")],
    });
    daemon.post("/v1/boxes", &asked).is(201);
    let mut log = daemon.follow("/v1/boxes/web/logs?follow=true");
    log.until("one\n");
    lab.exec(["web", "sh", "-c", "echo >/a"]).output().exits(0);
    log.until("two\n");
    // The box may end before this has.
    drop(lab.exec(["web", "sh", "-c", "echo >/b"]).output());
    assert_eq!(log.to_the_end(), "one\ntwo\nthree");
    let (stamped, _) = daemon.get("/v1/boxes/web/logs?timestamps=true").is(200).frames();
    let times: Vec<&str> = stamped.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(times.len(), 3, "{stamped}");
    let (since, _) = daemon.get(&format!("/v1/boxes/web/logs?since={}", times[1])).frames();
    assert_eq!(since, "two\nthree");
    let (until, _) = daemon.get(&format!("/v1/boxes/web/logs?until={}", times[1])).frames();
    assert_eq!(until, "one\ntwo\n");
    daemon.delete("/v1/boxes/web").is(204);
    daemon.stop();
}

#[test]
fn h11_who_follows_the_log_of_a_box_whose_shim_is_killed_is_let_go() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    lab.detached("web", ["busybox", "sh", "-c", "echo ready; sleep 600"]);
    let mut log = daemon.follow("/v1/boxes/web/logs?follow=true");
    log.until("ready\n");
    lab.live("web").shim.signal(Signal::KILL).unwrap();
    assert_eq!(log.to_the_end(), "ready\n");
    daemon.get("/v1/boxes/web/wait").is(200);
    lab.remove("web");
    assert!(Process::get(daemon.pid()).is_some());
    daemon.stop();
}

#[test]
fn a_session_goes_when_its_box_does_and_says_so() {
    let lab = Lab::new();
    lab.idle("web");
    let daemon = lab.daemon();
    let (id, mut stream) = daemon.exec("web", &sh("echo ready; sleep 600"));
    stream.says("ready");
    daemon.delete("/v1/boxes/web?force=true").is(204);
    stream.ends();
    // Its end is written down right after it was told.
    let info = daemon.get(&format!("/v1/exec/{id}")).json();
    assert!(info["end"]["code"] == 137 || info["state"] == "running", "{info}");
    drop(lab.boxwood(["ps"]).within(Duration::from_secs(20)).output().exits(0));
    daemon.stop();
}
