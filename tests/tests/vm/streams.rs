//! Contract G5: main's streams are bytes, whole, in order, apart, and back-pressured.

use std::fs::File;
use std::io::{Read, pipe};

use boxwood_tests::{Folder, Lab, archive};

const MIB: usize = 1 << 20;

/// Bytes that no run of lines, text or zeros looks like.
fn noise(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn g5_the_two_outputs_are_separate() {
    let lab = Lab::new();
    let run = lab.sh("echo out; echo err >&2; echo more; exit 3").output();
    run.exits(3).prints("out\nmore\n").complains("err\n");
}

#[test]
fn g5_64_mib_of_noise_go_in_and_come_out_unchanged() {
    let lab = Lab::new();
    let sent = noise(64 * MIB);
    let run = lab.run(["-i", "busybox", "cat"]).stdin(sent.clone()).output();
    assert_eq!(run.stdout.len(), sent.len(), "{run:?}");
    assert_eq!(archive::digest(&run.stdout), archive::digest(&sent));
    run.exits(0).quietly();
}

#[test]
fn g5_standard_error_is_bytes_too() {
    let lab = Lab::new();
    let sent = noise(3 * MIB + 17);
    let run = lab.run(["-i", "busybox", "sh", "-c", "cat >&2"]).stdin(sent.clone()).output();
    assert_eq!(archive::digest(&run.stderr), archive::digest(&sent));
    run.exits(0).prints("");
}

#[test]
fn g5_what_goes_in_is_what_main_reads() {
    let lab = Lab::new();
    let sent = noise(5 * MIB + 1);
    let run = lab.run(["-i", "busybox", "sha256sum"]).stdin(sent.clone()).output();
    let expected = archive::digest(&sent).trim_start_matches("sha256:").to_owned();
    run.exits(0).prints(format!("{expected}  -\n"));
}

#[test]
fn g5_output_is_ordered() {
    let lab = Lab::new();
    let expected: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    lab.run(["busybox", "seq", "100000"]).output().exits(0).prints(expected).quietly();
}

#[test]
fn g5_the_end_of_input_closes_input_alone() {
    let lab = Lab::new();
    let run = lab.run(["-i", "busybox", "sh", "-c", "cat; echo after; sleep 0.2; echo later"]);
    run.stdin("before\n").output().exits(0).prints("before\nafter\nlater\n");
}

#[test]
fn g5_input_and_output_take_turns() {
    let lab = Lab::new();
    let script = "while read -r line; do echo \"got $line\"; done; echo over";
    let mut run = lab.run(["-i", "busybox", "sh", "-c", script]).spawn();
    for turn in 1..=5 {
        run.write(format!("line {turn}\n"));
        drop(run.says(&format!("got line {turn}\n")));
    }
    run.close_stdin();
    assert!(run.wait().exits(0).text().ends_with("got line 5\nover\n"));
}

#[test]
fn g5_without_i_standard_input_is_dev_null() {
    let lab = Lab::new();
    let run = lab.sh("cat; readlink /proc/self/fd/0").stdin("not for main\n").output();
    run.exits(0).prints("/dev/null\n").quietly();
}

#[test]
fn g5_an_input_that_main_does_not_read_does_not_keep_the_box() {
    let lab = Lab::new();
    let run = lab.run(["-i", "busybox", "sh", "-c", "echo done"]).stdin(vec![0; 8 * MIB]);
    run.output().exits(0).prints("done\n");
    // Nor does one that never ends.
    let (_never_written, never_read) = (pipe().unwrap(), pipe().unwrap());
    let run = lab.run(["-i", "busybox", "true"]).stdin_from(never_read.0.try_clone().unwrap());
    run.output().exits(0);
}

#[test]
fn g5_a_slow_reader_loses_nothing_and_slows_nobody_else() {
    let lab = Lab::new();
    let (mut reader, writer) = pipe().unwrap();
    let script = "head -c 67108864 /dev/zero | tr '\\0' x; echo end >&2";
    let run = lab.run(["--name", "slow", "busybox", "sh", "-c", script]);
    let run = run.stdout_to(writer).spawn();
    let mut bytes = vec![0; 64 << 10];
    let mut taken = reader.read(&mut bytes).unwrap();
    // Nobody reads any more, and meanwhile others are served.
    for _ in 0..3 {
        lab.run(["busybox", "echo", "quick"]).output().exits(0).prints("quick\n");
    }
    let live = lab.live("slow");
    live.qemu.is_alive();
    let memory = resident_mib(live.shim.pid);
    assert!(memory < 64, "the shim holds {memory} MiB of a box's unread output");
    loop {
        match reader.read(&mut bytes).unwrap() {
            0 => break,
            count => taken += count,
        }
        assert!(bytes.iter().all(|byte| matches!(byte, b'x' | 0)));
    }
    assert_eq!(taken, 64 * MIB);
    run.wait().exits(0).complains("end\n");
}

fn resident_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn g5_a_reader_that_goes_ends_the_box() {
    let lab = Lab::new();
    let (mut reader, writer) = pipe().unwrap();
    let run = lab.run(["busybox", "yes"]).stdout_to(writer).spawn();
    let mut first = [0; 2];
    reader.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"y\n");
    drop(reader);
    run.wait().exits(141).quietly();
    lab.is_clean();
}

