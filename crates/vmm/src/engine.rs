//! Finds a QEMU that can run a box and knows what it is. Called by the runtime before it bakes or
//! looks up a template.
//!
//! Debian ships a small QEMU for microvm (10 shared libraries, 3 ms in the dynamic linker) next to
//! the full one (51, 11 ms). It can do KVM only, so it is the first choice there; for TCG it is the
//! full one.

use std::env;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::accel::Accelerator;
use crate::cache;
use crate::error::Error;
use crate::host::hex;

/// What is looked for on the path, best first.
const NAMES: [&str; 3] = ["qemu-system-x86_64-microvm", "qemu-system-x86_64", "qemu-kvm"];
/// Where is looked besides the path.
const PLACES: [&str; 2] = ["/usr/bin", "/usr/libexec"];
/// What every box is made of.
const DEVICES: [&str; 3] = ["virtio-blk-device", "virtio-serial-device", "virtserialport"];
/// How long a QEMU may take to answer one question, and the longest answer that is read.
const PATIENCE: Duration = Duration::from_secs(10);
const LONGEST_ANSWER: u64 = 256 * 1024;

/// A version of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// As in 7.x.y.
    pub major: u32,
    /// As in x.2.y.
    pub minor: u32,
    /// As in x.y.22.
    pub micro: u32,
}

impl Version {
    /// The oldest one that was tried.
    pub const OLDEST: Version = Version { major: 7, minor: 2, micro: 0 };

    /// From what `--version` prints.
    fn parse(answer: &str) -> Option<Self> {
        let rest = answer.split_once("version ")?.1;
        let mut numbers = rest
            .split(|c: char| !c.is_ascii_digit() && c != '.')
            .next()?
            .split('.')
            .map(str::parse);
        let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        let micro = numbers.next().and_then(Result::ok).unwrap_or(0);
        Some(Version { major, minor, micro })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// A QEMU that can run a box with a certain accelerator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engine {
    path: PathBuf,
    version: Version,
    build: Build,
}

/// What tells one build of a program from another, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Build {
    size: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl Build {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let meta = fs::metadata(path)?;
        Ok(Build { size: meta.size(), modified_s: meta.mtime(), modified_ns: meta.mtime_nsec() })
    }
}

/// What a QEMU said about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Abilities {
    version: Version,
    accelerators: Vec<Accelerator>,
    /// What it has not and we need, in words.
    lacks: Vec<String>,
}

/// [`Abilities`] as they are cached: for one build, at one place.
#[derive(Serialize, Deserialize)]
struct Checked {
    path: PathBuf,
    inode: u64,
    build: Build,
    abilities: Abilities,
}

