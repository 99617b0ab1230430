//! Contracts S1, S2 and S5: a box is captured while it works, and nobody loses anything.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use boxwood_tests::{Folder, Lab, Running, SmallHome, is_root, times};
use rustix::process::Signal;

fn noise(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

/// The names of all snapshots.
#[track_caller]
fn names(lab: &Lab) -> Vec<String> {
    lab.boxwood(["snapshot", "ls", "-q"]).output().exits(0).quietly().lines()
}

/// The source answers.
#[track_caller]
fn serves(lab: &Lab, name: &str) {
    lab.exec([name, "echo", "here"]).output().exits(0).prints("here\n");
}

#[test]
fn s2_what_is_on_its_way_while_a_box_is_captured_arrives_once_and_whole() {
    let lab = Lab::new();
    // Main hands on what it reads, and so do all of the sessions.
    let mut main = lab.boxwood(["run", "-i", "--name", "source", "busybox", "cat"]).spawn();
    main.write("begin\n");
    main.says("begin\n");
    let bytes = noise(times(6) << 20);
    let fed = std::thread::scope(|scope| {
        let main = scope.spawn(|| {
            main.write(&bytes);
            main
        });
        let sessions = scope.spawn(|| {
            let sum = lab.exec(["-i", "source", "sha256sum"]).stdin(bytes.clone()).output();
            (sum, lab.exec(["-i", "source", "cat"]).stdin(bytes.clone()).output())
        });
        let halves: Vec<[Vec<u8>; 2]> = (0..64).map(|_| [noise(20_000), noise(20_000)]).collect();
        let half = |halves: &[Vec<u8>; 2]| {
            let mut session = lab.exec(["-i", "source", "cat"]).spawn();
            session.write(&halves[0]);
            session
        };
        let waiting: Vec<Running> = halves.iter().map(half).collect();
        let mut screen = lab.terminal(["exec", "-it", "source", "sh", "-c", "seq 1 60000; read x"]);
        for number in 0..3 {
            lab.snapshot("source", &format!("number-{number}"));
        }
        for (mut session, [first, second]) in waiting.into_iter().zip(halves) {
            session.write(&second);
            session.close_stdin();
            session.wait().exits(0).quietly().prints([first, second].concat());
        }
        let shown = screen.shows("60000\r\n");
        let all: String = (1..60000).map(|number| format!("{number}\r\n")).collect();
        assert!(shown == all, "{} bytes were shown of {}", shown.len(), all.len());
        screen.types("\n");
        screen.wait().exits(0);
        (sessions.join().unwrap(), main.join().unwrap())
    });
    let ((sum, copy), mut main) = fed;
    main.close_stdin();
    let main = main.wait().exits(0);
    assert!(main.stdout == [&b"begin\n"[..], &bytes].concat(), "main lost or doubled something");
    let digest = lab.program("sha256sum").stdin(bytes.clone()).output().exits(0);
    drop(sum.exits(0).prints(digest.stdout));
    assert!(copy.exits(0).stdout == bytes, "a session lost or doubled something");
    lab.remove("source");
    for number in 0..3 {
        lab.forget(&format!("number-{number}"));
    }
}

#[test]
fn s2_in_a_restored_box_main_and_what_was_detached_go_on_and_what_was_attached_ends() {
    let lab = Lab::new();
    lab.boxwood(["run", "-d", "-i", "--name", "source", "busybox", "cat"]).output().exits(0);
    let beat = "while :; do echo beat >> /beats; sleep 0.1; done";
    lab.exec(["-d", "source", "sh", "-c", beat]).output().exits(0);
    let script = "trap 'echo HUP >> /told' HUP; trap 'echo TERM >> /told; exit' TERM; \
        echo ready; while :; do sleep 0.1; done";
    let attached = lab.exec(["source", "sh", "-c", script]).spawn();
    attached.says("ready\n");
    let mut screen = lab.terminal(["exec", "-it", "source", "sh", "-c", script]);
    screen.shows("ready");
    lab.snapshot("source", "warm");
    lab.restored("warm", "clone");
    // A client that died is told of by HUP, and TERM after 2 s.
    let told =
        "until [ \"$(sort /told | uniq -c | tr -d '\\n ')\" = 2HUP2TERM ]; do sleep 0.1; done";
    lab.exec(["--timeout", "30s", "clone", "sh", "-c", told]).output().exits(0);
    let beats = "rm /beats; until [ -e /beats ]; do sleep 0.1; done";
    lab.exec(["--timeout", "30s", "clone", "sh", "-c", beats]).output().exits(0);
    let left = lab.exec(["clone", "sh", "-c", "ps | grep -c '[r]eady'"]).output();
    left.exits(1).prints("0\n");
    let mut main = lab.boxwood(["attach", "clone"]).spawn();
    main.write("hello\n");
    main.says("hello\n");
    // In the source nobody was told anything.
    lab.exec(["source", "test", "-e", "/told"]).output().exits(1);
    attached.signal(Signal::INT);
    drop(attached.wait());
    screen.types("\x03");
    drop(screen.wait());
    main.close_stdin();
    for name in ["source", "clone"] {
        lab.remove(name);
    }
    drop(main.wait());
    lab.forget("warm");
}

#[test]
fn s2_a_box_that_can_not_be_captured_is_refused_and_goes_on() {
    let lab = Lab::new();
    let create = |name: &str, snapshot: &str| lab.boxwood(["snapshot", "create", name, snapshot]);
    let only = "only a running box can be captured";
    lab.boxwood(["create", "--name", "web", "busybox", "sleep", "600"]).output().exits(0);
    lab.refuses(create("web", "warm"), &["created", only]);
    lab.boxwood(["start", "web"]).output().exits(0);
    lab.boxwood(["pause", "web"]).output().exits(0);
    lab.refuses(create("web", "warm"), &["paused", only]);
    lab.boxwood(["unpause", "web"]).output().exits(0);
    lab.refuses(create("nobody", "warm"), &["no such box", "nobody"]);
    for bad in ["", "a", "../x", ".x", "a b", "a/b", &"x".repeat(129)] {
        lab.refuses(create("web", bad), &["NAME"]);
    }
    lab.snapshot("web", "warm");
    lab.refuses(create("web", "warm"), &["a snapshot named 'warm'", "snapshot rm warm"]);
    for verb in ["inspect", "verify", "rm"] {
        let words = &["no such snapshot: nobody"];
        let asked = lab.boxwood(["snapshot", verb, "nobody"]).output().exits(125);
        asked.explains(words);
    }
    for bad in ["nobody", "../warm", ""] {
        lab.refuses(lab.boxwood(["restore", bad]), &["no such snapshot"]);
    }
    // The first use of a snapshot writes down that it was checked.
    lab.restored("warm", "clone");
    lab.remove("clone");
    let restore = |args: &[&str]| lab.boxwood(["restore"]).args(args).args(["warm"]);
    lab.refuses(restore(&["--name", "web"]), &["web"]);
    lab.refuses(restore(&["--name", "a/b"]), &["--name"]);
    lab.refuses(restore(&["-e", "=x"]), &["'=x'"]);
    lab.refuses(restore(&["-l", "=x"]), &["label"]);
    lab.refuses(restore(&["-p", "80:80"]), &["-p"]);
    serves(&lab, "web");
    lab.boxwood(["stop", "-t", "0", "web"]).output().exits(0);
    lab.refuses(create("web", "other"), &["exited", only]);
    lab.remove("web");
    lab.forget("warm");
}

#[test]
fn s2_two_who_capture_a_box_at_once_do_not_disturb_each_other() {
    let lab = Lab::new();
    lab.idle("web");
    let create = |number: usize| {
        lab.boxwood(["snapshot", "create", "web", &format!("number-{number}")]).spawn()
    };
    let creating: Vec<Running> = (0..4).map(create).collect();
    let mut made = Vec::new();
    for (number, running) in creating.into_iter().enumerate() {
        let ended = running.wait();
        match ended.code() {
            Some(0) => made.push(format!("number-{number}")),
            _ => drop(ended.refused(&["it is being captured already"])),
        }
    }
    assert!(!made.is_empty());
    let mut listed = names(&lab);
    listed.sort();
    assert_eq!(listed, made);
    serves(&lab, "web");
    for name in &made {
        lab.boxwood(["snapshot", "verify", name]).output().exits(0).prints(format!("{name}\n"));
        lab.restored(name, "clone");
        serves(&lab, "clone");
        lab.remove("clone");
        lab.forget(name);
    }
    lab.remove("web");
}

/// A box with so much memory of its own that its capture takes a while.
fn heavy(lab: &Lab, name: &str) {
    lab.boxwood(["run", "-d", "--name", name, "busybox", "sh", "-c"])
        .args(["head -c 50331648 /dev/urandom > /dev/shm/data; echo ready; sleep 600"])
        .output()
        .exits(0);
    lab.logged(name, "ready\n");
}

/// A capture in the middle of its work.
fn capturing(lab: &Lab, name: &str) -> Running {
    let snapshots = lab.home().join("snapshots");
    std::fs::create_dir_all(&snapshots).unwrap();
    let folder = Folder::watch(&snapshots);
    let running = lab.boxwood(["snapshot", "create", name, "warm"]).spawn();
    let fresh = folder.until(|| Some(std::fs::read_dir(&snapshots).ok()?.next()?.ok()?.path()));
    let folder = Folder::watch(&fresh);
    folder.until(|| fresh.join("pages.0").exists().then_some(()));
    running
}

#[test]
fn s2_a_box_can_be_stopped_killed_and_removed_while_it_is_captured() {
    let lab = Lab::new();
    for verb in [&["stop", "-t", "2"][..], &["kill"], &["rm", "-f"]] {
        heavy(&lab, "web");
        let creating = capturing(&lab, "web");
        lab.boxwood(verb).args(["web"]).output().exits(0);
        let created = creating.wait();
        match created.code() {
            Some(0) => lab.forget("warm"),
            _ => drop(created.refused(&["box"])),
        }
        assert_eq!(names(&lab), [""; 0]);
        if verb[0] != "rm" {
            lab.remove("web");
        }
    }
}

#[test]
fn s1_whoever_captures_may_be_interrupted_or_killed_at_any_moment() {
    let lab = Lab::new();
    heavy(&lab, "web");
    for signal in [Signal::INT, Signal::KILL] {
        let creating = capturing(&lab, "web");
        creating.signal(signal);
        assert_eq!(creating.wait().signal(), Some(signal.as_raw()));
        assert_eq!(names(&lab), [""; 0]);
        serves(&lab, "web");
        // The next one need not wait for what became of the last.
        lab.snapshot("web", "warm");
        let left = std::fs::read_dir(lab.home().join("snapshots")).unwrap().count();
        assert_eq!(left, 1, "the next command leaves nothing of the one that was killed");
        lab.boxwood(["snapshot", "verify", "warm"]).output().exits(0);
        lab.forget("warm");
    }
    lab.remove("web");
}

#[test]
fn s1_on_a_full_disk_there_is_no_half_snapshot_and_the_box_goes_on() {
    if !is_root() {
        eprintln!("skipped: only root can mount");
        return;
    }
    let lab = Lab::new();
    // The box's own disk is elsewhere: this is not about what the box writes itself.
    let home = SmallHome::of_snapshots(&lab, "500m");
    heavy(&lab, "web");
    for left in [0, 100 << 10, 4 << 20, 40 << 20, 80 << 20] {
        home.fill_but(left);
        let full = lab.boxwood(["snapshot", "create", "web", "warm"]).output();
        full.refused(&["No space left"]);
        assert_eq!(home.names(""), ["ballast"], "with {left} bytes left");
        serves(&lab, "web");
        home.make_room();
    }
    lab.snapshot("web", "warm");
    lab.boxwood(["snapshot", "verify", "warm"]).output().exits(0);
    // No room for the memory of the first that is restored.
    home.fill_but(8 << 20);
    let full = lab.boxwood(["restore", "--name", "clone", "warm"]).output();
    full.refused(&["No space left"]);
    assert_eq!(lab.boxes().len(), 1);
    home.make_room();
    lab.restored("warm", "clone");
    serves(&lab, "clone");
    lab.remove("web");
    lab.remove("clone");
    lab.forget("warm");
}

#[test]
fn s5_probes_of_a_restored_box_begin_when_it_is_itself() {
    let lab = Lab::new();
    let probe = "cat /proc/sys/kernel/random/boot_id >> /probes";
    lab.boxwood(["run", "-d", "--name", "source", "--health-interval", "50ms", "--health-cmd"])
        .args([probe, "busybox", "sleep", "600"])
        .output()
        .exits(0);
    let health = |name: &str| {
        let folder = Folder::watch(&lab.box_folder(&lab.inspect(name, "{{.Id}}")));
        let healthy = || lab.inspect(name, "{{.State.Health.Status}}") == "healthy";
        folder.until(|| healthy().then_some(()));
    };
    health("source");
    lab.snapshot("source", "warm");
    for number in 0..3 {
        let name = format!("clone-{number}");
        lab.restored("warm", &name);
        health(&name);
        let script = "grep -v $(cat /proc/sys/kernel/random/boot_id) /probes | sort -u | wc -l; \
            tail -n 1 /probes; cat /proc/sys/kernel/random/boot_id";
        let told = lab.exec([&*name, "sh", "-c", script]).output().exits(0).lines();
        assert_eq!(told[0], "1", "all others are the source's");
        assert_eq!(told[1], told[2], "the last is its own");
        lab.remove(&name);
    }
    lab.remove("source");
    lab.forget("warm");
}

#[test]
fn s3_every_kind_of_box_goes_on_as_what_it_is() {
    let lab = Lab::new();
    // Two processors, removed at its end, in a terminal.
    let flags = ["run", "-d", "-it", "--rm", "--cpus", "2", "--name", "source", "-h", "own.name"];
    lab.boxwood(flags).args(["busybox", "sh"]).output().exits(0);
    let mut screen = lab.terminal(["attach", "source"]);
    screen.types("n=7; nproc\n");
    screen.shows("\r\n2\r\n");
    lab.snapshot("source", "warm");
    screen.types("exit 4\n");
    screen.wait().exits(4);
    assert_eq!(lab.boxes(), [""; 0]);
    lab.boxwood(["restore", "-d", "warm"]).output().exits(125);
    let restore = ["restore", "--name", "clone", "-l", "kind=clone", "-e", "NEW=1", "warm"];
    lab.boxwood(restore).output().exits(0);
    assert_eq!(
        lab.inspect("clone", "{{.Config.Labels.kind}} {{.Config.Hostname}}"),
        "clone own.name"
    );
    lab.exec(["clone", "sh", "-c", "echo $NEW $HOSTNAME"]).output().prints("1 own.name\n");
    let mut screen = lab.terminal(["attach", "clone"]);
    screen.types("echo n=$n; nproc; exit $n\n");
    screen.shows("\r\nn=7\r\n2\r\n");
    screen.wait().exits(7);
    // It is kept, and begins anew when it is started again, with its own disk.
    lab.boxwood(["start", "clone"]).output().exits(0);
    let mut screen = lab.terminal(["attach", "clone"]);
    screen.types("echo n=$n; exit 3\n");
    screen.shows("\r\nn=\r\n");
    screen.wait().exits(3);
    lab.remove("clone");
    lab.forget("warm");
}

#[test]
fn s3_a_restored_box_is_restarted_as_its_policy_says_with_its_disk() {
    let lab = Lab::new();
    let script = "echo start >> /starts; cat /starts; echo ready; read x; exit 3";
    lab.boxwood(["run", "-d", "-i", "--restart", "on-failure:2", "--name", "source", "busybox"])
        .args(["sh", "-c", script])
        .output()
        .exits(0);
    lab.logged("source", "ready\n");
    lab.snapshot("source", "warm");
    lab.restored("warm", "clone");
    let mut main = lab.boxwood(["attach", "clone"]).spawn();
    main.write("\n");
    lab.logged("clone", "start\nstart\nready\n");
    assert_eq!(lab.inspect("clone", "{{.RestartCount}}"), "1");
    main.close_stdin();
    drop(main.wait());
    let own = lab.inspect("clone", "{{.Config.Hostname}}");
    assert_ne!(own, lab.inspect("source", "{{.Config.Hostname}}"));
    lab.exec(["clone", "sh", "-c", "echo $HOSTNAME"]).output().prints(format!("{own}\n"));
    lab.remove("source");
    lab.remove("clone");
    lab.forget("warm");
}

#[test]
fn s1_a_source_that_is_killed_while_it_is_captured_leaves_nothing() {
    let lab = Lab::new();
    heavy(&lab, "web");
    let live = lab.live("web");
    let creating = capturing(&lab, "web");
    live.shim.kill();
    creating.wait().exits(125);
    assert!(live.qemu.ended_within(Duration::from_secs(5)));
    assert_eq!(names(&lab), [""; 0]);
    // Its disk is right, whichever of its files it was made of at that moment.
    lab.boxwood(["start", "web"]).output().exits(0);
    serves(&lab, "web");
    lab.remove("web");
}
