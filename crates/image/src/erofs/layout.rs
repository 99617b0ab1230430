//! Where each inode and each directory goes: the pass before metadata is written. Called by the
//! metadata writer.

use super::inode::{INODE, Place, SLOT, dirent_type};
use super::{directory, xattr};
use crate::limits::BLOCK;
use crate::tree::{Children, Kind, Leaf, Node, NodeId, Tree};

/// The longest tail that is put next to its inode; longer ones get a block of their own, so that
/// inodes do not leave gaps.
const INLINE: u64 = BLOCK / 2;

/// One inode's place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inode {
    pub(super) node: NodeId,
    /// From the start of the inode area.
    pub(super) offset: u64,
    pub(super) place: Place,
    pub(super) links: u32,
    pub(super) parent: NodeId,
}

/// The layout of all metadata.
#[derive(Debug)]
pub(super) struct Layout {
    /// In the order of their offsets, the root first.
    pub(super) inodes: Vec<Inode>,
    /// By node; 0 for nodes that have none.
    nids: Vec<u64>,
    /// Bytes of the inode area.
    pub(super) inode_bytes: u64,
    /// Where the inode area starts: after the blocks of directories and long symbolic links.
    pub(super) meta_block: u32,
}

impl Layout {
    /// Lays out the tree behind `next_block`, depth first: what is in one directory stays together.
    pub(super) fn of(tree: &Tree, next_block: u32) -> Self {
        let nids = vec![0; tree.capacity()];
        // The first slots stay free: inode number 0 means "no entry" to old programs.
        let mut layout =
            Layout { inodes: Vec::new(), nids, inode_bytes: INODE, meta_block: next_block };
        layout.place(tree, NodeId::ROOT, NodeId::ROOT);
        let mut pending = vec![NodeId::ROOT];
        while let Some(directory) = pending.pop() {
            let Kind::Directory(children) = &tree.node(directory).kind else { continue };
            for dentry in children.values() {
                // A file with several names is met several times.
                if layout.nids[dentry.node.index()] == 0 {
                    layout.place(tree, dentry.node, directory);
                }
            }
            pending.extend(
                children
                    .values()
                    .rev()
                    .map(|dentry| dentry.node)
                    .filter(|node| matches!(tree.node(*node).kind, Kind::Directory(_))),
            );
        }
        layout
    }

    pub(super) fn nid(&self, node: NodeId) -> u64 {
        self.nids[node.index()]
    }

    /// The content of a directory.
    pub(super) fn directory(&self, tree: &Tree, inode: &Inode, children: &Children) -> Vec<u8> {
        let entry = |name, node: NodeId| directory::Dirent {
            name,
            nid: self.nid(node),
            kind: dirent_type(&tree.node(node).kind),
        };
        let names = children.iter().map(|(name, dentry)| (&**name, dentry.node));
        let names = directory::sorted(inode.node, inode.parent, names);
        directory::content(names.map(|(name, node)| entry(name, node)))
    }

    fn place(&mut self, tree: &Tree, id: NodeId, parent: NodeId) {
        let node = tree.node(id);
        let place = self.content_place(node);
        let attributes = xattr::body_len(&node.meta.xattrs) as u64;
        let offset = fit(self.inode_bytes, attributes, u64::from(place.tail));
        self.inode_bytes = offset + INODE + attributes + u64::from(place.tail);
        self.nids[id.index()] = offset / SLOT;
        self.inodes.push(Inode { node: id, offset, place, links: links(tree, node), parent });
    }

    fn content_place(&mut self, node: &Node) -> Place {
        match &node.kind {
            Kind::Directory(children) => {
                let names = children.keys().map(|name| (&**name, ()));
                let size = directory::size(directory::sorted((), (), names).map(|(name, ())| name));
                self.blocks(size)
            }
            Kind::Leaf(Leaf::Symlink(target)) => self.blocks(target.len() as u64),
            Kind::Leaf(Leaf::File(extent)) => {
                let address = if extent.size == 0 { 0 } else { extent.block };
                Place { size: extent.size, address, tail: 0 }
            }
            Kind::Leaf(Leaf::CharDevice(number) | Leaf::BlockDevice(number)) => {
                Place { size: 0, address: *number, tail: 0 }
            }
            Kind::Leaf(Leaf::Fifo | Leaf::Socket) | Kind::Gone => Place::default(),
        }
    }

    /// Content in whole blocks, and the rest inline when it is short.
    fn blocks(&mut self, size: u64) -> Place {
        let rest = size % BLOCK;
        let tail = if rest <= INLINE { rest } else { 0 };
        let address = self.meta_block;
        self.meta_block += ((size - tail).div_ceil(BLOCK)) as u32;
        Place { size, address, tail: tail as u32 }
    }
}

/// The first place from `offset` on where the inode does not cross a block boundary, nor its tail.
fn fit(offset: u64, attributes: u64, tail: u64) -> u64 {
    let crosses =
        |start: u64, length: u64| length > 0 && start / BLOCK != (start + length - 1) / BLOCK;
    let mut offset = offset.next_multiple_of(SLOT);
    while crosses(offset, INODE) || crosses(offset + INODE + attributes, tail) {
        offset += SLOT;
    }
    offset
}

fn links(tree: &Tree, node: &Node) -> u32 {
    match &node.kind {
        Kind::Directory(children) => {
            let is_directory = |id: NodeId| matches!(tree.node(id).kind, Kind::Directory(_));
            2 + children.values().filter(|dentry| is_directory(dentry.node)).count() as u32
        }
        _ => node.links,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_inode_and_no_tail_crosses_a_block(
            offset in 0u64..20_000, attributes in 0u64..30_000, tail in 0..=INLINE,
        ) {
            let attributes = attributes / 4 * 4;
            let at = fit(offset, attributes, tail);
            prop_assert!(at >= offset && at < offset + 2 * BLOCK && at.is_multiple_of(SLOT));
            prop_assert!(at % BLOCK + INODE <= BLOCK);
            let start = at + INODE + attributes;
            prop_assert!(tail == 0 || start % BLOCK + tail <= BLOCK);
        }
    }
}
