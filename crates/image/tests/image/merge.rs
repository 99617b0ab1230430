//! Property tests: random layers give the tree that the specification says, in whatever order a
//! layer has its entries; and random bytes never bring the store down.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;

use crate::support::archive::{Tar, docker};
use crate::support::{Scratch, erofs, tools};

/// What a layer may do. Paths have up to three names from a small alphabet, so that they meet.
#[derive(Clone, Debug)]
enum Action {
    File(String, Vec<u8>),
    Dir(String, u32),
    Symlink(String, String),
    Whiteout(String),
    Opaque(String),
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec("[abc]", 1..4).prop_map(|names| names.join("/"))
}

fn action() -> impl Strategy<Value = Action> {
    let content = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        (any::<u8>(), 0..20_000usize).prop_map(|(byte, len)| vec![byte; len]),
    ];
    prop_oneof![
        4 => (path(), content).prop_map(|(path, content)| Action::File(path, content)),
        3 => (path(), 0..0o10000u32).prop_map(|(path, mode)| Action::Dir(path, mode)),
        1 => (path(), "[xyz/.]{1,60}").prop_map(|(path, target)| Action::Symlink(path, target)),
        2 => path().prop_map(Action::Whiteout),
        1 => path().prop_map(Action::Opaque),
    ]
}

impl Action {
    fn path(&self) -> &str {
        match self {
            Action::File(path, _)
            | Action::Dir(path, _)
            | Action::Symlink(path, _)
            | Action::Whiteout(path)
            | Action::Opaque(path) => path,
        }
    }

    fn is_mark(&self) -> bool {
        matches!(self, Action::Whiteout(_) | Action::Opaque(_))
    }

    fn write(&self, tar: Tar) -> Tar {
        match self {
            Action::File(path, content) => tar.file(path, content),
            Action::Dir(path, mode) => tar.dir_mode(path, *mode),
            Action::Symlink(path, target) => tar.symlink(path, target),
            Action::Whiteout(path) => match path.rsplit_once('/') {
                Some((dir, name)) => tar.file(&format!("{dir}/.wh.{name}"), ""),
                None => tar.file(&format!(".wh.{path}"), ""),
            },
            Action::Opaque(path) => tar.file(&format!("{path}/.wh..wh..opq"), ""),
        }
    }
}

/// The tree by the specification, as slowly as it is obvious.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model(BTreeMap<String, Entry>);

#[derive(Clone, Debug, PartialEq)]
enum Entry {
    File(Vec<u8>),
    Dir(u32),
    Symlink(String),
}

