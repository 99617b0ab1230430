//! A snapshot as one stream, to be kept elsewhere or carried to another host. Called by the runtime.
//!
//! ```text
//! manifest.sha256, manifest.json
//! NAME.map, NAME                    for each file of the manifest, in its order
//! ```
//!
//! It is a tar archive. A map says where a file has data: pairs of u64, little-endian, from and to; the
//! file's entry has that data and no holes. So a disk of many gigabytes takes what is in it, and nobody
//! has to guess where zeros are holes.
//!
//! What comes in is hostile. Only these names are taken, in this order, as plain entries; nothing is
//! larger than the manifest says, and everything is compared with its digest before anybody sees it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use boxwood_types::Shape;
use sha2::{Digest, Sha256};

use super::delta::PAGE;
use super::frozen::{check_file, check_sealed, suits};
use super::seal::{self, Manifest};
use super::{MAX_DELTAS, Part, Paths, SKETCH, Sketch, read_json};
use crate::command::{BOX_DISK_BYTES, MAX_LAYERS};
use crate::disk::is_plain_overlay;
use crate::error::Error;
use crate::host::hex;
use crate::sparse;
use crate::template::Content;

const DIGEST: &str = "manifest.sha256";
const MANIFEST: &str = "manifest.json";
/// The most that a manifest takes: some hundred files.
const LONGEST_MANIFEST: u64 = 256 << 10;
/// The most pieces of data in one file: a memory of which every other page is empty.
const PIECES: usize = 1 << 20;
const CHUNK: usize = 16 * PAGE;
/// The largest file: no host has so much memory.
const LARGEST: u64 = 1 << 42;

/// Writes a sealed snapshot as a stream.
///
/// # Errors
/// When it is damaged, or something can't be read or written.
pub fn export(dir: &Path, out: &mut dyn Write) -> Result<(), Error> {
    check_sealed(dir)?;
    let paths = Paths::of(dir);
    let manifest = seal::read(&paths).map_err(|reason| unfit(dir, reason))?;
    let failed = |action| move |error| Error::io(action, dir)(error);
    let mut archive = tar::Builder::new(out);
    for name in [DIGEST, MANIFEST] {
        let bytes = fs::read(paths.named(name)).map_err(failed("read"))?;
        append(&mut archive, name, bytes.len() as u64, &mut &*bytes).map_err(failed("export"))?;
    }
    for name in manifest.files.keys() {
        let path = paths.named(name);
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        let pieces = sparse::extents(&file, PIECES).map_err(Error::io("read", &path))?;
        let map: Vec<u8> = pieces
            .iter()
            .flat_map(|piece| [piece.start, piece.end])
            .flat_map(u64::to_le_bytes)
            .collect();
        let map_name = format!("{name}.map");
        append(&mut archive, &map_name, map.len() as u64, &mut &*map).map_err(failed("export"))?;
        let size = pieces.iter().map(|piece| piece.end - piece.start).sum();
        let mut data = Pieces { file: &file, pieces: pieces.iter(), at: 0..0 };
        append(&mut archive, name, size, &mut data).map_err(failed("export"))?;
    }
    let out = archive.into_inner().map_err(failed("export"))?;
    out.flush().map_err(failed("export"))
}

fn append(
    archive: &mut tar::Builder<&mut dyn Write>,
    name: &str,
    size: u64,
    data: &mut dyn Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o600);
    header.set_size(size);
    archive.append_data(&mut header, name, data)
}

/// The data of a file, without its holes.
struct Pieces<'a> {
    file: &'a File,
    pieces: std::slice::Iter<'a, Range<u64>>,
    /// What is left of the piece at hand.
    at: Range<u64>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at.is_empty() {
            match self.pieces.next() {
                Some(piece) => self.at = piece.clone(),
                None => return Ok(0),
            }
        }
        let most = (self.at.end - self.at.start).min(into.len() as u64) as usize;
        self.file.read_exact_at(&mut into[..most], self.at.start)?;
        self.at.start += most as u64;
        Ok(most)
    }
}

