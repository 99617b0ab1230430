//! Walks a directory into an image, without following a symbolic link. Called by import.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Statx, StatxFlags};

use crate::erofs::WriteError;
use crate::layer::{self, LayerError};
use crate::limits;
use crate::store::{Build, Progress};
use crate::tree::{EntryPath, Leaf, Meta, NewNode, TreeError};

/// Why a directory can't be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file can't be read.
    #[error("can't {doing} {path}")]
    Read {
        /// The step.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// A file changed while it was read.
    #[error("{0} changed while it was read; import a directory that nobody writes to")]
    Changed(PathBuf),
    /// Something that fits no image.
    #[error("{path} fits no image")]
    Tree {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: TreeError,
    },
    /// An attribute or device that fits no image.
    #[error("{path} fits no image")]
    Entry {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// The block image can't be written.
    #[error("the content of {path} can't be stored")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: WriteError,
    },
}

/// Names and values.
type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// Imports all of a directory.
pub(super) fn import(
    root: &Path,
    build: &mut Build,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), ImportError> {
    build.tree.begin_layer();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(root, flags, Mode::empty()).map_err(|error| ImportError::Read {
        doing: "open",
        path: root.to_owned(),
        source: error.into(),
    })?;
    let mut walk = Walk { root, build, progress, seen: HashMap::new() };
    let stat = walk.stat(fd.as_fd(), b"", Path::new(""))?;
    let meta = walk.meta(&format!("/proc/self/fd/{}/.", fd.as_raw_fd()), &stat, Path::new(""))?;
    walk.put(&EntryPath::root(), meta, NewNode::Directory)?;
    walk.directory(fd, &EntryPath::root(), Path::new(""))
}

struct Walk<'a> {
    root: &'a Path,
    build: &'a mut Build,
    progress: &'a mut dyn FnMut(Progress),
    /// Files with several names, by device and inode.
    seen: HashMap<(u32, u32, u64), EntryPath>,
}

