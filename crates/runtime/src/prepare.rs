//! What a box needs before it can be made: image, kernel, guest, blank disk, template. Cheap when all
//! of it is there; whatever is missing is made, once, and the caller hears of each step.

use std::fmt;
use std::sync::Arc;

use boxwood_image::Image;
use boxwood_setup::{Assets, BlankDisk, Sources, Stores};
use boxwood_shim::greeting;
use boxwood_state::{BoxSpec, TemplateRef};
use boxwood_types::Shape;
use boxwood_vmm::{BakeRequest, Engine, Template, Templates};
use boxwood_wire::console::MISTIMED;
use tokio::net::UnixStream;

use crate::{Error, Locations, Runtime};

/// What a box is made from.
#[derive(Debug)]
pub struct Prepared {
    /// What the user called the image.
    pub asked: String,
    /// The image.
    pub image: Image,
    /// The shape.
    pub shape: Shape,
    /// The template of the shape, or of shape and image.
    pub template: TemplateRef,
    /// The template of the shape: for a box that has a disk of its own.
    pub again: TemplateRef,
    /// The empty disk that belongs to it.
    pub blank: Arc<BlankDisk>,
}

/// What a box is prepared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Its first start: its disk is yet to be made.
    First,
    /// A later one, with what it has written.
    Again,
}

/// A step that takes long enough to be told.
#[derive(Debug)]
pub enum Progress {
    /// Of the kernel, guest and disk.
    Setup(boxwood_setup::Progress),
    /// Of the template.
    Template(boxwood_vmm::Progress),
    /// No template can be kept for the image, so the box mounts its disks itself.
    NotKept(String),
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Progress::Setup(step) => step.fmt(f),
            Progress::Template(step) => match step {
                boxwood_vmm::Progress::Waiting => {
                    f.write_str("waiting for another process that bakes a template")
                }
                boxwood_vmm::Progress::Baking => f.write_str("baking a template, once"),
                boxwood_vmm::Progress::Rebaking { reason } => {
                    write!(f, "baking the template again: {reason}")
                }
                boxwood_vmm::Progress::Retrying => f.write_str(
                    "this busy host made the guest measure its timer wrongly: booting it again",
                ),
                boxwood_vmm::Progress::Baked { took } => {
                    write!(f, "baked the template in {:.1} s", took.as_secs_f64())
                }
            },
            Progress::NotKept(why) => {
                write!(f, "no template is kept for this image, so boxes start slower: {why}")
            }
        }
    }
}

impl Runtime {
    /// Finds or makes everything a box of this image and shape needs.
    ///
    /// # Errors
    /// When the image is not there, or something could not be made.
    pub async fn prepare(
        &self,
        image: &str,
        shape: Shape,
        start: Start,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Prepared, Error> {
        let asked = image.to_owned();
        let image = self.images()?.resolve(image)?;
        // Blocks while a kernel is fetched, once: the caller has nothing else to do meanwhile.
        let (stores, sources) = (stores(&self.locations), Sources::from_env()?);
        let mut step = |step| progress(Progress::Setup(step));
        let assets = Assets::ensure(&stores, &sources, &mut step)?;
        let blank = BlankDisk::ensure(&stores, &mut step)?;
        let template = self.template(&assets, shape, progress).await?;
        let again = self.refer(&template);
        let blank = Arc::new(blank);
        let prepared = Prepared { asked, image, shape, template: again.clone(), again, blank };
        match start {
            // Its disk is not the one that was mounted.
            Start::Again => Ok(prepared),
            Start::First => Ok(self.mounted(prepared, &template, progress).await),
        }
    }

    /// The template of the shape of a box that has a disk of its own, made if it is not there.
    ///
    /// # Errors
    /// When it could not be made.
    pub async fn template_again(&self, spec: &BoxSpec) -> Result<TemplateRef, Error> {
        let (stores, sources) = (stores(&self.locations), Sources::from_env()?);
        let assets = Assets::ensure(&stores, &sources, &mut |_| ())?;
        let template = self.template(&assets, spec.shape, &mut |_| ()).await?;
        Ok(self.refer(&template))
    }

    /// What a box remembers of it.
    pub(crate) fn refer(&self, template: &Template) -> TemplateRef {
        let (store, cache) = (self.locations.templates(), self.locations.cache());
        TemplateRef { store, cache, key: template.key(), disk: template.disk_digest() }
    }

    /// Looks for a newer kernel. Templates of the old one are baked again when they are next used.
    ///
    /// # Errors
    /// When it could not be had; the old one stays in use.
    pub async fn refresh(&self, progress: &mut dyn FnMut(Progress)) -> Result<(), Error> {
        let mut step = |step| progress(Progress::Setup(step));
        Assets::refresh(&stores(&self.locations), &Sources::from_env()?, &mut step)?;
        Ok(())
    }

    async fn template(
        &self,
        assets: &Assets,
        shape: Shape,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Template, Error> {
        let cache = self.locations.cache();
        let accelerator = boxwood_vmm::probe(&cache)?.accelerator;
        let engine = Engine::find(accelerator, &cache)?;
        let boot = assets.boot_files();
        let within = BakeRequest::WITHIN;
        let mark = greeting::mark().map_err(Error::Random)?;
        let request = BakeRequest {
            engine: &engine,
            accelerator,
            boot: &boot,
            shape,
            mark: mark.0,
            again_if: Some(MISTIMED),
            within,
        };
        let idle = async |channel: &mut UnixStream| {
            let idle = greeting::wait_idle(channel, mark).await;
            idle.map_err(|error| -> boxwood_vmm::IdleError { Box::new(error) })
        };
        let mut step = |step| progress(Progress::Template(step));
        Ok(self.templates().ensure(&request, idle, &mut step).await?)
    }

    /// The templates in the store.
    pub fn templates(&self) -> Templates {
        templates(&self.locations)
    }
}

/// The templates of these places.
pub(crate) fn templates(locations: &Locations) -> Templates {
    Templates::open(locations.templates()).with_cache(locations.cache())
}

/// The stores of what VMs are booted with: the own one, then the system's.
pub(crate) fn stores(locations: &Locations) -> Stores {
    let stores = Stores::new(&locations.store);
    match &locations.system_store {
        Some(system) => stores.with_shared(system),
        None => stores,
    }
}
