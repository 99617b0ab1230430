//! Images: brought in from archives and folders, seen from inside a box, listed, removed; and
//! refused whole when anything is wrong with them.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use boxwood_tests::archive::{Compression, Image, Layer, digest, write};
use boxwood_tests::{Invocation, Lab, StoreKind, Tree};
use tar::EntryType;

fn lab() -> Lab {
    Lab::with(StoreKind::OwnImages)
}

/// Two layers: what the second says about the first has to be seen in a box.
fn layers() -> Vec<Vec<u8>> {
    let long = format!("deep/{}/{}", "d".repeat(120), "f".repeat(200));
    let below = Layer::busybox()
        .folder("gone")
        .file("gone/file", 0o644, b"x")
        .folder("opaque")
        .file("opaque/old", 0o644, b"x")
        .folder("stays")
        .file("stays/file", 0o644, b"below\n")
        .file("single", 0o644, b"x")
        .file("replaced", 0o644, b"below\n")
        .folder("becomes-file")
        .file("becomes-file/inner", 0o644, b"x")
        .file("becomes-folder", 0o644, b"x");
    let above = Layer::new()
        .file(".wh.gone", 0, b"")
        .file(".wh.single", 0, b"")
        .folder("opaque")
        .file("opaque/.wh..wh..opq", 0, b"")
        .file("opaque/new", 0o644, b"above\n")
        .file("replaced", 0o600, b"above\n")
        .file("becomes-file", 0o644, b"file\n")
        .folder("becomes-folder")
        .file("becomes-folder/inner", 0o644, b"inner\n")
        .file("stays/added", 0o644, b"added\n")
        .file(&long, 0o644, b"long\n")
        .file("hard-one", 0o644, b"shared\n")
        .link(EntryType::Link, "hard-two", "hard-one")
        .link(EntryType::Symlink, "soft", "stays/file")
        .link(EntryType::Symlink, "absolute", "/stays/added")
        .entry(EntryType::Regular, "big-ids", b"", |header| {
            header.set_uid(3_000_000_000);
            header.set_gid(70_000);
        })
        .entry(EntryType::Regular, "setuid", b"", |header| header.set_mode(0o4755))
        .entry(EntryType::Directory, "sticky", b"", |header| header.set_mode(0o1777))
        .device(EntryType::Char, "null-device", (1, 3))
        .device(EntryType::Block, "block-device", (7, 300))
        .device(EntryType::Fifo, "fifo", (0, 0))
        .file("empty", 0o000, b"");
    vec![below.end(), above.end()]
}

/// What a box sees of these layers.
fn looks_right(lab: &Lab, name: &str) {
    let look = |script: &str| {
        let script = format!("PATH=/b; mkdir /b; /bin/busybox --install -s /b; {script}");
        let script = script.replacen("mkdir", "/bin/busybox mkdir", 1);
        lab.run([name, "/bin/sh", "-c", &script]).output().exits(0).quietly().text()
    };
    let seen = look(
        "cd /; for f in gone single opaque/old becomes-file/inner; do [ -e $f ] && echo \"$f is there\"; done; \
         cat opaque/new replaced becomes-file becomes-folder/inner stays/file stays/added; \
         cat deep/d*/f*; cat soft absolute; readlink soft; readlink absolute; \
         stat -c '%h' hard-one; [ hard-one -ef hard-two ] && echo same; \
         stat -c '%n %u %g' big-ids; stat -c '%n %a %F' setuid sticky empty replaced; \
         stat -c '%n %F %t %T' null-device block-device fifo; stat -c %Y replaced; \
         echo x > null-device && echo written; ls -a | grep -c '^.wh'; true",
    );
    assert_eq!(
        seen,
        "above\nabove\nfile\ninner\nbelow\nadded\nlong\nbelow\nadded\nstays/file\n/stays/added\n\
         2\nsame\nbig-ids 3000000000 70000\n\
         setuid 4755 regular empty file\nsticky 1777 directory\nempty 0 regular empty file\nreplaced 600 regular file\n\
         null-device character special file 1 3\nblock-device block special file 7 12c\nfifo fifo 0 0\n\
         1700000000\nwritten\n0\n"
    );
    let writes = look(
        "echo own > /stays/file; rm /replaced; cat /stays/file; [ -e /replaced ] || echo removed",
    );
    assert_eq!(writes, "own\nremoved\n");
    // Each box has its own.
    assert_eq!(look("cat /stays/file /replaced"), "below\nabove\n");
}

