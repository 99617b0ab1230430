//! `-e` and `--env-file`: Docker's format. Used by `run` and `exec`.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The largest file, in bytes: more than any process can take as its environment.
const MAX: u64 = 4 << 20;

/// What editors put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The settings in a file: `NAME=value`, or `NAME` for the caller's own value, if there is one. Blank lines
/// and those that start with `#` are passed over; there is no quoting.
fn read(path: &Path) -> anyhow::Result<Vec<OsString>> {
    let named = || format!("can't read the environment file {}", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(named)?;
    file.take(MAX + 1).read_to_end(&mut bytes).with_context(named)?;
    if bytes.len() as u64 > MAX {
        bail!("the environment file {} is larger than {MAX} bytes", path.display());
    }
    let mut settings = Vec::new();
    let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let name = line.split(|byte| *byte == b'=').next().unwrap_or_default();
        if name.is_empty() || name.iter().any(u8::is_ascii_whitespace) || line.contains(&0) {
            bail!("{}, line {}: write NAME=value or NAME", path.display(), number + 1);
        }
        settings.push(OsString::from_vec(line.to_vec()));
    }
    // As with Docker, only `-e` takes a name away.
    let mut settings = with_own_values(settings);
    settings.retain(|setting| setting.as_encoded_bytes().contains(&b'='));
    Ok(settings)
}

/// What `--env-file` and `-e` say together: files first, then the settings, each with its value.
pub(crate) fn settings(files: &[PathBuf], own: Vec<OsString>) -> anyhow::Result<Vec<OsString>> {
    let mut env = Vec::new();
    for file in files {
        env.extend(read(file)?);
    }
    env.extend(own);
    Ok(with_own_values(env))
}

/// Gives each bare `NAME` the caller's own value. One that the caller does not have stays bare, which
/// takes the image's away.
fn with_own_values(settings: Vec<OsString>) -> Vec<OsString> {
    let complete = |setting: OsString| {
        if setting.as_encoded_bytes().contains(&b'=') {
            return setting;
        }
        match std::env::var_os(&setting) {
            Some(value) => {
                let mut whole = setting;
                whole.push("=");
                whole.push(value);
                whole
            }
            None => setting,
        }
    };
    settings.into_iter().map(complete).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g7_a_name_in_a_file_that_the_caller_does_not_have_takes_nothing_away() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "\u{feff}A=1\nSURELY_NOT_SET_BY_ANYBODY\n").unwrap();
        let own = vec!["SURELY_NOT_SET_BY_ANYBODY".into()];
        let joined = settings(&[file.path().to_owned()], own.clone()).unwrap();
        assert_eq!(joined, ["A=1".into(), own[0].clone()]);
    }
}
