//! The little of an ELF file that we ask about: program headers and sections of a 64-bit x86
//! file. Every offset in it is untrusted. Called by `guest_binary`, `kernel::bzimage` and
//! `kernel::modules`.

use crate::error::ElfFault;

/// The interpreter's path: the file is dynamically linked.
pub(crate) const PT_INTERP: u32 = 3;
/// Notes, among them the PVH entry point.
pub(crate) const PT_NOTE: u32 = 4;

const EM_X86_64: u16 = 62;

/// A file whose header has been checked; the tables are checked when they are asked for.
pub(crate) struct Elf<'a> {
    bytes: &'a [u8],
}

/// Offset, size of an entry and number of entries.
struct Table {
    offset: u64,
    entry: u64,
    count: u64,
}

impl<'a> Elf<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, ElfFault> {
        // e_ident: magic, ELFCLASS64, ELFDATA2LSB.
        if !bytes.starts_with(b"\x7fELF\x02\x01") {
            return Err(ElfFault::NotElf64);
        }
        let elf = Elf { bytes };
        match elf.u16(18)? {
            EM_X86_64 => Ok(elf),
            machine => Err(ElfFault::Machine(machine)),
        }
    }

    /// Whether a segment of this kind exists.
    pub(crate) fn has_segment(&self, kind: u32) -> Result<bool, ElfFault> {
        let table = self.program_headers()?;
        for index in 0..table.count {
            if self.u32(table.at(index)?)? == kind {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The contents of all segments of this kind.
    pub(crate) fn segments(&self, kind: u32) -> Result<Vec<&'a [u8]>, ElfFault> {
        let table = self.program_headers()?;
        let mut found = Vec::new();
        for index in 0..table.count {
            let header = table.at(index)?;
            if self.u32(header)? == kind {
                found.push(self.slice(self.u64(header + 8)?, self.u64(header + 32)?)?);
            }
        }
        Ok(found)
    }

    /// The contents of the first section of this name.
    pub(crate) fn section(&self, name: &str) -> Result<Option<&'a [u8]>, ElfFault> {
        let table = Table {
            offset: self.u64(40)?,
            entry: self.u16(58)?.into(),
            count: self.u16(60)?.into(),
        };
        let names = table.at(self.u16(62)?.into())?;
        let names = self.slice(self.u64(names + 24)?, self.u64(names + 32)?)?;
        for index in 0..table.count {
            let header = table.at(index)?;
            let start = self.u32(header)? as usize;
            let this = names.get(start..).ok_or(ElfFault::Truncated)?;
            if this.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0)) {
                return self.slice(self.u64(header + 24)?, self.u64(header + 32)?).map(Some);
            }
        }
        Ok(None)
    }

    fn program_headers(&self) -> Result<Table, ElfFault> {
        Ok(Table {
            offset: self.u64(32)?,
            entry: self.u16(54)?.into(),
            count: self.u16(56)?.into(),
        })
    }

    fn slice(&self, offset: u64, size: u64) -> Result<&'a [u8], ElfFault> {
        let range = usize::try_from(offset)
            .ok()
            .zip(offset.checked_add(size).and_then(|end| usize::try_from(end).ok()));
        range.and_then(|(start, end)| self.bytes.get(start..end)).ok_or(ElfFault::Truncated)
    }

    fn array<const N: usize>(&self, offset: u64) -> Result<[u8; N], ElfFault> {
        self.slice(offset, N as u64)?.try_into().map_err(|_| ElfFault::Truncated)
    }

    fn u16(&self, offset: u64) -> Result<u16, ElfFault> {
        self.array(offset).map(u16::from_le_bytes)
    }

    fn u32(&self, offset: u64) -> Result<u32, ElfFault> {
        self.array(offset).map(u32::from_le_bytes)
    }

    fn u64(&self, offset: u64) -> Result<u64, ElfFault> {
        self.array(offset).map(u64::from_le_bytes)
    }
}