#[test]
fn a_docker_archive_is_loaded_with_all_its_tags_and_seen_as_it_is() {
    let lab = lab();
    let image = Image::of(layers());
    let file = lab.folder().join("image.tar");
    write(&file, &image.docker_archive(&["app:1", "app:latest", "other/name:x"]));
    let loaded = lab.boxwood(["load", "-i"]).args([&file]).output().exits(0).quietly();
    loaded.prints("Loaded image: app:1\nLoaded image: app:latest\nLoaded image: other/name:x\n");
    looks_right(&lab, "app");
    let id = digest(&image.document());
    let format = "{{.Repository}}:{{.Tag}} {{.ID}}";
    let listed = lab.boxwood(["images", "--no-trunc", "--format", format]).output().exits(0);
    let mut lines = listed.lines();
    lines.retain(|line| !line.starts_with("busybox:"));
    lines.sort();
    assert_eq!(
        lines,
        [format!("app:1 {id}"), format!("app:latest {id}"), format!("other/name:x {id}")]
    );
    // By any name, and by the start of its id.
    for name in ["app:1", "other/name:x", &id, &id[7..19]] {
        lab.run([name, "/bin/busybox", "true"]).output().exits(0);
    }
}

#[test]
fn oci_archives_are_loaded_however_their_layers_are_compressed() {
    let lab = lab();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let name = format!("oci/{compression:?}:1").to_lowercase();
        // The same layers, but an image of its own.
        let config = serde_json::json!({ "Env": [format!("A={name}")], "Cmd": ["/bin/sh"] });
        let image = Image::of(layers()).with(config);
        let archive = image.oci_archive(&[&name], compression);
        let loaded = lab.boxwood(["load"]).stdin(archive).output().exits(0).quietly();
        loaded.prints(format!("Loaded image: {name}\n"));
        looks_right(&lab, &name);
        lab.run([&name, "/bin/sh", "-c", "echo $A"]).output().exits(0).prints(format!("{name}\n"));
    }
}

#[test]
fn an_archive_compressed_as_a_whole_is_loaded() {
    let lab = lab();
    let image = Image::of(vec![Layer::busybox().end()]);
    for (compression, name) in [(Compression::Gzip, "whole:gz"), (Compression::Zstd, "whole:zst")] {
        let archive = compression.of(&image.docker_archive(&[name]));
        let loaded = lab.boxwood(["load"]).stdin(archive).output();
        loaded.exits(0).prints(format!("Loaded image: {name}\n"));
        lab.run([name, "/bin/busybox", "true"]).output().exits(0);
    }
}

#[test]
fn images_made_by_other_tools_are_loaded() {
    let lab = lab();
    if !boxwood_tests::host_has("skopeo") {
        eprintln!("no skopeo here: skipped");
        return;
    }
    let ours = lab.folder().join("ours.tar");
    write(&ours, &Image::of(layers()).docker_archive(&["app:1"]));
    for (kind, name) in [("oci-archive", "copied:oci"), ("docker-archive", "copied:docker")] {
        let theirs = lab.folder().join(kind);
        let from = format!("docker-archive:{}", ours.display());
        let to = format!("{kind}:{}:docker.io/library/{name}", theirs.display());
        let copy = lab.program("skopeo").args(["copy", "--insecure-policy", "-q", &from, &to]);
        copy.output().exits(0);
        let loaded = lab.boxwood(["load", "-i"]).args([&theirs]).output().exits(0);
        loaded.prints(format!("Loaded image: {name}\n"));
        looks_right(&lab, name);
    }
}

