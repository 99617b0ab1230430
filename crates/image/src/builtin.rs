//! The default image, `busybox:latest`, made from the host's static busybox without any network.
//! Called by the store when the image is asked for and not there.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use boxwood_types::ImageName;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::config::ImageConfig;
use crate::error::ImageError;
use crate::import::Made;
use crate::layer;
use crate::store::{Build, ImageStore, Loaded, failed};
use crate::tree::{EntryPath, Leaf, Meta, NewNode};

/// The variable that names another busybox.
const VARIABLE: &str = "BOXWOOD_BUSYBOX";

/// Where distributions put it.
const PLACES: [&str; 3] = ["/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static"];

const NAME: &str = "docker.io/library/busybox:latest";

/// A static busybox has 1 to 2 MB.
const MAX_BYTES: u64 = 64 << 20;

/// How long busybox may take to list its applets, and how much it may say.
const LIST_TIME: Duration = Duration::from_secs(10);
const LIST_BYTES: u64 = 64 << 10;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
daemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
bin:x:2:2:bin:/bin:/bin/false\n\
sys:x:3:3:sys:/dev:/bin/false\n\
mail:x:8:8:mail:/var/spool/mail:/bin/false\n\
www-data:x:33:33:www-data:/var/www:/bin/false\n\
nobody:x:65534:65534:nobody:/home:/bin/false\n";

const GROUP: &str = "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\n\
mail:x:8:\nwheel:x:10:root\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n";

const SHADOW: &str = "root:*:::::::\ndaemon:*:::::::\nnobody:*:::::::\n";

const DIRECTORIES: [(&str, u16); 15] = [
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("lib", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sbin", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/bin", 0o755),
    ("usr/sbin", 0o755),
    ("var", 0o755),
];

/// Whether a user who writes this means the default image.
pub(crate) fn is_default(reference: &str) -> bool {
    reference.parse::<ImageName>().is_ok_and(|name| name.to_string() == NAME)
}

impl ImageStore {
    /// Makes `busybox:latest` from the host's busybox, whoever made it before.
    pub fn make_default(&self) -> Result<Loaded, ImageError> {
        self.make_default_from(&find()?)
    }

    pub(crate) fn make_default_from(&self, program: &Path) -> Result<Loaded, ImageError> {
        let bad = |reason: &str| ImageError::BadBusybox {
            path: program.to_owned(),
            reason: reason.to_owned(),
        };
        let file = File::open(program).map_err(failed("open", program))?;
        let metadata = file.metadata().map_err(failed("look at", program))?;
        if !metadata.is_file() || metadata.len() > MAX_BYTES {
            return Err(bad("it is no program of a busybox's size"));
        }
        let mut bytes = vec![0; metadata.len() as usize];
        file.read_exact_at(&mut bytes, 0).map_err(failed("read", program))?;
        if !is_static(&bytes) {
            return Err(bad("it is not a static program for x86-64"));
        }
        let applets = applets(program)?;
        // The program's own date, so that the same program makes the same image.
        let created = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let mut build = self.build()?;
        fill(&mut build, &bytes, &applets, seconds(created)).map_err(|reason| bad(&reason))?;
        let made = Made {
            created,
            comment: "Made from the host's busybox by boxwood",
            config: ImageConfig {
                cmd: vec!["sh".to_owned()],
                env: vec![
                    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
                ],
                ..ImageConfig::default()
            },
            names: NAME.parse().into_iter().collect(),
        };
        self.publish_made(build, None, made)
    }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or_default()
}

fn find() -> Result<PathBuf, ImageError> {
    match std::env::var_os(VARIABLE) {
        Some(named) => Ok(PathBuf::from(named)),
        None => PLACES
            .iter()
            .map(PathBuf::from)
            .find(|place| place.exists())
            .ok_or(ImageError::NoBusybox),
    }
}

/// Whether this is an ELF program for x86-64 that asks for no dynamic linker (PT_INTERP).
fn is_static(bytes: &[u8]) -> bool {
    let word = |at: usize, size: usize| -> Option<u64> {
        let field = bytes.get(at..at.checked_add(size)?)?;
        Some(field.iter().rev().fold(0, |value, byte| (value << 8) | u64::from(*byte)))
    };
    const MACHINE_X86_64: u64 = 62;
    const PT_INTERP: u64 = 3;
    let no_interpreter = || {
        let (start, size, count) = (word(32, 8)?, word(54, 2)?, word(56, 2)?);
        for at in 0..count {
            let header = start.checked_add(at * size)?;
            if word(usize::try_from(header).ok()?, 4)? == PT_INTERP {
                return Some(false);
            }
        }
        Some(true)
    };
    bytes.starts_with(b"\x7fELF\x02\x01")
        && word(18, 2) == Some(MACHINE_X86_64)
        && no_interpreter() == Some(true)
}

