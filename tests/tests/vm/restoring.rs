//! Contracts G10, S3 and S4: boxes that go on from a snapshot are themselves, have all of its data, and
//! answer at once. What is done here a few times is done a hundred times with `BOXWOOD_TEST_TIMES=9`.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use boxwood_tests::{Lab, Running, is_root, times};

/// What must be another one in each box.
const IDENTITY: &str = "hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id; \
    head -c 64 /dev/urandom | od -An -v -tx1 | tr -d ' \\n'; echo; cat /proc/sys/kernel/random/uuid";

/// The capability to look into other processes, and to write into them (capabilities(7)).
const CAP_SYS_PTRACE: u32 = 19;

/// The digests of what a box has in memory and on its disk.
const DATA: &str = "cat /dev/shm/data | sha256sum; cat /data | sha256sum";

/// A box that waits, with some MB of noise in memory and on its disk, and the digests of both.
fn with_data(lab: &Lab, name: &str) -> Vec<String> {
    let script = "head -c 6291456 /dev/urandom > /dev/shm/data; \
        head -c 5242880 /dev/urandom > /data; echo ready; sleep 100000";
    lab.detached(name, ["busybox", "sh", "-c", script]);
    lab.logged(name, "ready\n");
    data(lab, name)
}

#[track_caller]
fn data(lab: &Lab, name: &str) -> Vec<String> {
    let digests = lab.exec([name, "sh", "-c", DATA]).output().exits(0).quietly().lines();
    assert_eq!(digests.len(), 2);
    digests
}

/// Ten commands at once all answer.
#[track_caller]
fn ten_answer(lab: &Lab, name: &str) {
    let args = |number: usize| ["sh".to_owned(), "-c".into(), format!("echo {number}; cat")];
    let asked: Vec<Running> =
        (0..10).map(|n| lab.exec(["-i", name]).args(args(n)).stdin("x\n").spawn()).collect();
    for (number, mut running) in asked.into_iter().enumerate() {
        running.close_stdin();
        running.wait().exits(0).quietly().prints(format!("{number}\nx\n"));
    }
}

#[test]
fn s4_ten_commands_at_once_answer_at_each_depth_and_nothing_is_lost() {
    let lab = Lab::new();
    let mut expected = with_data(&lab, "depth-0");
    for depth in 1..=4 {
        let (before, here) = (format!("depth-{}", depth - 1), format!("depth-{depth}"));
        lab.snapshot(&before, &here);
        // The source serves on.
        ten_answer(&lab, &before);
        assert_eq!(data(&lab, &before), expected);
        lab.restored(&here, &here);
        ten_answer(&lab, &here);
        assert_eq!(data(&lab, &here), expected, "at depth {depth}");
        // Each generation adds something of its own, half of it over what was there.
        let more = "dd if=/dev/urandom of=/data bs=65536 seek=16 count=8 conv=notrunc 2>/dev/null; \
            dd if=/dev/urandom of=/dev/shm/data bs=4096 seek=3 count=200 conv=notrunc 2>/dev/null";
        lab.exec([&*here, "sh", "-c", more]).output().exits(0);
        let now = data(&lab, &here);
        assert!(now[0] != expected[0] && now[1] != expected[1]);
        expected = now;
    }
    for depth in 0..=4 {
        lab.remove(&format!("depth-{depth}"));
        if depth > 0 {
            lab.forget(&format!("depth-{depth}"));
        }
    }
}

