//! A command that runs: what it has written so far, signals, its end. Made by an invocation.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::output::{Output, shown};
use crate::process::Watched;

/// How long the outputs may stay open after the command has ended.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Which of the outputs.
#[derive(Clone, Copy)]
enum Stream {
    Out,
    Err,
}

/// What came so far.
#[derive(Default)]
struct Heard {
    bytes: [Vec<u8>; 2],
    /// How many outputs are still open.
    open: usize,
}

#[derive(Default)]
struct Ears {
    heard: Mutex<Heard>,
    news: Condvar,
}

/// A command that runs. When it is dropped without having been waited for it is killed.
pub struct Running {
    text: String,
    child: Child,
    watched: Watched,
    stdin: Option<ChildStdin>,
    ears: Arc<Ears>,
    began: Instant,
    deadline: Instant,
    over: bool,
}

impl Running {
    #[track_caller]
    pub(crate) fn start(mut command: Command, within: Duration) -> Running {
        let text = describe(&command);
        let began = Instant::now();
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("can't run {text}: {error}"),
        };
        let ears = Arc::new(Ears::default());
        if let Some(pipe) = child.stdout.take() {
            listen(&ears, Stream::Out, pipe);
        }
        if let Some(pipe) = child.stderr.take() {
            listen(&ears, Stream::Err, pipe);
        }
        // It is our child and not waited for yet, so its id is its own.
        let watched = Watched::open(child.id(), "boxwood").expect("a child can be watched");
        let stdin = child.stdin.take();
        let deadline = began + within;
        Running { text, child, watched, stdin, ears, began, deadline, over: false }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes to its standard input.
    ///
    /// # Panics
    /// When it does not take it.
    #[track_caller]
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        let written = stdin.write_all(bytes.as_ref()).and_then(|()| stdin.flush());
        if let Err(error) = written {
            panic!("{} does not take its input: {error}{}", self.text, self.so_far());
        }
    }

    /// Ends its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Gives it all of its input, without waiting until it has taken it.
    pub(crate) fn feed(&mut self, bytes: Vec<u8>) {
        let Some(mut stdin) = self.stdin.take() else { return };
        if bytes.is_empty() {
            return;
        }
        // It may end without reading everything; that is for the test to judge.
        thread::spawn(move || drop(stdin.write_all(&bytes)));
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it has ended.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let sent = self.watched.signal(signal);
        assert!(sent.is_ok(), "{} can't be signalled: {sent:?}{}", self.text, self.so_far());
    }

    /// Waits until its standard output contains this text, and returns all of it.
    ///
    /// # Panics
    /// When it ends first, or time is up.
    #[track_caller]
    pub fn says(&self, text: &str) -> String {
        self.wait_until(|heard| contains(&heard.bytes[0], text.as_bytes()), text)
    }

    /// Waits until its standard error contains this text.
    ///
    /// # Panics
    /// When it ends first, or time is up.
    #[track_caller]
    pub fn complains(&self, text: &str) -> String {
        self.wait_until(|heard| contains(&heard.bytes[1], text.as_bytes()), text)
    }

    /// Waits until its standard error contains this text and the end of that line, and returns all of
    /// it.
    ///
    /// # Panics
    /// When it ends first, or time is up.
    #[track_caller]
    pub fn hears(&self, text: &str) -> String {
        let whole = |heard: &Heard| {
            let said = String::from_utf8_lossy(&heard.bytes[1]).into_owned();
            said.split_once(text).is_some_and(|(_, rest)| rest.contains('\n'))
        };
        drop(self.wait_until(whole, text));
        String::from_utf8_lossy(&self.heard().bytes[1]).into_owned()
    }

    /// What its standard output holds so far.
    pub fn stdout_so_far(&self) -> Vec<u8> {
        self.heard().bytes[0].clone()
    }

    #[track_caller]
    fn wait_until(&self, done: impl Fn(&Heard) -> bool, what: &str) -> String {
        let mut heard = self.heard();
        loop {
            if done(&heard) {
                return String::from_utf8_lossy(&heard.bytes[0]).into_owned();
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            let ended = heard.open == 0;
            if ended || left.is_zero() {
                drop(heard);
                let why = if ended { "its outputs ended" } else { "time is up" };
                panic!("{} did not say '{what}': {why}{}", self.text, self.so_far());
            }
            let waited = self.ears.news.wait_timeout(heard, left);
            heard = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end in time, or somebody holds its outputs after it ended.
    #[track_caller]
    pub fn wait(mut self) -> Output {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if !self.watched.ended_within(left) {
            let so_far = self.so_far();
            self.kill();
            panic!("{} did not end in time and was killed{so_far}", self.text);
        }
        let took = self.began.elapsed();
        let status = self.child.wait().expect("it is our child and has ended");
        self.over = true;
        let deadline = Instant::now() + LAST_WORDS;
        let mut heard = self.heard();
        while heard.open > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(heard);
                panic!("{} ended, and its outputs are still held{}", self.text, self.so_far());
            }
            let waited = self.ears.news.wait_timeout(heard, left);
            heard = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let [stdout, stderr] = std::mem::take(&mut heard.bytes);
        drop(heard);
        let command = self.text.clone();
        Output { command, status, stdout, stderr, took }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.ears.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn so_far(&self) -> String {
        let heard = self.heard();
        let [out, err] = [0, 1].map(|at| shown(&heard.bytes[at]));
        let seconds = self.began.elapsed().as_secs_f64();
        format!("\n  after {seconds:.1} s\n  stdout so far: {out}\n  stderr so far: {err}")
    }

    fn kill(&mut self) {
        if !self.over {
            self.over = true;
            // Both fail only for a child that has been waited for.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

fn listen(ears: &Arc<Ears>, stream: Stream, mut pipe: impl Read + Send + 'static) {
    let ears = Arc::clone(ears);
    ears.heard.lock().unwrap_or_else(PoisonError::into_inner).open += 1;
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = pipe.read(&mut buffer).unwrap_or(0);
            let mut heard = ears.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.bytes[stream as usize].extend_from_slice(&buffer[..count]);
            if count == 0 {
                heard.open -= 1;
            }
            ears.news.notify_all();
            if count == 0 {
                return;
            }
        }
    });
}

pub(crate) fn contains(bytes: &[u8], text: &[u8]) -> bool {
    text.is_empty() || bytes.windows(text.len()).any(|window| window == text)
}

fn describe(command: &Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    let name = program.rsplit('/').next().unwrap_or_default().to_owned();
    let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
    let words: Vec<String> = std::iter::once(name).chain(args).collect();
    let line = words.join(" ");
    line.chars().take(300).collect()
}
