//! Whether the host's kernel killed a VM for want of memory: what can be proven. Asked by the shim when
//! QEMU was killed by a signal that nobody of us sent.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// How far the clock of the kernel's log may be off, in microseconds.
const SLACK: u64 = 1_000_000;

/// How many processes of this cgroup had been killed for want of memory at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OomWatch {
    before: Option<u64>,
    /// In microseconds of the clock of the kernel's log.
    began: u64,
}

impl OomWatch {
    /// From now on.
    pub fn begin() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let began = (now.tv_sec.cast_unsigned() * 1_000_000)
            .saturating_add(now.tv_nsec.cast_unsigned() / 1000)
            .saturating_sub(SLACK);
        OomWatch { before: cgroup_kills(), began }
    }

    /// Whether this process, which was killed by SIGKILL, was killed by the kernel: its log names it, or
    /// the cgroup it was in has lost a process so meanwhile. Where neither can be read it is not known,
    /// and that is `false`.
    pub fn killed(&self, pid: u32) -> bool {
        let counted = self.before.zip(cgroup_kills()).is_some_and(|(before, now)| now > before);
        counted || kernel_names(pid, self.began)
    }
}

/// The count of this process's memory cgroup, of either version.
fn cgroup_kills() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.events"),
            _ if controllers.split(',').any(|one| one == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.oom_control")
            }
            _ => return None,
        };
        // In a cgroup namespace the root is what is mounted.
        let whole = PathBuf::from(root).join(path).join(file);
        let text =
            fs::read_to_string(whole).or_else(|_| fs::read_to_string(format!("{root}/{file}")));
        kills(&text.ok()?)
    };
    groups.lines().find_map(path)
}

fn kills(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
    line.trim().parse().ok()
}

/// Whether the kernel's log tells of this process. Only root may read it.
fn kernel_names(pid: u32, since: u64) -> bool {
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let Ok(mut log) = File::options().read(true).custom_flags(flags).open("/dev/kmsg") else {
        return false;
    };
    // Each read gives one message; what was overwritten meanwhile is an error that can be passed over.
    let mut message = [0; 8192];
    loop {
        match log.read(&mut message) {
            Ok(0) => return false,
            Ok(count) if names(&String::from_utf8_lossy(&message[..count]), pid, since) => {
                return true;
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            Err(_) => return false,
        }
    }
}

/// As `mm/oom_kill.c` writes it, behind priority, number and time. An older message is about an older
/// process.
fn names(message: &str, pid: u32, since: u64) -> bool {
    let time = message.split(',').nth(2).and_then(|time| time.parse::<u64>().ok());
    time.is_some_and(|time| time >= since) && message.contains(&format!("Killed process {pid} ("))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        let line = "3,99,5,-;Memory cgroup out of memory: Killed process 77 (qemu-system-x86) total-vm:1kB";
        assert!(names(line, 77, 5) && !names(line, 7, 5) && !names(line, 77, 6));
        assert_eq!(kills("low 0\noom 3\noom_kill 2\n"), Some(2));
        assert_eq!(kills("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"), Some(1));
        assert_eq!(kills("oom_kill_disable 0\n"), None);
    }

    #[test]
    fn nobody_is_killed_by_being_looked_at() {
        assert!(!OomWatch::begin().killed(std::process::id()));
    }
}