/// Writes what comes as a stream into an empty directory, as the sealed snapshot that it was. `others` are
/// the files that the caller has in a snapshot. Tells the shape of its memory, if it has one.
///
/// # Errors
/// [`Error::NoArchive`] when it is no such stream; the directory is then to be thrown away.
pub fn import(
    input: &mut dyn Read,
    dir: &Path,
    others: &'static [&'static str],
) -> Result<Option<Shape>, Error> {
    let paths = Paths::of(dir);
    let mut archive = tar::Archive::new(input);
    // Raw: no header is taken for the next one's name or size, however long it is.
    let entries = archive.entries().map_err(no_archive)?.raw(true);
    let mut entries = Entries(entries);
    let digest = entries.small(DIGEST, 64)?;
    let text = entries.small(MANIFEST, LONGEST_MANIFEST)?;
    if hex(&Sha256::digest(&text)).as_bytes() != digest {
        return Err(none("its manifest is damaged"));
    }
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| none(&error.to_string()))?;
    check_names(&manifest.files, others)?;
    for (name, said) in &manifest.files {
        let map = entries.small(&format!("{name}.map"), PIECES as u64 * 16)?;
        let pieces = pieces(&map, said.bytes).ok_or_else(|| none(&format!("{name} has no map")))?;
        let path = paths.named(name);
        let mut options = File::options();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(Error::io("make", &path))?;
        file.set_len(said.bytes).map_err(Error::io("write", &path))?;
        entries.file(name, &file, &pieces)?;
        file.sync_all().map_err(Error::io("write", &path))?;
        check_file(&paths, name, said).map_err(|reason| none(&reason))?;
    }
    entries.end()?;
    for (name, bytes) in [(MANIFEST, text), (DIGEST, digest)] {
        let path = paths.named(name);
        let written = File::create_new(&path)
            .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()));
        written.map_err(Error::io("write", &path))?;
    }
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("write", dir))?;
    check_disks(&paths, &manifest)?;
    match manifest.part() {
        Part::Everything => check_memory(&paths, &manifest).map(Some),
        Part::Disk => Ok(None),
    }
}

/// Says why a snapshot can't go on here, though it is whole.
pub fn is_foreign(dir: &Path) -> Option<String> {
    let sketch = read_json::<Sketch>(&Paths::of(dir).named(SKETCH)).ok()?;
    match suits(&sketch, dir) {
        Err(Error::Foreign { reason, .. }) => Some(reason),
        _ => None,
    }
}

/// Entries that come in the order that is expected.
struct Entries<'a, R: Read>(tar::Entries<'a, R>);

