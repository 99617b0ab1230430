//! Templates that are kept for one image, so that its boxes have nothing to mount. Called through
//! [`Templates`] by the runtime, for each first start of a box.
//!
//! They are made on demand, and no more of them are kept than [`KEPT`]: the one whose last use is
//! the longest ago goes first.

use std::fs::{self, File};
use std::time::SystemTime;

use tokio::net::UnixStream;

use super::key::Key;
use super::manifest::Manifest;
use super::mounted::{self, MountRequest};
use super::{Found, IdleError, Progress, Template, Templates, lock};
use crate::error::Error;

/// How many templates for single images a directory holds at most. Each takes some 70 MB.
const KEPT: usize = 16;

impl Templates {
    /// The template for one image, made from the one of its shape if there is none that can be used.
    /// `mount` gets the host's end of the channel of the restored guest, and returns when that has
    /// mounted the box's root file system and may be frozen.
    ///
    /// Of several processes that want the same one, one makes it and the others wait. Like
    /// [`restore`](crate::restore), to be called on a thread that lives as long as the process.
    ///
    /// # Errors
    /// [`Error::Mount`] with the step that failed as its source, or what went wrong with the files.
    pub async fn ensure_mounted<F>(
        &self,
        base: &Template,
        request: &MountRequest<'_>,
        mount: F,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Template, Error>
    where
        F: AsyncFnOnce(&mut UnixStream) -> Result<(), IdleError>,
    {
        let binding = base.binding().with(request);
        let key = binding.key();
        if let Found::Fit(template) = self.look(key).await? {
            self.used(key);
            return Ok(*template);
        }
        let lock = lock::take(&self.lock_path(key), || ()).await?;
        // Who had the lock may have made it.
        match self.look(key).await? {
            Found::Fit(template) => return Ok(*template),
            Found::Nothing => {}
            Found::Unfit(reason) => progress(Progress::Rebaking { reason }),
        }
        mounted::make(&self.place(binding), base, request, mount).await?;
        let template = self.get(&key.to_string()).await?;
        drop(lock);
        self.trim()?;
        Ok(template)
    }

    /// Remembers the time. Who may not write to the directory has to live with its owner's order.
    fn used(&self, key: Key) {
        let now = SystemTime::now();
        let _ = File::open(self.files(key).dir).and_then(|dir| dir.set_modified(now));
    }

    /// Removes those that were not used for the longest time. Does not wait for anybody.
    fn trim(&self) -> Result<(), Error> {
        let mut kept: Vec<(SystemTime, Key)> = Vec::new();
        for key in self.keys("")? {
            let files = self.files(key);
            let is_kept = Manifest::read(&files.manifest()).is_ok_and(|m| m.image().is_some());
            let used = fs::metadata(&files.dir).and_then(|meta| meta.modified());
            if let (true, Ok(used)) = (is_kept, used) {
                kept.push((used, key));
            }
        }
        kept.sort();
        for (_, key) in &kept[..kept.len().saturating_sub(KEPT)] {
            if let Some(_lock) = lock::take_if_free(&self.lock_path(*key))? {
                self.unlink(*key)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
