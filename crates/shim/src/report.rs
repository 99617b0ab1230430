//! What a guest says about its box, asked for a client and told to it. Begun by the
//! [supervisor](crate::supervisor), which does not wait for it.
//!
//! These are a guest's claims: of a bounded number and size, for people to read, and nothing here acts
//! on them.

use boxwood_state::clock::Moment;
use boxwood_state::control::{BoxProcess, Counted, Reply, Subject};
use boxwood_types::BoxState;
use boxwood_wire::message::{MAX_COMMAND, MAX_PROCESSES, ProcessInfo};

use crate::clients;
use crate::output::{Outgoing, Sender};
use crate::questions::{Questions, Unanswered};

/// The longest name of a user that is shown.
const MAX_USER: usize = 64;

/// Asks, and tells the client; `state` is the box's.
pub(crate) fn begin(questions: Questions, of: Subject, state: BoxState, client: Sender) {
    tokio::task::spawn_local(async move {
        let answer = async {
            match of {
                Subject::Counters => questions.ping().await.map(|counters| Reply::Counters {
                    counters: Counted {
                        orphans_reaped: counters.orphans_reaped,
                        sessions: counters.sessions,
                    },
                }),
                Subject::Processes => questions.processes().await.and_then(listed),
            }
        };
        let reply = tokio::select! {
            answer = answer => answer,
            // Nobody is there to hear it.
            () = client.closed() => return,
        };
        let reply = reply.unwrap_or_else(|why| Reply::Refused { state, message: why.to_string() });
        // Of a client that does not read its answers, nobody waits for that.
        let _ = client.try_send(Outgoing::Frame(clients::frame(&reply)));
    });
}

fn listed((processes, more): (Vec<ProcessInfo>, u32)) -> Result<Reply, Unanswered> {
    if processes.len() > MAX_PROCESSES {
        return Err(Unanswered::Nonsense);
    }
    let now = Moment::now();
    Ok(Reply::Processes {
        processes: processes.iter().map(|one| process(one, now)).collect(),
        more,
    })
}

fn process(info: &ProcessInfo, now: Moment) -> BoxProcess {
    BoxProcess {
        pid: info.pid,
        ppid: info.ppid,
        user: text(&info.user, MAX_USER),
        state: if info.state.is_ascii_graphic() { char::from(info.state) } else { '?' },
        terminal: info.terminal.map(|number| format!("pts/{number}")),
        started: Moment(now.0.saturating_sub(info.age_ms.saturating_mul(1_000_000))),
        age_ms: info.age_ms,
        cpu_ms: info.cpu_ms,
        rss_kib: info.rss_kib,
        command: text(&info.command, MAX_COMMAND),
    }
}

/// Bytes of a guest as text of at most three times their number, also as JSON: what separates arguments
/// is a space, and what moves a cursor is nothing one could read.
fn text(bytes: &[u8], limit: usize) -> String {
    let bytes = &bytes[..bytes.len().min(limit)];
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let readable = |character: char| match character {
        '\0' => ' ',
        other if other.is_control() => char::REPLACEMENT_CHARACTER,
        other => other,
    };
    String::from_utf8_lossy(&bytes[..end]).chars().map(readable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(command: &[u8]) -> ProcessInfo {
        ProcessInfo {
            pid: 7,
            ppid: 1,
            user: vec![b'u'; 1000],
            state: 0,
            terminal: Some(3),
            age_ms: u64::MAX,
            cpu_ms: 1,
            rss_kib: 2,
            command: command.to_vec(),
        }
    }

    #[test]
    fn what_a_guest_claims_is_bounded_and_text() {
        let one = process(&info(b"sh\0-c\0a b\xff\0\0"), Moment(5));
        assert_eq!(one.command, "sh -c a b\u{fffd}");
        assert_eq!((one.user.len(), one.state, one.started), (MAX_USER, '?', Moment(0)));
        assert_eq!(one.terminal.as_deref(), Some("pts/3"));
        assert_eq!(process(&info(&vec![b'x'; 1 << 20]), Moment(5)).command.len(), MAX_COMMAND);
        assert_eq!(process(&info(b""), Moment(5)).command, "");
        // The worst there can be is a frame still.
        let worst = vec![info(&vec![1; 1 << 20]); MAX_PROCESSES];
        clients::frame(&listed((worst, u32::MAX)).unwrap());
        assert_eq!(listed((vec![info(b"a"); MAX_PROCESSES + 1], 0)), Err(Unanswered::Nonsense));
    }
}
