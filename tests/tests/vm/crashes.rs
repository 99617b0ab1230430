//! Contract H1, H6 and H7: whatever of Boxwood is killed, nothing is left and nobody lies.

use boxwood_tests::{Lab, Live, Running};
use rustix::process::Signal;

/// An attached box whose main waits, and its processes.
fn attached(lab: &Lab, flags: &[&str], script: &str) -> (Running, Live) {
    let run = lab.boxwood(["run", "--name", "web"]).args(flags);
    let run = run.args(["busybox", "sh", "-c", script]).spawn();
    drop(run.says("ready\n"));
    let live = lab.live("web");
    (run, live)
}

const WAIT: &str = "echo ready; sleep 600";

#[test]
fn h7_an_attached_box_goes_with_its_client() {
    let lab = Lab::new();
    for flags in [&["--rm"][..], &[]] {
        let (run, live) = attached(&lab, flags, WAIT);
        run.signal(Signal::KILL);
        assert_eq!(run.wait().signal(), Some(9));
        live.qemu.is_gone_soon();
        live.shim.is_gone_soon();
        match flags {
            [] => {
                // It was stopped in order: main heard its stop signal and the disk was flushed.
                assert_eq!(
                    lab.inspect("web", "{{.State.ExitReason}} {{.State.ExitCode}}"),
                    "exited 143"
                );
                lab.remove("web");
            }
            _ => assert_eq!(lab.boxes(), [""; 0]),
        }
        lab.is_clean();
    }
}

#[test]
fn h7_a_box_whose_client_is_killed_may_end_in_order() {
    let lab = Lab::new();
    let script = "trap 'echo saved > /state; exit 3' TERM; echo ready; sleep 600 & wait";
    let (run, live) = attached(&lab, &[], script);
    run.signal(Signal::KILL);
    drop(run.wait());
    live.shim.is_gone_soon();
    assert_eq!(lab.inspect("web", "{{.State.Status}} {{.State.ExitCode}}"), "exited 3");
    lab.remove("web");
}

#[test]
fn h1_qemu_goes_with_its_shim_and_the_box_is_lost() {
    let lab = Lab::new();
    let (run, live) = attached(&lab, &[], WAIT);
    live.shim.signal(Signal::KILL).unwrap();
    live.qemu.is_gone_soon();
    // The client tells it, and never a result it does not know.
    let ended = run.wait();
    assert!(ended.code().is_some_and(|code| code != 0), "{ended:?}");
    let rows = lab.boxwood(["ps", "-a", "--format", "{{.State}}"]).output().exits(0);
    drop(rows.prints("exited\n"));
    let end =
        lab.inspect("web", "{{.State.ExitReason}} {{.State.ExitCode}} {{.State.ResultKnown}}");
    assert_eq!(end, "lost 255 false");
    lab.remove("web");
}

#[test]
fn h1_a_box_to_be_removed_whose_shim_was_killed_is_gone_after_the_next_command() {
    let lab = Lab::new();
    let (run, live) = attached(&lab, &["--rm"], WAIT);
    live.shim.signal(Signal::KILL).unwrap();
    live.qemu.is_gone_soon();
    drop(run.wait());
    lab.boxwood(["ps"]).output().exits(0);
    lab.is_clean();
}

#[test]
fn h6_a_lost_box_can_be_started_again() {
    let lab = Lab::new();
    lab.detached(
        "web",
        ["busybox", "sh", "-c", "[ -e /seen ] && exit 4; touch /seen; sync; echo ready; sleep 600"],
    );
    lab.logged("web", "ready\n");
    let live = lab.live("web");
    live.shim.kill();
    live.qemu.is_gone_soon();
    lab.boxwood(["start", "-a", "web"]).output().exits(4);
    lab.remove("web");
}

#[test]
fn g2_a_vm_that_dies_gives_no_result_but_255_and_a_reason() {
    let lab = Lab::new();
    let (run, live) = attached(&lab, &[], WAIT);
    live.qemu.signal(Signal::KILL).unwrap();
    run.wait().exits(255).explains(&["the VM died"]);
    live.shim.is_gone_soon();
    let end = "{{.State.Status}} {{.State.ExitReason}} {{.State.ExitCode}} {{.State.ResultKnown}}";
    assert_eq!(lab.inspect("web", end), "exited vm-died 255 false");
    assert!(!lab.inspect("web", "{{.State.Error}}").is_empty());
    lab.remove("web");
}

