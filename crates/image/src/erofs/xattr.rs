//! Extended attributes: which ones an image keeps, and their form in an inode. Called by the layer
//! merge and import, and by the metadata writer.

use crate::limits;
use crate::tree::Xattr;

/// The header before the attributes, and the one before each.
const BODY_HEADER: usize = 12;
const ENTRY_HEADER: usize = 4;

/// EROFS's indices of the prefixes that are not stored.
const PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// Why an attribute can't be kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// EROFS has no place for it, or it is overlayfs's own note, which would mislead overlayfs
    /// when the image is a lower layer. It is left out, as container engines do.
    Unsupported,
    /// A name of no or more than 255 bytes, or more than 65,535 bytes of value.
    TooLong,
}

/// Finds the stored form of an attribute.
pub(crate) fn classify(name: &[u8], value: &[u8]) -> Result<Xattr, Refused> {
    if name.starts_with(b"trusted.overlay.") {
        return Err(Refused::Unsupported);
    }
    let known = PREFIXES.iter().find(|(prefix, _)| match prefix.ends_with(b".") {
        true => name.starts_with(prefix),
        false => name == *prefix,
    });
    let &(prefix, index) = known.ok_or(Refused::Unsupported)?;
    let rest = &name[prefix.len()..];
    let named = !rest.is_empty() || !prefix.ends_with(b".");
    if !named || rest.len() > limits::NAME_LEN || value.len() > usize::from(u16::MAX) {
        return Err(Refused::TooLong);
    }
    Ok(Xattr { index, name: rest.into(), value: value.into() })
}

fn entry_len(xattr: &Xattr) -> usize {
    (ENTRY_HEADER + xattr.name.len() + xattr.value.len()).next_multiple_of(4)
}

/// Bytes that the attributes take after their inode.
pub(super) fn body_len(xattrs: &[Xattr]) -> usize {
    if xattrs.is_empty() { 0 } else { BODY_HEADER + xattrs.iter().map(entry_len).sum::<usize>() }
}

/// The inode's `i_xattr_icount`: the body in units of 4 bytes, where the header counts as one.
pub(super) fn icount(xattrs: &[Xattr]) -> u16 {
    // The limit on a file's attributes keeps this far below 65,536.
    body_len(xattrs).checked_sub(BODY_HEADER).map_or(0, |entries| (entries / 4 + 1) as u16)
}

/// The attributes as they stand after the inode; none are shared.
pub(super) fn body(xattrs: &[Xattr], out: &mut Vec<u8>) {
    if xattrs.is_empty() {
        return;
    }
    out.extend_from_slice(&[0; BODY_HEADER]);
    for xattr in xattrs {
        let start = out.len();
        out.push(xattr.name.len() as u8);
        out.push(xattr.index);
        out.extend_from_slice(&(xattr.value.len() as u16).to_le_bytes());
        out.extend_from_slice(&xattr.name);
        out.extend_from_slice(&xattr.value);
        out.resize(start + entry_len(xattr), 0);
    }
}
