//! The counters of one box: numbers in memory, and in a file of fixed places, each written when it changes.
//! Held by the box's shim; made by the box's creator; corrected by who finds the box lost.

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use super::{Counter, Spread, Tally, Timing};

/// What a file begins with: what it is, and the version of its places.
const MAGIC: u64 = u64::from_le_bytes(*b"boxwood1");
/// Places for counters, with the first taken; and for each timing.
const COUNTERS: usize = 64;
const TIMING: usize = 32;
const PLACES: usize = COUNTERS + Timing::ALL.len() * TIMING;
/// The most a guest can claim to have counted in one run: it must not be able to end a sum.
const CLAIM: u64 = 1 << 40;

/// The bounds of durations, in microseconds; what took longer has a place of its own.
const BOUNDS: [u64; 14] = [
    5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 150_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000,
];

/// The counters of one box, by the one who owns it.
#[derive(Debug)]
pub struct Counters {
    places: Vec<Cell<u64>>,
    /// What guests of earlier runs have claimed.
    claimed: [Cell<u64>; 2],
    /// Without one, what is counted is lost with the process: a full disk stops no box.
    file: Option<File>,
}

impl Counters {
    /// Goes on counting in this file; from the beginning if it is not there or not whole.
    pub(crate) fn open(path: &Path) -> Counters {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path).ok();
        let known = file.as_ref().and_then(read);
        let fresh = known.is_none();
        let mut places = known.unwrap_or_default();
        places.resize(PLACES, 0);
        places[0] = MAGIC;
        if fresh && let Some(file) = &file {
            let bytes: Vec<u8> = places.iter().flat_map(|place| place.to_le_bytes()).collect();
            // News only: what can't be written is counted as long as this process lives.
            let _ = file.write_all_at(&bytes, 0);
        }
        let counters = Counters {
            places: places.into_iter().map(Cell::new).collect(),
            claimed: Default::default(),
            file,
        };
        counters.begin_run();
        counters
    }

    /// That count for nobody.
    pub fn nowhere() -> Counters {
        let places = vec![Cell::new(0); PLACES];
        Counters { places, claimed: Default::default(), file: None }
    }

    /// It happened so often.
    pub fn add(&self, counter: Counter, count: u64) {
        if count > 0 {
            let place = place_of(counter);
            self.put(place, self.places[place].get().saturating_add(count));
        }
    }

    /// It took so long, once.
    pub fn took(&self, timing: Timing, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let first = first_of(timing);
        self.put(first, self.places[first].get().saturating_add(micros));
        let bucket = first + 1 + BOUNDS.partition_point(|bound| *bound < micros);
        self.put(bucket, self.places[bucket].get().saturating_add(1));
    }

    /// Another guest counts from 0.
    pub fn begin_run(&self) {
        for (claimed, counter) in self.claimed.iter().zip(CLAIMED) {
            claimed.set(self.places[place_of(counter)].get());
        }
    }

    /// What the guest of this run says it has counted so far.
    pub fn claims(&self, orphans_reaped: u64, sessions: u64) {
        for ((claimed, counter), claim) in
            self.claimed.iter().zip(CLAIMED).zip([orphans_reaped, sessions])
        {
            let place = place_of(counter);
            let sum = claimed.get().saturating_add(claim.min(CLAIM));
            // A count never falls, whatever a guest says.
            if sum > self.places[place].get() {
                self.put(place, sum);
            }
        }
    }

    fn put(&self, place: usize, value: u64) {
        self.places[place].set(value);
        if let Some(file) = &self.file {
            // A write to the page cache, of eight bytes that a reader sees whole. See `open`.
            let _ = file.write_all_at(&value.to_le_bytes(), (place * 8) as u64);
        }
    }
}

/// What guests claim, in the order of [`Counters::claims`].
const CLAIMED: [Counter; 2] = [Counter::OrphansReaped, Counter::GuestSessions];

fn place_of(counter: Counter) -> usize {
    1 + counter as usize
}

fn first_of(timing: Timing) -> usize {
    COUNTERS + timing as usize * TIMING
}

