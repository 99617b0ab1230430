//! Gives QEMU its RAM. Called by `restore` and `template::bake`.
//!
//! QEMU opens the file of its RAM for reading and writing even when it maps it privately (before 8.2
//! always), and keeps it open: one that was taken over could change the template of all boxes. So it
//! gets a path where nothing is, its `openat` is stopped by the kernel (see `confine`), and answered
//! with a descriptor of ours, which for a restore is open for reading only. After that there is
//! nobody to answer, and every other such call fails.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::confine::{give_descriptor, receive_notification};
use crate::error::Error;
use crate::process::{Limit, Process};
use crate::sys::{Readable, Watched};

/// Waits until QEMU opens its RAM, and answers with `ram`.
pub(crate) async fn give(
    process: &mut Process,
    listener: OwnedFd,
    ram: &File,
    limit: Limit,
) -> Result<(), Error> {
    let pid = process.pid();
    let failed = |source| Error::GiveRam { pid, source };
    let listener = Watched::new(Arc::new(listener)).map_err(failed)?;
    let answered = async {
        if listener.readable().await.map_err(failed)? == Readable::HungUp {
            // It has ended; how it did is the better message.
            std::future::pending::<()>().await;
        }
        let call = receive_notification(listener.as_fd()).map_err(failed)?;
        give_descriptor(listener.as_fd(), call, ram.as_fd()).map_err(failed)
    };
    process.during("open its RAM", limit, answered).await
}
