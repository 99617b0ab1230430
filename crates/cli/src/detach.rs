//! Detach keys: what a user types in a terminal to leave without ending anything. Docker's notation.

use std::str::FromStr;

/// A sequence of keys, as the bytes that a terminal sends for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DetachKeys(Vec<u8>);

/// Docker's default.
pub(crate) const DEFAULT: &str = "ctrl-p,ctrl-q";

/// What terminals send for the key that deletes.
const DEL: u8 = 127;

/// Why a text names no keys.
#[derive(Debug, thiserror::Error)]
#[error(
    "invalid detach keys '{0}': write characters, DEL, or ctrl-a to ctrl-z, ctrl-@ [ \\ ] ^ _ ?, with commas"
)]
pub(crate) struct DetachKeysError(String);

impl FromStr for DetachKeys {
    type Err = DetachKeysError;

    fn from_str(text: &str) -> Result<Self, DetachKeysError> {
        // As Docker has it.
        let text = if text.is_empty() { DEFAULT } else { text };
        let wrong = || DetachKeysError(text.chars().take(40).collect());
        let keys = text.split(',').map(key).collect::<Option<Vec<u8>>>();
        keys.map(DetachKeys).ok_or_else(wrong)
    }
}

fn key(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [key] => Some(*key),
        b"DEL" => Some(DEL),
        [b'c', b't', b'r', b'l', b'-', key] => match key.to_ascii_lowercase() {
            key @ b'a'..=b'z' => Some(key - b'a' + 1),
            b'@' => Some(0),
            b'?' => Some(DEL),
            key @ b'['..=b'_' => Some(key - b'[' + 27),
            _ => None,
        },
        _ => None,
    }
}

/// Looks for detach keys in what is typed.
#[derive(Debug)]
pub(crate) struct Watch {
    keys: Vec<u8>,
    /// What may be the beginning of them, and is not sent yet.
    held: Vec<u8>,
}

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// This goes to the process.
    Input(Vec<u8>),
    /// This, too, and then the keys came.
    Detach(Vec<u8>),
}

impl Watch {
    /// For these keys.
    pub(crate) fn new(keys: DetachKeys) -> Self {
        Watch { keys: keys.0, held: Vec::new() }
    }

    /// Takes what was typed.
    pub(crate) fn take(&mut self, typed: &[u8]) -> Typed {
        let mut input = Vec::with_capacity(typed.len());
        for byte in typed {
            self.held.push(*byte);
            while !self.keys.starts_with(&self.held) {
                input.push(self.held.remove(0));
            }
            if self.held == self.keys {
                return Typed::Detach(input);
            }
        }
        Typed::Input(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_read_as_docker_reads_them() {
        for (text, bytes) in [
            (DEFAULT, &[16, 17][..]),
            ("a", b"a"),
            ("ctrl-@,ctrl-[,ctrl-_,ctrl-A,Z", &[0, 27, 31, 1, b'Z']),
            ("ctrl-\\", &[28]),
            ("ctrl-],ctrl-^,^", &[29, 30, b'^']),
            ("ctrl-?,DEL", &[127, 127]),
            ("", &[16, 17]),
        ] {
            assert_eq!(text.parse::<DetachKeys>().unwrap().0, bytes, "{text}");
        }
        for bad in ["ctrl-", "del", "ctrl-ä", "ctrl-1", "ab", "a,", ",", "ctrl-p ctrl-q", "é"] {
            assert!(bad.parse::<DetachKeys>().is_err(), "{bad}");
        }
    }

    #[test]
    fn detach_keys_are_found_in_pieces_and_what_only_resembles_them_is_sent() {
        let watch = |keys: &str| Watch::new(keys.parse().unwrap());
        let mut plain = watch(DEFAULT);
        assert_eq!(plain.take(b"ls\x10"), Typed::Input(b"ls".to_vec()));
        assert_eq!(plain.take(b"\x10x"), Typed::Input(b"\x10\x10x".to_vec()));
        assert_eq!(plain.take(b"y\x10"), Typed::Input(b"y".to_vec()));
        assert_eq!(plain.take(b"\x11rest"), Typed::Detach(Vec::new()));
        let mut overlapping = watch("a,a,b");
        assert_eq!(overlapping.take(b"aaab"), Typed::Detach(b"a".to_vec()));
    }
}