#[test]
fn a_tar_and_a_folder_are_imported() {
    let lab = lab();
    let tar =
        Layer::busybox().file("bin/x", 0o755, b"#!/bin/sh\necho x: $A $(busybox id -u) $PWD\n");
    let tar = tar.folder("srv").end();
    let file = lab.folder().join("rootfs.tar");
    write(&file, &tar);
    let import = |source: &Path, name: &str| {
        let flags = [
            "import",
            "--cmd",
            "/bin/x",
            "-e",
            "A=1",
            "-e",
            "PATH=/bin",
            "-u",
            "web",
            "-w",
            "/srv",
        ];
        let imported = lab.boxwood(flags).args([source, name.as_ref()]).output();
        let id = imported.exits(0).quietly().word();
        assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    };
    import(&file, "from-tar");
    let gz = lab.folder().join("rootfs.tar.gz");
    write(&gz, &Compression::Gzip.of(&tar));
    import(&gz, "from-gz");
    let folder = lab.folder().join("rootfs");
    std::fs::create_dir(&folder).unwrap();
    lab.program("tar").args(["-xf"]).args([&file]).args(["-C"]).args([&folder]).output().exits(0);
    import(&folder, "from-folder");
    for name in ["from-tar", "from-gz", "from-folder"] {
        lab.run([name]).output().exits(0).prints("x: 1 1234 /srv\n").quietly();
    }
    let piped = lab.boxwood(["import", "-", "piped"]).stdin(tar).output();
    piped.exits(0);
    lab.run(["piped", "/bin/busybox", "echo", "hi"]).output().exits(0).prints("hi\n");
}

#[test]
fn images_are_listed_and_removed_by_name_and_by_id() {
    let lab = lab();
    let image = Image::of(vec![Layer::busybox().end()]);
    lab.boxwood(["load"]).stdin(image.docker_archive(&["app:1", "app:2"])).output().exits(0);
    let id = digest(&image.document());
    let listed =
        || lab.boxwood(["images", "--format", "{{.Repository}}:{{.Tag}}"]).output().lines();
    assert_eq!(listed(), ["app:1", "app:2"]);
    let table = lab.boxwood(["images"]).output().exits(0).lines();
    assert!(table[0].starts_with("REPOSITORY") && table[1].contains(&id[7..19]), "{table:?}");
    assert_eq!(lab.boxwood(["images", "-q"]).output().exits(0).lines(), [&id[7..19]]);
    // An id with two names needs force; a name is taken away alone.
    lab.boxwood(["rmi", &id[7..19]]).output().refused(&["several names"]);
    lab.boxwood(["rmi", "app:1"]).output().exits(0).prints("Untagged: app:1\n");
    assert_eq!(listed(), ["app:2"]);
    // A box that uses it keeps it.
    lab.boxwood(["run", "--name", "user", "app:2", "/bin/busybox", "true"]).output().exits(0);
    lab.boxwood(["rmi", "app:2"]).output().refused(&["in use", "user"]);
    lab.boxwood(["start", "-a", "user"]).output().exits(0);
    lab.remove("user");
    let removed = lab.boxwood(["rmi", "app:2"]).output().exits(0);
    removed.prints(format!("Untagged: app:2\nDeleted: {id}\n"));
    assert_eq!(listed(), [""; 0]);
    lab.refuses(lab.run(["app:2", "true"]), &["app:2"]);
    lab.boxwood(["rmi", "app:2"]).output().refused(&["app:2"]);
}

