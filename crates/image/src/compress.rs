//! Compressions of layers and archives, told by their first bytes. Called by the layer stream and
//! by the archive opener.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
    /// One that is not supported, by its name.
    Other(&'static str),
}

/// How many first bytes [`Compression::of`] wants to see.
pub(crate) const MAGIC: usize = 10;

impl Compression {
    /// What a stream with these first bytes is.
    pub(crate) fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, 8, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            // A zstd skippable frame, with which seekable zstd files may start.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            // All of it, for a plain tar starts with a name, which may start with "BZh".
            [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', b'Y', b'&', b'S', b'Y'] => {
                Compression::Other("bzip2")
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Other("xz"),
            [0x04, 0x22, 0x4d, 0x18, ..] => Compression::Other("lz4"),
            [b'P', b'K', 3, 4, ..] => Compression::Other("zip"),
            _ => Compression::None,
        }
    }

    /// The plain bytes of a stream that is compressed like this. Memory is bounded by zstd's
    /// default window limit, 128 MiB.
    pub(crate) fn decoder<'a>(
        self,
        input: impl BufRead + Send + 'a,
    ) -> io::Result<Box<dyn Read + Send + 'a>> {
        Ok(match self {
            Compression::None => Box::new(input),
            Compression::Gzip => Box::new(MultiGzDecoder::new(input)),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
            Compression::Other(name) => {
                let reason = format!("it is compressed with {name}; only gzip and zstd are read");
                return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_told_by_their_first_bytes_and_names_are_not_mistaken() {
        let of = |start: &[u8]| Compression::of(&start[..start.len().min(MAGIC)]);
        assert_eq!(of(b"\x1f\x8b\x08\0\0\0\0\0\0\x03"), Compression::Gzip);
        assert_eq!(of(b"\x28\xb5\x2f\xfd\0\0\0\0\0\0"), Compression::Zstd);
        assert_eq!(of(b"\x50\x2a\x4d\x18\0\0\0\0\0\0"), Compression::Zstd);
        assert_eq!(of(b"BZh91AY&SY"), Compression::Other("bzip2"));
        assert_eq!(of(b"\xfd7zXZ\0\0\x04\xe6"), Compression::Other("xz"));
        for name in [&b"BZhang/..."[..], b"]\0\0\0\0\0\0\0\0\0", b"", b"etc/passwd", b"\x1f\x8b"] {
            assert_eq!(of(name), Compression::None, "{}", name.escape_ascii());
        }
    }
}
