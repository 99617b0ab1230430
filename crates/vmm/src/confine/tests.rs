//! What is left to a confined process, seen from inside.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use super::*;

/// Runs a shell script confined, and returns what it says on its standard error.
fn run(script: &str, descriptors: &[BorrowedFd<'_>]) -> String {
    let (mut read, write) = io::pipe().unwrap();
    let arguments = ["-c".to_owned(), format!("exec >&2; {script}")];
    let (mut child, _listener) = start(Confined {
        program: Path::new("/bin/sh"),
        arguments: &arguments,
        descriptors,
        stderr: write.into(),
        user: QemuUser::Same,
        device: None,
    })
    .unwrap();
    let mut said = String::new();
    read.read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    said
}

#[test]
fn only_the_descriptors_of_the_vm_are_left() {
    let kept = File::open("/dev/null").unwrap();
    let other = File::open("/dev/null").unwrap();
    // As somebody else's library may have opened it.
    rustix::io::fcntl_setfd(&other, rustix::io::FdFlags::empty()).unwrap();
    let number = kept.as_raw_fd();
    // The listing opens one more, and has closed it when the loop begins.
    let said =
        run("for fd in /proc/$$/fd/*; do [ -e $fd ] && echo ${fd##*/}; done", &[kept.as_fd()]);
    let mut numbers: Vec<i32> = said.lines().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, number]);
}

#[test]
fn nothing_can_be_written_or_made_where_the_kernel_has_landlock() {
    if sys::landlock_version() < 1 {
        eprintln!("skipped: this kernel has no Landlock");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "as it was").unwrap();
    let dir = dir.path().display();
    let said = run(
        &format!(
            "echo x >> {dir}/file || echo 1; mkdir {dir}/new || echo 2; rm {dir}/file || echo 3; \
             true > {dir}/new || echo 4; cat {dir}/file"
        ),
        &[],
    );
    let own: Vec<&str> = said.lines().filter(|line| !line.contains(": ")).collect();
    assert_eq!(own, ["1", "2", "3", "4", "as it was"], "{said}");
}

#[test]
fn memory_comes_in_small_pages() {
    let said = run("cat /proc/self/status", &[]);
    assert!(said.contains("THP_enabled:\t0\n"), "{said}");
}

#[test]
fn the_environment_is_empty_and_the_terminal_left() {
    let said =
        run("tr '\\0' '\\n' < /proc/$$/environ; echo /; pwd; echo $$; cat /proc/$$/stat", &[]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(&lines[..2], ["/", "/"], "{said}");
    let session = lines[3].rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap();
    assert_eq!(session, lines[2], "it leads a session of its own");
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let (_read, write) = io::pipe().unwrap();
    let error = start(Confined {
        program: Path::new("/nonexistent/qemu"),
        arguments: &[],
        descriptors: &[],
        stderr: write.into(),
        user: QemuUser::Same,
        device: None,
    })
    .unwrap_err();
    assert_eq!(error.to_string(), "can't start /nonexistent/qemu");
}

#[test]
fn a_drop_to_root_or_to_nobody_in_particular_is_refused() {
    for (uid, gid) in [(0, 7), (7, 0), (u32::MAX, 7), (7, u32::MAX)] {
        let (_read, write) = io::pipe().unwrap();
        let started = start(Confined {
            program: Path::new("/bin/true"),
            arguments: &[],
            descriptors: &[],
            stderr: write.into(),
            user: QemuUser::Drop { uid, gid },
            device: None,
        });
        let error = started.unwrap_err();
        assert_eq!(error.to_string(), "can't confine QEMU: dropping its user failed");
    }
    assert!(check_user(QemuUser::Drop { uid: 7, gid: 7 }).is_ok());
}

#[test]
fn a_step_that_fails_is_named_and_nothing_is_started() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let plan = sys::Plan {
        // More than any process may have.
        kept: vec![RawFd::MAX],
        user: QemuUser::Same,
        parent: rustix::process::getpid(),
        device: None,
        report: theirs.into(),
    };
    let mut command = Command::new("/bin/true");
    let error = explain(&ours, Path::new("/q"), sys::spawn(&mut command, plan).unwrap_err());
    assert!(
        matches!(&error, Error::Confine { step, source }
            if *step == STEPS[1] && source.raw_os_error() == Some(9)),
        "{error:?}"
    );
}

#[test]
fn h13_a_device_that_is_roots_alone_is_refused_with_what_to_do() {
    use std::os::unix::fs::PermissionsExt;

    let file = tempfile::NamedTempFile::new().unwrap();
    let own = QemuUser::Drop { uid: 0x7000_0000, gid: 0x7000_0000 };
    let with_mode = |mode| {
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    with_mode(0o606);
    assert!(find_device(file.path(), own).is_ok());
    with_mode(0o600);
    assert!(find_device(file.path(), QemuUser::Same).is_ok());
    let error = find_device(file.path(), own).err().unwrap().to_string();
    assert!(error.contains("chmod 660"), "{error}");
    // Root's group would be a right too many.
    with_mode(0o660);
    let is_roots = rustix::fs::stat(file.path()).unwrap().st_gid == 0;
    assert_eq!(find_device(file.path(), own).is_err(), is_roots);
}
