//! Contract S1: templates are baked once, checked before use, and baked again when they are not what
//! they were.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use boxwood_tests::archive::{self, Layer};
use boxwood_tests::{Folder, Lab, Running, StoreKind};
use rustix::process::Signal;

/// The folders of the templates that were baked, and of those for one image that were made of them.
fn templates(lab: &Lab) -> [Vec<PathBuf>; 2] {
    let entries = fs::read_dir(lab.store().join("templates")).ok();
    let paths = entries.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut folders: Vec<PathBuf> =
        paths.filter(|path| path.join("manifest.json").exists()).collect();
    folders.sort();
    let (images, baked) = folders.into_iter().partition(|path| path.join("disk").exists());
    [baked, images]
}

fn counted(lab: &Lab) -> [usize; 2] {
    templates(lab).map(|folders| folders.len())
}

/// Whatever in the templates' folder is no template and no lock.
fn unfinished(lab: &Lab) -> Vec<PathBuf> {
    let entries = fs::read_dir(lab.store().join("templates")).unwrap();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.is_dir() && !path.join("manifest.json").exists()).collect()
}

#[test]
fn templates_are_listed_and_removed_and_baked_again() {
    let lab = Lab::with(StoreKind::CopiedTemplates);
    let keys = || lab.boxwood(["template", "ls", "-q"]).output().exits(0).lines();
    let key = current_key(&lab);
    assert!(keys().contains(&key));
    let listed = lab.boxwood(["template", "ls"]).output().exits(0).text();
    assert!(listed.starts_with("KEY") && listed.contains("1cpu-512mib"), "{listed}");
    // A box that runs keeps what it was restored from.
    let mut run = lab
        .run(["-i", "busybox", "sh", "-c", "echo ready; cat; head -c 9 /bin/busybox | wc -c"])
        .spawn();
    drop(run.says("ready\n"));
    lab.boxwood(["template", "rm", &key]).output().exits(0).prints(format!("{key}\n"));
    assert!(!keys().contains(&key));
    run.close_stdin();
    run.wait().exits(0).prints("ready\n9\n");
    lab.boxwood(["template", "rm", "no-such-key"]).output().refused(&["no-such-key"]);
    // The next run says that it bakes, on standard error, and runs.
    let run = lab.run(["busybox", "echo", "hi"]).output().exits(0).prints("hi\n");
    assert!(!run.complaint().is_empty(), "{run:?}");
    assert!(keys().contains(&key));
    lab.run(["busybox", "true"]).output().exits(0).quietly();
    lab.boxwood(["template", "rm", "--all"]).output().exits(0);
    assert_eq!(keys(), [""; 0]);
    assert_eq!(unfinished(&lab), Vec::<PathBuf>::new());
}

/// The largest file of the default template, which is its RAM, and the others.
fn files_of(template: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(template).unwrap();
    let mut files: Vec<(u64, PathBuf)> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (fs::metadata(&path).unwrap().size(), path))
        .collect();
    files.sort();
    files.reverse();
    files
}

/// The key of the template that boxes of the default shape start from.
fn current_key(lab: &Lab) -> String {
    let setup = lab.boxwood(["setup"]).output().exits(0).text();
    let after = setup.split("template ").nth(1).expect("setup names the template");
    after.split(',').next().unwrap_or_default().to_owned()
}

fn current(lab: &Lab) -> PathBuf {
    lab.store().join("templates").join(current_key(lab))
}

/// Changes one byte and nothing that is easily seen: neither the size nor the time.
fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let time = file.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    file.set_modified(time).unwrap();
}

#[track_caller]
fn is_baked_again_with_a_reason(lab: &Lab) {
    let run = lab.run(["busybox", "echo", "hi"]).output().exits(0).prints("hi\n");
    let reason = run.complaint();
    assert!(reason.lines().any(|line| line.contains("template")), "no reason in {run:?}");
    lab.run(["busybox", "echo", "hi"]).output().exits(0).prints("hi\n").quietly();
}

#[test]
fn s1_a_flipped_byte_in_a_templates_memory_is_found_and_it_is_baked_again() {
    let lab = Lab::with(StoreKind::CopiedTemplates);
    lab.run(["busybox", "true"]).output().exits(0).quietly();
    let template = current(&lab);
    let (_, ram) = files_of(&template).swap_remove(0);
    // In the middle of what the file really holds.
    let file = File::open(&ram).unwrap();
    let start = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(16 << 20)).unwrap();
    flip(&ram, start + 100);
    is_baked_again_with_a_reason(&lab);
}