fn below(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

impl Model {
    /// One layer: its whiteouts hide what is below it, then its entries go on top.
    fn apply(&mut self, layer: &[Action]) {
        let own: Vec<&str> =
            layer.iter().filter(|action| !action.is_mark()).map(Action::path).collect();
        let mut hidden = Vec::new();
        for action in layer {
            match action {
                Action::Whiteout(path) => {
                    self.0.retain(|at, _| at != path && !below(at, path));
                    hidden.push(path.clone());
                }
                Action::Opaque(path) => self.0.retain(|at, _| !below(at, path)),
                _ => {}
            }
        }
        for path in own.iter().flat_map(|path| parents(path)) {
            let is_dir = matches!(self.0.get(path), Some(Entry::Dir(_)));
            if !is_dir {
                self.0.insert(path.to_owned(), Entry::Dir(0o755));
            }
        }
        for action in layer {
            let entry = match action {
                Action::File(_, content) => Entry::File(content.clone()),
                Action::Dir(_, mode) => Entry::Dir(*mode),
                Action::Symlink(_, target) => Entry::Symlink(target.clone()),
                _ => continue,
            };
            let path = action.path();
            if !matches!(entry, Entry::Dir(_)) {
                self.0.retain(|at, _| !below(at, path));
            }
            self.0.insert(path.to_owned(), entry);
        }
    }

    fn of(tree: &erofs::Tree) -> Self {
        let entry = |node: &erofs::Node| match node.mode >> 12 {
            4 => Entry::Dir(u32::from(node.mode & 0o7777)),
            8 => Entry::File(node.content.clone()),
            10 => Entry::Symlink(String::from_utf8(node.content.clone()).unwrap()),
            other => panic!("{other}"),
        };
        let nodes = tree.0.iter().filter(|(path, _)| !path.is_empty());
        Model(nodes.map(|(path, node)| (path.clone(), entry(node))).collect())
    }
}

/// Layers that a builder could have written: each path once, nothing below what is no directory,
/// no whiteout of or above what the layer has itself (its meaning then depends on who you ask),
/// and nothing below a symbolic link of a lower layer (which is followed).
fn sensible(layers: Vec<Vec<Action>>) -> Vec<Vec<Action>> {
    let mut links: Vec<String> = Vec::new();
    let mut out = Vec::new();
    for layer in layers {
        let mut kept: Vec<Action> = Vec::new();
        for action in layer {
            let path = action.path().to_owned();
            let clashes = |other: &Action| {
                let at = other.path();
                let leaf =
                    |action: &Action| matches!(action, Action::File(..) | Action::Symlink(..));
                match (action.is_mark(), other.is_mark()) {
                    (false, false) => {
                        at == path
                            || leaf(other) && below(&path, at)
                            || leaf(&action) && below(at, &path)
                    }
                    (true, true) => false,
                    (true, false) => mark_clashes(&action, other),
                    (false, true) => mark_clashes(other, &action),
                }
            };
            let through = links.iter().any(|link| below(&path, link) || *link == path);
            if !through && !kept.iter().any(clashes) {
                kept.push(action);
            }
        }
        let new = kept.iter().filter(|action| matches!(action, Action::Symlink(..)));
        links.extend(new.map(|action| action.path().to_owned()));
        out.push(kept);
    }
    out
}

/// An opaque mark goes with anything but a leaf at or above its directory; a whiteout with what is
/// neither at, above nor below its path.
fn mark_clashes(mark: &Action, entry: &Action) -> bool {
    let (at, path) = (mark.path(), entry.path());
    match (mark, entry) {
        (Action::Opaque(_), Action::Dir(..)) => false,
        (Action::Opaque(_), _) => at == path || below(at, path),
        _ => at == path || below(at, path) || below(path, at),
    }
}

fn build(layers: &[Vec<Action>]) -> Model {
    let tars: Vec<Vec<u8>> = layers
        .iter()
        .map(|layer| layer.iter().fold(Tar::new(), |tar, action| action.write(tar)).end())
        .collect();
    let scratch = Scratch::in_memory();
    let image = scratch.image(&docker(&[(&["prop:test"], &tars)]));
    tools::fsck(image.block());
    Model::of(&erofs::Tree::read(image.block()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn random_layers_merge_as_the_specification_says(
        layers in proptest::collection::vec(proptest::collection::vec(action(), 1..12), 1..5)
            .prop_map(sensible),
    ) {
        let mut model = Model::default();
        for layer in &layers {
            model.apply(layer);
        }
        prop_assert_eq!(build(&layers), model);
    }

    #[test]
    fn the_order_of_entries_in_a_layer_does_not_matter(
        layers in proptest::collection::vec(proptest::collection::vec(action(), 1..12), 2..4)
            .prop_map(sensible),
        seed in any::<Index>(),
    ) {
        let mut shuffled = layers.clone();
        for layer in &mut shuffled {
            let len = layer.len();
            if len > 0 {
                layer.rotate_left(seed.index(len));
                layer.reverse();
            }
        }
        prop_assert_eq!(build(&layers), build(&shuffled));
    }

    #[test]
    fn h13_random_bytes_never_bring_the_store_down(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let scratch = Scratch::in_memory();
        prop_assert!(scratch.load(&bytes).is_err());
        prop_assert!(scratch.load_stream(&bytes).is_err());
    }

    #[test]
    fn h13_an_archive_with_random_damage_never_brings_the_store_down(
        damage in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..6),
    ) {
        let layer = Tar::new()
            .pax(&[("SCHILY.xattr.user.a", b"b"), ("mtime", b"1.5")])
            .file("a", "1")
            .dir("d")
            .hardlink("d/h", "a")
            .symlink("s", "d")
            .file(".wh.x", "")
            .end();
        let mut archive = docker(&[(&["fuzz:1"], &[layer.clone(), layer])]);
        for (at, byte) in damage {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        let scratch = Scratch::in_memory();
        if let Ok(loaded) = scratch.load(&archive) {
            for image in loaded {
                tools::fsck(scratch.store.resolve(image.id.as_str()).unwrap().block());
            }
        }
    }
}

/// Layers with damage that a liar's digests cover: the tar reader alone has to cope.
#[test]
fn h13_a_layer_cut_or_damaged_at_any_byte_never_brings_the_store_down() {
    let map = b"1\n512\n512\n";
    let mut sparse = map.to_vec();
    sparse.resize(1024, 1);
    let layer = Tar::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", b"2000"),
            ("SCHILY.xattr.security.capability", b"x\0y"),
        ])
        .file("s", &sparse)
        .file(&"long/".repeat(30), "")
        .hardlink("h", "s")
        .end();
    let scratch = Scratch::in_memory();
    let mut loaded = 0;
    for at in 0..layer.len() {
        let cut = layer[..at].to_vec();
        loaded += usize::from(scratch.load(&docker(&[(&["cut:1"], &[cut])])).is_ok());
        let mut damaged = layer.clone();
        damaged[at] = damaged[at].wrapping_add(1 + at as u8 % 200);
        loaded += usize::from(scratch.load(&docker(&[(&["damaged:1"], &[damaged])])).is_ok());
        if at % 64 == 0 {
            // Keeps the store small.
            let all = scratch.store.list().unwrap();
            for image in all {
                let forced = boxwood_image::Removal::Forced(&|_| None);
                scratch.store.remove(image.id.as_str(), forced).unwrap();
            }
        }
    }
    assert!(loaded > 0 && loaded < 2 * layer.len());
}
