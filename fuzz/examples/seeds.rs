//! Writes one valid input of each sort, from which the fuzzers start: `cargo run --example seeds CORPUS`.

use std::path::Path;

use boxwood_state::control::{self, Reply, Request};
use boxwood_types::{ExitStatus, Signal, StartRefusal};
use boxwood_wire::frame::{self, Kind};
use boxwood_wire::message::{ControlReply, ControlRequest, Counters, ProcessReply, Target};
use boxwood_wire::mux::{Limits, Mux, Role};
use boxwood_wire::preface::{self, Epoch, GuestWord, Hello, HostWord, Mark};

fn main() {
    let corpus = std::env::args().nth(1).expect("the corpus' directory");
    let corpus = Path::new(&corpus);
    for (target, prefix, inputs) in [
        ("greeting", &[7][..], greetings()),
        ("frames", &[7], frames()),
        ("mux", &[7, 0], muxes()),
        ("control", &[], controls()),
    ] {
        std::fs::create_dir_all(corpus.join(target)).expect("it can be written to");
        for (number, input) in inputs.into_iter().enumerate() {
            let path = corpus.join(target).join(format!("seed-{number}"));
            std::fs::write(path, [prefix, &input].concat()).expect("it can be written to");
        }
    }
}

fn greetings() -> Vec<Vec<u8>> {
    let hello = Hello {
        epoch: Epoch([1; 16]),
        unix_time_ns: 1,
        entropy: vec![2; 64],
        hostname: b"web".to_vec(),
        machine_id: [3; 16],
        boot_id: [4; 16],
    };
    let failed = GuestWord::Failed { epoch: Epoch([1; 16]), step: "a".into(), reason: "b".into() };
    vec![
        preface::encode(&HostWord::Hello(hello)),
        preface::encode(&HostWord::Mount { warm: vec![b"/bin/sh".to_vec()] }),
        preface::encode(&GuestWord::Idle),
        preface::encode(&GuestWord::Reborn { epoch: Epoch([1; 16]), mark: Mark([2; 16]) }),
        preface::encode(&failed),
        preface::encode(&HostWord::Clock),
        preface::encode(&HostWord::SetClock { epoch: Epoch([1; 16]), by_ns: -1 }),
        preface::encode(&GuestWord::Clock { epoch: Epoch([1; 16]), unix_time_ns: 1 }),
    ]
}

fn frames() -> Vec<Vec<u8>> {
    let reason = || "no".to_owned();
    let replies = [
        ProcessReply::Started,
        ProcessReply::Refused { refusal: StartRefusal::NotFound, reason: reason() },
        ProcessReply::Failed { step: reason(), reason: reason() },
        ProcessReply::Exited { status: ExitStatus::Code(7) },
    ];
    let requests = [
        ControlRequest::Signal { target: Target::Main, signal: Signal::TERM },
        ControlRequest::Stop { signal: Signal::TERM, grace_ms: 10 },
        ControlRequest::Ping { nonce: 1 },
        ControlRequest::SetClock { by_ns: -1 },
        ControlRequest::Beat { nonce: 1, every_ms: 1000 },
    ];
    let ended = ControlReply::SessionEnded { stream: 7, end: ProcessReply::TimedOut };
    let left = ControlReply::Left { flush_error: Some(reason()), counters: Counters::default() };
    let mut all: Vec<Vec<u8>> = Vec::new();
    all.extend(replies.iter().filter_map(|reply| frame::value(Kind::Reply, reply).ok()));
    all.extend(requests.iter().filter_map(|request| frame::value(Kind::Request, request).ok()));
    all.extend(frame::value(Kind::Reply, &left).ok());
    all.extend(frame::value(Kind::Reply, &ended).ok());
    let mut bytes = frame::header(Kind::Stdout, 5).to_vec();
    bytes.extend(b"bytes");
    all.push(bytes);
    all
}

fn muxes() -> Vec<Vec<u8>> {
    let mut mux = Mux::new(Role::Host, Limits { streams: 8 });
    let mut all = Vec::new();
    if let Ok(id) = mux.open() {
        mux.write(id, b"hello");
        all.push(mux.output().to_vec());
        mux.finish(id);
        all.push(mux.output().to_vec());
        mux.reset(id);
        all.push(mux.output().to_vec());
    }
    all
}

fn controls() -> Vec<Vec<u8>> {
    let requests =
        [Request::Wait, Request::Kill, Request::Signal { signal: Signal::TERM }, Request::Attach];
    let requests = requests.iter().filter_map(|r| control::encode(Kind::Request, r).ok());
    let replies = [Reply::Done, Reply::Started { steps: vec![("a".into(), 1)] }];
    let replies = replies.iter().filter_map(|r| control::encode(Kind::Reply, r).ok());
    requests.chain(replies).map(|bytes| bytes[frame::HEADER..].to_vec()).collect()
}
