//! `--label` and `--label-file`: Docker's format. Used by `run`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use boxwood_api::check_label;

/// The largest file, in bytes.
const MAX: u64 = 1 << 20;

/// The labels of the files, then those given one by one; later ones win. Without a value it is empty.
pub(crate) fn read(
    files: &[PathBuf],
    given: Vec<String>,
) -> anyhow::Result<BTreeMap<String, String>> {
    let mut lines = Vec::new();
    for path in files {
        let named = || format!("can't read the label file {}", path.display());
        let mut text = String::new();
        let file = File::open(path).with_context(named)?;
        file.take(MAX + 1).read_to_string(&mut text).with_context(named)?;
        if text.len() as u64 > MAX {
            bail!("the label file {} is larger than {MAX} bytes", path.display());
        }
        let text = text.lines().map(str::trim);
        lines.extend(text.filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_owned));
    }
    lines.extend(given);
    lines.iter().map(|line| parse(line)).collect()
}

fn parse(line: &str) -> anyhow::Result<(String, String)> {
    let (name, value) = line.split_once('=').unwrap_or((line, ""));
    ensure!(!name.is_empty(), "invalid label '{line}': write NAME=VALUE");
    check_label(name).map_err(anyhow::Error::msg)?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_first_and_the_last_value_wins() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# comment\na=1\n\nb\n").unwrap();
        let labels = read(&[file.path().to_owned()], vec!["a=2=3".into()]).unwrap();
        let labels: Vec<_> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(labels, [("a", "2=3"), ("b", "")]);
        assert!(read(&[], vec!["=x".into()]).is_err());
    }

    #[test]
    fn h13_the_names_that_are_not_for_users_are_refused_as_by_a_daemon() {
        let said = read(&[], vec!["boxwood.x=y".into()]).unwrap_err().to_string();
        assert_eq!(said, boxwood_api::check_label("boxwood.x").unwrap_err());
        read(&[], vec!["boxwood=y".into()]).unwrap();
    }
}
