//! The store: names, IDs, removal, damage, and many writers at once.

use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

use boxwood_image::{ErrorKind, Image, ImageError, ImageStore, Removal, Removed, Source};

use crate::support::archive::{Tar, docker};
use crate::support::{Scratch, chain, erofs, tools};

fn archive(name: &str, content: &str) -> Vec<u8> {
    docker(&[(&[name], &[Tar::new().file("a", content).end()])])
}

fn unused() -> Removal<'static> {
    Removal::Careful(&|_| None)
}

fn familiar(removed: &Removed) -> Vec<String> {
    removed.untagged.iter().map(|name| name.familiar()).collect()
}

#[test]
fn an_image_is_found_by_name_by_id_and_by_the_start_of_its_id() {
    let scratch = Scratch::new();
    let image = scratch.image(&archive("app:1", "x"));
    let id = image.id().clone();
    for reference in
        ["app:1", "docker.io/library/app:1", id.as_str(), id.hex(), id.short(), &id.hex()[..1]]
    {
        assert_eq!(scratch.store.resolve(reference).unwrap().id(), &id, "{reference}");
    }
    assert_eq!(scratch.store.resolve(&format!("sha256:{}", id.short())).unwrap().id(), &id);
    assert_eq!(image.names()[0].familiar(), "app:1");
    assert_eq!(image.architecture(), "amd64");
    assert!(image.created().is_some());
}

#[test]
fn h13_an_image_that_is_not_there_says_how_to_get_it() {
    let scratch = Scratch::new();
    for reference in ["nope", "me/nope:1", "deadbeef", &format!("sha256:{}", "0".repeat(64))] {
        let error = scratch.store.resolve(reference).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let line = error.to_string();
        for word in [reference, "boxwood load -i", "boxwood import"] {
            assert!(line.contains(word), "{line}");
        }
    }
    for reference in ["", "UPPER", "a b", "../a", "a@sha256:00"] {
        let error = scratch.store.resolve(reference).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadInput, "{reference}");
        assert_eq!(chain(&error).lines().count(), 1);
    }
}

#[test]
fn h13_the_start_of_several_ids_is_ambiguous() {
    let scratch = Scratch::new();
    // With 17 images two share their first digit.
    let ids: Vec<String> = (0..17)
        .map(|at| scratch.image(&archive(&format!("i{at}"), &at.to_string())).id().hex().to_owned())
        .collect();
    let shared =
        ids.iter().find(|id| ids.iter().filter(|other| other[..1] == id[..1]).count() > 1).unwrap();
    let error = scratch.store.resolve(&format!("sha256:{}", &shared[..1])).unwrap_err();
    assert!(matches!(error, ImageError::Ambiguous { .. }), "{error}");
    assert!(error.to_string().contains("write more of it"));
}

#[test]
fn a_name_moves_to_the_image_loaded_last() {
    let scratch = Scratch::new();
    let first = scratch.image(&archive("app", "1"));
    let second = scratch.image(&archive("app", "2"));
    assert_eq!(scratch.store.resolve("app").unwrap().id(), second.id());
    assert!(scratch.store.resolve(first.id().as_str()).unwrap().names().is_empty());
    scratch.store.tag(first.id().short(), &"app:old".parse().unwrap()).unwrap();
    assert_eq!(scratch.store.resolve("app:old").unwrap().id(), first.id());
    let listed = scratch.store.list().unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|image| image.names.len() == 1 && image.damaged.is_none()));
}

#[test]
fn an_image_goes_with_its_last_name() {
    let scratch = Scratch::new();
    let image = scratch.image(&archive("app:1", "x"));
    scratch.store.tag("app:1", &"app:2".parse().unwrap()).unwrap();
    let removed = scratch.store.remove("app:1", unused()).unwrap();
    assert_eq!((familiar(&removed), removed.deleted), (vec!["app:1".to_owned()], None));
    let removed = scratch.store.remove("app:2", unused()).unwrap();
    assert_eq!(removed.deleted.as_ref(), Some(image.id()));
    assert!(matches!(scratch.store.resolve("app:2"), Err(ImageError::NotFound(_))));
    assert_eq!(scratch.files().len(), 1, "only the empty list of names: {:?}", scratch.files());
}

