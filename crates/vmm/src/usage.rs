//! What a VM takes of the host, as proc(5) has it. Asked for by its shim.

use std::fs;
use std::io;

use crate::process::Identity;

/// Nanoseconds of a clock tick in `/proc` (`USER_HZ` is 100 on x86-64).
const TICK: u64 = 10_000_000;

/// What a VM has taken since it was started, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, in nanoseconds.
    pub cpu_ns: u64,
    /// Memory in bytes: its share of what it has in common with other VMs.
    pub memory: u64,
    /// Bytes read from disks.
    pub read: u64,
    /// Bytes written to disks.
    pub written: u64,
}

impl Usage {
    /// Of a process, if it still is the one that is meant.
    ///
    /// # Errors
    /// When it is not there any more, or can't be looked at.
    pub fn of(process: &Identity) -> io::Result<Usage> {
        let folder = format!("/proc/{}", process.pid);
        let stat = fs::read_to_string(format!("{folder}/stat"))?;
        let missing = || io::Error::from(io::ErrorKind::InvalidData);
        // The second field is the command's name in parentheses and may hold spaces itself.
        let behind = &stat[stat.rfind(')').ok_or_else(missing)? + 1..];
        let fields: Vec<&str> = behind.split_ascii_whitespace().collect();
        // Counted from the third field, the state.
        let field =
            |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok());
        let ticks = field(14).zip(field(15)).ok_or_else(missing)?;
        let memory = share(&folder).or_else(|| resident(&folder)).unwrap_or(0);
        let io = fs::read_to_string(format!("{folder}/io")).unwrap_or_default();
        // Last, so that all of this was the same process's.
        if *process != Identity::of(process.pid).map_err(io::Error::other)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Usage {
            cpu_ns: (ticks.0 + ticks.1) * TICK,
            memory,
            read: number(&io, "read_bytes:").unwrap_or(0),
            written: number(&io, "write_bytes:").unwrap_or(0),
        })
    }
}

/// The proportional share, in bytes. Not everybody may look at it.
fn share(folder: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("{folder}/smaps_rollup")).ok()?;
    number(&text, "Pss:").map(|kib| kib * 1024)
}

fn resident(folder: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("{folder}/status")).ok()?;
    number(&text, "VmRSS:").map(|kib| kib * 1024)
}

fn number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_something_and_another_with_its_pid_nothing() {
        let own = Identity::of(std::process::id()).unwrap();
        let usage = Usage::of(&own).unwrap();
        assert!(usage.memory > 100_000, "{usage:?}");
        let other = Identity { started: own.started + 1, ..own };
        assert!(Usage::of(&other).is_err());
    }
}