impl<'a, R: Read> Entries<'a, R> {
    fn next(&mut self, name: &str) -> Result<tar::Entry<'a, R>, Error> {
        let entry = self.0.next().ok_or_else(|| none(&format!("it ends before {name}")))?;
        let entry = entry.map_err(no_archive)?;
        let plain = entry.header().entry_type() == tar::EntryType::Regular;
        if !plain || *entry.path_bytes() != *name.as_bytes() {
            return Err(none(&format!("{name} does not come when it should")));
        }
        Ok(entry)
    }

    fn small(&mut self, name: &str, most: u64) -> Result<Vec<u8>, Error> {
        let entry = self.next(name)?;
        let size = entry.size();
        if size > most {
            return Err(none(&format!("{name} has {size} bytes, more than {most}")));
        }
        let mut bytes = Vec::new();
        entry.take(most).read_to_end(&mut bytes).map_err(no_archive)?;
        match bytes.len() as u64 == size {
            true => Ok(bytes),
            false => Err(none(&format!("it ends in {name}"))),
        }
    }

    fn file(&mut self, name: &str, file: &File, pieces: &[Range<u64>]) -> Result<(), Error> {
        let mut entry = self.next(name)?;
        let size: u64 = pieces.iter().map(|piece| piece.end - piece.start).sum();
        if entry.size() != size {
            return Err(none(&format!("{name} has not the size of its map")));
        }
        let mut buffer = vec![0; CHUNK];
        for piece in pieces {
            let mut at = piece.start;
            while at < piece.end {
                let bytes = &mut buffer[..(piece.end - at).min(CHUNK as u64) as usize];
                entry.read_exact(bytes).map_err(no_archive)?;
                // A hole takes no space, whatever the map says.
                if bytes.iter().any(|byte| *byte != 0) {
                    file.write_all_at(bytes, at)
                        .map_err(|error| Error::prepare("a snapshot")(error))?;
                }
                at += bytes.len() as u64;
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        match self.0.next() {
            None => Ok(()),
            Some(_) => Err(none("something comes behind it")),
        }
    }
}

/// The pieces of a map: rising, apart, and within the file.
fn pieces(map: &[u8], size: u64) -> Option<Vec<Range<u64>>> {
    let numbers = map.as_chunks::<8>();
    let numbers: Vec<u64> =
        numbers.1.is_empty().then(|| numbers.0.iter().map(|n| u64::from_le_bytes(*n)).collect())?;
    let (pairs, odd) = numbers.as_chunks::<2>();
    let rise = numbers.windows(2).all(|pair| pair[0] < pair[1]);
    let within = numbers.last().is_none_or(|last| *last <= size);
    let pieces = pairs.iter().map(|[from, to]| *from..*to).collect();
    (odd.is_empty() && rise && within).then_some(pieces)
}

fn check_names(files: &BTreeMap<String, Content>, others: &[&str]) -> Result<(), Error> {
    for (name, Content { bytes, .. }) in files {
        let number = |prefix| name.strip_prefix(prefix).and_then(canonical);
        let known = ["base", "state", SKETCH].contains(&&**name)
            || others.contains(&&**name)
            || number("pages.").is_some_and(|number| number < MAX_DELTAS)
            || number("disk.").is_some_and(|number| number <= MAX_LAYERS);
        if !known || *bytes > LARGEST {
            return Err(none("its manifest names what no snapshot has"));
        }
    }
    let missing = others.iter().find(|name| !files.contains_key(**name));
    missing.map_or(Ok(()), |name| Err(none(&format!("it has no {name}"))))
}

/// A number as it is written in names.
fn canonical(text: &str) -> Option<usize> {
    text.parse::<usize>().ok().filter(|number| number.to_string() == text)
}

/// The layers are a raw disk with overlays that name no other file.
fn check_disks(paths: &Paths, manifest: &Manifest) -> Result<(), Error> {
    let of_disk = manifest.files.keys().filter(|name| name.starts_with("disk."));
    if of_disk.count() != paths.disk_names().len() || paths.disk_names().is_empty() {
        return Err(none("layers of its disk are missing"));
    }
    for (number, name) in paths.disk_names().iter().enumerate() {
        let path = paths.named(name);
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        let right = match number {
            0 => manifest.files[name].bytes == BOX_DISK_BYTES,
            _ => is_plain_overlay(&file).map_err(Error::io("read", &path))?,
        };
        if !right {
            return Err(none(&format!("its {name} is no layer of a box's disk")));
        }
    }
    Ok(())
}

fn check_memory(paths: &Paths, manifest: &Manifest) -> Result<Shape, Error> {
    let sketch: Sketch = read_json(&paths.named(SKETCH))?;
    let of_memory = manifest.files.keys().filter(|name| name.starts_with("pages.")).count();
    let whole = (0..sketch.deltas.min(MAX_DELTAS)).all(|n| paths.delta(n).exists());
    let base = manifest.files.get("base");
    let right = of_memory == sketch.deltas
        && whole
        && manifest.files.contains_key("state")
        && base == Some(&sketch.base)
        && sketch.base.bytes == sketch.binding.shape.memory_bytes();
    match right {
        true => Ok(sketch.binding.shape),
        false => Err(none("parts of its memory are missing")),
    }
}

fn none(reason: &str) -> Error {
    // What comes from elsewhere is neither endless nor controls a terminal.
    let reason = reason.chars().take(200).filter(|c| !c.is_control()).collect();
    Error::NoArchive { reason }
}

fn no_archive(error: io::Error) -> Error {
    none(&error.to_string())
}

fn unfit(dir: &Path, reason: String) -> Error {
    Error::Unfit { path: dir.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(numbers: &[u64]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    #[test]
    fn s1_a_map_rises_and_stays_within_its_file() {
        assert_eq!(pieces(&[], 0), Some(vec![]));
        assert_eq!(pieces(&map(&[0, 4, 6, 10]), 10), Some(vec![0..4, 6..10]));
        for bad in [&[0, 4, 6][..], &[4, 4], &[5, 4], &[0, 5, 4, 6], &[0, 11], &[0, u64::MAX]] {
            assert_eq!(pieces(&map(bad), 10), None, "{bad:?}");
        }
        assert_eq!(pieces(&[0; 15], 10), None);
    }

    #[test]
    fn s1_only_the_names_of_a_snapshot_are_taken() {
        let check = |name: &str, bytes: u64| {
            let content = Content { bytes, sha256: String::new() };
            check_names(&BTreeMap::from([(name.to_owned(), content)]), &[])
        };
        for good in ["base", "state", "sketch.json", "pages.0", "pages.63", "disk.64"] {
            assert!(check(good, 1).is_ok(), "{good}");
        }
        for bad in
            ["", "ram", "verified", "../x", "/x", "pages.64", "pages.00", "pages.+1", "disk.65"]
        {
            assert!(check(bad, 1).is_err(), "{bad}");
        }
        assert!(check("base", LARGEST + 1).is_err());
        assert!(check_names(&BTreeMap::new(), &["more.json"]).is_err());
    }
}
