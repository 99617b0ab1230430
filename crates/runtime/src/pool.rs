//! `pool`: VMs that are restored and exercised before anybody wants a box. Each has a shim of its own and
//! needs no daemon; a box that is started takes one over, and its replacement is begun
//! when the box has said its first word.
//!
//! They are ready for one image, with its root mounted: the one that was asked for last. A box of another
//! image starts as without a pool, and the pool turns to that image.

use std::fs::File;
use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use boxwood_setup::BlankDisk;
use boxwood_shim as shim;
use boxwood_state::clock::Moment;
use boxwood_state::{
    BoxDir, ImageRef, Member, MemberRequest, MemberSpec, PoolFailure, PoolShape, failpoint,
};
use boxwood_types::{BoxId, Shape, chain};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::pipe::PipeFlags;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;

use crate::create::make_disk;
use crate::{Error, Prepared, Progress, Runtime, Start, sys};

/// How long a shim that waits may take to answer: it has nothing else to do.
const ANSWER: Duration = Duration::from_secs(10);
/// The same where a box would rather start without it.
const AT_ONCE: Duration = Duration::from_secs(2);
/// How long a VM may take until it is ready: a restore, on a busy host.
const READY: Duration = Duration::from_secs(120);
/// The verb of the process that makes what a claim has taken; its descriptor 3 is at its end when it may begin.
pub(crate) const REFILL_VERB: &str = "refill";
/// The most VMs of one shape.
const MOST: u32 = 1000;

/// What a pool is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolRequest {
    /// vCPUs and memory.
    pub shape: Shape,
    /// How many.
    pub count: u32,
    /// The image they are ready for.
    pub image: String,
}

/// A pool as it is.
#[derive(Debug)]
pub struct Pool {
    /// What is wanted.
    pub wanted: Vec<PoolShape>,
    /// The VMs that wait, the oldest first.
    pub members: Vec<Member>,
    /// Why it could not be filled with VMs of these shapes when that was last tried.
    pub failures: Vec<(Shape, PoolFailure)>,
}

/// A VM that waits, and that nobody else can claim any more.
#[derive(Debug)]
pub(crate) struct Seat {
    member: Member,
    blank: Arc<BlankDisk>,
    runtime: Runtime,
    _claim: File,
}

/// Whether a box has got a VM that waited.
#[derive(Debug)]
pub(crate) enum Seated {
    /// It has. Its replacement is made once this has gone.
    Yes(Option<OwnedFd>),
    /// It has not, and was given a disk instead.
    No,
}

impl Runtime {
    /// Sets how many VMs of a shape wait, and returns when they do.
    ///
    /// # Errors
    /// When the image is not there, or a VM could not be made; those that could, wait.
    pub async fn set_pool(
        &self,
        request: &PoolRequest,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Error> {
        if request.count > MOST {
            return Err(Error::PoolTooLarge { asked: request.count, most: MOST });
        }
        let wanted = match request.count {
            0 => None,
            _ => {
                let prepared =
                    self.prepare(&request.image, request.shape, Start::First, progress).await?;
                Some(member_spec(&request.image, request.shape, &prepared)?)
            }
        };
        let (started, spare) = {
            let _alone = self.home.pool_lock()?;
            let mut config = self.home.pool_config()?;
            config.shapes.retain(|one| one.shape != request.shape);
            if request.count > 0 {
                let PoolRequest { shape, count, image } = request.clone();
                config.shapes.push(PoolShape { shape, count, image });
            }
            self.home.write_pool_config(&config)?;
            failpoint("pool: wish written");
            self.home.sweep_pool()?;
            self.fill(request.shape, request.count, wanted.as_ref())?
        };
        for member in spare {
            self.dismiss(member).await?;
        }
        for member in started {
            let ready = ask(&member, &MemberRequest::Wait);
            let ready = tokio::time::timeout(READY, ready).await;
            if !matches!(ready, Ok(Ok(()))) {
                return Err(Error::NotWarm { why: self.complaint(&member) });
            }
        }
        let _alone = self.home.pool_lock()?;
        Ok(self.home.sweep_pool()?)
    }

    /// What is wanted of the pool, and its members.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn pool(&self) -> Result<Pool, Error> {
        let mut members = self.home.members()?;
        members.retain(Member::is_alive);
        let wanted = self.home.pool_config()?.shapes;
        let there = |shape| members.iter().filter(|member| member.spec.shape == shape).count();
        // Why one was short once is nobody's concern any more.
        let short = wanted.iter().filter(|one| there(one.shape) < one.count as usize);
        let failures =
            short.filter_map(|one| Some((one.shape, self.home.pool_failure(one.shape)?))).collect();
        Ok(Pool { wanted, members, failures })
    }

    /// The last thing a member's shim has said.
    fn complaint(&self, member: &Member) -> String {
        // Its directory goes with it.
        if let Some(failure) = self.home.pool_failure(member.spec.shape)
            && failure.time >= member.spec.created
        {
            return failure.message;
        }
        let said = std::fs::read_to_string(member.complaints()).unwrap_or_default();
        said.lines().last().unwrap_or("it ended without a word").chars().take(400).collect()
    }

