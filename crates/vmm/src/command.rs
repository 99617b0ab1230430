//! QEMU's command line, as a pure function of what a VM is made of. Called by `template` (to bake)
//! and `restore`.
//!
//! It has two parts. The *machine* is what a template is bound to: it goes into the manifest and the
//! key, and is the same for baking and restoring. The *connections* are descriptors, and differ for
//! each process. QEMU gets no path to anything of a box.
//!
//! # Slots
//! The kernel finds virtio-mmio devices from the highest slot down, so the image becomes `vda` and
//! the disk `vdb`. A slot's number is its interrupt: 0 is none to Linux (the device is not found), 4
//! is the serial port's, 8 the clock's, 9 ACPI's.

use std::os::fd::RawFd;

use boxwood_types::Shape;
use serde_json::{Value, json};

use crate::accel::Accelerator;

/// The name of the port that is the channel, as the guest sees it.
pub const CHANNEL_NAME: &str = "box.0";
/// The size of the disk that holds the image: `vda` in the guest. The file behind it may be shorter
/// in data and must have this length.
pub const IMAGE_DISK_BYTES: u64 = 32 << 30;
/// The size of the disk that a box writes to: `vdb` in the guest.
pub const BOX_DISK_BYTES: u64 = 32 << 30;

/// What QEMU calls the box's disk when it starts.
pub(crate) const DISK_NODE: &str = "disk";
/// The most layers below a box's disk: each is another place to look for what was not written since.
pub const MAX_LAYERS: usize = 64;
/// The first set of descriptors that belongs to a layer.
const FIRST_LAYER_SET: usize = 10;
/// The first one that is made while QEMU runs.
pub(crate) const FIRST_LATER_SET: u32 = (FIRST_LAYER_SET + MAX_LAYERS) as u32;

const CHANNEL_SLOT: u32 = 5;
const IMAGE_SLOT: u32 = 3;
const DISK_SLOT: u32 = 2;

/// Where QEMU believes its RAM to be. Nothing can ever exist there: the descriptor is handed to it
/// when it opens this (see `ram`), and if that fails QEMU finds nothing that it could spoil.
const RAM_PATH: &str = "/proc/boxwood-ram";

/// The guest's kernel command line, but for the clock's rate. `tsc_early_khz` is added because a
/// guest that measures its clock on a busy host may hang for ever; `no_timer_check` for the same
/// reason: the kernel panics if the timer does not tick while it looks. And `tsc=reliable`, because
/// the kernel's watchdog, put off by a busy host, takes a good clock for a bad one: what is left then
/// ticks 250 times a second, in an idle guest, too. `nowatchdog`, because what looks for processors that are
/// stuck wakes each guest every 4 s, and takes one for stuck that was paused: the host asks the guest instead.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1 reboot=t no_timer_check \
     tsc=reliable nowatchdog";
/// The same for an emulated CPU. It does not speculate, so the guest's mitigations cost time and
/// protect nothing, and zeroing every page that is allocated is work that emulation multiplies. So are the
/// hooks of AppArmor and TOMOYO, which have no policy in a box and are asked at every file and program all the
/// same, and pressure figures that are kept at every switch: without the three of them a first command takes 5 %
/// less code.
const EMULATED_KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1 reboot=t no_timer_check \
     tsc=reliable nowatchdog mitigations=off init_on_alloc=0 psi=0 lsm=landlock,lockdown,yama,integrity,bpf";

/// Everything that QEMU can emulate, but for the promise that `rep movsb` is fast (ERMS): emulated, it
/// moves byte by byte, and kernels and C libraries that believe in it copy and clear several times
/// slower than with eight bytes at once.
const EMULATED_CPU: &str = "max,-erms";

/// Below this much memory, in MiB, a distribution's kernel does not boot as it is: its tracing makes
/// thousands of files at boot, 17 MiB of them.
const SMALL_MIB: u32 = 96;
/// A locked-down kernel has no tracing (kernel_lockdown(7)), and fits. The others save pages that slabs
/// waste, and what nobody reads in a box.
const SMALL_KERNEL_ARGUMENTS: &str = " lockdown=confidentiality slub_max_order=0 psi=0 audit=0";

/// What becomes of a guest's flushes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiskDurability {
    /// A flush in the guest is one of the host's file.
    #[default]
    Flushed,
    /// Flushes are ignored: for the disk of a box that is removed when it ends.
    Scratch,
}

impl DiskDurability {
    fn no_flush(self) -> &'static str {
        match self {
            DiskDurability::Flushed => "off",
            DiskDurability::Scratch => "on",
        }
    }
}

/// The descriptors of one QEMU process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connections<'a> {
    pub(crate) control: RawFd,
    pub(crate) channel: RawFd,
    pub(crate) console: RawFd,
    pub(crate) image: RawFd,
    pub(crate) disk: RawFd,
    /// What the disk is an overlay of, the lowest first; without any it is as it is.
    pub(crate) below: &'a [RawFd],
    pub(crate) durability: DiskDurability,
}

