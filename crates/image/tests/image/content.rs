//! What is in a layer is in the image: metadata, content, links, layers over layers.

use tar::EntryType;

use crate::support::archive::{Tar, docker};
use crate::support::{Scratch, erofs};

#[test]
fn metadata_comes_through() {
    let scratch = Scratch::new();
    let long = "d".repeat(200);
    let deep = format!("{long}/{long}/file");
    let layer = Tar::new()
        .dir_mode("./", 0o700)
        .entry(EntryType::Regular, b"setuid", b"x", |header| {
            header.set_mode(0o104_755);
            header.set_uid(70_000);
            header.set_gid(3_000_000_000);
            header.set_mtime(5_000_000_000);
        })
        .pax(&[("mtime", b"-1.5"), ("uid", b"123456"), ("path", b"caf\xc3\xa9 \xff")])
        .file("ignored", "pax")
        .file(&deep, "deep")
        .symlink("link", "/absolute/../target")
        .symlink("long-link", &"t/".repeat(2040))
        .device(EntryType::Char, "null", (1, 3))
        .device(EntryType::Block, "disk", (4095, 1_048_575))
        .entry(EntryType::Fifo, b"pipe", b"", |_| {})
        .file("empty", "")
        .end();
    let tree = scratch.tree(&[layer]);

    assert_eq!(tree.get("").mode, 0o040_700);
    let setuid = tree.get("setuid");
    assert_eq!((setuid.mode, setuid.uid, setuid.gid), (0o104_755, 70_000, 3_000_000_000));
    assert_eq!(setuid.mtime, (5_000_000_000, 0));
    let pax = tree.get("caf\\xc3\\xa9 \\xff");
    assert_eq!((pax.uid, pax.mtime, &pax.content[..]), (123_456, (-2, 500_000_000), &b"pax"[..]));
    assert_eq!(tree.text(&deep), "deep");
    assert_eq!(tree.get(&long).mode, 0o040_755);
    assert_eq!(tree.text("link"), "/absolute/../target");
    assert_eq!(tree.text("long-link"), "t/".repeat(2040));
    assert_eq!((tree.get("null").mode, tree.get("null").device), (0o020_644, 0x103));
    assert_eq!((tree.get("disk").mode, tree.get("disk").device), (0o060_644, 0xffff_ffff));
    assert_eq!(tree.get("pipe").mode, 0o010_644);
    assert_eq!(tree.get("empty").size, 0);
}

#[test]
fn attributes_come_through_and_those_of_overlayfs_do_not() {
    let scratch = Scratch::new();
    let big = vec![7; 60_000];
    let layer = Tar::new()
        .pax(&[
            ("SCHILY.xattr.user.a=b", b"no"),
            ("SCHILY.xattr.security.capability", b"\x01\0\0\x02\0\x04\0\0"),
            ("SCHILY.xattr.user.big", &big),
            ("SCHILY.xattr.user.empty", b""),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.trusted.mine", b"t"),
            ("SCHILY.xattr.system.posix_acl_access", b"\x02\0\0\0"),
            ("SCHILY.xattr.system.nfs4_acl", b"x"),
            ("SCHILY.xattr.com.example", b"x"),
        ])
        .file("file", "content")
        .pax(&[("SCHILY.xattr.user.dir", b"1")])
        .dir("dir")
        .end();
    let tree = scratch.tree(&[layer]);
    let names: Vec<&str> = tree.get("file").xattrs.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "security.capability",
            "system.posix_acl_access",
            "trusted.mine",
            "user.a",
            "user.big",
            "user.empty",
        ]
    );
    assert_eq!(tree.get("file").xattrs["user.a"], b"b=no");
    assert_eq!(tree.get("file").xattrs["user.big"], big);
    assert_eq!(tree.text("file"), "content");
    assert_eq!(tree.get("dir").xattrs["user.dir"], b"1");
}

#[test]
fn hard_links_share_one_inode_over_layers() {
    let scratch = Scratch::new();
    let lower = Tar::new()
        .file("a", "shared")
        .hardlink("b", "a")
        .hardlink("sub/c", "b")
        .symlink("s", "nowhere")
        .hardlink("s2", "s")
        .end();
    let upper = Tar::new().file("a", "own").hardlink("d", "sub/c").end();
    let tree = scratch.tree(&[lower, upper]);
    assert_eq!(tree.text("a"), "own");
    assert_eq!(tree.get("a").links, 1);
    for name in ["b", "sub/c", "d"] {
        assert_eq!(tree.text(name), "shared");
        assert_eq!(tree.get(name).links, 3);
        assert_eq!(tree.get(name).inode, tree.get("b").inode);
    }
    assert_eq!((tree.text("s2"), tree.get("s2").links), ("nowhere", 2));
    assert_eq!((tree.get("").links, tree.get("sub").links), (3, 2));
}

