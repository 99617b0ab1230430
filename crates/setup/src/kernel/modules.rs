//! Which modules a guest loads, in which order, unpacked. Called by `kernel`.
//!
//! A package that is unpacked and not installed has no `modules.dep` (depmod writes that when
//! a kernel is installed), so the order comes from what the modules say about themselves: the
//! fields `depends` and `softdep` of their .modinfo sections, from which depmod makes it too.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::elf::Elf;
use crate::error::{Error, ModuleFault};
use crate::store::{read_bounded, read_optional};

use super::decompress::Compression;

/// What every guest needs. No network, no random generator and no balloon yet: each device and
/// driver is attack surface and restore time.
pub(super) const REQUIRED: [&str; 6] =
    ["virtio_mmio", "virtio_console", "virtio_blk", "erofs", "overlay", "ext4"];

/// The largest module of Debian 12 that we load has 2 MiB.
const MODULE_LIMIT: u64 = 64 << 20;
/// `modules.builtin` of Debian 12 has 6 KiB.
const BUILTIN_LIMIT: u64 = 4 << 20;
/// The generic kernel of Debian 12 has 4,400 modules.
const FILES_LIMIT: usize = 50_000;
const DEPTH_LIMIT: usize = 16;

/// A module, ready to be loaded.
#[derive(Debug)]
pub(super) struct Module {
    /// Its name as the kernel knows it.
    pub(super) name: String,
    /// The ELF file.
    pub(super) bytes: Vec<u8>,
}

/// The directory of one kernel's modules.
pub(super) struct Tree {
    directory: PathBuf,
    release: String,
    builtin: HashSet<String>,
    files: HashMap<String, PathBuf>,
}

impl Tree {
    /// Looks through `/lib/modules/<release>` or the like.
    pub(super) fn open(directory: &Path, release: &str) -> Result<Self, Error> {
        let path = directory.join("modules.builtin");
        let listed = read_optional(&path, BUILTIN_LIMIT)?.unwrap_or_default();
        let builtin = String::from_utf8_lossy(&listed)
            .lines()
            .filter_map(|line| module_name(Path::new(line.trim())))
            .collect();
        Ok(Tree {
            directory: directory.to_owned(),
            release: release.to_owned(),
            builtin,
            files: find_modules(directory)?,
        })
    }

    /// The required modules with all they depend on, each after what it depends on.
    pub(super) fn load_order(&self, required: &[&str]) -> Result<Vec<Module>, Error> {
        let mut order = Order { tree: self, modules: Vec::new(), seen: HashMap::new() };
        required.iter().try_for_each(|name| order.add(name))?;
        Ok(order.modules)
    }

    fn read(&self, path: &Path) -> Result<(Info, Vec<u8>), Error> {
        let fault = |source| Error::BadModule { path: path.to_owned(), source };
        let packed = read_bounded(path, MODULE_LIMIT)?;
        let bytes = match Compression::detect(&packed) {
            Some(compression) => compression
                .unpack(&packed, MODULE_LIMIT)
                .map_err(|source| fault(ModuleFault::Damaged(source)))?,
            None => packed,
        };
        let info = Info::parse(&bytes).map_err(fault)?;
        if info.release != self.release {
            let (found, expected) = (info.release, self.release.clone());
            return Err(fault(ModuleFault::WrongRelease { found, expected }));
        }
        Ok((info, bytes))
    }
}

/// A walk in progress: depth first, so that what is depended on comes first.
struct Order<'a> {
    tree: &'a Tree,
    modules: Vec<Module>,
    /// Whether a module that has been met is done, or is waiting for its dependencies.
    seen: HashMap<String, Visit>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    Waiting,
    Done,
}