#[test]
fn s1_a_flipped_byte_in_a_templates_state_is_found_and_it_is_baked_again() {
    let lab = Lab::with(StoreKind::CopiedTemplates);
    lab.run(["busybox", "true"]).output().exits(0).quietly();
    let template = current(&lab);
    let files = files_of(&template);
    let state = files.iter().map(|(_, path)| path);
    let mut state =
        state.filter(|path| path.file_name().is_some_and(|name| name != "manifest.json"));
    let state = state.nth(1).expect("a template has a state beside its memory");
    flip(state, fs::metadata(state).unwrap().size() / 2);
    is_baked_again_with_a_reason(&lab);
}

#[test]
fn s1_half_a_template_is_never_used() {
    let lab = Lab::with(StoreKind::CopiedTemplates);
    let template = current(&lab);
    let files = files_of(&template);
    let ram = &files[0].1;
    File::options().write(true).open(ram).unwrap().set_len(64 << 20).unwrap();
    is_baked_again_with_a_reason(&lab);
    fs::write(current(&lab).join("manifest.json"), "{").unwrap();
    let run = lab.run(["busybox", "echo", "hi"]).output();
    run.exits(0).prints("hi\n");
}

#[test]
fn s1_a_flipped_byte_in_what_is_kept_for_an_image_is_found_and_it_is_made_again() {
    let lab = Lab::with(StoreKind::OwnTemplates);
    lab.run(["-m", "128m", "busybox", "true"]).output().exits(0);
    let [_, images] = templates(&lab);
    for file in ["ram", "disk", "state"] {
        let path = images[0].join(file);
        let data = rustix::fs::seek(File::open(&path).unwrap(), rustix::fs::SeekFrom::Data(0));
        flip(&path, data.unwrap() + 1100);
        let run = lab.run(["-m", "128m", "busybox", "echo", "hi"]).output().exits(0);
        assert!(run.complaint().contains(&format!("its {file} is damaged")), "{run:?}");
        lab.run(["-m", "128m", "busybox", "echo", "hi"]).output().prints("hi\n").quietly();
    }
    assert_eq!(counted(&lab), [1, 1]);
}

#[test]
fn an_image_that_is_made_anew_under_its_name_gets_a_template_of_its_own() {
    let lab = Lab::with(StoreKind::OwnTemplates);
    let import = |text: &str| {
        let layer = Layer::busybox().file("word", 0o644, text.as_bytes()).end();
        let path = lab.folder().join("rootfs.tar");
        archive::write(&path, &layer);
        lab.boxwood(["import".as_ref(), path.as_os_str(), "mine".as_ref()]).output().exits(0);
    };
    for (text, kept) in [("one", 1), ("two", 2), ("one", 2)] {
        import(text);
        let run = lab.run(["-m", "128m", "mine", "busybox", "cat", "/word"]).output();
        run.exits(0).prints(text);
        assert_eq!(counted(&lab), [1, kept]);
    }
}

#[test]
fn g9_a_box_that_is_started_again_does_not_take_its_disk_for_an_empty_one() {
    let lab = Lab::new();
    let script = "cat /word 2>/dev/null; echo -n more >> /word";
    let run = lab.boxwood(["run", "--name", "again", "busybox", "sh", "-c", script]).output();
    run.exits(0).prints("");
    for so_far in ["more", "moremore", "moremoremore"] {
        lab.boxwood(["start", "-a", "again"]).output().exits(0).prints(so_far);
    }
    lab.remove("again");
}

#[test]
fn s1_a_bake_that_is_killed_leaves_nothing_that_the_next_run_minds() {
    let lab = Lab::with(StoreKind::OwnTemplates);
    let templates = lab.store().join("templates");
    fs::create_dir_all(&templates).unwrap();
    let folder = Folder::watch(&templates);
    let run = lab.run(["-m", "128m", "busybox", "echo", "hi"]).spawn();
    let begun = || folder.until(|| unfinished(&lab).into_iter().next());
    // A guest that boots once more does so with another folder.
    while !folder_is_written(&begun()) {}
    run.signal(Signal::KILL);
    drop(run.wait());
    assert_eq!(counted(&lab), [0, 0]);
    lab.is_clean();
    let next = lab.run(["-m", "128m", "busybox", "echo", "hi"]).output();
    next.exits(0).prints("hi\n");
    assert_eq!(counted(&lab), [1, 1]);
    assert_eq!(unfinished(&lab), Vec::<PathBuf>::new());
}

