//! Finishes a block image: directories, inodes, superblock, final size. Called once per image, by
//! the store's builder.

use super::layout::{Inode, Layout};
use super::superblock::Superblock;
use super::{DataWriter, WriteError, inode};
use crate::limits::{BLOCK, IMAGE_DISK_BYTES};
use crate::tree::{Kind, Leaf, NodeId, Tree};

/// What a finished image holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    /// Bytes up to the end of the file system; the rest of the file is a hole.
    pub(crate) content: u64,
    /// Files and directories.
    pub(crate) inodes: u64,
}

/// Writes everything but the data, which `data` already has. The file is not yet on the disk when
/// this returns: the caller syncs it.
pub(crate) fn finish(tree: &mut Tree, mut data: DataWriter) -> Result<Finished, WriteError> {
    data.end()?;
    data.punch(&tree.take_freed())?;
    let next_block = (data.position() / BLOCK) as u32;
    let layout = Layout::of(tree, next_block);
    let meta_start = u64::from(layout.meta_block) * BLOCK;
    let needed = meta_start - data.position() + layout.inode_bytes;
    data.begin(needed)?;
    write_directories(tree, &layout, &mut data)?;
    write_inodes(tree, &layout, &mut data, meta_start)?;
    data.end()?;
    data.flush()?;
    let content = data.position();
    let superblock = Superblock {
        // The root comes first, so its number is small.
        root_nid: layout.nid(NodeId::ROOT) as u16,
        inodes: layout.inodes.len() as u64,
        blocks: (content / BLOCK) as u32,
        meta_block: layout.meta_block,
    };
    data.write_at(&superblock.to_block(), 0)?;
    data.file().set_len(IMAGE_DISK_BYTES).map_err(data.failed("size"))?;
    Ok(Finished { content, inodes: superblock.inodes })
}

/// The blocks of directories and symbolic links, without inline tails.
fn write_directories(
    tree: &Tree,
    layout: &Layout,
    data: &mut DataWriter,
) -> Result<(), WriteError> {
    for inode in &layout.inodes {
        if inode.place.size > u64::from(inode.place.tail)
            && let Some(content) = metadata_content(tree, layout, inode)
        {
            data.write(&content[..content.len() - inode.place.tail as usize])?;
            data.end()?;
        }
    }
    Ok(())
}

fn write_inodes(
    tree: &Tree,
    layout: &Layout,
    data: &mut DataWriter,
    start: u64,
) -> Result<(), WriteError> {
    let mut bytes = Vec::new();
    for (number, inode) in layout.inodes.iter().enumerate() {
        data.zeros(start + inode.offset - data.position())?;
        bytes.clear();
        let node = tree.node(inode.node);
        inode::encode(node, inode.place, number as u32 + 1, inode.links, &mut bytes);
        if inode.place.tail > 0
            && let Some(content) = metadata_content(tree, layout, inode)
        {
            bytes.extend_from_slice(&content[content.len() - inode.place.tail as usize..]);
        }
        data.write(&bytes)?;
    }
    Ok(())
}

/// Content that is made here and not streamed from a layer.
fn metadata_content(tree: &Tree, layout: &Layout, inode: &Inode) -> Option<Vec<u8>> {
    match &tree.node(inode.node).kind {
        Kind::Directory(children) => Some(layout.directory(tree, inode, children)),
        Kind::Leaf(Leaf::Symlink(target)) => Some(target.to_vec()),
        _ => None,
    }
}
