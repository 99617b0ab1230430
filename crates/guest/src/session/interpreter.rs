//! What a program needs before it can run: the interpreter of a script, the dynamic linker of a binary. Called by
//! `spawn` when the kernel says that something is not there, and the program is.

use std::ffi::OsStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// What Linux reads of a script to find its interpreter (`BINPRM_BUF_SIZE`).
const HEAD: usize = 256;
/// How many interpreters an interpreter may have (`exec_binprm`).
const DEPTH: usize = 5;
/// What Linux reads of a binary's program headers at most.
const MAX_HEADERS: usize = 64 * 1024;
/// The longest path (`PATH_MAX`).
const MAX_PATH: usize = 4096;

/// Which interpreter of the program at `path` is not there, if that can be seen. A path that is not absolute
/// is one from `cwd`.
///
/// Where root in the box has mounted something nobody looks: PID 1 waits for nobody's file system. (Root can have it
/// wait for an open file all the same, by fanotify(7): that ends its own box's commands, and no other's.)
pub(super) fn missing(root: BorrowedFd<'_>, cwd: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    let mut file = open(root, cwd, path).ok()?;
    for _ in 0..=DEPTH {
        let wanted = of(&file)?;
        file = match open(root, cwd, &wanted) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => return Some(wanted),
            Err(_) => return None,
        };
    }
    None
}

fn open(root: BorrowedFd<'_>, cwd: &[u8], path: &[u8]) -> Result<OwnedFd, Errno> {
    let path: PathBuf = Path::new(OsStr::from_bytes(cwd)).join(OsStr::from_bytes(path));
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let file = rustix::fs::openat2(root, &path, flags, Mode::empty(), inside)?;
    match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file),
        _ => Err(Errno::ACCESS),
    }
}

/// The interpreter that a file names.
fn of(file: &OwnedFd) -> Option<Vec<u8>> {
    let head = read(file, 0, HEAD)?;
    match head.strip_prefix(b"#!") {
        Some(line) => of_script(line),
        None => of_binary(&head, |offset, length| read(file, offset, length)),
    }
}

/// As much as there is of `length` bytes.
fn read(file: &OwnedFd, offset: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    let count = rustix::io::pread(file, &mut bytes, offset).ok()?;
    bytes.truncate(count);
    Some(bytes)
}

/// The first word behind `#!`: up to a blank, a tab or the end of the line, and to nothing else.
fn of_script(line: &[u8]) -> Option<Vec<u8>> {
    let line = line.split(|byte| matches!(byte, b'\n' | 0)).next()?;
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let word = line.split(blank).find(|word| !word.is_empty())?;
    Some(word.to_vec())
}

/// The text of the segment `PT_INTERP` of an ELF file (elf(5)), of 32 or 64 bits, little-endian as all that
/// runs here.
fn of_binary(head: &[u8], read: impl Fn(u64, usize) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    const PT_INTERP: u64 = 3;
    let wide = match head.get(..6)? {
        [0x7f, b'E', b'L', b'F', 1, 1] => false,
        [0x7f, b'E', b'L', b'F', 2, 1] => true,
        _ => return None,
    };
    // Where the headers are, how long one is, how many there are; in one, where the segment is, how long.
    let (at, size, count, offset, length, word) =
        if wide { (32, 54, 56, 8, 32, 8) } else { (28, 42, 44, 4, 16, 4) };
    let size = usize::try_from(number(head, size, 2)?).ok()?;
    let count = usize::try_from(number(head, count, 2)?).ok()?;
    let table = size.checked_mul(count).filter(|length| *length <= MAX_HEADERS)?;
    let table = read(number(head, at, word)?, table)?;
    let interpreter = |header: &&[u8]| number(header, 0, 4) == Some(PT_INTERP);
    let header = table.chunks_exact(size.max(1)).find(interpreter)?;
    let length = usize::try_from(number(header, length, word)?).ok()?;
    let path = read(number(header, offset, word)?, length.min(MAX_PATH))?;
    path.split(|byte| *byte == 0).next().filter(|path| !path.is_empty()).map(<[u8]>::to_vec)
}

/// The number of `length` bytes at `offset`.
fn number(bytes: &[u8], offset: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(offset..)?.get(..length)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn g7_a_script_names_its_interpreter_as_linux_reads_it() {
        for (line, path) in [
            (&b" /bin/sh -e\necho"[..], Some("/bin/sh")),
            (b"\t/bin/sh\t-e", Some("/bin/sh")),
            (b"/bin/sh\r\n", Some("/bin/sh\r")),
            (b"", None),
            (b"   \n/bin/sh", None),
        ] {
            assert_eq!(of_script(line), path.map(|path| path.as_bytes().to_vec()), "{line:?}");
        }
    }

    /// An ELF file with two segments, the second of which names `linker`.
    fn binary(wide: bool, linker: &[u8]) -> Vec<u8> {
        let (header, segment, word) = if wide { (64, 56, 8) } else { (52, 32, 4) };
        let mut file = vec![0; header + 2 * segment];
        let mut put = |offset: usize, length: usize, number: usize| {
            file[offset..offset + length].copy_from_slice(&number.to_le_bytes()[..length]);
        };
        put(0, 4, 0x464c_457f);
        put(4, 2, if wide { 0x102 } else { 0x101 });
        put(if wide { 32 } else { 28 }, word, header);
        put(if wide { 54 } else { 42 }, 2, segment);
        put(if wide { 56 } else { 44 }, 2, 2);
        let second = header + segment;
        put(second, 4, 3);
        put(second + word, word, header + 2 * segment);
        put(second + if wide { 32 } else { 16 }, word, linker.len());
        file.extend(linker);
        file
    }

    fn read_of(file: &[u8]) -> Option<Vec<u8>> {
        of_binary(&file[..file.len().min(HEAD)], |offset, length| {
            let rest = file.get(usize::try_from(offset).ok()?..)?;
            Some(rest[..rest.len().min(length)].to_vec())
        })
    }

    #[test]
    fn g7_a_binary_names_its_linker() {
        for wide in [true, false] {
            let file = binary(wide, b"/lib/ld.so\0");
            assert_eq!(read_of(&file), Some(b"/lib/ld.so".to_vec()));
            assert_eq!(read_of(&binary(wide, b"\0")), None);
        }
    }

    #[test]
    fn h13_a_binary_that_is_cut_or_lies_names_nothing_and_harms_nobody() {
        for wide in [true, false] {
            let file = binary(wide, b"/lib/ld.so\0");
            for end in 0..file.len() - 11 {
                assert_eq!(read_of(&file[..end]), None, "{end}");
            }
            for at in 0..file.len() {
                let mut file = file.clone();
                file[at] = 0xff;
                let _ = read_of(&file);
            }
        }
    }

    #[test]
    fn g7_the_interpreter_that_is_not_there_is_found_at_the_end_of_a_chain() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes);
        write("first", b"#!/second\n").unwrap();
        write("second", b"#!third\n").unwrap();
        write("third", &binary(true, b"/lib/ld.so\0")).unwrap();
        write("loop", b"#!/loop\n").unwrap();
        write("text", b"words").unwrap();
        let root = std::fs::File::open(folder.path()).unwrap();
        let missing = |path: &str| missing(root.as_fd(), b"/", path.as_bytes());
        assert_eq!(missing("/first"), Some(b"/lib/ld.so".to_vec()));
        for none in ["/loop", "/text", "/nowhere", "/"] {
            assert_eq!(missing(none), None, "{none}");
        }
    }
}
