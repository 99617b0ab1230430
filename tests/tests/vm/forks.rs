//! Contract S3: forks, and what boxes and snapshots share: whoever goes, the others keep what they have,
//! and with the last one the space is free.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use boxwood_tests::{Lab, Running, StoreKind};

const DATA: &str = "echo 3 > /proc/sys/vm/drop_caches; \
    cat /dev/shm/data | sha256sum; cat /data | sha256sum";

/// A box with noise in memory and on its disk, and the digests of both.
fn source(lab: &Lab, name: &str) -> Vec<String> {
    let script = "head -c 2097152 /dev/urandom > /dev/shm/data; \
        head -c 3145728 /dev/urandom > /data; sync; echo ready; sleep 100000";
    lab.detached(name, ["busybox", "sh", "-c", script]);
    lab.logged(name, "ready\n");
    data(lab, name)
}

#[track_caller]
fn data(lab: &Lab, name: &str) -> Vec<String> {
    let digests = lab.exec([name, "sh", "-c", DATA]).output().exits(0).quietly().lines();
    assert_eq!(digests.len(), 2);
    digests
}

/// The bytes that all files below a folder take, those with several names once.
fn taken(folder: &Path) -> u64 {
    let mut seen = BTreeMap::new();
    walk(folder, &mut seen);
    seen.values().sum()
}

fn walk(folder: &Path, seen: &mut BTreeMap<u64, u64>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            walk(&entry.path(), seen);
        } else {
            seen.insert(meta.ino(), meta.blocks() * 512);
        }
    }
}

