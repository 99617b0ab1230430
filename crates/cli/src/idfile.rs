//! `--cidfile`: the file that the ID of a new box is written to. Used by `run` and `create`.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};

/// A file that was made for an ID. Dropped without one, it is removed.
#[derive(Debug)]
pub(crate) struct IdFile {
    reserved: Option<(PathBuf, File)>,
}

impl IdFile {
    /// Makes the file, if one is wished for; one that is there already may be another box's.
    pub(crate) fn reserve(path: Option<PathBuf>) -> anyhow::Result<IdFile> {
        let Some(path) = path else { return Ok(IdFile { reserved: None }) };
        match File::create_new(&path) {
            Ok(file) => Ok(IdFile { reserved: Some((path, file)) }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => bail!(
                "the file {} exists: make sure that no box needs it and remove it, or give --cidfile another",
                path.display()
            ),
            Err(error) => {
                Err(error).with_context(|| format!("can't make the file {}", path.display()))
            }
        }
    }

    /// Writes the ID of the box that was made.
    pub(crate) fn write(mut self, id: &str) -> anyhow::Result<()> {
        let Some((path, file)) = &mut self.reserved else { return Ok(()) };
        file.write_all(id.as_bytes()).with_context(|| {
            format!("box {id} was made, but its ID can't be written to {}", path.display())
        })?;
        self.reserved = None;
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if let Some((path, _)) = &self.reserved {
            let _ = fs::remove_file(path);
        }
    }
}
