//! Contract H12: every transition of a box is an event, pushed, with no daemon.

use std::time::{Duration, Instant};

use boxwood_tests::Lab;
use rustix::process::Signal;
use serde_json::Value;

/// The actions of what happened so far, in order.
fn actions(lab: &Lab, filters: &[&str]) -> Vec<String> {
    let filters = filters.iter().flat_map(|filter| ["-f", filter]);
    let events =
        lab.boxwood(["events", "--since", "1h", "--until", "0s", "--format", "{{.Action}}"]);
    let mut heard = events.args(filters).output().exits(0).quietly().lines();
    // It may come between any two, or not at all.
    heard.retain(|action| !action.starts_with("health_status"));
    heard
}

#[test]
fn h12_each_transition_is_an_event_with_dockers_fields() {
    let lab = Lab::new();
    let run = ["run", "-d", "--name", "web", "-l", "job=7", "busybox", "sleep", "600"];
    let id = lab.boxwood(run).output().exits(0).word();
    lab.boxwood(["pause", "web"]).output().exits(0);
    lab.boxwood(["unpause", "web"]).output().exits(0);
    lab.exec(["web", "sh", "-c", "exit 4"]).output().exits(4);
    lab.boxwood(["rename", "web", "site"]).output().exits(0);
    lab.boxwood(["stop", "-t", "1", "site"]).output().exits(0);
    lab.boxwood(["start", "site"]).output().exits(0);
    lab.boxwood(["restart", "-t", "1", "site"]).output().exits(0);
    lab.boxwood(["kill", "site"]).output().exits(0);
    lab.boxwood(["rm", "site"]).output().exits(0);
    let heard = actions(&lab, &[]).join("|");
    let wanted = "create|start|pause|unpause|exec_create: sh -c exit 4|exec_start: sh -c exit 4|exec_die|\
        rename|kill|die|stop|start|kill|die|stop|start|restart|kill|die|destroy";
    assert_eq!(heard, wanted);
    let json = ["events", "--since", "1h", "--until", "0s", "--format", "json"];
    let lines = lab.boxwood(json).args(["-f", "event=die"]).output().exits(0).lines();
    let die: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((&die["Type"], &die["Action"]), (&"container".into(), &"die".into()));
    assert_eq!(die["Actor"]["ID"], *id);
    let attributes = &die["Actor"]["Attributes"];
    for (name, value) in [("name", "site"), ("image", "busybox"), ("exitCode", "143"), ("job", "7")]
    {
        assert_eq!(attributes[name], value, "{die}");
    }
    assert_eq!(die["time"], die["timeNano"].as_u64().unwrap() / 1_000_000_000);
    assert_eq!(actions(&lab, &["event=exec_die", "container=web"]).len(), 1);
    assert_eq!(actions(&lab, &["label=job=8"]), [""; 0]);
    lab.boxwood(["events", "-f", "color=red"]).output().refused(&["color"]);
    lab.boxwood(["events", "--since", "yesterday"]).output().refused(&["yesterday"]);
}

#[test]
fn h12_the_end_of_a_command_that_nobody_hears_is_an_event_too() {
    let lab = Lab::new();
    lab.detached("web", ["busybox", "sleep", "600"]);
    let follow = ["events", "-f", "event=exec_die", "--format"];
    let format = "die {{.Actor.Attributes.execID}} {{.Actor.Attributes.exitCode}}.";
    let followed = lab.boxwood(follow).args([format, "--since", "1h"]).spawn();
    // It may end before the guest hears that it is detached, or long after.
    for code in ["5", "6"] {
        let script = format!("[ {code} = 5 ] || sleep 0.2; exit {code}");
        lab.exec(["-d", "web", "sh", "-c", &script]).output().exits(0);
        followed.says(&format!(" {code}.\n"));
    }
    // One that was left by its keys, and one whose client was killed.
    let mut screen = lab.terminal(["exec", "-it", "web", "sh", "-c", "echo up; sleep 0.5; exit 7"]);
    screen.shows("up");
    screen.types("\x10\x11");
    drop(screen.wait());
    followed.says(" 7.\n");
    let client = lab.exec(["web", "sh", "-c", "echo up; sleep 600"]).spawn();
    client.says("up");
    client.signal(Signal::KILL);
    drop(client.wait());
    followed.says(" 129.\n");
    followed.signal(Signal::INT);
    let said = followed.wait();
    assert_eq!(said.lines().len(), 4, "each once: {said:?}");
    let wanted = "exec_create exec_start exec_die ".repeat(4);
    let heard = actions(&lab, &["event=exec_create", "event=exec_start", "event=exec_die"]);
    let heard: Vec<&str> =
        heard.iter().map(|action| action.split(':').next().unwrap_or_default()).collect();
    assert_eq!(heard.join(" "), wanted.trim_end());
    lab.remove("web");
}

#[test]
fn h12_a_box_that_is_removed_at_its_end_is_told_to_its_end() {
    let lab = Lab::new();
    lab.run(["--name", "brief", "busybox", "sh", "-c", "exit 3"]).output().exits(3);
    let heard = actions(&lab, &["container=brief"]);
    assert_eq!(heard.join(" "), "create attach start die destroy");
    let end = ["events", "--since", "1h", "--until", "0s", "-f", "event=die"];
    let code = lab.boxwood(end).args(["--format", "{{.Actor.Attributes.exitCode}}"]).output();
    drop(code.exits(0).prints("3\n"));
}

#[test]
fn h12_a_follower_hears_what_happens_and_goes_on() {
    let lab = Lab::new();
    let follow = lab.boxwood(["events", "--since", "1h", "--format", "{{.Action}}."]).spawn();
    let flags = ["run", "-d", "--name", "web", "--no-healthcheck", "busybox", "sleep", "600"];
    lab.boxwood(flags).output().exits(0);
    drop(follow.says("start."));
    let live = lab.live("web");
    let killed = Instant::now();
    live.qemu.kill();
    drop(follow.says("die."));
    // A generous bound: what it takes is measured elsewhere.
    assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
    lab.remove("web");
    drop(follow.says("destroy."));
    assert!(follow.stdout_so_far().starts_with(b"create.\nstart.\ndie.\n"));
}

#[test]
fn h12_a_lost_box_has_died_too() {
    let lab = Lab::new();
    lab.idle("web");
    let live = lab.live("web");
    live.shim.kill();
    live.qemu.is_gone_soon();
    lab.boxwood(["ps"]).output().exits(0);
    lab.boxwood(["ps"]).output().exits(0);
    assert_eq!(actions(&lab, &[]).join(" "), "create start die");
    lab.remove("web");
}

#[test]
fn h12_restarts_by_policy_are_told() {
    let lab = Lab::new();
    let flags = ["run", "-d", "--name", "web", "--restart", "on-failure:1", "busybox"];
    let follow = lab.boxwood(["events", "--since", "1h", "--format", "{{.Action}}"]).spawn();
    lab.boxwood(flags).args(["sh", "-c", "exit 3"]).output().exits(0);
    drop(follow.says("create\nstart\ndie\nstart\ndie\n"));
    lab.remove("web");
}
