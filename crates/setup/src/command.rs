//! Runs a helper program (apt-get, dpkg-deb, mke2fs): bounded in time and in what is kept of its
//! words. Called by `kernel::fetch`, `disk` and the doctor.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::distro::Distro;
use crate::error::Error;
use crate::sys;

/// The most that is read of what a helper wrote to one stream.
const OUTPUT_LIMIT: u64 = 1 << 20;
/// The most of it that an error repeats.
const QUOTE_LIMIT: usize = 400;

/// Where an administrator's programs are; the PATH of other users often lacks them.
const ADMIN_PATH: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Looks for a program as execvp(3) does, and then where administrators' programs are.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    search(&env::var_os("PATH").unwrap_or_default(), name)
}

fn search(path: &OsStr, name: &str) -> Option<PathBuf> {
    env::split_paths(path)
        .chain(ADMIN_PATH.map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|path| {
            path.metadata()
                .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
        })
}

/// A helper by its name. One that is not installed is an error when it is run.
pub(crate) fn helper(name: &str) -> Command {
    find_program(name).map_or_else(|| Command::new(name), Command::new)
}

/// Runs it to its end and returns what it wrote to stdout and stderr, the first MiB of each.
///
/// stdin is /dev/null and messages are untranslated. The helper runs in its own process group
/// and dies with the calling thread. Its own children may outlive it by a moment; `lock`, a
/// locked file, is inherited by all of them, so its lock ends with the last.
pub(crate) fn run(
    command: &mut Command,
    limit: Duration,
    lock: Option<&File>,
) -> Result<(String, String), Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let started = Instant::now();
    let failed = |source: io::Error| Error::RunHelper { program: program.clone(), source };

    // A memory file and not a pipe: nobody has to drain it, so it can't block the helper.
    let stdout = memory_file().map_err(failed)?;
    let stderr = memory_file().map_err(failed)?;
    command
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(stdout.try_clone().map_err(failed)?)
        .stderr(stderr.try_clone().map_err(failed)?)
        .process_group(0);
    sys::bind(command, lock.map(|lock| lock.as_fd()));

    let mut child = command.spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::MissingHelper {
            package: Distro::current().package_of(&program),
            program: program.clone(),
        },
        _ => failed(source),
    })?;
    let status = wait(&mut child, started + limit)
        .map_err(failed)?
        .ok_or_else(|| Error::HelperTimedOut { program: program.clone(), limit })?;

    let (stdout, stderr) = (text_of(&stdout).map_err(failed)?, text_of(&stderr).map_err(failed)?);
    if status.success() {
        Ok((stdout, stderr))
    } else {
        Err(Error::HelperFailed { program, status, words: quote(&stderr, &stdout) })
    }
}

fn memory_file() -> io::Result<File> {
    Ok(File::from(memfd_create("boxwood-helper", MemfdFlags::CLOEXEC)?))
}

/// Waits for the child's end as an event. `None`: it was alive at the deadline and was killed.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    let pid = Pid::from_child(child);
    let ended = pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from).and_then(|pidfd| {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout =
                Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    });
    if !matches!(ended, Ok(true)) {
        // The child is not reaped yet, so the number is still the group's.
        let _ = kill_process_group(pid, Signal::KILL);
    }
    let status = child.wait()?;
    Ok(ended?.then_some(status))
}

fn text_of(file: &File) -> io::Result<String> {
    let size = file.metadata()?.len().min(OUTPUT_LIMIT);
    let mut bytes = vec![0; size as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last lines a failing helper wrote, as one line.
fn quote(stderr: &str, stdout: &str) -> String {
    let words = if stderr.trim().is_empty() { stdout } else { stderr };
    let lines: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut line = lines.join("; ");
    if let Some(excess) = line.len().checked_sub(QUOTE_LIMIT + 1) {
        let cut = (excess..line.len()).find(|at| line.is_char_boundary(*at)).unwrap_or(line.len());
        line = format!("...{}", &line[cut..]);
    }
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_streams_come_back_apart() {
        let (stdout, stderr) = run(&mut shell("echo out; echo err >&2"), SHORT, None).unwrap();
        assert_eq!((stdout.as_str(), stderr.as_str()), ("out\n", "err\n"));
    }

    #[test]
    fn a_failing_helper_is_quoted_and_bounded() {
        let script = "echo first >&2; yes '\u{e9}' | head -c 100000 >&2; echo last >&2; exit 3";
        let Error::HelperFailed { program, status, words } =
            run(&mut shell(script), SHORT, None).unwrap_err()
        else {
            panic!("another error");
        };
        assert_eq!((program.as_str(), status.code()), ("sh", Some(3)));
        assert!(words.ends_with("last") && words.len() < 500, "{words}");
    }

    #[test]
    fn a_helper_that_is_not_there_is_named() {
        let error = run(&mut Command::new("boxwood-no-such-helper"), SHORT, None).unwrap_err();
        assert!(error.to_string().contains("boxwood-no-such-helper"), "{error}");
    }

    #[test]
    fn a_helper_that_hangs_is_killed_with_its_children_at_the_deadline() {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = shell("sleep 30 & sleep 30");
        // Every process of the helper inherits the writing end.
        rustix::io::fcntl_setfd(&writer, rustix::io::FdFlags::empty()).unwrap();
        let error = run(&mut command, Duration::from_millis(100), None).unwrap_err();
        drop(writer);
        assert!(matches!(error, Error::HelperTimedOut { .. }), "{error}");
        // A hang-up comes only when the last of them is gone.
        let mut polled = [PollFd::new(&reader, PollFlags::IN)];
        let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
        assert_eq!(poll(&mut polled, Some(&limit)).unwrap(), 1);
        assert!(polled[0].revents().contains(PollFlags::HUP));
    }

    #[test]
    fn a_lock_is_held_until_the_last_child_of_a_killed_helper_is_gone() {
        use rustix::fs::{FlockOperation, flock};
        let directory = tempfile::tempdir().unwrap();
        let open = || File::create(directory.path().join("lock")).unwrap();
        let lock = open();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        // A helper that ends and leaves a child, which ends when the pipe is closed.
        let (reader, writer) = std::io::pipe().unwrap();
        rustix::io::fcntl_setfd(&reader, rustix::io::FdFlags::empty()).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&reader);
        let mut helper = shell(&format!("cat <&{fd} >/dev/null 2>&1 &"));
        run(&mut helper, SHORT, Some(&lock)).unwrap();
        drop((lock, reader));
        let other = open();
        let free = flock(&other, FlockOperation::NonBlockingLockExclusive);
        assert_eq!(free, Err(rustix::io::Errno::WOULDBLOCK));
        drop(writer);
        flock(&other, FlockOperation::LockExclusive).unwrap();
    }

    #[test]
    fn administrators_programs_are_found_with_any_path() {
        assert_eq!(find_program("boxwood-no-such-helper"), None);
        let programs = std::fs::read_dir("/usr/sbin").into_iter().flatten().flatten();
        for program in programs.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file())) {
            let name = program.file_name().into_string().unwrap();
            if program.metadata().unwrap().permissions().mode() & 0o111 != 0 {
                assert_eq!(search(OsStr::new("/bin-of-others"), &name), Some(program.path()));
            }
        }
    }
}
