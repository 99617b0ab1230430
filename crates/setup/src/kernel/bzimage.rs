//! From a distribution's vmlinuz to the uncompressed ELF vmlinux that QEMU enters by PVH.
//! Called by `kernel`.
//!
//! The layout of a bzImage is Documentation/arch/x86/boot.rst ("The Real-Mode Kernel Header").

use crate::elf::{Elf, PT_NOTE};
use crate::error::BzImageFault;

use super::decompress::Compression;

/// No vmlinux is larger; the generic one of Debian 12 has 63 MiB.
const VMLINUX_LIMIT: u64 = 512 << 20;
/// Linux allows 64 bytes with the final zero (`__NEW_UTS_LEN`).
const RELEASE_LIMIT: usize = 64;

/// Reads the vmlinux out of a bzImage, or takes an ELF file as it is. It has a PVH entry.
pub(super) fn extract(image: Vec<u8>) -> Result<Vec<u8>, BzImageFault> {
    let vmlinux = if image.starts_with(b"\x7fELF") { image } else { unpack(&image)? };
    let elf = Elf::parse(&vmlinux).map_err(BzImageFault::NotElf)?;
    if has_pvh_note(&elf)? { Ok(vmlinux) } else { Err(BzImageFault::NoPvh) }
}

fn unpack(image: &[u8]) -> Result<Vec<u8>, BzImageFault> {
    // Reason: only "HdrS" makes the other fields mean anything.
    if image.get(0x202..0x206) != Some(b"HdrS") {
        return Err(BzImageFault::Unknown);
    }
    let version = u16::from_le_bytes(array(image, 0x206)?);
    if version < 0x0208 {
        return Err(BzImageFault::TooOld { version });
    }

    // The payload lies in the protected-mode part, behind the boot sector and the setup sectors.
    let setup_sectors = match image[0x1f1] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let offset = u32::from_le_bytes(array(image, 0x248)?) as usize;
    let length = u32::from_le_bytes(array(image, 0x24c)?) as usize;
    let start = (setup_sectors + 1) * 512 + offset;
    let payload = image.get(start..start + length).ok_or(BzImageFault::Truncated)?;

    // Its last four bytes are the unpacked size: gzip's own trailer, or put there by
    // size_append in scripts/Makefile.lib.
    let compression = Compression::detect(payload).ok_or_else(|| {
        BzImageFault::UnknownCompression { start: payload.iter().take(6).copied().collect() }
    })?;
    let (body, stated) = payload.split_last_chunk::<4>().ok_or(BzImageFault::Truncated)?;
    let stated = u64::from(u32::from_le_bytes(*stated));
    if stated > VMLINUX_LIMIT {
        return Err(BzImageFault::TooLarge { size: stated, limit: VMLINUX_LIMIT });
    }
    let packed = if compression == Compression::Gzip { payload } else { body };
    let vmlinux = compression.unpack(packed, VMLINUX_LIMIT).map_err(BzImageFault::Damaged)?;
    let actual = vmlinux.len() as u64;
    if actual == stated { Ok(vmlinux) } else { Err(BzImageFault::WrongSize { actual, stated }) }
}

/// Whether the note XEN_ELFNOTE_PHYS32_ENTRY is there: where PVH enters the kernel
/// (include/xen/interface/elfnote.h).
fn has_pvh_note(elf: &Elf<'_>) -> Result<bool, BzImageFault> {
    const PHYS32_ENTRY: u32 = 18;
    let aligned = |size: u32| (size as usize).next_multiple_of(4);
    for mut notes in elf.segments(PT_NOTE).map_err(BzImageFault::NotElf)? {
        while let Some((header, rest)) = notes.split_first_chunk::<12>() {
            let field = |at: usize| {
                u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
            };
            let (name, content) = (aligned(field(0)), aligned(field(4)));
            if field(8) == PHYS32_ENTRY && rest.starts_with(b"Xen\0") {
                return Ok(true);
            }
            notes = rest.get(name + content..).unwrap_or_default();
        }
    }
    Ok(false)
}

/// The release that the kernel's banner states: what `uname -r` shows in it.
pub(super) fn release(vmlinux: &[u8]) -> Result<String, BzImageFault> {
    const BANNER: &[u8] = b"Linux version ";
    // The format string of /proc/version follows the same words: a digit tells the banner.
    find_all(vmlinux, BANNER)
        .map(|at| &vmlinux[at + BANNER.len()..])
        .filter(|rest| rest.first().is_some_and(u8::is_ascii_digit))
        .find_map(|rest| {
            let end = rest.iter().take(RELEASE_LIMIT).position(|byte| *byte == b' ')?;
            std::str::from_utf8(&rest[..end]).ok().filter(|text| is_release(text))
        })
        .map(str::to_owned)
        .ok_or(BzImageFault::NoRelease)
}

