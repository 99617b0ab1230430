//! `start`: a box that has ended is taken in hand again, with its disk as it was.

use boxwood_state::{Client, TemplateRef};

use crate::{Error, Progress, Runtime, start::Held};

impl Runtime {
    /// Takes the lock of a box that does not run, so that it can be started with this client.
    ///
    /// # Errors
    /// When it runs, or was to be removed, or can't be read.
    pub async fn hold_again(
        &self,
        name: &str,
        client: Client,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Held, Error> {
        let listed = self.find(name)?;
        let running = |state| Error::WrongState {
            id: listed.spec.id.clone(),
            state,
            hint: "it is running already",
        };
        if listed.record.state.is_live() {
            return Err(running(listed.record.state));
        }
        let Some(lock) = listed.dir.try_lock()? else {
            // Somebody else started it between the two looks.
            return Err(running(listed.dir.record()?.state));
        };
        let mut spec = listed.spec;
        let prepared = self.prepare(spec.image.id.as_str(), spec.shape, progress).await?;
        spec.template = TemplateRef { ..prepared.template };
        spec.client = client;
        listed.dir.write_spec(&spec)?;
        Ok(Held { dir: listed.dir, spec, lock })
    }
}
