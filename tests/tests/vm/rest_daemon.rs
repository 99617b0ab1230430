//! The daemon itself: who may come in, what it costs, and what becomes of boxes when it ends. Contracts
//! H7 and H8.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use boxwood_tests::{Daemon, Folder, Invocation, Lab, Watched, workspace};
use rustix::process::Signal;
use serde_json::{Value, json};

const TOKEN: &str = "a-token-of-the-tests";

fn attached(name: &str) -> Value {
    let script = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    json!({"image": "busybox", "name": name, "command": ["sh", "-c", script]})
}

fn token(lab: &Lab) -> String {
    let path = lab.folder().join("token");
    fs::write(&path, TOKEN).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn h8_a_daemon_that_is_told_to_end_stops_what_lives_by_it_and_nothing_else() {
    let lab = Lab::new();
    lab.idle("stays");
    let daemon = lab.daemon();
    let mut streams = Vec::new();
    for name in ["one", "two", "three"] {
        daemon.post("/v1/boxes", &attached(name)).is(201);
        let mut stream = daemon.stream(&format!("/v1/boxes/{name}/start"));
        stream.says("ready\n");
        streams.push(stream);
    }
    let mut log = daemon.follow("/v1/boxes/stays/logs?follow=true");
    let began = Instant::now();
    daemon.signal(Signal::TERM);
    for mut stream in streams {
        let end = stream.ends();
        assert_eq!(end["ended"]["exit"]["code"], 3, "{end}");
        assert_eq!(stream.stdout, b"ready\nbye\n");
    }
    // Who would listen for ever is let go.
    drop(log.to_the_end());
    daemon.stopped();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(lab.state("stays"), "running");
    assert!(!lab.home().join("boxwood.sock").exists());
    for name in ["one", "two", "three"] {
        assert_eq!(lab.inspect(name, "{{.State.ExitCode}}"), "3");
        lab.remove(name);
    }
    lab.remove("stays");
}

#[test]
fn h8_a_command_that_does_not_end_is_cut_off_after_10_s() {
    let lab = Lab::new();
    lab.idle("web");
    let daemon = lab.daemon();
    let (_, mut stream) =
        daemon.exec("web", &json!({"command": ["sh", "-c", "echo a; sleep 999"]}));
    stream.says("a\n");
    let began = Instant::now();
    daemon.signal(Signal::TERM);
    while stream.frame().is_some() {}
    daemon.stopped();
    let took = began.elapsed();
    assert!(took > Duration::from_secs(9) && took < Duration::from_secs(13), "{took:?}");
    assert_eq!(lab.state("web"), "running");
    lab.remove("web");
}

#[test]
fn h7_a_killed_daemon_takes_what_lives_by_it_along_and_nothing_else() {
    let lab = Lab::new();
    lab.idle("stays");
    let daemon = lab.daemon();
    daemon.post("/v1/boxes", &attached("goes")).is(201);
    let mut stream = daemon.stream("/v1/boxes/goes/start");
    stream.says("ready\n");
    let second = lab.boxwood(["serve"]).output();
    second.refused(&["somebody listens on", "boxwood.sock"]);
    daemon.kill();
    assert_eq!(lab.boxwood(["wait", "goes"]).output().exits(0).word(), "3");
    assert_eq!(lab.state("stays"), "running");
    // What it left is taken over.
    let daemon = lab.daemon();
    assert_eq!(daemon.get("/v1/boxes/stays").is(200).json()["state"], "running");
    daemon.delete("/v1/boxes/goes").is(204);
    daemon.delete("/v1/boxes/stays?force=true").is(204);
    daemon.stop();
}

#[test]
fn h7_boxes_and_who_follows_their_logs_survive_new_daemons() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    // As an upgrade does it: another file at another place, and the old one may be gone.
    let upgraded = lab.folder().join("upgraded");
    fs::copy(lab.binary(), &upgraded).unwrap();
    let script = "n=0; while :; do echo line $n; n=$((n+1)); sleep 0.05; done";
    let mut pids = Vec::new();
    for number in 0..5 {
        let name = format!("box{number}");
        let asked = json!({
            "image": "busybox", "name": name, "command": ["sh", "-c", script], "start": true,
            "health_check_settings": {"command": "test ! -e /sick", "interval_ms": 200, "retries": 1},
        });
        daemon.post("/v1/boxes", &asked).is(201);
        let live = lab.live(&name);
        pids.push((live.shim, live.qemu));
    }
    let mut daemon = daemon;
    let mut seen = String::new();
    let mut since = String::new();
    for round in 0..3 {
        let mut log =
            daemon.follow(&format!("/v1/boxes/box0/logs?follow=true&timestamps=true{since}"));
        log.until("line ");
        // Upgraded, killed, upgraded.
        match round {
            1 => daemon.kill(),
            _ => drop(daemon.stop()),
        }
        let text = log.to_the_end();
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        let last = whole.lines().next_back().unwrap().split(' ').next().unwrap();
        seen.push_str(whole);
        // From the next piece on: a nanosecond after the last.
        since = format!("&since={}", after(last));
        daemon = match round {
            0 => Daemon::start(lab.program(&upgraded).args(["serve"])),
            _ => lab.daemon(),
        };
    }
    let numbers: Vec<usize> =
        seen.lines().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(numbers.iter().copied().eq(0..numbers.len()), "{numbers:?}");
    let listed = daemon.get("/v1/boxes").is(200).json();
    assert_eq!(listed["boxes"].as_array().unwrap().len(), 5, "{listed}");
    // Their health is looked after as before.
    let events = Folder::watch(&lab.home().join("events"));
    for health in ["unhealthy", "healthy"] {
        let verb = if health == "healthy" { "rm" } else { "touch" };
        lab.exec(["box4", verb, "/sick"]).output().exits(0);
        let is = || lab.inspect("box4", "{{.State.Health.Status}}") == health;
        events.until(|| is().then_some(()));
    }
    for (number, (shim, qemu)) in pids.iter().enumerate() {
        shim.is_alive();
        qemu.is_alive();
        assert_eq!(lab.inspect(&format!("box{number}"), "{{.RestartCount}}"), "0");
        daemon.delete(&format!("/v1/boxes/box{number}?force=true")).is(204);
    }
    daemon.stop();
}

