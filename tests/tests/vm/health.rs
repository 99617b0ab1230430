//! Contract H9: whether a box is well is known without anybody asking, in both directions.

use boxwood_tests::{Folder, Lab};

/// Waits until what `inspect` says about a box is this.
#[track_caller]
fn becomes(lab: &Lab, name: &str, format: &str, expected: &str) {
    let id = lab.inspect(name, "{{.Id}}");
    let folder = Folder::watch(&lab.box_folder(&id));
    folder.until(|| (lab.inspect(name, format) == expected).then_some(()));
}

const STATUS: &str = "{{.State.Health.Status}}";

#[track_caller]
fn status_line(lab: &Lab) -> String {
    lab.boxwood(["ps", "--format", "{{.Status}}"]).output().exits(0).text()
}

#[test]
fn h9_a_box_is_checked_without_being_asked_to() {
    let lab = Lab::new();
    lab.idle("web");
    assert_eq!(lab.inspect("web", STATUS), "starting");
    assert!(status_line(&lab).ends_with(" (health: starting)\n"), "{}", status_line(&lab));
    let check = "{{index .Config.Healthcheck.Test 0}} {{.Config.Healthcheck.Interval}} \
        {{.Config.Healthcheck.Timeout}} {{.Config.Healthcheck.StartPeriod}} \
        {{.Config.Healthcheck.Retries}}";
    let expected = "LIVENESS 30000000000 10000000000 60000000000 3";
    assert_eq!(lab.inspect("web", check), expected);
    // The first probe comes early: a guest that answers is well.
    becomes(&lab, "web", STATUS, "healthy");
    assert!(status_line(&lab).ends_with(" (healthy)\n"), "{}", status_line(&lab));
    lab.boxwood(["ps", "-q", "--filter", "health=unhealthy"]).output().exits(0).prints("");
    lab.remove("web");
}

/// How often a process has gone to sleep so far, and how many signs of life were asked for in its home.
fn turns(lab: &Lab, pid: u32) -> (f64, f64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let metrics = lab.boxwood(["metrics"]).output().exits(0).text();
    let number = |text: &str, name: &str| -> f64 {
        let rest = text.lines().find_map(|line| line.strip_prefix(name));
        rest.and_then(|rest| rest.trim().parse().ok()).expect(name)
    };
    (number(&status, "voluntary_ctxt_switches:"), number(&metrics, "boxwood_health_probes_total "))
}

#[test]
fn h9_a_shim_wakes_to_hear_a_sign_of_life_and_for_nothing_else() {
    let lab = Lab::new();
    let often = ["--health-interval", "20ms", "--health-start-interval", "20ms"];
    lab.detached("web", often.into_iter().chain(["busybox", "sleep", "600"]));
    becomes(&lab, "web", STATUS, "healthy");
    let shim = lab.live("web").shim.pid;
    let before = turns(&lab, shim);
    let enough = std::iter::from_fn(|| Some(turns(&lab, shim))).find(|now| now.1 > before.1 + 200.);
    let after = enough.expect("probes go on");
    let each = (after.0 - before.0) / (after.1 - before.1);
    assert!(each < 1.25, "{each} wake-ups for each probe");
    // What is not checked any more gives none either.
    lab.boxwood(["update", "--no-healthcheck", "web"]).output().exits(0);
    let before = turns(&lab, shim);
    // Long enough for many.
    drop(lab.run(["busybox", "sleep", "1"]).output().exits(0));
    let woken = turns(&lab, shim).0 - before.0;
    assert!(woken < 10., "{woken} wake-ups for nothing");
    lab.boxwood(["update", "--health-interval", "20ms", "web"]).output().exits(0);
    becomes(&lab, "web", STATUS, "healthy");
    lab.remove("web");
}

