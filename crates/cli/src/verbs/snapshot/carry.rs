//! `snapshot export` and `snapshot import`: where an archive goes to, and where it comes from.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use boxwood_api::ImportSnapshot;
use boxwood_types::BoxName;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};

use crate::open_runtime;
use crate::out::{say, tell};
use crate::verbs::load::archive;

/// Where an archive is written to.
enum Target {
    Stdout,
    /// What is there, and is no file.
    Stream(PathBuf),
    /// Not under its name until it is whole.
    File {
        file: File,
        half: Half,
        path: PathBuf,
    },
}

/// A file that is deleted unless it becomes another.
struct Half(PathBuf);

impl Drop for Half {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Target {
    fn of(output: Option<&Path>) -> anyhow::Result<(Target, Box<dyn Write>)> {
        let Some(path) = output else {
            let out = io::stdout();
            if out.is_terminal() {
                bail!("a snapshot is not written to a terminal: use -o or redirect");
            }
            return Ok((Target::Stdout, Box::new(out.lock())));
        };
        // A link stays one: what it leads to is replaced.
        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if path.metadata().is_ok_and(|meta| !meta.is_file()) {
            // A device or a named pipe is no place for another file.
            let file = File::options().write(true).open(path).with_context(|| cant_write(path))?;
            return Ok((Target::Stream(path.clone()), Box::new(file)));
        }
        let mut half = path.as_os_str().to_owned();
        half.push(format!(".{}.tmp", std::process::id()));
        let half = Half(half.into());
        let opened = unfinished(path, &half).and_then(|file| Ok((file.try_clone()?, file)));
        let (out, file) = opened.with_context(|| cant_write(path))?;
        Ok((Target::File { file, half, path: path.clone() }, Box::new(out)))
    }

    /// For `map_err`: what could not be done.
    fn failed(&self, error: anyhow::Error) -> anyhow::Error {
        match self {
            Target::Stdout => error,
            Target::Stream(path) | Target::File { path, .. } => error.context(cant_write(path)),
        }
    }

    /// It is whole.
    fn finish(self) -> anyhow::Result<()> {
        let Target::File { file, half, path } = self else { return Ok(()) };
        let name = || -> io::Result<()> {
            file.sync_all()?;
            if file.metadata()?.nlink() == 0 {
                let own = format!("/proc/self/fd/{}", file.as_raw_fd());
                // Left by one that was killed and had this process's number.
                let _ = fs::remove_file(&half.0);
                // Only a rename takes the place of what is there.
                linkat(CWD, own, CWD, &half.0, AtFlags::SYMLINK_FOLLOW)?;
            }
            fs::rename(&half.0, &path)
        };
        name().with_context(|| cant_write(&path))
    }
}

/// A file that has no name: however this process ends, nothing of it is left. Where the file system has no such
/// files it is `half`.
fn unfinished(path: &Path, half: &Half) -> io::Result<File> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    // It has a box's memory in it.
    match open(folder.unwrap_or(Path::new(".")), flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(file.into()),
        Err(_) => File::options().write(true).create_new(true).mode(0o600).open(&half.0),
    }
}

/// Who read what is exported has gone: an end as a shell knows it, whatever was done with it on the way.
fn hung_up(error: anyhow::Error) -> anyhow::Error {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    match causes.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe) {
        true => io::Error::from(io::ErrorKind::BrokenPipe).into(),
        false => error,
    }
}

fn cant_write(path: &Path) -> String {
    format!("can't write {}", path.display())
}

pub(super) fn export(name: &str, output: Option<&Path>) -> anyhow::Result<()> {
    let runtime = open_runtime()?;
    let snapshot = runtime.find_snapshot(name)?;
    let (target, mut out) = Target::of(output)?;
    let written = runtime.export_snapshot(&snapshot, &mut *out);
    // Nothing else here is a pipe.
    written.map_err(|error| target.failed(hung_up(error.into())))?;
    target.finish()
}

/// The same, asked of a daemon.
pub(super) async fn export_there(
    daemon: &boxwood_client::Client,
    name: &str,
    output: Option<&Path>,
) -> anyhow::Result<()> {
    // Before there is a file: there may be no such snapshot.
    let mut archive = daemon.export_snapshot(name).await?;
    let (target, mut out) = Target::of(output)?;
    // What the daemon could not read is none of the file's.
    while let Some(piece) = archive.next().await? {
        out.write_all(&piece).map_err(|error| target.failed(error.into()))?;
    }
    out.flush().map_err(|error| target.failed(error.into()))?;
    target.finish()
}

pub(super) fn import(input: Option<&Path>, name: Option<&BoxName>) -> anyhow::Result<()> {
    let runtime = open_runtime()?;
    let mut input: Box<dyn Read> = match input {
        Some(path) => {
            let file = File::open(path);
            Box::new(file.with_context(|| format!("can't open {}", path.display()))?)
        }
        None => {
            check_stdin()?;
            Box::new(io::stdin().lock())
        }
    };
    let imported = runtime.import_snapshot(&mut input, name)?;
    tell_imported(imported.snapshot.info.name.as_str(), imported.foreign.as_deref())
}

/// The same, asked of a daemon: the archive is sent to it.
pub(super) async fn import_there(
    daemon: &boxwood_client::Client,
    input: Option<&PathBuf>,
    name: Option<&BoxName>,
) -> anyhow::Result<()> {
    if input.is_none() {
        check_stdin()?;
    }
    let how = ImportSnapshot { name: name.map(ToString::to_string) };
    let imported = daemon.import_snapshot(&how, archive(input)?).await?;
    tell_imported(&imported.name, imported.foreign.as_deref())
}

fn check_stdin() -> anyhow::Result<()> {
    if io::stdin().is_terminal() {
        bail!("there is nothing to import: give a file with -i, or on standard input");
    }
    Ok(())
}

fn tell_imported(name: &str, foreign: Option<&str>) -> anyhow::Result<()> {
    if let Some(why) = foreign {
        tell!(
            "{name} can begin anew here with 'boxwood restore --disk-only', and not go on: {why}"
        );
    }
    say!("{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s1_an_archive_that_is_not_whole_is_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("warm.bxs");
        let there = || {
            let names = fs::read_dir(folder.path()).unwrap();
            names.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()
        };
        let (target, mut out) = Target::of(Some(&path)).unwrap();
        out.write_all(b"half").unwrap();
        // As where it is killed here.
        assert_eq!(there(), [""; 0]);
        drop((target, out));
        assert_eq!(there(), [""; 0]);
        for text in ["one", "another"] {
            let (target, mut out) = Target::of(Some(&path)).unwrap();
            out.write_all(text.as_bytes()).unwrap();
            target.finish().unwrap();
            assert_eq!((fs::read_to_string(&path).unwrap().as_str(), there().len()), (text, 1));
        }
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    }
}