/// A nanosecond later.
fn after(time: &str) -> String {
    let (seconds, nanoseconds) = time.trim_end_matches('Z').split_once('.').unwrap();
    let later: u64 = nanoseconds.parse::<u64>().unwrap() + 1;
    format!("{seconds}.{later:09}Z")
}

#[test]
fn over_tcp_only_who_has_the_token_is_answered() {
    let lab = Lab::new();
    let path = token(&lab);
    let daemon = lab.daemon_with(&["--tcp", "127.0.0.1:0", "--token-file", &path]);
    for headers in
        ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic YTpi\r\n", "X-Token: a\r\n"]
    {
        for line in ["GET /v1/health", "GET /nothing", "DELETE /v1/boxes/x?force=true"] {
            let answer = daemon.ask(line, headers, b"").fails(401, "unauthorized", &["token"]);
            assert!(answer.head.to_lowercase().contains("www-authenticate: bearer"), "{answer:?}");
        }
    }
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    daemon.ask("GET /v1/health", &right, b"").is(200);
    daemon.stop();
}

#[test]
fn h13_what_would_let_strangers_in_is_refused() {
    let lab = Lab::new();
    let path = token(&lab);
    let refused = |args: &[&str], words: &[&str]| {
        lab.refuses(lab.boxwood(["serve"]).args(args), words);
    };
    refused(&["--tcp", "127.0.0.1:0"], &["--token-file"]);
    refused(&["--tcp", "0.0.0.0:0", "--token-file", &path], &["TLS", "--tls-cert"]);
    refused(&["--tls-cert", "cert.pem"], &["--tls-cert and --tls-key belong together"]);
    refused(&["--tcp", "127.0.0.1:0", "--token-file", "/no/file"], &["/no/file"]);
    refused(&["--group", "no such group"], &["no group 'no such group'"]);
    refused(&["--socket", "/no/directory/s"], &["/no/directory"]);
    fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    refused(&["--tcp", "127.0.0.1:0", "--token-file", &path], &["others can use", "chmod 600"]);
    fs::write(lab.folder().join("mine"), "mine").unwrap();
    let mine = lab.folder().join("mine").to_str().unwrap().to_owned();
    refused(&["--socket", &mine], &["is no socket"]);
}

