//! The mux against itself, in all orders and pieces, and against a peer that breaks the rules.

use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits { streams: 8 };

fn pair() -> (Mux, Mux) {
    (Mux::new(Role::Host, LIMITS), Mux::new(Role::Guest, LIMITS))
}

/// Carries up to `limit` bytes from one to the other.
fn carry(from: &mut Mux, to: &mut Mux, limit: usize) -> usize {
    let bytes: Vec<u8> = from.output().iter().copied().take(limit).collect();
    from.sent(bytes.len());
    to.receive(&bytes).unwrap();
    bytes.len()
}

fn settle(a: &mut Mux, b: &mut Mux) {
    while carry(a, b, usize::MAX) + carry(b, a, usize::MAX) > 0 {}
}

fn events(mux: &mut Mux) -> Vec<Event> {
    std::iter::from_fn(|| mux.next_event()).collect()
}

proptest! {
    #[test]
    fn g5_streams_keep_their_bytes_and_order_whatever_the_pieces(
        sizes in proptest::collection::vec(0usize..700_000, 1..5),
        piece in 1usize..70_000,
        appetite in 1usize..100_000,
    ) {
        let (mut host, mut guest) = pair();
        let ids: Vec<_> = sizes.iter().map(|_| host.open().unwrap()).collect();
        let data: Vec<Vec<u8>> = sizes.iter().enumerate()
            .map(|(i, size)| (0..*size).map(|n| (n * 31 + i) as u8).collect()).collect();
        let mut sent = vec![0; ids.len()];
        let mut got = vec![Vec::new(); ids.len()];
        for _ in 0..1_000_000 {
            for (i, id) in ids.iter().enumerate() {
                if sent[i] < data[i].len() {
                    sent[i] += host.write(*id, &data[i][sent[i]..]);
                }
                if sent[i] == data[i].len() {
                    host.finish(*id);
                }
                let bytes = guest.read(*id, appetite);
                got[i].extend(bytes);
            }
            let moved = carry(&mut host, &mut guest, piece) + carry(&mut guest, &mut host, piece);
            prop_assert!(host.output.len() <= OUTPUT_HIGH_WATER + CHUNK);
            if moved == 0 && ids.iter().all(|id| guest.is_finished(*id)) {
                break;
            }
        }
        prop_assert_eq!(got, data);
    }

    #[test]
    fn rubbish_never_panics_and_stays_bounded(
        bytes in proptest::collection::vec(any::<u8>(), 0..4000),
        headers in proptest::collection::vec((0u8..4, 0u16..16, 0u32..8, 0u32..400_000), 0..60),
    ) {
        for role in [Role::Host, Role::Guest] {
            let mut mux = Mux::new(role, LIMITS);
            let _ = mux.receive(&bytes);
            let mut mux = Mux::new(role, LIMITS);
            if role == Role::Host {
                mux.open().unwrap();
            }
            for (kind, flags, id, length) in &headers {
                let mut frame = vec![0, *kind];
                frame.extend(flags.to_be_bytes());
                frame.extend(id.to_be_bytes());
                frame.extend(length.to_be_bytes());
                if mux.receive(&frame).is_err() || mux.receive(&vec![1; *length as usize]).is_err() {
                    break;
                }
            }
            let held: usize = mux.streams.values().map(|s| s.received.len()).sum();
            prop_assert!(held <= LIMITS.streams * WINDOW as usize);
        }
    }
}

#[test]
fn g5_a_slow_reader_stops_its_own_stream_and_no_other() {
    let (mut host, mut guest) = pair();
    let (slow, quick) = (host.open().unwrap(), host.open().unwrap());
    let block = vec![7; 1 << 20];
    let mut taken = 0;
    loop {
        let count = host.write(slow, &block);
        settle(&mut host, &mut guest);
        if count == 0 {
            break;
        }
        taken += count;
    }
    assert_eq!(taken, WINDOW as usize);
    assert_eq!(host.write(quick, b"hello"), 5);
    settle(&mut host, &mut guest);
    assert_eq!(guest.read(quick, 100), b"hello");
    events(&mut host);
    guest.read(slow, usize::MAX);
    settle(&mut host, &mut guest);
    assert_eq!(events(&mut host), [Event::Writable(slow)]);
}

