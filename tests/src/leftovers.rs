//! What a test left behind, by name, and its removal. Called by the lab when it is dropped.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::{Process, Watched};

/// How long a process that was told its work is done may take to end.
const GRACE: Duration = Duration::from_secs(3);

/// What a home always has.
const SKELETON: [&str; 12] = [
    "boxes",
    "names",
    "events",
    "snapshots",
    "boxes.lock",
    "names.lock",
    "recovery.lock",
    "pool.lock",
    "snapshots.lock",
    "metrics.lock",
    "metrics.json",
    "keys",
];

/// Everything that is left of a lab.
pub(crate) struct Leftovers {
    found: Vec<String>,
}

impl Leftovers {
    /// Looks at everything. `kept` are the ids of boxes that may stay on the disk.
    pub(crate) fn look(root: &Path, home: &Path, kept: &[String]) -> Leftovers {
        let mut found = processes(root);
        found.extend(mounts(root));
        found.extend(files(home, kept));
        Leftovers { found }
    }

    /// One line each.
    pub(crate) fn report(&self) -> Option<String> {
        match self.found.is_empty() {
            true => None,
            false => Some(format!("left behind:\n  {}", self.found.join("\n  "))),
        }
    }
}

/// The processes that work in this folder, and their children. Those that are about to end are
/// waited for; those that stay are named, killed and waited for. What they start while they are waited
/// for is looked at as well.
fn processes(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let deadline = Instant::now() + GRACE;
    let mut seen: Vec<(u32, u64)> = Vec::new();
    loop {
        let mut fresh = of_folder(root);
        fresh.retain(|process| !seen.contains(&(process.pid, process.started)));
        if fresh.is_empty() {
            return found;
        }
        seen.extend(fresh.iter().map(|process| (process.pid, process.started)));
        for process in fresh {
            found.extend(end_of(&process, deadline));
        }
    }
}

/// Waits for the end of a process, and ends it if it does not come. Says what was wrong with it.
fn end_of(process: &Process, deadline: Instant) -> Vec<String> {
    let Ok(watched) = Watched::open(process.pid, &process.name) else { return Vec::new() };
    // The id could have changed hands before it was watched.
    if Process::get(process.pid).is_none_or(|now| now.started != process.started) {
        return Vec::new();
    }
    let text = process.to_string();
    if watched.ended_within(deadline.saturating_duration_since(Instant::now())) {
        return if process.state == 'Z' { vec![format!("zombie {text}")] } else { Vec::new() };
    }
    let mut found = vec![format!("process {text}")];
    let _ = watched.signal(Signal::KILL);
    if !watched.ended_within(GRACE) {
        found.push(format!("process {text}, even after SIGKILL"));
    }
    found
}

/// All of a folder's processes, parents first.
fn of_folder(root: &Path) -> Vec<Process> {
    let all = Process::all();
    let own = std::process::id();
    let mut of: Vec<Process> =
        all.iter().filter(|process| process.pid != own && process.is_of(root)).cloned().collect();
    let mut at = 0;
    while at < of.len() {
        let parent = of[at].pid;
        let known: Vec<u32> = of.iter().map(|process| process.pid).collect();
        let children = all.iter().filter(|p| p.parent == parent && !known.contains(&p.pid));
        of.extend(children.cloned().collect::<Vec<_>>());
        at += 1;
    }
    of
}

fn mounts(root: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let root = root.to_string_lossy();
    let lines = table.lines().filter(|line| line.contains(&*root));
    lines.map(|line| format!("mount {line}")).collect()
}

fn files(home: &Path, kept: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for name in names(home) {
        if !SKELETON.contains(&&*name) {
            found.push(format!("file {}", home.join(name).display()));
        }
    }
    for name in names(&home.join("boxes")) {
        if kept.contains(&name) {
            found.extend(unfinished(&home.join("boxes").join(name)));
        } else {
            let read = |file: &str| fs::read_to_string(home.join("boxes").join(&name).join(file));
            found.push(format!("box {name}: {}", read("record.json").unwrap_or_default()));
            // What its shim had to say, if it had.
            found.extend(read("shim.log").ok().filter(|said| !said.is_empty()));
        }
    }
    for name in names(&home.join("snapshots")) {
        found.push(format!("snapshot {name}"));
    }
    for name in names(&home.join("names")) {
        let target = fs::read_link(home.join("names").join(&name)).unwrap_or_default();
        if !kept.iter().any(|id| target == Path::new(id)) {
            found.push(format!("name {name} of {}", target.display()));
        }
    }
    found
}

/// Sockets and half-written files of a box that has ended.
fn unfinished(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for name in names(folder) {
        let path = folder.join(&name);
        let socket = fs::symlink_metadata(&path).is_ok_and(|data| data.file_type().is_socket());
        if (name.starts_with('.') && name.ends_with(".new")) || socket {
            found.push(format!("file {}", path.display()));
        }
    }
    found
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    names.sort();
    names
}

/// Removes a folder that processes may still be leaving.
pub(crate) fn remove(folder: &PathBuf) {
    if let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        eprintln!("can't remove {}: {error}", folder.display());
    }
}
