//! Boxes from the outside: created, started, listed, stopped, removed. The CLI calls it, and so may
//! any Rust program; everything it knows is on disk, so any number of runtimes share a home.
//!
//! Each verb has a file of its own. A box's life itself is its [shim](boxwood_shim)'s.

mod attach;
mod carry;
mod changes;
mod create;
mod error;
mod events;
mod examine;
mod exec;
mod health;
mod inspect;
mod kept;
mod kill;
mod list;
mod locations;
mod logs;
mod metrics;
mod names;
mod pause;
mod pool;
mod prepare;
mod prune;
mod rearm;
mod recover;
mod remove;
mod rename;
mod request;
mod restart;
mod restore;
mod shim_client;
mod shutdown;
mod snapshot;
mod start;
mod stats;
mod stop;
mod sys;
mod top;
mod update;
mod users;
mod vigil;
mod wait;

use std::path::PathBuf;

pub use attach::Attached;
pub use boxwood_image as image;
pub use boxwood_setup as setup;
pub use boxwood_state as state;
pub use boxwood_types as types;
pub use boxwood_vmm as vmm;
pub use carry::Imported;
pub use error::Error;
pub use events::{EventFilter, Events, EventsRequest};
pub use examine::examine;
pub use exec::{ExecRequest, Session};
pub use health::HealthWishes;
pub use inspect::view;
pub use list::Listed;
pub use locations::Locations;
pub use logs::{Logs, LogsRequest};
pub use metrics::{CONTENT_TYPE as METRICS_TYPE, Metrics, PREFIX as METRICS_PREFIX};
pub use pool::{Pool, PoolRequest};
pub use prepare::{Prepared, Progress, Start};
pub use prune::{Prune, Pruned};
pub use remove::Force;
pub use request::{CreateRequest, check_image_config};
pub use restore::{Fork, RestoreRequest};
pub use shim_client::{FromShim, ShimReader, ShimWriter};
pub use shutdown::ShutdownOnDrop;
pub use start::{Held, Started};
pub use top::Processes;
pub use update::UpdateRequest;
pub use users::ImageUsers;

use boxwood_image::ImageStore;
use boxwood_state::Home;

/// A home and what its boxes are made from.
#[derive(Clone, Debug)]
pub struct Runtime {
    locations: Locations,
    home: Home,
    shim: PathBuf,
    attachments: shutdown::Attachments,
}

impl Runtime {
    /// Opens a home, making it if it is not there. `shim` is a program that calls
    /// [`boxwood_shim::run`] for the verb [`boxwood_shim::VERB`]: the `boxwood` binary.
    ///
    /// # Errors
    /// When the home can't be made or entered.
    pub fn open(locations: Locations, shim: PathBuf) -> Result<Self, Error> {
        let home = Home::open(&locations.home)?;
        Ok(Runtime { locations, home, shim, attachments: Default::default() })
    }

    /// Where everything is.
    pub fn locations(&self) -> &Locations {
        &self.locations
    }

    /// The home.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The image store.
    ///
    /// # Errors
    /// When it can't be made or entered.
    pub fn images(&self) -> Result<ImageStore, Error> {
        Ok(ImageStore::open(&self.locations.images())?)
    }
}
