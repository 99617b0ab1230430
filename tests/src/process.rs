//! Processes as `/proc` shows them, and their ends as events. Called by everything that asks what
//! is left behind.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its parent's id.
    pub parent: u32,
    /// One letter, proc(5): `Z` is a zombie.
    pub state: char,
    /// When it started, in clock ticks since the host's boot.
    pub started: u64,
    /// The name of its program, at most 15 bytes.
    pub name: String,
}

impl Process {
    /// All processes.
    pub fn all() -> Vec<Process> {
        let entries = fs::read_dir("/proc").expect("/proc can be read");
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter_map(Process::get).collect()
    }

    /// The process with this id, if there is one.
    pub fn get(pid: u32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (open, close) = (stat.find('(')?, stat.rfind(')')?);
        let fields: Vec<&str> = stat[close + 1..].split_ascii_whitespace().collect();
        Some(Process {
            pid,
            name: stat[open + 1..close].to_owned(),
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    /// Its command line, for people.
    pub fn command(&self) -> String {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
        text.trim().chars().take(200).collect()
    }

    /// The processes it started that are still its own.
    pub fn children(&self) -> Vec<Process> {
        Process::all().into_iter().filter(|other| other.parent == self.pid).collect()
    }

    /// The files it has open.
    pub fn files(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(format!("/proc/{}/fd", self.pid)) else {
            return Vec::new();
        };
        entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).collect()
    }

    /// Whether its command line, its environment or a file it has open is in this folder.
    pub(crate) fn is_of(&self, folder: &Path) -> bool {
        let needle = folder.as_os_str().as_bytes();
        let mentions = |file: &str| {
            let text = fs::read(format!("/proc/{}/{file}", self.pid)).unwrap_or_default();
            crate::running::contains(&text, needle)
        };
        mentions("cmdline")
            || mentions("environ")
            || self.files().iter().any(|file| file.starts_with(folder))
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}, state {}, parent {}", self.name, self.pid, self.state, self.parent)?;
        write!(f, "): {}", self.command())
    }
}

/// A process whose end is an event: it is meant, and no later one with its id.
#[derive(Debug)]
pub struct Watched {
    /// What it is.
    pub name: String,
    /// Its id.
    pub pid: u32,
    pidfd: OwnedFd,
}

impl Watched {
    /// Watches the process that has this id now.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(pid: u32, name: &str) -> io::Result<Watched> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let number = number.ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = pidfd_open(number, PidfdFlags::empty())?;
        Ok(Watched { name: name.to_owned(), pid, pidfd })
    }

    /// Whether it is gone, at the latest after this time. A zombie is gone.
    pub fn ended_within(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout =
                Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&timeout)) {
                Ok(ready) => return ready > 0,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    /// It is gone soon.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn is_gone_soon(&self) {
        let now = || Process::get(self.pid).map(|process| process.to_string());
        let gone = self.ended_within(crate::GRACE);
        assert!(gone, "{} is still there: {:?}", self.name, now());
    }

    /// It is alive.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn is_alive(&self) {
        assert!(!self.ended_within(Duration::ZERO), "{} (pid {}) is gone", self.name, self.pid);
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// Kills it and waits until it is gone.
    ///
    /// # Panics
    /// When it does not go.
    #[track_caller]
    pub fn kill(&self) {
        // It may have gone by itself.
        let _ = self.signal(Signal::KILL);
        self.is_gone_soon();
    }
}