#[test]
fn tls_is_spoken_where_a_certificate_is_given() {
    let lab = Lab::new();
    let path = token(&lab);
    let (cert, key) = (lab.folder().join("cert.pem"), lab.folder().join("key.pem"));
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let made = Invocation::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext"])
        .args(["subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", key, "-out", cert])
        .output();
    made.exits(0);
    let args = ["--tcp", "0.0.0.0:0", "--token-file", &path, "--tls-cert", cert, "--tls-key", key];
    let daemon = lab.daemon_with(&args);
    let port = daemon.address().rsplit(':').next().unwrap().to_owned();
    let url = format!("https://localhost:{port}/v1/version");
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let curl = |args: &[&str]| Invocation::new("curl").args(["-sS", "--cacert", cert]).args(args);
    let answer = curl(&["-H", &bearer, &url]).output().exits(0);
    assert!(answer.text().contains("\"api\":\"v1\""), "{answer:?}");
    let answer = curl(&[&url]).output().exits(0);
    assert!(answer.text().contains("unauthorized"), "{answer:?}");
    let plain = curl(&["-H", &bearer, &url.replace("https:", "http:")]).output();
    assert!(!plain.text().contains("api"), "{plain:?}");
    // Who has no trust in it is told what to do.
    let host = url.trim_end_matches("/v1/version");
    let say =
        |host: &str| lab.boxwood(["--host", host, "version"]).env("BOXWOOD_TOKEN_FILE", &path);
    say(host).output().refused(&["no TLS", "BOXWOOD_TLS_CA", host]);
    say(host).env("BOXWOOD_TLS_CA", cert).output().exits(0);
    let other = host.replace("localhost", "127.0.0.1");
    say(&other).env("BOXWOOD_TLS_CA", cert).output().refused(&["no TLS", "for this name"]);
    say(&host.replace("https:", "http:")).output().refused(&["https://"]);
    daemon.stop();
}

#[test]
fn a_socket_that_systemd_listens_on_is_taken() {
    let lab = Lab::new();
    let socket = lab.folder().join("s");
    // What systemd does, in small: the socket is descriptor 3, and the process is told so.
    let script = "import os, socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(8)
n = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); n.bind(sys.argv[1] + '.notify')
if os.fork():
    for _ in range(2): print(n.recv(4096).decode(), flush=True)
    os.wait()
else:
    n.close(); os.dup2(s.fileno(), 3); os.set_inheritable(3, True)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', NOTIFY_SOCKET=sys.argv[1] + '.notify')
    print(os.getpid(), flush=True); os.execv(sys.argv[2], [sys.argv[2], 'serve'])
";
    let binary = lab.binary();
    let python = lab.program("python3").args(["-c", script]);
    let python = python.args([socket.as_os_str(), binary.as_os_str()]).spawn();
    let said = python.says("READY=1");
    let pid: u32 = said.lines().next().unwrap().parse().unwrap();
    let answer = Invocation::new("curl")
        .args(["-sS", "--unix-socket", socket.to_str().unwrap(), "http://box/v1/health"])
        .output();
    answer.exits(0).prints("{\"status\":\"ok\"}");
    assert!(!lab.home().join("boxwood.sock").exists());
    Watched::open(pid, "the daemon").unwrap().signal(Signal::TERM).unwrap();
    python.says("STOPPING=1");
    python.wait().exits(0);
    // It is systemd's, and stays.
    assert!(socket.exists());
}

#[test]
fn an_idle_daemon_does_nothing_and_needs_little() {
    let lab = Lab::new();
    lab.idle("web");
    let daemon = lab.daemon();
    for _ in 0..50 {
        daemon.get("/v1/boxes/web").is(200);
        daemon.get("/v1/boxes").is(200);
    }
    let status = |field: &str| -> u64 {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap() {
            let text = fs::read_to_string(task.unwrap().path().join("status")).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(field)).unwrap_or_default();
            sum += line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
        sum
    };
    let threads = || fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap().count();
    // The threads that did what blocks go after 10 s; there is no event for it to be had from here.
    let deadline = Instant::now() + Duration::from_secs(20);
    while threads() > 1 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(threads(), 1);
    let before = status("voluntary_ctxt_switches:");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(status("voluntary_ctxt_switches:"), before, "it woke up");
    let resident = status("VmRSS:");
    assert!(resident < 30_000, "{resident} KiB");
    daemon.stop();
    lab.remove("web");
}

#[test]
fn the_document_that_is_printed_is_the_one_that_is_checked_in() {
    let lab = Lab::new();
    let printed = lab.boxwood(["serve", "--openapi"]).output().exits(0).quietly();
    let path = workspace().join("docs/openapi.json");
    assert!(
        printed.text() == fs::read_to_string(path).unwrap(),
        "docs/openapi.json is not the code's"
    );
}

#[test]
fn who_connects_and_asks_for_nothing_keeps_nobody_out() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    // More than there is room for.
    let silent: Vec<_> = (0..800)
        .map(|_| std::os::unix::net::UnixStream::connect(daemon.socket()).unwrap())
        .collect();
    for _ in 0..3 {
        let began = Instant::now();
        daemon.get("/v1/version").is(200);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
    drop(silent);
    daemon.stop();
}
