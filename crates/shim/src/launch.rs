//! A shim's start, top to bottom: open the box, restore a VM, greet its guest, start main; then
//! supervise. A step that fails ends the box with the reason in its record; nothing is left.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use boxwood_state::{AfterExit, Client, ExitRecord, Home, Record, ShimIdentity, StateError, log};
use boxwood_types::{BoxId, BoxState, ExitReason, ExitStatus, chain};
use boxwood_vmm::{DiskDurability, QemuUser, RestoreRequest, Templates, Vm};
use boxwood_wire::frame::{CONTROL_PORT, MAIN_PORT};
use boxwood_wire::message::StartMain;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

use crate::clients::{self, Asked, MainStdin};
use crate::console::Console;
use crate::greeting;
use crate::life::Event;
use crate::link::{Link, LinkError, Stream};
use crate::main_io;
use crate::orders::Orders;
use crate::output::Output;
use crate::questions::{Answers, Questions};
use crate::sessions::Relays;
use crate::steps::Steps;
use crate::supervisor::{Guest, Sources, Supervisor};
use crate::told::Told;

/// How long a restore may take when QEMU is alive and wedged.
const RESTORE: Duration = Duration::from_secs(60);
/// News from the guest that wait for the supervisor.
const NEWS: usize = 16;

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
    let (console, console_end) = Console::open().map_err(system("open the console"))?;
    let record = Record {
        state: BoxState::Starting,
        shim: Some(ShimIdentity::current()),
        started: None,
        finished: None,
        exit: None,
        vmm_pid: None,
    };
    let (asked_sender, mut asked) = clients::listen(inherited.listener.into())
        .map_err(system("listen on the control socket"))?;
    if spec.client == Client::Attached {
        clients::watch_starter(alive, asked_sender.clone());
    }
    let mut supervisor = Supervisor {
        home,
        dir,
        spec,
        record,
        console,
        output: Rc::new(Output::new(log)),
        starter: None,
        waiters: Vec::new(),
        asker: None,
        relays: Relays::default(),
        early: Vec::new(),
        steps: Steps::since(began),
    };
    supervisor.begin();
    let restored = restore_vm(&supervisor, console_end).await;
    let (vm, exit) = match restored {
        Ok(mut vm) => {
            supervisor.record.vmm_pid = Some(vm.pid());
            let sources = Sources { asked, news: mpsc::channel(1).1, told, main: None };
            let (exit, returned) = converse(&mut supervisor, &mut vm, starter, sources).await;
            asked = returned;
            (Some(vm), exit)
        }
        Err(why) => {
            supervisor.starter = Some(clients::adopt_starter(starter, None));
            (None, failed_to_start(why))
        }
    };
    let exit = supervisor.conclude(vm, exit).await;
    drop(inherited.lock);
    supervisor.say_goodbye(exit, &mut asked).await;
    Ok(())
}

/// Restores the box's template with the box's disks.
async fn restore_vm(supervisor: &Supervisor, console: File) -> Result<Vm, String> {
    let (spec, dir) = (&supervisor.spec, &supervisor.dir);
    let open = |path: &Path, options: &std::fs::OpenOptions| {
        options.open(path).map_err(|error| format!("can't open {}: {error}", path.display()))
    };
    let image = open(&spec.image.block, File::options().read(true))?;
    let disk = open(&dir.disk(), File::options().read(true).write(true))?;
    // An id is random, so its beginning is a seed.
    let user = QemuUser::own(u32::from_str_radix(&spec.id.as_str()[..7], 16).unwrap_or_default());
    let durability = match spec.after_exit {
        AfterExit::Keep => DiskDurability::Flushed,
        AfterExit::Remove => DiskDurability::Scratch,
    };
    let templates = Templates::open(&spec.template.store).with_cache(&spec.template.cache);
    let template = templates.get(&spec.template.key).await.map_err(|error| chain(&error))?;
    if template.disk_digest() != spec.template.disk {
        // Its memory knows another disk than the box's.
        return Err("its template was made anew meanwhile: start the box again".to_owned());
    }
    supervisor.steps.mark("template found");
    let request = RestoreRequest { image, disk, console, user, durability, within: RESTORE };
    let began = std::time::Instant::now();
    let vm = boxwood_vmm::restore(&template, request).await.map_err(|error| chain(&error))?;
    let timings = vm.timings();
    for (step, took) in [
        ("qemu spawned", timings.spawned),
        ("qemu has its ram", timings.ram),
        ("qemu ready", timings.ready),
        ("state loaded", timings.loaded),
        ("vcpus run", timings.running),
    ] {
        supervisor.steps.mark_at(step, began + took);
    }
    Ok(vm)
}

