//! The kernel and initramfs that templates are baked from. Called by the CLI's `setup` and
//! `doctor` and by every start of a box.

use std::path::PathBuf;

use crate::error::Error;
use crate::guest_binary::GuestBinary;
use crate::initramfs::Initramfs;
use crate::kernel::Kernel;
use crate::progress::Progress;
use crate::sources::Sources;
use crate::store::{Stores, Writer};

/// What a VM is booted with. The hashes name the contents, so nobody has to read 50 MB to know
/// whether a template was made from them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Assets {
    /// The uncompressed ELF kernel, with a PVH entry.
    pub vmlinux: PathBuf,
    /// SHA-256 of the kernel, in hexadecimal.
    pub vmlinux_sha256: String,
    /// The initramfs, an uncompressed cpio archive.
    pub initramfs: PathBuf,
    /// SHA-256 of the initramfs, in hexadecimal.
    pub initramfs_sha256: String,
    /// What `uname -r` shows in a box.
    pub release: String,
    /// Where the kernel is from, for people.
    pub origin: String,
    /// The guest binary in the initramfs.
    pub guest: PathBuf,
}

impl Assets {
    /// What was set up before, without a download. Costs well under a millisecond, unless the
    /// guest binary changed: then the initramfs is built again, in the user's own store.
    ///
    /// # Errors
    /// [`Error::NotSetUp`] if no store has a kernel for these sources; anything that goes wrong
    /// with the guest binary or the files.
    pub fn find(stores: &Stores, sources: &Sources) -> Result<Self, Error> {
        let guest = GuestBinary::find(sources.guest.as_deref())?;
        let kernel = Kernel::find(stores, &sources.kernel)?
            .ok_or_else(|| Error::NotSetUp { store: stores.own().to_owned() })?;
        if let Some(initramfs) = Initramfs::find(stores, &kernel, &guest)? {
            return Ok(Self::of(&kernel, initramfs, guest));
        }
        let writer = Writer::open(stores.own(), || ())?;
        Self::with_kernel(&writer, stores, kernel, guest)
    }

    /// Like [`Assets::find`], and gets what is missing: kernel package, modules, initramfs.
    /// Of several processes that do it at once, one works and the others wait for it.
    ///
    /// # Errors
    /// Whatever kept the kernel, its modules or the guest from being found, read or written.
    pub fn ensure(
        stores: &Stores,
        sources: &Sources,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, Error> {
        match Self::find(stores, sources) {
            Err(Error::NotSetUp { .. }) => {}
            result => return result,
        }
        let guest = GuestBinary::find(sources.guest.as_deref())?;
        let writer = Self::writer(stores, progress)?;
        // Another process may have done it while this one waited for the lock.
        let kernel = match Kernel::find(stores, &sources.kernel)? {
            Some(kernel) => kernel,
            None => Kernel::prepare(&writer, &sources.kernel, progress)?,
        };
        progress(Progress::BuildingInitramfs);
        Self::with_kernel(&writer, stores, kernel, guest)
    }

    /// Like [`Assets::ensure`], and looks for a newer kernel though one is there.
    ///
    /// # Errors
    /// As of [`Assets::ensure`]; what was there then stays in use.
    pub fn refresh(
        stores: &Stores,
        sources: &Sources,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, Error> {
        let guest = GuestBinary::find(sources.guest.as_deref())?;
        let writer = Self::writer(stores, progress)?;
        let kernel = Kernel::prepare(&writer, &sources.kernel, progress)?;
        progress(Progress::BuildingInitramfs);
        Self::with_kernel(&writer, stores, kernel, guest)
    }

    fn writer(stores: &Stores, progress: &mut dyn FnMut(Progress)) -> Result<Writer, Error> {
        let store = stores.own().to_owned();
        Writer::open(stores.own(), || progress(Progress::Waiting { store }))
    }

    fn with_kernel(
        writer: &Writer,
        stores: &Stores,
        kernel: Kernel,
        guest: GuestBinary,
    ) -> Result<Self, Error> {
        let initramfs = match Initramfs::find(stores, &kernel, &guest)? {
            Some(initramfs) => initramfs,
            None => Initramfs::build(writer, &kernel, &guest)?,
        };
        Ok(Self::of(&kernel, initramfs, guest))
    }

    fn of(kernel: &Kernel, initramfs: Initramfs, guest: GuestBinary) -> Self {
        Assets {
            vmlinux: kernel.vmlinux(),
            vmlinux_sha256: kernel.vmlinux_sha256().to_owned(),
            initramfs: initramfs.path,
            initramfs_sha256: initramfs.sha256,
            release: kernel.release().to_owned(),
            origin: kernel.origin().to_owned(),
            guest: guest.path,
        }
    }
}
