//! PID 1 of a box: boots once, is frozen as part of a template, and lives on in every box that is
//! restored from it. Started by the kernel as `/init` of the initramfs that `crates/setup` builds.
//!
//! It reads top to bottom as what happens. There is one thread, one place that waits (`poll`) and one
//! that reaps (`reaper`); after the freeze it does as little distinct work as it can, because under
//! emulation every instruction is paid for when it runs for the first time.

// Standard error is the VM's console.
#![allow(clippy::print_stderr)]

mod beat;
mod boot;
mod cgroup;
mod clock;
mod connection;
mod control;
mod fault;
mod freezer;
mod greeting;
mod guest;
mod hold;
mod kits;
mod leaving;
mod oom;
mod poll;
mod processes;
mod reaper;
mod rebirth;
mod rehearsal;
mod rootfs;
mod session;
mod sessions;
mod start;
mod sys;

use std::path::Path;

use boxwood_wire::preface::{self, GuestWord};
use rustix::system::RebootCommand;

use boot::disks::Disks;
use boot::uevents::Uevents;
use connection::Port;
use fault::Fault;
use guest::{Guest, Machine};
use kits::Kits;
use poll::{Poll, Source};
use reaper::Reaper;
use session::stdio::Pipes;

fn main() {
    // The warm-up and a rehearsal run us as their throw-away child.
    if std::process::id() != 1 {
        let _ = std::io::Write::write_all(&mut std::io::stdout(), b"here\n");
        return;
    }
    // A panic in PID 1 would be the kernel's panic, too, with a dump that hides the message.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("boxwood-guest: {panic}");
        end();
    }));
    let mut guest = match boot() {
        Ok(guest) => guest,
        Err(fault) => die(&fault),
    };
    let result = guest.say(&GuestWord::Idle).and_then(|()| {
        loop {
            // The template is frozen in the first of these.
            guest.turn()?;
        }
    });
    match result {
        Ok(never) => never,
        Err(fault) => die(&fault),
    }
}

/// Everything that can be done before the freeze.
fn boot() -> Result<Guest, Fault> {
    boot::inheritance()?;
    boot::mounts::first()?;
    boot::timer::check()?;
    boot::memory()?;
    let uevents = Uevents::open()?;
    boot::modules::load_all(Path::new("/modules"))?;
    let port = Port::new(boot::port::open(&uevents)?);
    // From here on the host hears of a failure, too.
    match prepare(&port) {
        Ok((machine, kits)) => Ok(Guest::new(port, machine, kits)),
        Err(fault) => {
            let word = greeting::failed(greeting::NO_EPOCH, &fault);
            let _ = port.write(&preface::encode(&word));
            Err(fault)
        }
    }
}

/// Everything that a box will need and that is the same for all boxes.
fn prepare(port: &Port) -> Result<(Machine, Kits), Fault> {
    let disks = Disks::find()?;
    disks.tune()?;
    boot::loopback()?;
    boot::interval_timer()?;
    let (prepared, identity) = boot::mounts::prepare()?;
    let poll = Poll::new()?;
    let reaper = Reaper::new()?;
    let pipes = Pipes::new(&poll, guest::MAIN_SLOT)?;
    poll.watch(port.source(), Source::Port)?;
    poll.watch(reaper.source(), Source::Children)?;
    let mut machine = Machine { disks, poll, reaper, prepared, identity, pipes: Some(pipes) };
    let kits = Kits::new(&mut machine)?;
    boot::warm::warm_up()?;
    boot::priority()?;
    Ok((machine, kits))
}

/// Says on the console what went wrong, and ends the VM: its shim reports the console's last lines.
fn die(fault: &Fault) -> ! {
    eprintln!("boxwood-guest: {fault}: {}", fault.reason());
    end()
}

/// Ends the VM. QEMU is told not to start it again.
fn end() -> ! {
    let _ = rustix::system::reboot(RebootCommand::Restart);
    // The kernel does not return from that; if it refuses, its panic ends the VM as well.
    std::process::exit(1)
}