#[test]
fn s3_forks_differ_in_what_must_be_unique_and_share_everything_else() {
    let lab = Lab::new();
    let expected = source(&lab, "web");
    let forked = lab.boxwood(["fork", "-n", "3", "--name", "try", "-l", "kind=child", "web"]);
    let ids = forked.output().exits(0).quietly().lines();
    let all = ["web", "try-1", "try-2", "try-3"];
    // All at once, ten commands each, and the source, too.
    let asked: Vec<Running> = all
        .iter()
        .flat_map(|name| (0..10).map(|_| lab.exec([name, "hostname"]).spawn()).collect::<Vec<_>>())
        .collect();
    let names: BTreeSet<String> =
        asked.into_iter().map(|running| running.wait().exits(0).word()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    for (name, id) in all[1..].iter().zip(&ids) {
        assert_eq!(data(&lab, name), expected);
        let told = lab.inspect(name, "{{.Id}} {{.Config.Labels.kind}} {{.State.Status}}");
        assert_eq!(told, format!("{id} child running"));
        let own = lab.exec([name, "sh", "-c", "echo $HOSTNAME $(hostname)"]).output().word();
        assert_eq!(own, format!("{0} {0}", &id[..12]));
    }
    // What one writes the others don't see.
    lab.exec(["try-1", "sh", "-c", "echo own > /data; echo own > /dev/shm/data"]).output().exits(0);
    for name in ["web", "try-2", "try-3"] {
        assert_eq!(data(&lab, name), expected);
    }
    assert_eq!(lab.boxwood(["snapshot", "ls", "-q"]).output().exits(0).text(), "");
    for name in all {
        lab.remove(name);
    }
}

#[test]
fn s3_forks_of_forks_keep_their_data() {
    let lab = Lab::new();
    let expected = source(&lab, "gen-0");
    for number in 1..=4 {
        let (parent, child) = (format!("gen-{}", number - 1), format!("gen-{number}"));
        lab.boxwood(["fork", "--name", &child, &parent]).output().exits(0).quietly();
        if number > 1 {
            // The generation before is gone before the next is made.
            lab.remove(&format!("gen-{}", number - 2));
        }
        assert_eq!(data(&lab, &child), expected, "{child}");
    }
    lab.remove("gen-3");
    assert_eq!(data(&lab, "gen-4"), expected);
    lab.remove("gen-4");
}

#[test]
fn s3_whoever_goes_first_harms_nobody_and_with_the_last_the_space_is_free() {
    let lab = Lab::new();
    let empty = taken(lab.home());
    let orders = [
        ["web", "warm", "clone", "sister"],
        ["warm", "web", "sister", "clone"],
        ["clone", "web", "warm", "sister"],
        ["sister", "clone", "warm", "web"],
        ["web", "clone", "sister", "warm"],
    ];
    for order in orders {
        let expected = source(&lab, "web");
        lab.snapshot("web", "warm");
        lab.restored("warm", "clone");
        lab.boxwood(["fork", "--name", "sister", "clone"]).output().exits(0);
        let mut left: Vec<&str> = order.to_vec();
        while !left.is_empty() {
            let gone = left.remove(0);
            let before = taken(lab.home());
            match gone {
                "warm" => lab.forget("warm"),
                name => lab.remove(name),
            }
            assert!(taken(lab.home()) <= before);
            for name in left.iter().filter(|name| **name != "warm") {
                assert_eq!(data(&lab, name), expected, "{name} without {gone}, of {order:?}");
            }
            if left.contains(&"warm") {
                lab.boxwood(["snapshot", "verify", "warm"]).output().exits(0);
                lab.restored("warm", "late");
                assert_eq!(data(&lab, "late"), expected, "without {gone}, of {order:?}");
                lab.remove("late");
            }
        }
        // Only the journal has grown.
        let left = taken(lab.home()) - empty;
        assert!(left < 256 << 10, "{left} bytes are left after {order:?}");
    }
}

#[test]
fn s3_boxes_run_on_when_the_templates_they_come_from_are_gone() {
    let lab = Lab::with(StoreKind::CopiedTemplates);
    let expected = source(&lab, "web");
    lab.snapshot("web", "warm");
    lab.restored("warm", "clone");
    lab.boxwood(["template", "rm", "--all"]).output().exits(0);
    for name in ["web", "clone"] {
        assert_eq!(data(&lab, name), expected);
    }
    lab.forget("warm");
    assert_eq!(data(&lab, "clone"), expected);
    // They are whole enough to be captured once more.
    lab.snapshot("clone", "again");
    lab.boxwood(["fork", "--name", "child", "web"]).output().exits(0);
    lab.restored("again", "late");
    for name in ["late", "child"] {
        assert_eq!(data(&lab, name), expected);
    }
    for name in ["web", "clone", "late", "child"] {
        lab.remove(name);
    }
    lab.forget("again");
}

#[test]
fn s3_a_fork_that_can_not_be_is_refused_and_changes_nothing() {
    let lab = Lab::new();
    lab.idle("web");
    let fork = |args: &[&str]| lab.boxwood(["fork"]).args(args);
    for bad in ["0", "1001", "-1", "x"] {
        lab.refuses(fork(&["-n", bad, "web"]), &[bad]);
    }
    lab.refuses(fork(&["nobody"]), &["no such box", "nobody"]);
    lab.refuses(fork(&["--name", "a/b", "web"]), &["--name"]);
    lab.refuses(fork(&["-n", "2", "--name", &"x".repeat(127), "web"]), &["name"]);
    lab.refuses(fork(&["-e", "=x", "web"]), &["'=x'"]);
    lab.boxwood(["pause", "web"]).output().exits(0);
    lab.refuses(fork(&["web"]), &["paused"]);
    lab.boxwood(["unpause", "web"]).output().exits(0);
    // One name of several is taken: the others are made, and one line says which is not.
    lab.idle("try-2");
    let forked = fork(&["-n", "3", "--name", "try", "web"]).output().exits(125);
    assert_eq!(forked.lines().len(), 2, "{forked:?}");
    forked.explains(&["try-2"]);
    for name in ["web", "try-1", "try-2", "try-3"] {
        lab.remove(name);
    }
}
