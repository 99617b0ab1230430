//! A cgroup of a test's own, where the host lets one be made (cgroup v1). For what can't be done to a process
//! otherwise: to let it run out of memory, or not react to SIGKILL.

use std::fs;
use std::path::{Path, PathBuf};

/// A group that goes with this, when nothing is in it any more.
#[derive(Debug)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// A group of this controller (`memory`, `freezer`); `None` where none can be made.
    pub fn make(controller: &str) -> Option<Cgroup> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let beginning = format!(":{controller}:/");
        let own = own.lines().find_map(|line| line.split_once(&beginning).map(|(_, path)| path))?;
        // Tests run as threads.
        let thread = std::thread::current().id();
        let name = format!("boxwood-test-{}-{thread:?}", std::process::id());
        let path = Path::new("/sys/fs/cgroup").join(controller).join(own).join(name);
        fs::create_dir(&path).ok()?;
        Some(Cgroup(path))
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a setting.
    ///
    /// # Panics
    /// When the host does not take it.
    #[track_caller]
    pub fn set(&self, name: &str, value: &str) {
        let set = fs::write(self.0.join(name), value);
        assert!(set.is_ok(), "{name} can't be {value}: {set:?}");
    }

    /// Moves a process into it.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn take(&self, pid: u32) {
        self.set("cgroup.procs", &pid.to_string());
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A frozen process would stay for ever.
        let _ = fs::write(self.0.join("freezer.state"), "THAWED");
        let _ = fs::remove_dir(&self.0);
    }
}
