//! The supervisor of one box: QEMU's only parent, the owner of the box's lock, record and log.
//!
//! The runtime starts a shim for each box (`boxwood shim`, a hidden verb) with the box's lock already
//! held and handed over, so a box is never without an owner. No daemon is needed: restarting, logging
//! and telling the truth happen here. [`run`] reads as the order of a start; after
//! `Supervisor::supervise` returned, the box has ended.

mod announcer;
mod clients;
mod clock;
mod conversation;
mod descriptors;
mod door;
pub mod greeting;
mod guest_time;
pub mod halves;
mod hangup;
mod health;
mod hold;
mod launch;
mod life;
mod link;
mod main_io;
mod news;
mod note;
mod orders;
mod output;
mod patience;
mod questions;
mod replay;
mod report;
mod restart;
mod restore;
mod room;
mod run;
mod sessions;
mod steps;
mod supervisor;
mod sys;
mod told;
mod warm;

use std::os::fd::RawFd;
use std::path::Path;
use std::pin::Pin;
use std::process::ExitCode;

use boxwood_state::{BoxSpec, TemplateRef};
use boxwood_types::BoxId;

use crate::note::note;

/// The hidden verb that runs a shim: `boxwood shim HOME ID`.
pub const VERB: &str = "shim";

/// The connection to the client that starts the box: its replies, main's streams.
pub const STARTER_FD: RawFd = 3;
/// The box's lock, held.
pub const LOCK_FD: RawFd = 4;
/// The read end of a pipe whose other end the starting client holds for life.
pub const ALIVE_FD: RawFd = 5;

/// The control socket, listening.
pub const LISTENER_FD: RawFd = 6;

/// The hidden verb that runs a shim whose VM waits for a box: `boxwood warm HOME ID`. Its descriptors are the
/// member's lock and its listening socket.
pub const WARM_VERB: &str = "warm";

/// Makes the template of a box's shape anew, when a box is to be started again and it is not there any
/// more. The error is for people.
pub type Remake =
    Box<dyn Fn(BoxSpec) -> Pin<Box<dyn Future<Output = Result<TemplateRef, String>>>>>;

/// Runs a shim to its end. The descriptors above must have been put in place; nothing else may run
/// in this process, and it must be called on the thread that lives as long as the process does:
/// QEMU dies with that thread.
pub fn run(home: &Path, id: &BoxId, remake: Remake) -> ExitCode {
    let numbers = [STARTER_FD, LOCK_FD, ALIVE_FD, LISTENER_FD];
    let Some([starter, lock, alive, listener]) = sys::take_inherited(numbers) else {
        note!("started without a box's descriptors; 'boxwood run' starts shims");
        return ExitCode::from(125);
    };
    let inherited = launch::Inherited { starter, lock, alive, listener, remake };
    let (home, id) = (home.to_owned(), id.clone());
    to_the_end(async move { launch::launch(&home, &id, inherited).await })
}

/// The same for a VM that waits for a box, and then is the box's shim.
pub fn run_warm(home: &Path, id: &BoxId, remake: Remake) -> ExitCode {
    let Some([lock, listener]) = sys::take_inherited([3, 4]) else {
        note!("started without a member's descriptors; 'boxwood pool' starts these");
        return ExitCode::from(125);
    };
    let (home, id) = (home.to_owned(), id.clone());
    let warmth = warm::Warmth { lock, listener, remake };
    to_the_end(async move { warm::wait(&home, &id, warmth).await })
}

fn to_the_end(work: impl Future<Output = Result<(), launch::LaunchError>> + 'static) -> ExitCode {
    descriptors::raise();
    // Everything here is on one thread, and so it needs no second scheduler for what can't be sent.
    let options = tokio::runtime::LocalOptions::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(options);
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            note!("can't start its event loop: {error}");
            return ExitCode::from(125);
        }
    };
    // What the event loop itself waits for is woken through the kernel, and a task is not.
    let result = runtime.block_on(async { tokio::task::spawn_local(work).await });
    match result {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            note!("{}", boxwood_types::chain(&error));
            ExitCode::from(125)
        }
        Err(error) => {
            note!("its work broke off: {error}");
            ExitCode::from(125)
        }
    }
}
