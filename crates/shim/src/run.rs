//! What belongs to one VM of a box, as a box may have several, one after the other. Part of the
//! [supervisor](crate::supervisor).

use std::fs::File;
use std::io;
use std::time::Instant;

use boxwood_vmm::{Identity, OomWatch, Tail};

use crate::clients::{Caller, Past};
use crate::health::Monitor;
use crate::output::Sender;
use crate::sessions::Relays;
use crate::steps::Steps;

/// One run of a box: from the restore of a VM to its end.
pub(crate) struct Run {
    /// What the guest's kernel prints. It never reaches the disk, except for its end when a box fails.
    pub(crate) console: Tail,
    /// The client this run was started for.
    pub(crate) starter: Option<Sender>,
    pub(crate) relays: Relays,
    /// Who wants main's streams and came before main.
    pub(crate) early: Vec<(Caller, Past)>,
    pub(crate) steps: Steps,
    /// When main began to run.
    pub(crate) running_since: Option<Instant>,
    pub(crate) health: Option<Monitor>,
    /// Recognizes its QEMU.
    pub(crate) vm: Option<Identity>,
    pub(crate) oom: OomWatch,
}

impl Run {
    /// A run that began then, and the file for its console.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub(crate) fn begin(began: Instant) -> io::Result<(Run, File)> {
        let (console, console_end) = Tail::open()?;
        let run = Run {
            console,
            starter: None,
            relays: Relays::default(),
            early: Vec::new(),
            steps: Steps::since(began),
            running_since: None,
            health: None,
            vm: None,
            oom: OomWatch::begin(),
        };
        Ok((run, File::from(console_end)))
    }
}