/// How a VM begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start<'a> {
    /// From its kernel; the RAM is written to the template's file.
    Boot { vmlinux: RawFd, initramfs: RawFd, kernel_arguments: &'a str },
    /// From a state that is sent later; the RAM is a private copy of the template's.
    Incoming,
    /// The same, and the state is one of devices alone, without a beginning and an end of its own.
    Captured,
    /// From a state that is sent later; the RAM is written to a file that becomes a template's.
    Rework,
}

/// What a template is bound to: everything of the command line that describes the machine.
pub(crate) fn machine(shape: Shape, accelerator: Accelerator) -> Vec<String> {
    let (accelerator, cpu) = match accelerator {
        Accelerator::Kvm => ("kvm", "host"),
        Accelerator::Tcg => ("tcg,thread=multi", EMULATED_CPU),
    };
    let arguments = [
        ("-accel", accelerator.to_owned()),
        ("-cpu", cpu.to_owned()),
        ("-smp", shape.cpus().to_string()),
        ("-m", format!("{}M", shape.memory_mib())),
        // The clock costs nothing, and without it the kernel waits for it twice, 1 s each.
        ("-M", "microvm,x-option-roms=off,rtc=on,acpi=on,memory-backend=ram".to_owned()),
        ("-device", format!("virtio-serial-device,max_ports=2,bus=virtio-mmio-bus.{CHANNEL_SLOT}")),
        ("-device", format!("virtserialport,nr=1,chardev=channel,name={CHANNEL_NAME}")),
        ("-device", disk("image", IMAGE_SLOT)),
        ("-device", disk("disk", DISK_SLOT)),
    ];
    arguments.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
}

/// A disk that reports errors to the guest, which can tell its user; QEMU's default is to stop a VM
/// whose host has run out of space, and nobody would know why.
fn disk(name: &str, slot: u32) -> String {
    format!(
        "virtio-blk-device,drive={name},serial={name},werror=report,rerror=report,\
         bus=virtio-mmio-bus.{slot}"
    )
}

/// The guest's kernel command line.
pub(crate) fn kernel_arguments(accelerator: Accelerator, shape: Shape, tsc_khz: u64) -> String {
    format!("{} tsc_early_khz={tsc_khz}", lasting_kernel_arguments(accelerator, shape))
}

/// The kernel command line without what is measured: what a template's key contains.
pub(crate) fn lasting_kernel_arguments(accelerator: Accelerator, shape: Shape) -> String {
    let general = match accelerator {
        Accelerator::Kvm => KERNEL_ARGUMENTS,
        Accelerator::Tcg => EMULATED_KERNEL_ARGUMENTS,
    };
    let small = if shape.memory_mib() < SMALL_MIB { SMALL_KERNEL_ARGUMENTS } else { "" };
    format!("{general}{small}")
}

/// All arguments of one QEMU process.
pub(crate) fn arguments(
    machine: &[String],
    shape: Shape,
    start: Start<'_>,
    connections: Connections<'_>,
) -> Vec<String> {
    let share = match start {
        Start::Boot { .. } | Start::Rework => "on",
        Start::Incoming | Start::Captured => "off",
    };
    let mib = shape.memory_mib();
    let Connections { control, channel, console, image, disk, below, durability } = connections;
    let mut all = machine.to_vec();
    let mut add = |name: &str, value: String| all.extend([name.to_owned(), value]);
    let fixed = ["-nodefaults", "-no-user-config", "-no-reboot", "-S"];
    add("-display", "none".into());
    let sandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
    add("-sandbox", sandbox.into());
    add(
        "-object",
        format!("memory-backend-file,id=ram,size={mib}M,mem-path={RAM_PATH},share={share}"),
    );
    add("-chardev", format!("socket,id=control,fd={control}"));
    add("-mon", "chardev=control,mode=control".into());
    add("-chardev", format!("socket,id=channel,fd={channel}"));
    add("-add-fd", format!("fd={console},set=1"));
    add("-chardev", "file,id=console,path=/dev/fdset/1,append=on".into());
    add("-serial", "chardev:console".into());
    add("-add-fd", format!("fd={image},set=2"));
    add(
        "-blockdev",
        "driver=raw,node-name=image,read-only=on,file.driver=file,file.filename=/dev/fdset/2,\
         file.locking=off,file.read-only=on,file.auto-read-only=off"
            .into(),
    );
    for (number, layer) in below.iter().enumerate() {
        add("-add-fd", format!("fd={layer},set={}", FIRST_LAYER_SET + number));
        add("-blockdev", below_node(number));
    }
    add("-add-fd", format!("fd={disk},set=3"));
    add("-blockdev", disk_node(below.len(), durability));
    match start {
        Start::Boot { vmlinux, initramfs, kernel_arguments } => {
            add("-kernel", format!("/proc/self/fd/{vmlinux}"));
            add("-initrd", format!("/proc/self/fd/{initramfs}"));
            add("-append", kernel_arguments.to_owned());
        }
        Start::Incoming | Start::Rework => add("-incoming", "defer".into()),
        Start::Captured => {
            add("-incoming", "defer".into());
            // What saves devices alone writes neither of the two.
            add("-global", "migration.send-configuration=off".into());
            add("-machine", "suppress-vmdesc=on".into());
        }
    }
    all.extend(fixed.map(String::from));
    all
}

