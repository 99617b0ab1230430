//! Templates: booted, idle, frozen VMs of a shape, in a directory. Called by the runtime, which finds
//! or bakes one for each box, by shims, which open them by key, and by the CLI's `template` verb.
//!
//! ```text
//! DIR/KEY/ram            guest memory, sparse, mapped copy-on-write by every box
//! DIR/KEY/state          vCPUs and devices
//! DIR/KEY/disk           of a template for one image: what a box's disk has to be a copy of
//! DIR/KEY/manifest.json  what it was made with, and digests of the others
//! DIR/KEY/verified       that they were checked since the host booted
//! DIR/KEY.lock           held while one is baked or removed
//! DIR/booting.lock       held while a guest boots: one at a time measures its clock best
//! DIR/KEY.new            one that is being baked, or that a killed baker left
//! ```
//!
//! A key is a digest of all that a template is bound to, so another kernel or QEMU makes another
//! key. Whether the files are what the manifest says is `verify`'s matter.

mod bake;
mod freeze;
mod kept;
mod key;
mod lock;
mod manifest;
mod mounted;
mod verify;

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boxwood_types::Shape;
use tokio::net::UnixStream;

use crate::accel::Accelerator;
use crate::engine::Engine;
use crate::error::Error;
use crate::host;

use key::Key;
pub use manifest::Manifest;
pub(crate) use manifest::{Binding, Content};
pub use mounted::MountRequest;
use verify::Fitness;
pub(crate) use verify::{Zeros, content};

/// Why the guest did not become idle; from the caller of [`Templates::ensure`].
pub type IdleError = Box<dyn std::error::Error + Send + Sync>;

/// What a VM is booted with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFiles {
    /// The kernel: uncompressed ELF with a PVH entry.
    pub vmlinux: PathBuf,
    /// Its SHA-256 in hexadecimal. Trusted to look a template up, checked to bake one.
    pub vmlinux_sha256: String,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// Its SHA-256 in hexadecimal.
    pub initramfs_sha256: String,
}

/// What template is wanted.
#[derive(Clone, Copy, Debug)]
pub struct BakeRequest<'a> {
    /// The QEMU, found for this accelerator.
    pub engine: &'a Engine,
    /// The accelerator.
    pub accelerator: Accelerator,
    /// Kernel and initramfs.
    pub boot: &'a BootFiles,
    /// vCPUs and memory.
    pub shape: Shape,
    /// What the guest is given to keep, by who waits until it is idle: a secret of its memory.
    pub mark: [u8; 16],
    /// The words with which a guest that ends asks for another to be booted.
    pub again_if: Option<&'a str>,
    /// For a VM that is alive and wedged: how long baking may take. [`BakeRequest::WITHIN`] is the
    /// default of the contract (H4).
    pub within: Duration,
}

impl BakeRequest<'_> {
    /// The default cap of a bake.
    pub const WITHIN: Duration = Duration::from_secs(120);
}

/// What [`Templates::ensure`] does, when it takes time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Another process bakes this template, or another one; it is awaited.
    Waiting,
    /// There is none yet, so it is baked.
    Baking,
    /// There is one that can't be used, so it is baked again (contract S1).
    Rebaking {
        /// What is wrong with it.
        reason: String,
    },
    /// Its guest has found its kernel's measurements to be wrong, so another is booted.
    Retrying,
    /// It is ready.
    Baked {
        /// How long that took.
        took: Duration,
    },
}

/// One template in a list.
#[derive(Clone, Debug)]
pub struct TemplateInfo {
    /// Its key.
    pub key: String,
    /// What it was made with, or why that can't be said: it will be made again when it is needed.
    pub manifest: Result<Manifest, String>,
    /// What it takes on the disk, in bytes.
    pub disk_bytes: u64,
    /// Whether it was checked since the host booted.
    pub verified: bool,
}

/// A directory of templates.
#[derive(Clone, Debug)]
pub struct Templates {
    dir: PathBuf,
    cache: Option<PathBuf>,
}

/// A template, open: it can be restored even after it was removed.
#[derive(Debug)]
pub struct Template {
    manifest: Manifest,
    ram: File,
    state: File,
    disk: Option<File>,
}

/// What is in a template's directory under a key.
enum Found {
    Nothing,
    Fit(Box<Template>),
    Unfit(String),
}

impl Templates {
    /// The templates in a directory, which need not exist yet.
    pub fn open(dir: impl Into<PathBuf>) -> Self {
        Templates { dir: dir.into(), cache: None }
    }

    /// With a directory for what was checked and measured, for when the templates' own may not be
    /// written to by this user.
    #[must_use]
    pub fn with_cache(mut self, cache: impl Into<PathBuf>) -> Self {
        self.cache = Some(cache.into());
        self
    }

