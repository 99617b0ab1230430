//! Small facts that cost time to find out, kept in a directory as JSON: the accelerator's verdict,
//! the engine's check, the clock's rate. Called by `accel`, `engine`, `host` and `template`.
//!
//! A cache may always be lost, so nothing here fails: what can't be read is found out again.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::host;

/// The longest file that is read back, in bytes.
const LONGEST: u64 = 64 * 1024;

/// A fact that holds until the host boots again.
#[derive(Serialize, Deserialize)]
struct PerBoot<T> {
    boot_id: String,
    fact: T,
}

/// A fact stored by [`put`], if there is one that reads as `T`.
pub(crate) fn get<T: DeserializeOwned>(dir: &Path, name: &str) -> Option<T> {
    let bytes = read_bounded(&dir.join(name)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Stores a fact for every later process.
pub(crate) fn put<T: Serialize>(dir: &Path, name: &str, fact: &T) {
    // Without the directory, or the right to write in it, the fact is found out again next time.
    let _ = fs::create_dir_all(dir);
    let _ = replace(&dir.join(name), fact);
}

/// Like [`get`], for a fact stored since the host booted.
pub(crate) fn get_this_boot<T: DeserializeOwned>(dir: &Path, name: &str) -> Option<T> {
    let stored: PerBoot<T> = get(dir, name)?;
    (stored.boot_id == host::boot_id().ok()?).then_some(stored.fact)
}

/// Stores a fact that the next boot of the host makes void.
pub(crate) fn put_this_boot<T: Serialize>(dir: &Path, name: &str, fact: &T) {
    if let Ok(boot_id) = host::boot_id() {
        put(dir, name, &PerBoot { boot_id, fact });
    }
}

/// Reads a small file, refusing one that is not small.
pub(crate) fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(io::Error::other("the file is too long"));
    }
    Ok(bytes)
}

/// Replaces a file with `value` as JSON, so that every reader sees the old or the new one.
/// It is not forced to the disk: after a crash of the host the boot id differs anyway.
pub(crate) fn replace<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let mut file = File::create(&temporary)?;
    let result =
        file.write_all(&serde_json::to_vec(value)?).and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_of_this_boot_is_found_and_one_of_another_is_not() {
        let dir = tempfile::tempdir().unwrap();
        put_this_boot(dir.path(), "fact", &7);
        assert_eq!(get_this_boot(dir.path(), "fact"), Some(7));
        put(dir.path(), "fact", &PerBoot { boot_id: "another".into(), fact: 7 });
        assert_eq!(get_this_boot::<i32>(dir.path(), "fact"), None);
    }

    #[test]
    fn a_file_that_is_no_fact_is_no_fact() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("fact"), "{").unwrap();
        assert_eq!(get::<i32>(dir.path(), "fact"), None);
        fs::write(dir.path().join("fact"), vec![b' '; LONGEST as usize + 1]).unwrap();
        assert!(read_bounded(&dir.path().join("fact")).is_err());
    }
}
