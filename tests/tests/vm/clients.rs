//! Contracts G6 and H3 at a box's control socket: clients that come and go, and many at the same time, cost
//! the shim nothing for good and keep nobody from ending the box.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use boxwood_tests::{Lab, Process};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A frame of a client: what it asks, in JSON.
fn asked(request: &str) -> Vec<u8> {
    let length = u32::try_from(request.len()).unwrap().to_le_bytes();
    [&[REQUEST], &length[..], request.as_bytes()].concat()
}

/// The kind of a frame that asks.
const REQUEST: u8 = 1;

fn connect(lab: &Lab, id: &str) -> UnixStream {
    UnixStream::connect(lab.box_folder(id).join("control.sock")).unwrap()
}

/// Descriptors that the shim has open; what happened to its clients before is done.
fn descriptors(lab: &Lab, name: &str) -> usize {
    lab.exec([name, "true"]).output().exits(0).quietly();
    Process::get(lab.live(name).shim.pid).unwrap().files().len()
}

/// Room for so many connections in this process.
fn many_descriptors() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

#[test]
fn g6_clients_that_go_leave_no_descriptor_in_the_shim() {
    let lab = Lab::new();
    let id = lab.idle("web");
    let before = descriptors(&lab, "web");
    for request in ["\"wait\"", "\"result\"", "\"attach\"", "\"replay\""] {
        for _ in 0..10 {
            let mut client = connect(&lab, &id);
            client.write_all(&asked(request)).unwrap();
        }
    }
    let after = descriptors(&lab, "web");
    assert!(after <= before + 1, "{before} descriptors, and then {after}");
    // Of one that only sends no more, the answer is awaited.
    let mut client = connect(&lab, &id);
    client.write_all(&asked("\"wait\"")).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(descriptors(&lab, "web") > before);
    lab.remove("web");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert!(String::from_utf8_lossy(&answer).contains("ended"), "{answer:?}");
}

#[test]
fn g6_a_client_that_asks_the_same_a_hundred_thousand_times_waits_once() {
    let lab = Lab::new();
    let id = lab.idle("web");
    let shim = lab.live("web").shim.pid;
    descriptors(&lab, "web");
    let before = resident(shim);
    let mut client = connect(&lab, &id);
    for _ in 0..100 {
        client.write_all(&asked("\"wait\"").repeat(10_000)).unwrap();
    }
    descriptors(&lab, "web");
    let grown = resident(shim).saturating_sub(before);
    assert!(grown < 4096, "it has grown by {grown} KiB");
    lab.remove("web");
}

#[test]
fn h12_a_command_of_600_000_words_takes_memory_and_journal_for_no_longer_than_it_is_asked_for() {
    let lab = Lab::new();
    let id = lab.idle("web");
    let shim = lab.live("web").shim.pid;
    descriptors(&lab, "web");
    let before = resident(shim);
    let words = vec!["\"a\""; 600_000].join(",");
    let process = format!(
        r#"{{"argv":[{words}],"entrypoint_len":0,"env":[],"cwd":"/","user":"root","open_stdin":true,"terminal":null}}"#
    );
    let request = format!(
        r#"{{"exec":{{"exec":{{"process":{process},"timeout_ms":null,"client":"attached"}}}}}}"#
    );
    let mut client = connect(&lab, &id);
    client.write_all(&asked(&request)).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert!(String::from_utf8_lossy(&answer).contains("session_ended"), "{answer:?}");
    let grown = resident(shim).saturating_sub(before);
    assert!(grown < 8 << 10, "it has grown by {grown} KiB");
    let told = lab.boxwood(["events", "--since", "1h", "--until", "0s"]).output().exits(0).text();
    assert!(told.len() < 64 << 10, "{} bytes are told of it", told.len());
    lab.remove("web");
}

/// KiB of memory that a process has in use.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Everything that can be done to a box, and then its end.
fn can_be_used_and_ended(lab: &Lab, name: &str) {
    lab.exec([name, "echo", "hi"]).output().exits(0).prints("hi\n");
    lab.boxwood(["pause", name]).output().exits(0);
    lab.boxwood(["unpause", name]).output().exits(0);
    lab.boxwood(["top", name]).output().exits(0);
    lab.boxwood(["stop", "-t", "1", name]).output().exits(0);
    lab.remove(name);
}

#[test]
fn h3_a_box_can_be_ended_whatever_number_of_clients_is_connected() {
    many_descriptors();
    let lab = Lab::new();
    for limits in ["ulimit -Sn 1024", "ulimit -Sn 400; ulimit -Hn 400"] {
        let start = format!("{limits}; exec \"$0\" run -d --name web busybox sleep 100000");
        let started = lab.program("sh").args(["-c", &start]).args([lab.binary()]).output();
        let id = started.exits(0).quietly().word();
        let _silent: Vec<_> = (0..1200).map(|_| connect(&lab, &id)).collect();
        assert_eq!(soft_limit(lab.live("web").qemu.pid), soft_limit_of(limits));
        can_be_used_and_ended(&lab, "web");
    }
}

fn soft_limit_of(limits: &str) -> &str {
    if limits.contains("1024") { "1024" } else { "400" }
}

fn soft_limit(pid: u32) -> String {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    line.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn h3_a_box_for_which_many_wait_can_be_ended() {
    many_descriptors();
    let lab = Lab::new();
    let id = lab.idle("web");
    let wait = || {
        let mut client = connect(&lab, &id);
        client.write_all(&asked("\"wait\"")).unwrap();
        client
    };
    let waiting: Vec<_> = (0..600).map(|_| wait()).collect();
    lab.boxwood(["wait", "web"]).output().refused(&["clients wait for it"]);
    lab.exec(["web", "echo", "hi"]).output().exits(0).prints("hi\n");
    lab.remove("web");
    let heard = waiting.into_iter().filter_map(|mut client| {
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer).contains("\"ended\""))
    });
    assert!(heard.filter(|ended| *ended).count() >= 500);
}
