//! Templates that are baked, damaged, waited for and removed, with a real QEMU.

use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

use super::*;
use crate::guinea::Guinea;
use boxwood_types::chain;

#[tokio::test]
async fn a_template_is_baked_once_and_found_from_then_on() {
    let guinea = Guinea::new();
    assert!(guinea.templates.find(&guinea.request()).await.unwrap().is_none());
    let (template, said) = guinea.ensure().await;
    assert!(matches!(said[..], [Progress::Baking, Progress::Baked { .. }]), "{said:?}");
    let (again, said) = guinea.ensure().await;
    assert_eq!((again.key(), said), (template.key(), vec![]));
    let found = guinea.templates.find(&guinea.request()).await.unwrap().unwrap();
    assert_eq!(found.manifest(), template.manifest());
    assert_eq!(guinea.templates.get(&template.key()).await.unwrap().key(), template.key());
    let list = guinea.templates.list().unwrap();
    assert_eq!(list.len(), 1);
    assert!(list[0].verified && list[0].disk_bytes > 0);
    // The guest uses some KiB of its 64 MiB.
    assert!(list[0].disk_bytes < 4 << 20, "{}", list[0].disk_bytes);
    assert!(!guinea.dir.path().join("templates").join(format!("{}.new", template.key())).exists());
}

#[tokio::test]
async fn s1_another_shape_or_kernel_is_another_template() {
    let guinea = Guinea::new();
    let key = |change: fn(&mut BakeRequest<'_>)| {
        let mut request = guinea.request();
        change(&mut request);
        Binding::of(&request).unwrap().key()
    };
    let mut boot = guinea.boot.clone();
    boot.initramfs_sha256 = "0".repeat(64);
    let keys = [
        key(|_| ()),
        key(|request| request.shape = Shape::default()),
        key(|request| request.accelerator = Accelerator::Kvm),
        Binding::of(&BakeRequest { boot: &boot, ..guinea.request() }).unwrap().key(),
    ];
    let different: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!(different.len(), keys.len());
}

/// Changes one byte of a file.
pub(super) fn flip(path: &Path, at: u64) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[tokio::test]
async fn s1_a_flipped_byte_is_found_before_use_and_the_template_is_baked_again() {
    let guinea = Guinea::new();
    let (template, _) = guinea.ensure().await;
    for (name, at) in [("ram", crate::guinea::COUNTER_AT), ("state", 1000), ("manifest.json", 5)] {
        flip(&guinea.template_dir().join(name), at);
        let key = template.key();
        let refused = guinea.templates.get(&key).await.unwrap_err().to_string();
        assert!(refused.starts_with(&format!("template {key} can't be used: its ")), "{refused}");
        assert!(refused.contains(name.trim_end_matches(".json")), "{refused}");
        let (_, said) = guinea.ensure().await;
        assert!(
            matches!(&said[..], [Progress::Rebaking { reason }, Progress::Baked { .. }]
                if refused.ends_with(reason)),
            "{said:?}"
        );
    }
}

#[tokio::test]
async fn s1_a_missing_or_short_file_is_found_too() {
    let guinea = Guinea::new();
    let (template, _) = guinea.ensure().await;
    let ram = guinea.template_dir().join("ram");
    fs::set_permissions(&ram, fs::Permissions::from_mode(0o644)).unwrap();
    File::options().write(true).open(&ram).unwrap().set_len(4096).unwrap();
    let refused = guinea.templates.get(&template.key()).await.unwrap_err().to_string();
    assert!(refused.ends_with("its ram has 4096 bytes, not 67108864"), "{refused}");
    fs::remove_file(&ram).unwrap();
    let refused = guinea.templates.get(&template.key()).await.unwrap_err().to_string();
    assert!(refused.contains("can't open"), "{refused}");
}

#[tokio::test]
async fn s1_the_manifest_of_another_template_is_refused() {
    let guinea = Guinea::new();
    let (template, _) = guinea.ensure().await;
    let dir = guinea.template_dir();
    let other = "0123456789abcdef0123456789abcdef";
    fs::rename(&dir, dir.with_file_name(other)).unwrap();
    let refused = guinea.templates.get(other).await.unwrap_err().to_string();
    assert!(refused.ends_with("its manifest is another template's"), "{refused}");
    let gone = guinea.templates.get(&template.key()).await.unwrap_err();
    assert!(matches!(gone, Error::NoTemplate { .. }), "{gone}");
}

