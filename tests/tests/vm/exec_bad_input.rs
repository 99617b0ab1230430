//! Contract H13 for `exec`: what can't be done is told in one line, with the right code, and the box
//! goes on.

use boxwood_tests::Lab;

#[test]
fn g7_a_command_that_cannot_be_run_returns_126_or_127() {
    let lab = Lab::new();
    lab.idle("web");
    let script = "printf '\\177ELF\\002\\001\\001\\000\\000\\000\\000\\000\\000\\000\\000\\000\\002\\000\\267\\000' \
        > /arm; chmod +x /arm; echo text > /text";
    lab.exec(["web", "sh", "-c", script]).output().exits(0);
    for (command, code, words) in [
        ("no-such-command", 127, &["no-such-command", "not found"][..]),
        ("/no/such/command", 127, &["/no/such/command", "no such file"]),
        ("/etc", 126, &["/etc"]),
        ("/text", 126, &["/text", "permission denied"]),
        ("/arm", 126, &["/arm", "exec format error"]),
        ("", 127, &["no command"]),
    ] {
        let run = lab.exec(["web", command]).output();
        run.exits(code).prints("").explains(words);
    }
    still_runs(&lab);
}

#[test]
fn g7_what_a_command_needs_to_run_is_named_when_it_is_not_there() {
    let lab = Lab::new();
    lab.idle("web");
    let put = |path: &str, content: &[u8]| {
        let script = format!("mkdir -p /tools && cat > {path} && chmod +x {path}");
        let run = lab.exec(["-i", "web", "sh", "-c", &script]).stdin(content);
        run.output().exits(0).quietly();
    };
    put("/script", b"#! /no/such/sh -e\n");
    put("/chain", b"#!/script\n");
    put("/tools/dos", b"#!/bin/sh\r\necho hi\r\n");
    put("/dynamic", &dynamic("/lib/ld-none.so.2"));
    put("/tools/fine", b"#!/bin/sh\necho fine\n");
    for (command, missing) in [
        ("/script", "\"/no/such/sh\""),
        ("/chain", "\"/no/such/sh\""),
        ("dos", "\"/bin/sh\\r\""),
        ("/dynamic", "\"/lib/ld-none.so.2\""),
    ] {
        let run = lab.exec(["-e", "PATH=/tools:/bin", "web", command]).output();
        run.exits(127).prints("").explains(&[command, "interpreter", missing]);
    }
    // From its own directory, too; and what is not there itself has none.
    let beside = lab.exec(["-w", "/tools", "web", "./dos"]).output();
    beside.exits(127).prints("").explains(&["./dos", "interpreter"]);
    lab.exec(["-w", "/tools", "web", "./fine"]).output().exits(0).prints("fine\n");
    lab.exec(["web", "ln", "-s", "/nowhere", "/dangling"]).output().exits(0);
    let dangling = lab.exec(["web", "/dangling"]).output().exits(127);
    assert!(!dangling.complaint().contains("interpreter"), "{dangling:?}");
    still_runs(&lab);
}

/// The least that Linux takes for a dynamic program: an ELF header, and one segment that names its linker.
fn dynamic(linker: &str) -> Vec<u8> {
    let linker = [linker.as_bytes(), b"\0"].concat();
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    for half in [2_u16, 62] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes());
    for word in [0_u64, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    for half in [3_u32, 4] {
        file.extend(half.to_le_bytes());
    }
    let length = linker.len() as u64;
    for word in [120, 0, 0, length, length, 1] {
        file.extend(word.to_le_bytes());
    }
    file.extend(linker);
    file
}

#[test]
fn g7_a_user_group_or_directory_that_is_not_there_returns_126() {
    let lab = Lab::new();
    lab.idle("web");
    for (flag, value) in [
        ("-u", "nobody-such"),
        ("-u", "root:nobody-such"),
        ("-w", "/nobody-such"),
        ("-w", "/etc/passwd"),
    ] {
        let run = lab.exec([flag, value, "web", "true"]).output();
        run.exits(126).prints("").explains(&[value.trim_start_matches("root:")]);
    }
    // Asking for a directory does not make it.
    lab.exec(["web", "ls", "/nobody-such"]).output().exits(1);
    still_runs(&lab);
}

