//! Contract H12: what is counted about boxes is true, whoever asks and whatever became of the boxes.

use std::collections::BTreeMap;
use std::time::Duration;

use boxwood_tests::{Daemon, Lab, Running};
use rustix::process::Signal;
use serde_json::Value;

/// Every series by its name and labels.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let series = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    });
    series.collect()
}

fn metrics(lab: &Lab) -> BTreeMap<String, f64> {
    parse(&lab.boxwood(["metrics"]).output().exits(0).quietly().text())
}

/// What is counted by these names, without the prefix they have in common.
fn counts(lab: &Lab, names: &[&str]) -> Vec<u64> {
    let all = metrics(lab);
    names.iter().map(|name| all[&format!("boxwood_{name}")] as u64).collect()
}

#[test]
fn h12_what_happens_is_counted_and_outlives_its_box() {
    let lab = Lab::new();
    let names = [
        "boxes_registered_total",
        "children_reaped_total",
        "children_vanished_total",
        "restores_total",
        "execs_total",
        "restarts_total",
        "log_bytes_total",
        "stream_bytes_total{direction=\"in\"}",
        "stream_bytes_total{direction=\"out\"}",
        "start_duration_seconds_count",
        "restore_duration_seconds_count",
        "exec_duration_seconds_count",
    ];
    assert_eq!(counts(&lab, &names), [0; 12]);
    let run = lab.run(["-i", "busybox", "sh", "-c", "cat; printf '%1000s'"]).stdin([b'x'; 500]);
    assert_eq!(run.output().exits(0).stdout.len(), 1500);
    let gone = [1, 1, 0, 1, 0, 0, 1500, 500, 1500, 1, 1, 0];
    assert_eq!(counts(&lab, &names), gone);
    lab.idle("web");
    for _ in 0..3 {
        lab.exec(["web", "printf", "%100s"]).output().exits(0);
    }
    let live = [2, 1, 0, 2, 3, 0, 1500, 500, 1800, 2, 2, 3];
    assert_eq!(counts(&lab, &names), live);
    assert_eq!(counts(&lab, &["boxes{state=\"running\"}", "boxes{state=\"exited\"}"]), [1, 0]);
    // The shim is killed: what it has counted stays, and its VM's end was nobody's to see.
    let live = lab.live("web");
    live.shim.kill();
    live.qemu.is_gone_soon();
    let lost = [2, 1, 1, 2, 3, 0, 1500, 500, 1800, 2, 2, 3];
    assert_eq!(counts(&lab, &names), lost);
    assert_eq!(counts(&lab, &["boxes{state=\"running\"}", "boxes{state=\"exited\"}"]), [0, 1]);
    lab.boxwood(["start", "web"]).output().exits(0);
    lab.remove("web");
    let removed = [2, 2, 1, 3, 3, 0, 1500, 500, 1800, 3, 3, 3];
    assert_eq!(counts(&lab, &names), removed);
    lab.boxwood(["run", "--restart", "on-failure:2", "--name", "fails", "busybox", "false"])
        .output()
        .exits(1);
    lab.boxwood(["wait", "fails"]).output().exits(0);
    let ended = || lab.inspect("fails", "{{.State.Status}} {{.RestartCount}}") == "exited 2";
    let record = boxwood_tests::Folder::watch(&lab.box_folder(&lab.inspect("fails", "{{.Id}}")));
    record.until(|| ended().then_some(()));
    let restarted = counts(&lab, &["restarts_total", "restores_total", "children_reaped_total"]);
    assert_eq!(restarted, [2, 6, 5]);
    lab.remove("fails");
    let restarted = counts(&lab, &["restarts_total", "restores_total", "children_reaped_total"]);
    assert_eq!(restarted, [2, 6, 5]);
}

#[test]
fn h12_what_guests_say_is_summed_over_their_runs() {
    let lab = Lab::new();
    // They end when their parents have. What has been reaped is not in /proc any more.
    let script = "for n in 1 2 3; do (sleep 600 & echo $! >>/pids); done; kill $(cat /pids); \
        for pid in $(cat /pids); do while [ -e /proc/$pid ]; do :; done; done";
    for _ in 0..2 {
        lab.run(["busybox", "sh", "-c", script]).output().exits(0);
    }
    let [orphans, sessions] =
        counts(&lab, &["guest_orphans_reaped_total", "guest_sessions_total"])[..]
    else {
        panic!("two were asked for");
    };
    assert!(orphans >= 6, "{orphans}");
    assert!(sessions >= 2, "{sessions}");
}

