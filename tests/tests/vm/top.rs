//! `top`, and what `inspect` shows of the guest's counting: what a box's guest says about it.

use std::time::{Duration, Instant};

use boxwood_tests::Lab;
use serde_json::Value;

/// What `top` shows, once every process has its arguments: Linux puts them there a moment after a program
/// has taken its process over, and shows the name in brackets meanwhile.
fn listed(lab: &Lab, name: &str) -> Vec<Value> {
    let rows = || -> Vec<Value> {
        let run = lab.boxwood(["top", "--json", name]).output().exits(0);
        run.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let bare = |row: &Value| row["Command"].as_str().is_some_and(|text| text.starts_with('['));
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let rows = rows();
        if !rows.iter().any(bare) || Instant::now() > end {
            return rows;
        }
    }
}

#[test]
fn g2_top_shows_the_processes_of_the_box_and_nothing_else() {
    let lab = Lab::new();
    lab.detached("web", ["-u", "1234", "busybox", "sleep", "100000"]);
    let before = listed(&lab, "web");
    assert_eq!(before.len(), 1, "{before:?}");
    assert_eq!(before[0]["Command"], "sleep 100000");
    assert_eq!((&before[0]["User"], &before[0]["PPID"]), (&"1234".into(), &1.into()));
    lab.exec(["-d", "-u", "0", "web", "sleep", "777"]).output().exits(0);
    let after = listed(&lab, "web");
    let own = after.iter().find(|row| row["Command"] == "sleep 777").unwrap();
    assert_eq!((own["User"].as_str(), own["TTY"].as_str()), (Some("root"), Some("?")));
    // The ids are those in the box.
    let kill = lab.exec(["-u", "0", "web", "kill", &own["PID"].to_string()]);
    kill.output().exits(0).quietly();
    listed(&lab, "web");
    let table = lab.boxwood(["top", "web"]).output().exits(0).text();
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let heading = lines.next().unwrap();
    assert_eq!(heading, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    let main = lines.find(|line| line[0] == "1234").unwrap();
    assert_eq!(main[5..], ["?", "00:00:00", "sleep", "100000"]);
    lab.remove("web");
}

#[test]
fn g2_a_process_that_lies_about_itself_is_shown_harmlessly() {
    let lab = Lab::new();
    lab.idle("web");
    let script = "exec -a \"$(printf 'a) S 1 (b\\033[2J')\" sleep 555";
    lab.exec(["-d", "web", "sh", "-c", script]).output().exits(0);
    let shown = lab.boxwood(["top", "web"]).output().exits(0);
    assert!(!shown.stdout.contains(&0x1b), "{shown:?}");
    assert!(shown.text().contains("sleep"), "{shown:?}");
    lab.remove("web");
}

#[test]
fn h13_top_of_a_box_that_does_not_run_says_so() {
    let lab = Lab::new();
    lab.idle("web");
    lab.boxwood(["pause", "web"]).output().exits(0);
    lab.boxwood(["top", "web"]).output().refused(&["is paused"]);
    lab.boxwood(["unpause", "web"]).output().exits(0);
    lab.boxwood(["stop", "-t", "0", "web"]).output().exits(0);
    lab.boxwood(["top", "web"]).output().refused(&["is exited", "only a box that runs"]);
    lab.boxwood(["top", "nobody"]).output().refused(&["nobody"]);
    lab.remove("web");
}

#[test]
fn g2_inspect_shows_how_many_orphans_were_reaped_and_sessions_begun() {
    let lab = Lab::new();
    lab.idle("web");
    let counted = || {
        let run = lab.boxwood(["inspect", "web"]).output().exits(0);
        let view: Value = serde_json::from_str(&run.text()).unwrap();
        let guest = view[0]["State"]["Guest"].clone();
        (guest["Sessions"].as_u64(), guest["OrphansReaped"].as_u64())
    };
    assert_eq!(counted(), (Some(1), Some(0)));
    // Two grandchildren that end before their session does, and become PID 1's.
    let script =
        "(sleep 0 & exit); (sleep 0 & exit); until ! pidof sleep | grep -vw \"$1\"; do :; done";
    let main = listed(&lab, "web")[0]["PID"].to_string();
    lab.exec(["web", "sh", "-c", script, "sh", &main]).output().exits(0);
    let (sessions, orphans) = counted();
    assert_eq!((sessions, orphans), (Some(2), Some(2)));
    lab.boxwood(["pause", "web"]).output().exits(0);
    assert_eq!(counted(), (None, None));
    lab.boxwood(["unpause", "web"]).output().exits(0);
    lab.remove("web");
}

#[test]
fn h13_the_options_of_ps_are_refused_with_the_command_that_takes_them() {
    let lab = Lab::new();
    lab.idle("web");
    for (options, line) in [
        (&["aux"][..], "boxwood exec web ps aux"),
        (&["-o", "pid,args"], "exec web ps -o pid,args"),
    ] {
        let top = || lab.boxwood(["top", "web"]).args(options);
        lab.refuses(top(), &["ps", line]);
        lab.refuses(lab.boxwood(["--host", "unix:///none", "top", "web"]).args(options), &[line]);
    }
    // The flags of top are none of them, wherever they stand.
    let shown = lab.boxwood(["top", "web", "--format", "{{.Command}}"]).output().exits(0);
    assert!(shown.text().contains("sleep 100000"), "{shown:?}");
    lab.remove("web");
}
