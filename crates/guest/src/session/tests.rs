//! Sessions over real pipes and a connection to a host's end in memory.

use std::os::fd::{AsFd, OwnedFd};

use boxwood_wire::frame::{self, CONTROL_PORT, Decoder, HEADER, Kind, MAIN_PORT};
use boxwood_wire::message::{Counters, Stdin};
use boxwood_wire::mux::{Limits, Mux, Role, WINDOW};

use super::stdio::{Ends, Pipes};
use super::terminal::Terminal;
use super::width::{LARGE, MUCH};
use super::*;
use crate::poll::Poll;

/// Both ends of a connection with one stream, and the child's ends of a session's pipes.
struct Scene {
    guest: Connection,
    host: Mux,
    stream: StreamId,
    heard: Decoder,
    session: Session,
    /// Standard input, output and error of the child.
    child: [OwnedFd; 3],
    _poll: Poll,
}

impl Scene {
    fn new(stdin: Stdin) -> Self {
        Scene::with(|poll| Ends::Pipes(Pipes::new(poll, 0).unwrap(), stdin))
    }

    /// `None` where there are no terminals.
    fn terminal() -> Option<Self> {
        let terminals = std::fs::File::open("/dev/pts").ok()?;
        let terminal = Terminal::open(terminals.as_fd(), WindowSize::default()).ok()?;
        Some(Scene::with(|poll| Ends::terminal(terminal, poll, 0).unwrap()))
    }

    /// The control stream.
    fn control(&mut self) -> StreamId {
        let control = self.host.open().unwrap();
        self.host.write(control, &CONTROL_PORT.to_le_bytes());
        self.carry();
        assert_eq!(self.guest.service(control), Some(CONTROL_PORT));
        control
    }

    /// What is told beside the streams of sessions.
    fn reports(&mut self, control: StreamId) -> Vec<ControlReply> {
        self.carry();
        let mut frames = Decoder::new();
        frames.push(&self.host.read(control, usize::MAX));
        std::iter::from_fn(|| frames.next_frame().unwrap())
            .map(|frame| frame::parse(&frame.payload).unwrap())
            .collect()
    }

    fn with(ends: impl FnOnce(&Poll) -> Ends) -> Self {
        let mut host = Mux::new(Role::Host, Limits { streams: 4 });
        let stream = host.open().unwrap();
        host.write(stream, &MAIN_PORT.to_le_bytes());
        let poll = Poll::new().unwrap();
        let ends = ends(&poll);
        let child = ends.child_ends().map(|fd| fd.try_clone_to_owned().unwrap());
        let pid = Pid::from_raw(1000).unwrap();
        let session = Session::main(pid, stream, ends.into_stdio());
        let (guest, heard) = (Connection::new(), Decoder::new());
        let mut scene = Scene { guest, host, stream, heard, session, child, _poll: poll };
        scene.carry();
        assert_eq!(scene.guest.service(stream), Some(MAIN_PORT));
        scene
    }

    /// Carries what there is, both ways.
    fn carry(&mut self) {
        loop {
            let out = self.guest.take_output();
            let back = self.host.output().to_vec();
            self.host.sent(back.len());
            if out.is_empty() && back.is_empty() {
                return;
            }
            self.host.receive(&out).unwrap();
            let session = &mut self.session;
            self.guest.receive(&back, |_, input| session.take_input(input)).unwrap();
            while self.guest.next_event().is_some() {}
        }
    }

    /// Lets everything happen that can without the host reading.
    fn settle(&mut self) -> Turn {
        let mut scratch = vec![0; frame::MAX_BYTES];
        for pipe in [Pipe::Stdin, Pipe::Stdout, Pipe::Stderr] {
            self.session.note(pipe);
        }
        loop {
            let turn = self.session.turn(&mut self.guest, &mut scratch).unwrap();
            self.carry();
            if turn != Turn::Busy {
                return turn;
            }
        }
    }

    /// What the host reads: output, errors, and the last reply.
    fn hear(&mut self) -> (Vec<u8>, Vec<u8>, Option<ProcessReply>) {
        let (mut out, mut err, mut reply) = (Vec::new(), Vec::new(), None);
        self.heard.push(&self.host.read(self.stream, usize::MAX));
        self.carry();
        while let Some(frame) = self.heard.next_frame().unwrap() {
            match frame.kind {
                Kind::Stdout => out.extend(frame.payload),
                Kind::Stderr => err.extend(frame.payload),
                Kind::Reply => reply = Some(frame::parse(&frame.payload).unwrap()),
                other => panic!("the guest sent {other:?}"),
            }
        }
        (out, err, reply)
    }

