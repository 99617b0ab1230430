//! A shim's start, top to bottom: open the box, restore a VM, greet its guest, start main; then
//! supervise. A step that fails ends the box with the reason in its record; nothing is left.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use boxwood_state::metrics::{Counter, Timing};
use boxwood_state::{Client, ExitRecord, Home, Record, ShimIdentity, StateError, failpoint, log};
use boxwood_types::BoxId;
use tokio::net::unix::pipe;
use tokio::task::JoinSet;

use crate::Remake;
use crate::announcer::Announcer;
use crate::clients::{self, Connection};
use crate::conversation::{converse, failed_to_start};
use crate::door::{self, Opened};
use crate::halves;
use crate::output::Output;
use crate::restart::{BackOff, Wanted};
use crate::restore::{Restored, restore_vm};
use crate::run::Run;
use crate::supervisor::{Ears, Ended, Supervisor, Then, Waiters};
use crate::told::Told;

/// What a shim is handed by the process that starts it.
pub(crate) struct Inherited {
    pub(crate) starter: OwnedFd,
    pub(crate) lock: OwnedFd,
    pub(crate) alive: OwnedFd,
    pub(crate) listener: OwnedFd,
    pub(crate) remake: Remake,
}

/// What a box's first run begins with.
pub(crate) enum First {
    /// A VM that is yet to be restored, and its console.
    Cold(File),
    /// One that waited for this box.
    Warm(Box<Restored>),
}

/// Why a shim could not even take its box over. The box then stays as its creator left it, without
/// an owner: the next command says that it was lost.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("can't open the box")]
    State(#[from] StateError),
    #[error("can't {0}")]
    System(&'static str, #[source] std::io::Error),
}

/// Runs a box from its start to its end.
pub(crate) async fn launch(
    home: &Path,
    id: &BoxId,
    inherited: Inherited,
) -> Result<(), LaunchError> {
    let began = Run::begin(Instant::now());
    let (run, console) = began.map_err(|error| LaunchError::System("open the console", error))?;
    launch_with(home, id, inherited, (run, First::Cold(console))).await
}

/// The same with what its first run begins with.
pub(crate) async fn launch_with(
    home: &Path,
    id: &BoxId,
    inherited: Inherited,
    (run, first): (Run, First),
) -> Result<(), LaunchError> {
    let system = |what| move |error| LaunchError::System(what, error);
    let home = Home::open(home)?;
    let dir = home.get(id)?.ok_or_else(|| StateError::NoSuchBox(id.short().to_owned()))?;
    let spec = dir.spec()?;
    failpoint("shim: box opened");
    let told = Told::listen().map_err(system("listen for signals"))?;
    let alive = pipe::Receiver::from_owned_fd(inherited.alive)
        .map_err(system("watch the starting client"))?;
    let starter = stream(inherited.starter).map_err(system("talk to the starting client"))?;
    // From here on a failure is the box's: it gets a record and the client gets to know.
    let log = log::Writer::open(&dir.log(), spec.log).map_err(system("open the log"))?;
    let Opened { door, asked_sender, asked } =
        door::open(inherited.listener.into()).map_err(system("listen on the control socket"))?;
    if spec.client == Client::Attached {
        clients::watch_starter(alive, &asked_sender);
    }
    drop(asked_sender);
    let record = Record { shim: Some(ShimIdentity::current()), ..Record::created() };
    let own = home.get(id)?.ok_or_else(|| StateError::NoSuchBox(id.short().to_owned()))?;
    let announcer = Announcer::new(&home, own, spec.clone());
    let mut ears = Ears { asked, told };
    let mut supervisor = Supervisor {
        home,
        dir,
        spec,
        record,
        output: Rc::new(Output::new(log, announcer.counters.clone())),
        waiters: Waiters::default(),
        curious: Waiters::default(),
        patience: door.size() / 2,
        asker: None,
        capturing: None,
        unwritten: None,
        remake: inherited.remake,
        announcer,
        run,
        back_off: BackOff::default(),
        wanted: Wanted::Running,
        partings: JoinSet::new(),
    };
    supervisor.begin();
    failpoint("shim: starting written");
    let exit = keep(&mut supervisor, first, starter, &mut ears).await;
    failpoint("shim: end written");
    drop(inherited.lock);
    failpoint("shim: lock let go");
    supervisor.say_goodbye(exit, door, &mut ears.asked).await;
    Ok(())
}

/// One VM after the other, as long as the box's policy wants another. Returns when none is left and the
/// end is written down.
async fn keep(
    supervisor: &mut Supervisor,
    first: First,
    starter: Connection,
    ears: &mut Ears,
) -> ExitRecord {
    let mut ended = run_vm(supervisor, first, Some(starter), ears).await;
    loop {
        let (exit, at) = match ended {
            Ended::ForGood(exit) => return exit,
            Ended::ForNow { exit, at } => (exit, at),
        };
        if supervisor.back_off(&exit, at, ears).await == Then::Nothing {
            return supervisor.give_up(exit);
        }
        ended = match Run::begin(Instant::now()) {
            Ok((run, console)) => {
                supervisor.begin_again(run);
                run_vm(supervisor, First::Cold(console), None, ears).await
            }
            Err(error) => {
                let why = format!("can't open the console: {error}");
                supervisor.conclude(None, failed_to_start(why)).await
            }
        };
    }
}

/// One VM of the box, from its restore to its end.
async fn run_vm(
    supervisor: &mut Supervisor,
    first: First,
    starter: Option<Connection>,
    ears: &mut Ears,
) -> Ended {
    let restored = match first {
        First::Cold(console) => restore_vm(supervisor, console).await,
        First::Warm(restored) => Ok(*restored),
    };
    let (vm, exit) = match restored {
        Ok(mut restored) => {
            failpoint("shim: vm restored");
            let counters = &supervisor.announcer.counters;
            counters.add(Counter::Restores, 1);
            counters.took(Timing::Restore, restored.vm.timings().running);
            supervisor.record.vmm_pid = Some(restored.vm.pid());
            supervisor.run.vm = restored.vm.identity().ok();
            let exit = converse(supervisor, &mut restored, starter, ears).await;
            (Some(restored.vm), exit)
        }
        Err(why) => {
            let adopt = |starter| clients::adopt_starter(starter, None);
            supervisor.run.starter = starter.map(adopt);
            (None, failed_to_start(why))
        }
    };
    supervisor.conclude(vm, exit).await
}

fn stream(socket: OwnedFd) -> std::io::Result<Connection> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    halves::split(socket)
}