#[test]
fn g5_what_is_read_as_it_comes_is_granted_again_and_the_rest_waits() {
    let (mut host, mut guest) = pair();
    let id = host.open().unwrap();
    settle(&mut host, &mut guest);
    events(&mut guest);
    let data: Vec<u8> = (0..4 * WINDOW).map(|n| (n * 7 / 3) as u8).collect();
    let (mut sent, mut got) = (0, Vec::new());
    while sent < data.len() {
        let count = host.write(id, &data[sent..]);
        assert!(count > 0 || host.unsent() > 0, "the window is not opened again");
        sent += count;
        let bytes = host.output().to_vec();
        host.sent(bytes.len());
        let mut direct = |_, bytes: &[u8]| {
            got.extend_from_slice(bytes);
            bytes.len()
        };
        guest.receive_with(&bytes, &mut direct).unwrap();
        carry(&mut guest, &mut host, usize::MAX);
    }
    assert!(got == data);
    assert_eq!(events(&mut guest), [], "nothing is left to be read");
    host.write(id, b"taken in part");
    let bytes = host.output().to_vec();
    host.sent(bytes.len());
    guest.receive_with(&bytes, |_, _| 6).unwrap();
    // Not offered, since something waits before it.
    host.write(id, b", and this");
    let bytes = host.output().to_vec();
    host.sent(bytes.len());
    guest.receive_with(&bytes, |_, _| unreachable!("it is not its turn")).unwrap();
    assert_eq!(guest.read(id, 100), b"in part, and this");
}

#[test]
fn g5_what_is_written_in_place_goes_in_one_piece_or_not_at_all() {
    let (mut host, mut guest) = pair();
    let id = host.open().unwrap();
    settle(&mut host, &mut guest);
    let head = |count: usize| [count as u8; 2];
    let nothing = guest.write_with(id, 10, head, |_| Err("nothing there"));
    assert_eq!(nothing, Err("nothing there"));
    assert_eq!(guest.write_with(id, 10, head, |_| Ok::<_, ()>(0)), Ok(0));
    assert_eq!(guest.unsent(), 0);
    guest.write(id, b"before ");
    let fill = |room: &mut [u8]| {
        room[..5].copy_from_slice(b"bytes");
        Ok::<_, ()>(5)
    };
    assert_eq!(guest.write_with(id, 10, head, fill), Ok(5));
    guest.write(id, b" behind");
    settle(&mut host, &mut guest);
    assert_eq!(host.read(id, 100), b"before \x05\x05bytes behind");
    // What was written counts against the window as any other bytes.
    let mut left = WINDOW as usize - 21;
    while left > 0 {
        left -= guest.write(id, &vec![0; left]);
        settle(&mut host, &mut guest);
    }
    assert_eq!(guest.room(id), 0);
}

#[test]
fn g5_who_was_left_too_little_room_is_told_when_there_is_more() {
    let (mut host, mut guest) = pair();
    let id = guest_stream(&mut host, &mut guest);
    // The channel takes no more than three bytes.
    let size = OUTPUT_HIGH_WATER - HEADER - 3;
    let fill = |_: &mut [u8]| Ok::<_, ()>(size);
    assert_eq!(guest.write_with(id, size, |_| [0; 0], fill), Ok(size));
    assert_eq!((guest.room(id), guest.room_for(id, 6)), (3, 0));
    settle(&mut guest, &mut host);
    assert!(events(&mut guest).contains(&Event::Writable(id)));

    // The window has no more than three.
    let left = WINDOW as usize - size - 3;
    for part in [left / 2, left - left / 2] {
        assert_eq!(guest.write(id, &vec![1; part]), part);
        settle(&mut guest, &mut host);
    }
    events(&mut guest);
    assert_eq!((guest.room(id), guest.room_for(id, 6)), (3, 0));
    while !host.read(id, WINDOW as usize).is_empty() {}
    settle(&mut guest, &mut host);
    assert_eq!(events(&mut guest), [Event::Writable(id)]);
}

/// A stream that both know.
fn guest_stream(host: &mut Mux, guest: &mut Mux) -> StreamId {
    let id = host.open().unwrap();
    settle(host, guest);
    id
}

