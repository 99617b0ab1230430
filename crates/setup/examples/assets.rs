//! Sets up a store and prints what a VM is booted with: `assets STORE_DIR [SHARED_STORE_DIR]...`.

// People run it and read what it prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::env;
use std::error::Error;
use std::time::Instant;

use boxwood_setup::{Assets, BlankDisk, Sources, Stores};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    let own = arguments.next().ok_or("usage: assets STORE_DIR [SHARED_STORE_DIR]...")?;
    let stores = arguments.fold(Stores::new(own), |stores, shared| stores.with_shared(shared));
    let sources = Sources::from_env()?;

    let assets = Assets::ensure(&stores, &sources, &mut |step| eprintln!("{step}"))?;
    let disk = BlankDisk::ensure(&stores, &mut |step| eprintln!("{step}"))?;
    let start = Instant::now();
    Assets::find(&stores, &sources)?;
    let found = start.elapsed();
    println!("vmlinux   {}", assets.vmlinux.display());
    println!("initramfs {}", assets.initramfs.display());
    println!("release   {} ({})", assets.release, assets.origin);
    println!("guest     {}", assets.guest.display());
    println!("disk      {} ({} bytes of data)", disk.path().display(), disk.data_bytes());
    eprintln!("finding it again took {found:?}");
    Ok(())
}
