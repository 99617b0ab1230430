//! A VM that waits for a box: restored, exercised, and claimed once. Called instead of `launch`; goes on
//! there when a box has it.
//!
//! Under emulation it is the code that runs for the first time that takes the time. So the guest is greeted,
//! starts a throw-away process, and falls silent again: whatever a start needs has been translated by then.
//! The box that claims it greets it anew, and so it becomes that box.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use boxwood_state::metrics::Counters;
use boxwood_state::{Home, Member, MemberRequest, StateError, control, failpoint};
use boxwood_types::{BoxId, ExitStatus, chain};
use boxwood_vmm::{Disk, DiskDurability, QemuUser, RestoreRequest, Templates, Vm};
use boxwood_wire::frame::{self, CONTROL_PORT, Kind, MAIN_PORT};
use boxwood_wire::message::{ControlReply, ControlRequest, MainRequest, ProcessReply};
use boxwood_wire::preface::Mark;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};

use crate::Remake;
use crate::greeting;
use crate::launch::{self, Inherited, LaunchError};
use crate::link::{Link, Stream};
use crate::main_io::Main;
use crate::restore::Restored;
use crate::run::Run;
use crate::steps::Steps;
use crate::told::Told;

/// How long a restore may take when QEMU is alive and wedged, and the exercise after it.
const RESTORE: Duration = Duration::from_secs(60);
/// How long a VM that is not wanted any more may take to end.
const END: Duration = Duration::from_secs(20);
/// How long a client may take to say what it wants.
const SPEAK: Duration = Duration::from_secs(5);
/// How often a process's life is rehearsed: what the second time comes to is known by the third.
const REHEARSALS: usize = 2;
/// Descriptors that come with a claim.
const GIVEN: usize = 5;

/// What a member's shim is handed by the process that starts it.
pub(crate) struct Warmth {
    /// Held for life.
    pub(crate) lock: OwnedFd,
    pub(crate) listener: OwnedFd,
    pub(crate) remake: Remake,
}

/// A box that claims a VM.
struct Claimed {
    id: BoxId,
    /// Who waits for the answer.
    client: UnixStream,
}

/// Restores a VM, keeps it until it is claimed or dismissed, and then is the box's shim.
pub(crate) async fn wait(home: &Path, id: &BoxId, warmth: Warmth) -> Result<(), LaunchError> {
    let system = |what| move |error| LaunchError::System(what, error);
    let opened = Home::open(home)?;
    let gone = || LaunchError::State(StateError::NoSuchBox(id.short().to_owned()));
    let member = opened.member(id)?.ok_or_else(gone)?;
    let shape = member.spec.shape;
    // However it ends, nothing is left of it.
    let member = Leftovers(member);
    failpoint("warm: begun");
    let mut told = Told::listen().map_err(system("listen for signals"))?;
    let listener = std::os::unix::net::UnixListener::from(warmth.listener);
    listener.set_nonblocking(true).map_err(system("listen"))?;
    let listener = UnixListener::from_std(listener).map_err(system("listen"))?;
    let (run, console) = Run::begin(Instant::now()).map_err(system("open the console"))?;
    let failed = |why: String| LaunchError::System("make a warm box", io::Error::other(why));
    let made = make(&member.0, console).await.map_err(failed);
    // Who started this shim has gone.
    let mut restored = made.inspect_err(|error| opened.note_pool_failure(shape, &chain(error)))?;
    opened.forget_pool_failure(shape);
    failpoint("warm: ready");
    let claimed = tokio::select! {
        claimed = claimed(&listener) => claimed,
        // Nobody is waiting for it.
        _ = restored.vm.exited() => {
            let error = failed("its VM has ended".to_owned());
            opened.note_pool_failure(shape, &chain(&error));
            return Err(error);
        }
        () = told.stop() => None,
    };
    drop(listener);
    let Some(Claimed { id: own, client }) = claimed else {
        end(restored.vm).await;
        return Ok(());
    };
    failpoint("warm: claim heard");
    // It runs already: a VM that has died this moment does not say so. Who claims it then hears nothing, and
    // starts without it.
    restored.vm.resume().await.map_err(|error| failed(chain(&error)))?;
    answer(&client).await;
    failpoint("warm: claim answered");
    // Who did not wait for the answer has begun without it, and hangs up: as who was killed does.
    let given = tokio::select! {
        given = given(&client) => given,
        () = told.stop() => None,
    };
    let Some(given) = given else {
        end(restored.vm).await;
        return Ok(());
    };
    failpoint("warm: claimed");
    let [starter, lock, alive, control, complaints] = given;
    rustix::stdio::dup2_stderr(&complaints).map_err(|errno| system("complain")(errno.into()))?;
    let dir = opened.get(&own)?.ok_or_else(gone)?;
    std::fs::rename(member.0.disk(), dir.disk()).map_err(system("take its disk along"))?;
    failpoint("warm: disk taken along");
    drop(member);
    failpoint("warm: member gone");
    drop(warmth.lock);
    drop(told);
    let mut run = run;
    run.steps = Steps::since(Instant::now());
    let inherited = Inherited { starter, lock, alive, listener: control, remake: warmth.remake };
    launch::launch_with(home, &own, inherited, (run, launch::First::Warm(Box::new(restored)))).await
}

