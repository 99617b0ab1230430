//! What can be asked of a daemon about snapshots, forks and the pool.

use boxwood_api::{
    CreateSnapshot, Created, ForkBox, Forked, ImportSnapshot, ImportedSnapshot, Pool,
    RestoreSnapshot, SetPool, SnapshotInfo, SnapshotList,
};
use http::Method;

use crate::request::{Asked, Body};
use crate::verbs::{get, of_box, path, post, with};
use crate::{Client, Download, Error};

fn of_snapshot(name: &str, verb: &str) -> String {
    path("/v1/snapshots/", name, verb)
}

/// All of these fail when the daemon can't be reached, does not understand, or refuses.
#[allow(clippy::missing_errors_doc)]
impl Client {
    /// Captures a box.
    pub async fn snapshot(&self, name: &str, how: &CreateSnapshot) -> Result<SnapshotInfo, Error> {
        self.ask(Asked::json(of_box(name, "/snapshot"), how)).await
    }

    /// Snapshots, the oldest first.
    pub async fn snapshots(&self) -> Result<SnapshotList, Error> {
        self.ask(get("/v1/snapshots")).await
    }

    /// A snapshot.
    pub async fn get_snapshot(&self, name: &str) -> Result<SnapshotInfo, Error> {
        self.ask(get(of_snapshot(name, ""))).await
    }

    /// Reads all of a snapshot and compares it with what was captured.
    pub async fn verify_snapshot(&self, name: &str) -> Result<(), Error> {
        self.tell(post(of_snapshot(name, "/verify"))).await
    }

    /// Removes a snapshot.
    pub async fn remove_snapshot(&self, name: &str) -> Result<(), Error> {
        self.tell(Asked::plain(Method::DELETE, of_snapshot(name, ""))).await
    }

    /// A snapshot as an archive.
    pub async fn export_snapshot(&self, name: &str) -> Result<Download, Error> {
        self.download(of_snapshot(name, "/export")).await
    }

    /// Keeps a snapshot that comes as an archive.
    pub async fn import_snapshot(
        &self,
        how: &ImportSnapshot,
        archive: Body,
    ) -> Result<ImportedSnapshot, Error> {
        let path = with("/v1/snapshots".to_owned(), how)?;
        self.ask(Asked { body: archive, ..post(path) }).await
    }

    /// A new box that goes on where a snapshot was captured.
    pub async fn restore(&self, name: &str, how: &RestoreSnapshot) -> Result<Created, Error> {
        self.ask(Asked::json(of_snapshot(name, "/restore"), how)).await
    }

    /// New boxes that go on where a running one is.
    pub async fn fork(&self, name: &str, how: &ForkBox) -> Result<Forked, Error> {
        self.ask(Asked::json(of_box(name, "/fork"), how)).await
    }

    /// How many VMs wait for boxes, and how many are wanted.
    pub async fn pool(&self) -> Result<Pool, Error> {
        self.ask(get("/v1/pool")).await
    }

    /// Sets how many VMs of a shape wait.
    pub async fn set_pool(&self, wanted: &SetPool) -> Result<(), Error> {
        self.tell(Asked::json("/v1/pool", wanted)).await
    }
}
