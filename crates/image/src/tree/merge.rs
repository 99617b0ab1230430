//! The changes a layer makes: put, link, white out, make opaque. Called by the layer merge and by
//! import.

use super::resolve::{Missing, Walked};
use super::{Children, EntryPath, Kind, Leaf, Meta, Name, NewNode, NodeId, Tree, TreeError};
use crate::tar::show;

impl Tree {
    /// Puts an entry at a path, in place of what is there; a directory over a directory keeps what
    /// is in it.
    pub(crate) fn put(
        &mut self,
        path: &EntryPath,
        meta: Meta,
        new: NewNode,
    ) -> Result<(), TreeError> {
        let Some((parent, name)) = path.split() else {
            return match new {
                NewNode::Directory => self.describe(NodeId::ROOT, meta),
                NewNode::Leaf(_) => Err(TreeError::RootNotADirectory),
            };
        };
        let (parent, depth) = self.create_parent(parent)?;
        let existing = self.children(parent).and_then(|children| children.get(name)).copied();
        let existing = existing.map(|dentry| dentry.node);
        if let (NewNode::Directory, Some(node)) = (&new, existing)
            && self.children(node).is_some()
        {
            self.touch(parent, name);
            return self.describe(node, meta);
        }
        let kind = match new {
            NewNode::Directory => Kind::Directory(Children::new()),
            NewNode::Leaf(leaf) => {
                if let Leaf::Symlink(target) = &leaf {
                    self.count_name(target.len())?;
                }
                Kind::Leaf(leaf)
            }
        };
        let node = self.add(meta, kind)?;
        self.unlink(parent, name);
        self.name(parent, name, node, depth + 1)
    }

    /// Gives the file at `target` another name.
    pub(crate) fn link(&mut self, path: &EntryPath, target: &EntryPath) -> Result<(), TreeError> {
        let shown = || show(&target.names().join(&b'/'));
        let (parent, name) =
            target.split().ok_or_else(|| TreeError::LinkToDirectory("/".into()))?;
        let found = match self.walk(parent, Missing::Stop)? {
            Walked::At(parent, _) => self.children(parent).and_then(|all| all.get(name)).copied(),
            Walked::Nowhere => None,
        };
        let node = found.ok_or_else(|| TreeError::NoLinkTarget(shown()))?.node;
        if self.children(node).is_some() {
            return Err(TreeError::LinkToDirectory(shown()));
        }
        let (parent, name) = path.split().ok_or(TreeError::RootNotADirectory)?;
        // Held while the old name goes, which may be the last one of the same file.
        self.nodes[node.index()].links += 1;
        let (parent, depth) = self.create_parent(parent)?;
        self.unlink(parent, name);
        self.nodes[node.index()].links -= 1;
        self.name(parent, name, node, depth + 1)
    }

    /// Removes what lower layers have at a path.
    pub(crate) fn whiteout(&mut self, path: &EntryPath) -> Result<(), TreeError> {
        let (parent, name) =
            path.split().ok_or(TreeError::Malformed("a whiteout of the root directory"))?;
        let Walked::At(parent, _) = self.walk(parent, Missing::Stop)? else { return Ok(()) };
        let Some(dentry) = self.children(parent).and_then(|all| all.get(name)).copied() else {
            return Ok(());
        };
        if dentry.touched < self.layer {
            self.unlink(parent, name);
        } else {
            self.hide_metadata(dentry.node);
            self.hide_lower(dentry.node);
        }
        Ok(())
    }

    /// Removes what lower layers have in a directory.
    pub(crate) fn opaque(&mut self, directory: &EntryPath) -> Result<(), TreeError> {
        if let Walked::At(node, _) = self.walk(directory.names(), Missing::Stop)? {
            self.hide_lower(node);
        }
        Ok(())
    }

    fn create_parent(&mut self, parent: &[Name]) -> Result<(NodeId, usize), TreeError> {
        match self.walk(parent, Missing::Create)? {
            Walked::At(node, depth) => Ok((node, depth)),
            Walked::Nowhere => Err(TreeError::Malformed("its directory can't be made")),
        }
    }

    /// Gives a directory the metadata that this layer has for it.
    fn describe(&mut self, node: NodeId, meta: Meta) -> Result<(), TreeError> {
        self.count_xattrs(&meta)?;
        let layer = self.layer;
        let node = &mut self.nodes[node.index()];
        node.meta = meta;
        node.layer = layer;
        Ok(())
    }

    /// Leaves below a directory only what this layer put there. Each directory is visited once per
    /// layer, however often it is marked; what is in it counts as looked up.
    fn hide_lower(&mut self, top: NodeId) {
        let layer = self.layer;
        let mut pending = vec![top];
        while let Some(id) = pending.pop() {
            let node = &mut self.nodes[id.index()];
            let Kind::Directory(children) = &mut node.kind else { continue };
            if node.opaque >= layer {
                continue;
            }
            node.opaque = layer;
            self.lookups += children.len() as u64;
            let (mut kept, mut hidden) = (Vec::new(), Vec::new());
            children.retain(|_, dentry| {
                let keep = dentry.touched >= layer;
                if keep {
                    kept.push(dentry.node)
                } else {
                    hidden.push(dentry.node)
                }
                keep
            });
            for node in hidden {
                self.release(node);
            }
            for node in kept {
                self.hide_metadata(node);
                pending.push(node);
            }
        }
    }

    /// A directory of a lower layer that this one only has something below loses its metadata.
    fn hide_metadata(&mut self, node: NodeId) {
        let layer = self.layer;
        let node = &mut self.nodes[node.index()];
        if node.layer < layer && matches!(node.kind, Kind::Directory(_)) {
            node.meta = Meta::implicit();
        }
    }

    /// Takes a name away, with all that is below it.
    pub(super) fn unlink(&mut self, parent: NodeId, name: &[u8]) {
        if let Some(dentry) = self.children_mut(parent).and_then(|all| all.remove(name)) {
            self.release(dentry.node);
        }
    }

    /// Takes one link of a node away; the last one takes the node, and frees its data.
    fn release(&mut self, node: NodeId) {
        let mut pending = vec![node];
        while let Some(id) = pending.pop() {
            let node = &mut self.nodes[id.index()];
            node.links -= 1;
            if node.links > 0 {
                continue;
            }
            node.meta = Meta::default();
            match std::mem::replace(&mut node.kind, Kind::Gone) {
                Kind::Directory(children) => pending.extend(children.values().map(|d| d.node)),
                Kind::Leaf(Leaf::File(extent)) if extent.size > 0 => self.freed.push(extent),
                _ => {}
            }
        }
    }
}