/// Only what can be one part of a path: it becomes a directory's name.
fn is_release(text: &str) -> bool {
    !text.contains("..")
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+~-".contains(&byte))
}

fn find_all<'a>(hay: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let first = needle.first().copied().unwrap_or_default();
    let mut from = 0;
    std::iter::from_fn(move || {
        while let Some(step) = hay.get(from..)?.iter().position(|byte| *byte == first) {
            let at = from + step;
            from = at + 1;
            if hay[at..].starts_with(needle) {
                return Some(at);
            }
        }
        None
    })
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], BzImageFault> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(BzImageFault::Truncated)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::decompress::tests::{ALL, pack};
    use super::*;
    use crate::elf::tests::sample;

    const XEN_NOTE: &[u8] = b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xen\0\0\0\0\x01";
    const OTHER_NOTE: &[u8] = b"\x04\0\0\0\x03\0\0\0\x12\0\0\0GNU\0abc\0";

    pub(in crate::kernel) fn vmlinux(banner: &[u8]) -> Vec<u8> {
        let mut notes = OTHER_NOTE.to_vec();
        notes.extend_from_slice(XEN_NOTE);
        sample(&[(1, b"%s Linux version %s (gcc)\0"), (1, banner), (PT_NOTE, &notes)], &[])
    }

    pub(in crate::kernel) fn bzimage(compression: Compression, vmlinux: &[u8]) -> Vec<u8> {
        let mut payload = pack(compression, vmlinux);
        if compression != Compression::Gzip {
            payload.extend_from_slice(&(vmlinux.len() as u32).to_le_bytes());
        }
        let mut image = vec![0; 3 * 512 + 100];
        image[0x1f1] = 2;
        image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x020fu16.to_le_bytes());
        image[0x248..0x24c].copy_from_slice(&100u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        image.extend_from_slice(&payload);
        image.extend_from_slice(b"signature");
        image
    }

    #[test]
    fn every_compression_is_extracted() {
        let plain = vmlinux(b"Linux version 6.1.0-56-cloud-amd64 (debian)\n");
        for compression in ALL {
            assert_eq!(extract(bzimage(compression, &plain)).unwrap(), plain, "{compression:?}");
        }
        assert_eq!(extract(plain.clone()).unwrap(), plain);
        assert_eq!(release(&plain).unwrap(), "6.1.0-56-cloud-amd64");
    }

    #[test]
    fn a_kernel_without_pvh_is_refused() {
        let plain = sample(&[(PT_NOTE, OTHER_NOTE)], &[]);
        assert!(matches!(extract(plain), Err(BzImageFault::NoPvh)));
    }

    #[test]
    fn a_hostile_image_is_refused_and_never_panics() {
        let plain = vmlinux(b"Linux version 6.1.0 (x)\n");
        for compression in ALL {
            let image = bzimage(compression, &plain);
            for end in 0..image.len() - 9 {
                assert!(extract(image[..end].to_vec()).is_err(), "{compression:?} cut at {end}");
            }
            for (at, value) in [(0x248, u32::MAX), (0x24c, u32::MAX), (0x24c, 3), (0x24c, 0)] {
                let mut changed = image.clone();
                changed[at..at + 4].copy_from_slice(&value.to_le_bytes());
                assert!(extract(changed).is_err(), "{compression:?} {at:#x} = {value}");
            }
            for at in 3 * 512..image.len() {
                let mut changed = image.clone();
                changed[at] = !changed[at];
                let _ = extract(changed);
            }
        }
    }

    #[test]
    fn a_payload_that_states_a_huge_size_is_refused_before_it_is_unpacked() {
        let mut image = bzimage(Compression::Xz, &vmlinux(b"Linux version 6.1 (x)"));
        let size = image.len() - b"signature".len() - 4;
        image[size..size + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(extract(image), Err(BzImageFault::TooLarge { .. })));
    }

    #[test]
    fn a_wrong_size_is_seen() {
        let mut image = bzimage(Compression::Lz4Legacy, &vmlinux(b"Linux version 6.1 (x)"));
        let size = image.len() - b"signature".len() - 4;
        image[size] ^= 1;
        assert!(matches!(extract(image), Err(BzImageFault::WrongSize { .. })));
    }

    #[test]
    fn a_release_is_one_part_of_a_path_or_none() {
        let long = format!("Linux version 6{}", "x".repeat(100));
        for banner in [
            "Linux version 6/../../etc (x)",
            "Linux version 6..1 (x)",
            "Linux version %s (x)",
            "Linux version 6.1",
            "no banner",
            &long,
        ] {
            assert!(release(banner.as_bytes()).is_err(), "{banner}");
        }
    }
}
