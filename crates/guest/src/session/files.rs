//! Files of the image that PID 1 itself reads: with a bound, and never followed out of the box's root.
//! Called by `session::spawn` and `processes`.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::fault::{Fault, Step};

/// The most that is read of one.
pub(crate) const MAX_FILE: usize = 1 << 20;

/// Reads a file of the image: nothing if it is missing or no regular file within the root.
pub(crate) fn read(root: BorrowedFd<'_>, path: &'static CStr) -> Result<Vec<u8>, Fault> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let step = || format!("read /{}", path.to_string_lossy());
    let file = match rustix::fs::openat2(root, path, flags, Mode::empty(), inside) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => return Ok(Vec::new()),
        Err(errno) => return Err(errno).step_with(step),
    };
    let stat = rustix::fs::fstat(&file).step_with(step)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(Vec::new());
    }
    let size = usize::try_from(stat.st_size).unwrap_or(MAX_FILE).min(MAX_FILE);
    let mut text = vec![0; size];
    let mut filled = 0;
    while filled < size {
        match rustix::io::read(file.as_fd(), &mut text[filled..]).step_with(step)? {
            0 => break,
            count => filled += count,
        }
    }
    text.truncate(filled);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_image_are_read_within_its_root_only() {
        let folder = tempfile::tempdir().unwrap();
        let etc = folder.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        let root = std::fs::File::open(folder.path()).unwrap();
        let read = || read(root.as_fd(), c"etc/passwd").unwrap();
        assert_eq!(read(), b"");
        std::fs::write(etc.join("real"), "inside").unwrap();
        // Absolute for the image, so relative to its root.
        std::os::unix::fs::symlink("/etc/real", etc.join("passwd")).unwrap();
        assert_eq!(read(), b"inside");
        std::fs::remove_file(etc.join("passwd")).unwrap();
        std::os::unix::fs::symlink("/../../../../etc/passwd", etc.join("passwd")).unwrap();
        assert_eq!(read(), b"");
        std::fs::remove_file(etc.join("passwd")).unwrap();
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, etc.join("passwd"), FileType::Fifo, mode, 0).unwrap();
        assert_eq!(read(), b"");
        std::fs::remove_file(etc.join("passwd")).unwrap();
        std::fs::write(etc.join("passwd"), vec![b'x'; MAX_FILE + 5]).unwrap();
        assert_eq!(read().len(), MAX_FILE);
    }
}