    /// A VM that waits for a box of this image and shape, if there is one.
    pub(crate) fn find_seat(&self, prepared: &Prepared) -> Option<Seat> {
        if !self.home.has_pool() {
            return None;
        }
        let fits = |member: &Member| {
            member.spec.template == prepared.template
                && member.spec.image.id == *prepared.image.id()
                && member.is_ready()
                && member.is_alive()
        };
        // A pool that can't be read is none: the box starts without.
        let members = self.home.members().ok()?;
        let seat = members.into_iter().filter(fits).find_map(|member| {
            let claim = member.try_claim().ok()??;
            failpoint("pool: vm found");
            let blank = prepared.blank.clone();
            Some(Seat { member, blank, runtime: self.clone(), _claim: claim })
        });
        if seat.is_none() {
            self.turn_to(prepared);
        }
        seat
    }

    /// A box of another image was asked for: from now on that is the one the pool is for.
    fn turn_to(&self, prepared: &Prepared) {
        let turned = || -> Result<(), Error> {
            let _alone = self.home.pool_lock()?;
            let mut config = self.home.pool_config()?;
            let spec = prepared.shape;
            let Some(one) = config.shapes.iter_mut().find(|one| one.shape == spec) else {
                return Ok(());
            };
            let wanted = member_spec(&prepared.asked, spec, prepared)?;
            let count = one.count;
            if one.image != prepared.asked {
                one.image.clone_from(&prepared.asked);
                self.home.write_pool_config(&config)?;
            }
            self.home.sweep_pool()?;
            let (_, spare) = self.fill(spec, count, Some(&wanted))?;
            // They end by themselves once they have heard it.
            spare.iter().for_each(|member| drop(say(member, &MemberRequest::Dismiss)));
            Ok(())
        };
        // It is for later boxes; this one starts without.
        if let Err(error) = turned() {
            self.home.note_pool_failure(prepared.shape, &chain(&error));
        }
    }

    /// Starts what is missing, with the pool's lock held. Returns what was started, and what is too much.
    fn fill(
        &self,
        shape: Shape,
        count: u32,
        wanted: Option<&MemberSpec>,
    ) -> Result<(Vec<Member>, Vec<Member>), Error> {
        let mut members = self.home.members()?;
        members.retain(|member| member.spec.shape == shape);
        let right = |member: &Member| {
            wanted.is_some_and(|wanted| {
                (&member.spec.template, &member.spec.image.id)
                    == (&wanted.template, &wanted.image.id)
            })
        };
        let (mut fitting, mut spare): (Vec<_>, Vec<_>) = members.into_iter().partition(right);
        let count = count as usize;
        if fitting.len() > count {
            spare.extend(fitting.drain(..fitting.len() - count));
        }
        let mut started = Vec::new();
        if let Some(wanted) = wanted {
            for _ in fitting.len()..count {
                started.push(self.warm_one(wanted)?);
            }
        }
        Ok((started, spare))
    }

    /// Starts a shim that makes a VM and waits with it.
    fn warm_one(&self, like: &MemberSpec) -> Result<Member, Error> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(Error::Random)?;
        let spec =
            MemberSpec { id: BoxId::from_random(random), created: Moment::now(), ..like.clone() };
        let (member, lock, listener) = self.home.new_member(&spec)?;
        failpoint("pool: member made");
        let started = || -> Result<(), Error> {
            let failed = |source| Error::Spawn { id: spec.id.clone(), source };
            let template = &spec.template;
            let path = template.store.join(&template.key).join("disk");
            let mounted = File::open(&path).map_err(|source| {
                let path = path.clone();
                Error::Io { action: "open", path, source }
            })?;
            let blank = BlankDisk::of_template(path, mounted)?;
            let mut options = File::options();
            options.read(true).write(true).create_new(true);
            blank.copy_to(&options.open(member.disk()).map_err(failed)?)?;
            failpoint("pool: member has a disk");
            let mut command = Command::new(&self.shim);
            command.arg(shim::WARM_VERB).arg(self.home.root()).arg(spec.id.as_str());
            command.stdin(Stdio::null()).stdout(Stdio::null()).current_dir("/");
            command.stderr(File::create(member.complaints()).map_err(failed)?);
            sys::spawn_detached(command, &[lock.into(), listener.into()]).map_err(failed)
        };
        started().inspect_err(|_| member.remove())?;
        failpoint("pool: member started");
        Ok(member)
    }

    async fn dismiss(&self, member: Member) -> Result<(), Error> {
        let said = tokio::time::timeout(READY, ask(&member, &MemberRequest::Dismiss)).await;
        if said.is_ok() {
            // One that hung up is about to end, too, or to be a box's.
            return self.gone(member).await;
        }
        Err(Error::NotWarm { why: format!("the VM {} does not end", member.spec.id.short()) })
    }

    /// Waits until a member's shim has let go of its lock.
    async fn gone(&self, member: Member) -> Result<(), Error> {
        let ended = tokio::task::spawn_blocking(move || member.wait_for_end());
        let within = tokio::time::timeout(ANSWER + ANSWER, ended).await;
        match within {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::NotWarm { why: "a VM does not end".to_owned() }),
        }
    }
}

