//! A home with a pool of one VM: what a start takes that finds one waiting. Called by `start`.

use std::path::PathBuf;

use boxwood_tests::{Folder, Lab, Output};

/// A lab in which one VM waits.
pub(crate) struct Warm(Lab);

impl Warm {
    pub(crate) fn new() -> Warm {
        let lab = Lab::of_installation();
        lab.boxwood(["pool", "set", "1"]).output().exits(0);
        Warm(lab)
    }

    /// Runs `true` once in the VM that waits, which is awaited before; and the next one after, so that making
    /// that is in nobody's way.
    pub(crate) fn run(&self) -> Output {
        let taken = self.ready(None);
        let output = self.0.run(["busybox", "true"]).output().exits(0);
        self.ready(Some(&taken));
        let left = self.pool().join(taken);
        assert!(!left.exists(), "it did not take the VM that waited");
        output
    }

    /// The VM that waits, or the next one after another, as soon as it does.
    fn ready(&self, after: Option<&str>) -> String {
        let pool = self.pool();
        Folder::watch(self.0.home()).until(|| pool.exists().then_some(()));
        let folder = Folder::watch(&pool);
        let id = folder.until(|| self.members().find(|id| Some(&**id) != after));
        let member = pool.join(&id);
        Folder::watch(&member).until(|| member.join("ready").exists().then_some(()));
        id
    }

    fn members(&self) -> impl Iterator<Item = String> {
        let folders = self.pool().read_dir().into_iter().flatten().flatten();
        let names = folders.filter_map(|folder| folder.file_name().into_string().ok());
        // One that is being made has another name.
        names.filter(|name| !name.starts_with('.'))
    }

    fn pool(&self) -> PathBuf {
        self.0.home().join("pool")
    }

    /// Ends the one that waits.
    pub(crate) fn end(self) {
        self.0.boxwood(["pool", "set", "0"]).output().exits(0);
    }
}
