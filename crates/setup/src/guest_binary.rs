//! Finds the guest: the static binary that is PID 1 in every box. Called by `assets`.

use std::env;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::elf::{Elf, PT_INTERP};
use crate::error::{ElfFault, Error};
use crate::store::{FileStamp, read_bounded};

const NAME: &str = "boxwood-guest";
/// It has a few MiB; a debug build some tens.
const LIMIT: u64 = 256 << 20;
/// Linkers put the program headers right behind the file header.
const HEAD: u64 = 4096;

/// A guest binary that is there and static.
#[derive(Debug)]
pub(crate) struct GuestBinary {
    pub(crate) path: PathBuf,
    pub(crate) stamp: FileStamp,
}

impl GuestBinary {
    /// The one the user named, or else the first static one of [`candidates`].
    pub(crate) fn find(named: Option<&Path>) -> Result<Self, Error> {
        match named {
            Some(path) => {
                Self::check(path)?.ok_or_else(|| Error::NoGuest { tried: vec![path.to_owned()] })
            }
            None => {
                let program = env::current_exe()
                    .map_err(|source| Error::Stat { path: "/proc/self/exe".into(), source })?;
                Self::first_of(candidates(&program))
            }
        }
    }

    /// A dynamic one is passed over while there is another: a plain `cargo build` of the
    /// workspace leaves one beside the CLI.
    fn first_of(candidates: Vec<PathBuf>) -> Result<Self, Error> {
        let mut refused = None;
        for path in &candidates {
            match Self::check(path) {
                Ok(Some(guest)) => return Ok(guest),
                Ok(None) => {}
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or(Error::NoGuest { tried: candidates }))
    }

    fn check(path: &Path) -> Result<Option<Self>, Error> {
        let Some(stamp) = FileStamp::of(path)? else { return Ok(None) };
        let mut head = Vec::new();
        File::open(path)
            .and_then(|file| file.take(HEAD).read_to_end(&mut head))
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        match is_dynamic(&head) {
            Ok(false) => Ok(Some(GuestBinary { path: path.to_owned(), stamp })),
            Ok(true) => Err(Error::GuestNotStatic { path: path.to_owned() }),
            Err(source) => Err(Error::BadGuest { path: path.to_owned(), source }),
        }
    }

    /// All of it.
    pub(crate) fn read(&self) -> Result<Vec<u8>, Error> {
        read_bounded(&self.path, LIMIT)
    }
}

fn is_dynamic(head: &[u8]) -> Result<bool, ElfFault> {
    Elf::parse(head)?.has_segment(PT_INTERP)
}

/// Beside the program, in the library directory of an installation, or where cargo puts it:
/// `target/<triple>/release/boxwood-guest` for `target/release/boxwood`.
fn candidates(program: &Path) -> Vec<PathBuf> {
    let Some(mut directory) = program.parent() else { return Vec::new() };
    let mut found = vec![directory.join(NAME), directory.join("../lib/boxwood").join(NAME)];
    // Tests and examples lie one level deeper than programs.
    if directory.ends_with("deps") || directory.ends_with("examples") {
        directory = directory.parent().unwrap_or(directory);
    }
    if let (Some(target), Some(profile)) = (directory.parent(), directory.file_name()) {
        found.push(target.join("x86_64-unknown-linux-gnu").join(profile).join(NAME));
    }
    found
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use super::*;
    use crate::elf::tests::sample;

    pub(crate) fn static_binary() -> Vec<u8> {
        sample(&[(1, b"code")], &[])
    }

    fn dynamic_binary() -> Vec<u8> {
        sample(&[(PT_INTERP, b"/lib64/ld-linux-x86-64.so.2\0"), (1, b"code")], &[])
    }

    #[test]
    fn a_static_guest_is_found_in_cargos_directory_past_a_dynamic_one() {
        let target = tempfile::tempdir().unwrap();
        let place = target.path().join("x86_64-unknown-linux-gnu/debug");
        fs::create_dir_all(&place).unwrap();
        fs::create_dir_all(target.path().join("debug/examples")).unwrap();
        fs::write(place.join(NAME), static_binary()).unwrap();
        fs::write(target.path().join("debug").join(NAME), dynamic_binary()).unwrap();
        for program in ["debug/boxwood", "debug/examples/assets"] {
            let guest = GuestBinary::first_of(candidates(&target.path().join(program))).unwrap();
            assert_eq!(guest.path, place.join(NAME));
        }
    }

    #[test]
    fn a_dynamic_guest_is_refused_with_how_to_build_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        fs::write(&path, dynamic_binary()).unwrap();
        let error = GuestBinary::find(Some(&path)).unwrap_err();
        assert!(matches!(error, Error::GuestNotStatic { .. }), "{error}");
        assert!(error.to_string().contains("crt-static"), "{error}");
    }

    #[test]
    fn a_script_and_a_missing_file_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        let error = GuestBinary::find(Some(&path)).unwrap_err();
        assert!(matches!(error, Error::NoGuest { .. }), "{error}");
        fs::write(&path, b"#!/bin/sh\n").unwrap();
        let error = GuestBinary::find(Some(&path)).unwrap_err();
        assert!(matches!(error, Error::BadGuest { .. }), "{error}");
    }
}