#[test]
fn removal_by_id_of_several_names_is_forced_or_refused() {
    let scratch = Scratch::new();
    let image = scratch.image(&docker(&[(&["a:1", "b:2"], &[Tar::new().end()])]));
    let id = image.id().short().to_owned();
    let error = scratch.store.remove(&id, unused()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("a:1, b:2"), "{error}");
    let removed = scratch.store.remove(&id, Removal::Forced(&|_| None)).unwrap();
    assert_eq!(familiar(&removed), ["a:1", "b:2"]);
    assert!(removed.deleted.is_some());
}

#[test]
fn an_image_in_use_stays() {
    let scratch = Scratch::new();
    let image = scratch.image(&archive("app", "x"));
    let user = |id: &boxwood_types::Digest| (id == image.id()).then(|| "box web".to_owned());
    let error = scratch.store.remove("app", Removal::Careful(&user)).unwrap_err();
    assert!(error.to_string().contains("in use by box web"), "{error}");
    assert!(scratch.store.resolve("app").is_ok());
    let removed = scratch.store.remove("app", Removal::Forced(&user)).unwrap();
    assert_eq!((familiar(&removed), removed.deleted), (vec!["app:latest".to_owned()], None));
    let kept = scratch.store.resolve(image.id().as_str()).unwrap();
    assert!(kept.names().is_empty());
}

#[test]
fn a_removed_image_stays_readable_for_who_has_it_open() {
    let scratch = Scratch::new();
    let image = scratch.image(&archive("app", "x"));
    let file = image.open_block().unwrap();
    scratch.store.remove("app", unused()).unwrap();
    let mut magic = [0; 4];
    file.read_exact_at(&mut magic, 1024).unwrap();
    assert_eq!(magic, 0xE0F5_E1E2u32.to_le_bytes());
}

#[test]
fn s1_a_flipped_byte_is_found_by_verify() {
    let scratch = Scratch::new();
    let image = scratch.image(&archive("app", "some content"));
    scratch.store.verify(&image).unwrap();
    let path = image.block();
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    for at in [4096, 1024, image.content_bytes() - 1, image.content_bytes() + (1 << 30)] {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        let error = scratch.store.verify(&image).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{at}");
        file.write_all_at(&byte, at).unwrap();
        scratch.store.verify(&image).unwrap();
    }
}

#[test]
fn s1_a_missing_or_cut_block_image_is_said_and_loads_again() {
    let scratch = Scratch::new();
    let archive = archive("app", "x");
    let image = scratch.image(&archive);
    let damage: [fn(&Image); 2] = [
        |image| std::fs::remove_file(image.block()).unwrap(),
        |image| {
            let file = std::fs::OpenOptions::new().write(true).open(image.block()).unwrap();
            file.set_len(4096).unwrap();
        },
    ];
    for damage in damage {
        damage(&image);
        let error = scratch.store.resolve("app").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(error.to_string().contains("load or import it again"), "{error}");
        assert!(scratch.store.list().unwrap()[0].damaged.is_some());
        assert!(!scratch.load(&archive).unwrap()[0].existed);
        scratch.store.verify(&scratch.store.resolve("app").unwrap()).unwrap();
    }
}

#[test]
fn s1_a_record_or_name_list_of_another_content_is_said() {
    let scratch = Scratch::new();
    let image = scratch.image(&archive("app", "x"));
    let record = scratch.store.dir().join("records").join(format!("{}.json", image.id().hex()));
    let good = std::fs::read_to_string(&record).unwrap();
    for bad in [good.replace("PATH", "HTAP"), good.replace("\"version\": 1", "\"version\": 2")] {
        assert_ne!(bad, good);
        std::fs::write(&record, bad).unwrap();
        assert_eq!(scratch.store.resolve("app").unwrap_err().kind(), ErrorKind::Damaged);
    }
    for bad in ["", "{", "{\"version\":1}", "null"] {
        std::fs::write(&record, bad).unwrap();
        let error = scratch.store.resolve("app").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(error.to_string().contains("records"), "{error}");
    }
    std::fs::write(&record, good).unwrap();
    std::fs::write(scratch.store.dir().join("tags.json"), "[]").unwrap();
    assert!(scratch.store.resolve("app").unwrap_err().to_string().contains("tags.json"));
}

#[test]
fn h1_what_a_dead_writer_left_goes_with_the_next_write() {
    let scratch = Scratch::new();
    scratch.image(&archive("app", "x"));
    let orphan = scratch.store.dir().join("blocks").join(format!("{}.erofs", "0".repeat(64)));
    std::fs::write(&orphan, "of a load that died before its record").unwrap();
    std::fs::write(scratch.store.dir().join("tmp/dead"), "half").unwrap();
    let live = scratch.store.dir().join("tmp/live");
    let writer = std::fs::File::create(&live).unwrap();
    writer.lock().unwrap();
    scratch.image(&archive("app", "y"));
    assert!(!orphan.exists());
    let left: Vec<String> =
        scratch.files().into_iter().filter(|path| path.contains("store/tmp/")).collect();
    assert!(left.iter().any(|path| path.ends_with("live")), "{left:?}");
    assert!(!left.iter().any(|path| path.ends_with("dead")), "{left:?}");
}

