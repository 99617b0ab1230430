//! `make bench`: how fast the built boxwood is here, beside other tools, and what its boxes take.
//! People run it; it prints tables and asserts nothing about time. Results and leftovers it does
//! check: a fast wrong answer is no figure.

// People run it and read what it prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bake;
mod bytes;
mod codes;
mod exec;
mod host;
mod idle;
mod load;
mod peers;
mod snapshot;
mod start;
mod table;
mod warm;

use std::process::ExitCode;

const USAGE: &str = "\
Usage: boxwood-bench [MEASUREMENT]... [--count N]

  start    run --rm busybox true, from a template and from a pool, alternating with ctr and
           podman, and where the time goes
  version  boxwood version
  exec     processes beside main: one, many at once, and main's result
  bytes    what goes through a session, alternating with a bare port of the same VM
  codes    200 runs with 200 codes, one by one and 8 at a time
  host     ps, the daemon, the ends of boxes, and what a health check costs
  idle     ten idle boxes: memory and processor time
  snapshot capturing, restoring and forking, and what that takes
  bake     making a template, on an idle and on a busy host
  load     an image of 200 MB in five layers

Without a measurement: start, version and snapshot. 'all' is each of them. N is how often, instead
of the usual count.";

/// A measurement by its name, and what does it.
type Measurement = (&'static str, fn(Option<usize>));

const MEASUREMENTS: [Measurement; 10] = [
    ("start", start::measure),
    ("version", start::measure_version),
    ("exec", exec::measure),
    ("bytes", bytes::measure),
    ("codes", codes::measure),
    ("host", host::measure),
    ("idle", idle::measure),
    ("snapshot", snapshot::measure),
    ("bake", bake::measure),
    ("load", load::measure),
];

fn main() -> ExitCode {
    match chosen(std::env::args().skip(1)) {
        Ok((measurements, count)) => {
            for measure in measurements {
                measure(count);
            }
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            eprintln!("boxwood-bench: {wrong}\n\n{USAGE}");
            ExitCode::from(125)
        }
    }
}

type Chosen = (Vec<fn(Option<usize>)>, Option<usize>);

fn chosen(mut arguments: impl Iterator<Item = String>) -> Result<Chosen, String> {
    let mut names: Vec<String> = Vec::new();
    let mut count = None;
    while let Some(argument) = arguments.next() {
        match &*argument {
            "--count" => {
                let number = arguments.next().and_then(|number| number.parse().ok());
                let number = number.filter(|number| *number > 0);
                count = Some(number.ok_or("--count takes a number from 1")?);
            }
            "all" => names.extend(MEASUREMENTS.map(|(name, _)| name.to_owned())),
            _ => names.push(argument),
        }
    }
    if names.is_empty() {
        names = ["start", "version", "snapshot"].map(str::to_owned).to_vec();
    }
    let find = |name: &String| {
        let found = MEASUREMENTS.iter().find(|(known, _)| known == name);
        found.map(|(_, measure)| *measure).ok_or_else(|| format!("no measurement '{name}'"))
    };
    Ok((names.iter().map(find).collect::<Result<_, _>>()?, count))
}