#[test]
fn h9_a_command_decides_and_health_goes_both_ways() {
    let lab = Lab::new();
    let flags =
        ["run", "-d", "--name", "web", "--health-interval", "200ms", "--health-retries", "2"];
    let check = ["--health-cmd", "echo looking; id -u; test -e /well", "busybox"];
    let main = ["sh", "-c", "touch /well; exec sleep 600"];
    lab.boxwood(flags).args(check).args(main).output().exits(0);
    becomes(&lab, "web", STATUS, "healthy");
    lab.exec(["web", "rm", "/well"]).output().exits(0);
    becomes(&lab, "web", STATUS, "unhealthy");
    let last = "{{(index .State.Health.Log 0).ExitCode}} {{(index .State.Health.Log 0).Output}}";
    becomes(
        &lab,
        "web",
        &format!("{{{{ge .State.Health.FailingStreak 5}}}} {last}"),
        "true 1 looking\n0",
    );
    assert_eq!(lab.inspect("web", "{{len .State.Health.Log}}"), "5");
    assert!(status_line(&lab).ends_with(" (unhealthy)\n"), "{}", status_line(&lab));
    lab.exec(["web", "touch", "/well"]).output().exits(0);
    becomes(&lab, "web", STATUS, "healthy");
    let events = ["events", "--since", "1h", "--until", "0s", "-f", "event=health_status"];
    let events = lab.boxwood(events).args(["--format", "{{.Action}}"]).output().exits(0);
    let heard = ["healthy", "unhealthy", "healthy"].map(|word| format!("health_status: {word}\n"));
    drop(events.prints(heard.concat()));
    lab.remove("web");
}

#[test]
fn h9_a_check_that_takes_too_long_has_failed() {
    let lab = Lab::new();
    let flags =
        ["run", "-d", "--name", "web", "--health-interval", "100ms", "--health-retries", "1"];
    let check =
        ["--health-timeout", "300ms", "--health-cmd", "sleep 60", "busybox", "sleep", "600"];
    lab.boxwood(flags).args(check).output().exits(0);
    becomes(&lab, "web", STATUS, "unhealthy");
    let last = "{{(index .State.Health.Log 0).ExitCode}} {{(index .State.Health.Log 0).Output}}";
    assert_eq!(lab.inspect("web", last), "-1 Health check exceeded timeout (300ms)");
    lab.boxwood(["update", "--no-healthcheck", "web"]).output().exits(0);
    // Its commands were killed with everything they had started, the last one a moment ago.
    let gone = "while ps | grep -q '[s]leep 60$'; do :; done";
    lab.exec(["web", "sh", "-c", gone]).output().exits(0);
    lab.remove("web");
}

#[test]
fn h9_failures_in_the_start_period_do_not_count() {
    let lab = Lab::new();
    let flags =
        ["run", "-d", "--name", "web", "--health-retries", "1", "--health-interval", "100ms"];
    let start = ["--health-start-period", "1h", "--health-start-interval", "100ms"];
    let check = ["--health-cmd", "test -e /well", "busybox", "sleep", "600"];
    lab.boxwood(flags).args(start).args(check).output().exits(0);
    becomes(&lab, "web", "{{len .State.Health.Log}}", "5");
    assert_eq!(
        lab.inspect("web", "{{.State.Health.Status}} {{.State.Health.FailingStreak}}"),
        "starting 0"
    );
    lab.exec(["web", "touch", "/well"]).output().exits(0);
    becomes(&lab, "web", STATUS, "healthy");
    lab.exec(["web", "rm", "/well"]).output().exits(0);
    becomes(&lab, "web", STATUS, "unhealthy");
    lab.remove("web");
}

#[test]
fn h9_a_box_that_stands_still_is_not_asked() {
    let lab = Lab::new();
    let flags =
        ["run", "-d", "--name", "web", "--health-interval", "100ms", "--health-retries", "1"];
    let check =
        ["--health-timeout", "200ms", "--health-start-period", "1ms", "busybox", "sleep", "600"];
    lab.boxwood(flags).args(check).output().exits(0);
    becomes(&lab, "web", STATUS, "healthy");
    lab.boxwood(["pause", "web"]).output().exits(0);
    // Long enough for many probes to have failed.
    drop(lab.run(["busybox", "sleep", "2"]).output().exits(0));
    let well = "{{.State.Health.Status}} {{.State.Health.FailingStreak}}";
    assert_eq!(lab.inspect("web", well), "healthy 0");
    lab.boxwood(["unpause", "web"]).output().exits(0);
    drop(lab.run(["busybox", "sleep", "1"]).output().exits(0));
    assert_eq!(lab.inspect("web", STATUS), "healthy");
    lab.remove("web");
}

