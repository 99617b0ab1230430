//! The frames of a stream and the values in them, as guest and shim read them: any bytes, in any
//! pieces. However they are cut, the same frames are found, and what decodes encodes to itself.
#![no_main]

use boxwood_wire::frame::{self, Decoder, Frame, Kind};
use boxwood_wire::message::{ControlReply, ControlRequest, ProcessReply, MainRequest, StartSession};
use libfuzzer_sys::fuzz_target;

fn frames(bytes: &[u8], piece: usize) -> (Vec<Frame>, bool) {
    let mut decoder = Decoder::new();
    let mut found = Vec::new();
    for part in bytes.chunks(piece) {
        decoder.push(part);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => found.push(frame),
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
    }
    (found, false)
}

fn same<T>(kind: Kind, payload: &[u8])
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    if let Ok(value) = frame::parse::<T>(payload) {
        let Ok(bytes) = frame::value(kind, &value) else { return };
        assert_eq!(frame::parse::<T>(&bytes[frame::HEADER..]).unwrap(), value);
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((piece, bytes)) = input.split_first() else { return };
    let whole = frames(bytes, bytes.len().max(1));
    assert_eq!(frames(bytes, usize::from(*piece).max(1)), whole);
    for frame in whole.0 {
        same::<MainRequest>(Kind::Request, &frame.payload);
        same::<StartSession>(Kind::Request, &frame.payload);
        same::<ControlRequest>(Kind::Request, &frame.payload);
        same::<ProcessReply>(Kind::Reply, &frame.payload);
        same::<ControlReply>(Kind::Reply, &frame.payload);
    }
});
