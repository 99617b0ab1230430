//! The initramfs of every template: the guest binary, the kernel's modules, and the empty
//! directories the guest mounts on. Called by `assets`.
//!
//! The same inputs give the same bytes, so its hash names it and a template stays valid.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::guest_binary::GuestBinary;
use crate::kernel::Kernel;
use crate::store::{FileStamp, Stores, Writer, hash, hash_parts, read_bounded, read_record};

/// A module was bounded when it was stored; this holds for a store somebody else wrote.
const MODULE_LIMIT: u64 = 64 << 20;
const FORMAT: u32 = 1;
const DIRECTORIES: [&str; 9] =
    ["dev", "disk", "image", "modules", "newroot", "proc", "run", "sys", "tmp"];

/// An initramfs in a store.
#[derive(Debug)]
pub(crate) struct Initramfs {
    pub(crate) path: PathBuf,
    pub(crate) sha256: String,
}

/// Which initramfs a store has for a kernel and a guest binary.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u32,
    guest: FileStamp,
    file: String,
    stamp: FileStamp,
    sha256: String,
}

impl Initramfs {
    /// The one made of this kernel and this very guest binary, if a store has it.
    pub(crate) fn find(
        stores: &Stores,
        kernel: &Kernel,
        guest: &GuestBinary,
    ) -> Result<Option<Self>, Error> {
        let place = record_place(kernel, guest);
        stores.first(|store| {
            let Some(record) = read_record::<Record>(&store.join(&place))? else { return Ok(None) };
            let path = store.join("initramfs").join(&record.file);
            let fits = record.format == FORMAT
                && record.guest == guest.stamp
                && record.stamp.holds_for(&path);
            Ok(fits.then_some(Initramfs { path, sha256: record.sha256 }))
        })
    }

    /// Builds it in the writer's store.
    pub(crate) fn build(
        writer: &Writer,
        kernel: &Kernel,
        guest: &GuestBinary,
    ) -> Result<Self, Error> {
        let mut modules = Vec::new();
        for (name, path) in kernel.modules() {
            modules.push((name, read_bounded(&path, MODULE_LIMIT)?));
        }
        let bytes = archive(&guest.read()?, &modules);
        let sha256 = hash(&bytes);
        let file = format!("{}.cpio", &sha256[..32]);
        let place = Path::new("initramfs").join(&file);
        writer.write(&place, &bytes)?;

        let path = writer.root().join(place);
        let stamp = FileStamp::of(&path)?.ok_or_else(|| Error::Stat {
            path: path.clone(),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
        let record = Record { format: FORMAT, guest: guest.stamp, file, stamp, sha256 };
        writer.write_record(&record_place(kernel, guest), &record)?;
        Ok(Initramfs { path, sha256: record.sha256 })
    }
}

fn record_place(kernel: &Kernel, guest: &GuestBinary) -> PathBuf {
    let parts = [kernel.id().as_bytes(), guest.path.as_os_str().as_encoded_bytes()];
    Path::new("initramfs").join(format!("{}.json", &hash_parts(parts)[..16]))
}

/// Removes what no record of the store names.
pub(crate) fn sweep(writer: &Writer) -> Result<(), Error> {
    writer.sweep::<Record>("initramfs", |record| record.file)
}

fn archive(guest: &[u8], modules: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Archive::default();
    for name in DIRECTORIES {
        let mode = if name == "tmp" { 0o41777 } else { 0o40755 };
        archive.add(Entry { links: 2, ..Entry::new(name, mode) });
    }
    archive.add(Entry { device: (5, 1), ..Entry::new("dev/console", 0o20600) });
    archive.add(Entry { device: (1, 3), ..Entry::new("dev/null", 0o20666) });
    archive.add(Entry { content: guest, ..Entry::new("init", 0o100755) });
    for (name, content) in modules {
        archive.add(Entry { content, ..Entry::new(&format!("modules/{name}"), 0o100644) });
    }
    archive.finish()
}

/// A cpio archive in the kernel's format (Documentation/driver-api/early-userspace/
/// buffer-format.rst): the new ASCII format, owner 0, time 0, inodes counted from 1.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

struct Entry<'a> {
    name: &'a str,
    mode: u32,
    links: u32,
    device: (u32, u32),
    content: &'a [u8],
}

impl<'a> Entry<'a> {
    fn new(name: &'a str, mode: u32) -> Self {
        Entry { name, mode, links: 1, device: (0, 0), content: &[] }
    }
}

impl Archive {
    fn add(&mut self, entry: Entry<'_>) {
        self.entries += 1;
        self.write(self.entries, &entry);
    }

