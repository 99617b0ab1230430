//! What `boxwood run` returns: main's own result, or Boxwood's word that there is none.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use boxwood_tests::Lab;

#[test]
fn g7_what_follows_the_image_is_the_commands() {
    let lab = Lab::new();
    let printed = |words: &[&str], text: &str| {
        let run = lab.run(["--entrypoint", "printf", "busybox"]).args(words).output();
        run.exits(0).prints(text).quietly();
    };
    printed(&["%s,", "-e", "X=1"], "-e,X=1,");
    printed(&["%s,", "--help"], "--help,");
    printed(&["%s,", "--name=other", "-d"], "--name=other,-d,");
    printed(&["--", "%s,", "--", "hi"], "--,hi,");
    lab.run(["busybox", "--rm", "echo", "hi"]).output().exits(127);
    lab.run(["--no-such", "busybox", "true"]).output().refused(&["--no-such"]);
    lab.run([""; 0]).output().refused(&["IMAGE"]);
}

#[test]
fn true_and_false_are_told_apart() {
    let lab = Lab::new();
    lab.run(["busybox", "true"]).output().exits(0).prints("").quietly();
    lab.run(["busybox", "false"]).output().exits(1).prints("").quietly();
}

#[test]
fn g2_the_code_of_main_is_the_code_of_run() {
    let lab = Lab::new();
    // 125 to 127 and those from 128 on are main's own here, so Boxwood has nothing to add.
    for code in [0, 1, 2, 3, 42, 100, 124, 125, 126, 127, 128, 129, 137, 143, 200, 254, 255] {
        lab.sh(&format!("exit {code}")).output().exits(code).prints("").quietly();
    }
}

#[test]
fn g2_a_main_killed_by_a_signal_returns_128_and_its_number() {
    let lab = Lab::new();
    for (signal, number) in [("HUP", 1), ("ABRT", 6), ("KILL", 9), ("SEGV", 11), ("TERM", 15)] {
        lab.sh(&format!("kill -{signal} $$")).output().exits(128 + number).quietly();
    }
}

#[test]
fn g2_a_code_is_kept_apart_from_a_signal_with_the_same_number() {
    let lab = Lab::new();
    for (name, script) in [("code", "exit 137"), ("signal", "kill -KILL $$")] {
        let run = lab.boxwood(["run", "--name", name, "busybox", "sh", "-c", script]);
        run.output().exits(137);
    }
    let status = |name: &str| {
        let id = lab.inspect(name, "{{.Id}}");
        let record = std::fs::read(lab.box_folder(&id).join("record.json")).unwrap();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        record["exit"]["status"].to_string()
    };
    assert_eq!(status("code"), r#"{"code":137}"#);
    assert_eq!(status("signal"), r#"{"signal":9}"#);
    lab.remove("code");
    lab.remove("signal");
}

#[test]
fn g2_every_of_24_runs_returns_its_own_code_one_by_one_and_8_at_a_time() {
    let lab = Lab::new();
    let run = |code: i32| drop(lab.sh(&format!("exit {code}")).output().exits(code));
    (1..=12).for_each(run);
    let codes = std::sync::Mutex::new(100..112);
    let next = || codes.lock().unwrap().next();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| std::iter::from_fn(next).for_each(run));
        }
    });
    assert_eq!(lab.boxes(), [""; 0]);
}

#[test]
fn g7_a_command_that_is_not_there_returns_127() {
    let lab = Lab::new();
    let searched = lab.run(["busybox", "no-such-command", "x"]).output();
    searched.exits(127).prints("").explains(&["no-such-command", "not found"]);
    let named = lab.run(["busybox", "/no/such/command"]).output();
    named.exits(127).prints("").explains(&["/no/such/command", "no such file"]);
}

#[test]
fn g7_a_command_that_cannot_be_executed_returns_126() {
    let lab = Lab::new();
    let file = lab.run(["busybox", "/etc/passwd"]).output();
    file.exits(126).prints("").explains(&["/etc/passwd", "permission denied"]);
    let folder = lab.run(["busybox", "/etc"]).output();
    folder.exits(126).prints("").explains(&["/etc"]);
}

#[test]
fn g7_a_user_that_is_not_in_the_image_returns_126() {
    let lab = Lab::new();
    let user = lab.run(["-u", "nobody-such", "busybox", "true"]).output();
    user.exits(126).prints("").explains(&["nobody-such"]);
    let group = lab.run(["-u", "root:nobody-such", "busybox", "true"]).output();
    group.exits(126).prints("").explains(&["nobody-such"]);
    let number = lab.run(["-u", "4294967296", "busybox", "true"]).output();
    number.exits(126).prints("").explains(&["range"]);
}

#[test]
fn g7_a_working_directory_through_a_file_returns_126() {
    let lab = Lab::new();
    let through = lab.run(["-w", "/etc/passwd/x", "busybox", "true"]).output();
    through.exits(126).prints("").explains(&["/etc/passwd/x"]);
    let file = lab.run(["-w", "/etc/passwd", "busybox", "true"]).output();
    file.exits(126).prints("").explains(&["/etc/passwd"]);
}

