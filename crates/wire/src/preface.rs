//! The greeting that opens a channel after a restore, and the guest's word that it may be frozen.
//!
//! A restored port can still hold half a message from before the freeze. So a greeting starts with a
//! magic number, and the reader skips everything before it. The header is the same in every version:
//! magic (8 bytes), lowest and highest version the sender speaks (u16 each), length of the payload
//! (u32), all little-endian; the payload is postcard.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// What every greeting starts with.
pub const MAGIC: [u8; 8] = *b"\xb0xwood\r\n";

/// The versions of the protocol this build speaks.
pub const VERSIONS: VersionRange = VersionRange { min: 6, max: 6 };

/// The longest payload of a greeting, in bytes.
pub const MAX_PAYLOAD: usize = 16 * 1024;

/// How much may come before a greeting, in bytes: what a port and its queues can hold, with room.
pub const MAX_SKIPPED: usize = 16 << 20;

/// The most paths in [`HostWord::Mount`].
pub const MAX_WARM: usize = 64;

const HEADER: usize = 16;

/// Lowest and highest version a side speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    /// The lowest.
    pub min: u16,
    /// The highest.
    pub max: u16,
}

impl VersionRange {
    /// The highest version both sides speak.
    pub fn common(self, other: VersionRange) -> Option<u16> {
        let version = self.max.min(other.max);
        (version >= self.min.max(other.min)).then_some(version)
    }
}

/// The random id of one restore (contract S4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Epoch(pub [u8; 16]);

impl std::fmt::Debug for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a guest is given to keep in its memory before it is frozen, and tells when it is reborn: a guest
/// that was silently booted anew does not know it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mark(pub [u8; 16]);

impl std::fmt::Debug for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Everything that must differ from box to box, sent before anything of the box runs (contract G10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The id of this restore, which the guest repeats.
    pub epoch: Epoch,
    /// The host's real-time clock, in nanoseconds since 1970, read right before sending. It is late by as
    /// long as it takes to arrive, and [`HostWord::SetClock`] puts that right.
    pub unix_time_ns: u64,
    /// Fresh random bytes for the kernel's generator: 32 to 512.
    pub entropy: Vec<u8>,
    /// The host name: at most 64 bytes (Linux, `HOST_NAME_MAX`).
    pub hostname: Vec<u8>,
    /// What `/etc/machine-id` reads, as bytes.
    pub machine_id: [u8; 16],
    /// What `/proc/sys/kernel/random/boot_id` reads, as bytes.
    pub boot_id: [u8; 16],
}

/// What a host says outside a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostWord {
    /// Be reborn as the one this says, and let the connection begin.
    Hello(Hello),
    /// Mount the box's root file system now, from the disks as they are, and say
    /// [`GuestWord::Idle`] again: what is frozen then needs no mounting when it is restored.
    Mount {
        /// Files of the image that its processes will probably need first: those that are there are
        /// read ahead, too. Absolute paths, at most [`MAX_WARM`].
        warm: Vec<Vec<u8>>,
    },
    /// Keep this, and say [`GuestWord::Idle`] again: what is frozen then tells it when it is reborn.
    Remember(Mark),
    /// The guest is held ([`ControlReply::Held`](crate::message::ControlReply::Held)) and this is not
    /// another restore: everything goes on where it stood.
    Continue,
    /// Say [`GuestWord::Clock`] once more: the last answer took too long to tell much.
    Clock,
    /// The last word of a rebirth: the guest's clock is wrong by this. Whenever it arrives, it says the
    /// same.
    SetClock {
        /// The epoch of the rebirth.
        epoch: Epoch,
        /// Nanoseconds to add.
        by_ns: i64,
    },
}

/// What a guest says outside a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuestWord {
    /// Booted and warmed up, or mounted, and idle: it may be frozen now.
    Idle,
    /// Reborn: everything in [`Hello`] took effect, and the clock is right. This and nothing else is
    /// readiness.
    Reborn {
        /// The epoch of the [`Hello`] it answers.
        epoch: Epoch,
        /// What it was given to keep before its memory was frozen; zeros when that was nothing.
        mark: Mark,
    },
    /// A step of the rebirth, of the boot, or of [`HostWord::Mount`] failed.
    Failed {
        /// The epoch of the [`Hello`] it answers; zeros without one.
        epoch: Epoch,
        /// The step.
        step: String,
        /// Why, in the kernel's words.
        reason: String,
    },
    /// The versions don't meet; the header says which ones the guest speaks.
    Unsupported,
    /// What its clock reads, as soon as it was set by a [`Hello`] or asked for: the host knows between
    /// which two moments that was, and so by how much it is wrong.
    Clock {
        /// The epoch of the [`Hello`].
        epoch: Epoch,
        /// Nanoseconds since 1970.
        unix_time_ns: u64,
    },
}

/// Why a greeting could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PrefaceError {
    /// [`MAX_SKIPPED`] bytes came and no greeting among them.
    #[error("no greeting in the first {MAX_SKIPPED} bytes of the channel")]
    NoGreeting,
    /// The header claims more than [`MAX_PAYLOAD`].
    #[error("the greeting claims {0} bytes; {MAX_PAYLOAD} is the limit")]
    TooLong(u32),
    /// The payload is not what its version says.
    #[error("the greeting can't be decoded")]
    Malformed(#[source] postcard::Error),
    /// No version is spoken by both sides.
    #[error(
        "the other side speaks protocol versions {}-{}, this one {}-{}",
        .theirs.min, .theirs.max, VERSIONS.min, VERSIONS.max
    )]
    NoCommonVersion {
        /// The other side's range.
        theirs: VersionRange,
    },
}