impl Order<'_> {
    fn add(&mut self, name: &str) -> Result<(), Error> {
        let (module, release) = (name.to_owned(), self.tree.release.clone());
        match self.seen.get(name) {
            Some(Visit::Done) => return Ok(()),
            Some(Visit::Waiting) => return Err(Error::ModuleCycle { module, release }),
            None => {}
        }
        if self.tree.builtin.contains(name) {
            return Ok(());
        }
        let Some(path) = self.tree.files.get(name) else {
            let directory = self.tree.directory.clone();
            return Err(Error::MissingModule { module, release, directory });
        };

        self.seen.insert(module.clone(), Visit::Waiting);
        let (info, bytes) = self.tree.read(path)?;
        for wanted in &info.softly {
            if let Some(found) = self.tree.resolve_soft(wanted) {
                self.add(&found)?;
            }
        }
        for needed in &info.depends {
            self.add(needed)?;
        }
        self.seen.insert(module.clone(), Visit::Done);
        self.modules.push(Module { name: module, bytes });
        Ok(())
    }
}

impl Tree {
    /// A soft dependency may be the alias `crypto-<algorithm>`, which the kernel's own
    /// implementation `<algorithm>_generic` or `<algorithm>` provides. One that is not there is
    /// no error: that is what makes it soft.
    fn resolve_soft(&self, wanted: &str) -> Option<String> {
        let algorithm = wanted.strip_prefix("crypto_").unwrap_or(wanted);
        [algorithm.to_owned(), format!("{algorithm}_generic")]
            .into_iter()
            .find(|name| self.files.contains_key(name))
    }
}

/// What a module says about itself.
struct Info {
    release: String,
    depends: Vec<String>,
    softly: Vec<String>,
}

impl Info {
    fn parse(module: &[u8]) -> Result<Self, ModuleFault> {
        let section = Elf::parse(module)
            .and_then(|elf| elf.section(".modinfo"))
            .map_err(ModuleFault::NotElf)?
            .ok_or(ModuleFault::NoInfo)?;
        let mut info = Info { release: String::new(), depends: Vec::new(), softly: Vec::new() };
        for field in section.split(|byte| *byte == 0) {
            let field = String::from_utf8_lossy(field);
            if let Some(names) = field.strip_prefix("depends=") {
                info.depends.extend(names.split(',').filter(|name| !name.is_empty()).map(plain));
            } else if let Some(names) = field.strip_prefix("softdep=") {
                info.softly.extend(before_it(names));
            } else if let Some(magic) = field.strip_prefix("vermagic=") {
                info.release = magic.split(' ').next().unwrap_or_default().to_owned();
            }
        }
        Ok(info)
    }
}

/// The names after `pre:` and before `post:` in a `softdep` field.
fn before_it(field: &str) -> impl Iterator<Item = String> + '_ {
    field
        .split_whitespace()
        .skip_while(|word| *word != "pre:")
        .skip(1)
        .take_while(|word| *word != "post:")
        .map(plain)
}

/// The kernel knows modules by names with underscores; their files may have hyphens.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

/// `virtio_rng` of `kernel/drivers/char/hw_random/virtio-rng.ko.xz`.
fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (stem, ending) = file.split_once(".ko")?;
    ["", ".xz", ".gz", ".zst"].contains(&ending).then(|| plain(stem))
}

