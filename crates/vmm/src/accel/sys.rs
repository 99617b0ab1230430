//! The unsafe part of the probe: KVM's ioctls and the child that makes them, and the CPU's time
//! stamp counter. Called by `accel::kvm` and `host`.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::ptr;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use rustix::time::{ClockId, clock_gettime};

use super::kvm::{ENOUGH, ROUNDS};

/// The CPU's time stamp counter.
pub(crate) fn read_tsc() -> u64 {
    // SAFETY: every x86-64 CPU has the instruction, and Linux lets user mode run it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// What became of a trial of KVM.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trial {
    /// The loop came back this often in this time.
    Ran { loops: u64, nanoseconds: u64 },
    /// A step failed; errno 0 means that it did something else than it should.
    Failed { step: &'static str, errno: i32 },
    /// The deadline passed.
    TooLate,
}

// From linux/kvm.h; x86-64.
const KVM_CREATE_VM: libc::c_ulong = 0xae01;
const KVM_GET_VCPU_MMAP_SIZE: libc::c_ulong = 0xae04;
const KVM_GET_SUPPORTED_CPUID: libc::c_ulong = 0xc008_ae05;
const KVM_CREATE_VCPU: libc::c_ulong = 0xae41;
const KVM_SET_USER_MEMORY_REGION: libc::c_ulong = 0x4020_ae46;
const KVM_SET_TSS_ADDR: libc::c_ulong = 0xae47;
const KVM_RUN: libc::c_ulong = 0xae80;
const KVM_SET_REGS: libc::c_ulong = 0x4090_ae82;
const KVM_GET_SREGS: libc::c_ulong = 0x8138_ae83;
const KVM_SET_SREGS: libc::c_ulong = 0x4138_ae84;
const KVM_SET_CPUID2: libc::c_ulong = 0x4008_ae90;
const KVM_EXIT_IO: u32 = 2;
/// `exit_reason` in `struct kvm_run`.
const EXIT_REASON_AT: usize = 8;

#[repr(C)]
struct MemoryRegion {
    slot: u32,
    flags: u32,
    guest_physical: u64,
    size: u64,
    user_address: u64,
}

#[repr(C)]
#[derive(Default)]
struct Registers {
    /// rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8 to r15.
    general: [u64; 16],
    rip: u64,
    rflags: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Segment {
    base: u64,
    limit: u32,
    selector: u16,
    kind: u8,
    present: u8,
    dpl: u8,
    db: u8,
    s: u8,
    l: u8,
    g: u8,
    avl: u8,
    unusable: u8,
    padding: u8,
}

#[repr(C)]
struct SpecialRegisters {
    /// cs, ds, es, fs, gs, ss, tr, ldt.
    segments: [Segment; 8],
    /// gdt and idt.
    tables: [u64; 4],
    cr0: u64,
    cr2: u64,
    cr3: u64,
    cr4: u64,
    cr8: u64,
    efer: u64,
    apic_base: u64,
    interrupts: [u64; 4],
}

/// A page that child and parent share: what the child has found out.
#[repr(C)]
struct Report {
    done: u64,
    step: u64,
    errno: u64,
    loops: u64,
    nanoseconds: u64,
}

/// The steps of a trial, by number.
const STEPS: [&str; 9] = [
    "making a VM",
    "reading the supported CPU features",
    "giving the VM memory",
    "making a vCPU",
    "setting the vCPU's features",
    "mapping the vCPU's state",
    "setting the vCPU's registers",
    "running the vCPU",
    "coming back from the loop",
];

/// Guest memory: page tables, then the code.
const MEMORY: usize = 0x8000;
const PML4_AT: usize = 0x1000;
const PDPT_AT: usize = 0x2000;
const PD_AT: usize = 0x3000;
const CODE_AT: usize = 0x4000;
/// Room for `struct kvm_cpuid2` with 256 entries of 40 bytes.
const CPUID_BYTES: usize = 8 + 256 * 40;

/// Everything the child needs, made before it is: it must not allocate.
struct Prepared {
    kvm: RawFd,
    report: *mut Report,
    memory: *mut u8,
    cpuid: *mut u8,
}

/// Makes a VM in a child process and lets it run for [`ENOUGH`], or until the deadline.
pub(super) fn try_kvm(device: &File, deadline: Duration) -> io::Result<Trial> {
    let mapping = Mapping::new(0x1000 + MEMORY + CPUID_BYTES)?;
    let base = mapping.address.cast::<u8>();
    // SAFETY: the offsets are inside of the mapping, whose size is the sum of the three parts.
    let prepared = unsafe {
        Prepared {
            kvm: device.as_raw_fd(),
            report: base.cast(),
            memory: base.add(0x1000),
            cpuid: base.add(0x1000 + MEMORY),
        }
    };
    // SAFETY: MEMORY bytes at `memory` are ours alone until the child exists.
    fill_memory(unsafe { std::slice::from_raw_parts_mut(prepared.memory, MEMORY) });
    let parent = rustix::process::getpid();
    // SAFETY: the child only makes system calls and writes to the mapping (see `child`), which is
    // allowed after a fork of a process with threads.
    let pid = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => child(&prepared, parent),
        pid => pid,
    };
    wait_for(pid, deadline)?;
    // SAFETY: the child is gone, so nobody writes to the page any more.
    let report = unsafe { prepared.report.read_volatile() };
    let step = STEPS.get(report.step as usize).copied().unwrap_or("something");
    Ok(match report.done {
        1 => Trial::Ran { loops: report.loops, nanoseconds: report.nanoseconds },
        2 => Trial::Failed { step, errno: report.errno as i32 },
        _ => Trial::TooLate,
    })
}

/// Waits for the child, and kills it if it is late. It is reaped before this returns.
fn wait_for(pid: libc::pid_t, deadline: Duration) -> io::Result<()> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
    // The child is ours and not reaped, so the number can't belong to anybody else.
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let timeout =
        Timespec { tv_sec: deadline.as_secs() as i64, tv_nsec: deadline.subsec_nanos().into() };
    let late = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout));
    if !matches!(late, Ok(1)) {
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    }
    rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED))?;
    Ok(())
}

