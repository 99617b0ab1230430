//! A shim's start, top to bottom: open the box, restore a VM, greet its guest, start main; then
//! supervise. A step that fails ends the box with the reason in its record; nothing is left.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use boxwood_state::{Client, ExitRecord, Home, Record, ShimIdentity, StateError, log};
use boxwood_types::BoxId;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use crate::clients;
use crate::conversation::{converse, failed_to_start};
use crate::output::Output;
use crate::restore::restore_vm;
use crate::run::Run;
use crate::supervisor::{Ears, Supervisor};
use crate::told::Told;

/// What a shim is handed by the process that starts it.
pub(crate) struct Inherited {
    pub(crate) starter: OwnedFd,
    pub(crate) lock: OwnedFd,
    pub(crate) alive: OwnedFd,
    pub(crate) listener: OwnedFd,
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
    let began = Instant::now();
    let system = |what| move |error| LaunchError::System(what, error);
    let home = Home::open(home)?;
    let dir = home.get(id)?.ok_or_else(|| StateError::NoSuchBox(id.short().to_owned()))?;
    let spec = dir.spec()?;
    let told = Told::listen().map_err(system("listen for signals"))?;
    let alive = pipe::Receiver::from_owned_fd(inherited.alive)
        .map_err(system("watch the starting client"))?;
    let starter = stream(inherited.starter).map_err(system("talk to the starting client"))?;
    // From here on a failure is the box's: it gets a record and the client gets to know.
    let log = log::Writer::open(&dir.log()).map_err(system("open the log"))?;
    let (run, console) = Run::begin(began).map_err(system("open the console"))?;
    let (asked_sender, asked) = clients::listen(inherited.listener.into())
        .map_err(system("listen on the control socket"))?;
    if spec.client == Client::Attached {
        clients::watch_starter(alive, asked_sender.clone());
    }
    let record = Record { shim: Some(ShimIdentity::current()), ..Record::created() };
    let mut ears = Ears { asked, told };
    let mut supervisor = Supervisor {
        home,
        dir,
        spec,
        record,
        output: Rc::new(Output::new(log)),
        waiters: Vec::new(),
        asker: None,
        run,
    };
    supervisor.begin();
    let exit = run_vm(&mut supervisor, console, starter, &mut ears).await;
    drop(inherited.lock);
    supervisor.say_goodbye(exit, &mut ears.asked).await;
    Ok(())
}

/// One VM of the box, from its restore to its end. Returns when it is gone and its end is written down.
async fn run_vm(
    supervisor: &mut Supervisor,
    console: File,
    starter: UnixStream,
    ears: &mut Ears,
) -> ExitRecord {
    let (vm, exit) = match restore_vm(supervisor, console).await {
        Ok(mut vm) => {
            supervisor.record.vmm_pid = Some(vm.pid());
            let exit = converse(supervisor, &mut vm, starter, ears).await;
            (Some(vm), exit)
        }
        Err(why) => {
            supervisor.run.starter = Some(clients::adopt_starter(starter, None));
            (None, failed_to_start(why))
        }
    };
    supervisor.conclude(vm, exit).await
}

fn stream(socket: OwnedFd) -> std::io::Result<UnixStream> {
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}
