//! A home of a test's own. Called by every test.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tempfile::TempDir;

use crate::binary;
use crate::invocation::Invocation;
use crate::leftovers::{self, Leftovers};
use crate::output::Output;
use crate::process::Watched;
use crate::store::{self, StoreKind};
use crate::terminal::Terminal;
use crate::watch::Folder;

/// Settings of the caller's that hold for the tests, too.
const PASSED_ON: [&str; 5] =
    ["BOXWOOD_ACCEL", "BOXWOOD_GUEST", "BOXWOOD_KERNEL", "BOXWOOD_MODULES", "BOXWOOD_QEMU"];

/// A home, its store, and the promise that nothing is left in it. Its drop keeps the promise or
/// fails the test.
#[derive(Debug)]
pub struct Lab {
    root: Option<TempDir>,
    home: PathBuf,
    store: PathBuf,
    user: Option<u32>,
    kept: Mutex<Vec<String>>,
}

/// The processes of a box that runs.
#[derive(Debug)]
pub struct Live {
    /// Its shim.
    pub shim: Watched,
    /// Its QEMU.
    pub qemu: Watched,
}

impl Lab {
    /// A lab with the shared store.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn new() -> Lab {
        Lab::with(StoreKind::Shared)
    }

    /// A lab with this store.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn with(kind: StoreKind) -> Lab {
        let root = folder();
        let store = kind.make(&root.path().join("store"));
        Lab::in_folder(root, store, None)
    }

    /// A lab with the store that `boxwood` itself would use: for measurements of what is installed.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn of_installation() -> Lab {
        Lab::in_folder(folder(), store::installed(), None)
    }

    /// A lab of an ordinary user, with a store of the user's own that has everything but images and
    /// templates. Only root can make one.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn of_user(id: u32) -> Lab {
        let root = folder();
        let store = root.path().join("store");
        std::fs::create_dir(&store).expect("the lab's folder is writable");
        for part in ["kernel", "initramfs", "disk"] {
            store::link(&store::shared().join(part), &store.join(part));
        }
        // The user may not be able to go where the workspace is.
        let bin = root.path().join("bin");
        std::fs::create_dir(&bin).expect("the lab's folder is writable");
        let copy = |from: &Path, name: &str| {
            std::fs::copy(from, bin.join(name)).expect("what was built can be copied");
        };
        copy(binary::boxwood(), "boxwood");
        copy(&binary::guest(), "boxwood-guest");
        // The folders alone: the files are the shared store's own.
        let owned = Invocation::new("find").args([root.path()]).args(["-type", "d", "-exec"]);
        let owned = owned.args(["chown", &format!("{id}:{id}"), "{}", "+"]);
        drop(owned.output().exits(0));
        Lab::in_folder(root, store, Some(id))
    }

    fn in_folder(root: TempDir, store: PathBuf, user: Option<u32>) -> Lab {
        let home = root.path().join("home");
        let lab = Lab { root: Some(root), home, store, user, kept: Mutex::default() };
        // Afterwards the home is there, and what changes in it is what the test did.
        drop(lab.boxwood(["ps"]).output().exits(0));
        lab
    }

    /// The lab's folder: for files a test needs. It goes with the lab.
    pub fn folder(&self) -> &Path {
        self.root.as_ref().map(TempDir::path).expect("it is there until the lab is dropped")
    }

    /// The home.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The store.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// A program in the lab's environment.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Invocation {
        let mut environment: Vec<(&str, OsString)> = vec![
            ("PATH", std::env::var_os("PATH").unwrap_or_default()),
            ("HOME", self.folder().into()),
            ("BOXWOOD_HOME", self.home.clone().into()),
            ("BOXWOOD_STORE", self.store.clone().into()),
        ];
        let given = PASSED_ON.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
        environment.extend(given);
        let invocation = Invocation::new(program).only_env(&environment);
        match self.user {
            Some(id) => invocation.user(id),
            None => invocation,
        }
    }

    /// `boxwood` with these arguments.
    pub fn boxwood(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Invocation {
        self.program(self.binary()).args(args)
    }

    /// `boxwood run --rm` with these arguments.
    pub fn run(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Invocation {
        self.boxwood(["run", "--rm"]).args(args)
    }

    /// `boxwood run --rm busybox sh -c` with this script.
    pub fn sh(&self, script: &str) -> Invocation {
        self.run(["busybox", "sh", "-c", script])
    }

    /// `boxwood exec` with these arguments.
    pub fn exec(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Invocation {
        self.boxwood(["exec"]).args(args)
    }

    /// A detached box with this name that runs nothing but a sleep.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn idle(&self, name: &str) -> String {
        self.detached(name, ["busybox", "sleep", "100000"])
    }

    /// `boxwood` with these arguments, in a terminal of 24 rows and 80 columns.
    ///
    /// # Panics
    /// When there is no terminal to be had.
    #[track_caller]
    pub fn terminal(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Terminal {
        self.terminal_of((24, 80), args)
    }

    /// The same, in a terminal of this many rows and columns.
    ///
    /// # Panics
    /// When there is no terminal to be had.
    #[track_caller]
    pub fn terminal_of(
        &self,
        size: (u16, u16),
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Terminal {
        let binary = self.binary();
        let boxwood = self.program("setsid").args(["-c".as_ref(), binary.as_os_str()]).args(args);
        Terminal::start(boxwood, size)
    }

    /// The binary under test.
    pub fn binary(&self) -> PathBuf {
        match self.user {
            Some(_) => self.folder().join("bin/boxwood"),
            None => binary::boxwood().to_owned(),
        }
    }

    /// A program that has boxes by the library, told where the binary is that its shims run.
    pub fn embedding(&self, program: impl AsRef<OsStr>) -> Invocation {
        let guest = binary::guest();
        self.program(program).env("BOXWOOD_GUEST", guest).args([self.binary()])
    }

    /// `boxwood` with these arguments, to which `wish` happens: a step of a box's life and what is done there,
    /// such as `start: shim spawned=kill`. See the state crate's failpoints.
    pub fn failing(
        &self,
        wish: &str,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Invocation {
        let mark = self.reached();
        let _ = std::fs::remove_file(&mark);
        let failing = self.program(binary::failing()).args(args);
        let failing = failing.env("BOXWOOD_GUEST", binary::guest());
        failing.env("BOXWOOD_FAILPOINT", wish).env("BOXWOOD_FAILPOINT_MARK", mark)
    }

    /// The file that says that the last [`failing`](Self::failing) one reached its step.
    pub fn reached(&self) -> PathBuf {
        self.folder().join("reached")
    }

    /// Starts a detached box with `boxwood run -d --name NAME` and these arguments.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn detached(
        &self,
        name: &str,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> String {
        let started = self.boxwood(["run", "-d", "--name", name]).args(args).output();
        started.exits(0).quietly().word()
    }

    /// Captures a box that runs, under this name.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn snapshot(&self, name: &str, snapshot: &str) {
        let made = self.boxwood(["snapshot", "create", name, snapshot]).output();
        drop(made.exits(0).quietly().prints(format!("{snapshot}\n")));
    }

    /// A box with this name that goes on from a snapshot.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn restored(&self, snapshot: &str, name: &str) -> String {
        let restored = self.boxwood(["restore", "--name", name, snapshot]).output();
        restored.exits(0).quietly().word()
    }

    /// Removes a snapshot.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn forget(&self, snapshot: &str) {
        let removed = self.boxwood(["snapshot", "rm", snapshot]).output();
        drop(removed.exits(0).quietly().prints(format!("{snapshot}\n")));
    }

    /// Removes a box by force.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn remove(&self, name: &str) {
        drop(self.boxwood(["rm", "-f", name]).output().exits(0));
    }

    /// What `inspect` says about a box, through a Go template.
    ///
    /// # Panics
    /// When there is no such box.
    #[track_caller]
    pub fn inspect(&self, name: &str, format: &str) -> String {
        self.boxwood(["inspect", "--format", format, name]).output().exits(0).quietly().word()
    }

    /// The state of a box, in one word.
    ///
    /// # Panics
    /// When there is no such box.
    #[track_caller]
    pub fn state(&self, name: &str) -> String {
        self.inspect(name, "{{.State.Status}}")
    }

    /// The processes of a box that runs.
    ///
    /// # Panics
    /// When it does not run.
    #[track_caller]
    pub fn live(&self, name: &str) -> Live {
        let found = self.boxwood(["inspect", name]).output().exits(0);
        let view: Value = serde_json::from_slice(&found.stdout).expect("inspect prints JSON");
        let watched = |field: &str, what: &str| {
            let pid = view[0]["State"][field].as_u64().and_then(|pid| u32::try_from(pid).ok());
            let pid = pid.filter(|pid| *pid > 0);
            let pid = pid.unwrap_or_else(|| panic!("{name} has no {field}: {found:?}"));
            Watched::open(pid, what).unwrap_or_else(|error| panic!("no {what} {pid}: {error}"))
        };
        Live { shim: watched("ShimPid", "the shim"), qemu: watched("Pid", "QEMU") }
    }

    /// The ids of all boxes, in full.
    ///
    /// # Panics
    /// When they can't be listed.
    #[track_caller]
    pub fn boxes(&self) -> Vec<String> {
        self.boxwood(["ps", "-aq", "--no-trunc"]).output().exits(0).quietly().lines()
    }

    /// The folder of a box.
    pub fn box_folder(&self, id: &str) -> PathBuf {
        self.home.join("boxes").join(id)
    }

    /// Waits until a box's log holds this text, on either stream.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn logged(&self, name: &str, text: &str) {
        let log = PathBuf::from(self.inspect(name, "{{.LogPath}}"));
        let folder = Folder::watch(log.parent().expect("a log is in a box's folder"));
        folder.until(|| {
            let logs = self.boxwood(["logs", name]).output().exits(0);
            (logs.text().contains(text) || logs.complaint().contains(text)).then_some(())
        });
    }

    /// Waits until a box that somebody else is starting, by this name, runs.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn runs(&self, name: &str) {
        let names = Folder::watch(&self.home.join("names"));
        names.until(|| self.home.join("names").join(name).is_symlink().then_some(()));
        let id = std::fs::read_link(self.home.join("names").join(name)).expect("it is there");
        let events = Folder::watch(&self.home.join("events"));
        let started = ["events", "--since", "1h", "--until", "0s", "-f", "event=start", "-f"];
        events.until(|| {
            let filter = format!("container={}", id.display());
            let heard = self.boxwood(started).args([filter]).output().exits(0);
            (!heard.text().is_empty()).then_some(())
        });
    }

    /// Waits until a box that somebody else is starting can be seen, and returns its id.
    ///
    /// # Panics
    /// When none appears.
    #[track_caller]
    pub fn appearing(&self, act: impl FnOnce()) -> String {
        let boxes = self.home.join("boxes");
        let folder = Folder::watch(&boxes);
        act();
        folder.until(|| {
            let entries = std::fs::read_dir(&boxes).ok()?;
            let mut names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            names.find(|name| !name.starts_with('.'))
        })
    }

    /// This box may stay when the test ends, not running.
    pub fn keeps(&self, id: &str) {
        self.kept().push(id.to_owned());
    }

    fn kept(&self) -> MutexGuard<'_, Vec<String>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing of any box is there now, without any further command.
    ///
    /// # Panics
    /// When something is, by name.
    #[track_caller]
    pub fn is_clean(&self) {
        let left = Leftovers::look(self.folder(), &self.home, &self.kept());
        if let Some(report) = left.report() {
            panic!("{report}");
        }
    }
}

impl Default for Lab {
    fn default() -> Self {
        Lab::new()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let Some(root) = self.root.take() else { return };
        let left = Leftovers::look(root.path(), &self.home, &self.kept());
        leftovers::remove(&root.keep());
        match left.report() {
            None => {}
            // The panic at hand says what went wrong first.
            Some(report) if std::thread::panicking() => eprintln!("also {report}"),
            Some(report) => panic!("{report}"),
        }
    }
}

/// A folder with a short path: sockets are in it.
fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("bw-").rand_bytes(5).tempdir();
    let folder = folder.expect("the folder for temporary files is writable");
    // Ordinary users' labs must be reachable by them.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).expect("the folder is ours");
    folder
}

/// What a test says about a run that is refused before a box exists: nothing changes.
impl Lab {
    /// Runs something that must be refused with these words, and checks that the home stays as it
    /// is.
    ///
    /// # Panics
    /// When it is not refused, not in one line, or something changed.
    #[track_caller]
    pub fn refuses(&self, invocation: Invocation, words: &[&str]) -> Output {
        let before = crate::Tree::of(&self.home);
        let refused = invocation.output().refused(words);
        before.is_still(&self.home);
        refused
    }
}
