//! Ending processes that are ours, were ours, or never were.

use std::process::{Command, Stdio};

use super::*;

const SOON: Duration = Duration::from_secs(10);

fn start(program: &str, arguments: &[&str]) -> Process {
    let arguments: Vec<String> = arguments.iter().map(|argument| argument.to_string()).collect();
    let request = SpawnRequest {
        program: Path::new(program),
        arguments: &arguments,
        descriptors: &[],
        user: QemuUser::Same,
        device: None,
    };
    spawn(request).unwrap().0
}

#[tokio::test]
async fn h3_a_process_is_reaped_once_and_its_end_is_told_to_all_who_ask() {
    let mut process = start("/bin/sleep", &["1000"]);
    let ended = process.end(SOON).await.unwrap();
    let exit = VmExit { status: VmStatus::Signaled(9), words: String::new() };
    assert_eq!(ended, Ended::Reaped(exit.clone()));
    assert_eq!(process.end(SOON).await.unwrap(), Ended::Reaped(exit.clone()));
    assert_eq!(process.exited().await, exit);
    assert_eq!(exit.to_string(), "killed by SIGKILL");
    assert!(!Path::new(&format!("/proc/{}", process.pid())).exists());
}

#[tokio::test]
async fn h2_an_exit_code_and_the_last_words_are_exact() {
    let mut process = start("/bin/sh", &["-c", "echo qemu: bad option >&2; exit 7"]);
    let exit = process.exited().await;
    assert_eq!(exit.status, VmStatus::Exited(7));
    assert_eq!(exit.to_string(), "exit code 7 (qemu: bad option)");
}

#[tokio::test]
async fn h2_a_child_reaped_by_somebody_else_is_unknown_and_not_invented() {
    let mut process = start("/bin/sh", &["-c", "exit 3"]);
    // Somebody with a waitpid(-1), on another thread; the event loop has not run yet.
    let pid = Pid::from_raw(process.pid() as i32).unwrap();
    let thief = std::thread::spawn(move || {
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED).unwrap();
    });
    thief.join().unwrap();
    assert_eq!(process.exited().await.status, VmStatus::Unknown);
    assert_eq!(process.end(SOON).await.unwrap(), Ended::NotOurs);
}

#[tokio::test]
async fn h2_a_burst_of_64_is_reaped_to_the_last() {
    let mut all: Vec<Process> =
        (0..64).map(|n| start("/bin/sh", &["-c", &format!("exit {n}")])).collect();
    for (n, process) in all.iter_mut().enumerate() {
        assert_eq!(process.exited().await.status, VmStatus::Exited(n as i32));
    }
}

/// Children of this process that ended and that nobody has waited for.
fn zombies(pids: &[u32]) -> usize {
    let own = std::process::id().to_string();
    let is_zombie = |pid: &&u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        fields.next() == Some("Z") && fields.next() == Some(&own)
    };
    pids.iter().filter(is_zombie).count()
}

/// Lets this process have as many descriptors as it may.
fn have_many_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

#[tokio::test]
async fn h2_1024_that_end_at_the_same_moment_are_each_told_once_with_their_own_code() {
    const MANY: usize = 1024;
    have_many_descriptors();
    let code = |n: usize| (n % 251) as i32;
    let (waited_for, held) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    // All of them read one pipe, and end when it is closed.
    let processes: Vec<Process> = (0..MANY)
        .map(|n| {
            let number = std::os::fd::AsRawFd::as_raw_fd(&waited_for);
            let script = format!("read -u {number}; exit {}", code(n));
            let request = SpawnRequest {
                program: Path::new("/bin/bash"),
                arguments: &["-c".to_owned(), script],
                descriptors: &[waited_for.as_fd()],
                user: QemuUser::Same,
                device: None,
            };
            spawn(request).unwrap().0
        })
        .collect();
    let pids: Vec<u32> = processes.iter().map(Process::pid).collect();
    let mut ends = tokio::task::JoinSet::new();
    for (n, mut process) in processes.into_iter().enumerate() {
        ends.spawn(async move { (n, process.exited().await.status) });
    }
    assert!(ends.try_join_next().is_none(), "they wait");
    let began = Instant::now();
    drop(held);
    let mut told = timeout(Duration::from_secs(60), ends.join_all()).await.expect("all end");
    let took = began.elapsed();
    assert_eq!(zombies(&pids), 0);
    told.sort_by_key(|(n, _)| *n);
    let expected: Vec<_> = (0..MANY).map(|n| (n, VmStatus::Exited(code(n)))).collect();
    assert_eq!(told, expected);
    println!("{MANY} ends were told in {took:?}");
}

#[tokio::test]
async fn h4_what_is_awaited_ends_with_the_process_or_the_deadline() {
    let mut process = start("/bin/sh", &["-c", "exit 1"]);
    let never = std::future::pending::<Result<(), Error>>();
    let error = process.during("boot", Limit::of(SOON), never).await.unwrap_err();
    assert!(matches!(error, Error::VmDied { doing: "boot", .. }), "{error}");
    let mut process = start("/bin/sleep", &["1000"]);
    let never = std::future::pending::<Result<(), Error>>();
    let limit = Limit::of(Duration::from_millis(20));
    let error = process.during("boot", limit, never).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("QEMU (pid {}) did not boot within 0.02 s", process.pid())
    );
}

#[tokio::test]
async fn h1_the_process_dies_with_the_thread_that_started_it() {
    let pid = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let process = runtime.block_on(async { start("/bin/sleep", &["1000"]) });
        let pid = process.pid();
        // Neither dropped nor ended, as after a SIGKILL.
        std::mem::forget(process);
        std::mem::forget(runtime);
        pid
    })
    .join()
    .unwrap();
    let deadline = Instant::now() + SOON;
    let alive = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
    };
    while alive() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn h3_recovery_ends_what_it_means_and_nothing_else() {
    let mut child = Command::new("/bin/sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    let identity = Identity::of(child.id()).unwrap();
    // The same pid, started at another time, or in another boot: not what is meant.
    let earlier = Identity { started: identity.started - 1, ..identity.clone() };
    assert_eq!(earlier.end(SOON).await.unwrap(), Ended::NotOurs);
    let other_boot = Identity { boot_id: "another".into(), ..identity.clone() };
    assert_eq!(other_boot.end(SOON).await.unwrap(), Ended::NotOurs);
    assert!(child.try_wait().unwrap().is_none(), "it was not touched");
    assert!(matches!(identity.end(SOON).await.unwrap(), Ended::Reaped(_)));
    child.wait().unwrap();
    assert_eq!(identity.end(SOON).await.unwrap(), Ended::NotOurs);
}