/// The name of the variable that makes this test binary a loader: a second process.
const LOADER: &str = "BOXWOOD_TEST_LOADER";

/// Loads what the variable says, when it says something: run by the tests below in processes of
/// their own.
#[test]
fn loader_process() {
    let Ok(text) = std::env::var(LOADER) else { return };
    let (store, archive) = text.split_once('\n').unwrap();
    let store = ImageStore::open(store.as_ref()).unwrap();
    store.load(Source::Path(archive.into()), &mut |_| {}).unwrap();
}

fn loader(scratch: &Scratch, archive: &std::path::Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let value = format!("{}\n{}", scratch.store.dir().display(), archive.display());
    command.args(["--exact", "store::loader_process"]).env(LOADER, value);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn any_number_of_processes_load_and_remove_at_once() {
    let scratch = Scratch::new();
    let mut children = Vec::new();
    for at in 0..8 {
        let path = scratch.dir.path().join(format!("{at}.tar"));
        // Two processes each load the same image under the same name.
        std::fs::write(&path, archive(&format!("app:{}", at / 2), &format!("{}", at / 2))).unwrap();
        children.push(loader(&scratch, &path).spawn().unwrap());
    }
    for at in 0..20 {
        scratch.image(&archive("own", &format!("own {at}")));
        scratch.store.remove("own", unused()).unwrap();
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let listed = scratch.store.list().unwrap();
    assert_eq!(listed.len(), 4);
    for at in 0..4 {
        let image = scratch.store.resolve(&format!("app:{at}")).unwrap();
        scratch.store.verify(&image).unwrap();
    }
    assert_eq!(scratch.files().len(), 9, "{:?}", scratch.files());
}

#[test]
fn h1_a_load_killed_at_any_moment_leaves_nothing_and_half_an_image_is_never_seen() {
    let scratch = Scratch::new();
    let path = scratch.dir.path().join("big.tar");
    let layers: Vec<Vec<u8>> =
        (0..6).map(|at| Tar::new().file("a", vec![at + 1; 8 << 20]).end()).collect();
    std::fs::write(&path, docker(&[(&["big"], &layers)])).unwrap();
    let (mut killed, mut finished) = (0, 0);
    for millis in (1..200).step_by(9) {
        let mut child = loader(&scratch, &path).spawn().unwrap();
        // The moment is the point here: a different one each time.
        std::thread::sleep(std::time::Duration::from_millis(millis));
        child.kill().unwrap();
        child.wait().unwrap();
        match scratch.store.resolve("big") {
            Ok(image) => {
                scratch.store.verify(&image).unwrap();
                finished += 1;
                scratch.store.remove("big", unused()).unwrap();
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                killed += 1;
            }
        }
    }
    assert!(killed > 0, "{killed} {finished}");
    scratch.image(&archive("next", "x"));
    let left: Vec<String> =
        scratch.files().into_iter().filter(|path| path.contains("store/tmp/")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn busybox_is_there_when_it_is_asked_for() {
    let scratch = Scratch::new();
    assert!(scratch.store.list().unwrap().is_empty());
    let image = scratch.store.resolve("busybox").unwrap_or_else(|error| panic!("{error}"));
    tools::fsck(image.block());
    let tree = erofs::Tree::read(image.block());
    assert_eq!(image.config().cmd, ["sh"]);
    assert!(image.config().env[0].starts_with("PATH="));
    assert_eq!(tree.get("bin/sh").inode, tree.get("bin/busybox").inode);
    assert_eq!(tree.get("bin/sh").mode, 0o100_755);
    assert_eq!(tree.get("tmp").mode, 0o041_777);
    assert_eq!(tree.text("usr/bin/env"), "../../bin/env");
    assert!(tree.text("etc/passwd").starts_with("root:x:0:0:"));
    assert!(tree.text("etc/group").contains("\nnogroup:x:65534:\n"));
    scratch.store.remove("busybox", unused()).unwrap();
    assert_eq!(scratch.store.resolve("docker.io/library/busybox:latest").unwrap().id(), image.id());
}