/// The places of a file, as many as this version knows.
fn read(file: &File) -> Option<Vec<u64>> {
    let mut bytes = vec![0; PLACES * 8];
    let mut length = 0;
    while length < bytes.len() {
        match file.read_at(&mut bytes[length..], length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(_) => return None,
        }
    }
    let places = bytes[..length].chunks_exact(8);
    let places: Vec<u64> = places
        .map(|place| u64::from_le_bytes(place.try_into().expect("a chunk has eight bytes")))
        .collect();
    (places.first() == Some(&MAGIC)).then_some(places)
}

/// What a box's file says. One that is not there, or is none, says nothing.
pub(super) fn tally(path: &Path) -> Tally {
    let places = File::open(path).ok().as_ref().and_then(read).unwrap_or_default();
    let place = |at: usize| places.get(at).copied().unwrap_or_default();
    let mut tally = Tally::default();
    for counter in Counter::ALL {
        tally.set(counter, place(place_of(counter)));
    }
    for timing in Timing::ALL {
        let first = first_of(timing);
        let bounds = BOUNDS.into_iter().chain([u64::MAX]);
        let buckets = bounds.enumerate().map(|(at, bound)| (bound, place(first + 1 + at)));
        tally.set_spread(timing, Spread { sum_us: place(first), buckets: buckets.collect() });
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h12_what_was_counted_survives_a_process_that_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics");
        let first = Counters::open(&path);
        first.add(Counter::Execs, 3);
        first.took(Timing::Restore, Duration::from_millis(60));
        first.took(Timing::Restore, Duration::from_secs(3600));
        // No end of any kind: it is as if it were killed here.
        std::mem::forget(first);
        let second = Counters::open(&path);
        second.add(Counter::Execs, 2);
        second.took(Timing::Restore, Duration::from_millis(75));
        let found = tally(&path);
        assert_eq!(found.count(Counter::Execs), 5);
        let spread = found.spread(Timing::Restore);
        assert_eq!((spread.buckets[&75_000], spread.buckets[&u64::MAX], spread.count()), (2, 1, 3));
        assert_eq!(spread.sum_us, 3_600_135_000);
    }

    #[test]
    fn h12_every_counter_and_timing_has_a_place_and_a_name_of_its_own() {
        let counters = Counters::nowhere();
        let mut places: Vec<usize> = Counter::ALL.map(place_of).to_vec();
        assert!(places.iter().all(|place| (1..COUNTERS).contains(place)));
        places.extend(Timing::ALL.map(first_of));
        places.dedup();
        assert_eq!(places.len(), Counter::ALL.len() + Timing::ALL.len());
        assert!(BOUNDS.len() + 2 <= TIMING && places.iter().all(|at| *at < counters.places.len()));
        let keys = Counter::ALL.map(Counter::key).into_iter().chain(Timing::ALL.map(Timing::key));
        let keys: std::collections::BTreeSet<String> = keys.collect();
        assert_eq!(keys.len(), Counter::ALL.len() + Timing::ALL.len());
    }

    #[test]
    fn h12_a_guest_can_neither_turn_a_count_back_nor_end_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics");
        let counters = Counters::open(&path);
        counters.claims(5, 2);
        counters.claims(3, 4);
        let said = || {
            let found = tally(&path);
            (found.count(Counter::OrphansReaped), found.count(Counter::GuestSessions))
        };
        assert_eq!(said(), (5, 4));
        counters.begin_run();
        counters.claims(1, 1);
        assert_eq!(said(), (6, 5));
        counters.claims(u64::MAX, 1);
        assert_eq!(said(), (5 + CLAIM, 5));
    }

    #[test]
    fn h12_a_file_that_is_damaged_or_longer_than_known_harms_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics");
        assert_eq!(tally(&path).count(Counter::Execs), 0);
        std::fs::write(&path, [7; 100]).unwrap();
        assert_eq!(tally(&path).count(Counter::Execs), 0);
        Counters::open(&path).add(Counter::Execs, 1);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend([1; 4000]);
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(tally(&path).count(Counter::Execs), 1);
        std::fs::write(&path, &bytes[..8 * (1 + Counter::Execs as usize) + 8 + 3]).unwrap();
        assert_eq!(tally(&path).count(Counter::Execs), 1);
    }
}