    /// The template with this key, checked. Cheap, but for the first use after the host's boot.
    ///
    /// # Errors
    /// [`Error::NoTemplate`], or [`Error::Damaged`] if it must be baked again.
    pub async fn get(&self, key: &str) -> Result<Template, Error> {
        match self.look(self.parse(key)?).await? {
            Found::Fit(template) => Ok(*template),
            Found::Unfit(reason) => Err(Error::Damaged { key: key.to_owned(), reason }),
            Found::Nothing => Err(self.missing(key)),
        }
    }

    /// The template for a request, if there is one that can be used. Bakes none.
    ///
    /// # Errors
    /// When the host can't be asked what it is, or the directory not be read.
    pub async fn find(&self, request: &BakeRequest<'_>) -> Result<Option<Template>, Error> {
        match self.look(Binding::of(request)?.key()).await? {
            Found::Fit(template) => Ok(Some(*template)),
            Found::Nothing | Found::Unfit(_) => Ok(None),
        }
    }

    /// The template for a request; bakes it if there is none that can be used. `idle` gets the
    /// host's end of the channel and returns when the guest says that it may be frozen.
    ///
    /// Of several processes that want the same one, one bakes it and the others wait. Like
    /// [`restore`](crate::restore), to be called on a thread that lives as long as the process.
    ///
    /// # Errors
    /// [`Error::Bake`] with the step that failed as its source, or what went wrong with the files.
    pub async fn ensure<F>(
        &self,
        request: &BakeRequest<'_>,
        idle: F,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Template, Error>
    where
        F: AsyncFn(&mut UnixStream) -> Result<(), IdleError>,
    {
        let binding = Binding::of(request)?;
        let key = binding.key();
        if let Found::Fit(template) = self.look(key).await? {
            return Ok(*template);
        }
        fs::create_dir_all(&self.dir).map_err(Error::io("make", &self.dir))?;
        let lock = lock::take(&self.lock_path(key), || progress(Progress::Waiting)).await?;
        // Who had the lock may have baked it.
        match self.look(key).await? {
            Found::Fit(template) => return Ok(*template),
            Found::Nothing => progress(Progress::Baking),
            Found::Unfit(reason) => progress(Progress::Rebaking { reason }),
        }
        // It takes seconds anyway, and this finds what others have left, too.
        self.sweep()?;
        let waiting = || progress(Progress::Waiting);
        let booting = lock::take(&self.dir.join("booting.lock"), waiting).await?;
        let start = std::time::Instant::now();
        bake::bake_until_it_boots(&self.place(binding), request, idle, progress).await?;
        drop(booting);
        let template = self.get(&key.to_string()).await?;
        drop(lock);
        progress(Progress::Baked { took: start.elapsed() });
        Ok(template)
    }

    /// All templates, in the order of their keys.
    ///
    /// # Errors
    /// When the directory is there and can't be read.
    pub fn list(&self) -> Result<Vec<TemplateInfo>, Error> {
        let mut all = Vec::new();
        for key in self.keys("")? {
            let files = self.files(key);
            let manifest = Manifest::read(&files.manifest());
            if manifest.is_err() && !files.dir.exists() {
                // Somebody has just removed it.
                continue;
            }
            all.push(TemplateInfo {
                key: key.to_string(),
                disk_bytes: files.disk_bytes(),
                verified: manifest.is_ok() && verify::is_stamped(&files),
                manifest: manifest.map_err(|error| format!("its manifest: {error}")),
            });
        }
        Ok(all)
    }

    /// Removes a template. Boxes made from it run on, since they have its files open.
    ///
    /// # Errors
    /// [`Error::NoTemplate`], or what kept it from being removed.
    pub async fn remove(&self, key: &str) -> Result<(), Error> {
        let missing = || self.missing(key);
        let key = self.parse(key)?;
        if !self.files(key).dir.exists() {
            return Err(missing());
        }
        let _lock = lock::take(&self.lock_path(key), || ()).await?;
        if self.unlink(key)? { Ok(()) } else { Err(missing()) }
    }

    /// Removes a template whose lock is held; says whether it was there.
    fn unlink(&self, key: Key) -> Result<bool, Error> {
        let (dir, trash) = (self.files(key).dir, self.new_path(key));
        discard(&trash)?;
        match fs::rename(&dir, &trash) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            result => result.map_err(Error::io("remove", &dir))?,
        }
        discard(&trash).map(|()| true)
    }

    /// Removes what killed bakers have left, which can be as much as a template. Does not wait: what
    /// is being baked is left alone. Each bake does it, too.
    ///
    /// # Errors
    /// When the directory can't be read, or something not be removed.
    pub fn sweep(&self) -> Result<(), Error> {
        for key in self.keys(".new")? {
            if let Some(_lock) = lock::take_if_free(&self.lock_path(key))? {
                discard(&self.new_path(key))?;
            }
        }
        Ok(())
    }

