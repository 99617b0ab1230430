//! H13: bad input gets one clear line and changes nothing.

use tar::EntryType;

use crate::support::Scratch;
use crate::support::archive::{
    self, Oci, PLAIN, Parts, Tar, annotations, docker, item, platform, sha256,
};

/// Asserts that an archive is refused with one line that has these words, and changes nothing.
fn refused(archive: &[u8], words: &[&str]) {
    let line = Scratch::in_memory().refusal(archive);
    for word in words {
        assert!(line.contains(word), "{word:?} is not in: {line}");
    }
}

/// Asserts that a layer is refused, below a lower layer with a directory and links.
fn layer_refused(layer: Vec<u8>, words: &[&str]) {
    let lower = Tar::new().dir("dir").file("dir/file", "1").symlink("lower", "dir").end();
    refused(&docker(&[(&["bad:layer"], &[lower, layer])]), words);
}

#[test]
fn h13_paths_that_lead_out_of_a_layer_are_refused() {
    for path in ["../up", "a/../../up", "a/..", "..", "dir/./../x"] {
        layer_refused(Tar::new().file(path, "x").end(), &["2 of 2", path, "'..'"]);
        layer_refused(Tar::new().pax(&[("path", path.as_bytes())]).file("x", "").end(), &["'..'"]);
    }
    for path in ["/etc/passwd", "//x", "//", "/."] {
        layer_refused(Tar::new().dir(path).end(), &["absolute"]);
    }
    let same = Tar::new().symlink("evil", "/etc").file("evil/passwd", "x").end();
    layer_refused(same, &["evil/passwd", "symbolic link of the same layer"]);
    let same = Tar::new().symlink("evil", "../../..").symlink("evil/x", "y").end();
    layer_refused(same, &["symbolic link of the same layer"]);
    let link = Tar::new().symlink("evil", "/etc").hardlink("shadow", "evil/shadow").end();
    layer_refused(link, &["shadow", "symbolic link of the same layer"]);
    let hidden = Tar::new().pax(&[("path", b"a\0b")]).file("x", "").end();
    layer_refused(hidden, &["NUL"]);
}

#[test]
fn h13_chains_of_links_are_refused() {
    let scratch = Scratch::in_memory();
    let lower = Tar::new().symlink("a", "b/x").symlink("b", "a/x").end();
    let upper = Tar::new().file("a/file", "x").end();
    let line = scratch.refusal(&docker(&[(&["bad:loop"], &[lower, upper])]));
    assert!(line.contains("too many symbolic links"), "{line}");
}

#[test]
fn h13_hard_links_to_nothing_are_refused() {
    layer_refused(Tar::new().hardlink("a", "missing").end(), &["'missing'", "does not exist"]);
    layer_refused(Tar::new().hardlink("a", "no/where").end(), &["does not exist"]);
    layer_refused(Tar::new().hardlink("a", "dir").end(), &["is a directory"]);
    layer_refused(Tar::new().hardlink("a", "../../etc/passwd").end(), &["no path in the image"]);
    layer_refused(Tar::new().hardlink("a", "/etc/passwd").end(), &["no path in the image"]);
    layer_refused(Tar::new().hardlink("a", ".").end(), &["is a directory"]);
    layer_refused(Tar::new().hardlink(".", "dir/file").end(), &["root directory"]);
}

#[test]
fn h13_names_paths_and_targets_above_their_limits_are_refused() {
    let name = "n".repeat(256);
    layer_refused(Tar::new().file(&name, "").end(), &["longer than 255"]);
    let path = "p/".repeat(2100);
    layer_refused(Tar::new().dir(&path).end(), &["longer than 4095"]);
    layer_refused(Tar::new().dir(&"d/".repeat(513)).end(), &["longer than 512"]);
    layer_refused(Tar::new().symlink("s", &"t".repeat(4096)).end(), &["longer than 4095"]);
    layer_refused(Tar::new().symlink("s", "").end(), &["link to nothing"]);
    layer_refused(Tar::new().file("", "").end(), &["empty"]);
    let long = Tar::new().entry(EntryType::GNULongName, b"x", &vec![b'a'; 70_000], |_| {});
    layer_refused(long.file("x", "").end(), &["70000", "65536"]);
    let huge = Tar::new().entry(EntryType::XHeader, b"x", b"", |header| header.set_size(1 << 40));
    layer_refused(huge.end(), &["1099511627776", "1048576"]);
}

