//! Directory blocks: 12-byte entries, then their names, sorted bytewise over all blocks. Called by
//! the metadata writer: once for the size, once for the content.

use crate::limits::BLOCK;

const DIRENT: usize = 12;

/// An entry as it is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dirent<'a> {
    pub(super) name: &'a [u8],
    pub(super) nid: u64,
    pub(super) kind: u8,
}

/// The names of a directory as EROFS wants them: with `.` and `..` in their sorted places.
pub(super) fn sorted<'a, T>(
    dot: T,
    dotdot: T,
    children: impl Iterator<Item = (&'a [u8], T)>,
) -> impl Iterator<Item = (&'a [u8], T)> {
    let dots = [(&b"."[..], dot), (&b".."[..], dotdot)];
    let mut dots = dots.into_iter().peekable();
    let mut children = children.peekable();
    std::iter::from_fn(move || match (dots.peek(), children.peek()) {
        (Some((dot, _)), Some((name, _))) if dot > name => children.next(),
        (Some(_), _) => dots.next(),
        (None, _) => children.next(),
    })
}

/// Bytes of a directory with these names: whole blocks but for the last.
pub(super) fn size<'a>(names: impl Iterator<Item = &'a [u8]>) -> u64 {
    let (mut blocks, mut used) = (0, 0);
    for name in names {
        let needed = (DIRENT + name.len()) as u64;
        if used + needed > BLOCK {
            blocks += 1;
            used = 0;
        }
        used += needed;
    }
    blocks * BLOCK + used
}

/// The content of a directory, all of it, as [`size`] measured it.
pub(super) fn content<'a>(entries: impl Iterator<Item = Dirent<'a>>) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut block, mut used) = (Vec::new(), 0);
    for entry in entries {
        let needed = DIRENT + entry.name.len();
        if used + needed > BLOCK as usize {
            encode_block(&block, &mut out);
            out.resize(out.len().next_multiple_of(BLOCK as usize), 0);
            block.clear();
            used = 0;
        }
        used += needed;
        block.push(entry);
    }
    encode_block(&block, &mut out);
    out
}

fn encode_block(entries: &[Dirent<'_>], out: &mut Vec<u8>) {
    let mut name_offset = entries.len() * DIRENT;
    for entry in entries {
        out.extend_from_slice(&entry.nid.to_le_bytes());
        out.extend_from_slice(&(name_offset as u16).to_le_bytes());
        out.extend_from_slice(&[entry.kind, 0]);
        name_offset += entry.name.len();
    }
    for entry in entries {
        out.extend_from_slice(entry.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_measured_size_is_the_size_of_the_content(
            names in proptest::collection::btree_set(
                proptest::collection::vec(any::<u8>(), 1..256), 0..200),
        ) {
            let children = names.iter().map(|name| (&name[..], ()));
            let listed: Vec<&[u8]> = sorted((), (), children).map(|(name, ())| name).collect();
            prop_assert!(listed.is_sorted());
            let entries = listed.iter().map(|name| Dirent { name, nid: 7, kind: 1 });
            prop_assert_eq!(content(entries).len() as u64, size(listed.iter().copied()));
        }
    }
}
