//! The superblock. Called when an image is finished.

use crate::limits::BLOCK;

const MAGIC: u32 = 0xE0F5_E1E2;
const OFFSET: usize = 1024;
const FEATURE_COMPAT_CHECKSUM: u32 = 1;

/// What the superblock says of an image.
pub(super) struct Superblock {
    pub(super) root_nid: u16,
    pub(super) inodes: u64,
    /// Blocks of the file system, not of the disk.
    pub(super) blocks: u32,
    pub(super) meta_block: u32,
}

impl Superblock {
    /// Block 0: 1,024 bytes for boot loaders, then the superblock with its checksum. No build time
    /// and no UUID: the same layers make the same bytes.
    pub(super) fn to_block(&self) -> Vec<u8> {
        let mut block = vec![0; BLOCK as usize];
        let mut put = |at: usize, bytes: &[u8]| {
            block[OFFSET + at..OFFSET + at + bytes.len()].copy_from_slice(bytes);
        };
        put(0, &MAGIC.to_le_bytes());
        put(8, &FEATURE_COMPAT_CHECKSUM.to_le_bytes());
        put(12, &[BLOCK.trailing_zeros() as u8]);
        put(14, &self.root_nid.to_le_bytes());
        put(16, &self.inodes.to_le_bytes());
        put(36, &self.blocks.to_le_bytes());
        put(40, &self.meta_block.to_le_bytes());
        let checksum = crc32c(&block[OFFSET..]);
        block[OFFSET + 4..OFFSET + 8].copy_from_slice(&checksum.to_le_bytes());
        block
    }
}

/// CRC-32C as the kernel's `crc32c(~0, …)`: without the final inversion. 3 KiB per image, so bit
/// by bit will do.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn crc32c_has_the_known_check_value() {
        assert_eq!(!super::crc32c(b"123456789"), 0xE306_9283);
    }
}