#[test]
fn h13_whiteouts_of_nothing_are_refused() {
    for path in [".wh.", ".wh..", ".wh...", "dir/.wh.."] {
        layer_refused(Tar::new().file(path, "").end(), &["whiteout of nothing"]);
    }
    layer_refused(Tar::new().file(".wh.dir/x", "").end(), &["below a whiteout"]);
}

#[test]
fn h13_attributes_devices_and_types_that_do_not_exist_are_refused() {
    let long = [("SCHILY.xattr.user.a", &vec![0; 65_536][..])];
    layer_refused(Tar::new().pax(&long).file("x", "").end(), &["'user.a'", "too long"]);
    let nameless = [("SCHILY.xattr.user.", &b"x"[..])];
    layer_refused(Tar::new().pax(&nameless).file("x", "").end(), &["malformed"]);
    let device = Tar::new().device(EntryType::Char, "d", (5000, 1)).end();
    layer_refused(device, &["5000:1", "does not exist"]);
    let unknown = Tar::new().entry(EntryType::new(b'V'), b"label", b"", |_| {}).end();
    layer_refused(unknown, &["'label'", "unknown type"]);
    layer_refused(Tar::new().file("dir/", "data").end(), &["named as a directory"]);
    layer_refused(Tar::new().file(".", "data").end(), &["root directory"]);
    layer_refused(Tar::new().file("f", "").file("f/x", "").end(), &["'f'", "no directory"]);
}

#[test]
fn h13_a_claim_of_a_terabyte_is_refused_before_anything_is_written() {
    let sparse = Tar::new().entry(EntryType::GNUSparse, b"big", b"", |header| {
        header.as_gnu_mut().unwrap().set_real_size(1 << 40);
    });
    layer_refused(sparse.end(), &["'big'", "does not fit", "1099511627776"]);
    let pax = [("GNU.sparse.realsize", &b"1099511627776"[..]), ("GNU.sparse.map", b"0,0")];
    layer_refused(Tar::new().pax(&pax).file("big", "").end(), &["does not fit"]);
    let claim =
        Tar::new().entry(EntryType::Regular, b"big", b"", |header| header.set_size(1 << 40)).end();
    layer_refused(claim, &["does not fit"]);
    let wrapped = Tar::new().pax(&[("size", b"18446744073709551615")]).file("big", "").end();
    layer_refused(wrapped, &["size"]);
}

#[test]
fn h13_malformed_sparse_maps_are_refused() {
    let sparse = |map: &[u8]| {
        Tar::new()
            .pax(&[("GNU.sparse.size", b"9000"), ("GNU.sparse.map", map)])
            .file("s", vec![1; 1024])
            .end()
    };
    for (map, word) in [
        (&b"0,512,256,512"[..], "overlap"),
        (b"4096,512,0,512", "backwards"),
        (b"0,512", "stores"),
        (b"0,2048", "stores"),
        (b"8999,1024", "behind the end"),
        (b"0,1024,5", "no length"),
        (b"18446744073709551615,1024", "2^64"),
        (b"a,b", "numbers"),
    ] {
        layer_refused(sparse(map), &[word]);
    }
    let version_1 = |body: &[u8]| {
        let records = [
            ("GNU.sparse.major", &b"1"[..]),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", b"9000"),
        ];
        Tar::new().pax(&records).file("s", body).end()
    };
    layer_refused(version_1(b"99999999999999999999999\n"), &["too long"]);
    layer_refused(version_1(b"999999999\n"), &["too many pieces"]);
    layer_refused(version_1(b"2\n0\n"), &["longer than the entry"]);
    layer_refused(version_1(b"x\n"), &["no number"]);
}

#[test]
fn h13_a_layer_that_is_not_what_the_image_says_is_refused() {
    let layer = Tar::new().file("a", "b").end();
    let mut parts = Parts::of(vec![layer.clone()]);
    parts.layers[0][600] ^= 1;
    refused(&parts.docker(), &["layer 1 of 1 (0.tar)", "diff_id", &sha256(&layer)]);
    // Also where the damage makes it no tar.
    parts.layers[0][148] = b'x';
    refused(&parts.docker(), &["damaged", "diff_id"]);

    let mut oci = Oci::default();
    let stored = oci.blob(archive::LAYER, &layer, "");
    let other = oci.blob(archive::CONFIG, archive::config(&[b"other".to_vec()]).as_bytes(), "");
    let manifest = oci.manifest(&other, &[stored], "");
    oci.name(manifest);
    refused(&oci.archive(), &["diff_id", &sha256(b"other")]);
}

