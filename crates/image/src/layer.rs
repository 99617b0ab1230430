//! Merges one layer, as a tar stream, into the tree and the block image. Called by the builder, and
//! by import for a root file system in a tar.

use std::io;

use crate::erofs::{DataWriter, Refused, WriteError, classify};
use crate::limits;
use crate::tar::{End, Entry, EntryKind, TarError, TarInput, TarReader, show};
use crate::tree::{EntryPath, Leaf, Meta, NewNode, Tree, TreeError, Xattr};

/// Why a layer can't be merged.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// It is no readable tar archive.
    #[error("it is not a readable tar archive")]
    Tar(#[source] TarError),
    /// An entry that must not be in an image.
    #[error("bad entry '{path}'")]
    Entry {
        /// The path it claims.
        path: String,
        /// What is wrong with it.
        #[source]
        source: TreeError,
    },
    /// An attribute that fits no image.
    #[error("bad entry '{path}': its extended attribute '{name}' is malformed or too long")]
    Xattr {
        /// The path it claims.
        path: String,
        /// The attribute.
        name: String,
    },
    /// A device number above 4095:1048575.
    #[error("bad entry '{path}': device {major}:{minor} does not exist on Linux")]
    Device {
        /// The path it claims.
        path: String,
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// The data does not fit the image or can't be written.
    #[error("the content of '{path}' can't be stored")]
    Data {
        /// The path it claims.
        path: String,
        /// The reason.
        #[source]
        source: WriteError,
    },
    /// More entries than an image may have, counting those that stand for nothing.
    #[error("it has more than {0} entries")]
    TooManyEntries(u64),
    /// A tar without its end marker.
    #[error("the archive is cut short: its end marker is missing")]
    NoEnd,
}

impl LayerError {
    /// Whether damage of the stream can be the cause, so that its digest says more.
    pub(crate) fn may_be_damage(&self) -> bool {
        let too_many = matches!(self, LayerError::Entry { source: TreeError::TooMany { .. }, .. });
        !too_many && !matches!(self, LayerError::Data { .. } | LayerError::TooManyEntries(_))
    }
}

/// What a tar must have at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its digest tells whether it is whole.
    Any,
    /// Nothing else tells.
    Marker,
}

/// Merges all entries of the tar that `input` holds.
pub(crate) fn merge(
    input: impl TarInput,
    ending: Ending,
    tree: &mut Tree,
    data: &mut DataWriter,
) -> Result<(), LayerError> {
    tree.begin_layer();
    let mut tar = TarReader::new(input);
    let mut entries = 0;
    while let Some(entry) = tar.next().map_err(LayerError::Tar)? {
        entries += 1;
        if entries > 2 * tree.limits().entries {
            return Err(LayerError::TooManyEntries(2 * tree.limits().entries));
        }
        merge_entry(entry, &mut tar, tree, data)?;
    }
    match (tar.end(), ending) {
        (Some(End::Unmarked) | None, Ending::Marker) => Err(LayerError::NoEnd),
        _ => Ok(()),
    }
}

fn merge_entry<R: TarInput>(
    entry: Entry,
    tar: &mut TarReader<R>,
    tree: &mut Tree,
    data: &mut DataWriter,
) -> Result<(), LayerError> {
    let claimed = entry.path.clone();
    let refuse = |source| LayerError::Entry { path: show(&claimed), source };
    let path = EntryPath::parse(&entry.path).map_err(refuse)?;
    match mark(&path).map_err(refuse)? {
        Mark::None => {}
        Mark::Ignored => return Ok(()),
        Mark::Opaque => return tree.opaque(&path.parent()).map_err(refuse),
        Mark::Whiteout(path) => return tree.whiteout(&path).map_err(refuse),
    }
    let meta = meta(&entry)?;
    let number = |entry: &Entry| {
        let (major, minor) = entry.device;
        device(major, minor).ok_or_else(|| LayerError::Device {
            path: show(&claimed),
            major,
            minor,
        })
    };
    let new = match entry.kind {
        EntryKind::Directory => NewNode::Directory,
        EntryKind::HardLink => {
            let target = EntryPath::parse(&entry.link)
                .map_err(|_| refuse(TreeError::BadLinkTarget(show(&entry.link))))?;
            return tree.link(&path, &target).map_err(refuse);
        }
        EntryKind::Symlink => NewNode::Leaf(symlink(&entry.link).map_err(refuse)?),
        EntryKind::CharDevice => NewNode::Leaf(Leaf::CharDevice(number(&entry)?)),
        EntryKind::BlockDevice => NewNode::Leaf(Leaf::BlockDevice(number(&entry)?)),
        EntryKind::Fifo => NewNode::Leaf(Leaf::Fifo),
        EntryKind::File => NewNode::Leaf(file(&entry, tar, data)?),
    };
    tree.put(&path, meta, new).map_err(refuse)
}

