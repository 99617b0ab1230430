//! How many descriptors a shim may have open, and what of that is for clients. Called at its start.
//! Its VM has a limit of its own (`vmm/src/confine/sys.rs`).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::note::note;

/// Clients at the same time, where the limit of descriptors allows that many.
const CLIENTS: usize = 1024;
/// Descriptors of one connection: its own, the one by which its end is heard, and the one by which it is waited
/// for while it takes nothing.
const OF_A_CLIENT: usize = 3;
/// What the shim needs beside them: its event loop, its VM, its files.
const OWN: usize = 128;

/// Lets this process open as many descriptors as it needs, as far as that is allowed.
pub(crate) fn raise() {
    let first = getrlimit(Resource::Nofile);
    let wanted = raised(first);
    if wanted.current != first.current
        && let Err(error) = setrlimit(Resource::Nofile, wanted)
    {
        note!("can't have more descriptors: {error}");
    }
}

/// Clients at the same time.
pub(crate) fn clients() -> usize {
    room_for(getrlimit(Resource::Nofile).current)
}

fn raised(limit: Rlimit) -> Rlimit {
    let needed = (CLIENTS * OF_A_CLIENT + OWN) as u64;
    let allowed = limit.maximum.map_or(needed, |maximum| needed.min(maximum));
    let current = limit.current.map(|current| current.max(allowed));
    Rlimit { current, ..limit }
}

/// Without any limit there is none on descriptors. Whatever it is, somebody can be let in.
fn room_for(limit: Option<u64>) -> usize {
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    (limit.saturating_sub(OWN) / OF_A_CLIENT).clamp(8, CLIENTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h3_clients_fit_the_limit_of_descriptors() {
        let limit = |current, maximum| Rlimit { current, maximum };
        let up = |current, maximum| raised(limit(current, maximum)).current;
        assert_eq!(up(Some(1024), Some(20_000)), Some(3200));
        assert_eq!(up(Some(1024), Some(1500)), Some(1500));
        assert_eq!(up(Some(4096), Some(20_000)), Some(4096));
        assert_eq!((up(Some(256), None), up(None, None)), (Some(3200), None));
        assert_eq!((room_for(Some(3200)), room_for(None)), (CLIENTS, CLIENTS));
        assert_eq!((room_for(Some(1024)), room_for(Some(10))), (298, 8));
    }
}