#[test]
fn h13_a_blob_that_is_not_what_its_descriptor_says_is_refused() {
    let build = || {
        let mut oci = Oci::default();
        let layer = Tar::new().file("a", "content").end();
        let image = oci.image(&[layer], ("+gzip", archive::gzip), "");
        oci.name(image);
        oci.archive()
    };
    let whole = build();
    let mut tried = 0;
    // Damage in each blob; byte 9 of a gzip file says what made it, and its content stays the same.
    for (at, name) in members(&whole) {
        for byte in [9, 12] {
            if name.starts_with("blobs/") {
                let mut damaged = whole.clone();
                damaged[at + byte] ^= 0x20;
                refused(&damaged, &["blobs/sha256/"]);
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 6);
}

#[test]
fn h13_a_manifest_or_configuration_under_a_wrong_digest_is_refused() {
    let layer = || Tar::new().file("a", "content").end();
    let forged = sha256(b"something else");

    let mut oci = Oci::default();
    let manifest = oci.image(&[layer()], PLAIN, "");
    let manifest = oci.forge(&manifest);
    oci.name(manifest);
    refused(&oci.archive(), &["damaged", &forged]);

    let mut oci = Oci::default();
    let stored = oci.blob(archive::LAYER, &layer(), "");
    let config = oci.blob(archive::CONFIG, archive::config(&[layer()]).as_bytes(), "");
    let config = oci.forge(&config);
    let manifest = oci.manifest(&config, &[stored], "");
    oci.name(manifest);
    refused(&oci.archive(), &["damaged", &forged]);
}

/// Where the data of each member starts.
fn members(archive: &[u8]) -> Vec<(usize, String)> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.path().unwrap().display().to_string();
            (entry.raw_file_position() as usize, name)
        })
        .collect()
}

#[test]
fn h13_compressed_layers_that_are_damaged_are_refused() {
    let layer = Tar::new().file("a", vec![7; 100_000]).end();
    for compressed in [archive::gzip(&layer), archive::zstd(&layer)] {
        let mut parts = Parts::of(vec![layer.clone()]);
        parts.layers[0] = compressed[..compressed.len() / 2].to_vec();
        refused(&parts.docker(), &["layer 1 of 1", "can't be read"]);
        parts.layers[0] = compressed.clone();
        let middle = compressed.len() / 2;
        parts.layers[0][middle] ^= 0xff;
        refused(&parts.docker(), &["layer 1 of 1"]);
        parts.layers[0] = [compressed, b"garbage".to_vec()].concat();
        refused(&parts.docker(), &["layer 1 of 1"]);
    }
    let mut parts = Parts::of(vec![layer]);
    parts.layers[0] = b"\xfd7zXZ\0 and so on".to_vec();
    refused(&parts.docker(), &["xz", "only gzip and zstd"]);
}

#[test]
fn h13_an_archive_cut_short_anywhere_is_refused() {
    let layer = Tar::new().file("a", "b").end();
    let whole = docker(&[(&["cut:1"], &[layer])]);
    let scratch = Scratch::in_memory();
    // Of the 1,024 zeros of the end marker the first 512 count.
    for end in (0..=whole.len() - 513).step_by(97) {
        scratch.refusal(&whole[..end]);
        let error = scratch.load_stream(&whole[..end]).unwrap_err();
        assert!(!error.to_string().is_empty());
        assert_eq!(scratch.files(), [""; 0]);
    }
    let (layer, _) = members(&whole).into_iter().find(|(_, name)| name.contains("layer")).unwrap();
    let line = scratch.refusal(&whole[..layer + 10]);
    assert!(line.contains("ends inside '0-0/layer.tar'"), "{line}");
    assert!(scratch.load(&whole[..whole.len() - 512]).is_ok());
}

