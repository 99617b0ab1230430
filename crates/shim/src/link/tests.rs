//! A link against a guest's mux over a real socket.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::drive::ROUNDS;
use super::*;
use boxwood_wire::frame::{self, EXEC_PORT, Kind, MAIN_PORT};
use boxwood_wire::mux::Event;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// A guest that answers each stream's bytes with themselves, in frames of standard output.
async fn echo(mut socket: UnixStream) {
    let mut mux = Mux::new(Role::Guest, Limits { streams: 8 });
    let mut waiting: HashMap<StreamId, Vec<u8>> = HashMap::new();
    let mut buffer = vec![0; 4096];
    loop {
        let count = socket.read(&mut buffer).await.unwrap_or(0);
        if count == 0 {
            return;
        }
        mux.receive(&buffer[..count]).unwrap();
        while let Some(event) = mux.next_event() {
            let (Event::Opened(id) | Event::Readable(id) | Event::Writable(id)) = event else {
                continue;
            };
            let bytes = mux.read(id, usize::MAX);
            let queue = waiting.entry(id).or_default();
            queue.extend(bytes);
            let sent = mux.write(id, queue);
            queue.drain(..sent);
        }
        while !mux.output().is_empty() {
            let sent = socket.write(mux.output()).await.unwrap_or(0);
            if sent == 0 {
                return;
            }
            mux.sent(sent);
        }
    }
}

