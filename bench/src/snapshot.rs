//! Captures, restores and forks: how long a box stands still, when what comes of it answers, and what that
//! takes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use boxwood_tests::{Lab, Running};

use crate::start::step;
use crate::table::{SAMPLE, Sample, print};

const ROUNDS: usize = 5;
const CHILDREN: usize = 10;
const MIB: usize = 1 << 20;

/// All of it.
pub(crate) fn measure(count: Option<usize>) {
    let lab = Lab::of_installation();
    let rounds = count.unwrap_or(ROUNDS);
    captures(&lab, rounds);
    restores(&lab, rounds);
    forks(&lab, rounds);
    epochs(&lab, rounds.max(10));
}

/// A box with this much memory of its own, that hands on what it reads.
fn source(lab: &Lab, own: usize) {
    lab.boxwood(["run", "-d", "-i", "-m", "512m", "--name", "source", "busybox", "cat"])
        .output()
        .exits(0);
    dirty(lab, own);
}

fn dirty(lab: &Lab, bytes: usize) {
    let script = format!(
        "dd if=/dev/urandom of=/dev/shm/data bs=65536 count={} conv=notrunc 2>/dev/null",
        bytes >> 16
    );
    lab.exec(["source", "sh", "-c", &script]).output().exits(0);
}

/// The first capture of a box with 64 MiB of its own, and the second with 4 MiB changed.
fn captures(lab: &Lab, rounds: usize) {
    let titles = ["first, 64 MiB own", "second, 4 MiB changed"];
    let mut samples: Vec<[Sample; 3]> = titles.iter().map(|_| Default::default()).collect();
    let mut megabytes = [Sample::default(), Sample::default()];
    for _ in 0..rounds {
        source(lab, 64 * MIB - 65536);
        for number in 0..titles.len() {
            if number > 0 {
                dirty(lab, 4 * MIB);
            }
            let name = format!("number-{number}");
            let (created, felt) = felt_by_a_client(lab, &name);
            let [pause, total, gap] = &mut samples[number];
            total.add(created);
            gap.add(felt);
            let told = |format: &str| -> f64 {
                let inspect = ["snapshot", "inspect", "--format", format, &name];
                lab.boxwood(inspect).output().exits(0).word().parse().unwrap_or(f64::NAN)
            };
            pause.add_ms(told("{{.Pause.Microseconds}}") / 1000.0);
            megabytes[number].add_ms(told("{{.MemoryBytes}}") / 1e6);
        }
        lab.remove("source");
        (0..titles.len()).for_each(|number| lab.forget(&format!("number-{number}")));
    }
    let mut rows = Vec::new();
    for (at, title) in titles.iter().enumerate() {
        let parts = ["VM stands still", "command, start to end", "longest answer of main"];
        for (part, sample) in parts.iter().zip(&samples[at]) {
            rows.push(row(&format!("{title}: {part}"), sample));
        }
        let stored = format!("{title}: MB stored");
        rows.push(vec![stored, String::new(), format!("{:.1}", megabytes[at].median())]);
    }
    print("Captures of a 512 MiB box", &headings("snapshot create"), &rows);
}

/// Captures, while a client asks main as fast as it answers; tells how long the command and the longest
/// answer took.
fn felt_by_a_client(lab: &Lab, name: &str) -> (Duration, Duration) {
    let mut client = lab.boxwood(["attach", "source"]).spawn();
    let over = AtomicBool::new(false);
    let result = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            for number in 0.. {
                let asked = Instant::now();
                client.write(format!("<{number}>\n"));
                drop(client.says(&format!("<{number}>\n")));
                longest = longest.max(asked.elapsed());
                if over.load(Ordering::Relaxed) {
                    break;
                }
            }
            longest
        });
        let created = lab.boxwood(["snapshot", "create", "source", name]).output().exits(0).took;
        over.store(true, Ordering::Relaxed);
        (created, asking.join().unwrap_or_default())
    });
    drop(client);
    result
}

/// From the start of `restore` to the end of an `exec` in it.
fn restores(lab: &Lab, rounds: usize) {
    let [mut first, mut later] = [Sample::default(), Sample::default()];
    for _ in 0..rounds {
        source(lab, 32 * MIB);
        lab.boxwood(["snapshot", "create", "source", "warm"]).output().exits(0);
        for sample in [&mut first, &mut later] {
            let began = Instant::now();
            lab.restored("warm", "clone");
            lab.exec(["clone", "true"]).output().exits(0);
            sample.add(began.elapsed());
            lab.remove("clone");
        }
        lab.remove("source");
        lab.forget("warm");
    }
    let rows =
        [row("the first time, when its memory is not whole yet", &first), row("later", &later)];
    print("Restore to the first answer, 32 MiB own", &headings("restore; exec true"), &rows);
}

