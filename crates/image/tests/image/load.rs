//! Archives and layouts of every form become the same images.

use std::os::unix::fs::symlink;

use boxwood_image::{Progress, Source};

use crate::support::archive::{
    self, Form, Oci, PLAIN, Tar, annotations, docker, item, platform, sha256,
};
use crate::support::{Scratch, erofs, tools};

const FORMS: [Form; 3] = [PLAIN, ("+gzip", archive::gzip), ("+zstd", archive::zstd)];

fn layers() -> Vec<Vec<u8>> {
    vec![
        Tar::new().file("a", "1").file("b", "1").end(),
        Tar::new().file("a", "2").file(".wh.b", "").file("c", vec![3; 600_000]).end(),
    ]
}

fn check(scratch: &Scratch, reference: &str) {
    let image = scratch.store.resolve(reference).unwrap();
    assert_eq!(image.id().hex(), sha256(archive::config(&layers()).as_bytes()));
    assert_eq!(image.config().cmd, ["sh"]);
    assert_eq!(image.config().env, ["PATH=/bin"]);
    scratch.store.verify(&image).unwrap();
    tools::fsck(image.block());
    let tree = erofs::Tree::read(image.block());
    assert_eq!(tree.paths(), ["a", "c"]);
    assert_eq!((tree.text("a"), tree.get("c").content.len()), ("2", 600_000));
}

#[test]
fn docker_archives_load_from_files_and_streams_whatever_their_compression() {
    let archive = docker(&[(&["app:1", "me/app:2"], &layers())]);
    for (_, compress) in FORMS {
        let scratch = Scratch::new();
        let loaded = scratch.load_stream(&compress(&archive)).unwrap();
        assert_eq!(loaded.len(), 1);
        assert!(!loaded[0].existed);
        let names: Vec<String> = loaded[0].names.iter().map(|name| name.familiar()).collect();
        assert_eq!(names, ["app:1", "me/app:2"]);
        check(&scratch, "app:1");
        check(&scratch, "docker.io/me/app:2");
        let again = scratch.load(&compress(&archive)).unwrap();
        assert!(again[0].existed);
        assert_eq!(scratch.files().len(), 3, "{:?}", scratch.files());
    }
}

#[test]
fn layers_load_whatever_their_compression() {
    for form in FORMS {
        let scratch = Scratch::new();
        let mut oci = Oci::default();
        let image =
            oci.image(&layers(), form, &annotations(&[("io.containerd.image.name", "x:1")]));
        oci.name(image);
        assert_eq!(scratch.load(&oci.archive()).unwrap().len(), 1);
        check(&scratch, "x:1");
    }
}

#[test]
fn several_images_and_shared_layers_load_at_once() {
    let scratch = Scratch::new();
    let (one, mut two) = (layers(), layers());
    two.push(Tar::new().file("more", "1").end());
    let loaded = scratch.load(&docker(&[(&["one"], &one), (&["two"], &two), (&["also"], &one)]));
    let loaded = loaded.unwrap();
    assert_eq!(loaded.len(), 2);
    check(&scratch, "one");
    check(&scratch, "also:latest");
    let two = scratch.store.resolve("two").unwrap();
    assert_eq!(erofs::Tree::read(two.block()).text("more"), "1");
    assert_eq!(scratch.store.list().unwrap().len(), 2);
}

#[test]
fn a_layer_that_old_docker_linked_is_found() {
    let scratch = Scratch::new();
    let layer = Tar::new().file("a", "1").end();
    let config = archive::config(&[layer.clone(), layer.clone()]);
    let paths = ["x/layer.tar".to_owned(), "y/layer.tar".to_owned()];
    let archive = Tar::new()
        .dir("x/")
        .file("x/layer.tar", &layer)
        .file("x/VERSION", "1.0")
        .symlink("y/layer.tar", "../x/layer.tar")
        .file("c.json", &config)
        .file("manifest.json", format!("[{}]", item("c.json", &["old:1"], &paths)));
    let image = scratch.image(&archive.end());
    assert_eq!(erofs::Tree::read(image.block()).text("a"), "1");
}

#[test]
fn an_index_gives_the_image_for_this_machine() {
    let scratch = Scratch::new();
    let mut oci = Oci::default();
    let plain = FORMS[0];
    let foreign = vec![Tar::new().file("wrong", "").end()];
    let arm = oci.image(&foreign, plain, &platform("linux", "arm64"));
    let attestation = oci.image(&foreign, plain, &platform("unknown", "unknown"));
    let ours = oci.image(&layers(), FORMS[1], &platform("linux", "amd64"));
    let inner = oci.index(&[attestation, arm, ours], "");
    let name = annotations(&[("org.opencontainers.image.ref.name", "ghcr.io/me/multi:1")]);
    let outer = oci.index(&[inner], &name);
    oci.name(outer);
    assert_eq!(scratch.load(&oci.archive()).unwrap().len(), 1);
    check(&scratch, "ghcr.io/me/multi:1");
}