/// The applets the program says it has.
fn applets(program: &Path) -> Result<Vec<String>, ImageError> {
    let bad = |reason: String| ImageError::BadBusybox { path: program.to_owned(), reason };
    let child = Command::new(program)
        .arg("--list")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.map_err(failed("run", program))?;
    let said = read_all(&mut child);
    // After the deadline it still runs; after a kill it is waited for as well.
    if said.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(failed("wait for", program))?;
    let said = said.map_err(failed("read the applets of", program))?;
    let said = String::from_utf8(said).map_err(|_| bad("its list of applets is no text".into()))?;
    let plain = |name: &&str| {
        (1..=64).contains(&name.len())
            && !name.starts_with('.')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.[+".contains(&b))
    };
    let applets: Vec<String> = said.lines().filter(plain).map(str::to_owned).collect();
    match status.success() && applets.iter().any(|name| name == "sh") {
        true => Ok(applets),
        false => Err(bad("it does not list its applets, or has no shell".into())),
    }
}

/// All that a program says within the time it has.
fn read_all(child: &mut Child) -> std::io::Result<Vec<u8>> {
    let mut said = Vec::new();
    let Some(mut pipe) = child.stdout.take() else { return Ok(said) };
    let deadline = Instant::now() + LIST_TIME;
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout =
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let ready = poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&timeout))?;
        if ready == 0 {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        match pipe.read(&mut buffer)? {
            0 => return Ok(said),
            read => said.extend_from_slice(&buffer[..read]),
        }
        if said.len() as u64 > LIST_BYTES {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
    }
}

/// Puts the files of the image into the tree, all of them with one date.
fn fill(build: &mut Build, program: &[u8], applets: &[String], date: i64) -> Result<(), String> {
    build.tree.begin_layer();
    let meta = |mode| Meta { mode, mtime: (date, 0), ..Meta::default() };
    let path = |text: &str| EntryPath::parse(text.as_bytes()).map_err(|error| error.to_string());
    let put = |build: &mut Build, at: &str, mode, new| {
        build.tree.put(&path(at)?, meta(mode), new).map_err(|error| error.to_string())
    };
    put(build, ".", 0o755, NewNode::Directory)?;
    for (name, mode) in DIRECTORIES {
        put(build, name, mode, NewNode::Directory)?;
    }
    let files = [
        ("bin/busybox", 0o755, program),
        ("etc/passwd", 0o644, PASSWD.as_bytes()),
        ("etc/group", 0o644, GROUP.as_bytes()),
        ("etc/shadow", 0o640, SHADOW.as_bytes()),
        ("etc/nsswitch.conf", 0o644, b"hosts: files dns\n"),
        ("etc/hostname", 0o644, b"busybox\n"),
    ];
    for (name, mode, content) in files {
        let stored = build.data.begin(content.len() as u64).and_then(|extent| {
            build.data.write(content)?;
            build.data.end().map(|()| extent)
        });
        let extent = stored.map_err(|error| error.to_string())?;
        put(build, name, mode, NewNode::Leaf(Leaf::File(extent)))?;
    }
    let busybox = path("bin/busybox")?;
    for applet in applets.iter().filter(|applet| *applet != "busybox") {
        let at = path(&format!("bin/{applet}"))?;
        build.tree.link(&at, &busybox).map_err(|error| error.to_string())?;
    }
    let env = layer::symlink(b"../../bin/env").map_err(|error| error.to_string())?;
    put(build, "usr/bin/env", 0o777, NewNode::Leaf(env))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, ImageStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path()).unwrap();
        (dir, store)
    }

    #[test]
    fn only_what_means_busybox_latest_is_made() {
        for yes in ["busybox", "busybox:latest", "docker.io/library/busybox", "library/busybox"] {
            assert!(is_default(yes), "{yes}");
        }
        for no in ["busybox:1", "me/busybox", "localhost/busybox", "", "busybox@sha256:00"] {
            assert!(!is_default(no), "{no}");
        }
    }

    #[test]
    fn the_same_program_makes_the_same_image() {
        let (_one, one) = store();
        let (_two, two) = store();
        assert_eq!(one.make_default().unwrap().id, two.make_default().unwrap().id);
        assert!(one.make_default().unwrap().existed);
    }

    #[test]
    fn h13_what_is_no_static_busybox_is_refused() {
        let (dir, store) = store();
        let refused = |path: &Path| match store.make_default_from(path).unwrap_err() {
            ImageError::BadBusybox { reason, .. } => reason,
            other => panic!("{other}"),
        };
        assert!(refused(Path::new("/bin/ls")).contains("not a static program"));
        assert!(refused(Path::new("/dev/zero")).contains("no program"));
        let garbage = dir.path().join("garbage");
        for bytes in [&b"\x7fELF\x02\x01"[..], b"#!/bin/sh\n", b"", &[0xff; 200]] {
            std::fs::write(&garbage, bytes).unwrap();
            assert!(refused(&garbage).contains("not a static program"));
        }
        assert!(store.make_default_from(&dir.path().join("missing")).is_err());
    }
}
