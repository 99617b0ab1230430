//! What a check reads, and when it reads nothing.

use std::os::unix::fs::FileExt;
use std::path::Path;

use super::*;
use crate::guinea::Guinea;

fn file(dir: &Path, name: &str, length: u64, data: &[(u64, u8)]) -> File {
    let path = dir.join(name);
    let file = File::options().create(true).truncate(false).read(true).write(true).open(path);
    let file = file.unwrap();
    file.set_len(length).unwrap();
    for (at, byte) in data {
        file.write_all_at(&[*byte], *at).unwrap();
    }
    file
}

#[test]
fn a_digest_does_not_depend_on_which_zeros_are_holes() {
    let dir = tempfile::tempdir().unwrap();
    let length = 10 * CHUNK + 17;
    let data = [(0, 1), (3 * CHUNK + 5, 2), (length - 1, 3)];
    let sparse = file(dir.path(), "sparse", length, &data);
    let full = file(dir.path(), "full", 0, &[]);
    full.write_all_at(&vec![0; length as usize], 0).unwrap();
    let full = file(dir.path(), "full", length, &data);
    let digest = content(&sparse, Zeros::Leave).unwrap();
    assert_eq!(content(&full, Zeros::Leave).unwrap(), digest);
    let blocks = |file: &File| file.metadata().unwrap().blocks();
    let before = blocks(&full);
    assert_eq!(content(&full, Zeros::Punch).unwrap(), digest);
    assert!(blocks(&full) < before / 2, "{} of {before}", blocks(&full));
    assert_eq!(content(&full, Zeros::Leave).unwrap(), digest);
}

#[test]
fn data_in_another_place_length_or_value_is_another_digest() {
    let dir = tempfile::tempdir().unwrap();
    let variants: [(u64, &[(u64, u8)]); 6] = [
        (4 * CHUNK, &[]),
        (5 * CHUNK, &[]),
        (4 * CHUNK, &[(0, 1)]),
        (4 * CHUNK, &[(0, 2)]),
        (4 * CHUNK, &[(CHUNK, 1)]),
        (4 * CHUNK, &[(1, 1)]),
    ];
    for (n, (length, data)) in variants.iter().enumerate() {
        let one = content(&file(dir.path(), &n.to_string(), *length, data), Zeros::Leave).unwrap();
        for (m, (length, data)) in variants.iter().enumerate().skip(n + 1) {
            let other = file(dir.path(), &m.to_string(), *length, data);
            assert_ne!(one, content(&other, Zeros::Leave).unwrap(), "{n} {m}");
        }
    }
}

#[test]
fn an_empty_file_has_a_digest() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(content(&file(dir.path(), "x", 0, &[]), Zeros::Punch).unwrap().bytes, 0);
}

fn files(guinea: &Guinea) -> Files {
    let dir = guinea.template_dir();
    let key = dir.file_name().unwrap().to_str().unwrap().parse().unwrap();
    Files { dir, key, cache: None }
}

#[tokio::test]
async fn s1_all_is_read_again_after_a_boot_and_whenever_a_file_was_touched() {
    let guinea = Guinea::new();
    let (template, _) = guinea.ensure().await;
    let files = files(&guinea);
    let path = files.dir.join("verified");
    let stamped = |files: &Files| is_stamped(files);
    assert!(stamped(&files));
    let good: Stamp = read_stamp(&path).unwrap();
    // Another boot, another inode, size or time: none of these fits, and a check writes a new one.
    let changes: [fn(&mut Stamp); 5] = [
        |stamp| stamp.boot_id = "another".into(),
        |stamp| stamp.ram.inode += 1,
        |stamp| stamp.state.bytes += 1,
        |stamp| stamp.ram.modified.1 += 1,
        |stamp| stamp.manifest.changed.0 += 1,
    ];
    for change in changes {
        let mut stamp: Stamp = read_stamp(&path).unwrap();
        change(&mut stamp);
        cache::replace(&path, &stamp).unwrap();
        assert!(!stamped(&files));
        assert_eq!(check(&files, &template), Fitness::Fit);
        assert_eq!(read_stamp(&path).unwrap(), good);
    }
}

#[tokio::test]
async fn s1_a_stamp_that_fits_is_enough() {
    let guinea = Guinea::new();
    let (mut template, _) = guinea.ensure().await;
    let files = files(&guinea);
    // A manifest in memory that nothing can satisfy: it is not looked at while the stamp fits.
    template.manifest.ram.sha256.clear();
    assert_eq!(check(&files, &template), Fitness::Fit);
    std::fs::remove_file(files.dir.join("verified")).unwrap();
    assert_eq!(check(&files, &template), Fitness::Unfit("its ram is damaged".into()));
}

#[tokio::test]
async fn a_user_who_may_not_write_there_keeps_stamps_in_a_cache() {
    let guinea = Guinea::new();
    let (template, _) = guinea.ensure().await;
    let cache = guinea.dir.path().join("own");
    let files = Files { cache: Some(cache.clone()), ..files(&guinea) };
    let place = files.dir.join("verified");
    std::fs::remove_file(&place).unwrap();
    // A directory can't be replaced by a file: for root, too.
    std::fs::create_dir(&place).unwrap();
    assert_eq!(check(&files, &template), Fitness::Fit);
    assert!(cache.join(format!("verified-{}", files.key)).exists());
    assert!(is_stamped(&files));
}

#[tokio::test]
async fn a_host_with_another_clock_gets_another_template() {
    let guinea = Guinea::new();
    let (mut template, _) = guinea.ensure().await;
    let files = files(&guinea);
    std::fs::remove_file(files.dir.join("verified")).unwrap();
    let khz = template.manifest.tsc_khz;
    template.manifest.tsc_khz = khz + khz * 2 * CLOCK_PPM / 1_000_000;
    let Fitness::Unfit(reason) = check(&files, &template) else { panic!("it is fit") };
    assert!(reason.starts_with("the host's clock runs at"), "{reason}");
    template.manifest.tsc_khz = khz + khz * CLOCK_PPM / 2_000_000;
    assert_eq!(check(&files, &template), Fitness::Fit);
}

#[tokio::test]
async fn s1_an_engine_that_was_replaced_makes_its_templates_void() {
    let guinea = Guinea::new();
    let (mut template, _) = guinea.ensure().await;
    let program = guinea.dir.path().join("qemu");
    std::fs::write(&program, "one build").unwrap();
    template.manifest.binding.engine = crate::Engine::for_tests(&program);
    assert_eq!(check(&files(&guinea), &template), Fitness::Fit);
    std::fs::write(&program, "another build").unwrap();
    let Fitness::Unfit(reason) = check(&files(&guinea), &template) else { panic!("it is fit") };
    assert_eq!(reason, format!("it was made with another {}", program.display()));
}