    /// The keys of which the directory has something with this ending.
    fn keys(&self, ending: &str) -> Result<Vec<Key>, Error> {
        let read = Error::io("read", &self.dir);
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(&read)?,
        };
        let mut keys = Vec::new();
        for entry in entries {
            let name = entry.map_err(&read)?.file_name();
            let key = name.to_str().and_then(|name| name.strip_suffix(ending));
            keys.extend(key.and_then(|key| key.parse::<Key>().ok()));
        }
        keys.sort();
        Ok(keys)
    }

    /// Opens and checks what is there.
    async fn look(&self, key: Key) -> Result<Found, Error> {
        let files = self.files(key);
        let manifest = match Manifest::read(&files.manifest()) {
            Ok(manifest) => manifest,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !files.dir.exists() => {
                return Ok(Found::Nothing);
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Error::io("read", files.manifest())(error));
            }
            Err(error) => return Ok(Found::Unfit(format!("its manifest: {error}"))),
        };
        let template = match Template::open(&files, manifest) {
            Ok(template) => template,
            Err(error) => return Ok(Found::Unfit(error.to_string())),
        };
        // Reading all of it takes a while, the first time after the host's boot.
        let checked = tokio::task::spawn_blocking(move || {
            let fitness = verify::check(&files, &template);
            (template, fitness)
        });
        match checked.await {
            Ok((template, Fitness::Fit)) if template.binding().key() == key => {
                Ok(Found::Fit(Box::new(template)))
            }
            Ok((_, Fitness::Fit)) => Ok(Found::Unfit("its manifest is another template's".into())),
            Ok((_, Fitness::Unfit(reason))) => Ok(Found::Unfit(reason)),
            Err(error) => Ok(Found::Unfit(format!("it could not be checked: {error}"))),
        }
    }

    /// What is no key names no template.
    fn parse(&self, key: &str) -> Result<Key, Error> {
        key.parse().map_err(|()| self.missing(key))
    }

    fn missing(&self, key: &str) -> Error {
        let key = key.chars().take(80).collect();
        Error::NoTemplate { store: self.dir.clone(), key }
    }

    fn files(&self, key: Key) -> Files {
        Files { dir: self.dir.join(key.to_string()), key, cache: self.cache.clone() }
    }

    fn lock_path(&self, key: Key) -> PathBuf {
        self.dir.join(format!("{key}.lock"))
    }

    fn new_path(&self, key: Key) -> PathBuf {
        self.dir.join(format!("{key}.new"))
    }

    fn place(&self, binding: Binding) -> freeze::Place {
        let key = binding.key();
        freeze::Place {
            store: self.dir.clone(),
            fresh: Files { dir: self.new_path(key), key, cache: None },
            finished: self.files(key),
            binding,
            cache: self.cache.clone(),
        }
    }
}

/// The files of one template.
#[derive(Clone, Debug)]
struct Files {
    dir: PathBuf,
    key: Key,
    cache: Option<PathBuf>,
}

impl Files {
    fn ram(&self) -> PathBuf {
        self.dir.join("ram")
    }

    fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    fn disk(&self) -> PathBuf {
        self.dir.join("disk")
    }

    fn manifest(&self) -> PathBuf {
        self.dir.join("manifest.json")
    }

    fn disk_bytes(&self) -> u64 {
        let blocks = |path: PathBuf| fs::metadata(path).map_or(0, |meta| meta.blocks());
        let files = [self.ram(), self.state(), self.disk(), self.manifest()];
        files.map(blocks).iter().sum::<u64>() * 512
    }
}

impl Template {
    fn open(files: &Files, manifest: Manifest) -> Result<Self, Error> {
        let open = |path: PathBuf| File::open(&path).map_err(Error::io("open", &path));
        let disk = manifest.disk.is_some().then(|| open(files.disk())).transpose()?;
        Ok(Template { manifest, ram: open(files.ram())?, state: open(files.state())?, disk })
    }

    /// What names it in its directory.
    pub fn key(&self) -> String {
        self.manifest.key()
    }

    /// What it was made with.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What tells the disk that it has mounted from that of another making of the same template.
    pub fn disk_digest(&self) -> Option<String> {
        self.manifest.disk.as_ref().map(|disk| disk.sha256.clone())
    }

    /// What the disk of a box that starts from it has to be a copy of.
    ///
    /// # Errors
    /// When it is not for one image, so that the empty disk is.
    pub fn into_disk(self) -> Result<File, Error> {
        let key = self.key();
        let missing = || Error::Damaged { key, reason: "it has no disk".into() };
        self.disk.ok_or_else(missing)
    }

    /// What its guest has kept in its memory.
    pub fn mark(&self) -> Option<[u8; 16]> {
        host::unhex(&self.manifest.mark)
    }

    pub(crate) fn binding(&self) -> &Binding {
        &self.manifest.binding
    }

    /// Its memory, open for reading only.
    pub(crate) fn ram(&self) -> &File {
        &self.ram
    }

    /// Its state, to be read from the beginning: each restore needs a position of its own.
    pub(crate) fn open_state(&self) -> Result<File, Error> {
        let path = format!("/proc/self/fd/{}", self.state.as_raw_fd());
        File::open(&path).map_err(Error::prepare("the template's state"))
    }
}

/// Removes a directory that nobody looks at any more.
fn discard(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", dir)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
