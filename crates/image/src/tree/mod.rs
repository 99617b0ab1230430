//! The merged tree of an image: names and metadata in memory, file data by its place in the block
//! image. Called by the layer merge and by import, which fill it, and by the EROFS writer, which
//! lays it out.
//!
//! Layers are applied bottom to top, in one pass. Every directory entry remembers the layer that
//! last had it, so a whiteout or an opaque mark removes what *lower* layers left and never what
//! its own layer has, whatever the order of the entries (OCI image specification, "Whiteouts").

mod merge;
mod path;
mod resolve;

use std::collections::BTreeMap;

use crate::limits::Limits;
pub(crate) use path::{EntryPath, Name};

/// Why an entry can't become part of the tree.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// An absolute path.
    #[error("its path is absolute; paths in a layer are relative")]
    Absolute,
    /// A `..` in the path.
    #[error("its path has a '..' in it")]
    DotDot,
    /// An empty path, a NUL, or a whiteout where none can be.
    #[error("its path is malformed: {0}")]
    Malformed(&'static str),
    /// A name, path, target or depth above its limit.
    #[error("its {what} is longer than {limit}")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// The limit, in bytes or directories.
        limit: usize,
    },
    /// A path that runs through a symbolic link of the same layer.
    #[error("its path runs through '{0}', a symbolic link of the same layer")]
    ThroughSymlink(String),
    /// More symbolic links in a row than Linux follows.
    #[error("its path runs through too many symbolic links")]
    SymlinkLoop,
    /// A path through something of this layer that is no directory.
    #[error("its path runs through '{0}', which is no directory")]
    NotADirectory(String),
    /// A hard link to nothing.
    #[error("it is a hard link to '{0}', which does not exist")]
    NoLinkTarget(String),
    /// A hard link to a path that is not in the image.
    #[error("it is a hard link to '{0}', which is no path in the image")]
    BadLinkTarget(String),
    /// A hard link to a directory.
    #[error("it is a hard link to '{0}', which is a directory")]
    LinkToDirectory(String),
    /// The root of the tree as something else than a directory.
    #[error("it names the root directory and is no directory")]
    RootNotADirectory,
    /// A limit of the whole image.
    #[error("the image has more than {limit} {what}")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
}

/// The index of a node in its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId(u32);

impl NodeId {
    pub(crate) const ROOT: NodeId = NodeId(0);

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// An extended attribute: EROFS's index of the name's prefix, the rest of the name, the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Xattr {
    pub(crate) index: u8,
    pub(crate) name: Box<[u8]>,
    pub(crate) value: Box<[u8]>,
}

/// What a file has besides its kind and content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// The twelve permission bits.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Vec<Xattr>,
}

impl Meta {
    /// A directory that no layer describes: root's, and open to all.
    fn implicit() -> Meta {
        Meta { mode: 0o755, ..Meta::default() }
    }
}

/// Where a file's bytes are in the block image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) block: u32,
    pub(crate) size: u64,
}

/// A file that is no directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leaf {
    File(Extent),
    Symlink(Box<[u8]>),
    /// With the number as the kernel encodes it, `new_encode_dev`.
    CharDevice(u32),
    BlockDevice(u32),
    Fifo,
    Socket,
}

/// What an entry is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NewNode {
    Directory,
    Leaf(Leaf),
}

#[derive(Debug)]
pub(crate) enum Kind {
    Directory(Children),
    Leaf(Leaf),
    /// Removed; nothing refers to it.
    Gone,
}

pub(crate) type Children = BTreeMap<Name, Dentry>;

/// A name in a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dentry {
    pub(crate) node: NodeId,
    /// The last layer with an entry at or below this name.
    touched: u16,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) meta: Meta,
    pub(crate) kind: Kind,
    /// Names of it; for a directory 1.
    pub(crate) links: u32,
    /// The layer its metadata is from.
    layer: u16,
    /// The last layer below which nothing of lower layers is left.
    opaque: u16,
}

/// The merged tree.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    limits: Limits,
    names: u64,
    xattrs: u64,
    lookups: u64,
    /// The layer being applied, from 1.
    layer: u16,
    /// Data that nothing refers to any more.
    freed: Vec<Extent>,
}

impl Tree {
    /// A tree with nothing but a root directory.
    pub(crate) fn new(limits: Limits) -> Self {
        let kind = Kind::Directory(Children::new());
        let root = Node { meta: Meta::implicit(), kind, links: 1, layer: 0, opaque: 0 };
        Tree {
            nodes: vec![root],
            limits,
            names: 0,
            xattrs: 0,
            lookups: 0,
            layer: 0,
            freed: Vec::new(),
        }
    }

    /// Starts the next layer.
    pub(crate) fn begin_layer(&mut self) {
        self.layer += 1;
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// How many nodes were ever made: the bound of [`NodeId::index`].
    pub(crate) fn capacity(&self) -> usize {
        self.nodes.len()
    }

    /// The data that nothing refers to any more, and forgets it.
    pub(crate) fn take_freed(&mut self) -> Vec<Extent> {
        std::mem::take(&mut self.freed)
    }

    fn children(&self, id: NodeId) -> Option<&Children> {
        match &self.node(id).kind {
            Kind::Directory(children) => Some(children),
            _ => None,
        }
    }

    fn children_mut(&mut self, id: NodeId) -> Option<&mut Children> {
        match &mut self.nodes[id.index()].kind {
            Kind::Directory(children) => Some(children),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