#[test]
fn h13_an_image_of_another_architecture_is_refused() {
    let lab = settled();
    let mut image = Image::of(vec![Layer::busybox().end()]);
    image.architecture = "arm64";
    for archive in
        [image.docker_archive(&["arm:1"]), image.oci_archive(&["arm:1"], Compression::Gzip)]
    {
        refused_whole(&lab, lab.boxwood(["load"]).stdin(archive), &["arm64", "amd64"]);
    }
}

/// Nothing of what was refused is there afterwards, neither under a name nor as a file.
#[track_caller]
fn refused_whole(lab: &Lab, invocation: Invocation, words: &[&str]) {
    let images = lab.store().join("images");
    let before = Tree::of(&images);
    let home = Tree::of(lab.home());
    invocation.output().refused(words);
    before.is_still(&images);
    home.is_still(lab.home());
}

/// A lab whose image store exists, so that "nothing changed" is about its content.
fn settled() -> Lab {
    let lab = lab();
    let image = Image::of(vec![Layer::busybox().end()]);
    lab.boxwood(["load"]).stdin(image.docker_archive(&["good:1"])).output().exits(0);
    lab
}

#[test]
fn h13_layers_that_are_not_what_the_image_says_are_refused() {
    let lab = settled();
    let load = |bytes: Vec<u8>| lab.boxwood(["load"]).stdin(bytes);
    let mut image = Image::of(vec![Layer::busybox().end()]);
    image.diff_ids = Some(vec![digest(b"another layer")]);
    refused_whole(&lab, load(image.docker_archive(&["bad:1"])), &["damaged", "diff_id"]);
    refused_whole(&lab, load(image.oci_archive(&["bad:1"], Compression::Zstd)), &["damaged"]);
    image.diff_ids = Some(vec![]);
    refused_whole(&lab, load(image.docker_archive(&["bad:1"])), &["layer"]);
    image.diff_ids = Some(vec!["sha256:../../../../etc/passwd".to_owned()]);
    refused_whole(&lab, load(image.docker_archive(&["bad:1"])), &["digest"]);
    // A stored blob with one byte changed.
    let image = Image::of(vec![Layer::busybox().file("another", 0o644, b"x").end()]);
    let mut archive = image.oci_archive(&["bad:1"], Compression::None);
    let at = archive.len() / 2;
    archive[at] ^= 1;
    refused_whole(&lab, load(archive), &["damaged"]);
}

#[test]
fn h13_archives_that_are_cut_short_or_none_at_all_are_refused() {
    let lab = settled();
    let whole = Image::of(vec![Layer::busybox().end()]).docker_archive(&["bad:1"]);
    for end in [0, 100, 512, 2000, whole.len() / 2, whole.len() - 200_000] {
        refused_whole(&lab, lab.boxwood(["load"]).stdin(&whole[..end]), &["standard input"]);
    }
    let gz = Compression::Gzip.of(&whole);
    refused_whole(&lab, lab.boxwood(["load"]).stdin(&gz[..gz.len() / 2]), &["standard input"]);
    refused_whole(
        &lab,
        lab.boxwood(["load"]).stdin("not an archive\n".repeat(1000)),
        &["standard input"],
    );
    let missing = lab.folder().join("missing.tar");
    refused_whole(
        &lab,
        lab.boxwood(["load", "-i"]).args([&missing]),
        &["missing.tar", "No such file"],
    );
    let empty = lab.folder().join("empty");
    std::fs::create_dir(&empty).unwrap();
    refused_whole(&lab, lab.boxwood(["load", "-i"]).args([&empty]), &["empty"]);
}

