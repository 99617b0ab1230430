//! A home on a file system of its own, so small that it gets full. Only root can make one.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::{Invocation, Lab};

/// The home of a lab, on a small file system until this is dropped.
#[derive(Debug)]
pub struct SmallHome {
    path: PathBuf,
}

impl SmallHome {
    /// Mounts a file system of this size, in the words of mount(8), where the lab's home is.
    ///
    /// # Panics
    /// When it can't be mounted.
    #[track_caller]
    pub fn mount(lab: &Lab, size: &str) -> SmallHome {
        SmallHome::mount_at(lab.home(), size)
    }

    /// The same for its snapshots alone.
    ///
    /// # Panics
    /// When it can't be mounted.
    #[track_caller]
    pub fn of_snapshots(lab: &Lab, size: &str) -> SmallHome {
        SmallHome::mount_at(&lab.home().join("snapshots"), size)
    }

    #[track_caller]
    fn mount_at(path: &Path, size: &str) -> SmallHome {
        let path = path.to_owned();
        fs::create_dir_all(&path).expect("the home can be made");
        let options = format!("size={size},mode=700");
        let mount = Invocation::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]);
        drop(mount.args([&path]).output().exits(0));
        SmallHome { path }
    }

    /// Fills it to the last byte.
    ///
    /// # Panics
    /// When not even an empty file can be made.
    pub fn fill(&self) {
        let mut ballast = File::create(self.path.join("ballast")).expect("a name has room");
        for size in [4096, 1] {
            while ballast.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// Fills it but for so many bytes.
    ///
    /// # Panics
    /// When not even an empty file can be made.
    pub fn fill_but(&self, bytes: u64) {
        self.fill();
        let ballast = File::options().write(true).open(self.path.join("ballast"));
        let ballast = ballast.expect("it was made");
        let all = ballast.metadata().expect("it is open").len();
        ballast.set_len(all.saturating_sub(bytes)).expect("what is shorter has room");
    }

    /// Empties it of what filled it.
    ///
    /// # Panics
    /// When that can't be removed.
    pub fn make_room(&self) {
        fs::remove_file(self.path.join("ballast")).expect("it was filled");
    }

    /// What is in one of its directories.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path.join(folder)).into_iter().flatten();
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SmallHome {
    fn drop(&mut self) {
        // What still uses it is found, and named, by the look at what was left behind.
        let _ = Invocation::new("umount").args([self.path()]).output();
    }
}
