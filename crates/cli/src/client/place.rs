//! Where a process is: here, by its box's shim, or there, by a daemon; and what goes over its streams.

use boxwood_client::FromBox;
use boxwood_runtime::state::BoxDir;
use boxwood_runtime::{FromShim, Runtime, ShimReader, ShimWriter};

/// Where the process is, and by whom it is told what does not go over its streams.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    /// Here, by its box's shim.
    Here { runtime: &'a Runtime, dir: &'a BoxDir },
    /// There, by a daemon that knows the box or the command by this name.
    There { daemon: &'a boxwood_client::Client, name: &'a str },
}

/// What a process says.
pub(crate) trait Hear {
    async fn next(&mut self) -> anyhow::Result<Option<FromShim>>;
}

/// What a process reads.
pub(crate) trait Speak {
    async fn stdin(&mut self, bytes: &[u8]) -> anyhow::Result<()>;
    async fn stdin_eof(&mut self) -> anyhow::Result<()>;
}

impl Hear for ShimReader {
    async fn next(&mut self) -> anyhow::Result<Option<FromShim>> {
        Ok(ShimReader::next(self).await?)
    }
}

impl Hear for boxwood_client::Reader {
    async fn next(&mut self) -> anyhow::Result<Option<FromShim>> {
        let heard = boxwood_client::Reader::next(self).await?;
        Ok(heard.map(|heard| match heard {
            FromBox::Reply(reply) => FromShim::Reply(reply),
            FromBox::Stdout(bytes) => FromShim::Stdout(bytes),
            FromBox::Stderr(bytes) => FromShim::Stderr(bytes),
        }))
    }
}

impl Speak for ShimWriter {
    async fn stdin(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(ShimWriter::stdin(self, bytes).await?)
    }

    async fn stdin_eof(&mut self) -> anyhow::Result<()> {
        Ok(ShimWriter::stdin_eof(self).await?)
    }
}

impl Speak for boxwood_client::Writer {
    async fn stdin(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(boxwood_client::Writer::stdin(self, bytes).await?)
    }

    async fn stdin_eof(&mut self) -> anyhow::Result<()> {
        Ok(boxwood_client::Writer::stdin_eof(self).await?)
    }
}
