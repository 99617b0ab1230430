//! The real-time clock of the box, which the host sets. Called by `greeting` for a rebirth and by
//! `control` for a box that stood still.
//!
//! A time that the host says is late by as long as it takes to arrive. So the guest tells what its clock
//! reads; the host, who knows between which two moments that was, answers by how much it is wrong.

use rustix::io::Errno;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use crate::sys;

const NS: i64 = 1_000_000_000;

/// Sets it.
pub(crate) fn set(unix_ns: u64) -> Result<(), Errno> {
    clock_settime(ClockId::Realtime, time(unix_ns))
}

/// What it reads, in nanoseconds since 1970.
pub(crate) fn read() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    u64::try_from(i128::from(now.tv_sec) * i128::from(NS) + i128::from(now.tv_nsec)).unwrap_or(0)
}

/// Sets it forward by so many nanoseconds, or back, to the microsecond. However late that is done, it
/// does the same.
pub(crate) fn shift(by_ns: i64) -> Result<(), Errno> {
    sys::shift_clock(by_ns.div_euclid(NS), by_ns.rem_euclid(NS) / 1000)
}

fn time(unix_ns: u64) -> Timespec {
    // 2^64 ns are 584 years: both parts fit.
    Timespec { tv_sec: (unix_ns / NS as u64) as i64, tv_nsec: (unix_ns % NS as u64) as i64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g10_a_time_has_seconds_and_nanoseconds() {
        assert_eq!(time(1_700_000_000_123_456_789).tv_sec, 1_700_000_000);
        assert_eq!(time(1_700_000_000_123_456_789).tv_nsec, 123_456_789);
        assert!(read() > 1_700_000_000 * NS as u64);
    }
}
