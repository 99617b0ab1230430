//! Contract H13: bad input gets one clear line and 125, and changes nothing.

use boxwood_tests::{Lab, SmallHome, StoreKind, Tree};

#[test]
fn h13_arguments_that_are_none_are_refused() {
    let lab = Lab::new();
    lab.refuses(lab.run(["--no-such-flag", "busybox"]), &["--no-such-flag"]);
    lab.refuses(lab.boxwood(["no-such-verb"]), &["no-such-verb"]);
    lab.refuses(lab.boxwood(["run", "--rm"]), &["IMAGE"]);
    lab.refuses(lab.boxwood(["run", "--name"]), &["--name"]);
    lab.refuses(lab.boxwood(["stop"]), &["BOX"]);
}

#[test]
fn h13_names_of_images_that_are_none_are_refused() {
    let lab = Lab::new();
    for name in ["UPPER", "a//b", "../a", "a:b c", "", ":", "a@sha256:00", "-"] {
        lab.refuses(lab.run(["--", name, "true"]), &[name]);
    }
}

#[test]
fn h13_names_of_boxes_that_are_none_are_refused() {
    let lab = Lab::new();
    for name in ["a", "a b", "../x", ".x", "a/b", "ä1", &"x".repeat(129), "a\nb"] {
        lab.refuses(lab.run([&format!("--name={name}"), "busybox", "true"]), &["--name"]);
    }
}

#[test]
fn h13_sizes_and_counts_that_cannot_be_are_refused() {
    let lab = Lab::new();
    for (flag, words) in [
        ("--memory=1x", "1x"),
        ("--memory=", "memory"),
        ("--memory=-5m", "-5m"),
        ("--memory=63m", "64 MiB"),
        ("--memory=0", "64 MiB"),
        ("--memory=99999999999t", "99999999999t"),
        ("--memory=1t", "1 TiB"),
        ("--cpus=0", "0"),
        ("--cpus=65", "65"),
        ("--cpus=1.5", "1.5"),
        ("--cpus=-1", "-1"),
        ("--cpus=x", "x"),
        ("--stop-signal=NOPE", "NOPE"),
        ("--stop-signal=65", "65"),
        ("--stop-timeout=-2", "-2"),
        ("--stop-timeout=x", "x"),
    ] {
        lab.refuses(lab.run([flag, "busybox", "true"]), &[words]);
    }
}

#[test]
fn h13_more_memory_than_the_host_has_is_refused_with_both_figures() {
    let lab = Lab::new();
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let kib: u64 = meminfo.split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
    let more = format!("--memory={}m", kib / 1024 + 1024);
    lab.refuses(lab.run([&more, "busybox", "true"]), &["does not fit", "GiB"]);
}

#[test]
fn h13_hostnames_and_directories_that_cannot_be_are_refused() {
    let lab = Lab::new();
    for name in ["-a", "a b", "a..b", "a\nb", &"x".repeat(65)] {
        lab.refuses(lab.run([&format!("--hostname={name}"), "busybox", "true"]), &["hostname"]);
    }
    lab.refuses(lab.run(["-w", "relative", "busybox", "true"]), &["relative", "absolute"]);
}

#[test]
fn h13_environments_that_cannot_be_are_refused() {
    let lab = Lab::new();
    for setting in ["", "=x", "="] {
        lab.refuses(lab.run(["-e", setting, "busybox", "true"]), &["environment variable"]);
    }
    let with_file = |path: &str| lab.run(["--env-file", path, "busybox", "true"]);
    let file = lab.folder().join("env");
    let path = file.to_str().unwrap();
    lab.refuses(with_file(path), &[path, "No such file"]);
    for (content, line) in
        [(&b"A=1\n=x\n"[..], "line 2"), (b"a b=c\n", "line 1"), (b"\nA\0=1", "line 2")]
    {
        std::fs::write(&file, content).unwrap();
        lab.refuses(with_file(path), &[path, line]);
    }
    lab.refuses(with_file(lab.folder().to_str().unwrap()), &["directory"]);
    lab.refuses(with_file("/dev/zero"), &["/dev/zero"]);
}