/// What the name of an entry says besides naming it.
enum Mark {
    None,
    /// aufs's own notes, which mean nothing in an image.
    Ignored,
    Opaque,
    Whiteout(EntryPath),
}

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const AUFS: &[u8] = b".wh..wh.";

fn mark(path: &EntryPath) -> Result<Mark, TreeError> {
    let Some((parent, name)) = path.split() else { return Ok(Mark::None) };
    if parent.iter().any(|name| name.starts_with(AUFS)) {
        return Ok(Mark::Ignored);
    }
    if parent.iter().any(|name| name.starts_with(WHITEOUT)) {
        return Err(TreeError::Malformed("it lies below a whiteout"));
    }
    if name == OPAQUE {
        return Ok(Mark::Opaque);
    }
    if name.starts_with(AUFS) {
        return Ok(Mark::Ignored);
    }
    let Some(hidden) = name.strip_prefix(WHITEOUT) else { return Ok(Mark::None) };
    if matches!(hidden, b"" | b"." | b"..") {
        return Err(TreeError::Malformed("a whiteout of nothing"));
    }
    Ok(Mark::Whiteout(path.parent().join(hidden)?))
}

fn meta(entry: &Entry) -> Result<Meta, LayerError> {
    Ok(Meta {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        xattrs: xattrs(&entry.path, &entry.xattrs)?,
    })
}

/// The attributes that an image keeps, in a fixed order.
pub(crate) fn xattrs(
    path: &[u8],
    claimed: &[(Vec<u8>, Vec<u8>)],
) -> Result<Vec<Xattr>, LayerError> {
    let malformed = |name: &[u8]| LayerError::Xattr { path: show(path), name: show(name) };
    let mut kept = Vec::new();
    let mut bytes = 0;
    for (name, value) in claimed {
        match classify(name, value) {
            Ok(xattr) => kept.push(xattr),
            Err(Refused::Unsupported) => continue,
            Err(Refused::TooLong) => return Err(malformed(name)),
        }
        bytes += name.len() + value.len() + 8;
        if bytes > limits::XATTR_BYTES {
            return Err(malformed(name));
        }
    }
    kept.sort_by(|a, b| (a.index, &a.name).cmp(&(b.index, &b.name)));
    Ok(kept)
}

/// A symbolic link as the tree keeps it. Where it points is its own affair.
pub(crate) fn symlink(target: &[u8]) -> Result<Leaf, TreeError> {
    match target.len() {
        0 => Err(TreeError::Malformed("a symbolic link to nothing")),
        1..=limits::SYMLINK_LEN if target.contains(&0) => {
            Err(TreeError::Malformed("its target has a NUL in it"))
        }
        1..=limits::SYMLINK_LEN => Ok(Leaf::Symlink(target.into())),
        _ => Err(TreeError::TooLong { what: "target", limit: limits::SYMLINK_LEN }),
    }
}

/// A device number as the kernel's `new_encode_dev` writes it.
pub(crate) fn device(major: u32, minor: u32) -> Option<u32> {
    let fits = major < 1 << 12 && minor < 1 << 20;
    fits.then_some((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

/// Copies a file's data into the image, holes as holes.
fn file<R: TarInput>(
    entry: &Entry,
    tar: &mut TarReader<R>,
    data: &mut DataWriter,
) -> Result<Leaf, LayerError> {
    let store = |source| LayerError::Data { path: show(&entry.path), source };
    let extent = data.begin(entry.size).map_err(store)?;
    let whole = [(0, entry.stored)];
    let pieces = entry.sparse.as_ref().map_or(&whole[..], |map| &map.pieces);
    let mut at = 0;
    for &(offset, length) in pieces {
        data.zeros(offset - at).map_err(store)?;
        let mut left = length;
        while left > 0 {
            let chunk = tar.fill().map_err(LayerError::Tar)?;
            if chunk.is_empty() {
                // Can't be: the map was checked against the bytes there are.
                let error = TarError::Read(io::ErrorKind::UnexpectedEof.into());
                return Err(LayerError::Tar(error));
            }
            let count = left.min(chunk.len() as u64) as usize;
            data.write(&chunk[..count]).map_err(store)?;
            tar.consume(count);
            left -= count as u64;
        }
        at = offset + length;
    }
    data.zeros(entry.size - at).map_err(store)?;
    data.end().map_err(store)?;
    Ok(Leaf::File(extent))
}