impl Table {
    /// The offset of an entry, with room left for the fields that are read from it.
    fn at(&self, index: u64) -> Result<u64, ElfFault> {
        index
            .checked_mul(self.entry)
            .and_then(|distance| self.offset.checked_add(distance))
            .filter(|offset| *offset < u64::MAX - 64)
            .ok_or(ElfFault::Truncated)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A made-up ELF file: one segment of each given kind and one section of each given name.
    pub(crate) fn sample(segments: &[(u32, &[u8])], sections: &[(&str, &[u8])]) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[16..18].copy_from_slice(&2u16.to_le_bytes());
        file[18..20].copy_from_slice(&62u16.to_le_bytes());

        file[32..40].copy_from_slice(&64u64.to_le_bytes());
        file[54..56].copy_from_slice(&56u16.to_le_bytes());
        file[56..58].copy_from_slice(&(segments.len() as u16).to_le_bytes());
        let mut data = (64 + 56 * segments.len()) as u64;
        for (kind, content) in segments {
            let mut header = [0; 56];
            header[..4].copy_from_slice(&kind.to_le_bytes());
            header[8..16].copy_from_slice(&data.to_le_bytes());
            header[32..40].copy_from_slice(&(content.len() as u64).to_le_bytes());
            file.extend_from_slice(&header);
            data += content.len() as u64;
        }
        segments.iter().for_each(|(_, content)| file.extend_from_slice(content));

        let mut names = vec![0];
        let mut headers = Vec::new();
        for (name, content) in sections {
            headers.push((names.len(), file.len(), content.len()));
            names.extend_from_slice(name.as_bytes());
            names.push(0);
            file.extend_from_slice(content);
        }
        headers.push((0, file.len(), names.len()));
        file.extend_from_slice(&names);
        let table = file.len() as u64;
        for (name, offset, size) in &headers {
            let mut header = [0; 64];
            header[..4].copy_from_slice(&(*name as u32).to_le_bytes());
            header[24..32].copy_from_slice(&(*offset as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(*size as u64).to_le_bytes());
            file.extend_from_slice(&header);
        }
        file[40..48].copy_from_slice(&table.to_le_bytes());
        file[58..60].copy_from_slice(&64u16.to_le_bytes());
        file[60..62].copy_from_slice(&(headers.len() as u16).to_le_bytes());
        file[62..64].copy_from_slice(&(headers.len() as u16 - 1).to_le_bytes());
        file
    }

    #[test]
    fn segments_and_sections_are_found() {
        let file = sample(&[(PT_NOTE, b"note"), (1, b"load")], &[(".a", b"A"), (".ab", b"AB")]);
        let elf = Elf::parse(&file).unwrap();
        assert_eq!(elf.segments(PT_NOTE).unwrap(), [b"note"]);
        assert!(!elf.has_segment(PT_INTERP).unwrap());
        assert_eq!(elf.section(".ab").unwrap(), Some(&b"AB"[..]));
        assert_eq!(elf.section(".abc").unwrap(), None);
    }

    #[test]
    fn no_cut_and_no_changed_byte_of_the_header_makes_it_panic() {
        let file = sample(&[(PT_NOTE, b"note")], &[(".a", b"A")]);
        let ask = |bytes: &[u8]| {
            if let Ok(elf) = Elf::parse(bytes) {
                let _ = elf.segments(PT_NOTE);
                let _ = elf.has_segment(PT_INTERP);
                let _ = elf.section(".b");
            }
        };
        (0..file.len()).for_each(|end| ask(&file[..end]));
        for at in 0..file.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = file.clone();
                changed[at] = value;
                ask(&changed);
                changed[at..file.len().min(at + 8)].fill(value);
                ask(&changed);
            }
        }
    }

    #[test]
    fn other_machines_are_refused() {
        let mut file = sample(&[], &[]);
        file[18] = 183;
        assert!(matches!(Elf::parse(&file), Err(ElfFault::Machine(183))));
        assert!(matches!(Elf::parse(b"#!/bin/sh\n"), Err(ElfFault::NotElf64)));
    }
}
