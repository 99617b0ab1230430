//! The kernel and initramfs that templates are baked from. Called by the CLI's `setup` and
//! `doctor` and by every start of a box.

use std::path::PathBuf;

use boxwood_vmm::BootFiles;

use crate::error::Error;
use crate::guest_binary::GuestBinary;
use crate::initramfs::{self, Initramfs};
use crate::kernel::{self, Kernel};
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

    /// What a template is baked from, for the crate that does it.
    pub fn boot_files(&self) -> BootFiles {
        BootFiles {
            vmlinux: self.vmlinux.clone(),
            vmlinux_sha256: self.vmlinux_sha256.clone(),
            initramfs: self.initramfs.clone(),
            initramfs_sha256: self.initramfs_sha256.clone(),
        }
    }

    /// Like [`Assets::find`], and writes nothing: `None` where something is to be built first.
    pub(crate) fn look(stores: &Stores, sources: &Sources) -> Result<Option<Self>, Error> {
        let guest = GuestBinary::find(sources.guest.as_deref())?;
        let Some(kernel) = Kernel::find(stores, &sources.kernel)? else { return Ok(None) };
        let initramfs = Initramfs::find(stores, &kernel, &guest)?;
        Ok(initramfs.map(|initramfs| Self::of(&kernel, initramfs, guest)))
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
        // Nothing depends on it: what stays is removed another time.
        let _ = kernel::sweep(writer).and_then(|()| initramfs::sweep(writer));
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::guest_binary::tests::static_binary;
    use crate::kernel::tests::sample_source;
    use crate::sources::KernelSource;

    struct Host {
        directory: tempfile::TempDir,
        sources: Sources,
    }

    impl Host {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let guest = directory.path().join("guest");
            fs::write(&guest, static_binary()).unwrap();
            let kernel = sample_source(directory.path());
            Host { directory, sources: Sources { kernel, guest: Some(guest) } }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn stores(&self) -> Stores {
            Stores::new(self.path("store"))
        }

        fn ensure(&self) -> Assets {
            Assets::ensure(&self.stores(), &self.sources, &mut |_| ()).unwrap()
        }

        fn change_guest(&self) {
            let mut bytes = static_binary();
            bytes.push(1);
            fs::write(self.path("guest.new"), bytes).unwrap();
            fs::rename(self.path("guest.new"), self.path("guest")).unwrap();
        }
    }

    fn make_old(path: &Path) {
        let time = SystemTime::now() - Duration::from_secs(3 * 24 * 3600);
        fs::File::open(path).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn what_was_set_up_is_found_again() {
        let host = Host::new();
        let missing = Assets::find(&host.stores(), &host.sources).unwrap_err();
        assert!(missing.to_string().contains("boxwood setup"), "{missing}");
        let made = host.ensure();
        assert!(made.vmlinux.is_file() && made.initramfs.is_file());
        assert_eq!(made.release, "6.1.0-test");
        assert_eq!(Assets::find(&host.stores(), &host.sources).unwrap(), made);
        let mut told = Vec::new();
        let again = Assets::ensure(&host.stores(), &host.sources, &mut |step| told.push(step));
        assert_eq!((again.unwrap(), told), (made, vec![]));
    }

    #[test]
    fn a_changed_guest_gets_a_new_initramfs_without_setup() {
        let host = Host::new();
        let before = host.ensure();
        host.change_guest();
        let after = Assets::find(&host.stores(), &host.sources).unwrap();
        assert_ne!(after.initramfs, before.initramfs);
        assert_ne!(after.initramfs_sha256, before.initramfs_sha256);
        assert_eq!(after.vmlinux, before.vmlinux);
        // Another process may be about to open the old one.
        assert!(before.initramfs.is_file());
    }

    #[test]
    fn what_nothing_refers_to_is_removed_after_a_day() {
        let host = Host::new();
        let before = host.ensure();
        let stray = host.path("store/kernel/0.0-stray");
        fs::create_dir_all(&stray).unwrap();
        make_old(&stray);
        make_old(&before.initramfs);
        host.change_guest();
        let after = host.ensure();
        assert!(!stray.exists() && !before.initramfs.exists());
        assert!(after.initramfs.is_file() && after.vmlinux.is_file());
        make_old(after.vmlinux.parent().unwrap());
        fs::remove_file(&after.initramfs).unwrap();
        assert!(host.ensure().vmlinux.is_file(), "what is referred to stays, however old");
    }

    #[test]
    fn a_changed_kernel_is_read_again() {
        let host = Host::new();
        host.ensure();
        let KernelSource::Files { image, .. } = &host.sources.kernel else { unreachable!() };
        let mut bytes = fs::read(image).unwrap();
        bytes.push(0);
        fs::write(image, bytes).unwrap();
        let missing = Assets::find(&host.stores(), &host.sources).unwrap_err();
        assert!(matches!(missing, Error::NotSetUp { .. }), "{missing}");
        host.ensure();
        Assets::find(&host.stores(), &host.sources).unwrap();
    }

    #[test]
    fn a_damaged_store_is_repaired() {
        let host = Host::new();
        let made = host.ensure();
        let modules = made.vmlinux.parent().unwrap().join("modules");
        let module = fs::read_dir(&modules).unwrap().next().unwrap().unwrap().path();
        let record = fs::read_dir(host.path("store/kernel"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|ending| ending == "json"))
            .unwrap();
        for damage in [&made.vmlinux, &made.initramfs, &module, &record] {
            fs::write(damage, b"").unwrap();
            fs::remove_file(damage).unwrap();
            assert_eq!(host.ensure().initramfs_sha256, made.initramfs_sha256);
            assert!(damage.is_file(), "{}", damage.display());
        }
        fs::write(&record, b"{\"format\":").unwrap();
        assert_eq!(host.ensure(), Assets::find(&host.stores(), &host.sources).unwrap());
    }

    #[test]
    fn a_shared_store_is_used_and_not_written() {
        let host = Host::new();
        let shared = host.ensure();
        let stores = Stores::new(host.path("own")).with_shared(host.path("store"));
        assert_eq!(Assets::find(&stores, &host.sources).unwrap(), shared);
        assert!(!host.path("own").exists());

        host.change_guest();
        let mixed = Assets::find(&stores, &host.sources).unwrap();
        assert_eq!(mixed.vmlinux, shared.vmlinux);
        assert!(mixed.initramfs.starts_with(host.path("own")));
    }

    #[test]
    fn many_first_users_do_the_work_once() {
        let host = Host::new();
        let readings = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let mut count = |step| {
                        if matches!(step, Progress::ReadingKernel { .. }) {
                            readings.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        }
                    };
                    Assets::ensure(&host.stores(), &host.sources, &mut count).unwrap();
                });
            }
        });
        assert_eq!(readings.into_inner(), 1);
    }

    #[test]
    fn a_refresh_reads_the_kernel_again() {
        let host = Host::new();
        let made = host.ensure();
        let mut told = Vec::new();
        let again = Assets::refresh(&host.stores(), &host.sources, &mut |step| told.push(step));
        assert_eq!(again.unwrap().vmlinux_sha256, made.vmlinux_sha256);
        assert!(told.iter().any(|step| matches!(step, Progress::ReadingKernel { .. })), "{told:?}");
        Assets::find(&host.stores(), &host.sources).unwrap();
    }
}