#[tokio::test]
async fn two_that_want_the_same_template_bake_it_once() {
    let guinea = Guinea::new();
    let ((_, one), (_, two)) = tokio::join!(guinea.ensure(), guinea.ensure());
    let baked = |said: &[Progress]| said.iter().any(|p| matches!(p, Progress::Baked { .. }));
    assert_eq!([&one, &two].iter().filter(|said| baked(said)).count(), 1, "{one:?} {two:?}");
    let waited = if baked(&one) { two } else { one };
    assert_eq!(waited, [Progress::Waiting]);
}

#[tokio::test]
async fn what_a_killed_baker_left_is_removed_by_the_next() {
    let guinea = Guinea::new();
    let key = Binding::of(&guinea.request()).unwrap().key().to_string();
    let left = guinea.dir.path().join("templates").join(format!("{key}.new"));
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("ram"), "half").unwrap();
    assert_eq!(guinea.templates.list().unwrap().len(), 0);
    let (_, said) = guinea.ensure().await;
    assert_eq!(said[0], Progress::Baking);
    assert!(!left.exists());
}

#[tokio::test]
async fn h1_what_bakers_of_other_templates_left_is_swept_unless_they_are_alive() {
    let guinea = Guinea::new();
    let store = guinea.dir.path().join("templates");
    let [dead, alive] = ["0", "1"].map(|digit| digit.repeat(32));
    for key in [&dead, &alive] {
        fs::create_dir_all(store.join(format!("{key}.new"))).unwrap();
    }
    let lock = lock::take_if_free(&store.join(format!("{alive}.lock"))).unwrap().unwrap();
    guinea.ensure().await;
    assert!(!store.join(format!("{dead}.new")).exists());
    assert!(store.join(format!("{alive}.new")).exists());
    drop(lock);
    guinea.templates.sweep().unwrap();
    assert!(!store.join(format!("{alive}.new")).exists());
    assert_eq!(guinea.templates.list().unwrap().len(), 1);
}

#[tokio::test]
async fn h4_a_guest_that_dies_ends_the_bake_at_once_and_nothing_is_left() {
    let guinea = Guinea::with_limit(3);
    let start = std::time::Instant::now();
    let forever =
        async |_: &mut UnixStream| -> Result<(), IdleError> { std::future::pending().await };
    let failed = guinea.templates.ensure(&guinea.request(), forever, &mut |_| ()).await;
    let text = chain(&failed.unwrap_err());
    assert!(
        text.starts_with(
            "can't bake a template of 1cpu-64mib with tcg; last lines of its console: "
        ),
        "{text}"
    );
    assert!(text.contains("ended while it was to boot its guest: it shut down"), "{text}");
    assert!(text.contains("bcd"), "{text}");
    assert!(start.elapsed() < Duration::from_secs(20));
    let left = fs::read_dir(guinea.dir.path().join("templates")).unwrap().count();
    assert_eq!(left, 2, "the locks and nothing else");
}

#[tokio::test]
async fn h4_a_guest_that_is_wedged_is_given_up_at_the_cap() {
    let guinea = Guinea::new();
    let request = BakeRequest { within: Duration::from_millis(700), ..guinea.request() };
    let forever =
        async |_: &mut UnixStream| -> Result<(), IdleError> { std::future::pending().await };
    let failed = guinea.templates.ensure(&request, forever, &mut |_| ()).await.unwrap_err();
    let text = chain(&failed);
    assert!(text.contains("did not boot its guest within 0.7 s"), "{text}");
}

