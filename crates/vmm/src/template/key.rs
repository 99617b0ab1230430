//! What names a template. Called by the rest of `template`.

use std::fmt;
use std::str::FromStr;

/// 128 bits of a digest, written as 32 lower-case hexadecimal digits.
///
/// It is kept as bytes and not as text, because it becomes part of paths, some of which are removed
/// with all that is below them: whatever somebody writes instead of a key, no value of this type can
/// name anything outside the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key([u8; 16]);

impl Key {
    /// From the beginning of a digest.
    pub(super) fn from_digest(digest: [u8; 32]) -> Self {
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        Key(key)
    }
}

impl FromStr for Key {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let bytes: &[u8; 32] = text.as_bytes().try_into().map_err(drop)?;
        let mut key = [0; 16];
        for (byte, digits) in key.iter_mut().zip(bytes.chunks_exact(2)) {
            *byte = digit(digits[0])? << 4 | digit(digits[1])?;
        }
        Ok(Key(key))
    }
}

fn digit(text: u8) -> Result<u8, ()> {
    match text {
        b'0'..=b'9' => Ok(text - b'0'),
        b'a'..=b'f' => Ok(text - b'a' + 10),
        _ => Err(()),
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_as_it_was_written() {
        let key = Key::from_digest(std::array::from_fn(|n| (n as u8).wrapping_mul(17)));
        assert_eq!(key.to_string(), "00112233445566778899aabbccddeeff");
        assert_eq!(key.to_string().parse(), Ok(key));
    }

    #[test]
    fn what_is_not_32_digits_is_no_key() {
        let upper = "A".repeat(32);
        let almost = ["0".repeat(31), "0".repeat(33), format!("/{}", "0".repeat(31))];
        let wide = "é".repeat(16);
        for text in ["", ".", "..", "../x", &upper, &almost[0], &almost[1], &almost[2], &wide] {
            assert!(text.parse::<Key>().is_err(), "{text}");
        }
    }
}
