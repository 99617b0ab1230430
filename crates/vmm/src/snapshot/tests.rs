//! Captures of a real QEMU with a small guest, which counts in its memory.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Duration;

use boxwood_types::chain;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use super::*;
use crate::guinea::{COUNTER_AT, Guinea, counter, request};
use crate::{Disk, RestoreRequest, Vm, make_overlay, restore};

const WITHIN: Duration = Duration::from_secs(30);

/// The next letters of a console.
async fn letters(console: &mut Receiver, count: usize) -> String {
    let mut bytes = vec![0; count];
    tokio::time::timeout(WITHIN, console.read_exact(&mut bytes)).await.unwrap().unwrap();
    String::from_utf8(bytes).unwrap()
}

/// The letter for a number.
fn letter(number: u32) -> char {
    (b'a' + (number & 15) as u8) as char
}

async fn capture(vm: &mut Vm, directory: &Path) -> Captured {
    fs::create_dir(directory).unwrap();
    let overlay = tempfile::tempfile().unwrap();
    make_overlay(&overlay).unwrap();
    let captured = vm
        .capture(CaptureRequest {
            part: Part::Everything,
            directory,
            mark: [7; 16],
            overlay,
            switch: &mut |_| Ok(()),
            within: WITHIN,
        })
        .await;
    captured.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

/// A request with a disk in two layers, as after a capture.
fn layered() -> (RestoreRequest, Receiver) {
    let (mut request, console) = request();
    let top = tempfile::tempfile().unwrap();
    make_overlay(&top).unwrap();
    let bottom = tempfile::NamedTempFile::new().unwrap();
    bottom.as_file().set_len(crate::BOX_DISK_BYTES).unwrap();
    request.disk = Disk { top, below: vec![File::open(bottom.path()).unwrap()] };
    (request, console)
}

async fn restored(directory: &Path) -> (Vm, Receiver) {
    let frozen = Frozen::open_fresh(directory).await.unwrap_or_else(|e| panic!("{}", chain(&e)));
    assert_eq!(frozen.mark(), Some([7; 16]));
    let (request, console) = layered();
    (frozen.restore(request).await.unwrap_or_else(|e| panic!("{}", chain(&e))), console)
}

#[tokio::test]
async fn s2_a_captured_vm_goes_on_and_so_do_all_that_are_restored_from_it_at_every_depth() {
    let guinea = Guinea::new();
    let (template, _) = guinea.ensure().await;
    let (request, mut console) = request();
    let mut vm = restore(&template, request).await.unwrap();
    letters(&mut console, 3).await;
    let mut last = 0;
    let mut directory = guinea.dir.path().join("0");
    for depth in 0..4 {
        let captured = capture(&mut vm, &directory).await;
        assert!(captured.pages > 0 && captured.pages < 1000, "{captured:?}");
        // The one that was captured runs on.
        letters(&mut console, 2).await;
        let (next, mut its_console) = restored(&directory).await;
        let ram = File::open(directory.join("ram")).unwrap();
        let at = counter(&ram);
        assert!(at > last, "{at} at depth {depth} after {last}");
        let said = letters(&mut its_console, 3).await;
        assert!(said.contains(letter(at + 1)), "{said} after {at}");
        (vm, console, last) = (next, its_console, at);
        directory = guinea.dir.path().join((depth + 1).to_string());
    }
}

#[tokio::test]
async fn s2_a_second_capture_stores_only_what_changed() {
    let guinea = Guinea::new();
    let (template, _) = guinea.ensure().await;
    let (request, mut console) = request();
    let mut vm = restore(&template, request).await.unwrap();
    letters(&mut console, 2).await;
    let [one, two] = ["1", "2"].map(|name| guinea.dir.path().join(name));
    capture(&mut vm, &one).await;
    letters(&mut console, 2).await;
    let second = capture(&mut vm, &two).await;
    assert_eq!(second.pages, 1, "the counter's");
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(&one.join("pages.0")), inode(&two.join("pages.0")));
    // Each is whole without the other.
    fs::remove_dir_all(&one).unwrap();
    restored(&two).await;
}

/// A sealed snapshot.
async fn sealed(guinea: &Guinea) -> std::path::PathBuf {
    let (template, _) = guinea.ensure().await;
    let (request, mut console) = request();
    let mut vm = restore(&template, request).await.unwrap();
    letters(&mut console, 2).await;
    let directory = guinea.dir.path().join("sealed");
    capture(&mut vm, &directory).await;
    fs::write(layer(&directory, 0), "a disk").unwrap();
    fs::write(directory.join("more.json"), "{}").unwrap();
    seal(&directory, &["more.json"]).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    directory
}

#[tokio::test]
async fn s1_a_flipped_byte_anywhere_is_found_before_use() {
    let guinea = Guinea::new();
    let directory = sealed(&guinea).await;
    Frozen::open(&directory, &directory).await.unwrap();
    for name in [
        "state",
        "base",
        "pages.0",
        "disk.0",
        "more.json",
        "sketch.json",
        "manifest.json",
        "manifest.sha256",
    ] {
        let path = directory.join(name);
        let whole = fs::read(&path).unwrap();
        // Of the base, a byte that is data and not a hole.
        let at = if name == "base" { COUNTER_AT as usize } else { whole.len() / 2 };
        let mut flipped = [whole[at]];
        flipped[0] ^= 0x10;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&flipped, at as u64).unwrap();
        let error = chain(&Frozen::open(&directory, &directory).await.unwrap_err());
        assert!(error.contains("is damaged"), "{name}: {error}");
        file.write_all_at(&whole[at..=at], at as u64).unwrap();
        Frozen::open(&directory, &directory)
            .await
            .unwrap_or_else(|e| panic!("{name}: {}", chain(&e)));
    }
}

