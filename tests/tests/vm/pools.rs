//! Boxes that start in VMs which were restored before anybody wanted them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use boxwood_tests::{Lab, times};
use rustix::process::{Pid, Signal, kill_process};

/// The VMs that wait and can be claimed.
fn ready(lab: &Lab) -> Vec<String> {
    let format = "{{.ID}} {{.Status}}";
    let lines = lab.boxwood(["pool", "ls", "--format", format]).output().exits(0).lines();
    lines.iter().filter_map(|line| Some(line.strip_suffix(" ready")?.to_owned())).collect()
}

/// Waits until so many do.
pub(crate) fn full(lab: &Lab, count: usize) -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let members = ready(lab);
        if members.len() == count {
            return members;
        }
        assert!(Instant::now() < end, "{} of {count} wait", members.len());
    }
}

pub(crate) fn set(lab: &Lab, args: &[&str]) {
    lab.boxwood(["pool", "set"].iter().chain(args)).output().exits(0);
}

/// The processes of VMs that wait: shims, or their QEMUs.
pub(crate) fn processes(lab: &Lab, of_qemu: bool) -> Vec<Pid> {
    let home = lab.home().to_str().unwrap().to_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
        let Ok(command) = read("cmdline") else { continue };
        if !command.contains(&home) || !command.contains("\0warm\0") {
            continue;
        }
        let children = read(&format!("task/{pid}/children")).unwrap_or_default();
        let pids = match of_qemu {
            true => children.split_whitespace().filter_map(|text| text.parse().ok()).collect(),
            false => vec![pid],
        };
        found.extend(pids.into_iter().filter_map(Pid::from_raw));
    }
    found
}

#[test]
fn s3_a_box_takes_over_a_vm_that_waits_and_is_replaced_and_nothing_is_left_of_the_pool() {
    let lab = Lab::new();
    set(&lab, &["2"]);
    let before = full(&lab, 2);
    let script = "echo $HOSTNAME; cat /etc/machine-id; echo kept > /file; echo err >&2; exit 7";
    let run = lab.boxwood(["run", "--name", "web", "-i", "busybox", "sh", "-c", script]);
    let run = run.stdin("x").output().exits(7);
    assert_eq!(run.complaint(), "err\n");
    let after = full(&lab, 2);
    let taken: Vec<_> = before.iter().filter(|id| !after.contains(id)).collect();
    assert_eq!(taken.len(), 1, "{before:?} {after:?}");
    // It is a box like others: its disk is its own, and it can be started again.
    assert_eq!(lab.state("web"), "exited");
    let id = lab.inspect("web", "{{.Id}}");
    assert_eq!(run.lines()[0], id[..12]);
    lab.boxwood(["start", "-a", "web"]).output().exits(7);
    lab.boxwood(["logs", "web"]).output().exits(0);
    lab.remove("web");
    set(&lab, &["0"]);
    assert_eq!(ready(&lab), [""; 0]);
    assert!(!lab.home().join("pool").exists() && !lab.home().join("pool.json").exists());
}

#[test]
fn s5_main_of_a_vm_that_waited_began_when_its_box_did() {
    let lab = Lab::new();
    let main = || {
        let run = lab.run(["busybox", "sh", "-c", "echo $$"]).output().exits(0);
        run.lines()[0].parse::<u32>().unwrap()
    };
    set(&lab, &["1"]);
    full(&lab, 1);
    let warm = main();
    set(&lab, &["0"]);
    // Main of a template was cloned before its freeze, so it has the same id in each box. One that had waited
    // for as long as its VM would have it here, too.
    let cold = main();
    assert_eq!(cold, main());
    assert!(warm > cold, "{warm} is as old as {cold}");
}

#[test]
fn h6_a_vm_that_stands_still_keeps_nothing_of_the_box_that_wanted_it() {
    let lab = Lab::new();
    set(&lab, &["1"]);
    full(&lab, 1);
    let member = processes(&lab, false)[0];
    kill_process(member, Signal::STOP).unwrap();
    lab.detached("web", ["busybox", "sleep", "600"]);
    let live = lab.live("web");
    live.shim.signal(Signal::KILL).unwrap();
    live.qemu.is_gone_soon();
    // Its lock is nobody's: it is known to be lost, and can go.
    assert_eq!(lab.state("web"), "exited");
    lab.remove("web");
    kill_process(member, Signal::CONT).unwrap();
    set(&lab, &["0"]);
}

/// How long a pool may take to be full again after the last claim.
const FULL_AGAIN: Duration = Duration::from_secs(2);