/// The loop (4 instructions, at CPL 0) and tables that map the first 2 MiB to themselves.
fn fill_memory(memory: &mut [u8]) {
    const PRESENT_WRITABLE: u64 = 0x3;
    const LARGE: u64 = 0x80;
    let mut entry =
        |at: usize, value: u64| memory[at..at + 8].copy_from_slice(&value.to_le_bytes());
    entry(PML4_AT, PDPT_AT as u64 | PRESENT_WRITABLE);
    entry(PDPT_AT, PD_AT as u64 | PRESENT_WRITABLE);
    entry(PD_AT, PRESENT_WRITABLE | LARGE);
    let rounds = ROUNDS.to_le_bytes();
    let code = [
        0xb9, rounds[0], rounds[1], rounds[2], rounds[3], // again: mov ecx, ROUNDS
        0x48, 0xff, 0xc0, // loop: inc rax
        0x48, 0x01, 0xc3, // add rbx, rax
        0x48, 0xff, 0xc9, // dec rcx
        0x75, 0xf5, // jnz loop
        0xe6, 0x10, // out 0x10, al: back to the host
        0xeb, 0xec, // jmp again
    ];
    memory[CODE_AT..CODE_AT + code.len()].copy_from_slice(&code);
}

/// The child: never returns, never allocates, never panics.
fn child(prepared: &Prepared, parent: Pid) -> ! {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    if rustix::process::getppid() == Some(parent) {
        let report = prepared.report;
        // SAFETY: the page is mapped in both processes and only the child writes to it.
        unsafe {
            match run(prepared) {
                Ok((loops, nanoseconds)) => {
                    (*report).loops = loops;
                    (*report).nanoseconds = nanoseconds;
                    (&raw mut (*report).done).write_volatile(1);
                }
                Err((step, errno)) => {
                    (*report).step = step;
                    (*report).errno = errno as u64;
                    (&raw mut (*report).done).write_volatile(2);
                }
            }
        }
    }
    // SAFETY: ends the child without running anything of the parent's.
    unsafe { libc::_exit(0) }
}

