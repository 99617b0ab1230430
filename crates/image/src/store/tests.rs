//! The limits of one image, lowered so that they are reached soon.

use std::io::{Cursor, Write};

use super::{ImageStore, Removal, Source};
use crate::config::ImageConfig;
use crate::error::ImageError;
use crate::import::Import;
use crate::limits::Limits;

fn import(limits: Limits, tar: Vec<u8>) -> Result<(), ImageError> {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(&dir.path().join("store")).unwrap().with_limits(limits);
    let source = Source::Stream(Box::new(Cursor::new(tar)));
    let result =
        store.import(Import { source, name: None, config: ImageConfig::default() }, &mut |_| {});
    assert_eq!(store.list().unwrap().len(), usize::from(result.is_ok()));
    assert_eq!(std::fs::read_dir(store.temp_dir()).unwrap().count(), 0);
    result.map(drop)
}

fn small() -> Limits {
    Limits { disk: 4 << 20, ..Limits::default() }
}

fn tar_of(files: usize, size: u64) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for at in 0..files {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        let content = std::io::repeat(7);
        tar.append_data(&mut header, format!("{at}"), std::io::Read::take(content, size)).unwrap();
    }
    tar.into_inner().unwrap()
}

#[test]
fn h13_an_image_larger_than_its_disk_is_refused() {
    import(small(), tar_of(3, 1 << 20)).unwrap();
    let error = import(small(), tar_of(4, 1 << 20)).unwrap_err();
    assert!(matches!(error, ImageError::Layer { .. } | ImageError::LayerTooBig { .. }), "{error}");
    // The content fits and the metadata does not.
    let error = import(small(), tar_of(1, (4 << 20) - 4096 - 2048)).unwrap_err();
    assert!(matches!(error, ImageError::Write(_)), "{error}");
}

#[test]
fn h13_a_bomb_is_refused_when_its_budget_is_used_up() {
    let zeros = vec![0; 1 << 20];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let mut zstd = zstd::Encoder::new(Vec::new(), 3).unwrap();
    // Zeros behind the end of the archive: no entry, only bytes.
    for writer in [&mut gzip as &mut dyn Write, &mut zstd] {
        for _ in 0..64 {
            writer.write_all(&zeros).unwrap();
        }
    }
    for bomb in [gzip.finish().unwrap(), zstd.finish().unwrap()] {
        assert!(bomb.len() < 200_000);
        let error = import(small(), bomb).unwrap_err();
        assert!(matches!(error, ImageError::LayerTooBig { limit, .. } if limit == 4 << 20));
    }
}

#[test]
fn h13_entries_that_stand_for_nothing_are_counted() {
    let mut tar = tar::Builder::new(Vec::new());
    for _ in 0..21 {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_entry_type(tar::EntryType::Directory);
        tar.append_data(&mut header, "same", std::io::empty()).unwrap();
    }
    let tar = tar.into_inner().unwrap();
    import(Limits { entries: 11, ..small() }, tar.clone()).unwrap();
    let error = import(Limits { entries: 10, ..small() }, tar).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "it has more than 20 entries");
}

#[test]
fn a_stream_above_its_limit_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path()).unwrap();
    let spool = super::source::Spool { input: "x", limit: 10 };
    assert!(store.spool(&mut &b"0123456789"[..], spool, &mut |_| {}).is_ok());
    let error = store.spool(&mut &b"0123456789a"[..], spool, &mut |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "x has more than 10 bytes uncompressed");
}

#[test]
fn h1_what_a_killed_writer_left_goes_at_the_next_look() {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path()).unwrap();
    let alive = store.temp().unwrap();
    let left = store.temp_dir().join("left");
    let nothing = || Source::Stream(Box::new(std::io::empty()));
    let looks: [&dyn Fn(); 3] = [
        &|| drop(store.list().unwrap()),
        &|| drop(store.load(nothing(), &mut |_| {}).unwrap_err()),
        &|| drop(store.remove("none", Removal::Forced(&|_| None)).unwrap_err()),
    ];
    for look in looks {
        std::fs::write(&left, "half an image").unwrap();
        look();
        assert!(!left.exists());
    }
    assert!(alive.path().exists(), "its writer lives");
}
