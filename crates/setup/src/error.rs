//! Everything that can fail while a host is set up: one variant per failing step, with the file
//! or program in it. No message repeats its source.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use boxwood_vmm::BOX_DISK_BYTES;

/// Why the host is not ready for boxes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // The store.
    /// No store has a kernel yet.
    #[error("no kernel is set up in {}: run 'boxwood setup'", store.display())]
    NotSetUp {
        /// The store that `ensure` would fill.
        store: PathBuf,
    },
    /// A file's data about itself could not be read.
    #[error("cannot look at {}", path.display())]
    Stat {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file is larger than such a file can sensibly be.
    #[error("{} is larger than {limit} bytes: this is no such file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        limit: u64,
    },
    /// A file or directory of the store could not be written.
    #[error("cannot write {}: it must be writable by this user", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The lock of a store could not be taken.
    #[error("cannot lock {}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },

    // Helper programs.
    /// A program we need is not installed.
    #[error("'{program}' is not installed: install the package {package}")]
    MissingHelper {
        /// The program.
        program: String,
        /// The package that has it on this distribution.
        package: &'static str,
    },
    /// A helper could not be started or watched.
    #[error("cannot run '{program}'")]
    RunHelper {
        /// The program.
        program: String,
        /// The cause.
        source: io::Error,
    },
    /// A helper did its work and failed.
    #[error("'{program}' failed ({status}): {words}")]
    HelperFailed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote.
        words: String,
    },
    /// A helper was still running at its deadline and was killed.
    #[error("'{program}' did not end within {} s and was killed", limit.as_secs())]
    HelperTimedOut {
        /// The program.
        program: String,
        /// The time it was given.
        limit: Duration,
    },

    // The kernel.
    /// `BOXWOOD_MODULES` alone says nothing.
    #[error("BOXWOOD_MODULES is set without BOXWOOD_KERNEL: set both or neither")]
    ModulesWithoutKernel,
    /// The distribution's kernel package can't be found.
    #[error("no package {package} is known: run 'apt-get update', or set BOXWOOD_KERNEL")]
    NoKernelPackage {
        /// The package that was looked up.
        package: String,
    },
    /// The distribution's kernel package can't be had.
    #[error("cannot download {package}: check the network and run 'apt-get update'")]
    Download {
        /// The package.
        package: String,
        /// What apt-get said.
        #[source]
        source: Box<Error>,
    },
    /// A package was unpacked and has no kernel or no modules in it.
    #[error("the package {package} has no {what} in it: set BOXWOOD_KERNEL and BOXWOOD_MODULES")]
    EmptyPackage {
        /// The package.
        package: String,
        /// What was looked for.
        what: &'static str,
    },
    /// The host's own kernel can't be used either.
    #[error(
        "no kernel of the host {release} in {}: install the package {package}, or set BOXWOOD_KERNEL and BOXWOOD_MODULES",
        tried.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NoHostKernel {
        /// `uname -r`.
        release: String,
        /// The package to install.
        package: &'static str,
        /// Where it was looked for.
        tried: Vec<PathBuf>,
    },
    /// The kernel can't be extracted.
    #[error("{} is no kernel that can be used", path.display())]
    BadKernel {
        /// The kernel.
        path: PathBuf,
        /// What is wrong.
        source: BzImageFault,
    },
    /// A kernel was named, and its modules are not where they would be.
    #[error("{} has no modules of the kernel {release}: set BOXWOOD_MODULES", path.display())]
    NoModules {
        /// The directory.
        path: PathBuf,
        /// The kernel.
        release: String,
    },
    /// The directory of modules has too much in it.
    #[error("{} has more than {limit} files: this is no directory of modules", path.display())]
    TooManyModules {
        /// The directory.
        path: PathBuf,
        /// The most that are looked at.
        limit: usize,
    },
    /// A module we need is neither in the kernel nor beside it.
    #[error(
        "the kernel {release} has no module '{module}', neither built in nor in {}: use another kernel (BOXWOOD_KERNEL, BOXWOOD_MODULES)",
        directory.display()
    )]
    MissingModule {
        /// The module.
        module: String,
        /// The kernel.
        release: String,
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// A module needs itself.
    #[error("the module '{module}' of the kernel {release} depends on itself")]
    ModuleCycle {
        /// The module.
        module: String,
        /// The kernel.
        release: String,
    },
    /// A module can't be used.
    #[error("the module {} cannot be used", path.display())]
    BadModule {
        /// The module's file.
        path: PathBuf,
        /// What is wrong.
        source: ModuleFault,
    },

    // The guest binary.
    /// There is no guest binary.
    #[error(
        "no guest binary (tried {}): {BUILD_THE_GUEST}, or set BOXWOOD_GUEST",
        tried.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NoGuest {
        /// Where it was looked for.
        tried: Vec<PathBuf>,
    },
    /// The guest binary needs a dynamic linker, which a guest does not have.
    #[error("the guest binary {} is not static: {BUILD_THE_GUEST}", path.display())]
    GuestNotStatic {
        /// The binary.
        path: PathBuf,
    },
    /// The guest binary is no program for the guest.
    #[error("{} is no guest binary: {BUILD_THE_GUEST}", path.display())]
    BadGuest {
        /// The binary.
        path: PathBuf,
        /// What is wrong.
        source: ElfFault,
    },

    // The empty disk.
    /// No store has the empty disk yet.
    #[error("no empty disk is set up in {}: run 'boxwood setup'", store.display())]
    NoDisk {
        /// The store that `ensure` would fill.
        store: PathBuf,
    },
    /// The empty disk was made and is not as it must be.
    #[error("the empty disk {} came out wrong: {words}", path.display())]
    BadDisk {
        /// The disk.
        path: PathBuf,
        /// What is wrong.
        words: String,
    },
    /// A box's disk could not be made from the empty disk.
    #[error("cannot copy the empty disk {} ({BOX_DISK_BYTES} bytes, sparse)", path.display())]
    CopyDisk {
        /// The empty disk.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Error {
    /// Whether it is that this user may not read something.
    pub(crate) fn is_denied(&self) -> bool {
        match self {
            Error::Stat { source, .. } | Error::Read { source, .. } => {
                source.kind() == io::ErrorKind::PermissionDenied
            }
            _ => false,
        }
    }
}

pub(crate) const BUILD_THE_GUEST: &str = "build it with 'RUSTFLAGS=-Ctarget-feature=+crt-static cargo build --release --target x86_64-unknown-linux-gnu -p boxwood-guest'";

/// What is wrong with a kernel file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BzImageFault {
    /// Neither a bzImage nor an ELF file.
    #[error("it is neither a bzImage nor an ELF vmlinux")]
    Unknown,
    /// A bzImage older than boot protocol 2.08 does not say where its payload is.
    #[error("its boot protocol {}.{:02} is older than 2.08", version >> 8, version & 0xff)]
    TooOld {
        /// The version, major in the high byte.
        version: u16,
    },
    /// A length points outside the file.
    #[error("it is cut short")]
    Truncated,
    /// The payload's first bytes are of no compression we know.
    #[error("its payload is compressed in an unknown way (starts {start:02x?})")]
    UnknownCompression {
        /// The first bytes.
        start: Vec<u8>,
    },
    /// The payload says it would be larger than any kernel.
    #[error("it would unpack to {size} bytes, more than {limit}")]
    TooLarge {
        /// The size it gives.
        size: u64,
        /// The most that is unpacked.
        limit: u64,
    },
    /// The payload can't be decompressed.
    #[error("its payload is damaged")]
    Damaged(#[source] io::Error),
    /// The payload unpacked to another size than it says.
    #[error("its payload unpacks to {actual} bytes and says {stated}")]
    WrongSize {
        /// What came out.
        actual: u64,
        /// What it says.
        stated: u64,
    },
    /// What came out is no ELF file for x86-64.
    #[error("what it contains is no vmlinux")]
    NotElf(#[source] ElfFault),
    /// QEMU can't enter it.
    #[error("it was built without CONFIG_PVH, so QEMU's microvm cannot enter it")]
    NoPvh,
    /// It has no "Linux version" text, or one that can't be a directory's name.
    #[error("it does not say which Linux version it is")]
    NoRelease,
}

/// What is wrong with a module.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleFault {
    /// It can't be decompressed.
    #[error("it is damaged or larger than a module can be")]
    Damaged(#[source] io::Error),
    /// It is no ELF file.
    #[error("it is no module")]
    NotElf(#[source] ElfFault),
    /// It says nothing about itself.
    #[error("it has no .modinfo section")]
    NoInfo,
    /// It belongs to another kernel.
    #[error("it belongs to the kernel {found}, not to {expected}")]
    WrongRelease {
        /// The module's.
        found: String,
        /// The kernel's.
        expected: String,
    },
}

/// What is wrong with an ELF file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ElfFault {
    /// The magic is missing, or it is 32-bit or big-endian.
    #[error("it is no 64-bit little-endian ELF file")]
    NotElf64,
    /// It is for another machine.
    #[error("it is for another processor than x86-64 (machine {0})")]
    Machine(u16),
    /// A table points outside the file.
    #[error("it is cut short or damaged")]
    Truncated,
}
