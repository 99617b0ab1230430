//! The first words after a restore: who the box is now, what time it is, and the guest's word that it is
//! ready (contracts G10, S4).

use std::io;

use boxwood_wire::preface::{self, Epoch, GuestWord, Hello, HostWord, Mark, PrefaceError, Reader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::clock::{Answers, Asked, Next};

/// Random bytes for the guest's generator: twice what Linux's pool holds.
const ENTROPY: usize = 64;

/// Why a guest is not ready.
#[derive(Debug, thiserror::Error)]
pub enum GreetingError {
    /// The host has no random numbers.
    #[error("the host gives no random numbers")]
    Random(#[source] getrandom::Error),
    /// The channel failed.
    #[error("the guest's channel failed while it was greeted")]
    Channel(#[source] io::Error),
    /// The channel was closed.
    #[error("the guest hung up while it was greeted")]
    Closed,
    /// What came is no greeting.
    #[error("the guest's answer can't be understood")]
    Answer(#[source] PrefaceError),
    /// The guest says no.
    #[error("the guest failed at '{step}': {reason}")]
    Guest {
        /// The step.
        step: String,
        /// Why.
        reason: String,
    },
    /// The guest is not the one whose memory was restored.
    #[error("the guest does not remember what was frozen with it: it was not restored")]
    Forgotten,
    /// The guest and this build speak different protocols.
    #[error("the guest does not speak this build's protocol: the template is of another build")]
    Unsupported,
}

/// Makes up an identity for one restore.
///
/// # Errors
/// When the host has no random numbers.
pub fn hello(hostname: &str) -> Result<Hello, GreetingError> {
    let mut random = [0; 48 + ENTROPY];
    getrandom::fill(&mut random).map_err(GreetingError::Random)?;
    let part = |at: usize| -> [u8; 16] { std::array::from_fn(|i| random[at + i]) };
    // A boot id is a UUID of version 4 (RFC 9562, section 5.4): so Linux makes its own.
    let mut boot_id = part(32);
    boot_id[6] = boot_id[6] & 0x0f | 0x40;
    boot_id[8] = boot_id[8] & 0x3f | 0x80;
    Ok(Hello {
        epoch: Epoch(part(0)),
        unix_time_ns: 0,
        entropy: random[48..].to_vec(),
        hostname: hostname.as_bytes().to_vec(),
        machine_id: part(16),
        boot_id,
    })
}

/// Something for a guest to keep in its memory, made up for one freeze.
///
/// # Errors
/// When the host has no random numbers.
pub fn mark() -> Result<Mark, getrandom::Error> {
    let mut mark = Mark::default();
    getrandom::fill(&mut mark.0)?;
    Ok(mark)
}

/// Greets a restored guest, sets its clock, and waits until it acknowledges the epoch, and tells the mark
/// that was frozen with it, if that is known. `behind` is sent in one breath with the last word of the
/// greeting; what the guest sent after its answer comes back.
///
/// # Errors
/// When the guest does not become ready. The caller bounds the wait by the life of the VM.
pub async fn greet(
    socket: &mut UnixStream,
    (mut hello, mark): (Hello, Option<Mark>),
    mut behind: Vec<u8>,
) -> Result<Vec<u8>, GreetingError> {
    let first = Asked::now();
    hello.unix_time_ns = first.unix_time_ns();
    let (epoch, mut asked, mut answers) = (hello.epoch, Some(first), Answers::default());
    say(socket, &HostWord::Hello(hello)).await?;
    let mut reader = Reader::new();
    let mut buffer = vec![0; 4096];
    loop {
        let count = socket.read(&mut buffer).await.map_err(GreetingError::Channel)?;
        if count == 0 {
            return Err(GreetingError::Closed);
        }
        let mut word = reader.push::<GuestWord>(&buffer[..count]).map_err(GreetingError::Answer)?;
        while let Some((_, found)) = word {
            match found {
                GuestWord::Reborn { epoch: reborn, mark: told } if reborn == epoch => {
                    return match mark {
                        Some(mark) if mark != told => Err(GreetingError::Forgotten),
                        _ => Ok(reader.into_rest()),
                    };
                }
                GuestWord::Clock { epoch: read, unix_time_ns } if read == epoch => {
                    let off = asked.take().map(|asked| asked.answered(unix_time_ns));
                    match off.map(|off| answers.add(off)) {
                        Some(Next::Ask) => {
                            asked = Some(Asked::now());
                            say(socket, &HostWord::Clock).await?;
                        }
                        Some(Next::Set(off)) => {
                            let last = HostWord::SetClock { epoch, by_ns: off.by_ns };
                            let mut bytes = preface::encode(&last);
                            bytes.append(&mut behind);
                            socket.write_all(&bytes).await.map_err(GreetingError::Channel)?;
                        }
                        // It was not asked.
                        None => {}
                    }
                }
                GuestWord::Failed { epoch: failed, step, reason } if failed == epoch => {
                    return Err(GreetingError::Guest {
                        step: shorten(step),
                        reason: shorten(reason),
                    });
                }
                GuestWord::Unsupported => return Err(GreetingError::Unsupported),
                // A word from before the freeze, or about another epoch: not an answer to this.
                GuestWord::Idle
                | GuestWord::Reborn { .. }
                | GuestWord::Failed { .. }
                | GuestWord::Clock { .. } => {}
            }
            word = reader.push::<GuestWord>(&[]).map_err(GreetingError::Answer)?;
        }
    }
}

/// Lets an idle guest mount the box's root file system and read the files `warm`, and waits until it
/// may be frozen.
///
/// # Errors
/// When a mount fails, or the guest hangs up. The caller bounds the wait by the life of the VM.
pub async fn mount(
    socket: &mut UnixStream,
    warm: Vec<Vec<u8>>,
    mark: Mark,
) -> Result<(), GreetingError> {
    say(socket, &HostWord::Mount { warm }).await?;
    wait_idle(socket, mark).await
}

async fn say(socket: &mut UnixStream, word: &HostWord) -> Result<(), GreetingError> {
    socket.write_all(&preface::encode(word)).await.map_err(GreetingError::Channel)
}

/// Waits until a booting guest says it may be frozen, and gives it `mark` to keep.
///
/// # Errors
/// When it fails or hangs up first. The caller bounds the wait by the life of the VM.
pub async fn wait_idle(socket: &mut UnixStream, mark: Mark) -> Result<(), GreetingError> {
    idle(socket).await?;
    say(socket, &HostWord::Remember(mark)).await?;
    idle(socket).await
}

async fn idle(socket: &mut UnixStream) -> Result<(), GreetingError> {
    let mut reader = Reader::new();
    let mut buffer = vec![0; 4096];
    loop {
        let count = socket.read(&mut buffer).await.map_err(GreetingError::Channel)?;
        if count == 0 {
            return Err(GreetingError::Closed);
        }
        let word = reader.push::<GuestWord>(&buffer[..count]).map_err(GreetingError::Answer)?;
        match word {
            Some((_, GuestWord::Idle)) => return Ok(()),
            Some((_, GuestWord::Failed { step, reason, .. })) => {
                return Err(GreetingError::Guest { step: shorten(step), reason: shorten(reason) });
            }
            Some((_, GuestWord::Unsupported)) => return Err(GreetingError::Unsupported),
            Some((_, GuestWord::Reborn { .. } | GuestWord::Clock { .. })) | None => {}
        }
    }
}

/// A guest's words for people: printable and not endless.
pub(crate) fn shorten(text: String) -> String {
    text.chars().take(400).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    async fn answered(words: Vec<u8>) -> Result<Vec<u8>, GreetingError> {
        let (mut host, mut guest) = UnixStream::pair().unwrap();
        let hello = Hello { epoch: Epoch([5; 16]), ..hello("h").unwrap() };
        guest.write_all(&words).await.unwrap();
        drop(guest.shutdown().await);
        let result = greet(&mut host, (hello, Some(Mark([1; 16]))), Vec::new()).await;
        drop(guest);
        result
    }

    fn reborn(epoch: u8) -> Vec<u8> {
        remembering(epoch, Mark([1; 16]))
    }

    fn remembering(epoch: u8, mark: Mark) -> Vec<u8> {
        preface::encode(&GuestWord::Reborn { epoch: Epoch([epoch; 16]), mark })
    }

    #[tokio::test]
    async fn s4_a_guest_that_was_booted_instead_of_restored_is_not_ready() {
        let booted = answered(remembering(5, Mark::default())).await;
        assert!(matches!(booted, Err(GreetingError::Forgotten)));
    }

    #[tokio::test]
    async fn s4_only_the_acknowledgement_of_this_epoch_is_readiness() {
        let stale = [preface::encode(&GuestWord::Idle), reborn(4)].concat();
        assert!(matches!(answered(stale.clone()).await, Err(GreetingError::Closed)));
        let right = [stale, reborn(5), b"early".to_vec()].concat();
        assert_eq!(answered(right).await.unwrap(), b"early");
    }

    #[tokio::test]
    async fn g10_a_guest_that_fails_a_step_fails_the_restore() {
        let word = GuestWord::Failed {
            epoch: Epoch([5; 16]),
            step: "reseed".into(),
            reason: "EPERM\n".into(),
        };
        let error = answered(preface::encode(&word)).await.unwrap_err();
        assert_eq!(error.to_string(), "the guest failed at 'reseed': EPERM ");
    }

    /// What the host says next.
    async fn heard(guest: &mut UnixStream, reader: &mut Reader) -> HostWord {
        let mut bytes = [0; 4096];
        loop {
            if let Some((_, word)) = reader.push(&[]).unwrap() {
                return word;
            }
            let count = guest.read(&mut bytes).await.unwrap();
            if let Some((_, word)) = reader.push(&bytes[..count]).unwrap() {
                return word;
            }
        }
    }

    #[tokio::test]
    async fn g10_a_guest_that_was_slow_to_answer_is_asked_again_for_its_time() {
        let (mut host, mut guest) = UnixStream::pair().unwrap();
        let epoch = Epoch([5; 16]);
        let hello = Hello { epoch, ..hello("h").unwrap() };
        let answering = async {
            let mut reader = Reader::new();
            let HostWord::Hello(hello) = heard(&mut guest, &mut reader).await else { panic!() };
            let clock = |unix_time_ns| preface::encode(&GuestWord::Clock { epoch, unix_time_ns });
            // This is how long it took: where in between the clock was read nobody knows.
            tokio::time::sleep(clock::GOOD * 3).await;
            guest.write_all(&clock(hello.unix_time_ns)).await.unwrap();
            assert_eq!(heard(&mut guest, &mut reader).await, HostWord::Clock);
            let right = Asked::now().unix_time_ns();
            guest.write_all(&clock(right - 1_000_000_000)).await.unwrap();
            let last = heard(&mut guest, &mut reader).await;
            let HostWord::SetClock { by_ns, .. } = last else { panic!("{last:?}") };
            let off = by_ns - 1_000_000_000;
            assert!(off.unsigned_abs() < clock::GOOD.as_nanos() as u64, "off by {off} ns");
            // Nothing else was said before: main would begin with the wrong time.
            assert_eq!(reader.into_rest(), b"behind");
            // A clock that nobody asked for is not listened to.
            guest.write_all(&[clock(0), reborn(5)].concat()).await.unwrap();
            drop(guest.shutdown().await);
            let mut rest = Vec::new();
            guest.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"");
        };
        let mark = Some(Mark([1; 16]));
        let greeting = async {
            let greeted = greet(&mut host, (hello, mark), b"behind".to_vec()).await;
            drop(host);
            greeted
        };
        let (greeted, ()) = tokio::join!(greeting, answering);
        assert_eq!(greeted.unwrap(), b"");
    }

    #[test]
    fn s4_two_greetings_differ_in_everything() {
        let (one, two) = (hello("h").unwrap(), hello("h").unwrap());
        assert_ne!(one.epoch, two.epoch);
        assert_ne!(one.machine_id, two.machine_id);
        assert_ne!(one.boot_id, two.boot_id);
        assert_ne!(one.entropy, two.entropy);
        assert_eq!(one.boot_id[6] >> 4, 4);
    }
}
