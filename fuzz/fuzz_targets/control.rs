//! What clients ask a shim and what it answers: any JSON, and any bytes.
#![no_main]

use boxwood_state::control::{self, Reply, Request};
use boxwood_wire::frame::Kind;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    if let Ok(request) = control::decode::<Request>(payload) {
        let bytes = control::encode(Kind::Request, &request).unwrap();
        assert_eq!(control::decode::<Request>(&bytes[5..]).unwrap(), request);
    }
    if let Ok(reply) = control::decode::<Reply>(payload) {
        let bytes = control::encode(Kind::Reply, &reply).unwrap();
        assert_eq!(control::decode::<Reply>(&bytes[5..]).unwrap(), reply);
    }
});
