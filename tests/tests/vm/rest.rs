//! The REST API: a box's life, images and templates, idempotency. Errors say the same as the verbs.

use std::time::{Duration, Instant};

use boxwood_tests::archive::{Image, Layer};
use boxwood_tests::{Daemon, Lab, Process, StoreKind};
use serde_json::{Value, json};

const BUSY: &str = "echo out; echo err >&2; trap 'exit 3' TERM; while :; do sleep 1; done";

fn busy(name: &str) -> Value {
    json!({"image": "busybox", "name": name, "command": ["sh", "-c", BUSY], "start": true})
}

#[test]
fn h5_a_box_lives_its_life_over_rest() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let asked = json!({
        "image": "busybox", "name": "web", "command": ["sh", "-c", BUSY], "env": ["A=1"],
        "hostname": "webhost", "labels": {"job": "7"}, "workdir": "/tmp", "memory_bytes": 134217728,
    });
    let created = daemon.post("/v1/boxes", &asked).is(201).json();
    assert_eq!(created["name"], "web");
    let id = created["id"].as_str().unwrap();
    let info = daemon.get("/v1/boxes/web").is(200).json();
    assert_eq!((&info["state"], &info["id"]), (&json!("created"), &json!(id)));
    daemon.get("/v1/boxes/web/wait").fails(409, "wrong_state", &["never started"]);
    daemon.tell("/v1/boxes/web/start").is(204);
    daemon.tell("/v1/boxes/web/start").fails(409, "wrong_state", &["running already"]);
    lab.logged("web", "out\n");
    lab.logged("web", "err\n");
    let info = daemon.get(&format!("/v1/boxes/{}", &id[..12])).is(200).json();
    assert_eq!(info["state"], "running");
    assert_eq!((&info["hostname"], &info["labels"]["job"]), (&json!("webhost"), &json!("7")));
    let inspected = daemon.get("/v1/boxes/web/inspect").is(200).json();
    let local = lab.boxwood(["inspect", "web"]).output().exits(0).text();
    assert_eq!(inspected, serde_json::from_str::<Value>(&local).unwrap()[0]);

    let logs = daemon.get("/v1/boxes/web/logs").is(200);
    assert_eq!(logs.frames(), ("out\n".to_owned(), "err\n".to_owned()));
    daemon.tell("/v1/boxes/web/pause").is(204);
    assert_eq!(lab.state("web"), "paused");
    daemon.tell("/v1/boxes/web/pause").fails(409, "wrong_state", &["paused already"]);
    daemon.tell("/v1/boxes/web/unpause").is(204);
    daemon.post("/v1/boxes/web/rename", &json!({"name": "www"})).is(204);
    daemon.get("/v1/boxes/web").fails(404, "not_found", &["no such box: web"]);
    daemon.delete("/v1/boxes/www").fails(409, "wrong_state", &["stop it first"]);
    let waited = daemon.get("/v1/boxes/www/wait?timeout_ms=10").is(200).json();
    assert_eq!(waited["exit"], Value::Null);
    daemon.post("/v1/boxes/www/stop", &json!({"timeout_ms": 60000})).is(204);
    let exit = daemon.get("/v1/boxes/www/wait").is(200).json()["exit"].clone();
    assert_eq!(
        (&exit["code"], &exit["known"], &exit["reason"]),
        (&json!(3), &json!(true), &json!("exited"))
    );
    daemon.tell("/v1/boxes/www/restart").is(204);
    daemon.post("/v1/boxes/www/kill", &json!({"signal": "HUP"})).is(204);
    assert_eq!(daemon.get("/v1/boxes/www/wait").json()["exit"]["signal"], 1);
    daemon.delete("/v1/boxes/www").is(204);
    daemon.delete("/v1/boxes/www").fails(404, "not_found", &["no such box"]);
    daemon.stop();
}

