//! Templates for one image: made from the one of the shape, checked, used, and let go.

use std::os::unix::fs::FileExt;
use std::time::Duration;

use boxwood_types::chain;

use super::super::tests::flip;
use super::*;
use crate::confine::QemuUser;
use crate::guinea::{self, Guinea, counter};
use crate::{BOX_DISK_BYTES, IMAGE_DISK_BYTES};

fn image() -> File {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(IMAGE_DISK_BYTES).unwrap();
    image.reopen().and_then(|_| File::open(image.path())).unwrap()
}

/// Something that can be found again, at the beginning of an otherwise empty disk.
fn make_disk(file: &File) -> std::io::Result<()> {
    file.set_len(BOX_DISK_BYTES)?;
    file.write_all_at(b"a disk", 4096)
}

/// Makes a template for the image with this digest. "Mounting" lasts until the guest has counted on.
async fn keep(guinea: &Guinea, block_digest: &str) -> (Result<Template, Error>, Vec<Progress>) {
    let (base, _) = guinea.ensure().await;
    let image = image();
    let request = MountRequest {
        mark: [0; 16],
        image: &image,
        image_id: "some-image",
        block_digest,
        make_disk: &make_disk,
        user: QemuUser::own(7),
        within: Duration::from_secs(30),
    };
    let frozen_at = counter(base.ram());
    let store = guinea.dir.path().join("templates");
    let mount = async |_: &mut UnixStream| guinea::counting(&store, frozen_at + 3).await;
    let mut said = Vec::new();
    let mut say = |progress| said.push(progress);
    let kept = guinea.templates.ensure_mounted(&base, &request, mount, &mut say).await;
    (kept, said)
}

async fn kept(guinea: &Guinea, block_digest: &str) -> (Template, Vec<Progress>) {
    let (kept, said) = keep(guinea, block_digest).await;
    (kept.unwrap_or_else(|error| panic!("{}", chain(&error))), said)
}

#[tokio::test]
async fn a_template_for_an_image_goes_on_where_the_other_was_frozen_and_leaves_it_as_it_is() {
    let guinea = Guinea::new();
    let (base, _) = guinea.ensure().await;
    let frozen_at = counter(base.ram());
    let (one, said) = kept(&guinea, "sha256:1").await;
    assert!(said.is_empty(), "{said:?}");
    assert!(counter(one.ram()) >= frozen_at + 3);
    assert_eq!(counter(base.ram()), frozen_at);
    assert_eq!((base.manifest().image(), one.manifest().image()), (None, Some("some-image")));
    let again = kept(&guinea, "sha256:1").await.0;
    assert_eq!(again.manifest(), one.manifest(), "it is made once");
    let other = kept(&guinea, "sha256:2").await.0;
    assert_ne!(other.key(), one.key());
    let disk = one.into_disk().unwrap();
    let mut text = [0; 6];
    disk.read_exact_at(&mut text, 4096).unwrap();
    assert_eq!((&text, disk.metadata().unwrap().len()), (b"a disk", BOX_DISK_BYTES));
    assert!(base.into_disk().is_err());
}

#[tokio::test]
async fn s1_a_flipped_byte_of_its_disk_is_found_and_it_is_made_again() {
    let guinea = Guinea::new();
    let (one, _) = kept(&guinea, "sha256:1").await;
    flip(&guinea.dir.path().join("templates").join(one.key()).join("disk"), 4100);
    let refused = guinea.templates.get(&one.key()).await.unwrap_err().to_string();
    assert!(refused.ends_with("its disk is damaged"), "{refused}");
    let (_, said) = kept(&guinea, "sha256:1").await;
    assert!(matches!(&said[..], [Progress::Rebaking { .. }]), "{said:?}");
    guinea.templates.get(&one.key()).await.unwrap();
}

#[tokio::test]
async fn the_ones_that_were_not_used_for_the_longest_time_go_first() {
    let guinea = Guinea::new();
    let mut keys = Vec::new();
    for number in 0..KEPT {
        keys.push(kept(&guinea, &number.to_string()).await.0.key());
    }
    // The first is used again, so the second is the one.
    kept(&guinea, "0").await;
    kept(&guinea, "one more").await;
    let left: Vec<String> = guinea.templates.list().unwrap().into_iter().map(|i| i.key).collect();
    assert_eq!(left.len(), KEPT + 1, "and the one they were made from");
    assert!(left.contains(&keys[0]) && !left.contains(&keys[1]));
}

#[tokio::test]
async fn a_guest_that_can_not_mount_is_quoted_and_nothing_is_left() {
    let guinea = Guinea::new();
    let (base, _) = guinea.ensure().await;
    let image = image();
    let request = MountRequest {
        mark: [0; 16],
        image: &image,
        image_id: "some-image",
        block_digest: "sha256:1",
        make_disk: &make_disk,
        user: QemuUser::own(7),
        within: Duration::from_secs(30),
    };
    let mount = async |_: &mut UnixStream| -> Result<(), IdleError> { Err("no erofs".into()) };
    let failed = guinea.templates.ensure_mounted(&base, &request, mount, &mut |_| ()).await;
    let text = chain(&failed.unwrap_err());
    assert!(text.starts_with("can't mount image some-image ahead of its boxes"), "{text}");
    assert!(text.ends_with("the guest did not become idle: no erofs"), "{text}");
    let names = fs::read_dir(guinea.dir.path().join("templates")).unwrap();
    let new =
        names.filter(|name| name.as_ref().unwrap().path().extension() == Some("new".as_ref()));
    assert_eq!(new.count(), 0);
}
