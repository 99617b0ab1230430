//! The kernel that guests run: found, unpacked into the store, remembered. Called by `assets`.

mod bzimage;
mod decompress;
mod fetch;
mod modules;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::progress::Progress;
use crate::sources::KernelSource;
use crate::store::{
    FileStamp, Stores, Writer, hash, hash_parts, make_directory, may_read, read_bounded,
    read_record, sync, write_synced,
};

use fetch::Found;
use modules::{REQUIRED, Tree};

/// Compressed kernels have 8 to 15 MiB; an uncompressed one may be given too.
const IMAGE_LIMIT: u64 = 512 << 20;
const FORMAT: u32 = 1;

/// A kernel in a store.
#[derive(Debug)]
pub(crate) struct Kernel {
    directory: PathBuf,
    record: Record,
}

/// Which kernel a store has for a source.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u32,
    /// For people: where it is from.
    origin: String,
    /// The file the user named, as it was.
    source: Option<FileStamp>,
    /// The directory below `kernel/`.
    id: String,
    release: String,
    vmlinux: FileStamp,
    vmlinux_sha256: String,
    /// Names of files, in load order.
    modules: Vec<String>,
}

impl Kernel {
    /// The kernel for this source in the first store that has one. Costs a handful of system calls.
    pub(crate) fn find(stores: &Stores, source: &KernelSource) -> Result<Option<Self>, Error> {
        stores.first(|store| Self::find_in(store, source))
    }

    fn find_in(store: &Path, source: &KernelSource) -> Result<Option<Self>, Error> {
        let record = match read_record::<Record>(&store.join(record_place(source)))? {
            Some(record) if record.format == FORMAT => record,
            _ => return Ok(None),
        };
        if let (KernelSource::Files { image, .. }, Some(stamp)) = (source, &record.source)
            && !stamp.holds_for(image)
        {
            return Ok(None);
        }
        let kernel = Kernel { directory: store.join("kernel").join(&record.id), record };
        let complete = kernel.record.vmlinux.holds_for(&kernel.vmlinux())
            && kernel.modules().all(|(_, path)| path.is_file() && may_read(&path));
        Ok(complete.then_some(kernel))
    }

