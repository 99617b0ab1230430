//! A guest for tests: real enough for QEMU, and small enough to be understood. Tests only.
//!
//! It counts at [`COUNTER_AT`] in its memory, and for each number writes a letter to its console: a
//! to p and again from a. At its limit it ends the VM by a triple fault, as Linux does with reboot=t.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::net::UnixStream;

use boxwood_types::{ByteSize, Shape, chain};

use crate::template::{BakeRequest, BootFiles, IdleError, Progress, Template, Templates};
use crate::{
    Accelerator, BOX_DISK_BYTES, Disk, DiskDurability, Engine, IMAGE_DISK_BYTES, QemuUser,
    RestoreRequest,
};

/// Where the guest counts.
pub(crate) const COUNTER_AT: u64 = 0x20_0000;
const LOADED_AT: u32 = 0x10_0000;

/// The guest as an ELF kernel with a PVH entry. Some 10 ms pass between two numbers.
pub(crate) fn kernel(limit: u32) -> Vec<u8> {
    let counter = (COUNTER_AT as u32).to_le_bytes();
    let limit = limit.to_le_bytes();
    let mut code = vec![0xbb];
    code.extend(counter); // mov ebx, COUNTER_AT
    let again = code.len();
    code.extend([0xb9, 0, 0, 0x20, 0]); // mov ecx, 2 Mi
    code.extend([0x49, 0x75, 0xfd]); // dec ecx; jnz: the dec
    code.extend([0xff, 0x03]); // inc dword [ebx]
    code.extend([0x8b, 0x03]); // mov eax, [ebx]
    code.extend([0x24, 0x0f, 0x04, b'a']); // and al, 15; add al, 'a'
    code.extend([0x66, 0xba, 0xf8, 0x03, 0xee]); // mov dx, 0x3f8; out dx, al
    code.extend([0x81, 0x3b]);
    code.extend(limit); // cmp dword [ebx], limit
    code.push(0x72); // jb: again
    code.push((again as i32 - (code.len() as i32 + 1)) as u8);
    code.extend([0x83, 0xec, 0x08, 0x31, 0xc0]); // sub esp, 8; xor eax, eax
    code.extend([0x89, 0x43, 0x10, 0x89, 0x43, 0x14]); // mov [ebx+16], eax; mov [ebx+20], eax
    code.extend([0x0f, 0x01, 0x5b, 0x10, 0xcc]); // lidt [ebx+16]; int3
    elf(&code)
}

fn elf(code: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let half = |value: u16, file: &mut Vec<u8>| file.extend(value.to_le_bytes());
    file.extend(b"\x7fELF\x02\x01\x01");
    file.resize(16, 0);
    half(2, &mut file); // EXEC
    half(62, &mut file); // x86-64
    file.extend(1u32.to_le_bytes());
    file.extend(u64::from(LOADED_AT).to_le_bytes()); // entry
    file.extend(64u64.to_le_bytes()); // program headers
    file.extend(0u64.to_le_bytes());
    file.extend(0u32.to_le_bytes());
    for value in [64, 56, 2, 64, 0, 0] {
        half(value, &mut file);
    }
    let mut program = |kind: u32, at: u64, size: u64, align: u64| {
        file.extend(kind.to_le_bytes());
        file.extend(7u32.to_le_bytes());
        let address = if kind == 1 { u64::from(LOADED_AT) } else { 0 };
        for value in [at, address, address, size, size, align] {
            file.extend(value.to_le_bytes());
        }
    };
    program(1, 0x1000, code.len() as u64, 0x1000); // LOAD
    program(4, 0x200, 24, 4); // NOTE
    file.resize(0x200, 0);
    for value in [4u32, 8, 18] {
        file.extend(value.to_le_bytes()); // name size, value size, XEN_ELFNOTE_PHYS32_ENTRY
    }
    file.extend(b"Xen\0");
    file.extend(u64::from(LOADED_AT).to_le_bytes());
    file.resize(0x1000, 0);
    file.extend(code);
    file
}