/// All modules below a directory. Links are not followed (`build` and `source` lead away).
fn find_modules(directory: &Path) -> Result<HashMap<String, PathBuf>, Error> {
    let mut files = HashMap::new();
    let mut left = FILES_LIMIT;
    let mut pending = vec![(directory.to_owned(), 0)];
    while let Some((path, depth)) = pending.pop() {
        let failed = |source| Error::Read { path: path.clone(), source };
        for entry in std::fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            left = left.checked_sub(1).ok_or_else(|| Error::TooManyModules {
                path: directory.to_owned(),
                limit: FILES_LIMIT,
            })?;
            if kind.is_dir() && depth < DEPTH_LIMIT {
                pending.push((entry.path(), depth + 1));
            } else if kind.is_file()
                && let Some(name) = module_name(&entry.path())
            {
                files.insert(name, entry.path());
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::decompress::tests::pack;
    use super::*;
    use crate::elf::tests::sample;

    pub(in crate::kernel) const RELEASE: &str = "6.1.0-test";

    /// A directory of made-up modules: file, fields of .modinfo.
    pub(in crate::kernel) fn tree(directory: &Path, builtin: &str, modules: &[(&str, &str)]) {
        std::fs::create_dir_all(directory.join("kernel/fs")).unwrap();
        std::fs::write(directory.join("modules.builtin"), builtin).unwrap();
        for (file, fields) in modules {
            let info = format!("license=GPL\0{fields}\0vermagic={RELEASE} SMP preempt \0");
            let plain = sample(&[], &[(".text", b"x"), (".modinfo", info.as_bytes())]);
            let bytes = match Path::new(file).extension().and_then(|ending| ending.to_str()) {
                Some("xz") => pack(Compression::Xz, &plain),
                Some("gz") => pack(Compression::Gzip, &plain),
                Some("zst") => pack(Compression::Zstd, &plain),
                _ => plain,
            };
            std::fs::write(directory.join("kernel/fs").join(file), bytes).unwrap();
        }
    }

    fn order(builtin: &str, modules: &[(&str, &str)], required: &[&str]) -> Result<String, Error> {
        let directory = tempfile::tempdir().unwrap();
        tree(directory.path(), builtin, modules);
        let modules = Tree::open(directory.path(), RELEASE)?.load_order(required)?;
        assert!(modules.iter().all(|module| module.bytes.starts_with(b"\x7fELF")));
        Ok(modules.into_iter().map(|module| module.name).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn what_is_depended_on_comes_first_and_once() {
        let modules = [
            ("a.ko", "depends=b,c"),
            ("b.ko.xz", "depends=d-d"),
            ("c.ko.gz", "depends=d_d"),
            ("d-d.ko.zst", "depends="),
            ("unused.ko", "depends=absent"),
        ];
        assert_eq!(order("", &modules, &["a", "b"]).unwrap(), "d_d b c a");
    }

    #[test]
    fn what_is_built_in_is_not_loaded() {
        let builtin = "kernel/fs/ext4/ext4.ko\nkernel/drivers/virtio/virtio-ring.ko\n";
        let modules = [("erofs.ko", "depends=virtio_ring")];
        assert_eq!(order(builtin, &modules, &["erofs", "ext4"]).unwrap(), "erofs");
    }

    #[test]
    fn a_soft_dependency_is_loaded_where_it_is_there() {
        let modules = [
            ("ext4.ko", "softdep=pre: crypto-crc32c absent post: later\0depends="),
            ("crc32c_generic.ko", "depends="),
            ("later.ko", "depends="),
        ];
        assert_eq!(order("", &modules, &["ext4"]).unwrap(), "crc32c_generic ext4");
    }

    #[test]
    fn a_missing_module_is_named_with_its_kernel() {
        let error = order("", &[("a.ko", "depends=b")], &["a"]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("'b'") && text.contains(RELEASE), "{text}");
    }

    #[test]
    fn a_cycle_is_an_error_and_not_a_loop() {
        let modules = [("a.ko", "depends=b"), ("b.ko", "depends=a")];
        let error = order("", &modules, &["a"]).unwrap_err();
        assert!(matches!(error, Error::ModuleCycle { .. }), "{error}");
    }

    #[test]
    fn a_module_of_another_kernel_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        tree(directory.path(), "", &[("a.ko", "depends=")]);
        let error = Tree::open(directory.path(), "6.2").unwrap().load_order(&["a"]).unwrap_err();
        let Error::BadModule { source: ModuleFault::WrongRelease { found, .. }, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(found, RELEASE);
    }

    #[test]
    fn a_damaged_module_is_named() {
        let directory = tempfile::tempdir().unwrap();
        tree(directory.path(), "", &[]);
        for content in [&b"junk"[..], b"\xfd7zXZ\0cut", &sample(&[], &[(".text", b"x")])] {
            std::fs::write(directory.path().join("kernel/fs/a.ko"), content).unwrap();
            let tree = Tree::open(directory.path(), RELEASE).unwrap();
            let error = tree.load_order(&["a"]).unwrap_err();
            assert!(error.to_string().contains("a.ko"), "{error}");
        }
    }

    #[test]
    fn links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        tree(directory.path(), "", &[("a.ko", "depends=")]);
        std::os::unix::fs::symlink("/", directory.path().join("build")).unwrap();
        assert_eq!(Tree::open(directory.path(), RELEASE).unwrap().files.len(), 1);
    }
}
