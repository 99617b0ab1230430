//! The 64-byte extended inode. Called by the metadata writer.

use super::xattr;
use crate::tree::{Kind, Leaf, Node};

/// Bytes of an extended inode, without attributes and tail.
pub(super) const INODE: u64 = 64;

/// Inode numbers count slots of this size from the start of the metadata.
pub(super) const SLOT: u64 = 32;

const VERSION_EXTENDED: u16 = 1;
const FLAT_PLAIN: u16 = 0;
const FLAT_INLINE: u16 = 2;

/// The type in a directory entry.
pub(super) fn dirent_type(kind: &Kind) -> u8 {
    match kind {
        Kind::Leaf(Leaf::File(_)) | Kind::Gone => 1,
        Kind::Directory(_) => 2,
        Kind::Leaf(Leaf::CharDevice(_)) => 3,
        Kind::Leaf(Leaf::BlockDevice(_)) => 4,
        Kind::Leaf(Leaf::Fifo) => 5,
        Kind::Leaf(Leaf::Socket) => 6,
        Kind::Leaf(Leaf::Symlink(_)) => 7,
    }
}

fn type_bits(kind: &Kind) -> u16 {
    match kind {
        Kind::Leaf(Leaf::Fifo) => 0o010_000,
        Kind::Leaf(Leaf::CharDevice(_)) => 0o020_000,
        Kind::Directory(_) => 0o040_000,
        Kind::Leaf(Leaf::BlockDevice(_)) => 0o060_000,
        Kind::Leaf(Leaf::File(_)) | Kind::Gone => 0o100_000,
        Kind::Leaf(Leaf::Symlink(_)) => 0o120_000,
        Kind::Leaf(Leaf::Socket) => 0o140_000,
    }
}

/// Where an inode's content is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) size: u64,
    /// The first block; the device number of a device.
    pub(super) address: u32,
    /// Bytes of the tail that stands right after the inode and its attributes.
    pub(super) tail: u32,
}

/// The inode and its attributes; the tail is the caller's.
pub(super) fn encode(node: &Node, place: Place, number: u32, links: u32, out: &mut Vec<u8>) {
    let layout = if place.tail > 0 { FLAT_INLINE } else { FLAT_PLAIN };
    let (seconds, nanos) = node.meta.mtime;
    out.extend_from_slice(&(VERSION_EXTENDED | (layout << 1)).to_le_bytes());
    out.extend_from_slice(&xattr::icount(&node.meta.xattrs).to_le_bytes());
    out.extend_from_slice(&(type_bits(&node.kind) | node.meta.mode).to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&place.size.to_le_bytes());
    out.extend_from_slice(&place.address.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&node.meta.uid.to_le_bytes());
    out.extend_from_slice(&node.meta.gid.to_le_bytes());
    out.extend_from_slice(&seconds.to_le_bytes());
    out.extend_from_slice(&nanos.to_le_bytes());
    out.extend_from_slice(&links.to_le_bytes());
    out.extend_from_slice(&[0; 16]);
    xattr::body(&node.meta.xattrs, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{EntryPath, Meta, NewNode, NodeId, Tree};

    #[test]
    fn an_inode_is_64_bytes() {
        let mut tree = Tree::new(crate::limits::Limits::default());
        tree.put(&EntryPath::root(), Meta::default(), NewNode::Directory).unwrap();
        let mut out = Vec::new();
        encode(tree.node(NodeId::ROOT), Place::default(), 1, 2, &mut out);
        assert_eq!(out.len() as u64, INODE);
    }
}
