//! Many runs, each with a code of its own: none may be lost or mixed up, and nothing may stay.

use std::sync::Mutex;
use std::time::Instant;

use boxwood_tests::Lab;

use crate::table::{SAMPLE, Sample, print};

const RUNS: usize = 200;
const AT_A_TIME: usize = 8;

/// One by one, then several at a time.
pub(crate) fn measure(count: Option<usize>) {
    let lab = Lab::of_installation();
    drop(lab.run(["busybox", "true"]).output().exits(0));
    let runs = count.unwrap_or(RUNS);
    let rows = [1, AT_A_TIME].map(|at_a_time| {
        let began = Instant::now();
        let (sample, wrong) = run_all(&lab, runs, at_a_time);
        let total = began.elapsed().as_secs_f64();
        let mut row = vec![format!("{at_a_time} at a time")];
        row.extend(sample.cells());
        row.push(format!("{total:.1}"));
        row.push(format!("{:.1}", total * 1000.0 / runs as f64));
        row.push(wrong.to_string());
        row
    });
    let headings: Vec<&str> =
        std::iter::once("runs").chain(SAMPLE).chain(["total s", "ms per run", "wrong"]).collect();
    print("A code for each run", &headings, &rows);
    lab.is_clean();
    println!("  nothing is left of them");
}

/// How long each took, and how many returned something else.
fn run_all(lab: &Lab, runs: usize, at_a_time: usize) -> (Sample, usize) {
    let codes = Mutex::new(0..runs);
    let next = || codes.lock().ok().and_then(|mut codes| codes.next());
    let results = Mutex::new((Sample::default(), 0));
    std::thread::scope(|scope| {
        for _ in 0..at_a_time {
            scope.spawn(|| {
                while let Some(number) = next() {
                    let code = (number % 256) as i32;
                    let run = lab.sh(&format!("exit {code}")).output();
                    let Ok(mut results) = results.lock() else { return };
                    results.0.add(run.took);
                    if run.code() != Some(code) {
                        results.1 += 1;
                        eprintln!("expected code {code}\n{run:?}");
                    }
                }
            });
        }
    });
    results.into_inner().unwrap_or_default()
}
