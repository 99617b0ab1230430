//! Logs with real files.

use super::*;
use crate::segments::Segments;
use std::path::PathBuf;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    (directory, path)
}

fn all(reader: &mut Reader) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| reader.next_entry().unwrap()).map(|entry| entry.bytes).collect()
}

#[test]
fn h11_what_was_written_is_read_and_a_torn_end_is_the_end() {
    let (_directory, path) = folder();
    assert!(all(&mut Reader::open(&path).unwrap()).is_empty());
    let mut writer = Writer::open(&path, LogPolicy::default()).unwrap();
    writer.append(Moment(1), Stream::Stdout, b"out\0\xff").unwrap();
    writer.append(Moment(2), Stream::Stderr, b"err").unwrap();
    let file = Segments::of(&path).path(1);
    let whole = std::fs::read(&file).unwrap();
    for cut in 0..=whole.len() {
        std::fs::write(&file, &whole[..cut]).unwrap();
        let mut reader = Reader::open(&path).unwrap();
        let expected = usize::from(cut >= 18) + usize::from(cut == whole.len());
        assert_eq!(all(&mut reader).len(), expected, "{cut}");
        // Who writes next is read next, also by who was there before.
        let mut writer = Writer::open(&path, LogPolicy::default()).unwrap();
        writer.append(Moment(3), Stream::Stdout, b"more").unwrap();
        assert_eq!(all(&mut reader), [b"more"], "{cut}");
    }
    std::fs::write(&file, [9; 40]).unwrap();
    assert!(Reader::open(&path).unwrap().next_entry().is_err());
}

#[test]
fn h11_a_follower_loses_nothing_across_rotations_and_the_log_is_bounded() {
    let (_directory, path) = folder();
    let policy = LogPolicy { max_size: 1000, max_files: 3 };
    let mut writer = Writer::open(&path, policy).unwrap();
    let mut follower = Reader::open(&path).unwrap();
    let mut heard = Vec::new();
    for n in 0..500u32 {
        writer.append(Moment(u64::from(n)), Stream::Stdout, &n.to_le_bytes()).unwrap();
        if n % 40 == 0 {
            heard.extend(all(&mut follower));
        }
    }
    heard.extend(all(&mut follower));
    assert_eq!(heard, (0..500).map(|n: u32| n.to_le_bytes().to_vec()).collect::<Vec<_>>());
    let pieces = std::fs::read_dir(&path).unwrap().count();
    assert_eq!(pieces, 3);
    let kept = all(&mut Reader::open(&path).unwrap());
    assert!(kept.len() > 100 && kept.last() == heard.last());
}

#[test]
fn h11_a_follower_from_before_the_first_output_misses_no_piece_that_filled_unseen() {
    let (_directory, path) = folder();
    let mut follower = Reader::open(&path).unwrap();
    let policy = LogPolicy { max_size: 1000, max_files: 3 };
    let mut writer = Writer::open(&path, policy).unwrap();
    for n in 0..60u32 {
        writer.append(Moment(1), Stream::Stdout, &n.to_le_bytes()).unwrap();
    }
    assert!(Segments::of(&path).newest().unwrap() > 1);
    assert_eq!(
        all(&mut follower).concat(),
        (0..60u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()
    );
}

#[test]
fn h11_large_pieces_come_whole() {
    let (_directory, path) = folder();
    let mut writer = Writer::open(&path, LogPolicy::default()).unwrap();
    let large = vec![7; 3 << 20];
    writer.append(Moment(1), Stream::Stderr, &large).unwrap();
    writer.append(Moment(1), Stream::Stdout, b"end").unwrap();
    let read = all(&mut Reader::open(&path).unwrap());
    assert_eq!(read.len(), 4);
    assert!(read[..3].concat() == large && read[3] == b"end");
}

#[test]
fn lines_of_two_streams_are_counted_apart() {
    let entry = |stream, bytes: &[u8]| Entry { time: Moment(0), stream, bytes: bytes.to_vec() };
    let entries = [
        entry(Stream::Stdout, b"one\ntw"),
        entry(Stream::Stderr, b"three\n"),
        entry(Stream::Stdout, b"o\nfour"),
    ];
    let cut = |skipped| {
        let mut lines = Lines::default();
        let kept = entries.iter().map(|entry| lines.cut(entry, skipped)).collect::<Vec<_>>();
        (lines.begun(), String::from_utf8(kept.concat()).unwrap())
    };
    assert_eq!(cut(0), (4, "one\ntwthree\no\nfour".to_owned()));
    assert_eq!(cut(1), (4, "twthree\no\nfour".to_owned()));
    assert_eq!(cut(2), (4, "three\nfour".to_owned()));
    assert_eq!(cut(4).1, "");
}