#[test]
fn g5_an_output_that_cannot_be_written_is_told_and_ends_the_box() {
    let lab = Lab::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let run = lab.run(["busybox", "yes"]).stdout_to(full).output();
    run.exits(125).explains(&["can't write", "No space left"]);
    lab.is_clean();
}

#[test]
fn g5_output_of_a_main_that_ends_at_once_is_whole() {
    let lab = Lab::new();
    // More than a pipe holds, so that main is gone before the last of it is read.
    for bytes in [1, 4096, 65_536, 65_537, 300_000] {
        let run = lab.sh(&format!("head -c {bytes} /dev/zero; exec true")).output().exits(0);
        assert_eq!(run.stdout.len(), bytes);
    }
}

#[test]
fn g5_arguments_and_environment_are_bytes() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let lab = Lab::new();
    let odd = OsStr::from_bytes(b"\xff\xfe \n\"$x'\\");
    let setting = OsStr::from_bytes(b"ODD=\xff\n=\x01");
    let run = lab.run(["-e".as_ref(), setting]);
    let script = "printf '%s' \"$1\" \"$ODD\"";
    let run = run.args(["busybox", "sh", "-c", script, "sh"]).args([odd]);
    run.output().exits(0).prints(b"\xff\xfe \n\"$x'\\\xff\n=\x01");
}

#[test]
fn g5_long_arguments_and_many_of_them_arrive() {
    let lab = Lab::new();
    let long = "x".repeat(100_000);
    let run = lab.run(["busybox", "sh", "-c", "echo ${#1} ${#2}", "sh", &long, ""]);
    run.output().exits(0).prints("100000 0\n");
    let many: Vec<String> = (0..5000).map(|number| number.to_string()).collect();
    let run = lab.run(["busybox", "sh", "-c", "echo $# ${5000}", "sh"]).args(many);
    run.output().exits(0).prints("5000 4999\n");
}

#[test]
fn g5_an_input_that_can_not_be_read_is_no_end_of_input() {
    let lab = Lab::new();
    lab.idle("web");
    let folder = || std::fs::File::open("/").unwrap();
    let run = lab.exec(["-i", "web", "cat"]).stdin_from(folder()).output();
    run.exits(125).explains(&["standard input", "Is a directory"]);
    let run = lab.boxwood(["run", "--rm", "-i", "busybox", "cat"]).stdin_from(folder()).output();
    run.exits(125).explains(&["standard input", "Is a directory"]);
    // It was stopped, as when its client dies.
    Folder::watch(&lab.home().join("boxes")).until(|| (lab.boxes().len() == 1).then_some(()));
    lab.remove("web");
}
