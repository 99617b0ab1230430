//! Restores of a real QEMU with a small guest.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use super::*;
use crate::guinea::{Guinea, request};
use crate::{Ended, VmStatus};
use boxwood_types::chain;

const SOON: Duration = Duration::from_secs(30);

/// The next letters of a console.
async fn letters(console: &mut Receiver, count: usize) -> String {
    let mut bytes = vec![0; count];
    tokio::time::timeout(SOON, console.read_exact(&mut bytes)).await.unwrap().unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn two_restores_go_on_where_the_template_was_frozen_and_leave_it_as_it_is() {
    let guinea = Guinea::new();
    let (template, _) = guinea.ensure().await;
    let frozen_at = crate::guinea::counter(template.ram());
    let next = (b'a' + ((frozen_at + 1) & 15) as u8) as char;
    let mut boxes = Vec::new();
    for _ in 0..2 {
        let (request, console) = request();
        let vm = restore(&template, request).await.unwrap_or_else(|e| panic!("{}", chain(&e)));
        boxes.push((vm, console));
    }
    for (vm, console) in &mut boxes {
        // The letter it was about to write may have been written before the freeze.
        let said = letters(console, 4).await;
        assert!(said[..2].contains(next), "{said} after {frozen_at}");
        let order = vm.timings();
        assert!(order.spawned < order.ram && order.ram < order.loaded);
        assert!(order.loaded < order.running);
    }
    assert_eq!(crate::guinea::counter(template.ram()), frozen_at);
    for (mut vm, _) in boxes {
        let ended = vm.end(SOON).await.unwrap();
        assert!(matches!(ended, Ended::Reaped(exit) if exit.status == VmStatus::Signaled(9)));
    }
}

#[tokio::test]
async fn no_descriptor_of_a_running_qemu_can_write_the_template() {
    let guinea = Guinea::new();
    let (template, _) = guinea.ensure().await;
    let (request, _console) = request();
    let vm = restore(&template, request).await.unwrap();
    let ram = template.ram().metadata().unwrap();
    let mut seen = 0;
    for entry in fs::read_dir(format!("/proc/{}/fd", vm.pid())).unwrap() {
        let entry = entry.unwrap();
        let meta = fs::metadata(entry.path());
        if !meta.is_ok_and(|meta| (meta.dev(), meta.ino()) == (ram.dev(), ram.ino())) {
            continue;
        }
        seen += 1;
        let number = entry.file_name().into_string().unwrap();
        let info = fs::read_to_string(format!("/proc/{}/fdinfo/{number}", vm.pid())).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        assert_eq!(u32::from_str_radix(flags, 8).unwrap() & 3, 0, "{number}: {info}");
    }
    assert_eq!(seen, 1, "QEMU keeps its RAM open, once");
}

#[tokio::test]
async fn a_running_qemu_has_no_rights_left() {
    let guinea = Guinea::new();
    let (template, _) = guinea.ensure().await;
    let (request, _console) = request();
    let user = request.user;
    let vm = restore(&template, request).await.unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", vm.pid())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2");
    if let QemuUser::Drop { uid, gid } = user {
        assert_eq!(field("Uid:"), [uid; 4].map(|uid| uid.to_string()).join(" "));
        assert_eq!(field("Gid:"), [gid; 4].map(|gid| gid.to_string()).join(" "));
        assert_eq!(field("Groups:"), "");
        assert_eq!(field("CapEff:"), "0000000000000000");
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", vm.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let soft_and_hard: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
    assert_eq!(soft_and_hard, ["0", "0"]);
}

#[tokio::test]
async fn h4_a_guest_that_ends_is_an_event_with_its_status() {
    let guinea = Guinea::with_limit(12);
    let (template, _) = guinea.ensure().await;
    let (request, _console) = request();
    let mut vm = restore(&template, request).await.unwrap();
    let exit = tokio::time::timeout(SOON, vm.exited()).await.unwrap();
    assert_eq!(exit.status, VmStatus::Exited(0), "{exit}");
    // Whoever asks again hears the same, and so does who wants to end it.
    assert_eq!(vm.exited().await, exit);
    assert_eq!(vm.end(SOON).await.unwrap(), Ended::Reaped(exit));
    let gone = vm.pause().await.unwrap_err();
    assert!(matches!(gone, Error::VmDied { .. }), "{gone}");
}

#[tokio::test]
async fn a_paused_vm_stands_still_and_goes_on() {
    let guinea = Guinea::new();
    let (template, _) = guinea.ensure().await;
    let (request, mut console) = request();
    let mut vm = restore(&template, request).await.unwrap();
    letters(&mut console, 2).await;
    vm.pause().await.unwrap();
    // What was written before the pause is in the pipe.
    let mut rest = [0; 4096];
    let _ = console.try_read(&mut rest);
    let silent = tokio::time::timeout(Duration::from_millis(200), letters(&mut console, 1)).await;
    assert!(silent.is_err());
    vm.resume().await.unwrap();
    letters(&mut console, 3).await;
}

#[tokio::test]
async fn h1_a_dropped_vm_leaves_no_process_and_no_zombie() {
    let guinea = Guinea::new();
    let (template, _) = guinea.ensure().await;
    let (request, _console) = request();
    let vm = restore(&template, request).await.unwrap();
    let pid = vm.pid();
    drop(vm);
    gone(pid).await;
}

#[tokio::test]
async fn h2_eight_starts_abandoned_at_any_moment_leave_no_zombie() {
    let guinea = Guinea::new();
    let (template, _) = guinea.ensure().await;
    let before = children();
    for millisecond in [0, 1, 3, 6, 10, 15, 20, 25] {
        let (request, _console) = request();
        let abandoned = restore(&template, request);
        let _ = tokio::time::timeout(Duration::from_millis(millisecond), abandoned).await;
    }
    let deadline = Instant::now() + SOON;
    while children() != before {
        assert!(Instant::now() < deadline, "{:?} were {before:?}", children());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn h2_a_vm_outlived_by_no_event_loop_is_killed_and_reaped() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let vm = runtime.block_on(async {
        let guinea = Guinea::new();
        let (template, _) = guinea.ensure().await;
        let (request, _console) = request();
        restore(&template, request).await.unwrap()
    });
    let pid = vm.pid();
    drop(runtime);
    let deadline = std::time::Instant::now() + SOON;
    while std::path::Path::new(&format!("/proc/{pid}")).exists() {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(vm);
}

#[tokio::test]
async fn h13_files_opened_wrongly_are_refused_before_qemu_is_started() {
    let guinea = Guinea::new();
    let (template, _) = guinea.ensure().await;
    let refuse = async |change: fn(&mut RestoreRequest)| {
        let (mut request, _console) = request();
        change(&mut request);
        restore(&template, request).await.unwrap_err().to_string()
    };
    let writable = refuse(|r| r.image = r.disk.top.try_clone().unwrap()).await;
    assert_eq!(writable, "the box's image must be opened read-only");
    let unwritable = refuse(|r| r.disk = Disk::raw(r.image.try_clone().unwrap())).await;
    assert_eq!(unwritable, "the box's disk must be opened for reading and writing");
    let short = refuse(|r| r.disk.top.set_len(512).unwrap()).await;
    assert_eq!(short, format!("the box's disk has 512 bytes; it must have {BOX_DISK_BYTES}"));
}

/// Our children that are named like QEMU, zombies too; of this test's thread only, as each test
/// starts its VMs on its own.
fn children() -> Vec<u32> {
    let thread = rustix::thread::gettid().as_raw_nonzero();
    let path = format!("/proc/self/task/{thread}/children");
    let text = fs::read_to_string(path).unwrap();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

async fn gone(pid: u32) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while std::path::Path::new(&format!("/proc/{pid}")).exists() {
        assert!(Instant::now() < deadline, "{pid} is still there");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