#[test]
fn boxes_are_listed_by_what_holds_for_them() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let create = |name: &str, label: &str| {
        let labels = json!({"job": label});
        let asked = json!({"image": "busybox", "name": name, "labels": labels});
        daemon.post("/v1/boxes", &asked).is(201);
    };
    create("one", "1");
    create("two", "2");
    daemon.post("/v1/boxes", &busy("three")).is(201);
    let names = |query: &str| -> Vec<String> {
        let listed = daemon.get(&format!("/v1/boxes{query}")).is(200).json();
        let boxes = listed["boxes"].as_array().unwrap().iter();
        boxes.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(""), ["three"]);
    assert_eq!(names("?all=true"), ["three", "two", "one"]);
    assert_eq!(names("?state=created"), ["two", "one"]);
    assert_eq!(names("?state=created&state=running"), ["three", "two", "one"]);
    assert_eq!(names("?all=true&label=job"), ["two", "one"]);
    assert_eq!(names("?all=true&label=job=1"), ["one"]);
    assert_eq!(names("?all=true&label=job&label=job=2"), ["two"]);
    assert_eq!(names("?all=true&name=t"), ["three", "two"]);
    assert_eq!(names("?all=true&image=busybox&name=one"), ["one"]);
    assert_eq!(names("?all=true&image=nothing"), [""; 0]);
    for name in ["one", "two", "three"] {
        daemon.delete(&format!("/v1/boxes/{name}?force=true")).is(204);
    }
    daemon.stop();
}

#[test]
fn a_request_to_create_that_is_sent_again_makes_one_box() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let headers = "Content-Type: application/json\r\nIdempotency-Key: job-7\r\n";
    let asked = busy("web").to_string();
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = || daemon.ask("POST /v1/boxes", headers, asked.as_bytes());
        let asking: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 201], "{answers:?}");
    let ids: Vec<Value> = answers.iter().map(|answer| answer.json()["id"].clone()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    // It is known to a later daemon, too.
    daemon.stop();
    let daemon = lab.daemon();
    let again = daemon.ask("POST /v1/boxes", headers, asked.as_bytes()).is(200).json();
    assert_eq!(again["id"], ids[0]);
    let other = busy("other").to_string();
    let refused = daemon.ask("POST /v1/boxes", headers, other.as_bytes());
    refused.fails(409, "key_reused", &["job-7", "another request"]);
    assert_eq!(lab.boxes().len(), 1);
    // What came of a start is told again, too.
    let headers_of_failed = "Content-Type: application/json\r\nIdempotency-Key: job-8\r\n";
    let failing = json!({"image": "busybox", "name": "failed", "command": ["nope"], "start": true});
    for _ in 0..2 {
        let asked = daemon.ask("POST /v1/boxes", headers_of_failed, failing.to_string().as_bytes());
        asked.fails(409, "not_started", &["nope"]);
    }
    daemon.delete("/v1/boxes/failed").is(204);
    // With its box the key is forgotten.
    daemon.delete("/v1/boxes/web?force=true").is(204);
    daemon.ask("POST /v1/boxes", headers, other.as_bytes()).is(201);
    daemon.delete("/v1/boxes/other?force=true").is(204);
    daemon.stop();
}

#[test]
fn a_request_to_create_that_is_sent_to_two_daemons_at_once_makes_one_box() {
    let lab = Lab::new();
    let other = lab.folder().join("other.sock");
    let daemons = [lab.daemon(), lab.daemon_with(&["--socket", other.to_str().unwrap()])];
    for number in 0..8 {
        let headers = format!("Content-Type: application/json\r\nIdempotency-Key: {number}\r\n");
        let asked = json!({"image": "busybox"}).to_string();
        let ask = &|daemon: &Daemon| daemon.ask("POST /v1/boxes", &headers, asked.as_bytes());
        let answers: Vec<_> = std::thread::scope(|scope| {
            let asking: Vec<_> =
                daemons.iter().map(|daemon| scope.spawn(move || ask(daemon))).collect();
            asking.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 201], "{answers:?}");
        let id = answers[0].json()["id"].as_str().unwrap().to_owned();
        assert_eq!(answers[1].json()["id"], id);
        lab.remove(&id);
    }
    daemons.into_iter().for_each(|daemon| drop(daemon.stop()));
}

#[test]
fn g7_a_command_that_can_t_be_started_is_told_with_its_code() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let asked = json!({"image": "busybox", "name": "web", "command": ["/nothing"], "start": true});
    let refused = daemon.post("/v1/boxes", &asked).fails(409, "not_started", &["/nothing"]);
    assert_eq!(refused.json()["error"]["exit"]["code"], 127);
    daemon.tell("/v1/boxes/web/start").fails(409, "not_started", &["/nothing"]);
    assert_eq!(daemon.get("/v1/boxes/web").json()["state"], "failed");
    daemon.delete("/v1/boxes/web").is(204);
    daemon.stop();
}

