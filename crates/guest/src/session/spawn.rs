//! Starts a process of the box: the one way, for main and for every session. Called by `guest`.
//!
//! Everything that allocates or reads happens here, before there is a child; `sys::spawn` does the
//! rest and comes back when the program runs or was refused. So "started" is never said by hope
//! (contract G7).

use std::ffi::{CString, c_char};
use std::os::fd::BorrowedFd;

use boxwood_types::StartRefusal;
use boxwood_wire::message::{Process, ProcessReply};
use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::process::Pid;

use super::user::{self, User};
use super::{files, interpreter};
use crate::fault::reason;
use crate::start::broken;
use crate::sys::{self, ChildStep, Nursery, Program, SpawnError};

/// Where a process goes.
pub(crate) struct Place<'a> {
    /// The box's root.
    pub(crate) root: BorrowedFd<'a>,
    /// Its cgroup.
    pub(crate) cgroup: BorrowedFd<'a>,
    /// Standard input, output and error.
    pub(crate) stdio: [BorrowedFd<'a>; 3],
    /// The terminal that controls it.
    pub(crate) controlling: Option<BorrowedFd<'a>>,
    /// What becomes of a working directory that is not there.
    pub(crate) missing: Missing,
}

/// What becomes of a working directory that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// It is made: as Docker does for main.
    Make,
    /// The process is refused: as Docker does for a session.
    Refuse,
}

/// Starts `process`.
///
/// # Errors
/// The answer for the host: refused, with Docker's code and words, or failed.
pub(crate) fn spawn(
    process: &Process,
    place: &Place<'_>,
    nursery: &mut Nursery,
) -> Result<Pid, ProcessReply> {
    let command = Command::new(process)?;
    let user = find_user(&process.user, place.root)?;
    let argv = texts(&process.argv)?;
    let mut envp = texts(&process.env)?;
    if !process.env.iter().any(|entry| entry.starts_with(b"HOME=")) {
        envp.push(text([b"HOME=", user.home.as_slice()].concat())?);
    }
    own_pipes(place, &user)?;
    let candidates = command.candidates.iter().map(CString::as_c_str).collect::<Vec<_>>();
    let mut cwd = text(process.cwd.clone()).map(directory)?;
    let mut program = Program {
        root: place.root,
        cgroup: place.cgroup,
        stdio: place.stdio,
        controlling: place.controlling,
        cwd: &mut cwd,
        make_cwd: place.missing == Missing::Make,
        uid: user.uid,
        gid: user.gid,
        groups: &user.groups,
        candidates: &candidates,
        argv: &pointers(&argv),
        envp: &pointers(&envp),
    };
    match sys::spawn(&mut program, nursery) {
        Ok(pid) => Ok(pid),
        Err(SpawnError::Clone(errno)) => Err(failed("create a process", errno)),
        Err(SpawnError::Child(ChildStep::Exec(Some(index)), Errno::NOENT)) => {
            let path = candidates[index].to_bytes();
            let missing = interpreter::missing(place.root, &process.cwd, path);
            Err(without_interpreter(&command, missing.as_deref()))
        }
        Err(SpawnError::Child(step, errno)) => Err(explain(step, errno, &command, process)),
        Err(SpawnError::Killed) => Err(not_executed("somebody in the box killed it")),
        Err(SpawnError::Stopped) => Err(not_executed("somebody in the box stopped it")),
    }
}

/// What is to be executed, and where it may be.
#[derive(Debug)]
struct Command {
    name: String,
    searched: bool,
    candidates: Vec<CString>,
}

impl Command {
    fn new(process: &Process) -> Result<Self, ProcessReply> {
        let Some(name) = process.argv.first().filter(|name| !name.is_empty()) else {
            return Err(refused(StartRefusal::NotFound, "no command specified".to_owned()));
        };
        let searched = !name.contains(&b'/');
        let paths = if searched { search_paths(name, &process.env) } else { vec![name.clone()] };
        Ok(Command { name: shown(name), searched, candidates: texts(&paths)? })
    }
}

