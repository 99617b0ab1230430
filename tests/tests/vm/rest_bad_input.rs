//! Contract H13 over REST: bad input gets a clear answer and changes nothing, and nobody can keep others
//! from being answered.

use std::time::{Duration, Instant};

use boxwood_tests::{Lab, Tree};
use serde_json::{Value, json};

const JSON: &str = "Content-Type: application/json\r\n";

#[test]
fn h13_bad_requests_are_refused_with_one_line_and_change_nothing() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let before = Tree::of(&lab.home().join("boxes"));
    let bodies: &[(&str, &[&str])] = &[
        (r#"{"image":"busybox","immage":"x"}"#, &["unknown field `immage`"]),
        (r#"{"image":7}"#, &["expected a string"]),
        (r#"{"name":"web"}"#, &["missing field `image`"]),
        (r#"{"image":"busybox","#, &["EOF"]),
        (r#"["busybox"]"#, &["no JSON object"]),
        ("null", &["no JSON object"]),
        ("nonsense", &["no JSON object"]),
        (r#"{"image":"busybox","terminal":[24,80]}"#, &["expected a map"]),
        (r#"{"image":"busybox","cpus":1.5}"#, &["1.5"]),
        (r#"{"image":"busybox","cpus":65}"#, &["1 to 64 CPUs"]),
        (r#"{"image":"busybox","memory_bytes":1}"#, &["at least 64 MiB"]),
        (r#"{"image":"busybox","name":"../../etc/x"}"#, &["invalid box name"]),
        (r#"{"image":"busybox","name":"a/b"}"#, &["invalid box name"]),
        (r#"{"image":"busybox","hostname":"a b"}"#, &["invalid hostname"]),
        (r#"{"image":"busybox","env":["=x"]}"#, &["invalid environment variable"]),
        (r#"{"image":"busybox","workdir":"srv"}"#, &["must be an absolute path"]),
        (r#"{"image":"busybox","stop_signal":"SIGNOTHING"}"#, &["invalid signal"]),
        (r#"{"image":"busybox","command":["a\u0000b"]}"#, &["no NUL"]),
        (r#"{"image":"busybox","labels":{"boxwood.x":""}}"#, &["boxwood."]),
        (
            r#"{"image":"busybox","health_check_disabled":true,"health_check_settings":{"retries":2}}"#,
            &["disabled", "no settings"],
        ),
    ];
    for (body, words) in bodies {
        let answer = daemon.ask("POST /v1/boxes", JSON, body.as_bytes());
        answer.fails(400, "bad_request", words);
    }
    for image in ["no/such", "../x", "UPPER", ""] {
        let asked = json!({"image": image});
        daemon.post("/v1/boxes", &asked).fails(404, "not_found", &[]);
    }
    for key in ["", "a b", &"k".repeat(129)] {
        let headers = format!("{JSON}Idempotency-Key: {key}\r\n");
        let answer = daemon.ask("POST /v1/boxes", &headers, br#"{"image":"busybox"}"#);
        answer.fails(400, "bad_request", &["idempotency-key"]);
    }
    let answer = daemon.ask("POST /v1/boxes", "", br#"{"image":"busybox"}"#);
    answer.fails(415, "unsupported_media_type", &["application/json"]);
    before.is_still(&lab.home().join("boxes"));
    daemon.stop();
}

#[test]
fn h13_names_in_paths_lead_nowhere_else() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    for name in ["nothing", "..%2F..%2Fetc", "%2e%2e", ".", "a%00b", "%FF", "-rf", "web%0A", "*"] {
        for (verb, rest) in [("GET", ""), ("DELETE", "?force=true"), ("POST", "/stop")] {
            let answer = daemon.ask(&format!("{verb} /v1/boxes/{name}{rest}"), "", b"");
            assert!([400, 404].contains(&answer.status), "{answer:?}");
            let kind = answer.json()["error"]["kind"].clone();
            assert!(kind == "not_found" || kind == "bad_request", "{answer:?}");
        }
    }
    let long = format!("/v1/boxes/{}", "a".repeat(1000));
    daemon.get(&long).fails(400, "bad_request", &["can't name anything"]);
    daemon.get("/v1/nothing").fails(404, "not_found", &["/v1/nothing"]);
    daemon.get("/").fails(404, "not_found", &[]);
    daemon.ask("PUT /v1/boxes", "", b"").fails(405, "method_not_allowed", &["PUT"]);
    daemon.get("/v1/boxes?al=true").fails(400, "bad_request", &["unknown field `al`"]);
    daemon.get("/v1/boxes?all=perhaps").fails(400, "bad_request", &["query"]);
    daemon.get("/v1/boxes?state=happy").fails(400, "bad_request", &["happy"]);
    daemon.get("/v1/exec/0").fails(404, "not_found", &["no such exec"]);
    daemon.stop();
}

#[test]
fn h13_a_query_that_a_resource_does_not_know_is_refused_by_all_of_them() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let document = include_str!("../../../docs/openapi.json");
    let document: Value = serde_json::from_str(document).unwrap();
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let named: Vec<&str> =
            path.split('/').map(|part| if part.starts_with('{') { "web" } else { part }).collect();
        for method in item.as_object().unwrap().keys() {
            let line = format!("{} {}?fromage=1", method.to_uppercase(), named.join("/"));
            let answer = daemon.ask(&line, JSON, b"{}");
            answer.fails(400, "bad_request", &["unknown field `fromage`"]);
            asked += 1;
        }
    }
    assert!(asked > 40, "{asked}");
    daemon.ask("HEAD /v1/boxes?fromage=1", "", b"").is(400);
    daemon.get("/v1/health?").is(200);
    daemon.stop();
}

#[test]
fn h13_what_http_1_0_could_not_tell_from_a_part_of_it_is_refused() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    daemon.post("/v1/boxes", &json!({"image": "busybox", "name": "web"})).is(201);
    let ask = |path: &str| {
        let mut wire = daemon.connect();
        wire.write_all(format!("GET {path} HTTP/1.0\r\nHost: box\r\n\r\n").as_bytes()).unwrap();
        let mut answer = Vec::new();
        wire.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    for path in [
        "/v1/boxes/web/logs",
        "/v1/boxes/web/stats?stream=true",
        "/v1/events?until=1970-01-02T00:00:00Z",
        "/v1/snapshots/none/export",
    ] {
        let answer = ask(path);
        assert!(answer.contains(" 505 "), "{path}: {answer}");
        assert!(answer.contains("version_not_supported") && answer.contains("ask by HTTP/1.1"));
    }
    for path in ["/v1/health", "/v1/boxes/web/stats", "/metrics"] {
        assert!(ask(path).contains(" 200 "), "{path}");
    }
    daemon.delete("/v1/boxes/web").is(204);
    daemon.stop();
}

#[test]
fn h13_a_daemon_refuses_settings_that_would_not_matter() {
    let lab = Lab::new();
    let token = lab.folder().join("token");
    std::fs::write(&token, "0123456789abcdef0123").unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let token = token.to_str().unwrap();
    for (args, words) in [
        (&["--token-file", token][..], &["--token-file", "add --tcp"][..]),
        (&["--token-file", "/nowhere"], &["--token-file", "add --tcp"]),
        (&["--tls-cert", "c", "--tls-key", "k"], &["--tls-cert", "add --tcp"]),
        (
            &["--tcp", "127.0.0.1:0", "--token-file", token, "--group", "root"],
            &["--group", "--socket"],
        ),
    ] {
        let serve = lab.boxwood(["serve"]).args(args).within(Duration::from_secs(10));
        lab.refuses(serve, words);
    }
}

#[test]
fn h13_what_needs_a_stream_or_another_state_says_so() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    daemon.post("/v1/boxes", &json!({"image": "busybox", "name": "web"})).is(201);
    daemon.tell("/v1/boxes/web/attach").fails(426, "upgrade_required", &["boxwood-stream"]);
    let exec = json!({"command": ["true"]});
    daemon.post("/v1/boxes/web/exec", &exec).fails(409, "wrong_state", &["not running"]);
    daemon.tell("/v1/boxes/web/kill").fails(409, "wrong_state", &["not running"]);
    daemon.tell("/v1/boxes/web/pause").fails(409, "wrong_state", &[]);
    let taken = daemon.post("/v1/boxes", &json!({"image": "busybox", "name": "web"}));
    taken.fails(409, "conflict", &["the name 'web' is in use"]);
    let same = daemon.post("/v1/boxes/web/rename", &json!({"name": "web"}));
    same.fails(409, "conflict", &["already"]);
    for body in [json!({"command": []}), json!({"command": [""]})] {
        daemon.post("/v1/boxes/web/exec", &body).fails(400, "bad_request", &["no command"]);
    }
    let long = json!({"command": ["x".repeat(300_000)]});
    daemon.post("/v1/boxes/web/exec", &long).fails(413, "too_large", &["256 KiB"]);
    daemon.delete("/v1/boxes/web").is(204);
    daemon.delete("/v1/boxes/web").fails(404, "not_found", &[]);
    daemon.stop();
}

#[test]
fn h13_a_body_that_is_too_large_is_refused_before_it_is_kept() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let huge = vec![b' '; 64 << 20];
    let answer = daemon.ask("POST /v1/boxes", JSON, &huge);
    answer.fails(413, "too_large", &["1048576 bytes"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let peak: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(peak < 48_000, "{peak} KiB");
    daemon.stop();
}

#[test]
fn a_client_that_dawdles_is_let_go_and_keeps_nobody_waiting() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let began = Instant::now();
    let mut slow: Vec<_> = (0..100).map(|_| daemon.connect()).collect();
    for wire in &mut slow {
        wire.write_all(b"GET /v1/health HTTP/1.1\r\nHost: b").unwrap();
    }
    let mut body = daemon.connect();
    let head =
        "POST /v1/boxes HTTP/1.1\r\nHost: b\r\nContent-Type: application/json\r\nContent-Length: 9";
    body.write_all(format!("{head}\r\n\r\n{{").as_bytes()).unwrap();
    assert_eq!(daemon.get("/v1/health").is(200).json()["status"], "ok");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let mut rest = Vec::new();
    body.read_to_end(&mut rest).unwrap();
    let rest = String::from_utf8_lossy(&rest).into_owned();
    assert!(rest.contains(" 408 ") && rest.contains("request_timeout"), "{rest}");
    for wire in &mut slow {
        let mut rest = Vec::new();
        // It is hung up on, with or without an answer.
        let _ = wire.read_to_end(&mut rest);
    }
    let took = began.elapsed();
    assert!(took > Duration::from_secs(9) && took < Duration::from_secs(30), "{took:?}");
    daemon.stop();
}

#[test]
fn who_sends_what_is_no_frame_ends_only_the_own_command() {
    let lab = Lab::new();
    lab.idle("web");
    let daemon = lab.daemon();
    // A request to the shim, an unknown kind, a length above the limit.
    for (kind, payload) in [(1, &b"\"kill\""[..]), (9, b""), (3, &[b'x'; 70_000])] {
        let asked = json!({"command": ["cat"], "open_stdin": true});
        let (_, mut stream) = daemon.exec("web", &asked);
        stream.writer().send(kind, payload);
        while stream.frame().is_some() {}
        assert_eq!(lab.state("web"), "running");
    }
    daemon.delete("/v1/boxes/web?force=true").is(204);
    daemon.stop();
}