#[test]
fn a_bare_tag_is_a_tag_of_the_layout_it_is_in() {
    let scratch = Scratch::new();
    let layout = scratch.dir.path().join("My-App.oci");
    let mut oci = Oci::default();
    let name = annotations(&[("org.opencontainers.image.ref.name", "v1.0")]);
    let image = oci.image(&layers(), FORMS[0], &name);
    oci.name(image);
    oci.layout(&layout);
    let link = scratch.dir.path().join("link");
    symlink(&layout, &link).unwrap();
    for path in [layout, link] {
        let loaded = scratch.store.load(Source::Path(path), &mut |_| {}).unwrap();
        assert_eq!(loaded[0].names[0].familiar(), "my-app:v1.0");
    }
    check(&scratch, "my-app:v1.0");
}

#[test]
fn an_image_without_a_name_is_used_by_its_id() {
    let scratch = Scratch::new();
    let mut oci = Oci::default();
    let image = oci.image(&layers(), FORMS[2], "");
    oci.name(image);
    let loaded = scratch.load_stream(&oci.archive()).unwrap();
    assert!(loaded[0].names.is_empty());
    check(&scratch, loaded[0].id.short());
}

#[test]
fn what_umoci_and_skopeo_write_is_read() {
    let scratch = Scratch::new();
    let path = |name: &str| scratch.dir.path().join(name).display().to_string();
    let umoci = |arguments: &[&str]| tools::run("umoci", "umoci", arguments);
    let image = format!("{}:tag", path("layout"));
    umoci(&["init", "--layout", &path("layout")]);
    umoci(&["new", "--image", &image]);
    umoci(&["config", "--image", &image, "--config.cmd", "/bin/true", "--architecture", "amd64"]);
    std::fs::create_dir_all(path("files/etc")).unwrap();
    std::fs::write(path("files/etc/one"), "1").unwrap();
    std::fs::write(path("file"), "2").unwrap();
    umoci(&["insert", "--image", &image, &path("files"), "/"]);
    umoci(&["insert", "--image", &image, &path("file"), "/etc/two"]);
    umoci(&["insert", "--image", &image, "--whiteout", "/etc/one"]);

    let source = format!("oci:{image}");
    let archives = ["docker-archive:d.tar:me/app:1", "oci-archive:o.tar:ghcr.io/me/app:2"];
    let mut sources = vec![path("layout")];
    for archive in archives {
        let (transport, rest) = archive.split_once(':').unwrap();
        let (file, name) = rest.split_once(':').unwrap();
        let target = format!("{transport}:{}:{name}", path(file));
        tools::run("skopeo", "skopeo", &["copy", "--insecure-policy", &source, &target]);
        sources.push(path(file));
    }
    let mut names = Vec::new();
    for source in sources {
        let loaded = scratch.store.load(Source::Path(source.into()), &mut |_| {}).unwrap();
        names.extend(loaded[0].names.iter().map(|name| name.familiar()));
        let image = scratch.store.resolve(loaded[0].id.as_str()).unwrap();
        tools::fsck(image.block());
        let tree = erofs::Tree::read(image.block());
        assert_eq!(tree.paths(), ["etc", "etc/two"]);
        assert_eq!(tree.text("etc/two"), "2");
        assert_eq!(image.config().cmd, ["/bin/true"]);
    }
    assert_eq!(names, ["layout:tag", "me/app:1", "ghcr.io/me/app:2"]);
}

#[test]
fn progress_counts_the_bytes_of_each_layer() {
    let scratch = Scratch::new();
    let mut seen = Vec::new();
    let archive = archive::gzip(&docker(&[(&["p:1"], &layers())]));
    let stream = Box::new(std::io::Cursor::new(archive));
    let mut progress = |progress| seen.push(progress);
    scratch.store.load(Source::Stream(stream), &mut progress).unwrap();
    assert!(matches!(seen[0], Progress::Reading { bytes } if bytes > 600_000));
    let last = |wanted: usize| {
        let bytes = seen.iter().rev().find_map(|progress| match progress {
            Progress::Layer { layer, layers: 2, bytes, .. } if *layer == wanted => Some(*bytes),
            _ => None,
        });
        bytes.unwrap()
    };
    assert!(last(1) > 1024 && last(2) > 600_000);
    assert_eq!(seen.last(), Some(&Progress::Writing));
}
