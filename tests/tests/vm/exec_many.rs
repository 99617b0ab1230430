//! Contracts G2, G3 and G5 for very many sessions and very many bytes. What is done here some hundred
//! times is done some ten thousand times with `BOXWOOD_TEST_TIMES=50`.

use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};

use boxwood_tests::{Lab, archive, times};

const AT_A_TIME: usize = 8;
const MIB: usize = 1 << 20;
/// What memory may grow by, in KiB.
const GROWTH: u64 = 2048;
/// Descriptors of what a guest makes ahead: eight for each of eight sessions.
const READY: u64 = 64;

fn noise(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

/// Does something that many times, some at a time; each time has its own number.
fn many(count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    match next.fetch_add(1, Ordering::Relaxed) {
                        number if number < count => work(number),
                        _ => return,
                    }
                }
            });
        }
    });
}

/// What a guest and a shim take that are left alone: KiB of memory and descriptors of both, and the
/// zombies in the box.
#[derive(Debug)]
struct Taken {
    guest_kib: u64,
    guest_files: u64,
    shim_kib: u64,
    shim_files: u64,
    zombies: u64,
}

impl Taken {
    fn by(lab: &Lab, name: &str) -> Taken {
        let script = "while read key value rest; do [ $key = VmRSS: ] && echo $value; done < /proc/1/status; \
            ls /proc/1/fd | wc -l; cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z '";
        let run = lab.exec([name, "sh", "-c", script]).output();
        let numbers: Vec<u64> = run.lines().iter().map(|line| line.parse().unwrap()).collect();
        let [guest_kib, guest_files, zombies] = numbers[..] else { panic!("{run:?}") };
        let shim = lab.live(name).shim.pid;
        let status = std::fs::read_to_string(format!("/proc/{shim}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        let shim_kib = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        let files = std::fs::read_dir(format!("/proc/{shim}/fd")).unwrap().count();
        Taken { guest_kib, guest_files, shim_kib, shim_files: files as u64, zombies }
    }

    fn has_not_grown_since(&self, before: &Taken) {
        let both = format!("before: {before:?}\nafter: {self:?}");
        assert!(self.guest_kib <= before.guest_kib + GROWTH, "{both}");
        assert!(self.shim_kib <= before.shim_kib + GROWTH, "{both}");
        // What the guest has ready for the next sessions may just be used or made.
        assert!(self.guest_files <= before.guest_files + READY, "{both}");
        // A connection may just be closed.
        assert!(self.shim_files <= before.shim_files + 8, "{both}");
        assert_eq!(self.zombies, 0, "{both}");
    }
}

#[test]
fn g2_each_of_many_sessions_has_its_own_end_and_bytes_and_nothing_grows() {
    let lab = Lab::new();
    lab.idle("web");
    let input = noise(64 * 1024);
    // The first of all sizes fill what is kept for the next.
    let round = |number: usize| {
        let random = noise(4);
        let size = usize::from(u16::from_le_bytes([random[0], random[1]]));
        let end = usize::from(random[2]);
        let signals = [1, 2, 6, 9, 11, 13, 15];
        let (script, code) = if random[3] < 64 {
            let signal = signals[end % signals.len()];
            (format!("cat; echo {number} >&2; kill -{signal} $$"), 128 + signal)
        } else {
            (format!("cat; echo {number} >&2; exit {end}"), end)
        };
        let sent = &input[..size];
        let run = lab.exec(["-i", "web", "sh", "-c", &script]).stdin(sent).output();
        assert!(run.stdout == sent, "{number}: {size} bytes went in, others came out");
        let told = (run.code(), run.complaint());
        assert_eq!(told, (i32::try_from(code).ok(), format!("{number}\n")), "{script}");
    };
    many(100, round);
    let before = Taken::by(&lab, "web");
    many(times(200), round);
    Taken::by(&lab, "web").has_not_grown_since(&before);
    assert_eq!(lab.state("web"), "running");
    lab.remove("web");
}

#[test]
fn g2_orphans_leave_no_zombies_and_take_nobodys_code() {
    let lab = Lab::new();
    lab.idle("web");
    // Each forks twice and leaves a grandchild that ends in the same instant as the session.
    many(times(100), |number| {
        let code = number % 256;
        let run = lab.exec(["web", "sh", "-c", &format!("( : & ); exit {code}")]).output();
        run.exits(i32::try_from(code).unwrap()).quietly();
    });
    // And a thousand at once; the pause is part of what is asked: gone 50 ms later.
    let script = "i=0; while [ $i -lt 1000 ]; do ( : & ); i=$((i+1)); done; sleep 0.05; \
        cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z '; exit 7";
    lab.exec(["web", "sh", "-c", script]).output().exits(7).prints("0\n").quietly();
    let reaped: usize = lab.inspect("web", "{{.State.Guest.OrphansReaped}}").parse().unwrap();
    assert_eq!(reaped, times(100) + 1000);
    lab.remove("web");
}

#[test]
fn g3_a_process_left_in_the_background_delays_none_of_many_sessions() {
    let lab = Lab::new();
    lab.idle("web");
    for _ in 0..100 {
        let run = lab.exec(["web", "sh", "-c", "sleep 600 & echo done"]).output();
        run.exits(0).prints("done\n").quietly();
    }
    // As in a container, they go on.
    let run = lab.exec(["web", "sh", "-c", "cat /proc/[0-9]*/comm | grep -c '^sleep$'"]);
    run.output().exits(0).prints("101\n");
    lab.remove("web");
}

#[test]
fn g5_many_mebibytes_go_in_and_come_out_unchanged() {
    let lab = Lab::new();
    lab.idle("web");
    let before = Taken::by(&lab, "web");
    let file = lab.folder().join("noise");
    let (part, parts) = (noise(MIB), times(16));
    let sent = part.repeat(parts);
    std::fs::write(&file, &sent).unwrap();
    let run = lab.exec(["-i", "web", "cat"]).stdin_from(File::open(&file).unwrap()).output();
    assert_eq!(archive::digest(&run.stdout), archive::digest(&sent));
    run.exits(0).quietly();
    let after = Taken::by(&lab, "web");
    assert!(after.guest_kib <= before.guest_kib + 16 * 1024, "{before:?} {after:?}");
    assert!(after.shim_kib <= before.shim_kib + 16 * 1024, "{before:?} {after:?}");
    lab.remove("web");
}