/// A greeting as bytes.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let payload = postcard::to_allocvec(message).expect("plain data always encodes");
    debug_assert!(payload.len() <= MAX_PAYLOAD);
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSIONS.min.to_le_bytes());
    bytes.extend_from_slice(&VERSIONS.max.to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&payload);
    bytes
}

/// Finds a greeting in a stream of bytes that arrive in pieces.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    skipped: usize,
}

impl Reader {
    /// A reader that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes more bytes and returns the greeting once it is whole, with the version to speak.
    ///
    /// # Errors
    /// When what came can't be a greeting this build understands. The beginning of it has been
    /// skipped then: pushing on, also nothing, finds a greeting behind it.
    pub fn push<T: DeserializeOwned>(
        &mut self,
        bytes: &[u8],
    ) -> Result<Option<(u16, T)>, PrefaceError> {
        self.buffer.extend_from_slice(bytes);
        self.skip_to_magic()?;
        let result = self.take();
        if result.is_err() {
            self.skip(MAGIC.len());
        }
        result
    }

    /// The greeting at the start of the buffer, once it is whole.
    fn take<T: DeserializeOwned>(&mut self) -> Result<Option<(u16, T)>, PrefaceError> {
        let Some(header) = self.buffer.get(..HEADER) else { return Ok(None) };
        let u16_at = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let theirs = VersionRange { min: u16_at(8), max: u16_at(10) };
        let length = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
        if length as usize > MAX_PAYLOAD {
            return Err(PrefaceError::TooLong(length));
        }
        let version = VERSIONS.common(theirs).ok_or(PrefaceError::NoCommonVersion { theirs })?;
        let end = HEADER + length as usize;
        let Some(payload) = self.buffer.get(HEADER..end) else { return Ok(None) };
        let message = postcard::from_bytes(payload).map_err(PrefaceError::Malformed)?;
        self.buffer.drain(..end);
        Ok(Some((version, message)))
    }

    /// What followed the greeting: the first bytes of the connection.
    pub fn into_rest(self) -> Vec<u8> {
        self.buffer
    }

    fn skip_to_magic(&mut self) -> Result<(), PrefaceError> {
        let found = self.buffer.windows(MAGIC.len()).position(|window| window == MAGIC);
        // Without a match the last bytes may still be the beginning of one.
        let skip = found.unwrap_or_else(|| self.buffer.len().saturating_sub(MAGIC.len() - 1));
        self.skip(skip);
        if self.skipped <= MAX_SKIPPED {
            return Ok(());
        }
        self.skipped = 0;
        Err(PrefaceError::NoGreeting)
    }

    fn skip(&mut self, count: usize) {
        self.buffer.drain(..count);
        self.skipped += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn word() -> GuestWord {
        GuestWord::Reborn { epoch: Epoch([9; 16]), mark: Mark([3; 16]) }
    }

    proptest! {
        #[test]
        fn g10_a_greeting_is_found_behind_any_rubbish_and_in_any_pieces(
            rubbish in proptest::collection::vec(any::<u8>(), 0..300),
            piece in 1usize..40,
        ) {
            prop_assume!(!rubbish.contains(&MAGIC[0]));
            let mut bytes = rubbish;
            bytes.extend(encode(&word()));
            bytes.extend(b"rest");
            let mut reader = Reader::new();
            let mut found = None;
            let mut rest = Vec::new();
            for chunk in bytes.chunks(piece) {
                if found.is_some() {
                    rest.extend_from_slice(chunk);
                    continue;
                }
                found = reader.push::<GuestWord>(chunk).unwrap();
            }
            prop_assert_eq!(found, Some((VERSIONS.max, word())));
            let mut whole = reader.into_rest();
            whole.extend(rest);
            prop_assert_eq!(whole, b"rest".to_vec());
        }

        #[test]
        fn rubbish_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut with_magic = MAGIC.to_vec();
            with_magic.extend(&bytes);
            let _ = Reader::new().push::<GuestWord>(&bytes);
            let _ = Reader::new().push::<Hello>(&with_magic);
        }
    }

    #[test]
    fn a_false_start_of_the_magic_is_skipped() {
        let mut bytes = MAGIC[..5].to_vec();
        bytes.extend(encode(&word()));
        assert!(Reader::new().push::<GuestWord>(&bytes).unwrap().is_some());
    }

    #[test]
    fn g10_a_greeting_is_found_behind_one_that_is_none() {
        let mut reader = Reader::new();
        let mut bytes = MAGIC.to_vec();
        bytes.extend([0xff; 8]);
        bytes.extend(encode(&word()));
        assert!(matches!(reader.push::<GuestWord>(&bytes), Err(PrefaceError::TooLong(_))));
        assert_eq!(reader.push::<GuestWord>(&[]).unwrap(), Some((VERSIONS.max, word())));
    }

    #[test]
    fn endless_rubbish_is_given_up() {
        let mut reader = Reader::new();
        let chunk = vec![0u8; 1 << 20];
        let refused = (0..20).any(|_| reader.push::<GuestWord>(&chunk).is_err());
        assert!(refused);
    }

    #[test]
    fn versions_that_do_not_meet_are_named() {
        let mut bytes = encode(&word());
        bytes[8..12].copy_from_slice(&[7, 0, 9, 0]);
        let error = Reader::new().push::<GuestWord>(&bytes).unwrap_err();
        assert!(error.to_string().contains("versions 7-9"), "{error}");
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_it_arrives() {
        let mut bytes = encode(&word());
        bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(
            Reader::new().push::<GuestWord>(&bytes),
            Err(PrefaceError::TooLong(u32::MAX))
        ));
    }
}
