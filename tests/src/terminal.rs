//! A user at a terminal: what is typed, what is shown, and what the terminal's settings are. Called by
//! the tests of terminals.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::invocation::Invocation;
use crate::output::{Output, shown};
use crate::running::{Running, contains};

/// A command in a terminal of its own, as its session's leader.
pub struct Terminal {
    running: Running,
    ours: OwnedFd,
    theirs: OwnedFd,
    before: Termios,
    screen: Arc<Screen>,
    /// How much of what was shown has been asked for.
    seen: usize,
}

#[derive(Default)]
struct Screen {
    shown: Mutex<Shown>,
    news: Condvar,
}

#[derive(Default)]
struct Shown {
    bytes: Vec<u8>,
    over: bool,
}

impl Terminal {
    /// Runs a command in a terminal of this many rows and columns. It must be one of `setsid -c`.
    ///
    /// # Panics
    /// When there is no terminal to be had.
    #[track_caller]
    pub(crate) fn start(invocation: Invocation, (rows, columns): (u16, u16)) -> Terminal {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags).expect("a terminal can be opened");
        grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("it is ours");
        let theirs = ioctl_tiocgptpeer(&ours, flags).expect("its other end can be opened");
        let before = tcgetattr(&theirs).expect("it has settings");
        let screen = Arc::<Screen>::default();
        listen(&screen, ours.try_clone().expect("descriptors can be duplicated"));
        let clone = || theirs.try_clone().expect("descriptors can be duplicated");
        set_size(&ours, rows, columns);
        let invocation = invocation.stdin_from(clone()).stdout_to(clone()).stderr_to(clone());
        let running = invocation.spawn();
        Terminal { running, ours, theirs, before, screen, seen: 0 }
    }

    /// Types this.
    ///
    /// # Panics
    /// When the terminal does not take it.
    #[track_caller]
    pub fn types(&mut self, text: &str) {
        let typed = rustix::io::write(&self.ours, text.as_bytes());
        assert_eq!(typed, Ok(text.len()), "the terminal takes what is typed");
    }

    /// Types so much that a terminal does not hold it: all of it must be read meanwhile.
    ///
    /// # Panics
    /// When it is not read in time.
    #[track_caller]
    pub fn pastes(&mut self, bytes: Vec<u8>) {
        let (done, pasted) = std::sync::mpsc::channel();
        let terminal = self.ours.try_clone().expect("descriptors can be duplicated");
        // Its own thread: if nobody reads, it does not come back.
        thread::spawn(move || {
            let written = std::fs::File::from(terminal).write_all(&bytes);
            let _ = done.send(written.is_ok());
        });
        assert_eq!(pasted.recv_timeout(crate::DEADLINE), Ok(true), "what is pasted is read");
    }

    /// Waits until this is shown, after what was waited for before, and returns what came before it.
    ///
    /// # Panics
    /// When it is not shown in time.
    #[track_caller]
    pub fn shows(&mut self, text: &str) -> String {
        let deadline = Instant::now() + crate::DEADLINE;
        let mut shown = self.screen.shown.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let news = &shown.bytes[self.seen..];
            if contains(news, text.as_bytes()) {
                let windows = news.windows(text.len().max(1));
                let at = windows.take_while(|window| *window != text.as_bytes()).count();
                let before = String::from_utf8_lossy(&news[..at]).into_owned();
                self.seen += at + text.len();
                return before;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if shown.over || left.is_zero() {
                let news = self::shown(news);
                drop(shown);
                panic!("the terminal did not show '{text}', but {news}");
            }
            let waited = self.screen.news.wait_timeout(shown, left);
            shown = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Changes its size.
    pub fn resize(&self, rows: u16, columns: u16) {
        set_size(&self.ours, rows, columns);
    }

    /// Sends the command a signal.
    pub fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Waits for the command's end. What the terminal has shown since it was last asked is the
    /// standard output.
    ///
    /// # Panics
    /// When it does not end in time, or the terminal's settings are not as they were.
    #[track_caller]
    pub fn wait(self) -> Output {
        let mut output = self.running.wait();
        let after = tcgetattr(&self.theirs).expect("it has settings");
        let flags = |termios: &Termios| {
            (termios.input_modes, termios.output_modes, termios.control_modes, termios.local_modes)
        };
        assert_eq!(flags(&after), flags(&self.before), "the terminal is as it was\n{output:?}");
        // With the last descriptor of this end closed, the other end has an end, too.
        drop(self.theirs);
        let mut shown = self.screen.shown.lock().unwrap_or_else(PoisonError::into_inner);
        while !shown.over {
            shown = self.screen.news.wait(shown).unwrap_or_else(PoisonError::into_inner);
        }
        output.stdout = shown.bytes[self.seen..].to_vec();
        output
    }

    /// Whether the command has made the terminal raw.
    pub fn is_raw(&self) -> bool {
        let now = tcgetattr(&self.theirs).expect("it has settings");
        !now.local_modes.contains(rustix::termios::LocalModes::ICANON)
    }
}

fn set_size(terminal: impl AsFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).expect("its size can be set");
}

fn listen(screen: &Arc<Screen>, terminal: OwnedFd) {
    let screen = Arc::clone(screen);
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = rustix::io::read(&terminal, &mut buffer).unwrap_or(0);
            let mut shown = screen.shown.lock().unwrap_or_else(PoisonError::into_inner);
            shown.bytes.extend_from_slice(&buffer[..count]);
            shown.over = count == 0;
            screen.news.notify_all();
            if count == 0 {
                return;
            }
        }
    });
}