#[test]
fn a_hard_link_to_itself_keeps_the_file() {
    let scratch = Scratch::new();
    let tree = scratch.tree(&[Tar::new().file("a", "x").hardlink("a", "a").end()]);
    assert_eq!((tree.text("a"), tree.get("a").links), ("x", 1));
}

#[test]
fn whiteouts_hide_lower_layers_only_whatever_the_order() {
    let lower = Tar::new()
        .dir_mode("dir", 0o711)
        .file("dir/old", "1")
        .file("dir/both", "lower")
        .file("gone", "1")
        .file("tree/deep/er", "1")
        .file("kept", "1")
        .end();
    let entries: [fn(Tar) -> Tar; 6] = [
        |tar| tar.file("dir/.wh..wh..opq", ""),
        |tar| tar.file("dir/both", "upper"),
        |tar| tar.file("dir/new", "2"),
        |tar| tar.file(".wh.gone", ""),
        |tar| tar.file(".wh.tree", ""),
        |tar| tar.file("tree/deep/new", "2"),
    ];
    for rotation in 0..entries.len() {
        let scratch = Scratch::new();
        let mut upper = Tar::new();
        for at in 0..entries.len() {
            upper = entries[(at + rotation) % entries.len()](upper);
        }
        let tree = scratch.tree(&[lower.clone(), upper.end()]);
        assert_eq!(
            tree.paths(),
            ["dir", "dir/both", "dir/new", "kept", "tree", "tree/deep", "tree/deep/new"],
            "{rotation}"
        );
        assert_eq!(tree.text("dir/both"), "upper");
        assert_eq!(tree.get("dir").mode, 0o040_711);
    }
}

#[test]
fn a_layer_replaces_what_lower_ones_have() {
    let scratch = Scratch::new();
    let lower = Tar::new()
        .dir_mode("dir", 0o700)
        .file("dir/kept", "1")
        .file("file", "long content of the lower layer")
        .file("was-dir/x", "1")
        .file("was-file", "1")
        .symlink("was-link", "dir")
        .end();
    let upper = Tar::new()
        .dir_mode("dir", 0o755)
        .file("file", "short")
        .file("was-dir", "now a file")
        .file("was-file/x", "now below a directory")
        .dir("was-link")
        .file("was-link/own", "1")
        .file("twice", "first")
        .file("twice", "second")
        .end();
    let tree = scratch.tree(&[lower, upper]);
    assert_eq!(tree.get("dir").mode, 0o040_755);
    assert_eq!(tree.text("dir/kept"), "1");
    assert_eq!(tree.text("file"), "short");
    assert_eq!(tree.text("was-dir"), "now a file");
    assert_eq!(tree.text("was-file/x"), "now below a directory");
    assert_eq!(tree.text("was-link/own"), "1");
    assert_eq!(tree.text("twice"), "second");
    assert!(!tree.paths().contains(&"dir/own"));
}

#[test]
fn an_entry_below_a_link_of_a_lower_layer_lands_inside_the_image() {
    let scratch = Scratch::new();
    let lower = Tar::new()
        .dir("usr/lib")
        .symlink("lib", "usr/lib")
        .symlink("abs", "/usr/lib")
        .symlink("out", "../../../../etc")
        .symlink("dangling", "not/yet/there")
        .end();
    let upper = Tar::new()
        .file("lib/a", "1")
        .file("abs/b", "2")
        .file("out/passwd", "3")
        .file("dangling/c", "4")
        .end();
    let tree = scratch.tree(&[lower, upper]);
    assert_eq!((tree.text("usr/lib/a"), tree.text("usr/lib/b")), ("1", "2"));
    assert_eq!(tree.text("etc/passwd"), "3");
    assert_eq!(tree.text("not/yet/there/c"), "4");
    assert_eq!(tree.text("lib"), "usr/lib");
}

