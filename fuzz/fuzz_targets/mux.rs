//! A connection whose other side sends anything, read by the host and by the guest. Nothing panics, and
//! what is kept stays within the windows that were granted.
#![no_main]

use boxwood_wire::mux::{Event, Limits, Mux, Role};
use libfuzzer_sys::fuzz_target;

/// Streams the peer may open.
const STREAMS: usize = 8;
/// More than all windows together: what a mux may hold for streams that nobody reads.
const HELD: usize = 16 << 20;

fn take_everything(role: Role, bytes: &[u8], piece: usize, read: bool) {
    let mut mux = Mux::new(role, Limits { streams: STREAMS });
    // Only the host opens streams.
    let own = if role == Role::Host { mux.open().ok() } else { None };
    if let Some(id) = own {
        mux.write(id, b"four");
    }
    let mut open = Vec::new();
    for part in bytes.chunks(piece) {
        let result = mux.receive(part);
        while let Some(event) = mux.next_event() {
            match event {
                Event::Opened(id) => open.push(id),
                Event::Readable(id) if read => drop(mux.read(id, 1 << 16)),
                Event::Reset(id) => open.retain(|other| *other != id),
                Event::Readable(_) | Event::Writable(_) => {}
            }
        }
        assert!(open.len() <= STREAMS);
        let held: usize = open.iter().chain(&own).map(|id| mux.readable(*id)).sum();
        assert!(held <= HELD, "{held} bytes are kept for nobody");
        assert!(mux.output().len() <= HELD);
        if let Some(id) = open.first() {
            mux.write(*id, b"an answer");
            mux.room(*id);
            mux.is_finished(*id);
        }
        let output = mux.output().len();
        mux.sent(output);
        if result.is_err() {
            return;
        }
    }
    for id in open {
        mux.finish(id);
        mux.close(id);
    }
}

fuzz_target!(|input: &[u8]| {
    let [piece, how, bytes @ ..] = input else { return };
    let role = if how & 1 == 0 { Role::Host } else { Role::Guest };
    take_everything(role, bytes, usize::from(*piece).max(1), how & 2 == 0);
});
