//! Contract S1: what is wrong with a snapshot's files is found before anything of it runs, and a snapshot
//! that was carried elsewhere is the same or none.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use boxwood_tests::{Folder, Invocation, Lab, SmallHome, StoreKind, Tree, is_root};

const DATA: &str = "cat /dev/shm/data /data | sha256sum";

/// A snapshot in two generations: two captures of memory, two layers of the disk and one below.
fn two_generations(lab: &Lab) -> (PathBuf, String) {
    let script = "head -c 500000 /dev/urandom | tee /data > /dev/shm/data; echo ready; sleep 600";
    lab.detached("one", ["busybox", "sh", "-c", script]);
    lab.logged("one", "ready\n");
    lab.snapshot("one", "first");
    lab.restored("first", "two");
    lab.exec(["two", "sh", "-c", "echo more >> /data; echo more >> /dev/shm/data"]).output();
    let data = lab.exec(["two", "sh", "-c", DATA]).output().exits(0).word();
    lab.snapshot("two", "warm");
    lab.remove("one");
    lab.remove("two");
    lab.forget("first");
    (lab.home().join("snapshots/warm"), data)
}

/// The names of a snapshot's files that are the snapshot, and not what was found out about it.
fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let caches = ["ram", "ram.made", "verified"];
    let mut names: Vec<String> = names.filter(|name| !caches.contains(&&**name)).collect();
    names.sort();
    names
}

/// Puts a copy into a file's place, changed: others that share the file keep theirs.
fn change(path: &Path, change: impl FnOnce(&File)) -> PathBuf {
    let aside = path.with_extension("aside");
    fs::rename(path, &aside).unwrap();
    let copy = Invocation::new("cp").args(["--sparse=always"]).args([aside.as_path(), path]);
    drop(copy.output().exits(0));
    change(&File::options().read(true).write(true).open(path).unwrap());
    aside
}

/// Waits until the memory is whole: a restored box's shim makes it behind the box.
fn made_whole(folder: &Path) {
    let [ram, made] = ["ram", "ram.made"].map(|name| folder.join(name));
    // What somebody has written into it is no memory.
    let whole = || fs::metadata(&ram).is_ok_and(|meta| meta.len() >= 1 << 20) && made.exists();
    Folder::watch(folder).until(|| whole().then_some(()));
}

