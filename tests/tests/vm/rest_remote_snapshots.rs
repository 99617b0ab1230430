//! `--host`: snapshots, forks and pools, asked of a daemon. What is said and returned is what is said and
//! returned here.

use std::fs;
use std::io::{self, Read, Write};

use boxwood_tests::{Daemon, Invocation, Lab};
use rustix::process::Signal;

use crate::pools::{full, processes, set};
use crate::rest_remote::there;

/// A box whose main keeps data in memory and on its disk.
fn source(lab: &Lab) -> String {
    let script = "echo data | tee /data > /dev/shm/data; echo ready; exec sleep 100000";
    lab.detached("web", ["busybox", "sh", "-c", script]);
    lab.logged("web", "ready\n");
    lab.inspect("web", "{{.Id}}")
}

/// The data is there, in memory and on the disk, or on the disk alone.
#[track_caller]
fn has(lab: &Lab, name: &str, files: &[&str]) {
    for file in ["/data", "/dev/shm/data"] {
        let code = i32::from(!files.contains(&file));
        lab.exec([name, "test", "-e", file]).output().exits(code);
    }
}

/// The same verb says the same here and there.
#[track_caller]
fn says_the_same(lab: &Lab, daemon: &Daemon, args: &[&str]) {
    let (here, there) = (lab.boxwood(args).output(), there(lab, daemon, args).output());
    assert_eq!(here.code(), there.code(), "{args:?}");
    assert_eq!((here.text(), here.complaint()), (there.text(), there.complaint()), "{args:?}");
}

#[test]
fn s1_a_box_is_captured_and_restored_over_a_daemon() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let say = |args: &[&str]| there(&lab, &daemon, args).output();
    source(&lab);
    say(&["snapshot", "create", "web", "warm"]).exits(0).quietly().prints("warm\n");
    say(&["snapshot", "create", "--disk-only", "web", "disk"]).exits(0).quietly().prints("disk\n");
    for args in [
        &["snapshot", "ls"][..],
        &["snapshot", "ls", "-q"],
        &["snapshot", "ls", "--format", "{{.Name}} {{.ID}} {{.Box}} {{.CreatedAt}} {{.Size}}"],
        &["snapshot", "inspect", "warm", "nothing", "disk"],
        &["snapshot", "inspect", "-f", "{{.Pause.Microseconds}} {{.Source.Labels}}", "warm"],
        &["snapshot", "verify", "warm", "disk"],
        &["snapshot", "verify", "nothing"],
        &["snapshot", "rm", "nothing", "../warm"],
        &["snapshot", "export", "nothing"],
        &["snapshot", "create", "web", "warm"],
        &["snapshot", "create", "nothing", "other"],
        &["restore", "nothing"],
        &["restore", "disk"],
        &["restore", "--name", "web", "warm"],
        &["restore", "-e", "=x", "warm"],
        &["fork", "nothing"],
        &["fork", "--name", "web", "web"],
    ] {
        says_the_same(&lab, &daemon, args);
    }
    let id = say(&["restore", "--name", "two", "-e", "MODE=test", "-l", "job=7", "warm"]);
    let id = id.exits(0).quietly().word();
    assert_eq!(lab.inspect("two", "{{.Id}}"), id);
    assert_eq!(lab.inspect("two", "{{.Config.Labels.job}}"), "7");
    has(&lab, "two", &["/data", "/dev/shm/data"]);
    lab.exec(["two", "sh", "-c", "echo $MODE"]).output().exits(0).prints("test\n");
    say(&["restore", "--disk-only", "--rm", "--name", "three", "disk"]).exits(0).quietly();
    lab.logged("three", "ready\n");
    say(&["stop", "-t", "0", "three"]).exits(0);
    say(&["inspect", "three"]).exits(125);
    say(&["snapshot", "rm", "warm", "disk"]).exits(0).quietly().prints("warm\ndisk\n");
    assert_eq!(lab.boxwood(["snapshot", "ls", "-q"]).output().exits(0).text(), "");
    // It does not need what it was made of.
    has(&lab, "two", &["/data", "/dev/shm/data"]);
    assert!(!lab.folder().join("nothing").exists(), "the home it was given was looked at");
    lab.remove("two");
    lab.remove("web");
    daemon.stop();
}

