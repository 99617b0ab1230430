//! Stores for tests. One is shared by all tests and all runs: kernel, templates and the default
//! image are made once. A test that changes or damages a part of a store has that part for itself
//! and shares the rest by symbolic links.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use crate::binary;
use crate::invocation::Invocation;

/// What a lab's boxes are made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// The shared store, which no test changes.
    Shared,
    /// The shared store with images of the test's own.
    OwnImages,
    /// The shared store with templates of the test's own, none at first.
    OwnTemplates,
    /// The shared store with a copy of its templates.
    CopiedTemplates,
}

/// The parts of a store.
const PARTS: [&str; 6] = ["kernel", "initramfs", "disk", "images", "templates", "cache"];

impl StoreKind {
    /// Makes the store, at `place` if it is the lab's own.
    pub(crate) fn make(self, place: &Path) -> PathBuf {
        let shared = shared();
        let own = match self {
            StoreKind::Shared => return shared.to_owned(),
            StoreKind::OwnImages => "images",
            StoreKind::OwnTemplates | StoreKind::CopiedTemplates => "templates",
        };
        fs::create_dir(place).expect("the lab's folder is writable");
        for part in PARTS.iter().filter(|part| **part != own) {
            symlink(shared.join(part), place.join(part)).expect("the store's folder is writable");
        }
        if self == StoreKind::CopiedTemplates {
            copy(&shared.join(own), &place.join(own));
        }
        place.to_owned()
    }
}

/// Copies files or folders, holes as holes.
///
/// # Panics
/// When that fails.
pub(crate) fn copy(from: &Path, to: &Path) {
    let copied = Invocation::new("cp").args(["-a", "--sparse=always"]).args([from, to]).output();
    drop(copied.exits(0));
}

/// Copies folders, with links to the same files.
///
/// # Panics
/// When that fails.
pub(crate) fn link(from: &Path, to: &Path) {
    let linked = Invocation::new("cp").args(["-al"]).args([from, to]).output();
    if linked.code() != Some(0) {
        // Another file system can't.
        let _ = std::fs::remove_dir_all(to);
        copy(from, to);
    }
}

/// The store of this user: `BOXWOOD_STORE`, or where `boxwood` keeps it.
pub(crate) fn installed() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let user = || {
        let data = variable("XDG_DATA_HOME");
        let data = data.or_else(|| variable("HOME").map(|home| home.join(".local/share")));
        data.expect("an ordinary user has a HOME").join("boxwood/store")
    };
    variable("BOXWOOD_STORE").unwrap_or_else(|| match binary::is_root() {
        true => PathBuf::from("/var/lib/boxwood/store"),
        false => user(),
    })
}

/// The shared store, set up.
pub(crate) fn shared() -> &'static Path {
    static STORE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = STORE.get_or_init(|| {
        let named = std::env::var_os("BOXWOOD_STORE").map(PathBuf::from);
        let store = named.unwrap_or_else(|| binary::target().join("test-store"));
        let store = std::path::absolute(&store).map_err(|error| error.to_string())?;
        // The first time, a kernel is fetched and a template baked.
        let setup = Invocation::new(binary::boxwood())
            .args(["setup"])
            .env("BOXWOOD_HOME", store.join("home"))
            .env("BOXWOOD_STORE", &store)
            .within(Duration::from_secs(600))
            .output();
        match setup.code() {
            Some(0) => Ok(store),
            _ => Err(format!("the tests' store can't be set up\n{setup:?}")),
        }
    });
    match made {
        Ok(store) => store,
        Err(why) => panic!("{why}"),
    }
}
