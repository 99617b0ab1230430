//! What a box takes that does nothing.

use std::fs;
use std::time::{Duration, Instant};

use boxwood_tests::{Lab, Live};

use crate::table::print;

const BOXES: usize = 10;
/// How long they are looked at.
const WHILE: Duration = Duration::from_secs(30);
/// Clock ticks a second in `/proc/PID/stat` (`sysconf(_SC_CLK_TCK)`, 100 on every Linux of x86-64).
const TICKS: f64 = 100.0;

/// Memory and processor time of idle boxes.
pub(crate) fn measure(count: Option<usize>) {
    let lab = Lab::of_installation();
    let names: Vec<String> =
        (0..count.unwrap_or(BOXES)).map(|number| format!("idle-{number}")).collect();
    let began = Instant::now();
    for name in &names {
        lab.detached(name, ["busybox", "sleep", "100000"]);
    }
    let started = began.elapsed().as_secs_f64();
    let boxes: Vec<Live> = names.iter().map(|name| lab.live(name)).collect();
    let ticks = || -> Vec<[f64; 2]> {
        boxes.iter().map(|live| [live.qemu.pid, live.shim.pid].map(cpu_ticks)).collect()
    };
    let before = ticks();
    // The measurement is of this time: nothing is waited for.
    std::thread::sleep(WHILE);
    let after = ticks();
    let mut rows = Vec::new();
    let mut sums = [0.0; 4];
    for (at, live) in boxes.iter().enumerate() {
        let [qemu, shim] = [0, 1].map(|which| {
            (after[at][which] - before[at][which]) / TICKS / WHILE.as_secs_f64() * 100.0
        });
        let pss = memory_mib(live.qemu.pid, "smaps_rollup", "Pss:");
        let rss = memory_mib(live.shim.pid, "status", "VmRSS:");
        let figures = [pss, rss, qemu, shim];
        sums.iter_mut().zip(figures).for_each(|(sum, figure)| *sum += figure);
        rows.push(row(&names[at], figures));
    }
    rows.push(row("all", sums));
    rows.push(row("mean", sums.map(|sum| sum / names.len() as f64)));
    let title = format!("{} idle boxes, all started after {started:.1} s", names.len());
    let headings = ["box", "QEMU PSS MiB", "shim RSS MiB", "QEMU CPU %", "shim CPU %"];
    print(&title, &headings, &rows);
    for name in &names {
        lab.remove(name);
    }
}

fn row(title: &str, [pss, rss, qemu, shim]: [f64; 4]) -> Vec<String> {
    let mib = |value: f64| format!("{value:.1}");
    let percent = |value: f64| format!("{value:.2}");
    vec![title.to_owned(), mib(pss), mib(rss), percent(qemu), percent(shim)]
}

/// User and system time of a process.
fn cpu_ticks(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields = after_name.split_ascii_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum()
}

fn memory_mib(pid: u32, file: &str, field: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.split_ascii_whitespace().next());
    kib.and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}