/// From the start of `fork` to the answer of the last child, and what idle children take.
fn forks(lab: &Lab, rounds: usize) {
    let [mut forked, mut answered] = [Sample::default(), Sample::default()];
    let mut untouched = Children::default();
    let mut asked_once = Children::default();
    for _ in 0..rounds {
        source(lab, 8 * MIB);
        let began = Instant::now();
        let names = fork(lab, "try");
        forked.add(began.elapsed());
        let asked: Vec<Running> =
            names.iter().map(|name| lab.exec([name, "true"]).spawn()).collect();
        asked.into_iter().for_each(|running| drop(running.wait().exits(0)));
        answered.add(began.elapsed());
        asked_once.look(lab, &names);
        names.iter().for_each(|name| lab.remove(name));
        let names = fork(lab, "still");
        // What their guests do after their rebirth is over by then.
        std::thread::sleep(Duration::from_secs(1));
        untouched.look(lab, &names);
        names.iter().for_each(|name| lab.remove(name));
        lab.remove("source");
    }
    let rows = [row("started", &forked), row("all answered", &answered)];
    print(&format!("fork -n {CHILDREN}"), &headings("until"), &rows);
    for (title, children) in
        [("nothing was asked of", &untouched), ("an exec was asked of", &asked_once)]
    {
        let title = format!("An idle child that {title} since, in MB");
        print(&title, &["", "n", "median", "least", "90 %", "most"], &children.rows());
    }
}

/// Forks the source, and says what the children are called.
fn fork(lab: &Lab, name: &str) -> Vec<String> {
    let number = CHILDREN.to_string();
    lab.boxwood(["fork", "-n", &number, "--name", name, "source"]).output().exits(0);
    (1..=CHILDREN).map(|number| format!("{name}-{number}")).collect()
}

/// What idle children take, in MB.
#[derive(Default)]
struct Children {
    own: Sample,
    shared: Sample,
    disk: Sample,
}

impl Children {
    fn look(&mut self, lab: &Lab, names: &[String]) {
        for name in names {
            let [private, pss] = memory_mb(lab.live(name).qemu.pid);
            self.own.add_ms(private);
            self.shared.add_ms(pss);
            let folder = lab.box_folder(&lab.inspect(name, "{{.Id}}"));
            self.disk.add_ms(own_bytes(&folder) as f64 / 1e6);
        }
    }

    fn rows(&self) -> [Vec<String>; 3] {
        [
            row("memory of its own (USS)", &self.own),
            row("with its share of what is shared (PSS)", &self.shared),
            row("disk of its own", &self.disk),
        ]
    }
}

/// From the start of the shim to the acknowledged epoch, in a small box and in a large one.
fn epochs(lab: &Lab, rounds: usize) {
    let sizes = ["128m", "4g"];
    let mut samples = [Sample::default(), Sample::default()];
    for size in sizes {
        lab.run(["-m", size, "busybox", "true"]).output().exits(0);
    }
    for _ in 0..rounds {
        for (size, sample) in sizes.iter().zip(&mut samples) {
            let run = lab.run(["--timings", "-m", size, "busybox", "true"]).output().exits(0);
            let reborn =
                run.complaint().lines().filter_map(step).find(|(name, _)| name == "reborn");
            sample.add_ms(reborn.map_or(f64::NAN, |(_, at)| at));
        }
    }
    let rows: Vec<_> = sizes.iter().zip(&samples).map(|(size, sample)| row(size, sample)).collect();
    print("Template to acknowledged epoch, from the start of the shim", &headings("memory"), &rows);
}

fn headings(first: &'static str) -> Vec<&'static str> {
    std::iter::once(first).chain(SAMPLE).collect()
}

fn row(title: &str, sample: &Sample) -> Vec<String> {
    std::iter::once(title.to_owned()).chain(sample.cells()).collect()
}

/// What only this process has, and its share of everything it has (proc(5), `smaps_rollup`).
fn memory_mb(pid: u32) -> [f64; 2] {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let sum = |fields: &[&str]| -> f64 {
        let lines = text.lines().filter(|line| fields.iter().any(|field| line.starts_with(field)));
        let kib =
            lines.filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse::<f64>().ok());
        kib.sum::<f64>() * 1024.0 / 1e6
    };
    [sum(&["Private_Clean:", "Private_Dirty:"]), sum(&["Pss:"])]
}

/// The bytes of a folder's files that nobody else has a name for.
fn own_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, meta)| match (meta.is_dir(), meta.nlink()) {
            (true, _) => own_bytes(&path),
            (false, 1) => meta.blocks() * 512,
            _ => 0,
        })
        .sum()
}