/// A store with a kernel and a QEMU.
pub(crate) struct Guinea {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) engine: Engine,
    pub(crate) boot: BootFiles,
    pub(crate) templates: Templates,
}

impl Guinea {
    pub(crate) fn new() -> Self {
        Self::with_limit(u32::MAX)
    }

    pub(crate) fn with_limit(limit: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| -> (PathBuf, String) {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            (path, crate::host::hex(&Sha256::digest(bytes)))
        };
        let (vmlinux, vmlinux_sha256) = write("vmlinux", &kernel(limit));
        let (initramfs, initramfs_sha256) = write("initramfs", b"nothing");
        let boot = BootFiles { vmlinux, vmlinux_sha256, initramfs, initramfs_sha256 };
        let engine = Engine::find(Accelerator::Tcg, &dir.path().join("cache")).unwrap();
        let templates =
            Templates::open(dir.path().join("templates")).with_cache(dir.path().join("cache"));
        Guinea { engine, boot, templates, dir }
    }

    pub(crate) fn request(&self) -> BakeRequest<'_> {
        BakeRequest {
            mark: [0; 16],
            again_if: None,
            engine: &self.engine,
            accelerator: Accelerator::Tcg,
            boot: &self.boot,
            shape: Shape::new(1, ByteSize::from_bytes(64 << 20)).unwrap(),
            within: Duration::from_secs(60),
        }
    }

    /// Where the files of the only template are.
    pub(crate) fn template_dir(&self) -> PathBuf {
        let list = self.templates.list().unwrap();
        self.dir.path().join("templates").join(&list[0].key)
    }

    pub(crate) async fn ensure(&self) -> (Template, Vec<Progress>) {
        let mut said = Vec::new();
        let store = self.dir.path().join("templates");
        let idle =
            async move |_: &mut UnixStream| -> Result<(), IdleError> { counting(&store, 2).await };
        let template = self
            .templates
            .ensure(&self.request(), idle, &mut |progress| said.push(progress))
            .await
            .unwrap_or_else(|error| panic!("{}", chain(&error)));
        (template, said)
    }
}

/// Waits until the guest that is being baked has counted to `goal`: its memory is a file.
pub(crate) async fn counting(store: &Path, goal: u32) -> Result<(), IdleError> {
    loop {
        for entry in fs::read_dir(store)? {
            let path = entry?.path();
            let fresh = path.extension().is_some_and(|extension| extension == "new");
            if fresh && File::open(path.join("ram")).is_ok_and(|ram| counter(&ram) >= goal) {
                return Ok(());
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How far a guest with this memory has counted.
pub(crate) fn counter(ram: &File) -> u32 {
    let mut bytes = [0; 4];
    ram.read_exact_at(&mut bytes, COUNTER_AT).map_or(0, |()| u32::from_le_bytes(bytes))
}

/// A restore's request, and the console's other end.
pub(crate) fn request() -> (RestoreRequest, tokio::net::unix::pipe::Receiver) {
    let (read, write) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&read, true).unwrap();
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(IMAGE_DISK_BYTES).unwrap();
    let disk = tempfile::tempfile().unwrap();
    disk.set_len(BOX_DISK_BYTES).unwrap();
    let user = if rustix::process::geteuid().is_root() {
        QemuUser::Drop { uid: 0x7000_0007, gid: 0x7000_0007 }
    } else {
        QemuUser::Same
    };
    let request = RestoreRequest {
        image: File::open(image.path()).unwrap(),
        disk: Disk::raw(disk),
        durability: DiskDurability::Scratch,
        console: File::from(std::os::fd::OwnedFd::from(write)),
        user,
        within: Duration::from_secs(30),
    };
    let console = tokio::net::unix::pipe::Receiver::from_owned_fd(read.into()).unwrap();
    (request, console)
}
