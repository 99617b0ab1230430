//! Maps of sparse files: GNU's old format and PAX formats 0.0, 0.1 and 1.0. Called by the reader.

use super::header::{RawHeader, unsigned};
use super::pax::{PaxSparse, decimal};
use super::{TarError, TarInput, TarReader, show};
use crate::limits;

/// Where the stored bytes of a sparse file belong.
#[derive(Debug, Default)]
pub(crate) struct SparseMap {
    /// Offset and length of each stored piece, ascending and apart.
    pub(crate) pieces: Vec<(u64, u64)>,
    /// Bytes of the file with its holes.
    pub(crate) size: u64,
}

impl SparseMap {
    fn push(&mut self, offset: u64, length: u64) -> Result<(), &'static str> {
        if self.pieces.len() >= limits::SPARSE_PIECES {
            return Err("it has too many pieces");
        }
        self.pieces.push((offset, length));
        Ok(())
    }

    /// Whether the pieces ascend, stay in the file and are just what is stored.
    pub(super) fn check(&self, stored: u64) -> Result<(), &'static str> {
        let (mut end, mut sum) = (0u64, 0u64);
        for &(offset, length) in &self.pieces {
            if offset < end {
                return Err("its pieces overlap or go backwards");
            }
            end = offset.checked_add(length).ok_or("a piece ends beyond 2^64")?;
            sum += length;
        }
        if end > self.size {
            return Err("a piece lies behind the end of the file");
        }
        if sum != stored {
            return Err("its pieces are not what the archive stores");
        }
        Ok(())
    }
}

/// The map in a GNU header, and whether blocks with more of it follow.
pub(super) fn old_gnu(raw: &RawHeader<'_>) -> Result<(SparseMap, bool), &'static str> {
    let gnu = raw.0.as_gnu().ok_or("its header is not GNU's")?;
    let size = unsigned(&gnu.realsize).ok_or("its real size is no number")?;
    let mut map = SparseMap { pieces: Vec::new(), size };
    for piece in &gnu.sparse {
        old_piece(&mut map, &piece.offset, &piece.numbytes)?;
    }
    Ok((map, gnu.isextended[0] != 0))
}

/// Takes in one extension block: 21 pieces and a flag; true when another follows.
pub(super) fn old_gnu_more(map: &mut SparseMap, block: &[u8; 512]) -> Result<bool, &'static str> {
    for piece in block[..504].chunks_exact(24) {
        old_piece(map, &piece[..12], &piece[12..])?;
    }
    Ok(block[504] != 0)
}

fn old_piece(map: &mut SparseMap, offset: &[u8], length: &[u8]) -> Result<(), &'static str> {
    if offset[0] == 0 || length[0] == 0 {
        return Ok(());
    }
    let number = |bytes| unsigned(bytes).ok_or("an offset or length is no number");
    map.push(number(offset)?, number(length)?)
}

/// The map of formats 0.0 and 0.1, from the PAX records; None when the file is not sparse.
pub(super) fn pax_0(pax: &PaxSparse) -> Result<Option<SparseMap>, &'static str> {
    if pax.map.is_empty() && pax.real_size.is_none() {
        return Ok(None);
    }
    let size = pax.real_size.ok_or("it has no real size")?;
    let mut map = SparseMap { pieces: Vec::new(), size };
    for piece in pax.map.chunks(2) {
        match piece {
            [offset, length] => map.push(*offset, *length)?,
            _ => return Err("an offset has no length"),
        }
    }
    Ok(Some(map))
}

/// The map of format 1.0: decimal lines before the data, padded to a block.
pub(super) fn pax_1<R: TarInput>(
    reader: &mut TarReader<R>,
    pax: &PaxSparse,
    path: &[u8],
) -> Result<SparseMap, TarError> {
    let malformed = |reason| TarError::Sparse { path: show(path), reason };
    let size = pax.real_size.ok_or_else(|| malformed("it has no real size"))?;
    let mut lines = Lines { reader, consumed: 0 };
    let count = lines.number().map_err(|error| error.into_tar(path))?;
    if count > limits::SPARSE_PIECES as u64 {
        return Err(malformed("it has too many pieces"));
    }
    let mut map = SparseMap { pieces: Vec::new(), size };
    for _ in 0..count {
        let offset = lines.number().map_err(|error| error.into_tar(path))?;
        let length = lines.number().map_err(|error| error.into_tar(path))?;
        map.push(offset, length).map_err(malformed)?;
    }
    let padding = lines.consumed.next_multiple_of(512) - lines.consumed;
    for _ in 0..padding {
        lines.byte().map_err(|error| error.into_tar(path))?;
    }
    Ok(map)
}

struct Lines<'a, R> {
    reader: &'a mut TarReader<R>,
    consumed: u64,
}

enum LineError {
    Tar(TarError),
    Malformed(&'static str),
}

impl LineError {
    fn into_tar(self, path: &[u8]) -> TarError {
        match self {
            LineError::Tar(error) => error,
            LineError::Malformed(reason) => TarError::Sparse { path: show(path), reason },
        }
    }
}

impl<R: TarInput> Lines<'_, R> {
    fn byte(&mut self) -> Result<u8, LineError> {
        let chunk = self.reader.fill().map_err(LineError::Tar)?;
        let byte = *chunk.first().ok_or(LineError::Malformed("it is longer than the entry"))?;
        self.reader.consume(1);
        self.consumed += 1;
        Ok(byte)
    }

    fn number(&mut self) -> Result<u64, LineError> {
        let mut digits = Vec::with_capacity(20);
        loop {
            match self.byte()? {
                b'\n' => break,
                _ if digits.len() >= 20 => {
                    return Err(LineError::Malformed("a number is too long"));
                }
                byte => digits.push(byte),
            }
        }
        decimal(&digits).ok_or(LineError::Malformed("a line is no number"))
    }
}
