//! The box's root file system: its image below, what it writes above, the kernel's views in it.
//! Called by `guest` when main is to be started, which is after the rebirth, or ahead of that for a
//! template that is kept for one image.
//!
//! ```text
//! overlay = /run/own (identity, mount points) : /image (erofs, read-only), writes to /disk (ext4)
//! ```
//!
//! `/run/own` saves what Docker does with a bind mount for each of `/etc/hostname`, `/etc/hosts`,
//! `/etc/resolv.conf`, and makes a mount point for each of `/proc`, `/sys` and `/dev` whatever the
//! image has there: a directory of a higher layer hides a file or a symbolic link of a lower one, so
//! no path of the image is ever followed here.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use boxwood_wire::message::Leaving;
use boxwood_wire::preface::MAX_WARM;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, mount, move_mount};

use crate::boot::disks::Disks;
use crate::boot::mounts::Prepared;
use crate::fault::{Fault, Step};

/// Files of the box's own layer that a write in the box may have copied to its disk. As with Docker
/// they are new at each start.
const REFRESHED: [&str; 4] = ["hostname", "hosts", "machine-id", "resolv.conf"];

/// What starts read: of users, of the dynamic linker, of shells.
const WARMED: [&str; 8] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/ld.so.cache",
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib64/libc.so.6",
    "/lib/ld-musl-x86_64.so.1",
    "/bin/sh",
];
/// How much of a file is read ahead at most.
const WARM_BYTES: usize = 4 << 20;

/// The root file system of the box, on top of everything.
pub(crate) struct Root {
    root: OwnedFd,
    disk: OwnedFd,
}

impl Root {
    /// Puts it together.
    pub(crate) fn assemble(
        disks: &Disks,
        prepared: &Prepared,
        leaving: Leaving,
    ) -> Result<Root, Fault> {
        mount(disks.image, "/image", "erofs", MountFlags::RDONLY, c"")
            .step("mount the image as erofs")?;
        mount(disks.disk, "/disk", "ext4", MountFlags::NOATIME, disk_options(leaving))
            .step("mount the box's disk as ext4")?;
        let disk = open_folder("/disk")?;
        refresh_identity()?;
        resemble_image()?;
        mount("overlay", "/newroot", "overlay", MountFlags::NOATIME, OVERLAY)
            .step("mount the overlay of image and disk")?;
        let root = open_folder("/newroot")?;
        // Over "/", so that the kernel takes it for the root of this mount namespace and not for a
        // chroot, in which nobody may make a user namespace.
        attach(root.as_fd(), rustix::fs::CWD, "/")?;
        attach(prepared.proc.as_fd(), root.as_fd(), "proc")?;
        attach(prepared.sys.as_fd(), root.as_fd(), "sys")?;
        attach(prepared.dev.as_fd(), root.as_fd(), "dev")?;
        Ok(Root { root, disk })
    }

    /// A descriptor of its top directory.
    pub(crate) fn top(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Writes what the mounts have changed, so that it is not written again in each copy of this
    /// memory.
    pub(crate) fn settle(&self) -> Result<(), Fault> {
        self.disk().and_then(rustix::fs::syncfs).step("write the box's disk")
    }

    /// Reads what is there of what nearly every start reads, and of `paths`, so that it is in memory
    /// when that is frozen.
    pub(crate) fn warm(&self, paths: &[Vec<u8>], scratch: &mut [u8]) {
        let usual = WARMED.iter().map(|path| path.as_bytes());
        for path in usual.chain(paths.iter().take(MAX_WARM).map(Vec::as_slice)) {
            // What can't be read now is read, or missed, when it is needed.
            let _ = self.read_ahead(path, scratch);
        }
    }

    fn read_ahead(&self, path: &[u8], scratch: &mut [u8]) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file = rustix::fs::openat2(&self.root, path, flags, Mode::empty(), inside)?;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let mut left = WARM_BYTES;
        while left > 0 {
            match rustix::io::read(&file, &mut *scratch)? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        Ok(())
    }

    /// A descriptor of the disk beneath it, opened for `leaving`.
    pub(crate) fn disk(&self) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(
            &self.disk,
            c".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
    }
}

/// No thread that initializes or reads ahead what nobody asked for. And no flushes for a disk that is
/// thrown away with its box.
fn disk_options(leaving: Leaving) -> &'static CStr {
    match leaving {
        Leaving::Flush => c"noinit_itable,no_prefetch_block_bitmaps",
        Leaving::Discard => c"noinit_itable,no_prefetch_block_bitmaps,nobarrier",
    }
}

/// No redirects and no metacopies: an image's extended attributes could name other files with them.
const OVERLAY: &CStr = c"lowerdir=/run/own:/image,upperdir=/disk/upper,workdir=/disk/work,\
    xino=off,index=off,metacopy=off,redirect_dir=nofollow";

/// Gives the directories that hide some of the image's the mode and the owner that the image's have.
fn resemble_image() -> Result<(), Fault> {
    resemble("/run/own/etc", "/image/etc")?;
    // The top directory is the disk's, and the box's own from the first overlay on, which makes this.
    if std::fs::exists("/disk/work/work").step("look at work/work of the box's disk")? {
        return Ok(());
    }
    resemble("/disk/upper", "/image")
}

fn resemble(own: &'static str, image: &'static str) -> Result<(), Fault> {
    let theirs = match rustix::fs::lstat(image) {
        Ok(theirs) if FileType::from_raw_mode(theirs.st_mode) == FileType::Directory => theirs,
        // There is none to resemble.
        Ok(_) | Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno).step_with(|| format!("look at {image}")),
    };
    let (user, group) = (Uid::from_raw(theirs.st_uid), Gid::from_raw(theirs.st_gid));
    rustix::fs::chown(own, Some(user), Some(group))
        .and_then(|()| rustix::fs::chmod(own, Mode::from_raw_mode(theirs.st_mode)))
        .step_with(|| format!("give {own} the mode and owner of {image}"))
}

/// Removes what an earlier run of this box left of the files it is given anew.
fn refresh_identity() -> Result<(), Fault> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let upper = open_folder("/disk/upper")?;
    let etc = match rustix::fs::openat2(&upper, c"etc", flags, Mode::empty(), inside) {
        Ok(etc) => etc,
        // Nothing in /etc was ever written, or it is no directory any more: nothing to remove.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(errno) => return Err(errno).step("open upper/etc of the box's disk"),
    };
    for name in REFRESHED {
        match rustix::fs::unlinkat(&etc, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => {}
            Err(errno) => {
                return Err(errno)
                    .step_with(|| format!("remove upper/etc/{name} of the box's disk"));
            }
        }
    }
    Ok(())
}

fn open_folder(path: &'static str) -> Result<OwnedFd, Fault> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).step_with(|| format!("open {path}"))
}

/// Moves a mount. The last component of the target is not followed if it is a symbolic link.
fn attach(
    mounted: BorrowedFd<'_>,
    folder: BorrowedFd<'_>,
    name: &'static str,
) -> Result<(), Fault> {
    move_mount(mounted, c"", folder, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .step_with(|| format!("move a mount to {name} of the box's root"))
}