#[test]
fn h13_paths_that_lead_out_of_the_image_are_refused() {
    let lab = settled();
    let outside = lab.folder().join("outside");
    let outside = outside.to_str().unwrap();
    let up = format!("../../../../../../../..{outside}");
    let hostile: Vec<(Layer, &str)> = vec![
        (Layer::busybox().hostile(EntryType::Regular, "../escape", |_| {}), "../escape"),
        (Layer::busybox().hostile(EntryType::Regular, "a/../../escape", |_| {}), "escape"),
        (Layer::busybox().hostile(EntryType::Regular, &up, |_| {}), "outside"),
        (Layer::busybox().link(EntryType::Link, "hard", "../../../etc/passwd"), "hard"),
        (Layer::busybox().link(EntryType::Link, "hard", "not/there"), "hard"),
    ];
    for (layer, word) in hostile {
        let archive = Image::of(vec![layer.end()]).docker_archive(&["bad:1"]);
        refused_whole(&lab, lab.boxwood(["load"]).stdin(archive), &[word]);
    }
    // Names of blobs in an archive are names in that archive, never of the host.
    let image = Image::of(vec![Layer::busybox().end()]);
    let passwd = lab.folder().join("layer.tar");
    write(&passwd, &image.layers[0]);
    let names = [format!("../../../../..{}", passwd.display())];
    let mut archive = image.docker_archive_of(&["bad:1"], &names);
    refused_whole(&lab, lab.boxwood(["load"]).stdin(archive.clone()), &["layer.tar"]);
    let names = [passwd.display().to_string()];
    archive = image.docker_archive_of(&["bad:1"], &names);
    let loaded = lab.boxwood(["load"]).stdin(archive).output();
    // Absolute names may be refused, or taken as members: both stay in the archive.
    assert!(matches!(loaded.code(), Some(0 | 125)), "{loaded:?}");
    assert!(!Path::new(outside).exists());
}

#[test]
fn an_absolute_path_and_a_link_in_a_layer_stay_in_the_image() {
    let lab = lab();
    // `link -> /`, and a file through it: in a container's tool that unpacks, a way out.
    let layer = Layer::busybox()
        .link(EntryType::Symlink, "way", "/srv")
        .folder("srv")
        .hostile(EntryType::Regular, "way/file", |_| {})
        .hostile(EntryType::Regular, "/abs", |_| {});
    let archive = Image::of(vec![layer.end()]).docker_archive(&["links:1"]);
    let loaded = lab.boxwood(["load"]).stdin(archive).output();
    if loaded.code() == Some(125) {
        loaded.refused(&["bad layer"]);
        return;
    }
    let script = "cd /; for f in abs srv/file; do [ -e $f ] && echo $f; done";
    lab.run(["links:1", "/bin/sh", "-c", script]).output().exits(0).prints("abs\nsrv/file\n");
}

#[test]
fn h13_a_sparse_tebibyte_is_refused_without_being_written() {
    let lab = settled();
    let file = lab.folder().join("huge.tar");
    File::create(&file).unwrap().set_len(1 << 40).unwrap();
    let before = free_bytes(lab.folder());
    refused_whole(&lab, lab.boxwood(["load", "-i"]).args([&file]), &["huge.tar"]);
    // An archive may begin with nothing, so as much is read of it as an image can have: 32 GiB.
    let import = lab.boxwood(["import"]).args([&file, Path::new("huge")]);
    refused_whole(&lab, import.within(Duration::from_secs(600)), &["huge.tar"]);
    // A header that claims a tebibyte and has nothing.
    let layer =
        Layer::busybox().hostile(EntryType::Regular, "huge", |header| header.set_size(1 << 40));
    let archive = Image::of(vec![layer.end()]).docker_archive(&["bad:1"]);
    refused_whole(&lab, lab.boxwood(["load"]).stdin(archive), &["bad layer"]);
    let used = before.saturating_sub(free_bytes(lab.folder()));
    assert!(used < 4 << 30, "{used} bytes went somewhere");
}

fn free_bytes(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).unwrap();
    stat.f_bavail * stat.f_frsize
}

