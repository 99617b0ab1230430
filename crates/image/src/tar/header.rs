//! The fields of one 512-byte header. Called by the reader only.

use tar::Header;

/// A header whose fields have not been checked.
pub(super) struct RawHeader<'a>(pub(super) &'a Header);

/// A text field: up to its first NUL.
pub(super) fn field(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

impl RawHeader<'_> {
    pub(super) fn type_byte(&self) -> u8 {
        self.0.as_old().linkflag[0]
    }

    /// Whether the checksum is right, summed as unsigned bytes or, as old tars did, as signed ones.
    pub(super) fn checksum_holds(&self) -> bool {
        let bytes = self.0.as_bytes();
        let field = 148..156;
        let summed = |at: usize| if field.contains(&at) { b' ' } else { bytes[at] };
        let unsigned: i64 = (0..512).map(|at| i64::from(summed(at))).sum();
        let signed: i64 = (0..512).map(|at| i64::from(summed(at) as i8)).sum();
        number(&bytes[field.clone()]).is_some_and(|sum| sum == unsigned || sum == signed)
    }

    pub(super) fn path(&self) -> Vec<u8> {
        let name = field(&self.0.as_old().name);
        match self.0.as_ustar().map(|ustar| field(&ustar.prefix)) {
            Some(prefix) if !prefix.is_empty() => [prefix, b"/", name].concat(),
            _ => name.to_vec(),
        }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        field(&self.0.as_old().linkname).to_vec()
    }

    pub(super) fn size(&self) -> Option<u64> {
        unsigned(&self.0.as_old().size)
    }

    pub(super) fn mode(&self) -> Option<u16> {
        number(&self.0.as_old().mode).map(|mode| (mode & 0o7777) as u16)
    }

    pub(super) fn uid(&self) -> Option<u64> {
        unsigned(&self.0.as_old().uid)
    }

    pub(super) fn gid(&self) -> Option<u64> {
        unsigned(&self.0.as_old().gid)
    }

    pub(super) fn mtime(&self) -> Option<(i64, u32)> {
        number(&self.0.as_old().mtime).map(|seconds| (seconds, 0))
    }

    /// Major and minor number; they stand at the same place in ustar and GNU headers.
    pub(super) fn device(&self) -> Option<(u32, u32)> {
        let bytes = self.0.as_bytes();
        let part = |range| u32::try_from(unsigned(&bytes[range])?).ok();
        Some((part(329..337)?, part(337..345)?))
    }
}

pub(super) fn unsigned(bytes: &[u8]) -> Option<u64> {
    number(bytes).and_then(|value| u64::try_from(value).ok())
}

/// A numeric field: octal digits between blanks, or base 256 when its top bit is set. An empty
/// field is 0.
fn number(bytes: &[u8]) -> Option<i64> {
    let first = *bytes.first()?;
    if first & 0x80 != 0 {
        let negative = first & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (at, byte) in bytes.iter().enumerate() {
            let (bits, digit) = if at == 0 { (6, byte & 0x3f) } else { (8, *byte) };
            value = value.checked_shl(bits)? | i128::from(digit);
            if value > i128::from(i64::MAX) || value < i128::from(i64::MIN) {
                return None;
            }
        }
        return i64::try_from(value).ok();
    }
    let text = field(bytes).trim_ascii();
    if text.is_empty() {
        return Some(0);
    }
    text.iter().try_fold(0i64, |value, byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0"), Some(0));
        assert_eq!(number(b"0x12"), None);
        assert_eq!(number(b"-1\0\0"), None);
        assert_eq!(number(&[0x80, 0, 0, 1, 0]), Some(256));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(unsigned(&[0xff; 12]), None);
        assert_eq!(number(&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(number(b"777777777777"), Some(0o777_777_777_777));
    }
}