#[test]
fn s4_restores_at_once_are_all_right_and_differ_in_everything_that_must() {
    let lab = Lab::new();
    let expected = with_data(&lab, "source");
    lab.snapshot("source", "warm");
    let seen = Mutex::new(vec![identity(&lab, "source")]);
    let numbers = Mutex::new(0..times(12));
    let started = Mutex::new(Vec::new());
    // Four at a time: more than this machine has processors.
    std::thread::scope(|scope| {
        for _ in 0..times(4).min(25) {
            scope.spawn(|| {
                loop {
                    let Some(number) = numbers.lock().unwrap().next() else { return };
                    let name = format!("clone-{number}");
                    lab.restored("warm", &name);
                    started.lock().unwrap().push(lab.inspect(&name, "{{.State.StartedAt}}"));
                    let own = identity(&lab, &name);
                    assert_eq!(data(&lab, &name), expected);
                    seen.lock().unwrap().push(own);
                    lab.remove(&name);
                }
            });
        }
    });
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.len(), times(12) + 1);
    for part in 0..seen[0].len() {
        let different: BTreeSet<&str> = seen.iter().map(|own| &*own[part]).collect();
        assert_eq!(different.len(), seen.len(), "part {part} is the same in two boxes: {seen:?}");
    }
    // All the characters of a time but those of its parts of a millisecond.
    let mut started: Vec<String> = started.into_inner().unwrap();
    started.iter_mut().for_each(|time| time.truncate("2026-01-01T00:00:00.000".len()));
    let moments: BTreeSet<&String> = started.iter().collect();
    eprintln!(
        "{} of {} began in another's millisecond",
        started.len() - moments.len(),
        started.len()
    );
    lab.remove("source");
    lab.forget("warm");
}

#[track_caller]
fn identity(lab: &Lab, name: &str) -> Vec<String> {
    let own = lab.exec([name, "sh", "-c", IDENTITY]).output().exits(0).quietly().lines();
    assert_eq!((own.len(), own[3].len()), (5, 128), "{own:?}");
    own
}

/// A box whose main says, over and over, who it thinks it is and what time it is.
fn telling(lab: &Lab, name: &str) {
    let script = "date -s @$(($(date +%s) - 3600)) > /dev/null; echo ready; \
        while :; do read -r who < /etc/hostname; read -r boot < /proc/sys/kernel/random/boot_id; \
        echo $who $boot $(date +%s); done";
    lab.detached(name, ["busybox", "sh", "-c", script]);
    lab.logged(name, "ready\n");
    lab.logged(name, &lab.inspect(name, "{{.Config.Hostname}}"));
}

#[test]
fn g10_no_process_of_a_restored_box_runs_before_it_is_itself() {
    let lab = Lab::new();
    telling(&lab, "source");
    let boot = lab.exec(["source", "cat", "/proc/sys/kernel/random/boot_id"]).output().word();
    lab.snapshot("source", "warm");
    let before = now();
    for number in 0..3 {
        let name = format!("clone-{number}");
        lab.restored("warm", &name);
        let own = lab.inspect(&name, "{{.Config.Hostname}}");
        lab.logged(&name, &own);
        let logs = lab.boxwood(["logs", &name]).output().exits(0).lines();
        // One round of its loop may have begun in the source: its beginning is the source's.
        let late = logs.iter().skip(2).find(|line| {
            let time = line.rsplit(' ').next().and_then(|time| time.parse::<f64>().ok());
            !line.starts_with(&own)
                || line.contains(&boot)
                || time.is_none_or(|time| time + 1.0 < before)
        });
        let first = &logs[..logs.len().min(9)];
        assert_eq!(late, None, "said by a box that was not itself yet: {first:#?}");
        lab.remove(&name);
    }
    // The source never heard of it: its clock is still what its user made it.
    let time: f64 = lab.exec(["source", "date", "+%s"]).output().word().parse().unwrap();
    assert!((time + 3600.0 - now()).abs() < 60.0, "the source says {time}");
    lab.remove("source");
    lab.forget("warm");
}