/// Waits until something is written in a folder, or another one is in its place.
fn folder_is_written(path: &Path) -> bool {
    let inode = || fs::metadata(path).map(|folder| folder.ino()).ok();
    let watched = inode();
    let Some(half) = Folder::watch_there(path) else { return false };
    half.until(|| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let blocks = |entry: fs::DirEntry| entry.metadata().map_or(0, |file| file.blocks());
        let written = entries.map(blocks).sum::<u64>() > 0;
        (written || inode() != watched).then_some(written)
    })
}

#[test]
fn s1_first_users_at_once_bake_once() {
    let lab = Lab::with(StoreKind::OwnTemplates);
    let args = ["-m", "128m", "busybox", "echo", "hi"];
    let first: Vec<Running> = (0..4).map(|_| lab.run(args).spawn()).collect();
    let ended: Vec<_> = first.into_iter().map(Running::wait).collect();
    let mut baking = 0;
    for run in ended {
        baking += usize::from(run.complaint().contains("baking a template"));
        run.exits(0).prints("hi\n");
    }
    assert_eq!(baking, 1);
    assert_eq!(counted(&lab), [1, 1]);
    assert_eq!(unfinished(&lab), Vec::<PathBuf>::new());
}

#[test]
fn setup_makes_everything_ready_so_that_a_run_is_silent() {
    let lab = Lab::with(StoreKind::OwnTemplates);
    let setup = lab.boxwood(["setup", "-m", "128m"]).output().exits(0);
    assert!(setup.text().starts_with("ready"), "{setup:?}");
    lab.run(["-m", "128m", "busybox", "true"]).output().exits(0).quietly();
    lab.boxwood(["setup", "-m", "128m"]).output().exits(0).quietly();
}

#[test]
fn a_busy_host_does_not_hinder_a_bake() {
    let lab = Lab::with(StoreKind::OwnTemplates);
    let cpus = std::thread::available_parallelism().unwrap().get();
    let loads: Vec<Running> =
        (0..cpus).map(|_| lab.program("sh").args(["-c", "while :; do :; done"]).spawn()).collect();
    let runs = ["120m", "124m", "128m", "132m"].map(|memory| {
        lab.run(["-m", memory, "busybox", "cat", "/proc/timer_list"]).output().exits(0)
    });
    drop(loads);
    // Whatever the kernel has measured: who sleeps for a second sleeps for a second.
    for run in runs {
        let hertz = timer_hertz(&run.text());
        assert!((hertz / 62.5e6 - 1.0).abs() < 0.002, "the timer is taken to run at {hertz} Hz");
    }
}

/// How fast the kernel takes a CPU's timer to be (`kernel/time/timer_list.c`).
fn timer_hertz(list: &str) -> f64 {
    let (_, timer) = list.split_once("Clock Event Device: lapic\n").expect("a CPU has a timer");
    let value = |name: &str| -> f64 {
        let line = timer.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap();
        line.trim().parse().unwrap()
    };
    value("mult:") * 1e9 / value("shift:").exp2()
}

#[test]
fn s1_a_template_with_a_damaged_manifest_is_listed_and_can_be_removed() {
    let lab = Lab::with(StoreKind::OwnTemplates);
    let key = "0".repeat(32);
    let damaged = lab.store().join("templates").join(&key);
    fs::create_dir_all(&damaged).unwrap();
    fs::write(damaged.join("manifest.json"), "{").unwrap();
    let listed = lab.boxwood(["template", "ls", "--format", "{{.Key}} {{.Checked}}"]).output();
    listed.exits(0).prints(format!("{key} damaged\n")).explains(&[&key, "manifest"]);
    let table = lab.boxwood(["template", "ls"]).output().exits(0);
    assert!(table.text().contains("damaged"), "{table:?}");
    lab.boxwood(["template", "rm", "000"]).output().exits(0).prints("000\n").quietly();
    assert!(!damaged.exists());
    lab.boxwood(["template", "ls", "-q"]).output().exits(0).prints("").quietly();
}
