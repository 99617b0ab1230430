//! Processes beside main: one after the other, many at once, and beside what the box itself takes for the
//! same; and how soon `wait` has main's result.

use std::time::{Duration, Instant};

use boxwood_tests::Lab;

use crate::table::{SAMPLE, Sample, print};

const ROUNDS: usize = 200;
/// Programs in one loop in the box.
const IN_BOX: usize = 200;

/// All of it.
pub(crate) fn measure(count: Option<usize>) {
    let lab = Lab::of_installation();
    let rounds = count.unwrap_or(ROUNDS);
    let mut rows = Vec::new();
    let mut row = |title: &str, sample: &Sample| {
        let mut cells = vec![title.to_owned()];
        cells.extend(sample.cells());
        rows.push(cells);
    };
    let [first, ten_cold] = right_after_a_start(&lab, rounds.div_ceil(20));
    row("the first after a start", &first);
    row("10 at once after a start", &ten_cold);
    lab.idle("bench-exec");
    let [mut one, mut own] = [Sample::default(), Sample::default()];
    for _ in 0..20 {
        one_exec(&lab, "bench-exec");
    }
    for round in 0..rounds {
        one.add(one_exec(&lab, "bench-exec"));
        if round % 20 == 0 {
            own.add_ms(in_box(&lab, "bench-exec"));
        }
    }
    row("one", &one);
    row("fork, exec and wait in the box", &own);
    for at_once in [10, 64] {
        let mut sample = Sample::default();
        for _ in 0..rounds.div_ceil(10) {
            sample.add(at_the_same_time(&lab, "bench-exec", at_once));
        }
        row(&format!("{at_once} at once"), &sample);
    }
    lab.remove("bench-exec");
    row("main's exit to the end of wait", &results(&lab, rounds.div_ceil(10)));
    let headings: Vec<&str> = std::iter::once("exec of true").chain(SAMPLE).collect();
    print("Processes beside main", &headings, &rows);
    println!("  one is {:.2} times what the box itself takes", one.median() / own.median());
}

fn one_exec(lab: &Lab, name: &str) -> Duration {
    lab.exec([name, "true"]).output().exits(0).took
}

fn at_the_same_time(lab: &Lab, name: &str, count: usize) -> Duration {
    let began = Instant::now();
    let all: Vec<_> = (0..count).map(|_| lab.exec([name, "true"]).spawn()).collect();
    for one in all {
        drop(one.wait().exits(0));
    }
    began.elapsed()
}

fn right_after_a_start(lab: &Lab, rounds: usize) -> [Sample; 2] {
    let mut samples = [Sample::default(), Sample::default()];
    for _ in 0..rounds {
        for (sample, count) in samples.iter_mut().zip([1, 10]) {
            lab.idle("bench-start");
            sample.add(at_the_same_time(lab, "bench-start", count));
            lab.remove("bench-start");
        }
    }
    samples
}

/// Milliseconds a shell in the box takes to run the same program once.
fn in_box(lab: &Lab, name: &str) -> f64 {
    let script = "read start rest < /proc/uptime; i=0; \
        while [ $i -lt $1 ]; do /bin/true; i=$((i+1)); done; read end rest < /proc/uptime; echo $start $end";
    let run = lab.exec([name, "sh", "-c", script, "sh", &IN_BOX.to_string()]).output().exits(0);
    let text = run.text();
    let mut times = text.split_whitespace().filter_map(|time| time.parse::<f64>().ok());
    let (start, end) = (times.next().unwrap_or(f64::NAN), times.next().unwrap_or(f64::NAN));
    (end - start) * 1000.0 / IN_BOX as f64
}

/// From the last that main writes, right before its exit, to the end of `wait`.
fn results(lab: &Lab, rounds: usize) -> Sample {
    let mut sample = Sample::default();
    for _ in 0..rounds {
        lab.detached("bench-wait", ["-i", "busybox", "sh", "-c", "read line; echo bye"]);
        let wait = lab.boxwood(["wait", "bench-wait"]).spawn();
        let mut main = lab.boxwood(["attach", "--logs", "bench-wait"]).spawn();
        // By the time this is answered both are there.
        drop(lab.exec(["bench-wait", "true"]).output().exits(0));
        main.write("go\n");
        main.says("bye\n");
        let bye = Instant::now();
        drop(wait.wait().exits(0).prints("0\n"));
        sample.add(bye.elapsed());
        drop(main.wait());
        lab.remove("bench-wait");
    }
    sample
}
