//! Everything that must differ from box to box, done after each restore and before anything of the
//! box runs (contract G10). Called by `greeting` when a greeting has come, after the clock was set;
//! `boot::mounts` made the files it writes.
//!
//! There is no network device yet, so there is no hardware address and no address to change.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use boxwood_wire::preface::Hello;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::fault::{Fault, Step};
use crate::sys;

/// Linux's limit for a host name, in bytes.
const HOST_NAME_MAX: usize = 64;
/// The fewest random bytes that make two restores differ beyond doubt.
const ENTROPY_MIN: usize = 32;
/// The most random bytes taken.
const ENTROPY_MAX: usize = 512;

/// The files that tell the box's processes who they are. They lie in the box's own layer, where a
/// later rebirth of the same memory finds and changes them.
pub(crate) struct IdentityFiles {
    random: OwnedFd,
    hostname: Text,
    hosts: Text,
    machine_id: Text,
    boot_id: Text,
}

impl IdentityFiles {
    /// Makes them, empty.
    pub(crate) fn create() -> Result<Self, Fault> {
        Ok(IdentityFiles {
            random: rustix::fs::open("/dev/urandom", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
                .step("open /dev/urandom")?,
            hostname: Text::create("/run/own/etc/hostname")?,
            hosts: Text::create("/run/own/etc/hosts")?,
            machine_id: Text::create("/run/own/etc/machine-id")?,
            boot_id: Text::create("/run/boot_id")?,
        })
    }
}

/// A small file whose whole text is replaced.
struct Text {
    file: File,
    path: &'static str,
    length: usize,
}

impl Text {
    /// Makes the file, with an empty line in it: so its page is there before the freeze.
    fn create(path: &'static str) -> Result<Self, Fault> {
        let file = File::create(path).step_with(|| format!("create {path}"))?;
        let mut text = Text { file, path, length: 0 };
        text.replace(b"\n")?;
        Ok(text)
    }

    fn replace(&mut self, text: &[u8]) -> Result<(), Fault> {
        let step = || format!("write {}", self.path);
        if text.len() < self.length {
            self.file.set_len(0).step_with(step)?;
        }
        self.file.write_all_at(text, 0).step_with(step)?;
        self.length = text.len();
        Ok(())
    }
}

/// Makes this machine the one the greeting describes. Every step is checked.
pub(crate) fn reborn(hello: &Hello, files: &mut IdentityFiles) -> Result<(), Fault> {
    if !(ENTROPY_MIN..=ENTROPY_MAX).contains(&hello.entropy.len()) {
        let step = format!("use {} random bytes: it takes 32 to 512", hello.entropy.len());
        return Err(Fault::new(step, Errno::INVAL));
    }
    if hello.hostname.len() > HOST_NAME_MAX || hello.hostname.contains(&b'\n') {
        return Err(Fault::new("take this host name: 64 bytes of one line", Errno::INVAL));
    }
    sys::add_entropy(&files.random, &hello.entropy).step("add to the kernel's entropy")?;
    sys::reseed(&files.random).step("reseed the kernel's random generator")?;
    rustix::system::sethostname(&hello.hostname).step("set the host name")?;
    files.hostname.replace(&line(&hello.hostname))?;
    files.hosts.replace(&hosts(&hello.hostname))?;
    files.machine_id.replace(&line(&hex(&hello.machine_id)))?;
    files.boot_id.replace(&line(&uuid(&hello.boot_id)))
}

fn line(text: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(text.len() + 1);
    line.extend_from_slice(text);
    line.push(b'\n');
    line
}

/// Docker's `/etc/hosts`. Its last line names the container's address; without a network that is
/// the loopback's.
fn hosts(hostname: &[u8]) -> Vec<u8> {
    const FIXED: &[u8] = b"127.0.0.1\tlocalhost\n\
        ::1\tlocalhost ip6-localhost ip6-loopback\n\
        fe00::0\tip6-localnet\n\
        ff00::0\tip6-mcastprefix\n\
        ff02::1\tip6-allnodes\n\
        ff02::2\tip6-allrouters\n";
    let mut text = Vec::with_capacity(FIXED.len() + 10 + HOST_NAME_MAX + 1);
    text.extend_from_slice(FIXED);
    if !hostname.is_empty() {
        text.extend_from_slice(b"127.0.0.1\t");
        text.extend_from_slice(hostname);
        text.push(b'\n');
    }
    text
}

fn hex(bytes: &[u8; 16]) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

/// The form of `/proc/sys/kernel/random/boot_id`: 8-4-4-4-12 digits.
fn uuid(bytes: &[u8; 16]) -> [u8; 36] {
    let digits = hex(bytes);
    let mut text = [b'-'; 36];
    for (place, digit) in [(0, 0..8), (9, 8..12), (14, 12..16), (19, 16..20), (24, 20..32)]
        .map(|(p, r)| (p, &digits[r]))
    {
        text[place..place + digit.len()].copy_from_slice(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g10_identities_are_written_as_linux_writes_them() {
        let id = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0, 1, 2, 3, 4, 5, 6, 0xff];
        assert_eq!(&hex(&id), b"0123456789abcdef00010203040506ff");
        assert_eq!(&uuid(&id), b"01234567-89ab-cdef-0001-0203040506ff");
    }

    #[test]
    fn hosts_ends_with_the_box_itself() {
        let text = hosts(b"web-1");
        assert!(text.starts_with(b"127.0.0.1\tlocalhost\n"));
        assert!(text.ends_with(b"\n127.0.0.1\tweb-1\n"));
        assert!(hosts(b"").ends_with(b"ip6-allrouters\n"));
    }

    #[test]
    fn g10_a_shorter_text_leaves_nothing_of_the_longer_one() {
        let folder = tempfile::tempdir().unwrap();
        let path: &str = folder.path().join("hostname").to_str().unwrap().to_owned().leak();
        let mut text = Text::create(path).unwrap();
        text.replace(b"a-long-name\n").unwrap();
        text.replace(b"short\n").unwrap();
        assert_eq!(std::fs::read(path).unwrap(), b"short\n");
    }
}
