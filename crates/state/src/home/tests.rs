//! Homes with real files and real locks.

use std::collections::BTreeMap;

use super::*;
use crate::clock::Moment;
use crate::*;
use boxwood_types::{Digest, Shape, Signal};

fn spec(seed: u8, name: &str) -> BoxSpec {
    BoxSpec {
        id: BoxId::from_random([seed; 32]),
        name: name.parse().unwrap(),
        created: Moment::now(),
        image: ImageRef {
            id: Digest::from_bytes(&[1; 32]),
            name: "busybox".into(),
            block: "/nowhere".into(),
        },
        template: TemplateRef {
            store: "/nowhere".into(),
            cache: "/nowhere".into(),
            key: "k".into(),
            disk: None,
        },
        again: None,
        snapshot: None,
        shape: Shape::default(),
        hostname: "h".into(),
        process: ProcessSpec {
            argv: vec!["true".into()],
            entrypoint_len: 0,
            env: vec![],
            cwd: "/".into(),
            user: "".into(),
            open_stdin: false,
            terminal: None,
        },
        stop: StopPolicy { signal: Signal::TERM, grace_ms: 10_000 },
        labels: BTreeMap::new(),
        after_exit: AfterExit::Keep,
        restart: Default::default(),
        health: None,
        log: Default::default(),
        client: Client::Detached,
    }
}

fn home() -> (tempfile::TempDir, Home) {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(&directory.path().join("home")).unwrap();
    (directory, home)
}

#[test]
fn a_box_is_found_by_name_id_and_beginning_of_its_id() {
    let (_directory, home) = home();
    let (_dir, _lock) = home.create(&spec(0xab, "one")).unwrap().into_parts().unwrap();
    let (_dir, _lock) = home.create(&spec(0xac, "two")).unwrap().into_parts().unwrap();
    for text in ["one", "ab", &"ab".repeat(32)] {
        assert_eq!(home.find(text).unwrap().spec().unwrap().name.as_str(), "one", "{text}");
    }
    assert!(matches!(home.find("a"), Err(StateError::Ambiguous(_))));
    for text in ["", "nobody", "../boxes", "/", "b"] {
        assert!(matches!(home.find(text), Err(StateError::NoSuchBox(_))), "{text}");
    }
}

#[test]
fn h13_a_taken_name_is_refused_and_changes_nothing() {
    let (_directory, home) = home();
    let _held = home.create(&spec(1, "one")).unwrap();
    let error = home.create(&spec(2, "one")).unwrap_err();
    assert!(error.to_string().contains("'one' is in use by box 010101010101"), "{error}");
    assert_eq!(home.ids().unwrap().len(), 1);
    home.sweep().unwrap();
    assert_eq!(fs::read_dir(home.boxes()).unwrap().count(), 1);
}

#[test]
fn h6_the_lock_tells_whether_somebody_holds_a_box() {
    let (_directory, home) = home();
    let (dir, lock) = home.create(&spec(1, "one")).unwrap().into_parts().unwrap();
    assert!(dir.try_lock().unwrap().is_none());
    drop(lock);
    assert!(dir.try_lock().unwrap().is_some());
}

#[test]
fn a_removed_box_frees_its_name_and_leaves_nothing() {
    let (_directory, home) = home();
    let (dir, _lock) = home.create(&spec(1, "one")).unwrap().into_parts().unwrap();
    fs::write(dir.disk(), "x").unwrap();
    home.remove(&dir).unwrap();
    home.remove(&dir).unwrap();
    assert!(dir.record().is_err());
    assert_eq!(fs::read_dir(home.boxes()).unwrap().count(), 0);
    assert_eq!(fs::read_dir(home.root().join("names")).unwrap().count(), 0);
    home.create(&spec(2, "one")).unwrap();
}

#[test]
fn h1_leftovers_of_a_killed_creation_and_its_name_are_swept() {
    let (_directory, home) = home();
    fs::create_dir(home.boxes().join(".new-dead")).unwrap();
    fs::create_dir(home.boxes().join(".gone-dead")).unwrap();
    symlink("ff".repeat(32), home.root().join("names/one")).unwrap();
    home.sweep().unwrap();
    assert_eq!(fs::read_dir(home.boxes()).unwrap().count(), 0);
    home.create(&spec(1, "one")).unwrap();
}

#[test]
fn h1_many_creators_of_one_name_get_one_box() {
    for _ in 0..40 {
        one_of_many_gets_the_name();
    }
}

#[test]
fn h1_a_name_is_not_taken_from_a_box_that_is_being_made() {
    let (_directory, home) = home();
    for seed in 0..60 {
        let name = format!("same-{seed}");
        let (own, other) = (spec(seed, &name), spec(255, &name));
        std::thread::scope(|scope| {
            let making = scope.spawn(|| home.create(&own).unwrap());
            while !making.is_finished() {
                let _ = home.take_name(&other);
            }
        });
        assert_eq!(home.find(&name).unwrap().id(), &own.id);
    }
}