impl Engine {
    /// The QEMU named by `BOXWOOD_QEMU`, or the best one on the path. It is asked what it can do
    /// once; later calls read the answer from `cache_dir`.
    ///
    /// # Errors
    /// When there is none, or none that can run a box with this accelerator; the message says what
    /// to install.
    pub fn find(accelerator: Accelerator, cache_dir: &Path) -> Result<Self, Error> {
        let mut refused = None;
        for path in candidates() {
            let checked = check(&path, cache_dir)?;
            match checked.abilities.suit(&path, accelerator) {
                Ok(()) => {
                    let version = checked.abilities.version;
                    return Ok(Engine { path, version, build: checked.build });
                }
                // The full QEMU comes last; what it lacks is what the user has to install.
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or(Error::NoEngine))
    }

    /// The program.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    #[cfg(test)]
    pub(crate) fn for_tests(path: &Path) -> Self {
        let build = Build::of(path).unwrap();
        Engine { path: path.to_owned(), version: Version::OLDEST, build }
    }

    /// Whether the program is still the one that was checked.
    pub(crate) fn is_unchanged(&self) -> bool {
        Build::of(&self.path).is_ok_and(|build| build == self.build)
    }
}

impl Abilities {
    fn suit(&self, path: &Path, accelerator: Accelerator) -> Result<(), Error> {
        if self.version < Version::OLDEST {
            return Err(Error::EngineTooOld { path: path.to_owned(), version: self.version });
        }
        let mut lacks = self.lacks.clone();
        if !self.accelerators.contains(&accelerator) {
            lacks.push(format!("accelerator '{accelerator}'"));
        }
        if lacks.is_empty() {
            return Ok(());
        }
        Err(Error::EngineLacks { path: path.to_owned(), lacks: lacks.join(", ") })
    }
}

fn candidates() -> Vec<PathBuf> {
    if let Some(chosen) = env::var_os("BOXWOOD_QEMU").filter(|path| !path.is_empty()) {
        return vec![PathBuf::from(chosen)];
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> = env::split_paths(&path)
        .filter(|place| place.is_absolute())
        .chain(PLACES.iter().map(PathBuf::from))
        .collect();
    let first = |name: &&str| places.iter().map(|p| p.join(name)).find(|p| is_program(p));
    NAMES.iter().filter_map(first).collect()
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// What a QEMU can do: from the cache, or asked.
fn check(path: &Path, cache_dir: &Path) -> Result<Checked, Error> {
    let silent =
        |question| move |source| Error::EngineSilent { path: path.to_owned(), question, source };
    let inode = fs::metadata(path).map_err(silent("--version"))?.ino();
    let build = Build::of(path).map_err(silent("--version"))?;
    let name = format!("engine-{}", &hex(&Sha256::digest(path.as_os_str().as_bytes()))[..16]);
    if let Some(known) = cache::get::<Checked>(cache_dir, &name)
        && (known.path.as_path(), known.inode, known.build) == (path, inode, build)
    {
        return Ok(known);
    }
    let question = |argument: &'static str, value: &'static str| {
        // Asked with the sandbox on: a QEMU built without it answers with an error.
        ask(path, &["-sandbox", "on", argument, value]).map_err(silent(argument))
    };
    let banner = ask(path, &["--version"]).map_err(silent("--version"))?;
    let version = Version::parse(&banner)
        .ok_or_else(|| silent("--version")(io::Error::other("no version in its answer")))?;
    let abilities = Abilities::from_answers(Answers {
        version,
        accelerators: question("-accel", "help")?,
        machines: question("-M", "help")?,
        devices: question("-device", "help")?,
        objects: question("-object", "help")?,
    });
    let checked = Checked { path: path.to_owned(), inode, build, abilities };
    cache::put(cache_dir, &name, &checked);
    Ok(checked)
}

/// What a QEMU prints when it is asked for help.
struct Answers {
    version: Version,
    accelerators: String,
    machines: String,
    devices: String,
    objects: String,
}

impl Abilities {
    fn from_answers(answers: Answers) -> Self {
        let first_words = |text: &str| -> Vec<String> {
            text.lines()
                .filter_map(|line| line.split_whitespace().next())
                .map(String::from)
                .collect()
        };
        let accelerators = first_words(&answers.accelerators);
        let machines = first_words(&answers.machines);
        let objects = first_words(&answers.objects);
        let has = |words: &[String], word: &str| words.iter().any(|w| w == word);
        let mut lacks = Vec::new();
        if machines.is_empty() {
            lacks.push("sandbox (it was built without seccomp)".to_owned());
        } else if !has(&machines, "microvm") {
            lacks.push("machine 'microvm'".to_owned());
        }
        for device in DEVICES {
            if !answers.devices.contains(&format!("name \"{device}\"")) {
                lacks.push(format!("device '{device}'"));
            }
        }
        if !has(&objects, "memory-backend-file") {
            lacks.push("object 'memory-backend-file'".to_owned());
        }
        let known = [Accelerator::Kvm, Accelerator::Tcg];
        let accelerators =
            known.into_iter().filter(|a| has(&accelerators, &a.to_string())).collect();
        Abilities { version: answers.version, accelerators, lacks }
    }
}

/// Runs a program and returns what it prints, with bounds on time and length.
fn ask(path: &Path, arguments: &[&str]) -> io::Result<String> {
    let mut child = Command::new(path)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .current_dir("/")
        .spawn()?;
    let answer = match child.stdout.take() {
        Some(stdout) => read_answer(stdout),
        None => Err(io::ErrorKind::BrokenPipe.into()),
    };
    // It has closed its output, or is of no more interest.
    let _ = child.kill();
    let _ = child.wait();
    answer
}

fn read_answer(mut stdout: std::process::ChildStdout) -> io::Result<String> {
    let end = Instant::now() + PATIENCE;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while answer.len() as u64 <= LONGEST_ANSWER {
        let left = end.saturating_duration_since(Instant::now());
        let timeout =
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        if poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&timeout))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match stdout.read(&mut buffer)? {
            0 => return Ok(String::from_utf8_lossy(&answer).into_owned()),
            count => answer.extend_from_slice(&buffer[..count]),
        }
    }
    Err(io::Error::other("its answer is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn abilities(machines: &str, devices: &str) -> Abilities {
        Abilities::from_answers(Answers {
            version: Version { major: 8, minor: 2, micro: 1 },
            accelerators: "Accelerators supported in QEMU binary:\ntcg\n".into(),
            machines: machines.into(),
            devices: devices.into(),
            objects: "List of user creatable objects:\n  memory-backend-file\n".into(),
        })
    }

    const MACHINES: &str = "Supported machines are:\nmicrovm              microvm (i386)\n";
    const DEVICES: &str =
        "name \"virtio-blk-device\"\nname \"virtio-serial-device\"\nname \"virtserialport\"\n";

    #[test]
    fn versions_are_read_as_qemu_prints_them() {
        let banner = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright";
        assert_eq!(Version::parse(banner), Some(Version { major: 7, minor: 2, micro: 22 }));
        let rc = Version::parse("QEMU emulator version 10.0.50-rc1\n").unwrap();
        assert!(rc > Version::OLDEST, "{rc}");
        assert_eq!(Version::parse("version x"), None);
        assert_eq!(Version::parse("hello"), None);
    }

    #[test]
    fn h13_what_an_engine_lacks_is_named() {
        let path = Path::new("/q");
        assert!(abilities(MACHINES, DEVICES).suit(path, Accelerator::Tcg).is_ok());
        let message = |abilities: Abilities, accelerator| {
            abilities.suit(path, accelerator).unwrap_err().to_string()
        };
        let no_kvm = message(abilities(MACHINES, DEVICES), Accelerator::Kvm);
        assert!(no_kvm.starts_with("/q has no accelerator 'kvm': install"), "{no_kvm}");
        let no_disk = message(abilities(MACHINES, &DEVICES.replace("blk", "x")), Accelerator::Tcg);
        assert!(no_disk.contains("device 'virtio-blk-device'"), "{no_disk}");
        assert!(message(abilities("", DEVICES), Accelerator::Tcg).contains("sandbox"));
        let mut old = abilities(MACHINES, DEVICES);
        old.version = Version { major: 7, minor: 1, micro: 9 };
        assert_eq!(
            message(old, Accelerator::Tcg),
            "/q is version 7.1.9: Boxwood needs QEMU 7.2.0 or newer"
        );
    }

    #[test]
    fn an_engine_is_asked_once_and_again_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("qemu");
        let asked = dir.path().join("asked");
        let script = |version: &str| {
            let text =
                format!("#!/bin/sh\necho x >> {}\necho version {version}\n", asked.display());
            // Renamed into place: a program that is being written can't be run.
            let new = dir.path().join("new");
            fs::write(&new, text).unwrap();
            fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
            fs::rename(&new, &program).unwrap();
        };
        let times = || fs::read_to_string(&asked).unwrap().lines().count();
        script("7.2.22");
        let cache = dir.path().join("cache");
        let first = check(&program, &cache).unwrap();
        let asked_once = times();
        assert_eq!(check(&program, &cache).unwrap().abilities, first.abilities);
        assert_eq!(times(), asked_once);
        script("8.2.100");
        assert_eq!(check(&program, &cache).unwrap().abilities.version.major, 8);
        assert!(times() > asked_once);
    }

    #[test]
    fn a_program_that_is_no_qemu_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = check(Path::new("/bin/true"), dir.path()).err().unwrap().to_string();
        assert_eq!(error, "can't ask /bin/true what it can do (with --version): is it a QEMU?");
    }
}