#[test]
fn g5_a_half_close_leaves_the_other_direction_open() {
    let (mut host, mut guest) = pair();
    let id = host.open().unwrap();
    host.write(id, b"in");
    host.finish(id);
    settle(&mut host, &mut guest);
    assert_eq!(events(&mut guest)[0], Event::Opened(id));
    assert_eq!(guest.read(id, 9), b"in");
    assert!(guest.is_finished(id));
    assert_eq!(guest.write(id, b"out"), 3);
    guest.finish(id);
    settle(&mut host, &mut guest);
    assert_eq!(host.read(id, 9), b"out");
    assert!(host.is_finished(id));
    assert!(!guest.is_open(id));
}

#[test]
fn a_reset_is_told_and_late_data_is_dropped() {
    let (mut host, mut guest) = pair();
    let id = host.open().unwrap();
    settle(&mut host, &mut guest);
    guest.write(id, &[1; 1000]);
    host.reset(id);
    settle(&mut host, &mut guest);
    assert!(events(&mut guest).contains(&Event::Reset(id)));
    assert!(!host.is_open(id) && !guest.is_open(id));
    assert_eq!(host.read(id, 10), b"");
}

#[test]
fn closing_frees_the_stream_on_both_sides() {
    let (mut host, mut guest) = pair();
    for _ in 0..100 {
        let id = host.open().unwrap();
        host.write(id, b"x");
        settle(&mut host, &mut guest);
        guest.write(id, b"unread");
        guest.close(id);
        settle(&mut host, &mut guest);
        host.close(id);
        settle(&mut host, &mut guest);
        assert!(!host.is_open(id), "host keeps {id}");
        assert!(!guest.is_open(id), "guest keeps {id}");
    }
}

#[test]
fn what_comes_for_a_closed_stream_is_dropped_and_keeps_it_from_nothing() {
    let (mut host, mut guest) = pair();
    for _ in 0..100 {
        let id = host.open().unwrap();
        host.write(id, b"x");
        settle(&mut host, &mut guest);
        guest.close(id);
        // Under way before the host hears of the end.
        host.write(id, &[1; 5000]);
        settle(&mut host, &mut guest);
        assert_eq!(guest.readable(id), 0);
        host.close(id);
        settle(&mut host, &mut guest);
        assert!(!host.is_open(id) && !guest.is_open(id));
    }
}

#[test]
fn a_peer_that_breaks_the_rules_is_refused() {
    let frame = |kind: u8, flags: u16, id: u32, length: u32| {
        let mut bytes = vec![0, kind];
        bytes.extend(flags.to_be_bytes());
        bytes.extend(id.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes
    };
    let host = || Mux::new(Role::Host, LIMITS);
    let guest = || Mux::new(Role::Guest, LIMITS);
    assert_eq!(host().receive(&frame(1, SYN, 2, 0)), Err(MuxError::Opening(2)));
    assert_eq!(guest().receive(&frame(1, SYN, 2, 0)), Err(MuxError::Opening(2)));
    let mut twice = guest();
    twice.receive(&frame(1, SYN, 3, 0)).unwrap();
    assert_eq!(twice.receive(&frame(1, SYN, 3, 0)), Err(MuxError::Opening(3)));
    assert_eq!(twice.receive(&frame(0, 0, 3, WINDOW + 1)), Err(MuxError::WindowExceeded(3)));
    assert_eq!(twice.receive(&frame(1, 0, 3, u32::MAX)), Err(MuxError::WindowOverflow(3)));
    assert_eq!(host().receive(&[9; 12]), Err(MuxError::Version(9)));
    assert_eq!(host().receive(&frame(8, 0, 0, 0)), Err(MuxError::Type(8)));
    let mut many = guest();
    let result = (0..20).try_for_each(|n| many.receive(&frame(1, SYN, 2 * n + 1, 0)));
    assert_eq!(result, Err(MuxError::TooManyStreams(8)));
    let mut flooded = host();
    let result = (0..1_000_000).try_for_each(|n| flooded.receive(&frame(2, SYN, 0, n)));
    assert_eq!(result, Err(MuxError::Flood));
}
