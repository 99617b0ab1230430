//! `prune`: what is not in use goes.

use std::os::unix::fs::MetadataExt;

use boxwood_state::BoxSpec;
use boxwood_types::{BoxId, BoxName};

use crate::{Error, Force, Listed, Runtime};

/// What is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prune {
    /// Boxes that don't run.
    Boxes,
    /// Templates, too, and what is kept of snapshots to restore them at once.
    BoxesAndTemplates,
}

/// What has gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pruned {
    /// A box.
    Box(BoxId),
    /// A template, by its key.
    Template(String),
    /// The memory of a snapshot, which is made whole again when it is restored.
    Memory(BoxName),
}

impl Runtime {
    /// Removes what is not in use, of the boxes those that are `wanted`, and says how many bytes that took on
    /// the disk. `tell` hears of each thing that has gone, and of each that could not.
    ///
    /// # Errors
    /// When the home or the templates can't be read.
    pub async fn prune(
        &self,
        what: Prune,
        wanted: &(dyn Fn(&BoxSpec) -> bool + Sync),
        tell: &mut dyn FnMut(Result<Pruned, Error>),
    ) -> Result<u64, Error> {
        self.recover()?;
        let mut freed = self.prune_boxes(wanted, tell).await?;
        if what == Prune::BoxesAndTemplates {
            let templates = self.templates();
            for info in templates.list()? {
                let removed = templates.remove(&info.key).await;
                freed += if removed.is_ok() { info.disk_bytes } else { 0 };
                tell(removed.map(|()| Pruned::Template(info.key)).map_err(Error::from));
            }
            freed += self.prune_memories(tell)?;
        }
        Ok(freed)
    }

    fn prune_memories(&self, tell: &mut dyn FnMut(Result<Pruned, Error>)) -> Result<u64, Error> {
        let mut freed = 0;
        for snapshot in self.snapshots(&mut |error| tell(Err(error)))? {
            let cache = snapshot.size().cache;
            if cache > 0 {
                let forgotten = snapshot.forget_cache();
                freed += if forgotten.is_ok() { cache } else { 0 };
                let name = snapshot.info.name.clone();
                tell(forgotten.map(|()| Pruned::Memory(name)).map_err(Error::from));
            }
        }
        Ok(freed)
    }

    /// What a box takes on the disk, in bytes.
    pub fn disk_bytes(&self, listed: &Listed) -> u64 {
        size(listed)
    }

    async fn prune_boxes(
        &self,
        wanted: &(dyn Fn(&BoxSpec) -> bool + Sync),
        tell: &mut dyn FnMut(Result<Pruned, Error>),
    ) -> Result<u64, Error> {
        let listed = self.list(&mut |error| tell(Err(error)))?;
        let mut listed = self.settle(listed).await;
        listed.retain(|one| !one.record.state.is_live() && wanted(&one.spec));
        let mut freed = 0;
        for one in listed {
            let (id, size) = (one.spec.id.clone(), size(&one));
            // One that was started meanwhile stays.
            let removed = self.remove(one, Force::No).await;
            freed += if removed.is_ok() { size } else { 0 };
            tell(removed.map(|()| Pruned::Box(id)));
        }
        Ok(freed)
    }
}

/// What a box takes on the disk.
fn size(listed: &Listed) -> u64 {
    let folders = [listed.dir.path().to_owned(), listed.dir.log()];
    let entries = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    let metadata = entries.filter_map(|entry| entry.ok()?.metadata().ok());
    metadata.map(|metadata| metadata.blocks() * 512).sum()
}