#[test]
fn many_and_long_names_are_found_in_order() {
    let scratch = Scratch::new();
    let mut layer = Tar::new().file("!first", "").file("-", "").file(".a", "").file("..b", "");
    for at in 0..3000 {
        layer = layer.file(&format!("many/{at:04}-{}", "n".repeat(at % 250)), format!("{at}"));
    }
    let tree = scratch.tree(&[layer.end()]);
    assert_eq!(tree.paths().iter().filter(|path| path.starts_with("many/")).count(), 3000);
    assert_eq!(tree.text(&format!("many/0249-{}", "n".repeat(249))), "249");
    assert_eq!(tree.paths()[..4], ["!first", "-", "..b", ".a"]);
}

#[test]
fn every_sparse_format_is_read() {
    let scratch = Scratch::new();
    let data = [vec![1u8; 512], vec![2u8; 512]].concat();
    let map = b"2\n4096\n512\n1048576\n512\n";
    let mut v1 = map.to_vec();
    v1.resize(512, 0);
    v1.extend_from_slice(&data);
    let version_1 = [
        ("GNU.sparse.major", &b"1"[..]),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"pax-1.0"),
        ("GNU.sparse.realsize", b"2000000"),
    ];
    let version_01 = [
        ("GNU.sparse.size", &b"2000000"[..]),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.map", b"4096,512,1048576,512"),
        ("GNU.sparse.name", b"pax-0.1"),
    ];
    let version_00 = [
        ("GNU.sparse.size", &b"2000000"[..]),
        ("GNU.sparse.offset", b"4096"),
        ("GNU.sparse.numbytes", b"512"),
        ("GNU.sparse.offset", b"1048576"),
        ("GNU.sparse.numbytes", b"512"),
    ];
    let layer = Tar::new()
        .entry(EntryType::GNUSparse, b"old", &data, |header| {
            let gnu = header.as_gnu_mut().unwrap();
            gnu.set_real_size(2_000_000);
            gnu.sparse[0].set_offset(4096);
            gnu.sparse[0].set_length(512);
            gnu.sparse[1].set_offset(1_048_576);
            gnu.sparse[1].set_length(512);
        })
        .pax(&version_1)
        .file("GNUSparseFile.0/x", &v1)
        .pax(&version_01)
        .file("GNUSparseFile.0/y", &data)
        .pax(&version_00)
        .file("pax-0.0", &data)
        .end();
    let tree = scratch.tree(&[layer]);
    let mut expected = vec![0; 2_000_000];
    expected[4096..4608].fill(1);
    expected[1_048_576..1_049_088].fill(2);
    assert_eq!(tree.paths(), ["old", "pax-0.0", "pax-0.1", "pax-1.0"]);
    for name in tree.paths() {
        assert!(tree.get(name).content == expected, "{name}");
    }
}

#[test]
fn zeros_and_replaced_data_take_no_space() {
    let scratch = Scratch::new();
    let lower = Tar::new()
        .file("zeros", vec![0; 8 << 20])
        .file("replaced", vec![1; 8 << 20])
        .file("linked", vec![2; 1 << 20])
        .hardlink("other", "linked")
        .end();
    let upper = Tar::new().file("replaced", "small").file(".wh.linked", "").end();
    let archive = docker(&[(&["test:space"], &[lower, upper])]);
    let image = scratch.image(&archive);
    let tree = erofs::Tree::read(image.block());
    assert_eq!(tree.get("zeros").content, vec![0; 8 << 20]);
    assert_eq!(tree.get("other").content, vec![2; 1 << 20]);
    assert_eq!(tree.text("replaced"), "small");
    assert!(image.content_bytes() > 17 << 20);
    assert!(image.disk_bytes() < (1 << 20) + (128 << 10), "{}", image.disk_bytes());
}

#[test]
fn every_block_image_has_the_same_apparent_size() {
    let scratch = Scratch::new();
    let image = scratch.image(&docker(&[(&["test:size"], &[Tar::new().file("a", "b").end()])]));
    let len = image.open_block().unwrap().metadata().unwrap().len();
    assert_eq!(len, boxwood_image::IMAGE_DISK_BYTES);
}

#[test]
fn the_same_layers_make_the_same_bytes() {
    let layer = Tar::new().file("b", "2").file("a", "1").dir("c").end();
    let archive = docker(&[(&["test:same"], &[layer])]);
    let read = || {
        let image = Scratch::new();
        let image = (image.image(&archive), image);
        let mut start = vec![0; image.0.content_bytes() as usize];
        let file = image.0.open_block().unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut start, 0).unwrap();
        start
    };
    assert_eq!(read(), read());
}