#[test]
fn h13_members_that_reach_out_of_an_archive_are_refused() {
    let whole = |tar: Tar| tar.file("manifest.json", "[]").end();
    refused(&whole(Tar::new().file("/abs", "")), &["'/abs'", "absolute"]);
    refused(&whole(Tar::new().file("a/../../b", "")), &["'..'"]);
    refused(&whole(Tar::new().symlink("a", "/etc/passwd")), &["symbolic link"]);
    refused(&whole(Tar::new().hardlink("a", "/etc/passwd")), &["hard link"]);
    refused(&whole(Tar::new().device(EntryType::Char, "a", (1, 3))), &["device"]);
    refused(&whole(Tar::new().symlink("x/layer.tar", "../../y")), &["out of the archive"]);
    refused(&whole(Tar::new().symlink("x/layer.tar", "/etc/passwd")), &["out of the archive"]);
    refused(&whole(Tar::new().file("manifest.json", "[1]")), &["stands twice"]);
    refused(&whole(Tar::new().file("./manifest.json", "[1]")), &["stands twice"]);
}

#[test]
fn h13_links_to_links_in_an_archive_are_refused() {
    let parts = Parts::of(vec![b"x".to_vec()]);
    let tar = Tar::new()
        .file("config.json", &parts.config)
        .symlink("a/layer.tar", "../b/layer.tar")
        .symlink("b/layer.tar", "../a/layer.tar")
        .file("manifest.json", format!("[{}]", item("config.json", &[], &["a/layer.tar".into()])));
    refused(&tar.end(), &["link to a link"]);
}

