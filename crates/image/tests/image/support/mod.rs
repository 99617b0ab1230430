//! Builds archives, good and bad, byte by byte; and an EROFS reader of its own to see what became
//! of them. Used by the integration tests.

pub(crate) mod archive;
pub(crate) mod erofs;
pub(crate) mod tools;

use std::error::Error;
use std::io::Cursor;

use boxwood_image::{Image, ImageError, ImageStore, Loaded, Source};
use tempfile::TempDir;

/// A store in a directory of its own.
pub(crate) struct Scratch {
    pub(crate) dir: TempDir,
    pub(crate) store: ImageStore,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(&dir.path().join("store")).unwrap();
        Scratch { dir, store }
    }

    /// A store in memory, for tests that write thousands of images: nothing is synced to a disk.
    pub(crate) fn in_memory() -> Self {
        let Ok(dir) = tempfile::tempdir_in("/dev/shm") else { return Scratch::new() };
        let store = ImageStore::open(&dir.path().join("store")).unwrap();
        Scratch { dir, store }
    }

    /// Loads an archive from a file.
    pub(crate) fn load(&self, archive: &[u8]) -> Result<Vec<Loaded>, ImageError> {
        let path = self.dir.path().join("archive.tar");
        std::fs::write(&path, archive).unwrap();
        self.store.load(Source::Path(path), &mut |_| {})
    }

    /// Loads an archive from a stream.
    pub(crate) fn load_stream(&self, archive: &[u8]) -> Result<Vec<Loaded>, ImageError> {
        let stream = Box::new(Cursor::new(archive.to_vec()));
        self.store.load(Source::Stream(stream), &mut |_| {})
    }

    /// Loads an archive with one image and gives the image.
    pub(crate) fn image(&self, archive: &[u8]) -> Image {
        let loaded = self.load(archive).unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!(loaded.len(), 1);
        self.store.resolve(loaded[0].id.as_str()).unwrap()
    }

    /// Loads an image with these layers and reads it back, after `fsck.erofs` had a look at it.
    pub(crate) fn tree(&self, layers: &[Vec<u8>]) -> erofs::Tree {
        let image = self.image(&archive::docker(&[(&["test:tree"], layers)]));
        tools::fsck(image.block());
        erofs::Tree::read(image.block())
    }

    /// The one line a user would see for loading this, and that nothing has changed.
    pub(crate) fn refusal(&self, archive: &[u8]) -> String {
        let before = self.files();
        let error = self.load(archive).expect_err("it was loaded");
        let line = chain(&error);
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.len() < 1200, "{line}");
        assert_eq!(self.files(), before, "{line}");
        line
    }

    /// All files of the store but its lock.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut pending = vec![self.store.dir().to_owned()];
        while let Some(dir) = pending.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    pending.push(path);
                } else if !path.ends_with("lock") {
                    files.push(path.display().to_string());
                }
            }
        }
        files.sort();
        files
    }
}

/// An error as the command line shows it.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        line.push_str(": ");
        line.push_str(&error.to_string());
        source = error.source();
    }
    line
}
