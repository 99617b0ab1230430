//! Whether the kernel knows how fast the CPU's own timer runs. Called by `main`, before anything waits.
//!
//! The kernel measures the timer of the local APIC while it boots, by the CPU's clock, for 100 ms
//! (`calibrate_APIC_clock` in `arch/x86/kernel/apic/apic.c`). If the host runs somebody else when that
//! begins or ends, the result is wrong: everything that waits would do so for the wrong time, in every
//! box of the template, or, if nothing is left of the 100 ms, for ever. But the answer is known: QEMU's
//! timer counts nanoseconds, and Linux has it count every sixteenth. KVM's does the same.

use std::fs;

use boxwood_wire::console::MISTIMED;
use rustix::io::Errno;

use crate::fault::{Fault, Step};

/// What wakes the CPU, and how it is programmed (`kernel/time/timer_list.c`).
const TIMERS: &str = "/proc/timer_list";
/// The timer of the local APIC, in Hz.
const RATE: u64 = 1_000_000_000 / 16;
/// How wrong it may be, in parts per million: a second of sleep may be a millisecond too long.
const TOLERANCE_PPM: u64 = 1_000;

/// Makes sure that this guest sleeps as long as it is asked to.
///
/// # Errors
/// When it would not. Another one that boots may fare better.
pub(crate) fn check() -> Result<(), Fault> {
    let text = fs::read_to_string(TIMERS).step("learn what wakes the CPU")?;
    match Timer::first(&text) {
        Some(Timer::Deadline) => Ok(()),
        Some(Timer::Counts { hertz })
            if hertz.abs_diff(RATE) <= RATE * TOLERANCE_PPM / 1_000_000 =>
        {
            Ok(())
        }
        _ => Err(Fault::new(MISTIMED, Errno::RANGE)),
    }
}

/// How a CPU's timer is programmed.
#[derive(Debug, PartialEq, Eq)]
enum Timer {
    /// With a time of the CPU's clock: nothing had to be measured.
    Deadline,
    /// With a number that it counts down.
    Counts {
        /// How fast the kernel takes it to be.
        hertz: u64,
    },
}

impl Timer {
    /// The one of the first CPU, if it has its own.
    fn first(list: &str) -> Option<Timer> {
        let (_, of_cpu) = list.split_once("Per CPU device: 0")?;
        let (_, device) = of_cpu.split_once("Clock Event Device: ")?;
        let value = |name: &str| {
            let line = device.lines().find_map(|line| line.trim().strip_prefix(name))?;
            line.trim().parse::<u64>().ok()
        };
        match device.lines().next()?.trim() {
            "lapic-deadline" => Some(Timer::Deadline),
            "lapic" => {
                let (mult, shift) = (value("mult:")?, value("shift:")?);
                // Nanoseconds times mult, shifted, is what it counts.
                let hertz =
                    u128::from(mult).checked_mul(1_000_000_000)? >> u32::try_from(shift).ok()?;
                Some(Timer::Counts { hertz: u64::try_from(hertz).ok()? })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(name: &str, mult: u64) -> String {
        format!(
            "Timer List Version: v0.9\ncpu: 0\n\nTick Device: mode:     1\n\
             Broadcast device\nClock Event Device: <NULL>\n\n\
             Tick Device: mode:     1\nPer CPU device: 0\nClock Event Device: {name}\n \
             max_delta_ns:   34359738\n min_delta_ns:   1000\n mult:           {mult}\n \
             shift:          32\n mode:           3\n"
        )
    }

    #[test]
    fn the_rate_of_a_cpus_timer_is_read() {
        let counts = |mult| match Timer::first(&list("lapic", mult)) {
            Some(Timer::Counts { hertz }) => hertz,
            other => panic!("{other:?}"),
        };
        assert_eq!(counts(268_435_456), 62_500_000);
        assert_eq!(counts(268_397_000), 62_491_046);
        assert_eq!(Timer::first(&list("lapic-deadline", 5)), Some(Timer::Deadline));
    }

    #[test]
    fn a_cpu_without_a_timer_of_its_own_has_none() {
        for text in ["", "Per CPU device: 0\nClock Event Device: <NULL>\n", &list("pit", 1)] {
            assert_eq!(Timer::first(text), None, "{text}");
        }
        assert_eq!(Timer::first("Per CPU device: 0\nClock Event Device: lapic\n mult: x\n"), None);
    }
}