#[test]
fn h13_malformed_docker_manifests_are_refused() {
    let config = archive::config(&[b"x".to_vec()]);
    let with = |manifest: &str| {
        Tar::new().file("c.json", &config).file("l", "x").file("manifest.json", manifest).end()
    };
    let layers = |layers: &[&str]| {
        let layers: Vec<String> = layers.iter().map(|layer| (*layer).to_owned()).collect();
        format!("[{}]", item("c.json", &[], &layers))
    };
    refused(&with(""), &["manifest.json", "malformed"]);
    refused(&with("{}"), &["manifest.json", "malformed"]);
    refused(&with("[]"), &["names no image"]);
    refused(&with(&layers(&[])), &["0 layers", "1"]);
    refused(&with(&layers(&["l", "l"])), &["2 layers", "1"]);
    refused(&with(&layers(&["missing"])), &["'missing' is missing"]);
    refused(&with(&layers(&["../l"])), &["plain relative path"]);
    refused(&with(&layers(&["/l"])), &["plain relative path"]);
    refused(&with(r#"[{"Config":"nope.json","Layers":[]}]"#), &["'nope.json' is missing"]);
    refused(&with(r#"[{"Config":"c.json","Config":"l","Layers":["l"]}]"#), &["stands twice"]);
    let bad_tag = format!("[{}]", item("c.json", &["Bad Tag"], &["l".into()]));
    refused(&with(&bad_tag), &["invalid image name 'Bad Tag'"]);
    let huge = Tar::new().file("manifest.json", vec![b' '; (4 << 20) + 1]).end();
    refused(&huge, &["manifest.json", "4194305", "4194304"]);
    let named = format!("{}.json", sha256(b"other"));
    let lying = Tar::new()
        .file(&named, &config)
        .file("l", "x")
        .file("manifest.json", format!("[{}]", item(&named, &[], &["l".into()])));
    refused(&lying.end(), &["damaged", &sha256(config.as_bytes())]);
}

#[test]
fn h13_unusable_configurations_are_refused() {
    let layer = Tar::new().file("a", "b").end();
    let with = |from: &str, to: &str| {
        let mut parts = Parts::of(vec![layer.clone()]);
        assert!(parts.config.contains(from));
        parts.config = parts.config.replace(from, to);
        parts.docker()
    };
    refused(&with("amd64", "arm64"), &["linux/arm64", "linux/amd64"]);
    refused(&with("linux", "windows"), &["windows/amd64"]);
    refused(&with("layers", "tar"), &["rootfs"]);
    refused(&with("sha256:", "sha512:"), &["diff_id"]);
    refused(&with("\"os\":\"linux\",", "\"os\":\"linux\",\"os\":\"linux\","), &["stands twice"]);
    let many = Parts::of(vec![Tar::new().end(); 129]);
    refused(&many.docker(), &["129 layers", "128"]);
}

#[test]
fn h13_one_name_for_two_images_is_refused() {
    let layer = |text: &str| vec![Tar::new().file("a", text).end()];
    let (one, two) = (layer("1"), layer("2"));
    refused(&docker(&[(&["app:1"], &one), (&["docker.io/library/app:1"], &two)]), &["'app:1'"]);
}

#[test]
fn h13_what_is_no_image_archive_is_refused() {
    refused(b"", &["neither a Docker archive", "boxwood import"]);
    refused(b"hello", &["cut short"]);
    refused(&[b'x'; 4096], &["no tar header at offset 0"]);
    refused(&Tar::new().file("etc/passwd", "root").end(), &["boxwood import"]);
    refused(&Tar::new().file("repositories", "{}").end(), &["before version 1.10"]);
    refused(&archive::gzip(b"hello")[..12], &["can't read"]);
    refused(b"BZh91AY&SY...", &["bzip2"]);
}

#[test]
fn h13_malformed_oci_layouts_are_refused() {
    let layer = || vec![Tar::new().file("a", "b").end()];
    let mut oci = Oci::default();
    let image = oci.image(&layer(), PLAIN, &platform("linux", "arm64"));
    oci.name(image);
    refused(&oci.archive(), &["no image in it is for linux/amd64, only for linux/arm64"]);

    let mut oci = Oci::default();
    let image = oci.image(&layer(), ("+brotli", <[u8]>::to_vec), "");
    oci.name(image);
    refused(&oci.archive(), &["unknown media type", "+brotli"]);

    let mut oci = Oci::default();
    let blob = oci.blob("application/x-unknown", b"{}", "");
    oci.name(blob);
    refused(&oci.archive(), &["unknown media type", "application/x-unknown"]);

    let mut oci = Oci::default();
    let config = oci.blob("application/x-config", b"{}", "");
    let manifest = oci.manifest(&config, &[], "");
    oci.name(manifest);
    refused(&oci.archive(), &["unknown media type", "application/x-config"]);

    let mut oci = Oci::default();
    let image = oci.image(&layer(), PLAIN, "");
    oci.name(image.replace("\"size\":", "\"size\":1"));
    refused(&oci.archive(), &["damaged", "bytes, not 1"]);

    let mut oci = Oci::default();
    let image = oci.image(&layer(), PLAIN, "");
    oci.name(image.replace("sha256:", &format!("sha512:{}", "0".repeat(64))));
    refused(&oci.archive(), &["sha512:0000", "no sha256 digest"]);

    let mut oci = Oci::default();
    let missing = format!(
        r#"{{"mediaType":"{}","digest":"sha256:{}","size":3}}"#,
        archive::MANIFEST,
        sha256(b"missing")
    );
    oci.name(missing);
    refused(&oci.archive(), &[&sha256(b"missing"), "missing in it"]);

    refused(&Oci::default().archive(), &["index.json", "names no image"]);
    let no_version = Tar::new().file("index.json", "{}").end();
    refused(&no_version, &["'oci-layout' is missing"]);
}

#[test]
fn h13_indexes_in_indexes_end() {
    let mut oci = Oci::default();
    let mut inner = oci.index(&[], "");
    for _ in 0..6 {
        inner = oci.index(&[inner], "");
    }
    oci.name(inner);
    refused(&oci.archive(), &["too many levels"]);

    let mut oci = Oci::default();
    let mut inner = oci.index(&[], "");
    for _ in 0..3 {
        inner = oci.index(&vec![inner; 200], "");
    }
    oci.name(inner);
    refused(&oci.archive(), &["more than 1024"]);
}

#[test]
fn h13_a_bad_image_keeps_the_good_one_beside_it_out() {
    let mut oci = Oci::default();
    let name = |name| annotations(&[("io.containerd.image.name", name)]);
    let good = oci.image(&[Tar::new().file("a", "b").end()], PLAIN, &name("good:1"));
    oci.name(good);
    let bad = oci.image(&[Tar::new().file("../a", "b").end()], PLAIN, &name("bad:1"));
    oci.name(bad);
    refused(&oci.archive(), &["'..'"]);
}

#[test]
fn h13_links_in_a_layout_directory_are_refused() {
    let scratch = Scratch::in_memory();
    let layout = scratch.dir.path().join("layout");
    let mut oci = Oci::default();
    let image = oci.image(&[Tar::new().file("a", "b").end()], PLAIN, "");
    oci.name(image);
    oci.layout(&layout);
    let blobs = layout.join("blobs");
    std::fs::rename(&blobs, layout.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", &blobs).unwrap();
    let error = scratch.store.load(boxwood_image::Source::Path(layout), &mut |_| {}).unwrap_err();
    let line = crate::support::chain(&error);
    assert!(line.contains("symbolic link"), "{line}");
}
