//! What is tested and where it is. Called by the lab and by the tests that look at the host.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The folder of the workspace.
pub fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// The binary under test: `BOXWOOD_BIN`, or what was built last for release, or for development.
///
/// # Panics
/// When there is none.
pub(crate) fn boxwood() -> &'static Path {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        if let Some(named) = std::env::var_os("BOXWOOD_BIN") {
            let named = PathBuf::from(named);
            return std::path::absolute(workspace().join(named)).ok().filter(|path| path.exists());
        }
        let target = target();
        let built = ["release", "debug"].map(|profile| target.join(profile).join("boxwood"));
        built.into_iter().find(|path| path.exists())
    });
    found.as_deref().expect("no boxwood to test: run 'make build', or name one in BOXWOOD_BIN")
}

/// The binary under test with steps at which it can be killed: what `make failpoints` built.
///
/// # Panics
/// When there is none.
pub(crate) fn failing() -> PathBuf {
    let path = target().join("failpoints/boxwood");
    assert!(path.exists(), "no boxwood with failpoints to test: run 'make failpoints'");
    path
}

/// The guest binary that was built for it.
///
/// # Panics
/// When there is none.
pub(crate) fn guest() -> PathBuf {
    const BUILT: &str = "x86_64-unknown-linux-gnu/release/boxwood-guest";
    let beside = boxwood().with_file_name("boxwood-guest");
    // Where cargo builds the binary, it builds the guest.
    let near = boxwood().ancestors().nth(2).map(|target| target.join(BUILT));
    let candidates = [Some(beside), near, Some(target().join(BUILT))];
    let found = candidates.into_iter().flatten().find(|path| path.exists());
    found.expect("no guest to test: run 'make build'")
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    named.unwrap_or_else(|| workspace().join("target"))
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a program is on the path.
pub fn host_has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
