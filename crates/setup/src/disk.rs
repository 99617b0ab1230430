//! The writable disk of a box: an empty, journalled ext4 file system, made once per store and
//! copied for each box. Called by the CLI's `setup` and by every creation of a box.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boxwood_vmm::{BOX_DISK_BYTES, sparse};

use crate::command::helper;
use crate::error::Error;
use crate::progress::Progress;
use crate::store::{Stores, Writer, sync};

/// Change the name with the contents: a store keeps what an older version made.
const PLACE: &str = "disk/blank-v1.ext4";
const HELPER_TIME: Duration = Duration::from_secs(60);
/// Three extents are there; a file with more than this is not ours.
const EXTENTS_LIMIT: usize = 4096;

/// The empty disk, open for copying.
#[derive(Debug)]
pub struct BlankDisk {
    path: PathBuf,
    file: File,
    extents: Vec<Range<u64>>,
}

impl BlankDisk {
    /// The one that was made before, in the first store that has it.
    ///
    /// # Errors
    /// [`Error::NoDisk`] if there is none; a cause if it can't be opened.
    pub fn find(stores: &Stores) -> Result<Self, Error> {
        let found = stores.first(|store| {
            let path = store.join(PLACE);
            match File::open(&path) {
                Ok(file) => Self::open(path, file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(Error::Read { path, source }),
            }
        })?;
        found.ok_or_else(|| Error::NoDisk { store: stores.own().to_owned() })
    }

    /// The same, or makes it in the user's own store.
    ///
    /// # Errors
    /// Whatever kept it from being made: mostly a missing mke2fs.
    pub fn ensure(stores: &Stores, progress: &mut dyn FnMut(Progress)) -> Result<Self, Error> {
        match Self::find(stores) {
            Err(Error::NoDisk { .. }) => {}
            result => return result,
        }
        let store = stores.own().to_owned();
        let writer = Writer::open(stores.own(), || progress(Progress::Waiting { store }))?;
        match Self::find(stores) {
            Err(Error::NoDisk { .. }) => {}
            result => return result,
        }
        progress(Progress::MakingDisk);
        make(&writer)?;
        Self::find(stores)
    }

    /// The disk of a template that has it mounted: as empty as the other.
    ///
    /// # Errors
    /// When it can't be read, or is no such disk.
    pub fn of_template(path: PathBuf, file: File) -> Result<Self, Error> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "it has the wrong size");
        Self::open(path.clone(), file)?.ok_or_else(|| Error::Read { path, source: wrong() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes of it hold data: what a copy takes on a file system without reflinks.
    pub fn data_bytes(&self) -> u64 {
        self.extents.iter().map(|extent| extent.end - extent.start).sum()
    }

    /// Makes `dest`, an empty file, a box's disk: by reflink where the file system can, else by
    /// copying the few places that hold data. Its size is then [`BOX_DISK_BYTES`].
    ///
    /// # Errors
    /// [`Error::CopyDisk`] with the cause; `dest` is then to be thrown away.
    pub fn copy_to(&self, dest: &File) -> Result<(), Error> {
        sparse::copy(&self.file, &self.extents, dest, BOX_DISK_BYTES)
            .map_err(|source| Error::CopyDisk { path: self.path.clone(), source })
    }

    /// `None`: it has another size, so it is not whole.
    fn open(path: PathBuf, file: File) -> Result<Option<Self>, Error> {
        let look = || -> io::Result<Option<Vec<Range<u64>>>> {
            let size = file.metadata()?.len();
            if size == BOX_DISK_BYTES {
                sparse::extents(&file, EXTENTS_LIMIT).map(Some)
            } else {
                Ok(None)
            }
        };
        let extents = look().map_err(|source| Error::Read { path: path.clone(), source })?;
        Ok(extents.map(|extents| BlankDisk { path, file, extents }))
    }
}

/// How it is formatted. All metadata lies together at the start and nothing is written that
/// need not be, so a copy is cheap: no backup superblocks (`sparse_super2` with none), group
/// checksums instead of initialized bitmaps, no room for growing. mke2fs punches holes for the
/// inode tables and marks them as zeroed, so the guest's kernel has no lazy work to do either.
/// Checksums are crc16 (`uninit_bg`), as crc32c is slow in emulated code. One inode per 32 KiB
/// makes a million of them.
const FORMAT: [&str; 14] = [
    "-q",
    "-F",
    "-t",
    "ext4",
    "-b4096",
    "-i32768",
    "-I256",
    "-m0",
    "-Jsize=16",
    "-Lboxwood",
    "-O",
    "none,has_journal,ext_attr,dir_index,filetype,extent,flex_bg,sparse_super2,large_file,huge_file,uninit_bg,dir_nlink,extra_isize",
    "-E",
    "num_backup_sb=0,packed_meta_blocks=1,lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0",
];

/// Instead of the host's mke2fs.conf, so that every host makes the same file system.
const MKE2FS_CONF: &str =
    "[defaults]\nblocksize = 4096\n[fs_types]\next4 = {\nblocksize = 4096\n}\n";

fn make(writer: &Writer) -> Result<(), Error> {
    let path = writer.temporary("blank.ext4");
    let failed = |source| Error::Write { path: path.clone(), source };
    let file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
    file.set_len(BOX_DISK_BYTES).map_err(failed)?;
    let conf = writer.temporary("mke2fs.conf");
    fs::write(&conf, MKE2FS_CONF).map_err(|source| Error::Write { path: conf.clone(), source })?;

    let mut mke2fs = helper("mke2fs");
    mke2fs.args(FORMAT).arg(&path).env("MKE2FS_CONFIG", &conf);
    writer.run(&mut mke2fs, HELPER_TIME)?;
    // The directories of the guest's overlay. `mke2fs -d` would take their owner from this user;
    // debugfs makes them root's, whoever runs it.
    for directory in ["upper", "work"] {
        let make = format!("mkdir {directory}");
        writer.run(helper("debugfs").args(["-w", "-R", &make]).arg(&path), HELPER_TIME)?;
        // debugfs ends with 0 also when that failed: look at the result.
        let look = format!("stat {directory}");
        let said = writer.run(helper("debugfs").args(["-R", &look]).arg(&path), HELPER_TIME)?;
        if !said.contains("Type: directory    Mode:  0755") {
            return Err(Error::BadDisk {
                path,
                words: format!("no directory {directory}: {said}"),
            });
        }
    }
    sync(&path)?;
    writer.publish(&path, Path::new(PLACE))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::command::run;

    /// A sparse file of the right size with data at both ends and in the middle.
    fn blank(directory: &Path) -> BlankDisk {
        let path = directory.join("blank");
        let file = File::create(&path).unwrap();
        file.set_len(BOX_DISK_BYTES).unwrap();
        for at in [0, 1 << 30, BOX_DISK_BYTES - 4096] {
            file.write_all_at(&[at as u8 | 7; 4096], at).unwrap();
        }
        BlankDisk::open(path.clone(), File::open(path).unwrap()).unwrap().unwrap()
    }

    fn allocated(file: &File) -> u64 {
        std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap()) * 512
    }

    fn assert_same(disk: &BlankDisk, copy: &File) {
        assert_eq!(copy.metadata().unwrap().len(), BOX_DISK_BYTES);
        assert_eq!(sparse::extents(copy, EXTENTS_LIMIT).unwrap(), disk.extents);
        for extent in &disk.extents {
            let size = (extent.end - extent.start) as usize;
            let (mut ours, mut theirs) = (vec![0; size], vec![0; size]);
            disk.file.read_exact_at(&mut ours, extent.start).unwrap();
            copy.read_exact_at(&mut theirs, extent.start).unwrap();
            assert!(ours == theirs, "{extent:?}");
        }
    }

    fn sparse_file() -> File {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(allocated(&file), 0);
        file
    }

    #[test]
    fn a_copy_has_the_data_the_holes_and_the_size() {
        let directory = tempfile::tempdir().unwrap();
        let disk = blank(directory.path());
        let copy = sparse_file();
        disk.copy_to(&copy).unwrap();
        assert_same(&disk, &copy);
        assert!(allocated(&copy) < 1 << 20);
    }

    #[test]
    fn a_copy_across_file_systems_is_made_by_hand() {
        let directory = tempfile::tempdir().unwrap();
        let disk = blank(directory.path());
        let copy =
            File::from(rustix::fs::memfd_create("copy", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
        disk.copy_to(&copy).unwrap();
        assert_same(&disk, &copy);
    }

    #[test]
    fn copies_at_the_same_time_do_not_disturb_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let disk = blank(directory.path());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let copy = sparse_file();
                    disk.copy_to(&copy).unwrap();
                    assert_same(&disk, &copy);
                });
            }
        });
    }

    #[test]
    fn a_disk_of_another_size_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let stores = Stores::new(directory.path());
        assert!(matches!(BlankDisk::find(&stores), Err(Error::NoDisk { .. })));
        let path = directory.path().join(PLACE);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create(&path).unwrap().write_all(b"cut short").unwrap();
        assert!(matches!(BlankDisk::find(&stores), Err(Error::NoDisk { .. })));
    }

    #[test]
    fn the_disk_is_small_sound_journalled_and_has_roots_directories() {
        let directory = tempfile::tempdir().unwrap();
        let stores = Stores::new(directory.path());
        let mut told = Vec::new();
        let disk = match BlankDisk::ensure(&stores, &mut |step| told.push(step)) {
            Err(Error::MissingHelper { program, .. }) => {
                eprintln!("skipped: {program} is not installed here");
                return;
            }
            result => result.unwrap(),
        };
        assert_eq!(told, [Progress::MakingDisk]);
        assert!(disk.data_bytes() < 1_500_000, "{} bytes of data", disk.data_bytes());
        assert!(allocated(&disk.file) < 1_500_000, "{} bytes", allocated(&disk.file));
        assert_eq!(disk.file.metadata().unwrap().len(), BOX_DISK_BYTES);

        let path = directory.path().join("copy");
        disk.copy_to(&File::create(&path).unwrap()).unwrap();
        run(helper("e2fsck").args(["-f", "-n"]).arg(&path), HELPER_TIME, None).unwrap();
        let (features, _) = run(helper("dumpe2fs").arg(&path), HELPER_TIME, None).unwrap();
        assert!(features.contains("has_journal"), "{features}");
        // The guest's kernel need not zero any inode table.
        let groups = features.matches("\nGroup ").count();
        assert_eq!(features.matches("ITABLE_ZEROED").count(), groups);
        for name in ["upper", "work"] {
            let stat = format!("stat {name}");
            let mut debugfs = helper("debugfs");
            let (said, _) = run(debugfs.args(["-R", &stat]).arg(&path), HELPER_TIME, None).unwrap();
            assert!(said.contains("User:     0   Group:     0"), "{said}");
        }
        assert!(!directory.path().join("setup.tmp").exists());
    }
}
