//! Contract G10 and S4: every box is itself, though all come from one frozen template.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use boxwood_tests::{Lab, Running};

const IDENTITY: &str = "hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id; \
    head -c 16 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/uuid; mktemp -u XXXXXXXXXX";

#[test]
fn g10_two_boxes_of_one_template_differ_in_everything_that_must() {
    let lab = Lab::new();
    let run = || lab.sh(IDENTITY).output().exits(0).quietly().lines();
    let (one, two) = (run(), run());
    assert_eq!((one.len(), two.len()), (6, 6), "{one:?} {two:?}");
    for (one, two) in one.iter().zip(&two) {
        assert_ne!(one, two);
    }
}

#[test]
fn s4_boxes_started_at_once_differ_in_everything_that_must() {
    let lab = Lab::new();
    let running: Vec<Running> = (0..6).map(|_| lab.sh(IDENTITY).spawn()).collect();
    let all: Vec<Vec<String>> =
        running.into_iter().map(|run| run.wait().exits(0).lines()).collect();
    for at in 0..6 {
        let different: BTreeSet<&str> = all.iter().map(|lines| &*lines[at]).collect();
        assert_eq!(different.len(), all.len(), "{all:?}");
    }
}

#[test]
fn g10_the_parts_of_an_identity_agree_with_each_other() {
    let lab = Lab::new();
    let script = "cat /etc/hostname; uname -n; echo $HOSTNAME; grep -c \"$(hostname)\" /etc/hosts; \
        sysctl -n kernel.hostname";
    lab.run(["-h", "own.name", "busybox", "sh", "-c", script])
        .output()
        .exits(0)
        .prints("own.name\nown.name\nown.name\n1\nown.name\n");
    let lines = lab.sh("cat /etc/machine-id /proc/sys/kernel/random/boot_id").output().lines();
    assert!(lines[0].len() == 32 && lines[0].bytes().all(|b| b.is_ascii_hexdigit()), "{lines:?}");
    assert!(lines[1].len() == 36 && lines[1].as_bytes()[14] == b'4', "{lines:?}");
}

#[test]
fn g10_an_identity_is_new_at_each_start_and_the_name_stays() {
    let lab = Lab::new();
    let script =
        "cat /etc/machine-id /proc/sys/kernel/random/boot_id; hostname; echo x > /etc/machine-id";
    let first =
        lab.boxwood(["run", "--name", "web", "busybox", "sh", "-c", script]).output().exits(0);
    let second = lab.boxwood(["start", "-a", "web"]).output().exits(0);
    let (first, second) = (first.lines(), second.lines());
    assert_ne!(first[0], second[0]);
    assert_ne!(second[0], "x");
    assert_ne!(first[1], second[1]);
    assert_eq!(first[2], second[2]);
    lab.remove("web");
}

/// A box that tells its time whenever it is asked.
struct Clock {
    run: Running,
    asked: usize,
}

impl Clock {
    const SCRIPT: &str = "n=0; while read -r _; do adjtimex; n=$((n + 1)); echo \"told $n.\"; done";

    fn start(lab: &Lab) -> Clock {
        let command = ["-i", "--name", "clock", "busybox", "sh", "-c", Clock::SCRIPT];
        let mut clock = Clock { run: lab.run(command).spawn(), asked: 0 };
        // The first answer pays for code the emulator has not met yet.
        clock.ask();
        clock
    }

    /// It is right.
    #[track_caller]
    fn is_right(&mut self) -> f64 {
        let (time, off) = self.ask();
        assert!(off < 0.05, "the box says {time:.3}, which is off by {off:.3} s");
        time
    }

    /// The box's time, and by how much it lies outside of what the host's clock said before and
    /// after, in seconds.
    fn ask(&mut self) -> (f64, f64) {
        self.asked += 1;
        let before = now();
        self.run.write("\n");
        let text = self.run.says(&format!("told {}.", self.asked));
        let after = now();
        let number = |name: &str| -> f64 {
            let line = text.lines().rev().find(|line| line.contains(name)).unwrap();
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        let time = number("time.tv_sec") + number("time.tv_usec") / 1e6;
        (time, (before - time).max(time - after).max(0.0))
    }

    fn stop(mut self) {
        self.run.close_stdin();
        self.run.wait().exits(0);
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[test]
fn g10_the_clock_is_the_hosts_within_50_ms() {
    let lab = Lab::new();
    let mut clock = Clock::start(&lab);
    clock.is_right();
    clock.stop();
}

#[test]
fn g10_the_clock_keeps_the_hosts_pace() {
    let lab = Lab::new();
    let mut clock = Clock::start(&lab);
    // Something else takes a while, and keeps the host busy.
    for _ in 0..4 {
        lab.run(["busybox", "true"]).output().exits(0);
    }
    clock.is_right();
    clock.stop();
}

#[test]
fn g10_the_clock_of_a_box_that_stood_still_is_put_right() {
    let lab = Lab::new();
    let mut clock = Clock::start(&lab);
    let before = clock.is_right();
    lab.boxwood(["pause", "clock"]).output().exits(0);
    // It takes a while.
    for _ in 0..4 {
        lab.run(["busybox", "true"]).output().exits(0);
    }
    lab.boxwood(["unpause", "clock"]).output().exits(0);
    let after = clock.is_right();
    assert!(after - before > 0.2, "what took {:.3} s is to be seen", after - before);
    // A capture is a pause, too.
    lab.boxwood(["snapshot", "create", "clock", "still"]).output().exits(0);
    clock.is_right();
    lab.boxwood(["snapshot", "rm", "still"]).output().exits(0);
    clock.stop();
}