#[test]
fn s1_an_image_whose_block_image_was_altered_is_refused() {
    let lab = settled();
    let blocks = lab.store().join("images/blocks");
    let block = std::fs::read_dir(blocks).unwrap().next().unwrap().unwrap().path();
    File::options().write(true).open(&block).unwrap().set_len(4096).unwrap();
    lab.refuses(lab.run(["good:1", "/bin/busybox", "true"]), &["damaged"]);
}

#[test]
fn loading_the_same_image_twice_and_at_once_is_one_image() {
    let lab = lab();
    let image = Image::of(vec![Layer::busybox().end()]);
    let archive = image.docker_archive(&["app:1"]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| lab.boxwood(["load"]).stdin(archive.clone()).output().exits(0));
        }
    });
    assert_eq!(lab.boxwood(["images", "-q"]).output().exits(0).lines().len(), 1);
    lab.run(["app:1", "/bin/busybox", "true"]).output().exits(0);
    let left = std::fs::read_dir(lab.store().join("images/tmp")).unwrap().count();
    assert_eq!(left, 0, "temporary files are left");
}

#[test]
fn h1_a_load_that_is_killed_leaves_nothing_after_the_next() {
    let lab = settled();
    let image = Image::of(vec![Layer::busybox().file("noise", 0o644, &vec![7; 32 << 20]).end()]);
    let archive = image.docker_archive(&["app:1"]);
    let tmp = lab.store().join("images/tmp");
    let folder = boxwood_tests::Folder::watch(&tmp);
    let mut load = lab.boxwood(["load"]).spawn();
    load.write(&archive[..archive.len() / 2]);
    folder.until(|| (std::fs::read_dir(&tmp).unwrap().count() > 0).then_some(()));
    load.signal(rustix::process::Signal::KILL);
    drop(load.wait());
    lab.refuses(lab.run(["app:1", "true"]), &["app:1"]);
    lab.boxwood(["load"]).stdin(archive).output().exits(0);
    assert_eq!(std::fs::read_dir(&tmp).unwrap().count(), 0, "temporary files are left");
    lab.run(["app:1", "/bin/busybox", "true"]).output().exits(0);
}

#[test]
fn directories_that_every_box_adds_to_keep_the_images_mode_and_owner() {
    let lab = lab();
    let layer = Layer::busybox()
        .entry(EntryType::Directory, "./", b"", |header| {
            header.set_mode(0o751);
            header.set_uid(12);
        })
        .entry(EntryType::Directory, "etc", b"", |header| {
            header.set_mode(0o2775);
            header.set_gid(34);
        });
    let image = Image::of(vec![layer.end()]);
    lab.boxwood(["load"]).stdin(image.docker_archive(&["modes"])).output().exits(0);
    let look = "/bin/busybox stat -c '%a %u:%g' / /etc";
    let run = lab.run(["modes", "/bin/sh", "-c", look]).output().exits(0);
    run.prints("751 12:0\n2775 0:34\n");

    // What a box changes is its own, also when it is started again.
    let change = format!("{look}; /bin/busybox chmod 711 / /etc; /bin/busybox chown 7 / /etc");
    let args = ["run", "--name", "changed", "modes", "/bin/sh", "-c", &change];
    lab.boxwood(args).output().exits(0).prints("751 12:0\n2775 0:34\n");
    let again = lab.boxwood(["start", "-a", "changed"]).output();
    again.exits(0).prints("711 7:0\n711 7:34\n");
    lab.remove("changed");

    // Without anything to resemble they are root's.
    let bare = Layer::new().file("bin/busybox", 0o755, &std::fs::read("/bin/busybox").unwrap());
    let image = Image::of(vec![bare.link(EntryType::Symlink, "etc", "bin").end()]);
    lab.boxwood(["load"]).stdin(image.docker_archive(&["bare"])).output().exits(0);
    let run = lab.run(["bare", "/bin/busybox", "stat", "-c", "%a %u:%g", "/", "/etc"]);
    run.output().exits(0).prints("755 0:0\n755 0:0\n");
}
