//! What a folder holds at one moment, to be compared with another: "nothing changed" is such a
//! comparison.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The files beneath a folder: kind and permissions, size, time of the last change, link target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree(BTreeMap<PathBuf, String>);

impl Tree {
    /// The tree beneath `folder`, which may not be there. Locks, which are only touched, are left
    /// out.
    pub fn of(folder: &Path) -> Tree {
        let mut files = BTreeMap::new();
        walk(folder, &mut files);
        Tree(files)
    }

    /// It is this tree still.
    ///
    /// # Panics
    /// When it is not, with what differs.
    #[track_caller]
    pub fn is_still(&self, folder: &Path) {
        let now = Tree::of(folder);
        let differs = |one: &Tree, two: &Tree| -> Vec<String> {
            let other = |(path, data): &(&PathBuf, &String)| two.0.get(*path) != Some(*data);
            let changed = one.0.iter().filter(other);
            changed.map(|(path, data)| format!("{} {data}", path.display())).collect()
        };
        let (before, after) = (differs(self, &now), differs(&now, self));
        assert!(
            before.is_empty() && after.is_empty(),
            "{} changed\n  before: {before:#?}\n  after: {after:#?}",
            folder.display()
        );
    }
}

/// What a box that runs writes by itself, at any time: what it counts, its health, its disk.
fn changes_by_itself(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let of_a_box = path.components().any(|part| part.as_os_str() == "boxes");
    of_a_box && (["metrics", "health.json"].contains(&&*name) || name.starts_with("disk"))
}

fn walk(folder: &Path, files: &mut BTreeMap<PathBuf, String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let Ok(data) = fs::symlink_metadata(&path) else { continue };
        if path
            .file_name()
            .is_some_and(|name| name == "lock" || name.to_string_lossy().ends_with(".lock"))
        {
            continue;
        }
        let target = fs::read_link(&path).unwrap_or_default();
        // The size and time of a folder change with files that come and go in between.
        let (size, time) = if data.is_dir() || changes_by_itself(&path) {
            (0, (0, 0))
        } else {
            (data.size(), (data.mtime(), data.mtime_nsec()))
        };
        let text = format!("mode {:o} size {size} time {time:?} {}", data.mode(), target.display());
        files.insert(path.clone(), text);
        if data.is_dir() {
            walk(&path, files);
        }
    }
}
