//! The processes of the box, as `/proc` has them. Called by `control` when the shim asks.
//!
//! PID 1 itself and the kernel's threads are not the box's. What is read is short: a process can change
//! its name and arguments while they are read, and has no say in anything else here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use boxwood_wire::message::{MAX_COMMAND, MAX_PROCESSES, ProcessInfo};
use rustix::time::{ClockId, clock_gettime};

/// Milliseconds of a clock tick in `/proc` (`USER_HZ` is 100 on x86-64).
const TICK_MS: u64 = 10;
/// KiB of a page.
const PAGE_KIB: u64 = 4;
/// Bytes of `stat` and `status` that are read: more than any line that is looked for is away.
const MAX_TEXT: usize = 2048;
/// The mark of a thread of the kernel's own (`PF_KTHREAD`, linux/sched.h).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// The processes of the box in the order of their ids, and how many more there are.
pub(crate) fn list(names: &BTreeMap<u32, Vec<u8>>) -> (Vec<ProcessInfo>, u32) {
    let mut pids: Vec<u32> = match std::fs::read_dir("/proc") {
        Ok(entries) => entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| *pid != 1)
            .collect(),
        Err(_) => Vec::new(),
    };
    pids.sort_unstable();
    let now = uptime_ms();
    let mut processes = Vec::new();
    let mut more = 0;
    for pid in pids {
        if processes.len() == MAX_PROCESSES {
            more += 1;
        } else {
            // One that has ended meanwhile is none.
            processes.extend(look_at(pid, now, names));
        }
    }
    (processes, more)
}

fn look_at(pid: u32, now: u64, names: &BTreeMap<u32, Vec<u8>>) -> Option<ProcessInfo> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let stat = Stat::parse(&beginning(&folder.join("stat"), MAX_TEXT)?)?;
    if stat.flags & KERNEL_THREAD != 0 {
        return None;
    }
    let uid = user_id(&beginning(&folder.join("status"), MAX_TEXT)?)?;
    let mut command = beginning(&folder.join("cmdline"), MAX_COMMAND)?;
    if command.is_empty() {
        command = [b"[", stat.name.as_slice(), b"]"].concat();
    }
    Some(ProcessInfo {
        pid,
        ppid: stat.ppid,
        user: names.get(&uid).cloned().unwrap_or_else(|| uid.to_string().into_bytes()),
        state: stat.state,
        terminal: stat.terminal,
        age_ms: now.saturating_sub(stat.started_ms),
        cpu_ms: stat.cpu_ms,
        rss_kib: stat.rss_kib,
        command,
    })
}

fn beginning(path: &Path, limit: usize) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(limit as u64).read_to_end(&mut text).ok()?;
    Some(text)
}

/// Milliseconds since the kernel started, as `stat` counts them.
fn uptime_ms() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// What of proc_pid_stat(5) is told.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: Vec<u8>,
    state: u8,
    ppid: u32,
    terminal: Option<u32>,
    flags: u64,
    cpu_ms: u64,
    started_ms: u64,
    rss_kib: u64,
}

impl Stat {
    /// The name is what the process likes, so the fields are counted from the last parenthesis.
    fn parse(text: &[u8]) -> Option<Stat> {
        let open = text.iter().position(|byte| *byte == b'(')?;
        let close = text.iter().rposition(|byte| *byte == b')')?;
        let name = text.get(open + 1..close)?.to_vec();
        let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // The third field of the manual page is the first here.
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Stat {
            name,
            state: *fields.first()?.as_bytes().first()?,
            ppid: u32::try_from(number(4)?).ok()?,
            terminal: terminal(fields.get(7 - 3)?.parse::<i32>().ok()?),
            flags: number(9)?,
            cpu_ms: (number(14)? + number(15)?) * TICK_MS,
            started_ms: number(22)? * TICK_MS,
            rss_kib: number(24)? * PAGE_KIB,
        })
    }
}

/// The pseudoterminal of a `tty_nr`, whose major number is 136 for all that there can be.
fn terminal(tty: i32) -> Option<u32> {
    let tty = tty as u32;
    let (major, minor) = (tty >> 8 & 0xff, tty & 0xff | tty >> 12 & 0xf_ff00);
    (major == 136).then_some(minor)
}

/// The effective user, as ps(1) shows it. The owner of the process's directory is not always it.
fn user_id(status: &[u8]) -> Option<u32> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let line = lines.find_map(|line| line.strip_prefix(b"Uid:"))?;
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_what_the_kernel_says_whatever_its_name_is() {
        let text = b"42 (a) S 1 (b) R 7 42 42 34817 42 4194304 93 0 0 0 250 50 0 0 20 0 1 0 12345 \
            4444160 97 18446744073709551615 1 1\n";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(stat.name, b"a) S 1 (b");
        assert_eq!((stat.state, stat.ppid, stat.terminal), (b'R', 7, Some(1)));
        assert_eq!((stat.cpu_ms, stat.started_ms, stat.rss_kib), (3000, 123_450, 388));
        for cut in 0..text.len() - 40 {
            // Half a text is a process that is not told, never a wrong one.
            let half = Stat::parse(&text[..cut]);
            assert!(half.is_none_or(|half| half.ppid == 7 || half.name != stat.name), "{cut}");
        }
    }

    #[test]
    fn a_terminal_is_a_number_in_dev_pts() {
        assert_eq!(terminal(0), None);
        assert_eq!(terminal(0x0401), None);
        assert_eq!(terminal(136 << 8), Some(0));
        assert_eq!(terminal((136 << 8) | 255), Some(255));
        assert_eq!(terminal((136 << 8) | (1 << 20)), Some(256));
    }

    #[test]
    fn users_have_the_name_or_the_number_of_who_they_act_as() {
        let status = b"Name:\tsh\nUmask:\t0022\nUid:\t1000\t33\t1000\t1000\nGid:\t0\n";
        assert_eq!(user_id(status), Some(33));
        assert_eq!(user_id(b"Name:\tUid:\t1\n"), None);
    }

    #[test]
    fn this_process_is_among_them_and_pid_1_is_not() {
        let names = BTreeMap::new();
        let (processes, _) = list(&names);
        let own = std::process::id();
        let found = processes.iter().find(|process| process.pid == own);
        // With more than are listed it may be one of the others.
        if let Some(found) = found {
            assert!(!found.command.is_empty() && found.age_ms < 3_600_000);
            let uid = rustix::process::geteuid().as_raw().to_string();
            assert_eq!(found.user, uid.into_bytes());
        }
        assert!(processes.iter().all(|process| process.pid != 1));
    }
}
