//! What the host's side takes: `ps` among many boxes, an idle daemon and one that is asked, the ends of boxes, a
//! health check. Each row says what it should be at most.

use std::fs;
use std::io::{Read, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use boxwood_tests::{Daemon, Lab, Running};
use rustix::process::Signal;
use serde_json::json;

use crate::table::{SAMPLE, Sample, print};

/// Boxes in the home, and those of them that run.
const BOXES: usize = 100;
const RUNNING: usize = 10;
const ROUNDS: usize = 30;
/// Boxes whose VM dies.
const DEATHS: usize = 100;
/// Boxes that are stopped at the same time.
const TOGETHER: usize = 50;
/// How long an idle daemon is looked at, and a box whose health is checked.
const WHILE: Duration = Duration::from_secs(10);

/// All of it.
pub(crate) fn measure(count: Option<usize>) {
    let rounds = count.unwrap_or(ROUNDS);
    let lab = Lab::of_installation();
    let mut rows = Vec::new();
    let mut row = |title: &str, limit: &str, sample: &Sample| {
        let mut row = vec![title.to_owned(), limit.to_owned()];
        row.extend(sample.cells());
        row.push(format!("{:.1}", sample.at(0.99)));
        rows.push(row);
    };
    row("stop of a willing main", "100", &stops(&lab, rounds));
    row("rm -f", "60", &removals(&lab, rounds));
    row("death of QEMU to its event", "20 at 99 %", &deaths(&lab, count.unwrap_or(DEATHS)));
    fill(&lab);
    row("ps, 100 boxes", "30", &listings(&lab, &["ps"], rounds));
    row("ps -a, 100 boxes", "30", &listings(&lab, &["ps", "-a"], rounds));
    let daemon = lab.daemon();
    row("GET of one box, each its connection", "2", &requests(&daemon, rounds * 10));
    row("GET of one box, one connection", "2", &kept(&daemon, rounds * 10));
    let idle = idle(&daemon);
    daemon.stop();
    lab.boxwood(["rm", "-f"]).args(lab.boxes()).output().exits(0);
    let headings: Vec<&str> =
        ["what", "limit ms"].into_iter().chain(SAMPLE).chain(["99 %"]).collect();
    print("The host's side", &headings, &rows);
    let together = together(&lab);
    let probe = probe(&lab);
    print(
        "And once",
        &["what", "limit", "figure"],
        &[
            idle.0,
            idle.1,
            vec![
                format!("{TOGETHER} attached boxes stopped by their daemon's end"),
                "3 s".to_owned(),
                format!("{:.2} s", together.as_secs_f64()),
            ],
            vec!["shim CPU per health probe".to_owned(), "100 us".to_owned(), probe],
        ],
    );
}

fn stops(lab: &Lab, rounds: usize) -> Sample {
    let mut sample = Sample::default();
    for _ in 0..rounds {
        lab.idle("web");
        sample.add(lab.boxwood(["stop", "web"]).output().exits(0).took);
        lab.remove("web");
    }
    sample
}

fn removals(lab: &Lab, rounds: usize) -> Sample {
    let mut sample = Sample::default();
    for _ in 0..rounds {
        lab.idle("web");
        sample.add(lab.boxwood(["rm", "-f", "web"]).output().exits(0).took);
    }
    sample
}

/// From a SIGKILL to the time that its event tells.
fn deaths(lab: &Lab, rounds: usize) -> Sample {
    let mut sample = Sample::default();
    let format = "{{.Actor.Attributes.name}} {{.timeNano}}";
    let events = lab.boxwood(["events", "--since", "1h", "-f", "event=die", "--format", format]);
    let events: Running = events.within(Duration::from_secs(600)).spawn();
    for round in 0..rounds {
        let name = format!("dies-{round}");
        lab.idle(&name);
        let live = lab.live(&name);
        let killed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        live.qemu.signal(Signal::KILL).expect("it runs");
        let said = events.says(&format!("{name} "));
        let line = said.lines().find(|line| line.starts_with(&*name)).unwrap_or_default();
        let at = line.rsplit(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default();
        sample.add(Duration::from_nanos(at).saturating_sub(killed));
        live.shim.is_gone_soon();
        lab.remove(&name);
    }
    events.signal(Signal::KILL);
    drop(events.wait());
    sample
}

fn fill(lab: &Lab) {
    for number in 0..BOXES {
        let name = format!("box-{number}");
        match number {
            0..RUNNING => drop(lab.idle(&name)),
            number if number % 10 == 1 => {
                lab.boxwood(["run", "--name", &name, "busybox", "true"]).output().exits(0);
            }
            _ => {
                drop(lab.boxwood(["create", "--name", &name, "busybox", "true"]).output().exits(0))
            }
        }
    }
}

fn listings(lab: &Lab, verb: &[&str], rounds: usize) -> Sample {
    let mut sample = Sample::default();
    for _ in 0..rounds {
        sample.add(lab.boxwood(verb).output().exits(0).took);
    }
    sample
}

fn requests(daemon: &Daemon, rounds: usize) -> Sample {
    let mut sample = Sample::default();
    for _ in 0..rounds {
        let began = Instant::now();
        daemon.get("/v1/boxes/box-3").is(200);
        sample.add(began.elapsed());
    }
    sample
}

fn kept(daemon: &Daemon, rounds: usize) -> Sample {
    let mut sample = Sample::default();
    let mut wire = daemon.connect();
    let mut buffer = vec![0; 64 << 10];
    for _ in 0..rounds {
        let began = Instant::now();
        let asked = b"GET /v1/boxes/box-3 HTTP/1.1\r\nHost: box\r\n\r\n";
        wire.write_all(asked).expect("the daemon listens");
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            let count = wire.read(&mut buffer).expect("the daemon answers");
            answer.extend_from_slice(&buffer[..count]);
            assert!(count > 0, "the daemon hung up");
        }
        sample.add(began.elapsed());
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
    sample
}

/// An idle daemon's wake-ups and its memory.
fn idle(daemon: &Daemon) -> (Vec<String>, Vec<String>) {
    let sum = |field: &str| -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).into_iter().flatten();
        let texts =
            tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
        let value = |text: String| {
            let line = text.lines().find_map(|line| line.strip_prefix(field).map(str::to_owned));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        };
        texts.filter_map(value).sum()
    };
    // Threads that did what blocks go when they have been idle for 10 s. The measurement is of time.
    std::thread::sleep(Duration::from_secs(12));
    let before = sum("voluntary_ctxt_switches:");
    std::thread::sleep(WHILE);
    let woken = sum("voluntary_ctxt_switches:") - before;
    let row =
        |what: &str, limit: &str, figure: String| vec![what.to_owned(), limit.to_owned(), figure];
    (
        row("idle daemon: wake-ups in 10 s", "0", woken.to_string()),
        row(
            "idle daemon: memory (RSS)",
            "30 MB",
            format!("{:.1} MB", sum("VmRSS:") as f64 / 1000.0),
        ),
    )
}