#[test]
fn g10_the_clock_of_a_restored_box_is_right_within_50_ms_though_its_snapshot_is_an_hour_old() {
    let lab = Lab::new();
    let script = "date -s @$(($(date +%s) - 3600)) > /dev/null; \
        n=0; while read -r _; do adjtimex; n=$((n + 1)); echo \"told $n.\"; done";
    lab.detached("source", ["-i", "busybox", "sh", "-c", script]);
    let mut source = lab.boxwood(["attach", "source"]).spawn();
    let (time, _) = ask(&mut source, 1);
    assert!((now() - time - 3600.0).abs() < 5.0, "it is an hour behind");
    lab.snapshot("source", "warm");
    lab.restored("warm", "clone");
    let mut clone = lab.boxwood(["attach", "clone"]).spawn();
    ask(&mut clone, 2);
    let (time, off) = ask(&mut clone, 3);
    assert!(off < 0.05, "the box says {time:.3}, which is off by {off:.3} s");
    for (mut client, name) in [(source, "source"), (clone, "clone")] {
        client.close_stdin();
        lab.remove(name);
        drop(client.wait());
    }
    lab.forget("warm");
}

/// A box's time, and by how much it lies outside of what the host's clock said before and after, in
/// seconds.
fn ask(client: &mut Running, number: usize) -> (f64, f64) {
    let before = now();
    client.write("\n");
    let text = client.says(&format!("told {number}."));
    let after = now();
    let value = |name: &str| -> f64 {
        let line = text.lines().rev().find(|line| line.contains(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let time = value("time.tv_sec") + value("time.tv_usec") / 1e6;
    (time, (before - time).max(time - after).max(0.0))
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[test]
fn s2_a_second_snapshot_saves_what_changed_and_has_everything() {
    let lab = Lab::new();
    let mut expected = vec![with_data(&lab, "source")];
    lab.snapshot("source", "first");
    let change = "dd if=/dev/urandom of=/dev/shm/data bs=4096 seek=7 count=300 conv=notrunc 2>/dev/null; \
        head -c 1000000 /dev/urandom > /dev/shm/more; dd if=/dev/urandom of=/data bs=4096 count=9";
    lab.exec(["source", "sh", "-c", change]).output().exits(0);
    expected.push(data(&lab, "source"));
    lab.snapshot("source", "second");
    let stored = |name: &str| -> u64 {
        let inspect = ["snapshot", "inspect", "--format", "{{.MemoryBytes}}", name];
        lab.boxwood(inspect).output().exits(0).word().parse().unwrap()
    };
    let (first, second) = (stored("first"), stored("second"));
    assert!(first > 6 << 20 && second > 2 << 20 && second < 6 << 20, "{first} and {second} bytes");
    lab.remove("source");
    for (name, expected) in ["first", "second"].iter().zip(&expected) {
        lab.restored(name, "clone");
        assert_eq!(data(&lab, "clone"), *expected, "{name}");
        lab.remove("clone");
        lab.forget(name);
    }
}

#[test]
fn s3_a_snapshot_is_restored_where_nobody_may_write_into_another_process() {
    if !is_root() {
        eprintln!("not root: there is no capability to do without");
        return;
    }
    let lab = Lab::new();
    let expected = with_data(&lab, "source");
    lab.snapshot("source", "warm");
    // Without it not even root may: QEMU runs as another user.
    let without = ["--inh-caps", "-sys_ptrace", "--bounding-set", "-sys_ptrace"];
    for name in ["first", "second"] {
        let restored = lab.program("setpriv").args(without).args([lab.binary()]);
        let restored = restored.args(["restore", "--name", name, "warm"]);
        restored.output().exits(0).quietly();
        let shim = lab.live(name).shim.pid;
        let status = std::fs::read_to_string(format!("/proc/{shim}/status")).unwrap();
        let bounds = status.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap();
        assert_eq!(u64::from_str_radix(bounds, 16).unwrap() & 1 << CAP_SYS_PTRACE, 0);
        assert_eq!(data(&lab, name), expected, "{name}");
        ten_answer(&lab, name);
    }
    for name in ["source", "first", "second"] {
        lab.remove(name);
    }
    lab.forget("warm");
}
