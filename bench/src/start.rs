//! From nothing to the end of `true`, and where the time goes.

use boxwood_tests::Lab;

use crate::peers;
use crate::table::{SAMPLE, Sample, print};
use crate::warm::Warm;

const ROUNDS: usize = 20;

/// `run --rm busybox true`, from a template and from a pool, alternating with the peers.
pub(crate) fn measure(count: Option<usize>) {
    let lab = Lab::of_installation();
    let rounds = count.unwrap_or(ROUNDS);
    let peers = peers::find(&lab);
    let run = || lab.run(["busybox", "true"]).output().exits(0);
    drop(run());
    let pool = Warm::new();
    drop(pool.run());
    let [mut own, mut warm] = [Sample::default(), Sample::default()];
    let mut others: Vec<Sample> = peers.iter().map(|_| Sample::default()).collect();
    for _ in 0..rounds {
        own.add(run().took);
        warm.add(pool.run().took);
        for (peer, sample) in peers.iter().zip(&mut others) {
            sample.add(peer.run().exits(0).took);
        }
    }
    pool.end();
    let row = |title: &str, sample: &Sample| {
        let ratio = |ours: &Sample| format!("{:.2}", ours.median() / sample.median());
        let mut row = vec![title.to_owned()];
        row.extend(sample.cells());
        row.extend([ratio(&own), ratio(&warm)]);
        row
    };
    let mut rows = vec![row("boxwood run --rm", &own), row("boxwood run --rm, pool of one", &warm)];
    rows.extend(peers.iter().zip(&others).map(|(peer, sample)| row(peer.title, sample)));
    let ratios = ["ours/this", "with pool/this"];
    let headings: Vec<&str> = std::iter::once("busybox true").chain(SAMPLE).chain(ratios).collect();
    print("Start to end, alternating", &headings, &rows);
    peers.iter().for_each(|peer| peer.forget());
    break_down(&lab, rounds);
}

/// The steps of a start, as the shim and the client tell them.
fn break_down(lab: &Lab, rounds: usize) {
    let mut names: Vec<String> = Vec::new();
    let mut steps: Vec<Sample> = Vec::new();
    let mut whole = Sample::default();
    for _ in 0..rounds {
        let run = lab.run(["--timings", "busybox", "true"]).output().exits(0);
        whole.add(run.took);
        let mut before = 0.0;
        for (name, at) in run.complaint().lines().filter_map(step) {
            let place = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                names.push(name);
                steps.push(Sample::default());
                names.len() - 1
            });
            // Each is told with the time since the shim began.
            steps[place].add_ms(at - before);
            before = at;
        }
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut sum = 0.0;
    for (name, sample) in names.iter().zip(&steps) {
        sum += sample.median();
        rows.push(vec![name.clone(), format!("{:.1}", sample.median()), format!("{sum:.1}")]);
    }
    let rest = whole.median() - sum;
    let before_and_after = "before the shim, main, and the end".to_owned();
    rows.push(vec![before_and_after, format!("{rest:.1}"), format!("{:.1}", whole.median())]);
    print("Where the time goes (medians)", &["step", "ms", "sum"], &rows);
}

/// `boxwood: <step>: <x> ms`
pub(crate) fn step(line: &str) -> Option<(String, f64)> {
    let (name, time) = line.strip_prefix("boxwood: ")?.rsplit_once(": ")?;
    Some((name.to_owned(), time.strip_suffix(" ms")?.parse().ok()?))
}

/// The least a command can take.
pub(crate) fn measure_version(count: Option<usize>) {
    let lab = Lab::of_installation();
    let mut sample = Sample::default();
    for _ in 0..count.unwrap_or(ROUNDS) {
        sample.add(lab.boxwood(["version"]).output().exits(0).took);
    }
    let mut row = vec!["boxwood version".to_owned()];
    row.extend(sample.cells());
    let headings: Vec<&str> = std::iter::once("command").chain(SAMPLE).collect();
    print("The command itself", &headings, &[row]);
}
