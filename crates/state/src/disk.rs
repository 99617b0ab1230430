//! The files of a box's disk: one, or one over layers that nobody changes any more. Part of
//! [`BoxDir`](crate::BoxDir); used by shims, which open them, and when a box is captured.
//!
//! ```text
//! disk        what the box writes to
//! layers/N    what shows through where that has nothing, the lowest first
//! disk.new    an empty overlay, until it is the disk
//! layers.new  the layers of a new box, until all of them are there
//! ```
//!
//! What was the disk becomes the uppermost layer, and the overlay the disk, in two renames. Between them
//! there is no disk, and the overlay is completed to it by whoever looks next. At every moment the box's
//! data is in what is there: the overlay is empty, and QEMU writes to the old file until it is told.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::failpoint;

/// Where a box's disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFiles {
    /// What the box writes to.
    pub top: PathBuf,
    /// The layers below it, the lowest first.
    pub below: Vec<PathBuf>,
}

/// The files of the disk in a box's directory, made whole.
pub(crate) fn files(dir: &Path) -> io::Result<DiskFiles> {
    let (top, new) = (dir.join("disk"), dir.join("disk.new"));
    let layer = |number: usize| layers(dir).join(number.to_string());
    let below: Vec<PathBuf> = (0..).map(layer).take_while(|path| path.exists()).collect();
    if !top.exists() && !below.is_empty() && new.exists() {
        fs::rename(&new, &top)?;
    }
    Ok(DiskFiles { top, below })
}

/// Where the layers are.
pub(crate) fn layers(dir: &Path) -> PathBuf {
    dir.join("layers")
}

/// Whether nothing is on its way.
pub(crate) fn is_settled(dir: &Path) -> bool {
    !dir.join("disk.new").exists()
}

/// Takes away what a switch that did not come to pass has left.
pub(crate) fn settle(dir: &Path) -> io::Result<()> {
    match files(dir)?.top.exists() {
        true => unless_gone(fs::remove_file(dir.join("disk.new"))),
        false => Ok(()),
    }
}

/// Makes the directory for the layers of a new box.
pub(crate) fn begin_layers(dir: &Path) -> io::Result<PathBuf> {
    let path = dir.join("layers.new");
    fs::create_dir(&path)?;
    Ok(path)
}

/// The layers are all there, and the new overlay is the disk: before, a new box has none.
pub(crate) fn take_layers(dir: &Path) -> io::Result<()> {
    fs::rename(dir.join("layers.new"), layers(dir))?;
    failpoint("disk: layers taken");
    files(dir).map(drop)
}

/// The new file is the disk of a new box, with nothing below it.
pub(crate) fn take_new(dir: &Path) -> io::Result<()> {
    fs::rename(dir.join("disk.new"), dir.join("disk"))
}

fn unless_gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes an empty file for an overlay, in the place of one that was not used.
pub(crate) fn new_overlay(dir: &Path) -> io::Result<fs::File> {
    let path = dir.join("disk.new");
    unless_gone(fs::remove_file(&path))?;
    let mut options = fs::File::options();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.read(true).write(true).create_new(true).open(path)
}

/// The disk becomes a layer, and the overlay the disk.
pub(crate) fn push(dir: &Path) -> io::Result<()> {
    let DiskFiles { top, below } = files(dir)?;
    fs::create_dir_all(layers(dir))?;
    fs::rename(&top, layers(dir).join(below.len().to_string()))?;
    failpoint("disk: made a layer");
    fs::rename(dir.join("disk.new"), top)
}

/// The uppermost layer is the disk again; nothing was written to the overlay.
pub(crate) fn pop(dir: &Path) -> io::Result<()> {
    let DiskFiles { top, below } = files(dir)?;
    let last = below.last().ok_or(io::ErrorKind::NotFound)?;
    fs::rename(last, top)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    fn overlay(dir: &Path, text: &str) {
        new_overlay(dir).unwrap();
        fs::write(dir.join("disk.new"), text).unwrap();
    }

    #[test]
    fn s2_a_disk_becomes_a_layer_and_back() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        fs::write(dir.join("disk"), "raw").unwrap();
        assert!(files(dir).unwrap().below.is_empty());
        for (number, name) in ["one", "two"].into_iter().enumerate() {
            overlay(dir, name);
            push(dir).unwrap();
            let now = files(dir).unwrap();
            assert_eq!((now.below.len(), text(&now.top).as_str()), (number + 1, name));
        }
        assert_eq!(text(&files(dir).unwrap().below[0]), "raw");
        pop(dir).unwrap();
        let now = files(dir).unwrap();
        assert_eq!((now.below.len(), text(&now.top).as_str()), (1, "one"));
    }

    #[test]
    fn s2_a_switch_that_was_cut_off_is_completed() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        fs::write(dir.join("disk"), "raw").unwrap();
        overlay(dir, "new");
        // Before the first rename nothing has happened, after it the disk is found.
        assert_eq!(text(&files(dir).unwrap().top), "raw");
        fs::create_dir(layers(dir)).unwrap();
        fs::rename(dir.join("disk"), layers(dir).join("0")).unwrap();
        let now = files(dir).unwrap();
        assert_eq!((now.below.len(), text(&now.top).as_str()), (1, "new"));
    }

    #[test]
    fn s2_what_a_switch_has_left_goes_and_the_disk_stays() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        fs::write(dir.join("disk"), "raw").unwrap();
        overlay(dir, "new");
        assert!(!is_settled(dir));
        settle(dir).unwrap();
        assert!(is_settled(dir));
        assert_eq!(text(&files(dir).unwrap().top), "raw");
        settle(dir).unwrap();
    }

    #[test]
    fn s3_a_new_box_has_no_disk_before_it_has_all_of_its_layers() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let half = begin_layers(dir).unwrap();
        fs::write(half.join("0"), "raw").unwrap();
        overlay(dir, "");
        let now = files(dir).unwrap();
        assert!(now.below.is_empty() && !now.top.exists());
        take_layers(dir).unwrap();
        let now = files(dir).unwrap();
        assert_eq!((now.below.len(), now.top.exists()), (1, true));
    }
}
