//! Paths of layer entries, checked before anything looks at the tree. Called by the layer merge.

use super::TreeError;
use crate::limits;

/// A file name: not empty, no slash, no NUL, not `.` or `..`.
pub(crate) type Name = Box<[u8]>;

/// A relative path of ordinary names; empty for the root itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryPath {
    names: Vec<Name>,
}

impl EntryPath {
    /// Checks what an archive claims.
    pub(crate) fn parse(claimed: &[u8]) -> Result<Self, TreeError> {
        if claimed.is_empty() {
            return Err(TreeError::Malformed("it is empty"));
        }
        if claimed.contains(&0) {
            return Err(TreeError::Malformed("it has a NUL in it"));
        }
        // A lone slash reaches nowhere, and umoci writes it for the root.
        if claimed.starts_with(b"/") && claimed != b"/" {
            return Err(TreeError::Absolute);
        }
        if claimed.len() > limits::PATH_LEN {
            return Err(TreeError::TooLong { what: "path", limit: limits::PATH_LEN });
        }
        let mut names = Vec::new();
        for name in claimed.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => return Err(TreeError::DotDot),
                _ if name.len() > limits::NAME_LEN => {
                    return Err(TreeError::TooLong { what: "file name", limit: limits::NAME_LEN });
                }
                _ => names.push(name.into()),
            }
        }
        Ok(EntryPath { names })
    }

    /// The path of a name in this directory.
    pub(crate) fn join(&self, name: &[u8]) -> Result<Self, TreeError> {
        let mut names = self.names.clone();
        names.extend(EntryPath::parse(name)?.names);
        Ok(EntryPath { names })
    }

    pub(crate) fn root() -> Self {
        EntryPath { names: Vec::new() }
    }

    pub(crate) fn names(&self) -> &[Name] {
        &self.names
    }

    /// The directory and the name in it; None for the root.
    pub(crate) fn split(&self) -> Option<(&[Name], &[u8])> {
        self.names.split_last().map(|(name, parent)| (parent, &**name))
    }

    /// The path without its last name.
    pub(crate) fn parent(&self) -> EntryPath {
        EntryPath { names: self.names[..self.names.len().saturating_sub(1)].to_vec() }
    }
}