#[test]
fn h5_a_refused_main_leaves_a_failed_box_that_says_why() {
    let lab = Lab::new();
    let run = lab.boxwood(["run", "--name", "no", "busybox", "no-such-command"]).output();
    run.exits(127).prints("").explains(&["no-such-command"]);
    assert_eq!(lab.state("no"), "failed");
    assert_eq!(lab.inspect("no", "{{.State.ExitCode}}"), "127");
    assert!(lab.inspect("no", "{{.State.Error}}").contains("no-such-command"));
    assert_eq!(lab.inspect("no", "{{.State.Running}} {{.State.Pid}}"), "false 0");
    lab.remove("no");
}

#[test]
fn h13_an_image_without_a_command_is_refused() {
    let lab = Lab::with(boxwood_tests::StoreKind::OwnImages);
    let tar = lab.folder().join("rootfs.tar");
    boxwood_tests::archive::write(&tar, &boxwood_tests::archive::Layer::busybox().end());
    drop(lab.boxwood(["import"]).args([tar, "bare".into()]).output().exits(0));
    lab.refuses(lab.run(["bare"]), &["no command", "bare"]);
    lab.run(["bare", "/bin/busybox", "echo", "hi"]).output().exits(0).prints("hi\n").quietly();
}

#[test]
fn h13_an_image_that_is_not_there_is_refused_with_the_way_to_get_it() {
    let lab = Lab::new();
    let words = ["no/such-image", "boxwood load", "boxwood import"];
    lab.refuses(lab.run(["no/such-image", "true"]), &words);
}

#[test]
fn h13_without_a_qemu_a_run_is_refused_with_the_way_to_get_one() {
    let lab = Lab::new();
    let run = lab.run(["busybox", "true"]).env("BOXWOOD_QEMU", "/nonexistent/qemu");
    lab.refuses(run, &["/nonexistent/qemu"]);
    let text = lab.folder().join("text");
    std::fs::write(&text, "not a program\n").unwrap();
    std::fs::set_permissions(&text, PermissionsExt::from_mode(0o755)).unwrap();
    let run = lab.run(["busybox", "true"]).env("BOXWOOD_QEMU", &text);
    lab.refuses(run, &[text.to_str().unwrap()]);
    // A program that answers and is no QEMU.
    let run = lab.run(["busybox", "true"]).env("BOXWOOD_QEMU", "/bin/true");
    lab.refuses(run, &["/bin/true"]);
}

#[test]
fn h13_without_a_kernel_a_run_is_refused() {
    let lab = Lab::new();
    let missing = lab.run(["busybox", "true"]).env("BOXWOOD_KERNEL", "/nonexistent/vmlinuz");
    lab.refuses(missing, &["/nonexistent/vmlinuz"]);
    let wrong = lab.run(["busybox", "true"]).env("BOXWOOD_KERNEL", "/bin/busybox").output();
    // It is told that the file is being read, and then what is wrong with it.
    assert!(
        String::from_utf8_lossy(&wrong.exits(125).stderr).contains("/bin/busybox is no kernel")
    );
    let modules = lab.run(["busybox", "true"]).env("BOXWOOD_MODULES", "/nonexistent");
    lab.refuses(modules, &["BOXWOOD_KERNEL"]);
}

#[test]
fn h13_an_accelerator_that_is_none_is_refused() {
    let lab = Lab::new();
    let run = lab.run(["busybox", "true"]).env("BOXWOOD_ACCEL", "nonsense");
    lab.refuses(run, &["BOXWOOD_ACCEL", "nonsense", "auto, kvm or tcg"]);
}

#[test]
fn kvm_is_refused_at_once_and_with_a_figure_where_it_is_no_good() {
    let lab = Lab::new();
    let doctor = lab.boxwood(["doctor", "--json"]).output();
    let report: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let usable = report.to_string().contains("\"kvm: ");
    if usable {
        eprintln!("KVM is fast here: nothing to refuse");
        return;
    }
    let run = lab.run(["busybox", "true"]).env("BOXWOOD_ACCEL", "kvm");
    let refused = lab.refuses(run, &["BOXWOOD_ACCEL=kvm", "tcg"]);
    assert!(refused.took.as_secs_f64() < 2.0, "{refused:?}");
    let opens = std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
    let figure = refused.complaint().contains("million instructions per second");
    assert!(!opens || figure || refused.complaint().contains("does not work"), "{refused:?}");
}

#[test]
fn h13_a_home_that_cannot_be_made_is_refused() {
    let lab = Lab::new();
    let file: PathBuf = lab.folder().join("file");
    std::fs::write(&file, "").unwrap();
    for home in [file.clone(), file.join("home")] {
        let run = lab.run(["busybox", "true"]).env("BOXWOOD_HOME", &home);
        lab.refuses(run, &[file.to_str().unwrap()]);
    }
}