#[test]
fn h12_health_changes_are_counted_by_where_they_lead() {
    let lab = Lab::new();
    let flags = ["--health-cmd", "test -e /sick && exit 1; exit 0", "--health-interval", "100ms"];
    let flags = flags.into_iter().chain(["--health-retries", "1", "--health-start-period", "1ms"]);
    lab.detached("web", flags.chain(["busybox", "sleep", "1000"]));
    let events = boxwood_tests::Folder::watch(&lab.home().join("events"));
    let becomes = |health: &str| {
        events.until(|| (lab.inspect("web", "{{.State.Health.Status}}") == health).then_some(()));
    };
    becomes("healthy");
    lab.exec(["web", "touch", "/sick"]).output().exits(0);
    becomes("unhealthy");
    lab.exec(["web", "rm", "/sick"]).output().exits(0);
    becomes("healthy");
    let names = ["health_changes_total{to=\"healthy\"}", "health_changes_total{to=\"unhealthy\"}"];
    assert_eq!(counts(&lab, &names), [2, 1]);
    assert!(counts(&lab, &["health_probes_total"])[0] >= 3);
    lab.remove("web");
}

#[test]
fn h12_counts_never_fall_while_many_boxes_come_and_go() {
    let lab = Lab::new();
    let runs: Vec<Running> = (0..6).map(|_| lab.run(["busybox", "true"]).spawn()).collect();
    let mut before: BTreeMap<String, f64> = BTreeMap::new();
    let mut look = |lab: &Lab| {
        let now = metrics(lab);
        for (name, count) in before.iter().filter(|(name, _)| name.contains("_total")) {
            assert!(now[name] >= *count, "{name} was {count} and is {}", now[name]);
        }
        before = now;
    };
    for run in runs {
        look(&lab);
        run.wait().exits(0);
    }
    look(&lab);
    let names = ["boxes_registered_total", "children_reaped_total", "restores_total"];
    assert_eq!(counts(&lab, &names), [6, 6, 6]);
}

#[test]
fn h12_a_stopped_shim_keeps_nobody_from_the_metrics() {
    let lab = Lab::new();
    lab.idle("web");
    let live = lab.live("web");
    live.shim.signal(Signal::STOP).unwrap();
    let asked = lab.boxwood(["metrics"]).within(Duration::from_secs(5)).output();
    live.shim.signal(Signal::CONT).unwrap();
    assert_eq!(parse(&asked.exits(0).text())["boxwood_restores_total"] as u64, 1);
    lab.remove("web");
}

/// The counters and histograms of the JSON, as they are in the text.
fn flat(json: &Value) -> BTreeMap<String, f64> {
    let mut flat = BTreeMap::new();
    let array = |value: &Value| value.as_array().unwrap().clone();
    for one in array(&json["counters"]).iter().chain(&array(&json["gauges"])) {
        let labels = one["labels"].as_object().unwrap();
        let labels: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let name = format!("{}{labels}", one["name"].as_str().unwrap());
        flat.insert(name, one["value"].as_f64().unwrap());
    }
    for one in array(&json["histograms"]) {
        let name = one["name"].as_str().unwrap();
        let number = |value: &Value| value.as_f64().unwrap();
        flat.insert(format!("{name}_sum"), number(&one["sum_seconds"]));
        flat.insert(format!("{name}_count"), number(&one["count"]));
        flat.insert(format!("{name}_bucket{{le=\"+Inf\"}}"), number(&one["count"]));
        for bucket in array(&one["buckets"]) {
            let bound = number(&bucket["le_seconds"]);
            flat.insert(format!("{name}_bucket{{le=\"{bound:?}\"}}"), number(&bucket["count"]));
        }
    }
    flat
}

#[test]
fn h12_a_daemon_tells_the_same_as_text_and_as_json() {
    let lab = Lab::new();
    let daemon: Daemon = lab.daemon();
    lab.idle("web");
    lab.exec(["web", "true"]).output().exits(0);
    let text = daemon.get("/metrics").is(200);
    assert!(text.head.contains("application/openmetrics-text; version=1.0.0"), "{}", text.head);
    let text = parse(&text.text());
    assert_eq!(text, metrics(&lab));
    assert_eq!(text, flat(&daemon.get("/v1/metrics").is(200).json()));
    assert_eq!(text["boxwood_execs_total"] as u64, 1);
    assert!(text["boxwood_exec_duration_seconds_sum"] > 0.0);
    lab.remove("web");
    daemon.stop();
}