/// Deletes a member's directory.
struct Leftovers(Member);

impl Drop for Leftovers {
    fn drop(&mut self) {
        self.0.remove();
    }
}

async fn end(mut vm: Vm) {
    // It dies with this process at the latest.
    let _ = vm.end(END).await;
}

/// A VM that can be claimed.
async fn make(member: &Member, console: File) -> Result<Restored, String> {
    let mut restored = restore(member, console).await?;
    failpoint("warm: vm restored");
    exercise(&mut restored).await?;
    failpoint("warm: exercised");
    member.make_ready().map_err(|error| chain(&error))?;
    Ok(restored)
}

async fn restore(member: &Member, console: File) -> Result<Restored, String> {
    let spec = &member.spec;
    let open = |path: &Path, options: &std::fs::OpenOptions| {
        options.open(path).map_err(|error| format!("can't open {}: {error}", path.display()))
    };
    let image = open(&spec.image.block, File::options().read(true))?;
    let disk = open(&member.disk(), File::options().read(true).write(true))?;
    let wanted = &spec.template;
    let templates = Templates::open(&wanted.store).with_cache(&wanted.cache);
    let template = templates.get(&wanted.key).await.map_err(|error| chain(&error))?;
    if template.disk_digest() != wanted.disk {
        return Err("its template was made anew meanwhile".to_owned());
    }
    let seed = u32::from_str_radix(&spec.id.as_str()[..7], 16).unwrap_or_default();
    let request = RestoreRequest {
        image,
        disk: Disk::raw(disk),
        // Whether the box's disk is kept is not known yet.
        durability: DiskDurability::Flushed,
        console,
        user: QemuUser::own(seed),
        within: RESTORE,
    };
    let mark = template.mark().map(Mark);
    let vm = boxwood_vmm::restore(&template, request).await.map_err(|error| chain(&error))?;
    Ok(Restored { vm, mark, main: Main::New })
}