    fn finish(mut self) -> Vec<u8> {
        self.write(0, &Entry::new("TRAILER!!!", 0));
        self.bytes
    }

    fn write(&mut self, inode: u32, entry: &Entry<'_>) {
        // The readers above hold every content below 4 GiB.
        let size = entry.content.len() as u32;
        let name_size = entry.name.len() as u32 + 1;
        let (major, minor) = entry.device;
        self.bytes.extend_from_slice(b"070701");
        // inode, mode, uid, gid, links, time, size, device of the file, device it is, name, check
        let fields =
            [inode, entry.mode, 0, 0, entry.links, 0, size, 0, 0, major, minor, name_size, 0];
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(entry.name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(entry.content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    struct Seen {
        name: String,
        mode: u32,
        device: (u32, u32),
        content: Vec<u8>,
    }

    /// Reads it as init/initramfs.c of Linux does.
    fn read(mut rest: &[u8]) -> Vec<Seen> {
        let mut seen = Vec::new();
        loop {
            assert_eq!(&rest[..6], b"070701");
            let field = |index: usize| {
                let text = std::str::from_utf8(&rest[6 + 8 * index..14 + 8 * index]).unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            let (size, name_size) = (field(6) as usize, field(11) as usize);
            let data = (110 + name_size).next_multiple_of(4);
            let name = std::str::from_utf8(&rest[110..110 + name_size]).unwrap();
            let name = name.strip_suffix('\0').unwrap().to_owned();
            assert_eq!((field(2), field(3), field(5)), (0, 0, 0), "owner and time of {name}");
            if name == "TRAILER!!!" {
                assert_eq!(rest.len(), data);
                return seen;
            }
            seen.push(Seen {
                name,
                mode: field(1),
                device: (field(9), field(10)),
                content: rest[data..data + size].to_vec(),
            });
            rest = &rest[(data + size).next_multiple_of(4)..];
        }
    }

    #[test]
    fn the_kernel_finds_init_modules_in_order_directories_and_devices() {
        let modules = [("000-a.ko", b"first".to_vec()), ("001-b.ko", b"second!!".to_vec())];
        let seen = read(&archive(b"#guest", &modules));
        let of = |name: &str| seen.iter().find(|entry| entry.name == name).unwrap();
        assert_eq!((of("init").mode, of("init").content.as_slice()), (0o100755, &b"#guest"[..]));
        assert_eq!((of("dev/console").mode, of("dev/console").device), (0o20600, (5, 1)));
        assert_eq!((of("dev/null").mode, of("dev/null").device), (0o20666, (1, 3)));
        for name in ["dev", "proc", "sys", "run", "newroot", "disk", "image"] {
            assert_eq!(of(name).mode, 0o40755, "{name}");
        }
        assert_eq!(of("tmp").mode, 0o41777);
        let names: Vec<_> = seen.iter().map(|entry| entry.name.as_str()).collect();
        assert!(names.ends_with(&["modules/000-a.ko", "modules/001-b.ko"]), "{names:?}");
        assert_eq!(of("modules/001-b.ko").content, b"second!!");
    }

    #[test]
    fn the_same_inputs_give_the_same_bytes() {
        let modules = [("000-a.ko", b"first".to_vec())];
        assert_eq!(archive(b"guest", &modules), archive(b"guest", &modules));
        assert_ne!(archive(b"guest", &modules), archive(b"guest", &[]));
    }
}
