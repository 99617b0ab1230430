//! Measures what every start of a box pays here: `timing STORE_DIR [SCRATCH_DIR]`.

// People run it and read what it prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::env;
use std::error::Error;
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use boxwood_setup::{Assets, BlankDisk, Sources, Stores};

const ROUNDS: usize = 51;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let store = arguments.next().ok_or("usage: timing STORE_DIR [SCRATCH_DIR]")?;
    let scratch = arguments.next().unwrap_or_else(|| store.clone()).join("timing-copy");
    let stores = Stores::new(store);
    let sources = Sources::from_env()?;

    let (mut assets, mut find, mut copy) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        Assets::find(&stores, &sources)?;
        assets.push(start.elapsed());
        let start = Instant::now();
        let disk = BlankDisk::find(&stores)?;
        find.push(start.elapsed());
        let start = Instant::now();
        disk.copy_to(&File::create(&scratch)?)?;
        copy.push(start.elapsed());
        std::fs::remove_file(&scratch)?;
    }
    for (what, times) in [("Assets::find", assets), ("BlankDisk::find", find), ("copy_to", copy)] {
        println!("{what:16} {}", summary(times));
    }
    Ok(())
}

fn summary(mut times: Vec<Duration>) -> String {
    times.sort();
    format!(
        "median {:?}, worst {:?} of {}",
        times[times.len() / 2],
        times[times.len() - 1],
        times.len()
    )
}