/// The paths `name` may have: one for each folder in the environment's `PATH`.
fn search_paths(name: &[u8], env: &[Vec<u8>]) -> Vec<Vec<u8>> {
    // As for getenv(3), the first counts.
    let Some(path) = env.iter().find_map(|entry| entry.strip_prefix(b"PATH=")) else {
        return Vec::new();
    };
    path.split(|byte| *byte == b':')
        .map(|folder| match folder {
            b"" => [b"./", name].concat(),
            folder => [folder, b"/", name].concat(),
        })
        .collect()
}

fn find_user(spec: &[u8], root: BorrowedFd<'_>) -> Result<User, ProcessReply> {
    let read = |path| files::read(root, path).map_err(broken);
    let passwd = read(c"etc/passwd")?;
    let group = read(c"etc/group")?;
    user::find(spec, &passwd, &group)
        .map_err(|error| refused(StartRefusal::NotExecutable, error.to_string()))
}

/// Gives pipes and terminal to a user that is not root, as Docker's runtime does: else it could not open `/dev/stdout`, to which images link their log files.
fn own_pipes(place: &Place<'_>, user: &User) -> Result<(), ProcessReply> {
    if user.uid.is_root() {
        return Ok(());
    }
    let step = |errno| failed("give a process its standard streams", errno);
    for fd in place.stdio {
        let stat = rustix::fs::fstat(fd).map_err(step)?;
        // Not /dev/null, which is everybody's.
        let own = FileType::from_raw_mode(stat.st_mode) == FileType::Fifo;
        if own || place.controlling.is_some() {
            rustix::fs::fchown(fd, Some(user.uid), None).map_err(step)?;
        }
    }
    Ok(())
}

/// The working directory as the child wants it.
fn directory(cwd: CString) -> Vec<u8> {
    if cwd.is_empty() { b"/\0".to_vec() } else { cwd.into_bytes_with_nul() }
}

fn texts(texts: &[Vec<u8>]) -> Result<Vec<CString>, ProcessReply> {
    texts.iter().map(|bytes| text(bytes.clone())).collect()
}

fn text(bytes: Vec<u8>) -> Result<CString, ProcessReply> {
    CString::new(bytes).map_err(|_| {
        let reason =
            "an argument, environment variable or directory contains a NUL byte".to_owned();
        refused(StartRefusal::NotExecutable, reason)
    })
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

/// A failure of the child in Docker's words and with its codes.
fn explain(step: ChildStep, errno: Errno, command: &Command, process: &Process) -> ProcessReply {
    use StartRefusal::{NotExecutable, NotFound};
    let name = &command.name;
    match step {
        ChildStep::Setup => failed("give a process its root and standard streams", errno),
        ChildStep::User => failed("give a process its user's rights", errno),
        ChildStep::Directory => {
            let cwd = String::from_utf8_lossy(&process.cwd);
            refused(NotExecutable, format!("chdir to cwd (\"{cwd}\"): {}", lower(errno)))
        }
        ChildStep::Exec(None) if command.searched => {
            refused(NotFound, format!("exec: \"{name}\": executable file not found in $PATH"))
        }
        ChildStep::Exec(_) => match errno {
            Errno::NOENT | Errno::NOTDIR => {
                refused(NotFound, format!("exec: \"{name}\": stat {name}: {}", lower(errno)))
            }
            _ => refused(NotExecutable, format!("exec: \"{name}\": {}", lower(errno))),
        },
    }
}

/// A program that is there, and can't run without something that is not.
fn without_interpreter(command: &Command, missing: Option<&[u8]>) -> ProcessReply {
    let missing = missing.map(|path| format!(" {:?}", shown(path)));
    let name = &command.name;
    let reason = format!(
        "exec: \"{name}\": it is there, but its interpreter{} is not: {}",
        missing.unwrap_or_default(),
        lower(Errno::NOENT)
    );
    refused(StartRefusal::NotFound, reason)
}

/// A path as text, and no longer than a message should be.
fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(&path[..path.len().min(200)]).into_owned()
}