#[test]
fn h13_flags_that_make_no_sense_are_refused() {
    let lab = Lab::new();
    lab.idle("web");
    for timeout in ["0", "-1", "soon", "", "1x", "0.0"] {
        let run = lab.exec(["--timeout", timeout, "web", "true"]);
        lab.refuses(run, &["--timeout", "above 0"]);
    }
    for keys in ["del", "ctrl-", "ctrl-p ctrl-q", "ab", "ctrl-p,"] {
        lab.refuses(lab.exec(["--detach-keys", keys, "web", "true"]), &["detach keys"]);
    }
    lab.refuses(lab.exec(["-w", "srv", "web", "true"]), &["'srv'", "absolute"]);
    lab.refuses(lab.exec(["-e", "=x", "web", "true"]), &["=x"]);
    lab.refuses(lab.exec(["-e", "", "web", "true"]), &["environment variable"]);
    lab.refuses(lab.exec(["--env-file", "/nonexistent", "web", "true"]), &["/nonexistent"]);
    let file = lab.folder().join("env");
    std::fs::write(&file, b"A=1\nB=\0\n").unwrap();
    let nul = lab.exec(["--env-file".as_ref(), file.as_os_str(), "web".as_ref(), "true".as_ref()]);
    lab.refuses(nul, &["line 2"]);
    lab.refuses(lab.exec(["web"]), &["COMMAND"]);
    lab.refuses(lab.exec(["-it", "web", "sh"]), &["the input device is not a TTY"]);
    still_runs(&lab);
}

#[test]
fn h13_more_arguments_than_there_may_be_are_refused() {
    let lab = Lab::new();
    lab.idle("web");
    let file = lab.folder().join("env");
    let settings: String = (0..40).map(|n| format!("V{n}={}\n", "x".repeat(100_000))).collect();
    std::fs::write(&file, &settings).unwrap();
    // Less than the protocol carries, and more than the kernel in the box takes.
    let one = lab.exec(["--env-file".as_ref(), file.as_os_str(), "web".as_ref(), "true".as_ref()]);
    one.output().exits(126).prints("").explains(&["argument list too long"]);
    let second = lab.folder().join("more");
    std::fs::write(&second, settings.replace("V", "W")).unwrap();
    let both = lab.exec(["--env-file".as_ref(), file.as_os_str(), "--env-file".as_ref()]);
    let both = both.args([second.as_os_str(), "web".as_ref(), "true".as_ref()]);
    lab.refuses(both, &["too large", "4 MiB"]);
    still_runs(&lab);
}

#[test]
fn h13_a_box_that_does_not_run_is_refused_and_named() {
    let lab = Lab::new();
    lab.refuses(lab.exec(["no-such-box", "true"]), &["no-such-box"]);
    lab.boxwood(["run", "--name", "job", "busybox", "true"]).output().exits(0);
    lab.refuses(lab.exec(["job", "true"]), &["exited", "not running"]);
    lab.boxwood(["run", "--name", "bad", "busybox", "no-such"]).output().exits(127);
    lab.refuses(lab.exec(["bad", "true"]), &["failed", "not running"]);
    lab.refuses(lab.boxwood(["attach", "job"]), &["exited", "not running"]);
    lab.remove("job");
    lab.remove("bad");
}

#[test]
fn h13_more_sessions_than_there_may_be_are_refused_until_one_ends_and_detached_ones_leave_some() {
    let lab = Lab::new();
    lab.idle("web");
    let mut first = lab.exec(["-i", "web", "cat"]).spawn();
    first.write("begun\n");
    first.says("begun");
    for _ in 0..96 {
        lab.exec(["-d", "web", "sleep", "600"]).output().exits(0);
    }
    let refused = lab.exec(["-d", "web", "sleep", "600"]).output();
    refused.exits(125).prints("").explains(&["detached", "96", "limit"]);
    // They leave places for those whose client waits.
    let others: Vec<_> = (1..128 - 96)
        .map(|_| {
            let mut other = lab.exec(["-i", "web", "cat"]).spawn();
            other.write("begun\n");
            other.says("begun");
            other
        })
        .collect();
    let refused = lab.exec(["web", "true"]).output();
    refused.exits(125).prints("").explains(&["128 commands", "limit"]);
    first.close_stdin();
    first.wait().exits(0);
    lab.exec(["web", "echo", "here"]).output().exits(0).prints("here\n").quietly();
    drop(others);
    lab.remove("web");
}

#[test]
fn h13_commands_whose_client_has_left_are_bounded_like_those_whose_client_waits() {
    let lab = Lab::new();
    lab.idle("web");
    lab.exec(["web", "mkfifo", "/go"]).output().exits(0);
    for number in 0..128 {
        let script = format!("echo ready; read -r _ < /go; : {number}");
        let mut user = lab.terminal(["exec", "-it", "web", "sh", "-c", &script]);
        user.shows("ready");
        user.types("\x10\x11");
        user.shows("detached");
        user.wait().exits(0);
    }
    let refused = lab.exec(["web", "true"]).output();
    refused.exits(125).prints("").explains(&["128 commands", "limit"]);
    let refused = lab.exec(["-d", "web", "true"]).output();
    refused.exits(125).prints("").explains(&["detached", "96", "limit"]);
    lab.remove("web");
}

#[track_caller]
fn still_runs(lab: &Lab) {
    lab.exec(["web", "echo", "here"]).output().exits(0).prints("here\n").quietly();
    lab.remove("web");
}