/// 200 boxes by 20 clients with `BOXWOOD_TEST_TIMES=10`.
#[test]
fn s4_no_vm_is_given_twice_and_the_pool_is_full_again() {
    let lab = Lab::new();
    set(&lab, &["3"]);
    full(&lab, 3);
    let clients = times(2);
    let client = |client: usize| -> Vec<Vec<String>> {
        let claim = |n: usize| {
            let script = "cat /proc/sys/kernel/random/boot_id /etc/machine-id; hostname; exit $0";
            // Each box has its own main and nobody else's.
            let code = 1 + (client + n) as i32 % 100;
            let run = lab.run(["busybox", "sh", "-c", script, &code.to_string()]).output();
            run.exits(code).quietly().lines()
        };
        (0..10).map(claim).collect()
    };
    let seen: Vec<Vec<String>> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|n| scope.spawn(move || client(n))).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let last = Instant::now();
    full(&lab, 3);
    let took = last.elapsed();
    assert_eq!(seen.len(), clients * 10);
    for part in 0..3 {
        let different: BTreeSet<_> = seen.iter().map(|own| &own[part]).collect();
        assert_eq!(different.len(), seen.len(), "part {part} is the same in two boxes");
    }
    eprintln!("{} boxes, and the pool was full again after {took:?}", seen.len());
    assert!(took < FULL_AGAIN, "the pool was full again after {took:?}");
    set(&lab, &["0"]);
}

#[test]
fn s2_a_box_that_took_over_a_vm_that_waited_can_be_captured_and_forked() {
    let lab = Lab::new();
    set(&lab, &["1"]);
    let waiting = full(&lab, 1);
    let script = "head -c 1048576 /dev/urandom > /dev/shm/data; \
        head -c 3145728 /dev/urandom > /data; echo ready; sleep 100000";
    lab.detached("web", ["busybox", "sh", "-c", script]);
    lab.logged("web", "ready\n");
    let data = |name: &str| {
        let script = "echo 3 > /proc/sys/vm/drop_caches; cat /dev/shm/data /data | sha256sum";
        lab.exec([name, "sh", "-c", script]).output().exits(0).quietly().word()
    };
    assert_ne!(full(&lab, 1), waiting, "it was not taken over");
    let expected = data("web");
    lab.snapshot("web", "warm");
    lab.boxwood(["fork", "--name", "child", "web"]).output().exits(0).quietly();
    // The pool goes, and with it whatever the box might still share with it.
    set(&lab, &["0"]);
    lab.boxwood(["snapshot", "verify", "warm"]).output().exits(0);
    lab.restored("warm", "clone");
    let identity = "cat /proc/sys/kernel/random/boot_id /etc/machine-id; hostname";
    let mut seen = BTreeSet::new();
    for name in ["web", "child", "clone"] {
        assert_eq!(data(name), expected, "{name}");
        seen.extend(lab.exec([name, "sh", "-c", identity]).output().exits(0).lines());
    }
    assert_eq!(seen.len(), 9, "{seen:?}");
    // And it is captured once more, with what has changed since.
    lab.exec(["web", "sh", "-c", "echo more >> /data; echo more >> /dev/shm/data"])
        .output()
        .exits(0);
    let changed = data("web");
    lab.snapshot("web", "later");
    for (snapshot, expected) in [("later", &changed), ("warm", &expected)] {
        lab.remove("clone");
        lab.restored(snapshot, "clone");
        assert_eq!(data("clone"), *expected, "{snapshot}");
        lab.forget(snapshot);
    }
    for name in ["web", "child", "clone"] {
        lab.remove(name);
    }
}

#[test]
fn h1_a_vm_that_died_while_it_waited_is_never_given_to_a_box_and_leaves_nothing() {
    let lab = Lab::new();
    for of_qemu in [true, false] {
        set(&lab, &["2"]);
        full(&lab, 2);
        let victim = processes(&lab, of_qemu)[0];
        kill_process(victim, Signal::KILL).unwrap();
        for n in 1..=3 {
            lab.run(["busybox", "sh", "-c", &format!("exit {n}")]).output().exits(n);
        }
        full(&lab, 2);
        set(&lab, &["0"]);
    }
}

#[test]
fn s3_a_pool_is_for_one_image_and_shape_and_others_start_without_it() {
    let lab = Lab::new();
    set(&lab, &["-m", "128m", "1"]);
    let waiting = full(&lab, 1);
    lab.run(["busybox", "sh", "-c", "exit 3"]).output().exits(3);
    assert_eq!(ready(&lab), waiting);
    lab.run(["-m", "128m", "busybox", "sh", "-c", "exit 4"]).output().exits(4);
    let replaced = full(&lab, 1);
    assert_ne!(replaced, waiting);
    // Its template goes, and the VM that waits needs it no more.
    lab.boxwood(["template", "ls"]).output().exits(0);
    set(&lab, &["-m", "128m", "0"]);
}

#[test]
fn h13_a_pool_that_cannot_be_is_refused_and_changes_nothing() {
    let lab = Lab::new();
    let refuse = |args: &[&str], words: &[&str]| {
        lab.refuses(lab.boxwood(["pool", "set"].iter().chain(args)), words);
    };
    refuse(&["1001"], &["1001", "1000"]);
    refuse(&["--image", "no-such-image", "1"], &["no-such-image"]);
    refuse(&["-1"], &["-1"]);
    refuse(&["many"], &["many"]);
    assert!(!lab.home().join("pool.json").exists());
    set(&lab, &["0"]);
}