/// Flips a byte in the middle of what a file really holds.
fn flip(file: &File) {
    let size = file.metadata().unwrap().len();
    let at = rustix::fs::seek(file, rustix::fs::SeekFrom::Data(size / 2))
        .or_else(|_| rustix::fs::seek(file, rustix::fs::SeekFrom::Data(0)));
    let at = at.unwrap() + 1;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

#[test]
fn s1_a_damaged_file_of_a_snapshot_is_found_before_use() {
    let lab = Lab::new();
    let (folder, data) = two_generations(&lab);
    lab.boxwood(["snapshot", "verify", "warm"]).output().exits(0).quietly().prints("warm\n");
    let names = files(&folder);
    let expected = [
        "base",
        "disk.0",
        "disk.1",
        "manifest.json",
        "manifest.sha256",
        "pages.0",
        "pages.1",
        "sketch.json",
        "snapshot.json",
        "state",
    ];
    assert_eq!(names, expected);
    let is_found = |name: &str| {
        let boxes = Tree::of(&lab.home().join("boxes"));
        for verb in [&["snapshot", "verify"][..], &["restore", "--name", "clone"]] {
            let words = &["warm", if name.starts_with("manifest") { "manifest" } else { name }];
            let asked = lab.boxwood(verb).args(["warm"]).output();
            drop(asked.refused(words));
        }
        boxes.is_still(&lab.home().join("boxes"));
        assert_eq!(lab.boxes(), [""; 0]);
    };
    for name in &names {
        let path = folder.join(name);
        let mend = |aside: PathBuf| fs::rename(aside, &path).unwrap();
        let aside = change(&path, flip);
        is_found(name);
        mend(aside);
        let aside = change(&path, |file| file.set_len(file.metadata().unwrap().len() - 1).unwrap());
        is_found(name);
        mend(aside);
        let aside = folder.join("aside");
        fs::rename(&path, &aside).unwrap();
        // Without this file nobody knows that there is a snapshot.
        is_found(if name == "snapshot.json" { "no such snapshot" } else { name });
        mend(aside);
    }
    lab.restored("warm", "clone");
    assert_eq!(lab.exec(["clone", "sh", "-c", DATA]).output().word(), data);
    lab.remove("clone");
    lab.forget("warm");
}

#[test]
fn s1_what_only_a_full_check_can_find_is_found_by_verify() {
    let lab = Lab::new();
    let (folder, data) = two_generations(&lab);
    lab.restored("warm", "clone");
    made_whole(&folder);
    lab.remove("clone");
    // Neither its size nor its times tell.
    let silently = |path: &Path| {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let time = file.metadata().unwrap().modified().unwrap();
        flip(&file);
        file.set_modified(time).unwrap();
    };
    silently(&folder.join("pages.1"));
    lab.boxwood(["snapshot", "verify", "warm"]).output().refused(&["its pages.1 is damaged"]);
    silently(&folder.join("pages.1"));
    // What was made of them is made again.
    silently(&folder.join("ram"));
    lab.boxwood(["snapshot", "verify", "warm"]).output().exits(0);
    assert!(!folder.join("ram.made").exists());
    lab.restored("warm", "clone");
    made_whole(&folder);
    assert_eq!(lab.exec(["clone", "sh", "-c", DATA]).output().word(), data);
    lab.remove("clone");
    // The same when it is plain to see.
    fs::write(folder.join("ram"), "nothing").unwrap();
    lab.restored("warm", "clone");
    made_whole(&folder);
    assert_eq!(lab.exec(["clone", "sh", "-c", DATA]).output().word(), data);
    lab.remove("clone");
    // And it goes with what is not in use.
    let size = lab.boxwood(["snapshot", "ls", "--format", "{{.Name}} {{.CacheSize}}"]).output();
    assert_ne!(size.exits(0).text(), "warm 0B\n");
    lab.forget("warm");
}

#[test]
fn s1_what_a_snapshot_can_be_made_of_again_is_pruned() {
    let lab = Lab::with(StoreKind::CopiedTemplates);
    let (folder, data) = two_generations(&lab);
    lab.restored("warm", "clone");
    made_whole(&folder);
    let pruned = lab.boxwood(["prune", "-f", "--templates"]).output().exits(0);
    assert!(pruned.text().contains("of snapshot: warm\n"), "{pruned:?}");
    assert!(!folder.join("ram").exists());
    // Who runs on it does not notice, and it is there again when it is needed.
    assert_eq!(lab.exec(["clone", "sh", "-c", DATA]).output().word(), data);
    lab.restored("warm", "late");
    made_whole(&folder);
    assert_eq!(lab.exec(["late", "sh", "-c", DATA]).output().word(), data);
    lab.remove("clone");
    lab.remove("late");
    lab.forget("warm");
}

#[test]
fn s1_a_snapshot_of_another_qemu_is_refused_and_its_disk_is_of_use() {
    let lab = Lab::with(StoreKind::OwnTemplates);
    // It looks for its parts beside itself.
    let (bin, qemu) = (lab.folder().join("bin"), lab.folder().join("bin/qemu"));
    fs::create_dir(&bin).unwrap();
    fs::copy("/usr/bin/qemu-system-x86_64", &qemu).unwrap();
    for part in ["lib", "share"] {
        std::os::unix::fs::symlink(Path::new("/usr").join(part), lab.folder().join(part)).unwrap();
    }
    let with = |args: &[&str]| lab.boxwood(args).env("BOXWOOD_QEMU", &qemu);
    let main = "cat /kept 2>/dev/null; echo kept > /kept; echo ready; sleep 600";
    let run = ["run", "-d", "-m", "128m", "--name", "web", "busybox", "sh", "-c", main];
    with(&run).output().exits(0);
    lab.logged("web", "ready\n");
    with(&["snapshot", "create", "web", "warm"]).output().exits(0);
    with(&["restore", "--name", "clone", "warm"]).output().exits(0);
    for name in ["web", "clone"] {
        lab.remove(name);
    }
    let boxes = Tree::of(&lab.home().join("boxes"));
    // The one that boxes run with here is another.
    let other = lab.boxwood(["restore", "warm"]).output();
    let path = qemu.to_str().unwrap();
    drop(other.refused(&[path, "/usr/bin/qemu-system-x86_64", "restore --disk-only"]));
    // It was replaced by an upgrade.
    let file = File::options().write(true).open(&qemu).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    drop(file);
    let upgraded = with(&["restore", "warm"]).output();
    drop(upgraded.refused(&["another build of", path, "restore --disk-only"]));
    boxes.is_still(&lab.home().join("boxes"));
    let begun = with(&["restore", "--disk-only", "--name", "anew", "warm"]).output();
    begun.exits(0);
    lab.logged("anew", "kept\nready\n");
    lab.remove("anew");
    lab.forget("warm");
}

/// Both kinds of stores and homes differ, the image is the same.
#[test]
fn s1_a_snapshot_that_was_exported_is_the_same_where_it_is_imported() {
    let (lab, there) = (Lab::new(), Lab::new());
    let (_, data) = two_generations(&lab);
    let file = lab.folder().join("warm.bxs");
    let export = lab.boxwood(["snapshot", "export", "-o"]).args([&file]).args(["warm"]);
    export.output().exits(0).quietly().prints("");
    let size = fs::metadata(&file).unwrap().len();
    assert!(size < 200 << 20, "{size} bytes");
    let piped = lab.boxwood(["snapshot", "export", "warm"]).output().exits(0).stdout;
    assert!(piped == fs::read(&file).unwrap());
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600, "others can read its memory");
    // Who has read enough of it goes, as a shell expects.
    let (reader, writer) = std::io::pipe().unwrap();
    let cut = lab.boxwood(["snapshot", "export", "warm"]).stdout_to(writer).spawn();
    drop(reader);
    cut.wait().exits(141).quietly();
    // What is no file is written to, and what a link leads to is replaced.
    let out = lab.boxwood(["snapshot", "export", "-o", "/dev/stdout", "warm"]).output().exits(0);
    assert!(out.stdout == piped);
    let link = lab.folder().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    fs::write(&file, "old").unwrap();
    let export = lab.boxwood(["snapshot", "export", "-o"]).args([&link]).args(["warm"]);
    export.output().exits(0).quietly().prints("");
    assert_eq!(fs::read_link(&link).unwrap(), file);
    assert!(piped == fs::read(&file).unwrap());
    let import = |args: &[&str]| there.boxwood(["snapshot", "import"]).args(args);
    import(&[]).stdin(piped.clone()).output().exits(0).quietly().prints("warm\n");
    import(&[]).stdin(piped).output().refused(&["a snapshot named 'warm'"]);
    let named = import(&["-i", file.to_str().unwrap(), "other"]).output();
    named.exits(0).quietly().prints("other\n");
    let listed = there.boxwood(["snapshot", "ls", "--format", "{{.Name}} {{.Box}}"]).output();
    assert_eq!(listed.exits(0).lines(), ["warm two", "other two"]);
    lab.forget("warm");
    for name in ["warm", "other"] {
        there.boxwood(["snapshot", "verify", name]).output().exits(0);
        there.restored(name, "clone");
        assert_eq!(there.exec(["clone", "sh", "-c", DATA]).output().word(), data);
        there.remove("clone");
        there.forget(name);
    }
}