/// A layer below the box's disk: the lowest is raw, the others are overlays of the one before.
fn below_node(number: usize) -> String {
    let format = match number {
        0 => "driver=raw".to_owned(),
        _ => format!("driver=qcow2,backing=below{}", number - 1),
    };
    format!(
        "{format},node-name=below{number},read-only=on,file.driver=file,\
         file.filename=/dev/fdset/{},file.locking=off,file.read-only=on,file.auto-read-only=off",
        FIRST_LAYER_SET + number
    )
}

/// The box's disk, over so many layers.
fn disk_node(layers: usize, durability: DiskDurability) -> String {
    let format = match layers {
        0 => "driver=raw".to_owned(),
        _ => format!("driver=qcow2,backing=below{}", layers - 1),
    };
    let flush = durability.no_flush();
    format!(
        "{format},node-name={DISK_NODE},discard=unmap,detect-zeroes=off,cache.direct=off,\
         cache.no-flush={flush},file.driver=file,file.filename=/dev/fdset/3,file.locking=off,\
         file.discard=unmap,file.cache.direct=off,file.cache.no-flush={flush}"
    )
}

/// What QMP is told of a new overlay of a disk, whose file is in this set of descriptors.
pub(crate) fn overlay_node(node: &str, set: u32, durability: DiskDurability) -> Value {
    let cache = json!({ "direct": false, "no-flush": durability == DiskDurability::Scratch });
    json!({
        "driver": "qcow2",
        "node-name": node,
        "backing": null,
        "discard": "unmap",
        "detect-zeroes": "off",
        "cache": cache,
        "file": {
            "driver": "file",
            "filename": format!("/dev/fdset/{set}"),
            "locking": "off",
            "discard": "unmap",
            "cache": cache,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECTIONS: Connections<'static> = Connections {
        control: 10,
        channel: 11,
        console: 12,
        image: 13,
        disk: 14,
        below: &[],
        durability: DiskDurability::Flushed,
    };

    fn line(start: Start<'_>, connections: Connections<'_>) -> String {
        let shape = Shape::default();
        arguments(&machine(shape, Accelerator::Tcg), shape, start, connections).join(" ")
    }

    #[test]
    fn a_restore_differs_from_its_bake_only_in_ram_and_start() {
        let boot = Start::Boot { vmlinux: 20, initramfs: 21, kernel_arguments: "x" };
        let bake = line(boot, CONNECTIONS);
        let restore = line(Start::Incoming, CONNECTIONS);
        let made_equal = bake.replace("share=on", "share=off").replace(
            "-kernel /proc/self/fd/20 -initrd /proc/self/fd/21 -append x",
            "-incoming defer",
        );
        assert_eq!(made_equal, restore);
    }

    #[test]
    fn a_vm_has_no_network_no_defaults_and_its_sandbox() {
        let line = line(Start::Incoming, CONNECTIONS);
        for needed in [
            "-nodefaults",
            "-no-user-config",
            "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
            "node-name=image,read-only=on",
        ] {
            assert!(line.contains(needed), "{needed} is not in {line}");
        }
        assert!(!line.contains("net"), "{line}");
    }

    #[test]
    fn only_a_scratch_disk_ignores_flushes() {
        assert!(!line(Start::Incoming, CONNECTIONS).contains("no-flush=on"));
        let scratch = Connections { durability: DiskDurability::Scratch, ..CONNECTIONS };
        assert!(line(Start::Incoming, scratch).contains("cache.no-flush=on"));
    }

    #[test]
    fn s3_a_disk_is_an_overlay_of_its_layers_which_nobody_can_write_to() {
        let line = line(Start::Captured, Connections { below: &[20, 21], ..CONNECTIONS });
        for node in [
            "fd=20,set=10 -blockdev driver=raw,node-name=below0,read-only=on",
            "fd=21,set=11 -blockdev driver=qcow2,backing=below0,node-name=below1,read-only=on",
            "fd=14,set=3 -blockdev driver=qcow2,backing=below1,node-name=disk,discard",
        ] {
            assert!(line.contains(node), "{node} is not in {line}");
        }
    }

    #[test]
    fn no_slot_has_an_interrupt_that_is_taken_and_the_image_comes_first() {
        for slot in [CHANNEL_SLOT, IMAGE_SLOT, DISK_SLOT] {
            assert!(![0, 4, 8, 9].contains(&slot));
        }
        const { assert!(IMAGE_SLOT > DISK_SLOT) };
    }

    #[test]
    fn the_accelerators_differ_in_two_arguments() {
        let shape = Shape::default();
        let (kvm, tcg) = (machine(shape, Accelerator::Kvm), machine(shape, Accelerator::Tcg));
        let differences = kvm.iter().zip(&tcg).filter(|(kvm, tcg)| kvm != tcg).count();
        assert_eq!((kvm.len(), differences), (tcg.len(), 2));
    }
}