#[test]
fn h1_a_kernel_that_panics_ends_the_box_with_its_last_words() {
    let lab = Lab::new();
    let (mut run, live) =
        attached(&lab, &["-i"], "echo ready; read -r _; echo c > /proc/sysrq-trigger; sleep 600");
    run.write("\n");
    run.wait().exits(255).explains(&["the VM died", "last lines of its console"]);
    live.shim.is_gone_soon();
    assert_eq!(lab.inspect("web", "{{.State.ExitReason}}"), "vm-died");
    let folder = lab.box_folder(&lab.inspect("web", "{{.Id}}"));
    let console = std::fs::read(folder.join("console")).unwrap();
    let console = String::from_utf8_lossy(&console);
    assert!(console.contains("Kernel panic"), "{console}");
    lab.remove("web");
}

#[test]
fn h1_a_shim_that_is_asked_to_end_stops_its_box() {
    let lab = Lab::new();
    let (run, live) = attached(&lab, &[], "trap 'exit 3' TERM; echo ready; sleep 600 & wait");
    live.shim.signal(Signal::TERM).unwrap();
    run.wait().exits(3);
    live.qemu.is_gone_soon();
    lab.remove("web");
}

#[test]
fn h1_everything_of_a_box_killed_at_once_leaves_nothing() {
    let lab = Lab::new();
    let (run, live) = attached(&lab, &["--rm"], WAIT);
    let _ = live.shim.signal(Signal::KILL);
    let _ = live.qemu.signal(Signal::KILL);
    run.signal(Signal::KILL);
    drop(run.wait());
    // Killed is not gone: what still holds the lock for a moment is not lost yet.
    live.shim.is_gone_soon();
    live.qemu.is_gone_soon();
    lab.boxwood(["ps"]).output().exits(0);
    lab.is_clean();
}

#[test]
fn a_box_can_be_removed_by_force_while_it_starts() {
    let lab = Lab::new();
    for _ in 0..4 {
        let start = lab.boxwood(["run", "busybox", "sleep", "600"]);
        let mut run = None;
        let id = lab.appearing(|| run = Some(start.spawn()));
        lab.boxwood(["rm", "-f", &id]).output().exits(0).prints(format!("{id}\n"));
        let ended = run.unwrap().wait();
        assert!(ended.code().is_some_and(|code| code != 0), "{ended:?}");
        assert_eq!(lab.boxes(), [""; 0]);
        lab.is_clean();
    }
}

#[test]
fn a_client_interrupted_while_its_box_starts_leaves_nothing() {
    let lab = Lab::new();
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let start = lab.run(["busybox", "sleep", "600"]);
        let mut run = None;
        lab.appearing(|| run = Some(start.spawn()));
        let run = run.unwrap();
        run.signal(signal);
        let ended = run.wait();
        let by_signal = ended.signal() == Some(signal.as_raw());
        let by_main = ended.code() == Some(128 + signal.as_raw());
        assert!(by_signal || by_main, "{ended:?}");
        lab.boxwood(["ps"]).output().exits(0);
        lab.is_clean();
    }
}

#[test]
fn h1_a_client_killed_before_it_has_a_box_leaves_nothing() {
    let lab = Lab::new();
    // The moment varies: from the first instructions of the client to the middle of its start.
    let folder = boxwood_tests::Folder::watch(&lab.home().join("boxes"));
    for _ in 0..4 {
        let run = lab.run(["busybox", "true"]).spawn();
        run.signal(Signal::KILL);
        drop(run.wait());
        let run = lab.run(["busybox", "true"]).spawn();
        // The folder of a box in the making appears.
        let mut seen = 0;
        folder.until(|| {
            seen += 1;
            (seen > 1).then_some(())
        });
        run.signal(Signal::KILL);
        drop(run.wait());
        lab.boxwood(["ps"]).output().exits(0);
    }
    lab.is_clean();
}

#[test]
fn h6_many_commands_at_once_agree_about_a_lost_box() {
    let lab = Lab::new();
    lab.detached("web", ["busybox", "sleep", "600"]);
    let live = lab.live("web");
    live.shim.kill();
    live.qemu.is_gone_soon();
    let format = ["ps", "-a", "--format", "{{.Names}} {{.State}}"];
    let asked: Vec<Running> = (0..8).map(|_| lab.boxwood(format).spawn()).collect();
    for answer in asked {
        answer.wait().exits(0).prints("web exited\n").quietly();
    }
    lab.remove("web");
}