/// What a member of this image and shape is made from.
fn member_spec(image: &str, shape: Shape, prepared: &Prepared) -> Result<MemberSpec, Error> {
    if prepared.template.disk.is_none() {
        let why = format!("no template can be kept for the image '{image}'");
        return Err(Error::NotWarm { why });
    }
    Ok(MemberSpec {
        // Each member gets its own.
        id: BoxId::from_random([0; 32]),
        created: Moment::now(),
        shape,
        image: ImageRef {
            id: prepared.image.id().clone(),
            name: image.to_owned(),
            block: prepared.image.block().to_owned(),
        },
        template: prepared.template.clone(),
    })
}

impl Seat {
    /// Makes the VM the box's. If it has gone meanwhile, the box gets a disk, to be started as any other.
    pub(crate) fn take(
        self,
        id: &BoxId,
        descriptors: &[OwnedFd],
        complaints: File,
        dir: &BoxDir,
    ) -> Result<Seated, Error> {
        let mut given: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        given.push(complaints.as_fd());
        let claimed = claim(&self.member, id, &given);
        failpoint("pool: vm claimed");
        if claimed.is_err() {
            make_disk(dir, &self.blank)?;
        }
        // Its replacement, whether it was good or not; that this fails harms no box.
        let (home, shape) = (&self.runtime.home, self.member.spec.shape);
        let replacement =
            self.replace().inspect_err(|error| home.note_pool_failure(shape, &chain(error)));
        Ok(match claimed {
            Ok(()) => Seated::Yes(replacement.ok()),
            Err(_) => Seated::No,
        })
    }

    /// Starts a process that makes what is missing. It begins when what is returned has gone, however it went, so
    /// that it takes no processor from the box that is starting.
    fn replace(&self) -> io::Result<OwnedFd> {
        let (begin, later) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let mut command = Command::new(&self.runtime.shim);
        command.arg(REFILL_VERB).arg(self.runtime.home.root());
        command.arg(serde_json::to_string(&self.member.spec)?);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.current_dir("/");
        sys::spawn_detached(command, &[begin])?;
        Ok(later)
    }
}

impl Runtime {
    /// Makes what a pool is short of, like `claimed`, which may still be there. For the process that a claim
    /// starts with the verb `refill`.
    ///
    /// # Errors
    /// When a VM could not be begun, which [`pool`](Self::pool) tells from then on. The next claim makes up for it.
    pub fn refill(&self, claimed: &MemberSpec) -> Result<(), Error> {
        let refilled = self.make_up_for(claimed);
        // Whoever began this does not wait for it.
        refilled.inspect_err(|error| self.home.note_pool_failure(claimed.shape, &chain(error)))
    }

    fn make_up_for(&self, claimed: &MemberSpec) -> Result<(), Error> {
        let _alone = self.home.pool_lock()?;
        let config = self.home.pool_config()?;
        let Some(one) = config.shapes.iter().find(|one| one.shape == claimed.shape) else {
            return Ok(());
        };
        let others = self.home.members()?;
        let others = others.iter().filter(|other| {
            other.spec.shape == claimed.shape && other.spec.id != claimed.id && other.is_alive()
        });
        // Also of those whom somebody claimed who was killed before he came to this.
        (others.count()..one.count as usize).try_for_each(|_| self.warm_one(claimed).map(drop))
    }
}

/// Makes a VM a box's. Its shim is the box's once it has heard that its answer has come: who has given up on it
/// starts the box without, and two shims of one box must not be. What is the box's is given to it no sooner,
/// either: a shim that does not answer would keep it.
fn claim(member: &Member, id: &BoxId, given: &[BorrowedFd<'_>]) -> io::Result<()> {
    let socket = tell(member, &MemberRequest::Claim(id.clone()))?;
    failpoint("pool: claim answered");
    send(socket.as_fd(), &[1], given)
}

/// Sends a request and waits for the answer; blocks, for a moment.
fn tell(member: &Member, request: &MemberRequest) -> io::Result<std::os::unix::net::UnixStream> {
    let mut socket = say(member, request)?;
    socket.set_read_timeout(Some(AT_ONCE))?;
    socket.read_exact(&mut [0])?;
    Ok(socket)
}

/// Sends a request.
fn say(member: &Member, request: &MemberRequest) -> io::Result<std::os::unix::net::UnixStream> {
    let socket = std::os::unix::net::UnixStream::connect(member.socket())?;
    send(socket.as_fd(), &serde_json::to_vec(request)?, &[])?;
    Ok(socket)
}

/// The same for who has something else to do meanwhile.
async fn ask(member: &Member, request: &MemberRequest) -> io::Result<()> {
    let mut socket = UnixStream::connect(member.socket()).await?;
    let bytes = serde_json::to_vec(request)?;
    socket.async_io(Interest::WRITABLE, || send(socket.as_fd(), &bytes, &[])).await?;
    socket.read_exact(&mut [0]).await.map(drop)
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8], given: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !given.is_empty() && !control.push(SendAncillaryMessage::ScmRights(given)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // So few bytes go as one.
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}