    /// Gets the kernel from its source into the writer's store.
    pub(crate) fn prepare(
        writer: &Writer,
        source: &KernelSource,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, Error> {
        let (found, stamp) = match source {
            KernelSource::Distribution => (fetch::distribution(writer, progress)?, None),
            KernelSource::Files { image, modules } => {
                let origin = format!("BOXWOOD_KERNEL={}", image.display());
                let found = Found { origin, image: image.clone(), modules: modules.clone() };
                // A file that can't be read is told before anything is said to be under way.
                std::fs::File::open(image)
                    .map_err(|source| Error::Read { path: image.clone(), source })?;
                (found, FileStamp::of(image)?)
            }
        };
        progress(Progress::ReadingKernel { image: found.image.clone() });
        let mut record = unpack(&found, writer)?;
        record.source = stamp;
        writer.write_record(&record_place(source), &record)?;
        Ok(Kernel { directory: writer.root().join("kernel").join(&record.id), record })
    }

    pub(crate) fn vmlinux(&self) -> PathBuf {
        self.directory.join("vmlinux")
    }

    pub(crate) fn vmlinux_sha256(&self) -> &str {
        &self.record.vmlinux_sha256
    }

    pub(crate) fn release(&self) -> &str {
        &self.record.release
    }

    pub(crate) fn origin(&self) -> &str {
        &self.record.origin
    }

    /// Names this kernel with these modules among all others.
    pub(crate) fn id(&self) -> &str {
        &self.record.id
    }

    /// Names and paths of the modules, in load order.
    pub(crate) fn modules(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        self.record.modules.iter().map(|name| {
            let path = self.directory.join("modules").join(name);
            (name.as_str(), path)
        })
    }
}

/// What the distribution has for us, without getting it: a package or its own kernel, for people.
pub(crate) fn available() -> Result<String, Error> {
    fetch::available()
}

/// `current.json` for the distribution's, and one for each file a user named.
fn record_place(source: &KernelSource) -> PathBuf {
    let name = match source {
        KernelSource::Distribution => "current.json".to_owned(),
        KernelSource::Files { image, modules } => {
            let modules = modules.as_deref().unwrap_or(Path::new(""));
            let paths = [image.as_path(), modules].map(|path| path.as_os_str().as_encoded_bytes());
            format!("given-{}.json", &hash_parts(paths)[..16])
        }
    };
    Path::new("kernel").join(name)
}

/// Reads, unpacks and checks it all, then puts it in its place in one step.
fn unpack(found: &Found, writer: &Writer) -> Result<Record, Error> {
    let bad = |source| Error::BadKernel { path: found.image.clone(), source };
    let vmlinux = bzimage::extract(read_bounded(&found.image, IMAGE_LIMIT)?).map_err(bad)?;
    let release = bzimage::release(&vmlinux).map_err(bad)?;
    let directory = match &found.modules {
        Some(directory) => directory.clone(),
        None => Path::new("/lib/modules").join(&release),
    };
    if !directory.is_dir() {
        return Err(Error::NoModules { path: directory, release });
    }
    let modules = Tree::open(&directory, &release)?.load_order(&REQUIRED)?;

    let unfinished = writer.temporary_directory("kernel")?;
    write_synced(&unfinished.join("vmlinux"), &vmlinux)?;
    make_directory(&unfinished.join("modules"))?;
    let mut names = Vec::new();
    for (index, module) in modules.iter().enumerate() {
        // The guest loads them sorted by name.
        let name = format!("{index:03}-{}.ko", module.name);
        write_synced(&unfinished.join("modules").join(&name), &module.bytes)?;
        names.push(name);
    }
    sync(&unfinished.join("modules"))?;
    sync(&unfinished)?;

    let vmlinux_sha256 = hash(&vmlinux);
    let parts = modules.iter().flat_map(|module| [module.name.as_bytes(), &module.bytes]);
    let id = hash_parts(std::iter::once(vmlinux_sha256.as_bytes()).chain(parts));
    let id = format!("{release}-{}", &id[..12]);
    let place = Path::new("kernel").join(&id);
    writer.publish(&unfinished, &place)?;

    let path = writer.root().join(&place).join("vmlinux");
    let stamp = FileStamp::of(&path)?
        .ok_or_else(|| Error::Stat { path, source: std::io::ErrorKind::NotFound.into() })?;
    Ok(Record {
        format: FORMAT,
        origin: found.origin.clone(),
        source: None,
        id,
        release,
        vmlinux: stamp,
        vmlinux_sha256,
        modules: names,
    })
}

/// Removes kernels that no record of the store names.
pub(crate) fn sweep(writer: &Writer) -> Result<(), Error> {
    writer.sweep::<Record>("kernel", |record| record.id)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::process::Command;
    use std::time::Duration;

    use super::decompress::Compression;
    use super::*;

    /// A made-up kernel and its modules, in files.
    pub(crate) fn sample_source(directory: &Path) -> KernelSource {
        let banner = format!("Linux version {} (test)\n", modules::tests::RELEASE);
        let image = directory.join("vmlinuz");
        let vmlinux = bzimage::tests::vmlinux(banner.as_bytes());
        fs::write(&image, bzimage::tests::bzimage(Compression::Xz, &vmlinux)).unwrap();
        let files: Vec<_> = REQUIRED.iter().map(|name| format!("{name}.ko")).collect();
        let files: Vec<_> = files.iter().map(|file| (file.as_str(), "depends=")).collect();
        modules::tests::tree(&directory.join("modules"), "", &files);
        KernelSource::Files { image, modules: Some(directory.join("modules")) }
    }

    #[test]
    fn a_kernel_without_a_needed_module_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let source = sample_source(directory.path());
        fs::remove_file(directory.path().join("modules/kernel/fs/erofs.ko")).unwrap();
        let store = directory.path().join("store");
        let writer = Writer::open(&store, || ()).unwrap();
        let error = Kernel::prepare(&writer, &source, &mut |_| ()).unwrap_err();
        assert!(error.to_string().contains("'erofs'"), "{error}");
        drop(writer);
        assert!(!store.join("kernel").exists());
    }

    /// The kernel of a Debian package: `BOXWOOD_TEST_KERNEL_DEB` names the file.
    #[test]
    fn a_real_kernel_package_is_usable() {
        let Some(package) = std::env::var_os("BOXWOOD_TEST_KERNEL_DEB") else {
            eprintln!("skipped: BOXWOOD_TEST_KERNEL_DEB is not set");
            return;
        };
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("-x").arg(&package).arg(&tree);
        crate::command::run(&mut unpack, Duration::from_secs(120), None).unwrap();
        let found = fetch::unpacked(&tree, "test").unwrap();
        let source = KernelSource::Files { image: found.image, modules: found.modules };
        let writer = Writer::open(&directory.path().join("store"), || ()).unwrap();
        let kernel = Kernel::prepare(&writer, &source, &mut |_| ()).unwrap();
        let names: Vec<_> = kernel.modules().map(|(name, _)| name.to_owned()).collect();
        let place = |module: &str| names.iter().position(|name| name.ends_with(module));
        assert!(place("virtio_ring.ko") < place("virtio_mmio.ko"), "{names:?}");
        assert!(place("libcrc32c.ko") < place("erofs.ko"), "{names:?}");
        assert!(place("overlay.ko").is_some(), "{names:?}");
        assert!(kernel.release().starts_with(|first: char| first.is_ascii_digit()));
    }
}