/// Go's words for an errno, which are the C library's in lower case.
fn lower(errno: Errno) -> String {
    reason(errno).to_lowercase()
}

fn refused(refusal: StartRefusal, reason: String) -> ProcessReply {
    ProcessReply::Refused { refusal, reason }
}

/// What was done to a child before it executed anything.
fn not_executed(reason: &str) -> ProcessReply {
    ProcessReply::Failed { step: "execute its program".to_owned(), reason: reason.to_owned() }
}

fn failed(step: &str, errno: Errno) -> ProcessReply {
    ProcessReply::Failed { step: step.to_owned(), reason: reason(errno) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use boxwood_wire::message::{Stdin, Streams};

    fn process(argv: &[&str], env: &[&str]) -> Process {
        let bytes = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        Process {
            argv: bytes(argv),
            env: bytes(env),
            cwd: Vec::new(),
            user: Vec::new(),
            streams: Streams::Pipes(Stdin::Null),
        }
    }

    fn candidates(argv: &[&str], env: &[&str]) -> Vec<String> {
        let command = Command::new(&process(argv, env)).unwrap();
        command.candidates.iter().map(|path| path.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn g7_a_name_is_searched_in_the_boxs_own_path() {
        let env = ["X=1", "PATH=/bin::/usr/bin", "PATH=/late"];
        assert_eq!(candidates(&["sh", "-c"], &env), ["/bin/sh", "./sh", "/usr/bin/sh"]);
        assert_eq!(candidates(&["./sh"], &env), ["./sh"]);
        assert_eq!(candidates(&["sh"], &["HOME=/"]), [""; 0]);
    }

    #[test]
    fn g7_refusals_have_dockers_codes_and_words() {
        let searched = process(&["foo"], &["PATH=/bin"]);
        let with_path = process(&["/bin/foo"], &[]);
        let any = |index| ChildStep::Exec(index);
        for (process, step, errno, code, words) in [
            (
                &searched,
                any(None),
                Errno::ACCESS,
                127,
                "exec: \"foo\": executable file not found in $PATH",
            ),
            (&searched, any(Some(0)), Errno::ACCESS, 126, "exec: \"foo\": permission denied"),
            (
                &with_path,
                any(None),
                Errno::NOENT,
                127,
                "exec: \"/bin/foo\": stat /bin/foo: no such file or directory",
            ),
            (&with_path, any(None), Errno::ISDIR, 126, "exec: \"/bin/foo\": is a directory"),
            (&with_path, any(Some(0)), Errno::NOEXEC, 126, "exec: \"/bin/foo\": exec format error"),
        ] {
            let command = Command::new(process).unwrap();
            let ProcessReply::Refused { refusal, reason } = explain(step, errno, &command, process)
            else {
                panic!("not refused: {step:?} {errno}")
            };
            assert_eq!((refusal.shell_code(), reason.as_str()), (code, words));
        }
    }

    #[test]
    fn g7_no_command_and_nul_bytes_are_refused() {
        let root = std::fs::File::open("/").unwrap();
        let place = Place {
            root: root.as_fd(),
            cgroup: root.as_fd(),
            stdio: [root.as_fd(); 3],
            controlling: None,
            missing: Missing::Refuse,
        };
        let elsewhere = Process { cwd: b"/\0etc".to_vec(), ..process(&["/a"], &[]) };
        let bad = [process(&[], &[]), process(&[""], &[]), process(&["a", "b\0c"], &["PATH=/"])];
        for bad in bad.into_iter().chain([elsewhere]) {
            let reply = spawn(&bad, &place, &mut Nursery::new()).unwrap_err();
            assert!(matches!(reply, ProcessReply::Refused { .. }), "{reply:?}");
        }
    }
}