#[tokio::test]
async fn h13_qemu_is_quoted_when_it_refuses_to_start() {
    let guinea = Guinea::new();
    let mut boot = guinea.boot.clone();
    boot.vmlinux = boot.initramfs.clone();
    boot.vmlinux_sha256 = boot.initramfs_sha256.clone();
    let request = BakeRequest { boot: &boot, ..guinea.request() };
    let idle = async |_: &mut UnixStream| -> Result<(), IdleError> { Ok(()) };
    let failed = guinea.templates.ensure(&request, idle, &mut |_| ()).await.unwrap_err();
    let text = chain(&failed);
    assert!(text.contains("exit code 1 (qemu"), "{text}");
    assert!(text.contains("kernel"), "{text}");
}

#[tokio::test]
async fn a_kernel_that_is_not_what_it_was_said_to_be_is_not_booted() {
    let guinea = Guinea::new();
    flip(&guinea.boot.vmlinux, 0x1001);
    let idle = async |_: &mut UnixStream| -> Result<(), IdleError> { Ok(()) };
    let failed = guinea.templates.ensure(&guinea.request(), idle, &mut |_| ()).await.unwrap_err();
    let text = chain(&failed);
    assert!(text.ends_with("changed after it was set up: run 'boxwood setup' again"), "{text}");
}

#[tokio::test]
async fn a_guest_that_says_why_it_is_not_idle_is_quoted() {
    let guinea = Guinea::new();
    let idle =
        async |_: &mut UnixStream| -> Result<(), IdleError> { Err("can't mount /proc".into()) };
    let failed = guinea.templates.ensure(&guinea.request(), idle, &mut |_| ()).await.unwrap_err();
    let text = chain(&failed);
    assert!(text.ends_with("the guest did not become idle: can't mount /proc"), "{text}");
}

#[tokio::test]
async fn a_removed_template_is_gone_and_who_has_it_open_can_restore_it() {
    let guinea = Guinea::new();
    let (template, _) = guinea.ensure().await;
    guinea.templates.remove(&template.key()).await.unwrap();
    assert_eq!(guinea.templates.list().unwrap().len(), 0);
    let again = guinea.templates.remove(&template.key()).await.unwrap_err();
    assert!(matches!(again, Error::NoTemplate { .. }), "{again}");
    let (request, _console) = crate::guinea::request();
    crate::restore(&template, request).await.unwrap();
}

#[tokio::test]
async fn s1_a_template_with_a_damaged_manifest_is_listed_as_such_and_can_be_removed() {
    let guinea = Guinea::new();
    let store = guinea.dir.path().join("templates");
    let [damaged, empty] = ["0", "1"].map(|digit| digit.repeat(32));
    for key in [&damaged, &empty] {
        fs::create_dir_all(store.join(key)).unwrap();
    }
    fs::write(store.join(&damaged).join("manifest.json"), "{").unwrap();
    let list = guinea.templates.list().unwrap();
    let keys: Vec<&String> = list.iter().map(|info| &info.key).collect();
    assert_eq!(keys, [&damaged, &empty]);
    for info in &list {
        assert!(info.manifest.as_ref().is_err_and(|why| why.starts_with("its manifest: ")));
        assert!(!info.verified);
        guinea.templates.remove(&info.key).await.unwrap();
    }
    assert!(guinea.templates.list().unwrap().is_empty());
}

#[tokio::test]
async fn a_key_never_names_a_file_elsewhere() {
    let guinea = Guinea::new();
    let outside = guinea.dir.path().join("outside");
    fs::create_dir_all(&outside).unwrap();
    // Nothing but what this test has made: it runs as root, and one day without the check.
    for key in ["../outside", outside.to_str().unwrap(), "outside"] {
        let error = guinea.templates.remove(key).await.unwrap_err();
        assert!(matches!(error, Error::NoTemplate { .. }), "{key}: {error}");
        let error = guinea.templates.get(key).await.unwrap_err();
        assert!(matches!(error, Error::NoTemplate { .. }), "{key}: {error}");
    }
    assert!(outside.exists());
}

#[tokio::test]
async fn a_template_that_all_may_read_is_sealed_against_writing_by_its_mode() {
    let guinea = Guinea::new();
    guinea.ensure().await;
    for name in ["ram", "state", "manifest.json"] {
        let meta = fs::metadata(guinea.template_dir().join(name)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o444, "{name}");
        assert_eq!(meta.nlink(), 1);
    }
}