fn failed_to_start(why: String) -> ExitRecord {
    ExitRecord {
        status: ExitStatus::Unknown,
        reason: ExitReason::FailedToStart,
        code: 125,
        message: Some(why),
    }
}

/// Greets the guest, starts main, and supervises both to their end.
async fn converse(
    supervisor: &mut Supervisor,
    vm: &mut Vm,
    starter: UnixStream,
    mut sources: Sources,
) -> (ExitRecord, mpsc::Receiver<Asked>) {
    let link = Link::new();
    let streams = link.open(MAIN_PORT).and_then(|main| Ok((main, link.open(CONTROL_PORT)?)));
    let (main, control) = match streams {
        Ok(streams) => streams,
        Err(error) => return (failed_to_start(chain(&error)), sources.asked),
    };
    let (asked_for_sender, asked_for) = oneshot::channel();
    let open_stdin = supervisor.spec.process.open_stdin;
    let stdin = open_stdin.then(|| MainStdin { writer: main.writer(), asked_for });
    let client = clients::adopt_starter(starter, stdin);
    if supervisor.spec.client == Client::Attached {
        supervisor.output.attach(client.clone());
    }
    supervisor.starter = Some(client);
    let (orders, answers) = (Orders::over(control.writer()), Answers::default());
    let guest = Guest {
        link: link.clone(),
        questions: Questions::over(orders.clone(), answers.clone()),
        orders,
        stdin: open_stdin.then(|| main.writer()),
    };
    let (news_sender, news) = mpsc::channel(NEWS);
    sources.news = news;
    let conversation = Conversation {
        link,
        hostname: supervisor.spec.hostname.clone(),
        start: main_io::start_main(&supervisor.spec),
        output: supervisor.output.clone(),
        steps: supervisor.steps.clone(),
        news: news_sender.clone(),
        asked_for: asked_for_sender,
    };
    if let Some(channel) = vm.take_channel() {
        sources.main = Some(tokio::task::spawn_local(conversation.lead(channel, main)));
    }
    tokio::task::spawn_local(main_io::follow_control(control, answers, news_sender));
    let exit = supervisor.supervise(vm, &guest, &mut sources).await;
    // Nothing more is heard from it; the sessions' clients are told why.
    guest.link.end();
    (exit, sources.asked)
}

/// What is needed to talk to a guest from its first word to main's last.
struct Conversation {
    link: Link,
    hostname: String,
    start: StartMain,
    output: Rc<Output>,
    steps: Steps,
    news: mpsc::Sender<Event>,
    asked_for: oneshot::Sender<()>,
}

impl Conversation {
    async fn lead(self, mut channel: UnixStream, main: Stream) {
        let writer = main.writer();
        let ask = async {
            let sent = writer.send_value(&self.start).await;
            // Nobody listens where standard input is not connected.
            let _ = self.asked_for.send(());
            sent
        };
        let greet = async {
            let hello = greeting::hello(&self.hostname)?;
            let early = greeting::greet(&mut channel, hello, self.link.take_output()).await?;
            self.steps.mark("reborn");
            tokio::task::spawn_local(self.link.clone().run(channel, early));
            Ok::<(), greeting::GreetingError>(())
        };
        // In this order: what fits is sent in one breath with the greeting.
        let (sent, greeted) = tokio::join!(ask, greet);
        let failure = match (greeted, sent) {
            (Err(error), _) => Some(chain(&error)),
            // Main's stream tells, too, and better: the guest may have refused what was sent.
            (Ok(()), Err(LinkError::Frame(error))) => Some(chain(&*error)),
            (Ok(()), _) => None,
        };
        match failure {
            // The supervisor goes only when the box has ended.
            Some(why) => drop(self.news.send(Event::StartFailed(why)).await),
            None => main_io::follow_main(main, self.output, self.news).await,
        }
    }
}

fn stream(socket: OwnedFd) -> std::io::Result<UnixStream> {
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}