#[test]
fn h1_a_sweep_takes_no_name_from_a_box_that_is_being_made() {
    let (_directory, home) = home();
    std::thread::scope(|scope| {
        let making = scope.spawn(|| {
            for seed in 0..60 {
                home.create(&spec(seed, &format!("box-{seed}"))).unwrap();
            }
        });
        while !making.is_finished() {
            home.sweep().unwrap();
        }
    });
    for seed in 0..60 {
        home.find(&format!("box-{seed}")).expect("a box has the name that it was made with");
    }
}

fn one_of_many_gets_the_name() {
    let (_directory, home) = home();
    let made = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16u8)
            .map(|seed| {
                let home = &home;
                scope.spawn(move || {
                    let result = home.create(&spec(seed, "same")).is_ok();
                    home.sweep().unwrap();
                    result
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).filter(|won| *won).count()
    });
    assert_eq!(made, 1);
    home.sweep().unwrap();
    assert_eq!(fs::read_dir(home.boxes()).unwrap().count(), 1);
    home.find("same").expect("a box has the name that it was made with");
}

#[test]
fn a_renamed_box_is_found_by_its_new_name_alone_and_frees_the_old_one() {
    let (_directory, home) = home();
    let (one, _lock) = home.create(&spec(0xab, "one")).unwrap().into_parts().unwrap();
    let (_two, _other) = home.create(&spec(0xac, "two")).unwrap().into_parts().unwrap();
    let name = |text: &str| text.parse::<BoxName>().unwrap();
    assert!(matches!(home.rename(&one, &name("two")), Err(StateError::NameTaken { .. })));
    assert!(matches!(home.rename(&one, &name("one")), Err(StateError::SameName(_))));
    assert_eq!(one.spec().unwrap().name, name("one"));
    home.rename(&one, &name("three")).unwrap();
    assert_eq!(home.find("three").unwrap().id(), one.id());
    assert!(matches!(home.find("one"), Err(StateError::NoSuchBox(_))));
    let (_dir, _lock) = home.create(&spec(0xad, "one")).unwrap().into_parts().unwrap();
}

#[test]
fn h12_what_a_box_has_counted_stays_when_it_is_removed_and_counts_once() {
    use crate::metrics::{Counter, Timing};
    let (_directory, home) = home();
    let make = |seed, name| home.create(&spec(seed, name)).unwrap().into_parts().unwrap();
    let (one, _lock) = make(1, "one");
    let (two, _lock) = make(2, "two");
    one.counters().add(Counter::Execs, 3);
    two.counters().add(Counter::Execs, 4);
    two.counters().took(Timing::Exec, std::time::Duration::from_millis(7));
    let seen = || {
        let tally = home.tally().unwrap();
        let [execs, boxes] = [Counter::Execs, Counter::BoxesRegistered].map(|c| tally.count(c));
        (boxes, execs, tally.spread(Timing::Exec).count())
    };
    assert_eq!(seen(), (2, 7, 1));
    home.remove(&one).unwrap();
    assert_eq!(seen(), (2, 7, 1));
    // A removal that was killed right after its counters were added, and one right before.
    let counters = two.path().join("metrics");
    let copy = std::fs::read(&counters).unwrap();
    home.remove(&two).unwrap();
    assert_eq!(seen(), (2, 7, 1));
    let gone = |id: &BoxId| home.boxes().join(format!(".gone-{id}"));
    std::fs::create_dir(gone(two.id())).unwrap();
    std::fs::write(gone(two.id()).join("metrics"), copy).unwrap();
    assert_eq!(seen(), (2, 7, 1));
    let (three, _lock) = make(3, "three");
    std::fs::rename(three.path(), gone(three.id())).unwrap();
    assert_eq!(seen(), (3, 7, 1));
    home.sweep().unwrap();
    assert_eq!(seen(), (3, 7, 1));
    assert!(home.ids().unwrap().is_empty());
    // Damaged totals hide no box that is there.
    std::fs::write(home.root().join("metrics.json"), "{").unwrap();
    let (_four, _lock) = make(4, "four");
    assert_eq!(seen(), (1, 0, 0));
}

#[test]
fn h1_a_creation_or_removal_that_was_killed_leaves_no_name_behind() {
    let (_directory, home) = home();
    let names = || std::fs::read_dir(home.root().join("names")).unwrap().count();
    let (one, lock) = home.create(&spec(1, "one")).unwrap().into_parts().unwrap();
    std::fs::rename(one.path(), home.boxes().join(format!(".gone-{}", one.id()))).unwrap();
    drop(lock);
    let two = spec(2, "two");
    std::fs::create_dir(home.boxes().join(format!(".new-{}", two.id))).unwrap();
    symlink(two.id.as_str(), home.name_path(&two.name)).unwrap();
    let (_three, _lock) = home.create(&spec(3, "three")).unwrap().into_parts().unwrap();
    // Somebody else has this name by now.
    std::fs::create_dir(home.boxes().join(format!(".gone-{}", spec(4, "three").id))).unwrap();
    assert_eq!(names(), 3);
    home.sweep().unwrap();
    assert_eq!(names(), 1);
    assert!(home.find("three").is_ok());
}