#[test]
fn h3_a_box_that_is_deleted_by_force_is_gone_with_its_processes_within_200_ms() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    daemon.post("/v1/boxes", &busy("web")).is(201);
    let live = lab.live("web");
    let began = Instant::now();
    daemon.delete("/v1/boxes/web?force=true").is(204);
    let limit = Duration::from_millis(200);
    for process in [&live.qemu, &live.shim] {
        let left = limit.saturating_sub(began.elapsed());
        assert!(process.ended_within(left), "{} lives after {limit:?}", process.name);
    }
    let took = began.elapsed();
    // Not a zombie either. The shim is init's child, which waits for it in its own time.
    let qemu = Process::get(live.qemu.pid);
    assert!(qemu.is_none(), "QEMU is still there: {qemu:?}");
    let shim = Process::get(live.shim.pid).filter(|shim| shim.parent != 1 || shim.state != 'Z');
    assert!(shim.is_none(), "the shim is still there: {shim:?}");
    assert!(took < limit, "{took:?}");
    daemon.stop();
}

#[test]
fn images_are_loaded_listed_and_removed() {
    let lab = Lab::with(StoreKind::OwnImages);
    let daemon = lab.daemon();
    let archive = Image::of(vec![Layer::busybox().end()]).docker_archive(&["my/box:1"]);
    let loaded = daemon.ask("POST /v1/images", "Content-Type: application/x-tar\r\n", &archive);
    let loaded = loaded.is(201).json();
    assert_eq!(loaded["images"][0]["names"], json!(["docker.io/my/box:1"]));
    assert_eq!(loaded["images"][0]["existed"], false);
    let again = daemon.ask("POST /v1/images", "", &archive).is(201).json();
    assert_eq!(again["images"][0]["existed"], true);
    let listed = daemon.get("/v1/images").is(200).json();
    assert_eq!(listed["images"][0]["id"], loaded["images"][0]["id"]);
    let asked = json!({"image": "my/box:1", "name": "web", "command": ["sh", "-c", "exit 4"]});
    daemon.post("/v1/boxes", &asked).is(201);
    let refused = daemon.delete("/v1/images/my%2Fbox:1");
    refused.fails(409, "conflict", &["in use by box web"]);
    daemon.delete("/v1/boxes/web").is(204);
    let removed = daemon.delete("/v1/images/my%2Fbox:1").is(200).json();
    assert_eq!(removed["untagged"], json!(["docker.io/my/box:1"]));
    assert_eq!(removed["deleted"], loaded["images"][0]["id"]);
    daemon.delete("/v1/images/my%2Fbox:1").fails(404, "not_found", &["my/box:1"]);
    // It may be called like a resource.
    let import = Image::of(vec![Layer::busybox().end()]).docker_archive(&["import"]);
    daemon.ask("POST /v1/images", "", &import).is(201);
    let removed = daemon.delete("/v1/images/import?force=false").is(200).json();
    assert_eq!(removed["untagged"], json!(["docker.io/library/import:latest"]));
    daemon.delete("/v1/images/import").fails(404, "not_found", &["import"]);
    let refused = daemon.ask("POST /v1/images", "", b"this is no archive");
    refused.fails(400, "bad_request", &["can't load the body"]);
    daemon.stop();
}

#[test]
fn templates_are_listed_and_the_daemon_says_what_it_is() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let templates = daemon.get("/v1/templates").is(200).json();
    let shapes: Vec<&Value> =
        templates["templates"].as_array().unwrap().iter().map(|one| &one["shape"]).collect();
    assert!(shapes.contains(&&json!("1cpu-512mib")), "{templates}");
    daemon.delete("/v1/templates/nothing").fails(404, "not_found", &["no such template"]);
    assert_eq!(daemon.get("/v1/health").is(200).json(), json!({"status": "ok"}));
    let version = daemon.get("/v1/version").is(200).json();
    assert_eq!((&version["api"], &version["os"]), (&json!("v1"), &json!("linux")));
    daemon.stop();
}