impl Walk<'_> {
    /// Everything in a directory. One descriptor is open per level, of which there are at most
    /// [`limits::DEPTH`].
    fn directory(&mut self, fd: OwnedFd, at: &EntryPath, path: &Path) -> Result<(), ImportError> {
        let listed = Dir::read_from(&fd).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name().to_owned())).collect()
        });
        let mut names: Vec<std::ffi::CString> =
            listed.map_err(|error| self.read("list", path, error.into()))?;
        names.retain(|name| !matches!(name.to_bytes(), b"." | b".."));
        names.sort();
        for name in names {
            let name = name.to_bytes();
            let path = path.join(std::ffi::OsStr::from_bytes(name));
            let at = at.join(name).map_err(|source| self.tree(&path, source))?;
            self.entry(&fd, name, &at, &path)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        at: &EntryPath,
        path: &Path,
    ) -> Result<(), ImportError> {
        let stat = self.stat(parent.as_fd(), name, path)?;
        let identity = (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
        let kind = FileType::from_raw_mode(stat.stx_mode.into());
        let shared = stat.stx_nlink > 1 && kind != FileType::Directory;
        if shared && let Some(first) = self.seen.get(&identity) {
            return self.build.tree.link(at, first).map_err(|source| self.tree(path, source));
        }
        let mut link = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
        link.extend_from_slice(name);
        let meta = self.meta(&link[..], &stat, path)?;
        let number = || {
            let (major, minor) = (stat.stx_rdev_major, stat.stx_rdev_minor);
            layer::device(major, minor).ok_or_else(|| ImportError::Entry {
                path: self.root.join(path),
                source: LayerError::Device { path: path.display().to_string(), major, minor },
            })
        };
        let leaf = match kind {
            FileType::Directory => {
                self.put(at, meta, NewNode::Directory)?;
                if stat.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT) {
                    let (path, reason) = (self.root.join(path), "another file system is mounted");
                    (self.progress)(Progress::Skipped { path, reason });
                    return Ok(());
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(parent, name, flags, Mode::empty());
                let fd = fd.map_err(|error| self.read("open", path, error.into()))?;
                return self.directory(fd, at, path);
            }
            FileType::RegularFile => self.file(parent, name, &stat, path)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new());
                let target = target.map_err(|error| self.read("read", path, error.into()))?;
                layer::symlink(target.to_bytes()).map_err(|source| self.tree(path, source))?
            }
            FileType::CharacterDevice => Leaf::CharDevice(number()?),
            FileType::BlockDevice => Leaf::BlockDevice(number()?),
            FileType::Fifo => Leaf::Fifo,
            FileType::Socket => Leaf::Socket,
            FileType::Unknown => return Err(ImportError::Changed(self.root.join(path))),
        };
        self.put(at, meta, NewNode::Leaf(leaf))?;
        if shared {
            self.seen.insert(identity, at.clone());
        }
        Ok(())
    }

    /// Copies a file's content. It is opened without blocking, and must still be what it was.
    fn file(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        stat: &Statx,
        path: &Path,
    ) -> Result<Leaf, ImportError> {
        let full = || self.root.join(path);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, name, flags, Mode::empty());
        let fd = fd.map_err(|error| self.read("open", path, error.into()))?;
        let now = self.stat(fd.as_fd(), b"", path)?;
        if (now.stx_ino, now.stx_mode, now.stx_size) != (stat.stx_ino, stat.stx_mode, stat.stx_size)
        {
            return Err(ImportError::Changed(full()));
        }
        let store = |source| ImportError::Write { path: self.root.join(path), source };
        let extent = self.build.data.begin(stat.stx_size).map_err(store)?;
        let mut file = File::from(fd).take(stat.stx_size + 1);
        let mut buffer = vec![0; (stat.stx_size.min(1 << 20) + 1) as usize];
        let mut left = stat.stx_size;
        loop {
            let read = file.read(&mut buffer).map_err(|error| self.read("read", path, error))?;
            left = match left.checked_sub(read as u64) {
                Some(left) => left,
                None => return Err(ImportError::Changed(full())),
            };
            if read == 0 {
                break;
            }
            self.build.data.write(&buffer[..read]).map_err(store)?;
        }
        if left > 0 {
            return Err(ImportError::Changed(full()));
        }
        self.build.data.end().map_err(store)?;
        Ok(Leaf::File(extent))
    }

    fn stat(
        &self,
        parent: impl std::os::fd::AsFd,
        name: &[u8],
        path: &Path,
    ) -> Result<Statx, ImportError> {
        let mut flags = AtFlags::SYMLINK_NOFOLLOW;
        if name.is_empty() {
            flags |= AtFlags::EMPTY_PATH;
        }
        rustix::fs::statx(parent, name, flags, StatxFlags::BASIC_STATS)
            .map_err(|error| self.read("look at", path, error.into()))
    }

    /// The metadata of the file that `link` leads to, a path below /proc/self/fd that ends in it.
    fn meta<P: rustix::path::Arg + Copy>(
        &self,
        link: P,
        stat: &Statx,
        path: &Path,
    ) -> Result<Meta, ImportError> {
        let xattrs = self.xattrs(link).map_err(|error| self.read("look at", path, error.into()))?;
        let xattrs = layer::xattrs(path.as_os_str().as_bytes(), &xattrs)
            .map_err(|source| ImportError::Entry { path: self.root.join(path), source })?;
        Ok(Meta {
            mode: stat.stx_mode & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            xattrs,
        })
    }

    fn xattrs<P: rustix::path::Arg + Copy>(
        &self,
        link: P,
    ) -> Result<Attributes, rustix::io::Errno> {
        let mut list = vec![0; 64 << 10];
        let length = match rustix::fs::llistxattr(link, &mut list) {
            Ok(length) => length,
            Err(rustix::io::Errno::OPNOTSUPP) => 0,
            Err(error) => return Err(error),
        };
        let mut xattrs = Vec::new();
        for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::lgetxattr(link, name, &mut value)?;
            value.truncate(length);
            xattrs.push((name.to_vec(), value));
        }
        Ok(xattrs)
    }

    fn put(&mut self, at: &EntryPath, meta: Meta, new: NewNode) -> Result<(), ImportError> {
        let path = || -> PathBuf {
            at.names().iter().map(|name| std::ffi::OsStr::from_bytes(name)).collect()
        };
        self.build.tree.put(at, meta, new).map_err(|source| self.tree(&path(), source))
    }

    fn tree(&self, path: &Path, source: TreeError) -> ImportError {
        ImportError::Tree { path: self.root.join(path), source }
    }

    fn read(&self, doing: &'static str, path: &Path, source: std::io::Error) -> ImportError {
        ImportError::Read { doing, path: self.root.join(path), source }
    }
}

/// The walk keeps one descriptor open per level; the tree refuses deeper ones before that hurts.
const _: () = assert!(limits::DEPTH < 1000);