#[test]
fn s1_a_snapshot_is_carried_over_a_daemon() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let say = |args: &[&str]| there(&lab, &daemon, args);
    source(&lab);
    lab.snapshot("web", "warm");
    let path = lab.folder().join("warm.bxs");
    let path = path.to_str().unwrap();
    let whole = lab.boxwood(["snapshot", "export", "warm"]).output().exits(0).stdout;
    say(&["snapshot", "export", "-o", path, "warm"]).output().exits(0).quietly().prints("");
    assert!(fs::read(path).unwrap() == whole, "the file is not what export writes here");
    assert!(say(&["snapshot", "export", "warm"]).output().exits(0).quietly().stdout == whole);
    let nowhere = "/nowhere/warm.bxs";
    say(&["snapshot", "export", "-o", nowhere, "warm"]).output().refused(&["can't write", nowhere]);
    // What was not asked for is not there, not even half of it.
    say(&["snapshot", "export", "-o", &format!("{path}.2"), "nothing"])
        .output()
        .refused(&["no such snapshot: nothing"]);
    let left: Vec<_> =
        fs::read_dir(lab.folder()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains(".bxs.")), "{left:?}");
    let import = |args: &[&str]| say(&[&["snapshot", "import"], args].concat());
    import(&["-i", path]).output().refused(&["there is a snapshot named 'warm' already"]);
    import(&["-i", path, "from-file"]).output().exits(0).quietly().prints("from-file\n");
    import(&["from-pipe"]).stdin(whole.clone()).output().exits(0).quietly().prints("from-pipe\n");
    import(&["half"]).stdin(&whole[..whole.len() / 2]).output().refused(&["no snapshot"]);
    import(&["none"]).stdin("no archive").output().refused(&["no snapshot"]);
    import(&["none"]).stdin("").output().refused(&["no snapshot"]);
    let names = lab.boxwood(["snapshot", "ls", "-q"]).output().exits(0).lines();
    assert_eq!(names.len(), 3, "{names:?}");
    for name in ["from-file", "from-pipe"] {
        say(&["snapshot", "verify", name]).output().exits(0);
        lab.restored(name, name);
        has(&lab, name, &["/data", "/dev/shm/data"]);
        lab.remove(name);
        lab.forget(name);
    }
    lab.forget("warm");
    lab.remove("web");
    daemon.stop();
}

#[test]
fn s1_an_export_over_a_daemon_that_fails_half_way_says_why() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let script = "head -c 50000000 /dev/urandom > /dev/shm/data; echo ready; exec sleep 1000";
    lab.detached("web", ["busybox", "sh", "-c", script]);
    lab.logged("web", "ready\n");
    lab.snapshot("web", "warm");
    // Neither has been sent as a whole while nobody reads.
    let (mut reader, writer) = std::io::pipe().unwrap();
    let export = there(&lab, &daemon, &["snapshot", "export", "warm"]);
    let export = export.stdout_to(writer).spawn();
    let mut wire = daemon.connect();
    wire.write_all(b"GET /v1/snapshots/warm/export HTTP/1.1\r\nHost: box\r\n\r\n").unwrap();
    reader.read_exact(&mut [0; 1]).unwrap();
    wire.read_exact(&mut [0; 1]).unwrap();
    let state = lab.home().join("snapshots/warm/state");
    fs::remove_file(&state).unwrap();
    let read = std::thread::spawn(move || io::copy(&mut reader, &mut io::sink()).unwrap());
    export.wait().refused(&["open", state.to_str().unwrap(), "No such file"]);
    assert!(read.join().unwrap() > 50_000_000);
    // For who does not ask for the reason it breaks off.
    let mut rest = Vec::new();
    let _ = wire.read_to_end(&mut rest);
    assert!(rest.len() > 50_000_000 && !rest.ends_with(b"\r\n\r\n"), "{} bytes", rest.len());
    lab.forget("warm");
    lab.remove("web");
    daemon.stop();
}

#[test]
fn s3_a_box_is_forked_over_a_daemon() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let say = |args: &[&str]| there(&lab, &daemon, args).output();
    source(&lab);
    let one = say(&["fork", "web"]).exits(0).quietly().word();
    has(&lab, &one, &["/data", "/dev/shm/data"]);
    lab.remove(&one);
    // One of the names is taken: the others run all the same, and it is said and returned as here.
    lab.boxwood(["create", "--name", "try-2", "busybox", "true"]).output().exits(0);
    let forked = say(&["fork", "-n", "3", "--name", "try", "--rm", "web"]).exits(125);
    let ids = [lab.inspect("try-1", "{{.Id}}"), lab.inspect("try-3", "{{.Id}}")];
    assert_eq!(forked.lines(), ids);
    assert!(forked.complaint().contains("the name 'try-2' is in use"), "{}", forked.complaint());
    assert_eq!(forked.complaint().lines().count(), 1, "{}", forked.complaint());
    for name in ["try-1", "try-3"] {
        has(&lab, name, &["/data", "/dev/shm/data"]);
        assert_eq!(lab.inspect(name, "{{.HostConfig.AutoRemove}}"), "true");
        lab.remove(name);
    }
    lab.remove("try-2");
    lab.remove("web");
    daemon.stop();
}