#[tokio::test]
async fn s1_a_short_or_missing_file_and_another_qemu_are_found_before_use() {
    let guinea = Guinea::new();
    let directory = sealed(&guinea).await;
    let error = async || chain(&Frozen::open(&directory, &directory).await.unwrap_err());
    let pages = directory.join("pages.0");
    let whole = fs::read(&pages).unwrap();
    fs::write(&pages, &whole[..whole.len() - 1]).unwrap();
    assert!(error().await.contains("its pages.0 has"), "{}", error().await);
    fs::remove_file(&pages).unwrap();
    assert!(error().await.contains("its pages.0 can't be read"), "{}", error().await);
    fs::write(&pages, &whole).unwrap();
    Frozen::open(&directory, &directory).await.unwrap();

    let sketch = directory.join("sketch.json");
    let text = fs::read_to_string(&sketch).unwrap();
    let (before, after) = text.split_once("\"size\": ").unwrap();
    fs::write(&sketch, format!("{before}\"size\": 1{after}")).unwrap();
    for name in ["manifest.json", "manifest.sha256"] {
        fs::remove_file(directory.join(name)).unwrap();
    }
    seal(&directory, &["more.json"]).await.unwrap();
    assert!(error().await.contains("another build of"), "{}", error().await);
}

/// A VM that goes on from a sealed snapshot, and what that leaves to be done.
async fn thawed(directory: &Path) -> (Vm, Receiver, Option<Unfinished>) {
    let frozen = Frozen::open(directory, directory).await.unwrap();
    let unfinished = frozen.unfinished();
    let (request, console) = layered();
    let vm = frozen.restore(request).await.unwrap_or_else(|e| panic!("{}", chain(&e)));
    (vm, console, unfinished)
}

#[tokio::test]
async fn s1_a_first_restore_goes_on_without_a_whole_memory_and_later_ones_share_it() {
    let guinea = Guinea::new();
    let directory = sealed(&guinea).await;
    let ram = directory.join("ram");
    let (mut first, mut its_console, unfinished) = thawed(&directory).await;
    let said = letters(&mut its_console, 3).await;
    assert!(!ram.exists(), "nobody has made it yet");
    unfinished.expect("it is to be made").make().unwrap();
    let at = counter(&File::open(&ram).unwrap());
    assert!(said[..2].contains(letter(at + 1)), "{said} after {at}");
    let (_later, mut its_console, unfinished) = thawed(&directory).await;
    let said = letters(&mut its_console, 3).await;
    assert!(said[..2].contains(letter(at + 1)), "{said} after {at}");
    assert!(unfinished.is_none(), "it is there");
    // Of the one that has it in its own memory only what changed since is stored.
    let next = guinea.dir.path().join("next");
    assert_eq!(capture(&mut first, &next).await.pages, 1, "the counter's");
    let (_vm, mut its_console) = restored(&next).await;
    let at = counter(&File::open(next.join("ram")).unwrap());
    let said = letters(&mut its_console, 3).await;
    assert!(said[..2].contains(letter(at + 1)), "{said} after {at}");
}

#[tokio::test]
async fn s1_what_is_made_for_a_snapshot_goes_into_no_other_that_has_its_name_by_then() {
    let guinea = Guinea::new();
    let directory = sealed(&guinea).await;
    let frozen = Frozen::open(&directory, &directory).await.unwrap();
    let unfinished = frozen.unfinished().expect("it is to be made");
    let gone = guinea.dir.path().join("gone");
    fs::rename(&directory, &gone).unwrap();
    fs::create_dir(&directory).unwrap();
    unfinished.make().unwrap();
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0, "it is another's");
    assert!(gone.join("ram").exists() && gone.join("ram.made").exists());
    // Nor does it come to be once more where all of it was deleted.
    let frozen = Frozen::open(&gone, &gone).await.unwrap();
    assert!(frozen.unfinished().is_none());
    fs::remove_dir_all(&gone).unwrap();
    assert!(unfinished.make().is_err());
    assert!(!gone.exists());
}

#[tokio::test]
async fn s1_a_memory_that_was_made_whole_is_made_again_when_it_changed() {
    let guinea = Guinea::new();
    let directory = sealed(&guinea).await;
    let open = async || {
        let frozen = Frozen::open(&directory, &directory).await.unwrap();
        frozen.unfinished().map_or(Ok(()), |unfinished| unfinished.make()).unwrap();
    };
    open().await;
    let ram = directory.join("ram");
    let right = counter(&File::open(&ram).unwrap());
    File::options().write(true).open(&ram).unwrap().write_all_at(&[9; 4], COUNTER_AT).unwrap();
    open().await;
    assert_eq!(counter(&File::open(&ram).unwrap()), right);
}

#[tokio::test]
async fn s1_a_memory_that_was_made_for_an_earlier_state_takes_no_room_from_the_next() {
    let guinea = Guinea::new();
    let directory = sealed(&guinea).await;
    let ram = directory.join("ram");
    let unfinished = async || Frozen::open(&directory, &directory).await.unwrap().unfinished();
    unfinished().await.expect("it is to be made").make().unwrap();
    assert!(unfinished().await.is_none());
    // As when it was made before the host booted, or what was made can't be trusted any more.
    fs::remove_file(directory.join("ram.made")).unwrap();
    let again = unfinished().await.expect("it is to be made again");
    assert!(!ram.exists(), "it was there when room was asked for");
    // The same for who makes it, when it was spoilt since.
    fs::write(&ram, "of no use").unwrap();
    let room_taken = File::open(&ram).unwrap();
    again.make().unwrap();
    assert_eq!(room_taken.metadata().unwrap().nlink(), 0);
    assert!(unfinished().await.is_none(), "it is whole");
}