#[test]
fn h9_a_guest_that_does_not_answer_is_unhealthy() {
    let lab = Lab::new();
    let flags =
        ["run", "-d", "--name", "web", "--health-interval", "100ms", "--health-retries", "2"];
    let times = ["--health-timeout", "300ms", "--health-start-period", "1ms", "busybox"];
    lab.boxwood(flags).args(times).args(["sleep", "600"]).output().exits(0);
    becomes(&lab, "web", STATUS, "healthy");
    let live = lab.live("web");
    live.qemu.signal(rustix::process::Signal::STOP).unwrap();
    becomes(&lab, "web", STATUS, "unhealthy");
    live.qemu.signal(rustix::process::Signal::CONT).unwrap();
    becomes(&lab, "web", STATUS, "healthy");
    lab.remove("web");
}

#[test]
fn h9_checks_are_off_by_flag() {
    let lab = Lab::new();
    for flag in ["--no-healthcheck", "--no-health-check"] {
        let flags = ["run", "-d", "--name", "web", flag, "busybox", "sleep", "600"];
        lab.boxwood(flags).output().exits(0);
        assert!(!status_line(&lab).contains("health"), "{}", status_line(&lab));
        assert_eq!(lab.inspect("web", "{{json .State.Health}}"), "null");
        assert_eq!(lab.inspect("web", "{{index .Config.Healthcheck.Test 0}}"), "NONE");
        lab.boxwood(["ps", "--filter", "health=none", "--format", "{{.Names}}"])
            .output()
            .prints("web\n");
        lab.remove("web");
    }
    let both = ["run", "--no-healthcheck", "--health-retries", "2", "busybox", "true"];
    drop(lab.refuses(lab.boxwood(both), &["--no-healthcheck conflicts with --health-*"]));
    for (flag, value, words) in [
        ("--health-interval", "-5s", "cannot be negative"),
        ("--health-interval", "5", "no duration"),
        ("--health-timeout", "10us", "cannot be less than 1ms"),
        ("--health-retries", "-1", "cannot be negative"),
    ] {
        let run = lab.boxwood(["run", flag, value, "busybox", "true"]);
        drop(lab.refuses(run, &[flag, words]));
    }
}

#[test]
fn a_box_is_changed_while_it_runs_and_while_it_does_not() {
    let lab = Lab::new();
    lab.idle("web");
    let update = ["update", "--restart", "on-failure:3", "--health-cmd", "false"];
    let more =
        ["--health-interval", "100ms", "--health-retries", "1", "--stop-timeout", "1", "web"];
    lab.boxwood(update).args(more).output().exits(0).prints("web\n");
    becomes(&lab, "web", STATUS, "unhealthy");
    let policy = "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}} \
        {{.Config.StopTimeout}}";
    assert_eq!(lab.inspect("web", policy), "on-failure 3 1");
    lab.live("web").qemu.kill();
    becomes(&lab, "web", "{{.State.Status}} {{.RestartCount}}", "running 1");
    lab.boxwood(["update", "--no-healthcheck", "web"]).output().exits(0);
    assert_eq!(lab.inspect("web", "{{json .State.Health}}"), "null");
    lab.boxwood(["update", "--health-cmd", "true", "--health-interval", "100ms", "web"])
        .output()
        .exits(0);
    becomes(&lab, "web", STATUS, "healthy");
    lab.boxwood(["stop", "web"]).output().exits(0);
    lab.boxwood(["update", "--restart", "always", "web"]).output().exits(0);
    assert_eq!(lab.inspect("web", policy), "always 0 1");
    lab.boxwood(["update", "web"]).output().refused(&["one or more flags"]);
    lab.boxwood(["update", "--restart", "x", "web"]).output().refused(&["unknown policy"]);
    lab.remove("web");
    lab.boxwood(["run", "-d", "--rm", "--name", "brief", "busybox", "sleep", "600"])
        .output()
        .exits(0);
    lab.boxwood(["update", "--restart", "always", "brief"]).output().refused(&["--rm"]);
    lab.remove("brief");
}