#[test]
fn s1_what_is_no_exported_snapshot_is_refused_and_leaves_nothing() {
    let lab = Lab::new();
    lab.idle("web");
    lab.snapshot("web", "warm");
    lab.remove("web");
    let compressed = lab.boxwood(["snapshot", "export", "warm"]).output().exits(0).stdout;
    lab.forget("warm");
    let plain = plain(&compressed);
    let refuse = |bytes: &[u8], words: &[&str]| {
        let import = lab.boxwood(["snapshot", "import"]).stdin(bytes);
        let words: Vec<&str> = ["this is no snapshot"].iter().chain(words).copied().collect();
        lab.refuses(import, &words);
    };
    refuse(b"", &[]);
    refuse(b"nothing of the kind", &[]);
    refuse(&compressed[..compressed.len() / 2], &[]);
    refuse(&plain[..plain.len() / 2], &[]);
    refuse(&plain[..512 * 2], &["manifest"]);
    // A byte in each of its parts, as far as they are data.
    for part in 1..16 {
        let at = plain.len() * part / 16;
        let at = at + plain[at..].iter().position(|byte| *byte != 0).unwrap_or_default();
        let mut flipped = plain.clone();
        flipped[at] ^= 0x10;
        refuse(&flipped, &[]);
    }
    // Something behind it, a link in its place, a name that leads elsewhere.
    let end = plain.len() - 1024;
    refuse(&[&plain[..end], &entry("more", b'0', b"x"), &[0; 1024]].concat(), &["behind"]);
    refuse(&[&entry("manifest.sha256", b'2', b""), &plain[..]].concat(), &["manifest.sha256"]);
    refuse(&entry("../manifest.sha256", b'0', &[b'0'; 64]), &["manifest.sha256"]);
    // A name so long that it would fill the memory.
    refuse(&[&header("././@LongLink", b'L', 1 << 33)[..], &[0; 4096]].concat(), &[]);
    refuse(&[&header("manifest.sha256", b'0', 1 << 33)[..], &[0; 4096]].concat(), &["bytes"]);
    lab.boxwood(["snapshot", "import", "-i", "/no/such/file"]).output().refused(&["/no/such/file"]);
    // It is all right but for these.
    let imported = lab.boxwood(["snapshot", "import"]).stdin(plain).output();
    imported.exits(0).prints("warm\n");
    lab.forget("warm");
}

