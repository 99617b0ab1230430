//! The template of one image, with the box's root file system mounted: found or made before the first
//! start of a box. Part of `prepare`.

use std::sync::Arc;

use boxwood_image::Image;
use boxwood_setup::BlankDisk;
use boxwood_shim::greeting;
use boxwood_state::TemplateRef;
use boxwood_types::chain;
use boxwood_vmm::{BakeRequest, MountRequest, QemuUser, Template};
use tokio::net::UnixStream;

use crate::request::DEFAULT_PATH;
use crate::{Prepared, Progress, Runtime};

/// The most places and the longest names that are tried to find an image's command ahead of time:
/// all of them fit into one word to the guest.
const COMMANDS: usize = 16;
const COMMAND_LENGTH: usize = 256;

impl Runtime {
    /// The same with the template that is kept for the image, which has nothing to mount.
    pub(crate) async fn mounted(
        &self,
        prepared: Prepared,
        base: &Template,
        progress: &mut dyn FnMut(Progress),
    ) -> Prepared {
        match self.keep(base, &prepared, progress).await {
            Ok((template, blank)) => Prepared { template, blank: Arc::new(blank), ..prepared },
            Err(why) => {
                progress(Progress::NotKept(why));
                prepared
            }
        }
    }

    /// Finds or makes the template of an image, and the disk that belongs to it.
    async fn keep(
        &self,
        base: &Template,
        prepared: &Prepared,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(TemplateRef, BlankDisk), String> {
        let Prepared { image, blank, .. } = prepared;
        let block = image.open_block().map_err(|error| chain(&error))?;
        let mark = greeting::mark().map_err(|error| error.to_string())?;
        let request = MountRequest {
            image: &block,
            image_id: image.id().short(),
            block_digest: &image.block_digest().to_string(),
            make_disk: &|file| blank.copy_to(file).map_err(std::io::Error::other),
            mark: mark.0,
            user: QemuUser::own(std::process::id()),
            within: BakeRequest::WITHIN,
        };
        let mount = async |channel: &mut UnixStream| {
            let mounted = greeting::mount(channel, commands(image), mark).await;
            mounted.map_err(|error| -> boxwood_vmm::IdleError { Box::new(error) })
        };
        let mut step = |step| progress(Progress::Template(step));
        let kept = self.templates().ensure_mounted(base, &request, mount, &mut step).await;
        let kept = kept.map_err(|error| chain(&error))?;
        let template = self.refer(&kept);
        let path = template.store.join(&template.key).join("disk");
        let blank = BlankDisk::of_template(path, kept.into_disk().map_err(|error| chain(&error))?);
        Ok((template, blank.map_err(|error| chain(&error))?))
    }
}

/// Where the image's own command may be.
fn commands(image: &Image) -> Vec<Vec<u8>> {
    let config = image.config();
    let argv0 = config.entrypoint.iter().chain(&config.cmd).next();
    let Some(argv0) = argv0.filter(|name| name.len() <= COMMAND_LENGTH) else { return Vec::new() };
    if argv0.contains('/') {
        return vec![argv0.clone().into_bytes()];
    }
    let path = config.env.iter().find_map(|entry| entry.strip_prefix("PATH="));
    let folders = path
        .or(DEFAULT_PATH.strip_prefix("PATH="))
        .unwrap_or_default()
        .split(':')
        .filter(|f| f.len() <= COMMAND_LENGTH);
    folders.take(COMMANDS).map(|folder| format!("{folder}/{argv0}").into_bytes()).collect()
}
