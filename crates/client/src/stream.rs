//! A connection that has become a process's standard streams, and a log that is made of frames.

use std::io;

use boxwood_state::control::{self, Reply};
use boxwood_wire::frame::{self, Decoder, Frame, Kind};
use http::{HeaderValue, Method, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::request::Asked;
use crate::{Client, Error};

/// What comes out of a box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromBox {
    /// A reply.
    Reply(Reply),
    /// Standard output.
    Stdout(Vec<u8>),
    /// Standard error.
    Stderr(Vec<u8>),
}

#[derive(Debug)]
enum Source {
    Stream(ReadHalf<TokioIo<Upgraded>>),
    Body(Incoming),
}

/// What a box sends.
#[derive(Debug)]
pub struct Reader {
    source: Source,
    decoder: Decoder,
    buffer: Vec<u8>,
}

/// What a box is sent. While this lives, what lives by it does.
#[derive(Debug)]
pub struct Writer {
    write: WriteHalf<TokioIo<Upgraded>>,
}

impl Client {
    /// Asks for a stream.
    pub(crate) async fn stream(&self, path: String) -> Result<(Reader, Writer), Error> {
        let mut asked = Asked::plain(Method::POST, path);
        let stream = HeaderValue::from_static(boxwood_api::STREAM);
        asked.headers.insert(header::UPGRADE, stream);
        asked.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        let answer = self.send(asked).await?;
        let upgraded = hyper::upgrade::on(answer).await.map_err(|_| self.protocol())?;
        let (read, write) = tokio::io::split(TokioIo::new(upgraded));
        Ok((Reader::new(Source::Stream(read)), Writer { write }))
    }

    /// Asks for frames.
    pub(crate) async fn frames(&self, path: String) -> Result<Reader, Error> {
        let answer = self.send(Asked::plain(Method::GET, path)).await?;
        Ok(Reader::new(Source::Body(answer.into_body())))
    }
}

impl Reader {
    fn new(source: Source) -> Self {
        Reader { source, decoder: Decoder::new(), buffer: vec![0; frame::MAX_BYTES] }
    }

    /// The next thing; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is not understood.
    pub async fn next(&mut self) -> Result<Option<FromBox>, Error> {
        loop {
            let frame = self.decoder.next_frame();
            if let Some(frame) = frame.map_err(|_| Error::Stream(no_frame()))? {
                return understand(frame).map(Some).ok_or_else(|| Error::Stream(no_frame()));
            }
            match &mut self.source {
                Source::Stream(read) => match read.read(&mut self.buffer).await {
                    Ok(0) => return Ok(None),
                    Ok(count) => self.decoder.push(&self.buffer[..count]),
                    Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                        return Ok(None);
                    }
                    Err(error) => return Err(Error::Stream(error)),
                },
                Source::Body(body) => match body.frame().await {
                    None => return Ok(None),
                    Some(Ok(piece)) => {
                        if let Some(bytes) = piece.data_ref() {
                            self.decoder.push(bytes);
                        }
                    }
                    Some(Err(error)) => return Err(Error::of_body(error)),
                },
            }
        }
    }
}

fn understand(frame: Frame) -> Option<FromBox> {
    match frame.kind {
        Kind::Stdout => Some(FromBox::Stdout(frame.payload)),
        Kind::Stderr => Some(FromBox::Stderr(frame.payload)),
        Kind::Reply => control::decode(&frame.payload).ok().map(FromBox::Reply),
        Kind::Request | Kind::Stdin | Kind::StdinEof => None,
    }
}

fn no_frame() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

impl Writer {
    /// Sends bytes for standard input.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn stdin(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for chunk in bytes.chunks(frame::MAX_BYTES) {
            let mut whole = frame::header(Kind::Stdin, chunk.len()).to_vec();
            whole.extend_from_slice(chunk);
            self.send(&whole).await?;
        }
        Ok(())
    }

    /// Half-closes standard input.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn stdin_eof(&mut self) -> Result<(), Error> {
        self.send(&frame::header(Kind::StdinEof, 0)).await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.write.write_all(bytes).await.map_err(Error::Stream)?;
        self.write.flush().await.map_err(Error::Stream)
    }
}