    fn say(&mut self, kind: Kind, bytes: &[u8]) {
        let mut frame = frame::header(kind, bytes.len()).to_vec();
        frame.extend(bytes);
        assert_eq!(self.host.write(self.stream, &frame), frame.len());
        self.carry();
    }

    fn write(&self, fd: usize, bytes: &[u8]) {
        assert_eq!(rustix::io::write(&self.child[fd], bytes).unwrap(), bytes.len());
    }

    fn read_input(&self) -> Vec<u8> {
        let mut buffer = vec![0; 1 << 20];
        let count = rustix::io::read(&self.child[0], &mut buffer).unwrap();
        buffer.truncate(count);
        buffer
    }
}

const EXITED: ProcessReply = ProcessReply::Exited { status: ExitStatus::Code(7) };

#[test]
fn g3_the_exit_comes_after_all_output_and_does_not_wait_for_a_grandchild() {
    let mut scene = Scene::new(Stdin::Null);
    scene.write(1, b"out");
    scene.write(2, b"err");
    // The child's ends stay open, as in a grandchild's hands.
    scene.session.ended(ExitStatus::Code(7));
    assert_eq!(scene.settle(), Turn::Over);
    assert_eq!(scene.hear(), (b"out".to_vec(), b"err".to_vec(), Some(EXITED)));
    assert!(scene.host.is_finished(scene.stream));
}

#[test]
fn s2_the_last_word_before_a_capture_is_said_whatever_else_waits_to_be_sent() {
    let mut scene = Scene::new(Stdin::Null);
    let control = scene.control();
    let stream = scene.stream;
    while let room @ 1.. = scene.guest.room(stream) {
        let filled = scene.guest.send(stream, Kind::Stdout, room, |place| Ok::<_, ()>(place.len()));
        assert_eq!(filled, Ok(room));
    }
    let pong = ControlReply::Pong { nonce: 1, counters: Counters::default() };
    scene.guest.reply(control, &pong);
    let held = ControlReply::Held { nonce: 2, fault: None };
    scene.guest.reply_at_once(control, &held);
    // What is said is all that is sent: nothing that was to make room for more is dealt with any more.
    let sent = scene.guest.take_output();
    scene.host.receive(&sent).unwrap();
    assert_eq!(scene.reports(control), [pong, held]);
}

#[test]
fn g3_what_a_grandchild_writes_after_the_end_is_not_owed() {
    let mut scene = Scene::new(Stdin::Null);
    scene.write(1, b"mine");
    scene.session.ended(ExitStatus::Code(7));
    scene.write(1, b"late");
    assert_eq!(scene.settle(), Turn::Over);
    assert_eq!(scene.hear(), (b"mine".to_vec(), Vec::new(), Some(EXITED)));
}

#[test]
fn g3_a_grandchild_that_reads_the_pipe_delays_nothing() {
    let mut scene = Scene::new(Stdin::Null);
    scene.write(1, b"stolen");
    scene.session.ended(ExitStatus::Code(7));
    let pipe = std::fs::File::open("/proc/self/fd/".to_owned() + &raw(&scene.child[1])).unwrap();
    assert_eq!(rustix::io::read(&pipe, &mut [0u8; 64]).unwrap(), 6);
    assert_eq!(scene.settle(), Turn::Over);
    assert_eq!(scene.hear().2, Some(EXITED));
}

fn raw(fd: &OwnedFd) -> String {
    std::os::fd::AsRawFd::as_raw_fd(fd).to_string()
}

#[test]
fn g3_what_a_terminal_holds_at_the_end_is_sent_and_a_grandchild_is_not_waited_for() {
    let Some(mut scene) = Scene::terminal() else { return };
    let text = vec![b'x'; 6000];
    scene.write(1, &text);
    // The child's ends stay open, as in a grandchild's hands.
    scene.session.ended(ExitStatus::Code(7));
    assert_eq!(scene.settle(), Turn::Over);
    assert_eq!(scene.hear(), (text, Vec::new(), Some(EXITED)));
}

#[test]
fn g5_the_end_of_input_means_nothing_to_a_terminal() {
    let Some(mut scene) = Scene::terminal() else { return };
    scene.say(Kind::StdinEof, b"");
    scene.say(Kind::Stdin, b"line\n");
    scene.settle();
    assert_eq!(scene.read_input(), b"line\n");
    scene.settle();
    assert_eq!(scene.hear().0, b"line\r\n", "it echoes");
}

