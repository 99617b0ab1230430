//! What a template depends on that is the host's: this boot, the CPU, the rate of its clock.
//! Called by `cache` and `template`.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest, Sha256};

use crate::accel::sys::read_tsc;
use crate::cache;
use crate::error::Error;

/// How long the clock is watched: a reading is exact to about 50 ns, so the rate is to 5 ppm.
const WATCH: Duration = Duration::from_millis(15);
/// The rates a CPU may have, in kHz.
const PLAUSIBLE_KHZ: std::ops::RangeInclusive<u64> = 100_000..=20_000_000;

/// The id of this boot of the host.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The CPU's vendor, model and features, as one digest: what a VM sees with `-cpu host`.
pub(crate) fn cpu_digest() -> Result<String, Error> {
    let text = fs::read_to_string("/proc/cpuinfo")
        .map_err(|source| Error::Host { what: "the CPU", source })?;
    let mut digest = Sha256::new();
    let first_cpu = text.split("\n\n").next().unwrap_or_default();
    for line in first_cpu.lines() {
        let name = line.split(':').next().unwrap_or_default().trim();
        let lasting =
            ["vendor_id", "cpu family", "model", "model name", "stepping", "microcode", "flags"];
        if lasting.contains(&name) {
            digest.update(line);
        }
    }
    Ok(hex(&digest.finalize()))
}

/// The rate of the time stamp counter in kHz, measured once per boot of the host. The guest is told:
/// one that measures it on a busy host gets it wrong, and may hang.
pub(crate) fn tsc_khz(cache_dir: &Path) -> Result<u64, Error> {
    const NAME: &str = "tsc-khz";
    if let Some(khz) = cache::get_this_boot(cache_dir, NAME) {
        return Ok(khz);
    }
    let khz = measure_tsc_khz().map_err(|source| Error::Host { what: "the clock rate", source })?;
    cache::put_this_boot(cache_dir, NAME, &khz);
    Ok(khz)
}

fn measure_tsc_khz() -> io::Result<u64> {
    let (tsc_then, ns_then) = read_clocks();
    // Not a wait for something: the measurement is of this very time.
    std::thread::sleep(WATCH);
    let (tsc_now, ns_now) = read_clocks();
    let elapsed = u128::from(ns_now.saturating_sub(ns_then)).max(1);
    let khz = u128::from(tsc_now.wrapping_sub(tsc_then)) * 1_000_000 / elapsed;
    match u64::try_from(khz) {
        Ok(khz) if PLAUSIBLE_KHZ.contains(&khz) => Ok(khz),
        _ => Err(io::Error::other(format!("its time stamp counter seems to run at {khz} kHz"))),
    }
}

/// Both clocks at the same moment: the closest of some tries, since we may be put off in between.
fn read_clocks() -> (u64, u64) {
    let nanoseconds = || {
        let time = clock_gettime(ClockId::MonotonicRaw);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    };
    let reading = || {
        let before = read_tsc();
        let ns = nanoseconds();
        let after = read_tsc();
        (after.wrapping_sub(before), before.wrapping_add(after.wrapping_sub(before) / 2), ns)
    };
    let closest = (0..16).map(|_| reading()).min_by_key(|reading| reading.0);
    closest.map_or((0, 0), |(_, tsc, ns)| (tsc, ns))
}

/// The 16 bytes that 32 hexadecimal digits stand for.
pub(crate) fn unhex(text: &str) -> Option<[u8; 16]> {
    let number = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32)?;
    Some(number.to_be_bytes())
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_measurements_of_the_clock_agree_to_100_ppm() {
        let one = measure_tsc_khz().unwrap();
        let two = measure_tsc_khz().unwrap();
        assert!(one.abs_diff(two) * 10_000 < one, "{one} {two}");
    }

    #[test]
    fn the_cpu_has_a_digest_that_lasts() {
        assert_eq!(cpu_digest().unwrap(), cpu_digest().unwrap());
    }
}
