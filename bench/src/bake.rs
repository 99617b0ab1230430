//! How long a template takes, and that it also comes about while the host is busy.

use boxwood_tests::{Lab, Running, StoreKind};

use crate::table::{SAMPLE, Sample, print};

const BAKES: usize = 5;

/// Bakes on a host that is left alone, then on one whose processors all have something to do.
pub(crate) fn measure(count: Option<usize>) {
    let lab = Lab::with(StoreKind::OwnTemplates);
    let bakes = count.unwrap_or(BAKES);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let rows = [("left alone", 0), ("busy", processors)].map(|(title, loads)| {
        let load = || lab.program("sh").args(["-c", "while :; do :; done"]).spawn();
        let loads: Vec<Running> = (0..loads).map(|_| load()).collect();
        let mut sample = Sample::default();
        let mut failed = 0;
        for _ in 0..bakes {
            drop(lab.boxwood(["template", "rm", "--all"]).output().exits(0));
            let baked = lab.boxwood(["setup"]).output();
            sample.add(baked.took);
            if baked.code() != Some(0) {
                failed += 1;
                eprintln!("{baked:?}");
            }
        }
        drop(loads);
        let mut row = vec![title.to_owned()];
        row.extend(sample.cells());
        row.push(failed.to_string());
        row
    });
    let headings: Vec<&str> = std::iter::once("host").chain(SAMPLE).chain(["failed"]).collect();
    print("Making a template", &headings, &rows);
}