/// Lets the guest do once what it will have to do for a box.
async fn exercise(restored: &mut Restored) -> Result<(), String> {
    let Some(mut channel) = restored.vm.take_channel() else { return Ok(()) };
    let mark = greeting::mark().map_err(|error| error.to_string())?;
    let known = restored.mark;
    let exercised = async {
        let link = Link::new(Counters::nowhere().into());
        let mut control = link.open(CONTROL_PORT).map_err(|error| chain(&error))?;
        let hello = greeting::hello("warm").map_err(|error| chain(&error))?;
        let greeted = greeting::greet(&mut channel, (hello, known), link.take_output());
        let early = greeted.await.map_err(|error| chain(&error))?;
        let rehearsed = async {
            for _ in 0..REHEARSALS {
                rehearse(&link).await?;
            }
            match ask(&mut control, &ControlRequest::Hold { nonce: 1, mark }).await? {
                ControlReply::Held { fault: None, .. } => Ok(()),
                other => Err(format!("the guest said {other:?}")),
            }
        };
        link.during(&channel, early, rehearsed).await.map_err(|error| chain(&error))?
    };
    let within = tokio::time::timeout(RESTORE, exercised);
    within.await.map_err(|_| "the guest did not answer".to_owned())??;
    restored.mark = Some(mark);
    restored.vm.return_channel(channel);
    Ok(())
}

/// A process's whole life, from its request to its end.
async fn rehearse(link: &Link) -> Result<(), String> {
    let mut stream = link.open(MAIN_PORT).map_err(|error| chain(&error))?;
    stream.writer().send_value(&MainRequest::Rehearse).await.map_err(|error| chain(&error))?;
    loop {
        let frame = stream.next_frame().await.map_err(|error| chain(&error))?;
        let frame = frame.ok_or("the guest closed the stream of a rehearsal")?;
        if frame.kind != Kind::Reply {
            continue;
        }
        match frame::parse(&frame.payload).map_err(|error| chain(&error))? {
            ProcessReply::Started => {}
            ProcessReply::Exited { status: ExitStatus::Code(0) } => return Ok(()),
            other => return Err(format!("the guest said of a rehearsal: {other:?}")),
        }
    }
}

async fn ask(control: &mut Stream, request: &ControlRequest) -> Result<ControlReply, String> {
    control.writer().send_value(request).await.map_err(|error| chain(&error))?;
    let answer = control.next_frame().await.map_err(|error| chain(&error))?;
    let answer = answer.ok_or("the guest closed its control stream")?;
    frame::parse(&answer.payload).map_err(|error| chain(&error))
}

/// Answers whoever asks, until one claims the VM or dismisses it. The listener is used for nothing else
/// then, so who comes later is hung up on.
async fn claimed(listener: &UnixListener) -> Option<Claimed> {
    loop {
        let Ok((client, _)) = listener.accept().await else { return None };
        // Who has connected speaks at once, or keeps others from being heard.
        let heard = tokio::time::timeout(SPEAK, hear(&client)).await;
        match heard.ok().flatten() {
            Some(MemberRequest::Wait) => answer(&client).await,
            Some(MemberRequest::Dismiss) => {
                answer(&client).await;
                return None;
            }
            Some(MemberRequest::Claim(id)) => return Some(Claimed { id, client }),
            // It went, or said nothing that is known: it has claimed nothing.
            None => {}
        }
    }
}

/// One request.
async fn hear(client: &UnixStream) -> Option<MemberRequest> {
    let mut bytes = [0; 512];
    let (count, _) = receive(client, &mut bytes).await.ok()?;
    control::decode(&bytes[..count]).ok()
}

/// What a box that has heard the answer brings along.
async fn given(client: &UnixStream) -> Option<[OwnedFd; GIVEN]> {
    let (_, given) = receive(client, &mut [0]).await.ok()?;
    given.try_into().ok()
}

/// What comes next, and the descriptors that come along.
async fn receive(client: &UnixStream, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let receive = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(GIVEN))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut buffers = [IoSliceMut::new(bytes)];
        let received =
            recvmsg(client.as_fd(), &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let mut given = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                given.extend(descriptors);
            }
        }
        Ok((received.bytes, given))
    };
    client.async_io(Interest::READABLE, receive).await
}

async fn answer(client: &UnixStream) {
    // Who has gone needs none.
    let _ = client.async_io(Interest::WRITABLE, || client.try_write(&[1])).await;
}