#[test]
fn g5_a_host_that_does_not_read_stops_the_process_and_loses_nothing() {
    let mut scene = Scene::new(Stdin::Null);
    rustix::io::ioctl_fionbio(&scene.child[1], true).unwrap();
    let mut sent = Vec::new();
    for round in 0u32.. {
        let block: Vec<u8> = (0..4096u32).map(|n| (n * 7 + round) as u8).collect();
        match rustix::io::write(&scene.child[1], &block) {
            Ok(count) => sent.extend_from_slice(&block[..count]),
            Err(_) => break,
        }
        scene.settle();
    }
    // The window and the pipe, and nothing of ours beyond a frame's odd bytes.
    assert!(sent.len() <= WINDOW as usize + (64 << 10) + HEADER, "{} bytes taken", sent.len());
    scene.session.ended(ExitStatus::Code(7));
    assert_eq!(scene.settle(), Turn::Idle, "the exit waits for the output");
    let mut heard = Vec::new();
    loop {
        let (out, _, reply) = scene.hear();
        heard.extend(out);
        if reply.is_some() {
            break;
        }
        scene.settle();
    }
    assert!(heard == sent);
}

/// Lets so much through both ways, a little at a time.
fn pass(scene: &mut Scene, bytes: usize) {
    for _ in 0..bytes / 4096 {
        scene.write(1, &[b'x'; 4096]);
        scene.say(Kind::Stdin, &[b'x'; 4096]);
        scene.settle();
        assert_eq!(scene.hear().0.len(), 4096);
        assert_eq!(scene.read_input().len(), 4096);
    }
}

fn widths(scene: &Scene) -> [usize; 3] {
    [0, 1, 2].map(|fd| rustix::pipe::fcntl_getpipe_size(&scene.child[fd]).unwrap())
}

#[test]
fn g5_a_pipe_that_much_went_through_is_large_and_no_other() {
    let mut scene = Scene::new(Stdin::Stream);
    let usual = widths(&scene);
    pass(&mut scene, MUCH - 4096);
    assert_eq!(widths(&scene), usual);
    pass(&mut scene, 4096);
    assert_eq!(widths(&scene), [LARGE, LARGE, usual[2]]);
}

#[test]
fn g5_a_pipe_that_its_process_gave_another_size_keeps_it() {
    let mut scene = Scene::new(Stdin::Stream);
    rustix::pipe::fcntl_setpipe_size(&scene.child[0], 1 << 20).unwrap();
    rustix::pipe::fcntl_setpipe_size(&scene.child[1], 4096).unwrap();
    let own = widths(&scene);
    pass(&mut scene, MUCH + 4096);
    assert_eq!(widths(&scene), own);
}

#[test]
fn g5_input_arrives_in_order_and_ends_after_the_last_byte() {
    let mut scene = Scene::new(Stdin::Stream);
    let data: Vec<u8> = (0..200_000u32).map(|n| (n * 31) as u8).collect();
    for chunk in data.chunks(50_000) {
        scene.say(Kind::Stdin, chunk);
    }
    scene.say(Kind::StdinEof, b"");
    let mut got = Vec::new();
    loop {
        scene.settle();
        let bytes = scene.read_input();
        if bytes.is_empty() {
            break;
        }
        got.extend(bytes);
    }
    assert!(got == data);
}

#[test]
fn g5_input_is_there_before_its_frame_is_whole_and_in_order_with_what_waited() {
    let mut scene = Scene::new(Stdin::Stream);
    rustix::io::ioctl_fionbio(&scene.child[0], true).unwrap();
    let data: Vec<u8> = (0..200_000u32).map(|n| (n * 31) as u8).collect();
    let mut bytes = Vec::new();
    for part in data.chunks(60_000) {
        bytes.extend(frame::header(Kind::Stdin, part.len()));
        bytes.extend(part);
    }
    let mut got = Vec::new();
    let (early, late) = bytes.split_at(1001);
    for piece in [&early[..1000], &early[1000..]] {
        assert_eq!(scene.host.write(scene.stream, piece), piece.len());
        scene.carry();
        got.extend(scene.read_input());
    }
    // With the pipe empty it is handed on as it comes; once that is full it waits, and so does what follows.
    for piece in late.chunks(70_000) {
        assert_eq!(scene.host.write(scene.stream, piece), piece.len());
        scene.carry();
    }
    got.extend(scene.read_input());
    assert!(got.len() > 60_000 && got.len() < data.len(), "{} bytes", got.len());
    while got.len() < data.len() {
        scene.settle();
        got.extend(scene.read_input());
    }
    assert!(got == data);
}

