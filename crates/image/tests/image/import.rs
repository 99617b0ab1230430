//! Root file systems as tars and directories become images.

use std::fs::Permissions;
use std::io::Cursor;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use boxwood_image::{ErrorKind, Image, ImageConfig, ImageError, Import, Progress, Source};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};

use crate::support::archive::{self, Tar};
use crate::support::{Scratch, chain, erofs, tools};

fn import(scratch: &Scratch, source: Source) -> Result<Image, ImageError> {
    let import =
        Import { source, name: Some("root:fs".parse().unwrap()), config: ImageConfig::default() };
    scratch.store.import(import, &mut |_| {})?;
    scratch.store.resolve("root:fs")
}

#[test]
fn a_tar_becomes_an_image_whatever_its_compression() {
    let tar = Tar::new().dir("etc").file("etc/passwd", "root").end();
    for bytes in [tar.clone(), archive::gzip(&tar), archive::zstd(&tar)] {
        let scratch = Scratch::new();
        let path = scratch.dir.path().join("rootfs");
        std::fs::write(&path, &bytes).unwrap();
        for source in [Source::Path(path), Source::Stream(Box::new(Cursor::new(bytes)))] {
            let image = import(&scratch, source).unwrap();
            tools::fsck(image.block());
            scratch.store.verify(&image).unwrap();
            assert_eq!(erofs::Tree::read(image.block()).text("etc/passwd"), "root");
            assert_eq!(image.config(), &ImageConfig::default());
            assert!(image.config_json().contains(&archive::sha256(&tar)), "its diff ID");
        }
    }
}

#[test]
fn the_configuration_that_was_asked_for_is_the_images() {
    let scratch = Scratch::new();
    let config = ImageConfig {
        entrypoint: vec!["/init".to_owned()],
        cmd: vec!["a".to_owned(), "b c".to_owned()],
        env: vec!["A=1".to_owned()],
        user: Some("1000:100".to_owned()),
        working_dir: Some("/srv".to_owned()),
        stop_signal: Some("SIGUSR1".parse().unwrap()),
        labels: [("k".to_owned(), "v".to_owned())].into(),
        exposed_ports: vec!["80/tcp".to_owned()],
        volumes: vec!["/data".to_owned()],
        healthcheck: Some(serde_json::json!({"Test": ["CMD", "true"]})),
    };
    let source = Source::Stream(Box::new(Cursor::new(Tar::new().file("a", "b").end())));
    let import = Import { source, name: None, config: config.clone() };
    let loaded = scratch.store.import(import, &mut |_| {}).unwrap();
    let image = scratch.store.resolve(loaded.id.short()).unwrap();
    assert_eq!(image.config(), &config);
    assert!(image.created().is_some());

    let source = Source::Stream(Box::new(Cursor::new(Vec::new())));
    let config = ImageConfig { env: vec!["=x".to_owned()], ..ImageConfig::default() };
    let refused = scratch.store.import(Import { source, name: None, config }, &mut |_| {});
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::BadInput);
}

#[test]
fn h13_a_tar_that_is_cut_short_is_refused() {
    let scratch = Scratch::new();
    let whole = Tar::new().file("a", vec![1; 3000]).file("b", "2").end();
    for end in (0..=whole.len() - 1024).step_by(61) {
        let source = Source::Stream(Box::new(Cursor::new(whole[..end].to_vec())));
        let error = import(&scratch, source).unwrap_err();
        let line = chain(&error);
        assert!(line.contains("cut short"), "{end}: {line}");
        assert_eq!(scratch.files(), [""; 0]);
    }
}