#[test]
fn h13_a_name_that_is_taken_is_refused_with_its_holder() {
    let lab = Lab::new();
    let id = lab.boxwood(["run", "--name", "twin", "busybox", "true"]).output();
    drop(id.exits(0));
    let holder = lab.inspect("twin", "{{.Id}}");
    let again = lab.run(["--name", "twin", "busybox", "true"]);
    lab.refuses(again, &["twin", &holder[..12]]);
    lab.remove("twin");
    lab.run(["--name", "twin", "busybox", "true"]).output().exits(0);
}

#[test]
fn h13_boxes_that_are_not_there_are_refused() {
    let lab = Lab::new();
    for verb in ["start", "inspect", "logs", "stop", "kill", "wait", "rm"] {
        let before = Tree::of(lab.home());
        let refused = lab.boxwood([verb, "no-such-box"]).output().exits(125);
        // `inspect` shows the list of what it found, as Docker does.
        let shown = if verb == "inspect" { "[]\n" } else { "" };
        refused.prints(shown).explains(&["no such box: no-such-box"]);
        before.is_still(lab.home());
    }
    let removed = lab.boxwood(["rm", "-f", "no-such-box"]).output().exits(0);
    removed.prints("").explains(&["no such box: no-such-box"]);
    lab.refuses(
        lab.boxwood(["kill", "-s", "NOPE", "no-such-box"]),
        &["NOPE", "boxwood kill --help"],
    );
    let there = lab.boxwood(["--host", "unix:///none", "kill", "-s", "NOPE", "no-such-box"]);
    lab.refuses(there, &["NOPE", "boxwood kill --help"]);
    lab.refuses(lab.boxwood(["serve", "--host", "unix:///none"]), &["--socket"]);
    lab.refuses(lab.boxwood(["stop", "-t", "x", "no-such-box"]), &["x"]);
}

#[test]
fn h13_templates_of_output_that_cannot_be_read_are_refused() {
    let lab = Lab::new();
    // There is no box to show, and the template is no better for it.
    for verb in [&["ps"][..], &["ps", "-q"], &["images"], &["template", "ls"]] {
        for format in ["{{", "table {{"] {
            let list = lab.boxwood(verb).args(["--format", format]);
            lab.refuses(list, &["--format template '{{'"]);
        }
    }
    lab.boxwood(["run", "--name", "shown", "busybox", "true"]).output().exits(0);
    lab.refuses(lab.boxwood(["inspect", "--format", "{{.State", "shown"]), &["{{.State"]);
    lab.refuses(lab.boxwood(["ps", "-a", "--format", "{{"]), &["{{"]);
    lab.remove("shown");
}

#[test]
fn h13_a_full_home_is_refused_and_stays_as_it_was() {
    let lab = Lab::new();
    if !boxwood_tests::is_root() {
        eprintln!("only root can mount: skipped");
        return;
    }
    let home = SmallHome::mount(&lab, "32k");
    lab.boxwood(["ps"]).output().exits(0);
    home.fill();
    lab.boxwood(["run", "--rm", "busybox", "true"]).output().refused(&["No space left"]);
    assert_eq!((home.names("boxes"), home.names("names")), (vec![], vec![]));
}

#[test]
fn h13_settings_of_an_import_that_cannot_be_are_refused() {
    let lab = Lab::with(StoreKind::OwnImages);
    let rootfs = lab.folder().join("rootfs");
    std::fs::create_dir(&rootfs).unwrap();
    let before = Tree::of(lab.store());
    for (flag, value, words) in [
        ("-e", "BAD", &["'BAD'", "NAME=value"][..]),
        ("-e", "=x", &["'=x'", "NAME=value"]),
        ("-e", "", &["''", "NAME=value"]),
        ("-w", "rel", &["'rel'", "absolute"]),
        ("-w", "", &["''", "absolute"]),
    ] {
        let import = lab.boxwood(["import", flag, value]).args([&rootfs]);
        lab.refuses(import, words);
    }
    before.is_still(lab.store());
}

#[test]
fn h13_a_low_limit_of_open_files_is_enough_or_is_named() {
    let lab = Lab::new();
    let limited = |limit: &str| {
        let script = format!("ulimit -n {limit}; exec \"$0\" run --rm busybox echo hi");
        lab.program("sh").args(["-c", &script]).args([lab.binary()]).output()
    };
    limited("64").exits(0).prints("hi\n").quietly();
    limited("8").refused(&["Too many open files", "ulimit -n"]);
}
