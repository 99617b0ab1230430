//! Walking to the directory of an entry. Called by the merge only.
//!
//! Symbolic links on the way: one that a *lower* layer left (`lib -> usr/lib`) is followed, and
//! always inside the tree: an absolute target starts at its root, `..` stops there. That is what a
//! process in the image would see, and builders have written such layers. One that the *same*
//! layer made is refused: no builder writes that, and it is how archives reach outside.

use super::{Children, Dentry, Kind, Leaf, Meta, Name, Node, NodeId, Tree, TreeError};
use crate::limits;
use crate::tar::show;

/// What to do about a directory that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// Make it, and note that this layer has something below it.
    Create,
    /// Give up.
    Stop,
}

/// Where a walk ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Walked {
    /// At this directory, so deep.
    At(NodeId, usize),
    /// At something missing, with [`Missing::Stop`].
    Nowhere,
}

impl Tree {
    /// Walks from the root along these names.
    pub(super) fn walk(&mut self, names: &[Name], missing: Missing) -> Result<Walked, TreeError> {
        let mut pending: Vec<Name> = names.iter().rev().cloned().collect();
        let mut stack = vec![NodeId::ROOT];
        let mut follows = 0;
        while let Some(name) = pending.pop() {
            self.count_lookup()?;
            let here = stack[stack.len() - 1];
            match &*name {
                b"" | b"." => continue,
                b".." => {
                    stack.truncate((stack.len() - 1).max(1));
                    continue;
                }
                _ => {}
            }
            let found = self.children(here).and_then(|children| children.get(&name)).copied();
            let Some(dentry) = found else {
                if missing == Missing::Stop {
                    return Ok(Walked::Nowhere);
                }
                stack.push(self.implicit(here, &name, stack.len())?);
                continue;
            };
            let lower = dentry.touched < self.layer;
            match &self.node(dentry.node).kind {
                Kind::Directory(_) => {
                    if missing == Missing::Create {
                        self.touch(here, &name);
                    }
                    stack.push(dentry.node);
                }
                Kind::Leaf(Leaf::Symlink(target)) if lower => {
                    follows += 1;
                    if follows > limits::SYMLINK_FOLLOWS {
                        return Err(TreeError::SymlinkLoop);
                    }
                    if target.starts_with(b"/") {
                        stack.truncate(1);
                    }
                    pending.extend(target.rsplit(|byte| *byte == b'/').map(Box::from));
                }
                Kind::Leaf(Leaf::Symlink(_)) => return Err(TreeError::ThroughSymlink(show(&name))),
                // A file of a lower layer gives way to a directory, as it does in overlayfs.
                _ if lower && missing == Missing::Create => {
                    self.unlink(here, &name);
                    stack.push(self.implicit(here, &name, stack.len())?);
                }
                _ if lower => return Ok(Walked::Nowhere),
                _ => return Err(TreeError::NotADirectory(show(&name))),
            }
        }
        Ok(Walked::At(stack[stack.len() - 1], stack.len() - 1))
    }

    /// Makes a directory that no entry describes (yet).
    fn implicit(&mut self, parent: NodeId, name: &[u8], depth: usize) -> Result<NodeId, TreeError> {
        let node = self.add(Meta::implicit(), Kind::Directory(Children::new()))?;
        // Its metadata counts as a lower layer's, so that an opaque mark leaves it as it is.
        self.nodes[node.index()].layer = 0;
        self.name(parent, name, node, depth)?;
        Ok(node)
    }

    /// Adds a node that has no name yet.
    pub(super) fn add(&mut self, meta: Meta, kind: Kind) -> Result<NodeId, TreeError> {
        if self.nodes.len() as u64 >= self.limits.entries {
            return Err(TreeError::TooMany { what: "entries", limit: self.limits.entries });
        }
        self.count_xattrs(&meta)?;
        let id = NodeId(self.nodes.len() as u32);
        self.nodes.push(Node { meta, kind, links: 0, layer: self.layer, opaque: self.layer });
        Ok(id)
    }

    /// Gives a node a name, which must be free. `depth` is that of the name, 1 in the root.
    pub(super) fn name(
        &mut self,
        parent: NodeId,
        name: &[u8],
        node: NodeId,
        depth: usize,
    ) -> Result<(), TreeError> {
        if depth > limits::DEPTH {
            return Err(TreeError::TooLong { what: "chain of directories", limit: limits::DEPTH });
        }
        self.count_name(name.len())?;
        let dentry = Dentry { node, touched: self.layer };
        if let Some(children) = self.children_mut(parent) {
            children.insert(name.into(), dentry);
            self.nodes[node.index()].links += 1;
        }
        Ok(())
    }

    pub(super) fn touch(&mut self, parent: NodeId, name: &[u8]) {
        let layer = self.layer;
        if let Some(dentry) = self.children_mut(parent).and_then(|all| all.get_mut(name)) {
            dentry.touched = layer;
        }
    }

    pub(super) fn count_name(&mut self, bytes: usize) -> Result<(), TreeError> {
        // Besides its text a name takes its place in the directory; this bounds hard links too.
        self.names += bytes as u64 + 64;
        if self.names > self.limits.names {
            let limit = self.limits.names;
            return Err(TreeError::TooMany { what: "bytes of file names", limit });
        }
        Ok(())
    }

    pub(super) fn count_xattrs(&mut self, meta: &Meta) -> Result<(), TreeError> {
        let bytes: usize = meta.xattrs.iter().map(|x| x.name.len() + x.value.len() + 64).sum();
        self.xattrs += bytes as u64;
        if self.xattrs > self.limits.xattrs {
            let limit = self.limits.xattrs;
            return Err(TreeError::TooMany { what: "bytes of extended attributes", limit });
        }
        Ok(())
    }

    fn count_lookup(&mut self) -> Result<(), TreeError> {
        self.lookups += 1;
        if self.lookups > self.limits.lookups {
            let limit = self.limits.lookups;
            return Err(TreeError::TooMany { what: "directory look-ups in its paths", limit });
        }
        Ok(())
    }
}