fn on_one_thread(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

#[test]
fn g5_megabytes_come_back_whole_through_a_small_window() {
    on_one_thread(async {
        let (host, guest) = UnixStream::pair().unwrap();
        tokio::task::spawn_local(echo(guest));
        let link = Link::new(Counters::nowhere().into());
        let mut stream = link.open(MAIN_PORT).unwrap();
        tokio::task::spawn_local(link.clone().run(host, Vec::new()));
        let writer = stream.writer();
        let data: Vec<u8> = (0..3_000_000u32).map(|n| (n * 7 / 8) as u8).collect();
        let sent = data.clone();
        tokio::task::spawn_local(async move {
            for chunk in sent.chunks(frame::MAX_BYTES) {
                writer.send_frame(Kind::Stdout, chunk).await.unwrap();
            }
        });
        // The guest echoes the port number, too: it is no frame, so it is taken off first.
        while stream.decoder.port().is_none() {
            stream.writer.bell.readable.notified().await;
            let bytes = link.shared.mux.borrow_mut().read(stream.writer.id, 4);
            stream.decoder.push(&bytes);
        }
        stream.writer.bell.readable.notify_one();
        let mut got = Vec::new();
        while got.len() < data.len() {
            got.extend(stream.next_frame().await.unwrap().unwrap().payload);
        }
        assert!(got == data);
    });
}

#[test]
fn h4_a_hang_up_wakes_everybody_who_waits() {
    on_one_thread(async {
        let (host, guest) = UnixStream::pair().unwrap();
        let link = Link::new(Counters::nowhere().into());
        let mut stream = link.open(EXEC_PORT).unwrap();
        tokio::task::spawn_local(link.clone().run(host, Vec::new()));
        let writer = stream.writer();
        let blocked = tokio::task::spawn_local(async move {
            loop {
                if let Err(error) = writer.send_frame(Kind::Stdin, &[0; 60_000]).await {
                    return error;
                }
            }
        });
        tokio::task::yield_now().await;
        drop(guest);
        assert!(matches!(stream.next_frame().await, Err(LinkError::Closed)));
        assert!(matches!(blocked.await.unwrap(), LinkError::Closed));
        assert!(link.open(EXEC_PORT).is_err());
    });
}

/// What the guest's end has of a stream.
fn heard(guest: &mut Mux, bytes: &[u8], id: StreamId) -> Vec<u8> {
    guest.receive(bytes).unwrap();
    guest.read(id, usize::MAX)
}

#[test]
fn g1_a_stream_says_what_it_is_for_also_when_much_waits_to_be_sent() {
    on_one_thread(async {
        let link = Link::new(Counters::nowhere().into());
        let first = link.open(MAIN_PORT).unwrap();
        while link.shared.mux.borrow_mut().write(first.id(), &[7; 60_000]) > 0 {}
        let second = link.open(EXEC_PORT).unwrap();
        let mut guest = Mux::new(Role::Guest, Limits { streams: 8 });
        let said = heard(&mut guest, &link.take_output(), second.id());
        assert_eq!(said, EXEC_PORT.to_le_bytes());
    });
}

#[test]
fn s2_a_corked_link_sends_what_waited_and_then_what_it_is_drawn_with_first() {
    on_one_thread(async {
        let (host, mut guest) = UnixStream::pair().unwrap();
        let link = Link::new(Counters::nowhere().into());
        let stream = link.open(EXEC_PORT).unwrap();
        let before = link.shared.mux.borrow().unsent();
        link.cork();
        assert!(link.is_corked());
        let writer = stream.writer();
        writer.send_frame(Kind::Stdin, b"later").await.unwrap();
        let all = link.shared.mux.borrow().unsent();
        tokio::task::spawn_local(link.clone().run(host, Vec::new()));
        let mut early = vec![0; before];
        guest.read_exact(&mut early).await.unwrap();
        tokio::task::yield_now().await;
        assert!(guest.try_read(&mut [0; 1]).is_err(), "nothing comes behind what waited");
        link.uncork(b"first".to_vec());
        // Corked once more before that was sent: it is not forgotten.
        link.cork();
        let mut late = vec![0; 5 + all - before];
        let rest = guest.read_exact(&mut late);
        tokio::time::timeout(std::time::Duration::from_secs(5), rest).await.unwrap().unwrap();
        assert!(late.starts_with(b"first") && late.ends_with(b"later"), "{late:?}");
    });
}

#[test]
fn a_guest_that_sends_garbage_is_told_apart() {
    on_one_thread(async {
        let (host, mut guest) = UnixStream::pair().unwrap();
        let link = Link::new(Counters::nowhere().into());
        let mut stream = link.open(EXEC_PORT).unwrap();
        guest.write_all(&[0x55; 64]).await.unwrap();
        tokio::task::spawn_local(link.clone().run(host, Vec::new()));
        assert!(matches!(stream.next_frame().await, Err(LinkError::Protocol(_))));
    });
}

/// What a guest that floods its channel sends, in all.
const FLOOD: usize = 48 << 20;

/// A guest that sends more than can be heard, and then hangs up. It counts what was taken from it.
fn flood(mut guest: std::os::unix::net::UnixStream, taken: Arc<AtomicUsize>) {
    // The answer to a ping, which asks for none.
    let frames = [0, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0].repeat(4096);
    while taken.load(Ordering::Relaxed) < FLOOD && guest.write_all(&frames).is_ok() {
        taken.fetch_add(frames.len(), Ordering::Relaxed);
    }
}

#[test]
fn g5_others_get_their_turns_beside_a_guest_that_floods_its_channel() {
    on_one_thread(async {
        let (host, guest) = std::os::unix::net::UnixStream::pair().unwrap();
        host.set_nonblocking(true).unwrap();
        let host = UnixStream::from_std(host).unwrap();
        let taken = Arc::new(AtomicUsize::new(0));
        let theirs = taken.clone();
        let flooding = std::thread::spawn(move || flood(guest, theirs));
        let link = Link::new(Counters::nowhere().into());
        let moved = tokio::task::spawn_local(link.clone().run(host, Vec::new()));
        let other = tokio::task::spawn_local(async move {
            let (mut before, mut most) = (0, 0);
            while !moved.is_finished() {
                let now = taken.load(Ordering::Relaxed);
                (before, most) = (now, most.max(now - before));
                tokio::task::yield_now().await;
            }
            most
        });
        let most = other.await.unwrap();
        flooding.join().unwrap();
        // What is heard in a turn of the link's, twice, and what its socket holds.
        let bound = 2 * ROUNDS * READ + (1 << 20);
        assert!(most <= bound, "{most} bytes were heard in one turn");
    });
}
