//! What comes before a connection, on both sides: any bytes, in any pieces. The first byte of the
//! input is the size of the pieces. However they are cut, the same words are found.
#![no_main]

use boxwood_wire::preface::{GuestWord, HostWord, Reader};
use libfuzzer_sys::fuzz_target;

fn words<T: serde::de::DeserializeOwned + std::fmt::Debug>(
    bytes: &[u8],
    piece: usize,
) -> Vec<String> {
    let mut reader = Reader::new();
    let mut found = Vec::new();
    for part in bytes.chunks(piece) {
        let mut part = part;
        // One that is none is skipped, and the next is looked for: never endlessly.
        for _ in 0..=bytes.len() {
            match reader.push::<T>(part) {
                Ok(None) => break,
                Ok(Some((version, word))) => found.push(format!("{version} {word:?}")),
                Err(error) => drop(error.to_string()),
            }
            part = &[];
        }
    }
    found
}

fuzz_target!(|input: &[u8]| {
    let Some((piece, bytes)) = input.split_first() else { return };
    let piece = usize::from(*piece).max(1);
    assert_eq!(words::<GuestWord>(bytes, piece), words::<GuestWord>(bytes, bytes.len().max(1)));
    assert_eq!(words::<HostWord>(bytes, piece), words::<HostWord>(bytes, bytes.len().max(1)));
});
