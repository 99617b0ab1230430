//! The bytes of a layer as a pipeline: one thread reads, hashes and decompresses, one hashes what
//! came out, and the caller's thread merges it into the image. Called by the builder, per layer.

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use boxwood_types::Digest;
use sha2::{Digest as _, Sha256};

use crate::compress::{Compression, MAGIC};
use crate::tar::TarInput;

/// The size of the pieces that are handed from thread to thread, and how many may wait.
const PIECE: usize = 256 << 10;
const WAITING: usize = 8;

/// The digests of what was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digests {
    /// Of the bytes as they are stored.
    pub(crate) stored: Digest,
    /// Of the bytes without compression: a layer's diff ID.
    pub(crate) plain: Digest,
    /// How many plain bytes there were.
    pub(crate) plain_bytes: u64,
}

/// Why the digests could not be taken.
#[derive(Debug)]
pub(crate) enum StreamError {
    /// The input or its compression failed.
    Read(io::Error),
    /// There is more of it than allowed.
    TooBig,
    /// The consumer wanted no more of it.
    Abandoned,
}

type Piece = Result<Arc<Vec<u8>>, StreamError>;

/// Runs `consume` over the plain bytes of `input`, of which at most `limit` are taken, then reads
/// what it left over, and gives its result together with the digests.
pub(crate) fn with_stream<T>(
    input: impl Read + Send,
    limit: u64,
    consume: impl FnOnce(&mut Stream) -> T,
) -> (T, Result<Digests, StreamError>) {
    std::thread::scope(|scope| {
        let (to_consumer, pieces) = sync_channel(WAITING);
        let (to_hasher, plain) = sync_channel(WAITING);
        let reader = scope.spawn(move || produce(input, limit, &to_consumer, &to_hasher));
        let hasher = scope.spawn(move || hash(&plain));
        let mut stream = Stream { pieces, current: Arc::default(), at: 0, failed: None };
        let result = consume(&mut stream);
        let rest = stream.drain();
        // A thread that panicked has told why on standard error; its panic goes on here.
        let stored = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let hashed = hasher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let digests = rest.map(|()| {
            let (plain, plain_bytes) = hashed;
            Digests { stored: stored.unwrap_or_else(|| plain.clone()), plain, plain_bytes }
        });
        (result, digests)
    })
}

/// Reads and decompresses; the digest of the stored bytes when they differ from the plain ones.
fn produce(
    input: impl Read + Send,
    limit: u64,
    consumer: &SyncSender<Piece>,
    hasher: &SyncSender<Arc<Vec<u8>>>,
) -> Option<Digest> {
    match decompress(input, limit, consumer, hasher) {
        Ok(stored) => stored,
        Err(error) => {
            // Nobody listens only when the consumer has failed already, and knows why.
            let _ = consumer.send(Err(error));
            None
        }
    }
}

fn decompress(
    mut input: impl Read + Send,
    limit: u64,
    consumer: &SyncSender<Piece>,
    hasher: &SyncSender<Arc<Vec<u8>>>,
) -> Result<Option<Digest>, StreamError> {
    let mut start = Vec::with_capacity(MAGIC);
    input.by_ref().take(MAGIC as u64).read_to_end(&mut start).map_err(StreamError::Read)?;
    let compression = Compression::of(&start);
    let hash = (compression != Compression::None).then(Sha256::new);
    let input = Hashing { input: Cursor::new(start).chain(input), hash };
    let mut input = BufReader::with_capacity(PIECE, input);
    let mut decoder = compression.decoder(&mut input).map_err(StreamError::Read)?;
    copy(&mut decoder, limit, consumer, hasher)?;
    drop(decoder);
    read_out(&mut input).map_err(StreamError::Read)?;
    Ok(input.into_inner().hash.map(|hash| Digest::from_bytes(&hash.finalize().into())))
}

/// Reads what follows the compressed stream, so that its digest covers everything.
fn read_out(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let count = input.fill_buf()?.len();
        if count == 0 {
            return Ok(());
        }
        input.consume(count);
    }
}

fn copy(
    input: &mut dyn Read,
    limit: u64,
    consumer: &SyncSender<Piece>,
    hasher: &SyncSender<Arc<Vec<u8>>>,
) -> Result<(), StreamError> {
    let mut left = limit;
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let mut limited = Read::take(&mut *input, PIECE as u64);
        let read = limited.read_to_end(&mut piece).map_err(StreamError::Read)?;
        if read == 0 {
            return Ok(());
        }
        left = left.checked_sub(read as u64).ok_or(StreamError::TooBig)?;
        let piece = Arc::new(piece);
        if hasher.send(Arc::clone(&piece)).is_err() || consumer.send(Ok(piece)).is_err() {
            // The other side has given up, and knows why.
            return Ok(());
        }
    }
}

fn hash(plain: &Receiver<Arc<Vec<u8>>>) -> (Digest, u64) {
    let mut hash = Sha256::new();
    let mut bytes = 0;
    for piece in plain {
        hash.update(&*piece);
        bytes += piece.len() as u64;
    }
    (Digest::from_bytes(&hash.finalize().into()), bytes)
}

/// A reader that hashes what it gives, once it has a hash.
struct Hashing<R> {
    input: R,
    hash: Option<Sha256>,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..read]);
        }
        Ok(read)
    }
}

/// The consumer's end of the pipeline.
pub(crate) struct Stream {
    pieces: Receiver<Piece>,
    current: Arc<Vec<u8>>,
    at: usize,
    failed: Option<StreamError>,
}

impl Stream {
    /// Leaves the rest unread: there will be no digests.
    pub(crate) fn abandon(&mut self) {
        self.failed.get_or_insert(StreamError::Abandoned);
    }

    fn drain(mut self) -> Result<(), StreamError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.pieces.iter().try_for_each(|piece| piece.map(drop))
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let chunk = self.fill_buf()?;
        let count = chunk.len().min(buffer.len());
        buffer[..count].copy_from_slice(&chunk[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Stream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.current.len() {
            match self.pieces.recv() {
                Ok(Ok(piece)) => {
                    self.current = piece;
                    self.at = 0;
                }
                Ok(Err(error)) => {
                    // The reason is given by `drain`; the reader above only sees that it ended.
                    self.failed = Some(error);
                    return Err(io::ErrorKind::InvalidData.into());
                }
                Err(_) if self.failed.is_some() => return Err(io::ErrorKind::InvalidData.into()),
                Err(_) => return Ok(&[]),
            }
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl TarInput for Stream {}