#[test]
fn s1_a_snapshot_whose_image_is_not_there_is_refused_and_an_image_in_use_stays() {
    let lab = Lab::with(StoreKind::OwnImages);
    lab.idle("web");
    lab.snapshot("web", "warm");
    lab.remove("web");
    let id = lab.boxwood(["images", "-q", "--no-trunc"]).output().exits(0).lines().remove(0);
    lab.boxwood(["rmi", "busybox"]).output().refused(&["snapshot warm"]);
    lab.boxwood(["rmi", "-f", &id]).output().exits(0);
    let file = lab.folder().join("warm.bxs");
    lab.boxwood(["snapshot", "export", "-o"]).args([&file]).args(["warm"]).output().exits(0);
    lab.forget("warm");
    lab.boxwood(["rmi", &id]).output().exits(0);
    let import = || lab.boxwood(["snapshot", "import", "-i"]).args([&file]);
    lab.refuses(import(), &["needs its image busybox"]);
    drop(fs::remove_file(&file));
}

/// What zstd makes of it, on the host.
fn plain(compressed: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    zstd::Decoder::new(compressed).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// The header of a tar entry (POSIX.1-1988).
fn header(name: &str, kind: u8, size: u64) -> [u8; 512] {
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(b"0000600");
    // The binary form, as octal digits do not reach so far.
    header[124] = 0x80;
    header[128..136].copy_from_slice(&size.to_be_bytes());
    header[156] = kind;
    header[257..263].copy_from_slice(b"ustar\0");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header
}

fn entry(name: &str, kind: u8, bytes: &[u8]) -> Vec<u8> {
    let padding = vec![0; bytes.len().next_multiple_of(512) - bytes.len()];
    [&header(name, kind, bytes.len() as u64)[..], bytes, &padding].concat()
}

#[test]
fn s1_a_memory_that_is_out_of_date_takes_no_room_from_the_one_that_is_made_again() {
    if !is_root() {
        eprintln!("skipped: only root can mount");
        return;
    }
    let lab = Lab::new();
    let home = SmallHome::of_snapshots(&lab, "500m");
    lab.idle("source");
    lab.snapshot("source", "warm");
    let folder = lab.home().join("snapshots/warm");
    lab.restored("warm", "first");
    made_whole(&folder);
    lab.remove("first");
    // From now on what was made is not trusted, and there is no room for a second one.
    lab.boxwood(["snapshot", "verify", "warm"]).output().exits(0);
    home.fill_but(24 << 20);
    lab.restored("warm", "second");
    lab.exec(["second", "true"]).output().exits(0);
    made_whole(&folder);
    for name in ["source", "second"] {
        lab.remove(name);
    }
    lab.forget("warm");
}