/// Makes the VM, runs the loop. Errors are a step's number and its errno.
///
/// # Safety
/// To be called in the child only, with mappings as [`try_kvm`] makes them.
unsafe fn run(prepared: &Prepared) -> Result<(u64, u64), (u64, i32)> {
    // SAFETY: each ioctl gets the structure that linux/kvm.h names for it, alive for the call; the
    // vCPU's mapping has the size the kernel gives, and exit_reason is inside of it.
    unsafe {
        let vm = check(0, libc::ioctl(prepared.kvm, KVM_CREATE_VM, 0))?;
        let entries = ((CPUID_BYTES - 8) / 40) as u32;
        prepared.cpuid.cast::<u32>().write(entries);
        check(1, libc::ioctl(prepared.kvm, KVM_GET_SUPPORTED_CPUID, prepared.cpuid))?;
        // Old Intel CPUs want it; where it fails the next steps say whether that matters.
        libc::ioctl(vm, KVM_SET_TSS_ADDR, 0xfffb_d000 as libc::c_ulong);
        let region = MemoryRegion {
            slot: 0,
            flags: 0,
            guest_physical: 0,
            size: MEMORY as u64,
            user_address: prepared.memory as u64,
        };
        check(2, libc::ioctl(vm, KVM_SET_USER_MEMORY_REGION, &raw const region))?;
        let vcpu = check(3, libc::ioctl(vm, KVM_CREATE_VCPU, 0))?;
        check(4, libc::ioctl(vcpu, KVM_SET_CPUID2, prepared.cpuid))?;
        let size = check(5, libc::ioctl(prepared.kvm, KVM_GET_VCPU_MMAP_SIZE, 0))? as usize;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let state = libc::mmap(ptr::null_mut(), size, access, libc::MAP_SHARED, vcpu, 0);
        if state == libc::MAP_FAILED {
            return Err((5, last_errno()));
        }
        set_registers(vcpu)?;
        let exit_reason = state.cast::<u8>().add(EXIT_REASON_AT).cast::<u32>();
        // The first run pays for everything that is done once.
        let (mut loops, mut start) = (0, 0);
        loop {
            check(7, libc::ioctl(vcpu, KVM_RUN, 0))?;
            if exit_reason.read_volatile() != KVM_EXIT_IO {
                return Err((8, 0));
            }
            let now = nanoseconds();
            if start == 0 {
                start = now;
                continue;
            }
            loops += 1;
            let elapsed = now.saturating_sub(start);
            if elapsed >= ENOUGH.as_nanos() as u64 {
                return Ok((loops, elapsed));
            }
        }
    }
}

/// 64-bit mode, flat segments, privilege level 0.
///
/// # Safety
/// `vcpu` must be a vCPU.
unsafe fn set_registers(vcpu: RawFd) -> Result<(), (u64, i32)> {
    // SAFETY: SpecialRegisters and Registers are plain numbers laid out as in linux/kvm.h, so all
    // zeros is one of their values and the kernel may write into them.
    unsafe {
        let mut special: SpecialRegisters = std::mem::zeroed();
        check(6, libc::ioctl(vcpu, KVM_GET_SREGS, &raw mut special))?;
        special.cr3 = PML4_AT as u64;
        special.cr4 = 1 << 5; // PAE
        special.cr0 = 1 << 31 | 1 << 4 | 1; // PG, ET, PE
        special.efer = 1 << 10 | 1 << 8; // LMA, LME
        let code = Segment {
            base: 0,
            limit: 0xffff_ffff,
            selector: 1 << 3,
            kind: 11,
            present: 1,
            dpl: 0,
            db: 0,
            s: 1,
            l: 1,
            g: 1,
            avl: 0,
            unusable: 0,
            padding: 0,
        };
        let data = Segment { selector: 2 << 3, kind: 3, db: 1, l: 0, ..code };
        special.segments[0] = code;
        special.segments[1..6].fill(data);
        check(6, libc::ioctl(vcpu, KVM_SET_SREGS, &raw const special))?;
        let registers = Registers { rip: CODE_AT as u64, rflags: 1 << 1, ..Registers::default() };
        check(6, libc::ioctl(vcpu, KVM_SET_REGS, &raw const registers))?;
    }
    Ok(())
}

fn check(step: u64, result: libc::c_int) -> Result<libc::c_int, (u64, i32)> {
    if result < 0 { Err((step, last_errno())) } else { Ok(result) }
}

fn last_errno() -> i32 {
    // SAFETY: glibc's errno of this thread is always there.
    unsafe { *libc::__errno_location() }
}

fn nanoseconds() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Zeroed memory shared with children.
struct Mapping {
    address: *mut libc::c_void,
    size: usize,
}

impl Mapping {
    fn new(size: usize) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping wherever the kernel likes touches nothing that exists.
        let address = unsafe { libc::mmap(ptr::null_mut(), size, access, flags, -1, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping { address, size })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no pointer into it outlives `try_kvm`.
        unsafe { libc::munmap(self.address, self.size) };
    }
}

// The layouts that the ioctl numbers above encode (bits 16-29 are the size).
const _: () = assert!(size_of::<MemoryRegion>() == 0x20);
const _: () = assert!(size_of::<Registers>() == 0x90);
const _: () = assert!(size_of::<SpecialRegisters>() == 0x138);
const _: () = assert!(offset_of!(SpecialRegisters, cr0) == 8 * 24 + 32);