#[test]
fn s3_a_pool_is_set_and_listed_over_a_daemon() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let say = |args: &[&str]| there(&lab, &daemon, args).output();
    says_the_same(&lab, &daemon, &["pool", "ls"]);
    say(&["pool", "set", "1"]).exits(0).quietly().prints("");
    let members = full(&lab, 1);
    for args in [
        &["pool", "ls", "-q"][..],
        &["pool", "ls", "--format", "{{.ID}} {{.Shape}} {{.Image}} {{.CreatedAt}} {{.Status}}"],
        &["pool", "set", "--image", "no/such", "1"],
        &["pool", "set", "1001"],
    ] {
        says_the_same(&lab, &daemon, args);
    }
    say(&["run", "-d", "--name", "web", "busybox", "sleep", "1000"]).exits(0);
    assert_ne!(full(&lab, 1), members, "the box did not take it over");
    lab.remove("web");
    say(&["pool", "set", "0"]).exits(0).quietly();
    assert!(!lab.home().join("pool").exists());
    daemon.stop();
}

/// `boxwood refill`, as a claim starts it, for what was claimed.
fn refill(lab: &Lab, claimed: &str) -> Invocation {
    let script = "exec \"$0\" refill \"$1\" \"$2\" 3</dev/null";
    let home = lab.home().to_str().unwrap().to_owned();
    lab.program("sh").args(["-c", script]).args([lab.binary()]).args([home.as_str(), claimed])
}

#[test]
fn a_pool_that_can_not_be_filled_says_so_until_it_can() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    set(&lab, &["2"]);
    let whole = |id: &str| {
        let members = fs::read_dir(lab.home().join("pool")).unwrap().map(Result::unwrap);
        members.map(|entry| entry.path()).find(|path| path.to_str().unwrap().contains(id)).unwrap()
    };
    let spec = fs::read_to_string(whole(&full(&lab, 2)[0]).join("member.json")).unwrap();
    let told = |words: &[&str]| {
        for output in
            [lab.boxwood(["pool", "ls"]).output(), there(&lab, &daemon, &["pool", "ls"]).output()]
        {
            let complaint = output.exits(0).complaint();
            assert!(
                complaint.starts_with("boxwood: the pool of 1cpu-512mib could not be filled"),
                "{complaint}"
            );
            assert!(words.iter().all(|word| complaint.contains(word)), "{complaint}");
            assert_eq!(complaint.lines().count(), 1, "{complaint}");
        }
    };
    let told_of_nothing = || {
        lab.boxwood(["pool", "ls"]).output().exits(0).quietly();
        assert_eq!(daemon.get("/v1/pool").is(200).json()["failures"], serde_json::json!([]));
    };
    let kill_one = || {
        rustix::process::kill_process(processes(&lab, true)[0], Signal::KILL).unwrap();
        full(&lab, 1);
    };
    told_of_nothing();
    // Nobody waits for a VM that dies while it waits.
    kill_one();
    told(&["its VM has ended"]);
    // Nor does who makes up for a claim have anybody who listens.
    let mut broken: serde_json::Value = serde_json::from_str(&spec).unwrap();
    broken["template"]["store"] = "/nowhere".into();
    refill(&lab, &broken.to_string()).output().exits(1);
    told(&["/nowhere", "No such file"]);
    // It can be filled, so nothing is told of that any more.
    set(&lab, &["2"]);
    full(&lab, 2);
    told_of_nothing();
    // Nor when no more are wanted than there are, or half of it is left by a crash.
    kill_one();
    told(&["its VM has ended"]);
    fs::write(lab.home().join("pool.failure.1cpu-512mib"), "").unwrap();
    told_of_nothing();
    fs::write(lab.home().join("pool.failure.1cpu-512mib"), r#"{"time": "x"#).unwrap();
    set(&lab, &["1"]);
    told_of_nothing();
    set(&lab, &["0"]);
    lab.boxwood(["pool", "ls"]).output().exits(0).quietly();
    assert!(!lab.home().join("pool.failure.1cpu-512mib").exists());
    daemon.stop();
}
