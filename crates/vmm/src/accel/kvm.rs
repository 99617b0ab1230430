//! Measures how fast KVM runs a guest's kernel mode. Called by the probe in `accel`.
//!
//! A child process makes a VM with one vCPU in 64-bit mode at privilege level 0 and lets it run a
//! small loop again and again for some milliseconds. A back end that never comes back from the loop
//! costs the child, which is killed: that is the reason for having one.

use std::fs::{File, OpenOptions};
use std::io;
use std::time::Duration;

use rustix::io::Errno;

use super::Finding;
use super::sys::{self, Trial};

/// The device.
const DEVICE: &str = "/dev/kvm";
/// Instructions of the loop, and how often it runs before it comes back: on the slow back end
/// (2.3 MIPS) that takes 9 ms.
const LOOP_INSTRUCTIONS: u64 = 4;
pub(super) const ROUNDS: u32 = 5_000;
/// How long the loop is repeated: enough for a figure good to some percent.
pub(super) const ENOUGH: Duration = Duration::from_millis(10);
/// How long the child may take for everything.
const DEADLINE: Duration = Duration::from_secs(1);

/// Opens the device, or says why not.
pub(super) fn open() -> Result<File, Finding> {
    OpenOptions::new().read(true).write(true).open(DEVICE).map_err(|error| {
        match Errno::from_io_error(&error) {
            Some(Errno::ACCESS | Errno::PERM) => Finding::NoPermission,
            Some(Errno::NOENT | Errno::NXIO | Errno::NODEV) => Finding::Absent,
            _ => Finding::Broken { reason: format!("can't open it: {error}") },
        }
    })
}

/// Million instructions per second in kernel mode, or what went wrong.
pub(super) fn measure(device: &File) -> Result<f64, String> {
    match sys::try_kvm(device, DEADLINE) {
        Err(error) => Err(format!("can't try it: {error}")),
        Ok(Trial::TooLate) => {
            Err(format!("a loop of {ROUNDS} rounds took more than {} s", DEADLINE.as_secs()))
        }
        Ok(Trial::Failed { step, errno: 0 }) => Err(format!("{step} failed")),
        Ok(Trial::Failed { step, errno }) => {
            Err(format!("{step} failed: {}", io::Error::from_raw_os_error(errno)))
        }
        Ok(Trial::Ran { loops, nanoseconds }) => {
            let instructions = loops * u64::from(ROUNDS) * LOOP_INSTRUCTIONS;
            let mips = instructions as f64 * 1000.0 / nanoseconds.max(1) as f64;
            // One decimal: it is shown and compared, and reads back as it was written.
            Ok((mips * 10.0).round() / 10.0)
        }
    }
}
