//! The one place of unsafe code in the runtime: starting a process that is nobody's child, and descriptors
//! in the event loop.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor whose readability is an event. It can't be replaced or taken out.
#[derive(Debug)]
pub(crate) struct Readable(AsyncFd<OwnedFd>);

impl Readable {
    /// To be called in an event loop.
    pub(crate) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        // SAFETY: the descriptor is open as long as its OwnedFd, which nothing can reach to replace.
        let watched = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        Ok(Readable(watched?))
    }

    /// Calls `read` whenever it may be readable, until that does not say "would block".
    pub(crate) async fn read<T>(
        &self,
        mut read: impl FnMut(&OwnedFd) -> io::Result<T>,
    ) -> io::Result<T> {
        self.0.async_io(Interest::READABLE, |descriptor| read(descriptor)).await
    }
}

/// Starts `command` in a session of its own, with init (or the nearest subreaper) as its parent and
/// `descriptors` as its descriptors 3, 4, 5…; nothing else is inherited. Returns when its exec
/// succeeded: exactly one short-lived child was made, and it has been waited for.
///
/// # Errors
/// When the process could not be made, or its exec failed.
pub(crate) fn spawn_detached(mut command: Command, descriptors: &[OwnedFd]) -> io::Result<()> {
    let mut numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    // SAFETY: between fork and exec only system calls are made; `numbers` is changed in
    // place, and nothing allocates. The second fork is of a process with one thread: the child itself.
    unsafe {
        command.pre_exec(move || {
            if libc::setsid() < 0 {
                return Err(io::Error::last_os_error());
            }
            match libc::fork() {
                0 => place(&mut numbers),
                pid if pid > 0 => libc::_exit(0),
                _ => Err(io::Error::last_os_error()),
            }
        });
    }
    // The status is that of the middle process, which ends at once; it is the only child here.
    command.spawn()?.wait()?;
    Ok(())
}

/// Moves the descriptors to 3, 4, 5… and marks everything above them close-on-exec. First out of the
/// way, then in place, so that no move overwrites one that is still to be moved.
fn place(numbers: &mut [RawFd]) -> io::Result<()> {
    let check = |result: i32| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) };
    let count = numbers.len() as RawFd;
    for number in numbers.iter_mut() {
        // SAFETY: plain system calls on descriptor numbers of this process, which is about to exec.
        *number = unsafe { check(libc::fcntl(*number, libc::F_DUPFD_CLOEXEC, 3 + count))? };
    }
    for (target, number) in (3..).zip(numbers.iter()) {
        // SAFETY: as above.
        unsafe { check(libc::dup2(*number, target))? };
    }
    let first = (3 + count) as libc::c_uint;
    let flag = libc::CLOSE_RANGE_CLOEXEC as libc::c_int;
    // SAFETY: as above. std's own pipe, which reports a failed exec, is close-on-exec already.
    unsafe { check(libc::close_range(first, libc::c_uint::MAX, flag))? };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn h2_a_detached_process_has_its_descriptors_and_is_not_our_child() {
        let (mut read, write) = io::pipe().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo $PPID >&3; ls /proc/self/fd | tr '\\n' ' ' >&3"]);
        spawn_detached(command, &[write.into()]).unwrap();
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        let (parent, descriptors) = text.split_once('\n').unwrap();
        assert_ne!(parent, std::process::id().to_string());
        // 4 is the directory that ls reads.
        assert_eq!(descriptors.trim(), "0 1 2 3 4");
    }

    #[test]
    fn a_failed_exec_is_told() {
        let error = spawn_detached(Command::new("/no/such/file"), &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
