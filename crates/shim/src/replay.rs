//! The past for a client that comes late: what main wrote before, out of the log, and then what it writes.
//! Begun by the [supervisor](crate::supervisor).

use std::path::PathBuf;
use std::rc::Rc;

use boxwood_state::log::{Reader, Stream};
use boxwood_types::chain;
use boxwood_wire::frame::{self, Kind};

use crate::note::note;
use crate::output::{Outgoing, Output, Sender};

/// Tells a client all there is in a log and attaches it. Returns the client if it is still to hear of the
/// box's end; one that reads slowly delays nobody before it is attached.
pub(crate) async fn replay(output: Rc<Output>, log: PathBuf, client: Sender) -> Option<Sender> {
    match Reader::open(&log) {
        Ok(mut reader) => loop {
            match reader.next_entry() {
                Ok(Some(entry)) => {
                    let kind = match entry.stream {
                        Stream::Stdout => Kind::Stdout,
                        Stream::Stderr => Kind::Stderr,
                    };
                    for bytes in entry.bytes.chunks(frame::MAX_BYTES) {
                        let mut whole = frame::header(kind, bytes.len()).to_vec();
                        whole.extend_from_slice(bytes);
                        client.send(Outgoing::Frame(Rc::new(whole))).await.ok()?;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    note!("{}: {}", log.display(), chain(&error));
                    break;
                }
            }
        },
        Err(error) => note!("{}: {}", log.display(), chain(&error)),
    }
    // Nothing was awaited since the log ended: what is written next is missed by nobody, and comes once.
    output.attach(client.clone());
    Some(client)
}