#[test]
fn a_directory_becomes_an_image_with_all_that_is_in_it() {
    let scratch = Scratch::new();
    let root = scratch.dir.path().join("root");
    let path = |name: &str| root.join(name);
    std::fs::create_dir_all(path("sub/deep")).unwrap();
    std::fs::write(path("file"), "content").unwrap();
    std::fs::set_permissions(path("file"), Permissions::from_mode(0o4711)).unwrap();
    std::fs::hard_link(path("file"), path("sub/hard")).unwrap();
    symlink("/etc/shadow", path("abs")).unwrap();
    symlink("../../..", path("sub/up")).unwrap();
    std::fs::write(path(".wh.literal"), "kept").unwrap();
    std::fs::write(path("sparse"), "").unwrap();
    std::fs::File::options().write(true).open(path("sparse")).unwrap().set_len(5 << 20).unwrap();
    mknodat(CWD, path("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    setxattr(path("file"), "user.key", b"value", XattrFlags::empty()).unwrap();
    setxattr(&root, "user.root", b"r", XattrFlags::empty()).unwrap();

    let image = import(&scratch, Source::Path(root.clone())).unwrap();
    tools::fsck(image.block());
    scratch.store.verify(&image).unwrap();
    let tree = erofs::Tree::read(image.block());
    let mut expected: Vec<String> = Vec::new();
    collect(&root, "", &mut expected);
    expected.sort();
    assert_eq!(tree.paths(), expected);
    for name in &expected {
        let metadata = std::fs::symlink_metadata(path(name)).unwrap();
        let node = tree.get(name);
        assert_eq!(u32::from(node.mode), metadata.mode(), "{name}");
        assert_eq!((node.uid, node.gid), (metadata.uid(), metadata.gid()), "{name}");
        assert_eq!(node.mtime, (metadata.mtime(), metadata.mtime_nsec() as u32), "{name}");
        assert_eq!(u64::from(node.links), metadata.nlink().max(1), "{name}");
    }
    assert_eq!((tree.text("file"), tree.text("sub/hard")), ("content", "content"));
    assert_eq!(tree.get("file").inode, tree.get("sub/hard").inode);
    assert_eq!((tree.text("abs"), tree.text("sub/up")), ("/etc/shadow", "../../.."));
    assert_eq!(tree.text(".wh.literal"), "kept");
    assert_eq!(tree.get("sparse").size, 5 << 20);
    assert_eq!(tree.get("file").xattrs["user.key"], b"value");
    assert_eq!(tree.get("").xattrs["user.root"], b"r");
}

fn collect(dir: &Path, prefix: &str, into: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().display());
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), &format!("{name}/"), into);
        }
        into.push(name);
    }
}

#[test]
fn a_link_as_the_directory_itself_is_followed_and_none_below_it() {
    let scratch = Scratch::new();
    let root = scratch.dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    symlink("/etc", root.join("link")).unwrap();
    let link = scratch.dir.path().join("to-root");
    symlink(&root, &link).unwrap();
    let image = import(&scratch, Source::Path(link)).unwrap();
    let tree = erofs::Tree::read(image.block());
    assert_eq!(tree.paths(), ["link"]);
}

#[test]
fn h13_a_path_that_is_not_there_or_no_tar_is_refused() {
    let scratch = Scratch::new();
    let missing = import(&scratch, Source::Path("/nowhere/at/all".into())).unwrap_err();
    assert!(chain(&missing).contains("/nowhere/at/all"), "{missing}");
    let text = scratch.dir.path().join("text");
    std::fs::write(&text, "hello ".repeat(200)).unwrap();
    let error = import(&scratch, Source::Path(text)).unwrap_err();
    assert!(chain(&error).contains("no tar"), "{}", chain(&error));
    assert_eq!(error.kind(), ErrorKind::BadInput);
}

#[test]
fn progress_of_an_import_ends_with_writing() {
    let scratch = Scratch::new();
    let mut seen = Vec::new();
    let source = Source::Stream(Box::new(Cursor::new(Tar::new().file("a", "b").end())));
    let import = Import { source, name: None, config: ImageConfig::default() };
    scratch.store.import(import, &mut |progress| seen.push(progress)).unwrap();
    assert_eq!(seen.last(), Some(&Progress::Writing));
}
