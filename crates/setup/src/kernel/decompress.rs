//! One way to unpack what kernels and modules are packed with, bounded in size. Called by
//! `bzimage` and `modules`.

use std::io::{self, Read};

/// The formats that kernels and modules come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Xz,
    Gzip,
    Zstd,
    /// The format that only the kernel still uses: a magic, then blocks with their sizes.
    Lz4Legacy,
}

/// Every block of a legacy LZ4 stream but the last unpacks to this much
/// (lz4_Frame_format.md, "Legacy frame").
const LZ4_BLOCK: usize = 8 << 20;
/// What a decoder may take beside its output: kernels are packed with windows of up to 128 MiB.
const XZ_MEMORY_KIB: u32 = 160 << 10;
const ZSTD_WINDOW_LOG: u32 = 27;

impl Compression {
    /// By the first bytes.
    pub(super) fn detect(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            [0x02, 0x21, 0x4c, 0x18, ..] => Some(Self::Lz4Legacy),
            _ => None,
        }
    }

    /// Unpacks the first stream in `bytes`; `limit` bytes come out or fewer, or it is an error.
    pub(super) fn unpack(self, bytes: &[u8], limit: u64) -> io::Result<Vec<u8>> {
        match self {
            Self::Xz => {
                read_up_to(lzma_rust2::XzReader::new_mem_limit(bytes, false, XZ_MEMORY_KIB), limit)
            }
            Self::Gzip => read_up_to(flate2::bufread::GzDecoder::new(bytes), limit),
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(bytes)?.single_frame();
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                read_up_to(decoder, limit)
            }
            Self::Lz4Legacy => unpack_lz4_legacy(bytes, limit),
        }
    }
}

fn read_up_to(reader: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    reader.take(limit.saturating_add(1)).read_to_end(&mut out)?;
    if out.len() as u64 > limit { Err(too_large(limit)) } else { Ok(out) }
}

fn unpack_lz4_legacy(bytes: &[u8], limit: u64) -> io::Result<Vec<u8>> {
    let mut rest = bytes.get(4..).unwrap_or_default();
    let mut out = Vec::new();
    let mut block = Vec::new();
    while let Some((size, after)) = rest.split_first_chunk::<4>() {
        let size = u32::from_le_bytes(*size) as usize;
        let packed = after.get(..size).ok_or(io::ErrorKind::UnexpectedEof)?;
        rest = &after[size..];
        block.resize(LZ4_BLOCK, 0);
        let length = lz4_flex::block::decompress_into(packed, &mut block)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if (out.len() + length) as u64 > limit {
            return Err(too_large(limit));
        }
        out.extend_from_slice(&block[..length]);
        if length < LZ4_BLOCK {
            break;
        }
    }
    Ok(out)
}

fn too_large(limit: u64) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it unpacks to more than {limit} bytes"))
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use super::*;

    pub(in crate::kernel) const ALL: [Compression; 4] =
        [Compression::Xz, Compression::Gzip, Compression::Zstd, Compression::Lz4Legacy];

    pub(in crate::kernel) fn pack(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        match compression {
            Compression::Xz => {
                let options = lzma_rust2::XzOptions::with_preset(1);
                let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
                writer.write_all(bytes).unwrap();
                writer.finish().unwrap()
            }
            Compression::Gzip => {
                let mut writer =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                writer.write_all(bytes).unwrap();
                writer.finish().unwrap()
            }
            Compression::Zstd => zstd::encode_all(bytes, 1).unwrap(),
            Compression::Lz4Legacy => {
                let mut packed = vec![0x02, 0x21, 0x4c, 0x18];
                for block in bytes.chunks(LZ4_BLOCK) {
                    let block = lz4_flex::block::compress(block);
                    packed.extend_from_slice(&(block.len() as u32).to_le_bytes());
                    packed.extend_from_slice(&block);
                }
                packed
            }
        }
    }

    fn text(size: usize) -> Vec<u8> {
        (0..size).map(|at| (at / 100) as u8 ^ (at % 7) as u8).collect()
    }

    #[test]
    fn every_format_comes_back_as_it_was() {
        // More than one block of LZ4.
        let plain = text(LZ4_BLOCK + 12_345);
        for compression in ALL {
            let packed = pack(compression, &plain);
            assert_eq!(Compression::detect(&packed), Some(compression));
            assert!(compression.unpack(&packed, plain.len() as u64).unwrap() == plain);
        }
    }

    #[test]
    fn more_than_the_limit_is_refused_and_not_kept() {
        let plain = vec![0; 1 << 20];
        for compression in ALL {
            let packed = pack(compression, &plain);
            assert!(compression.unpack(&packed, (1 << 20) - 1).is_err(), "{compression:?}");
        }
    }

    #[test]
    fn cut_and_changed_input_never_panics() {
        let plain = text(4_000);
        for compression in ALL {
            let packed = pack(compression, &plain);
            for end in 0..packed.len() - 1 {
                let _ = compression.unpack(&packed[..end], 1 << 20);
            }
            for at in 0..packed.len() {
                let mut changed = packed.clone();
                changed[at] ^= 0x55;
                let _ = compression.unpack(&changed, 1 << 20);
            }
        }
    }
}