/// From a daemon's SIGTERM to its end, with boxes that live by it.
fn together(lab: &Lab) -> Duration {
    let daemon = lab.daemon();
    let mut streams = Vec::new();
    for number in 0..TOGETHER {
        let name = format!("box-{number}");
        let asked = json!({"image": "busybox", "name": name, "command": ["sh", "-c", "echo ready; exec sleep 1000"]});
        daemon.post("/v1/boxes", &asked).is(201);
        let mut stream = daemon.stream(&format!("/v1/boxes/{name}/start"));
        stream.says("ready\n");
        streams.push(stream);
    }
    let began = Instant::now();
    daemon.stop();
    let took = began.elapsed();
    drop(streams);
    let states = lab.boxwood(["ps", "-a", "--format", "{{.State}}"]).output().exits(0).lines();
    assert!(states.iter().all(|state| state == "exited"), "{states:?}");
    lab.boxwood(["rm", "-f"]).args(lab.boxes()).output().exits(0);
    took
}

/// Processor time of a shim for each sign of life that it asks for.
fn probe(lab: &Lab) -> String {
    lab.detached(
        "web",
        [
            "--health-interval",
            "20ms",
            "--health-start-interval",
            "20ms",
            "busybox",
            "sleep",
            "100000",
        ],
    );
    let live = lab.live("web");
    let look = || {
        let stat = fs::read_to_string(format!("/proc/{}/schedstat", live.shim.pid));
        let nanos = stat.unwrap_or_default().split(' ').next().and_then(|n| n.parse::<u64>().ok());
        let metrics = lab.boxwood(["metrics"]).output().exits(0).text();
        let probes =
            metrics.lines().find_map(|line| line.strip_prefix("boxwood_health_probes_total "));
        (nanos.unwrap_or_default(), probes.and_then(|n| n.parse::<u64>().ok()).unwrap_or_default())
    };
    let before = look();
    // The measurement is of this time: nothing is waited for.
    std::thread::sleep(WHILE);
    let after = look();
    lab.remove("web");
    let (nanos, probes) = (after.0 - before.0, (after.1 - before.1).max(1));
    format!("{:.1} us ({probes} probes)", nanos as f64 / probes as f64 / 1000.0)
}