#[test]
fn g5_input_nobody_reads_any_more_is_taken_and_dropped() {
    let mut scene = Scene::new(Stdin::Stream);
    scene.child[0] = std::fs::File::open("/dev/null").unwrap().into();
    for _ in 0..40 {
        scene.say(Kind::Stdin, &[1; 20_000]);
        assert_eq!(scene.settle(), Turn::Idle);
    }
    scene.write(1, b"still here");
    scene.settle();
    assert_eq!(scene.hear().0, b"still here");
}

#[test]
fn g5_input_a_process_does_not_read_stays_in_the_window() {
    let mut scene = Scene::new(Stdin::Stream);
    let block = [2; 10_000];
    let mut taken = 0;
    loop {
        let mut frame = frame::header(Kind::Stdin, block.len()).to_vec();
        frame.extend(block);
        let count = scene.host.write(scene.stream, &frame);
        scene.carry();
        scene.settle();
        taken += count;
        if count < frame.len() {
            break;
        }
    }
    // A window, a pipe, a frame and what is being cut into frames.
    assert!(taken <= WINDOW as usize + (64 << 10) + 2 * block.len() + (32 << 10), "{taken} bytes");
}

#[test]
fn a_closed_stream_is_the_end_of_input_too() {
    let mut scene = Scene::new(Stdin::Stream);
    scene.say(Kind::Stdin, b"last");
    scene.host.finish(scene.stream);
    scene.carry();
    scene.settle();
    assert_eq!(scene.read_input(), b"last");
    assert_eq!(scene.read_input(), b"");
}

#[test]
fn a_frame_that_has_no_place_here_ends_the_stream_and_not_the_process() {
    let mut scene = Scene::new(Stdin::Stream);
    scene.say(Kind::Stdout, b"?");
    assert_eq!(scene.settle(), Turn::Idle);
    assert!(!scene.host.is_open(scene.stream));
    assert!(scene.session.running().is_some());
    // Its output is taken and dropped, so that it never blocks.
    scene.write(1, &[0; 4096]);
    scene.session.ended(ExitStatus::Code(7));
    assert_eq!(scene.settle(), Turn::Over);
}

#[test]
fn h12_an_end_is_told_beside_a_stream_that_was_aborted_in_the_same_moment() {
    let mut scene = Scene::new(Stdin::Null);
    let control = scene.control();
    scene.host.reset(scene.stream);
    // The guest has it, and has not come to that.
    while !scene.host.output().is_empty() {
        let bytes = scene.host.output().to_vec();
        scene.host.sent(bytes.len());
        scene.guest.receive(&bytes, |_, _| 0).unwrap();
    }
    scene.guest.reply_last(scene.stream, EXITED);
    let told = ControlReply::SessionEnded { stream: scene.stream, end: EXITED };
    assert_eq!(scene.reports(control), [told]);
    assert!(scene.guest.keeps_nothing());
}

#[test]
fn h12_an_end_is_told_again_when_its_stream_is_aborted_behind_it_and_not_when_it_is_closed() {
    let again = |stream| vec![ControlReply::SessionEnded { stream, end: EXITED }];
    // It waits for room, or has gone to the host.
    for waiting in [WINDOW as usize, 0] {
        let mut scene = Scene::new(Stdin::Null);
        let control = scene.control();
        while scene.guest.room(scene.stream).min(waiting) > 0 {
            let fill = |room: &mut [u8]| Ok::<_, Fault>(room.len());
            let room = scene.guest.room(scene.stream);
            scene.guest.send(scene.stream, Kind::Stdout, room, fill).unwrap();
            scene.carry();
        }
        scene.guest.reply_last(scene.stream, EXITED);
        assert_eq!(scene.reports(control), []);
        scene.host.reset(scene.stream);
        assert_eq!(scene.reports(control), again(scene.stream));
        assert_eq!(scene.reports(control), []);
    }
    // The host has ended its side before, or does it then: it has read what there was.
    for before in [true, false] {
        let mut scene = Scene::new(Stdin::Null);
        let control = scene.control();
        if before {
            scene.host.finish(scene.stream);
            scene.carry();
        }
        scene.guest.reply_last(scene.stream, EXITED);
        scene.carry();
        assert_eq!(scene.hear().2, Some(EXITED));
        scene.host.close(scene.stream);
        assert_eq!(scene.reports(control), []);
        assert!(scene.guest.keeps_nothing());
    }
}