#[test]
fn h5_a_damaged_record_is_told_and_hides_no_other_box() {
    let lab = Lab::new();
    lab.boxwood(["run", "--name", "good", "busybox", "true"]).output().exits(0);
    lab.boxwood(["run", "--name", "bad", "busybox", "true"]).output().exits(0);
    let record = lab.box_folder(&lab.inspect("bad", "{{.Id}}")).join("record.json");
    std::fs::write(&record, "{").unwrap();
    let listed = lab.boxwood(["ps", "-a", "--format", "{{.Names}}"]).output();
    assert!(listed.text().contains("good"), "{listed:?}");
    let shown = lab.boxwood(["inspect", "bad"]).output().exits(125);
    drop(shown.explains(&["record.json", "damaged"]));
    lab.boxwood(["rm", "-f", "bad"]).output().exits(0);
    lab.remove("good");
}

#[test]
fn h2_qemu_is_the_shims_only_child_and_leaves_no_zombie() {
    let lab = Lab::new();
    lab.detached("web", ["busybox", "sleep", "600"]);
    let live = lab.live("web");
    let shim = boxwood_tests::Process::get(live.shim.pid).unwrap();
    let children: Vec<u32> = shim.children().iter().map(|child| child.pid).collect();
    assert_eq!(children, [live.qemu.pid]);
    lab.boxwood(["stop", "-t", "0", "web"]).output().exits(0);
    assert!(shim.children().iter().all(|child| child.state != 'Z'));
    live.shim.is_gone_soon();
    lab.remove("web");
}

#[test]
fn qemu_may_write_nothing_but_its_own_box() {
    let lab = Lab::new();
    let id = lab.detached("web", ["busybox", "sleep", "600"]);
    let live = lab.live("web");
    let qemu = boxwood_tests::Process::get(live.qemu.pid).unwrap();
    let folder = lab.box_folder(&id);
    for (number, file) in descriptors(qemu.pid) {
        let info = std::fs::read_to_string(format!("/proc/{}/fdinfo/{number}", qemu.pid)).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        let flags = u32::from_str_radix(flags.trim(), 8).unwrap();
        let writable = flags & 3 != 0;
        let outside = file.starts_with(lab.store())
            || (file.starts_with(lab.home()) && !file.starts_with(&folder));
        assert!(!(writable && outside), "QEMU may write {}", file.display());
    }
    if boxwood_tests::is_root() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", qemu.pid)).unwrap();
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(
            line("Uid:").iter().all(|id| id.parse::<u32>().unwrap() >= 0x7000_0000),
            "{status}"
        );
        assert!(
            line("Gid:").iter().all(|id| id.parse::<u32>().unwrap() >= 0x7000_0000),
            "{status}"
        );
        assert!(line("Groups:").is_empty(), "{status}");
        assert_eq!(line("CapEff:"), ["0000000000000000"]);
        assert_eq!(line("NoNewPrivs:"), ["1"]);
        assert_eq!(line("Seccomp:"), ["2"]);
    }
    lab.remove("web");
}

fn descriptors(pid: u32) -> Vec<(u32, std::path::PathBuf)> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let number = path.file_name()?.to_str()?.parse().ok()?;
            Some((number, std::fs::read_link(path).ok()?))
        })
        .collect()
}

#[test]
fn h6_a_box_that_a_crash_of_the_host_has_torn_goes_if_it_was_to_go_anyway() {
    let lab = Lab::new();
    for torn in [&["spec.json"][..], &["record.json"], &["spec.json", "record.json"]] {
        lab.detached("web", ["--rm", "busybox", "sleep", "600"]);
        let (live, folder) = (lab.live("web"), lab.box_folder(&lab.inspect("web", "{{.Id}}")));
        live.shim.signal(Signal::KILL).unwrap();
        live.qemu.is_gone_soon();
        live.shim.is_gone_soon();
        // What was never synced may be empty when the host is there again.
        torn.iter().for_each(|name| std::fs::write(folder.join(name), "").unwrap());
        drop(lab.boxwood(["ps", "-aq"]).output().exits(0).prints(""));
        assert!(!folder.exists(), "{torn:?}");
        // Its name is free, too.
        lab.run(["--name", "web", "busybox", "true"]).output().exits(0);
        lab.is_clean();
    }
}
