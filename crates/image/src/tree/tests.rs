//! The limits of the whole tree, and what a merge leaves behind.

use super::*;
use crate::limits::Limits;

fn path(text: &str) -> EntryPath {
    EntryPath::parse(text.as_bytes()).unwrap()
}

fn file(block: u32, size: u64) -> NewNode {
    NewNode::Leaf(Leaf::File(Extent { block, size }))
}

fn tree(limits: Limits) -> Tree {
    let mut tree = Tree::new(limits);
    tree.begin_layer();
    tree
}

fn put(tree: &mut Tree, at: &str, new: NewNode) -> Result<(), TreeError> {
    tree.put(&path(at), Meta::default(), new)
}

#[test]
fn h13_the_number_of_entries_is_limited_with_their_implicit_directories() {
    let mut small = tree(Limits { entries: 10, ..Limits::default() });
    for at in 0..8 {
        put(&mut small, &at.to_string(), file(0, 0)).unwrap();
    }
    let error = put(&mut small, "a/b", file(0, 0)).unwrap_err();
    assert!(matches!(error, TreeError::TooMany { what: "entries", limit: 10 }));
}

#[test]
fn h13_removed_entries_count_too() {
    let mut small = tree(Limits { entries: 100, ..Limits::default() });
    let over = (0..200).find(|_| {
        small.begin_layer();
        small.whiteout(&path("a")).unwrap();
        put(&mut small, "a", file(0, 0)).is_err()
    });
    assert_eq!(over, Some(99));
}

#[test]
fn h13_the_bytes_of_names_and_of_attributes_are_limited() {
    let mut small = tree(Limits { names: 1000, ..Limits::default() });
    put(&mut small, "a", file(0, 0)).unwrap();
    let over = (0..100).find(|at| small.link(&path(&format!("l{at}")), &path("a")).is_err());
    assert!(over.is_some_and(|at| at < 15), "{over:?}");
    let target = NewNode::Leaf(Leaf::Symlink(vec![b'x'; 2000].into()));
    assert!(put(&mut tree(Limits { names: 1000, ..Limits::default() }), "s", target).is_err());

    let mut small = tree(Limits { xattrs: 1000, ..Limits::default() });
    let xattr = Xattr { index: 1, name: (*b"a").into(), value: vec![0; 400].into() };
    let meta = Meta { xattrs: vec![xattr], ..Meta::default() };
    for over in [false, false, true] {
        // Also when one directory is described again and again.
        let put = small.put(&path("d"), meta.clone(), NewNode::Directory);
        assert_eq!(put.is_err(), over);
    }
}

#[test]
fn h13_the_time_that_chains_of_links_burn_is_limited() {
    let mut small = tree(Limits { lookups: 1000, ..Limits::default() });
    let long = "./".repeat(400);
    put(&mut small, "s", NewNode::Leaf(Leaf::Symlink(long.as_bytes().into()))).unwrap();
    small.begin_layer();
    let over = (0..10).find(|at| put(&mut small, &format!("s/{at}"), file(0, 0)).is_err());
    assert_eq!(over, Some(2));
}

#[test]
fn h13_a_path_with_a_nul_is_refused() {
    assert!(matches!(EntryPath::parse(b"a\0b"), Err(TreeError::Malformed(_))));
    assert!(path("a").join(b"\0").is_err());
}

#[test]
fn data_is_freed_when_the_last_name_goes_and_not_before() {
    let mut tree = tree(Limits::default());
    put(&mut tree, "d/a", file(1, 5)).unwrap();
    put(&mut tree, "d/empty", file(9, 0)).unwrap();
    tree.link(&path("b"), &path("d/a")).unwrap();
    put(&mut tree, "c", file(2, 6)).unwrap();
    tree.begin_layer();
    tree.whiteout(&path("d")).unwrap();
    assert_eq!(tree.take_freed(), []);
    put(&mut tree, "b", NewNode::Directory).unwrap();
    put(&mut tree, "c", file(3, 7)).unwrap();
    assert_eq!(tree.take_freed(), [Extent { block: 1, size: 5 }, Extent { block: 2, size: 6 }]);
    assert_eq!(tree.take_freed(), []);
}

#[test]
fn a_directory_is_looked_through_once_per_layer_however_often_it_is_marked() {
    let mut tree = tree(Limits { lookups: 100_000, ..Limits::default() });
    put(&mut tree, "d/lower", file(0, 0)).unwrap();
    tree.begin_layer();
    for at in 0..20_000 {
        put(&mut tree, &format!("d/{at}"), file(0, 0)).unwrap();
        tree.opaque(&path("d")).unwrap();
        tree.opaque(&EntryPath::root()).unwrap();
    }
    let children = tree.children(NodeId::ROOT).unwrap();
    let directory = children.get(&b"d"[..]).unwrap().node;
    assert_eq!(tree.children(directory).unwrap().len(), 20_000);
}
