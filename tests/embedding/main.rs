//! A program that has boxes of its own, by the runtime as a library, beside children that are not Boxwood's.
//! Started by `tests/vm/library.rs`, which looks at it from outside.
//!
//!   embedding SHIM child           a child that exits with 42 while boxes die
//!   embedding SHIM shutdown HOW N  N boxes, and an end: async, drop, signal, exit
//!   embedding SHIM abandon HOW N   N starts that are given up half-way: panic, error, drop
//!
//! It says what it does on standard output, and goes on when it is told to by a line on standard input.

// What it has to say belongs to its test.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

use std::io::{BufRead, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use boxwood_runtime::{CreateRequest, FromShim, Locations, Runtime, Start, Started};
use tokio::task::JoinSet;

/// What a shutdown may take.
const WITHIN: Duration = Duration::from_secs(3);
/// A main that ends in order when it is asked to, and says so on its disk.
const WILLING: &str =
    "trap 'echo bye > /bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
/// A main that does not.
const UNWILLING: &str = "trap '' TERM; echo here > /here; echo ready; while :; do sleep 0.1; done";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [shim, rest @ ..] = &words[..] else { panic!("see the head of this file") };
    let runtime = Runtime::open(Locations::from_environment().unwrap(), shim.into()).unwrap();
    let event_loop = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match rest {
        ["child"] => event_loop.block_on(child(&runtime)),
        ["shutdown", how, count] => {
            let count = count.parse().unwrap();
            let boxes = event_loop.block_on(running(&runtime, count));
            say("running");
            end(&runtime, &event_loop, (*how, boxes));
        }
        ["abandon", how, count] => {
            event_loop.block_on(abandon(&runtime, how, count.parse().unwrap()));
            say("abandoned");
            wait_for_a_line();
        }
        _ => panic!("see the head of this file"),
    }
}

fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).unwrap();
}

fn wait_for_a_line() {
    std::io::stdin().lock().read_line(&mut String::new()).unwrap();
}

fn request(name: &str, script: &str) -> CreateRequest {
    CreateRequest {
        name: Some(name.parse().unwrap()),
        command: vec!["sh".into(), "-c".into(), script.into()],
        ..CreateRequest::of("busybox")
    }
}

async fn start(runtime: &Runtime, name: &str, script: &str) -> Started {
    let request = request(name, script);
    let prepared = runtime.prepare("busybox", request.shape, Start::First, &mut |_| {}).await;
    runtime.create(&request, &prepared.unwrap()).unwrap().start(runtime).unwrap()
}

async fn until_ready(started: &mut Started) {
    loop {
        match started.reader.next().await.unwrap().expect("the shim is there") {
            FromShim::Stdout(text) if text.starts_with(b"ready") => return,
            FromShim::Reply(reply) => println!("{reply:?}"),
            _ => {}
        }
    }
}

/// So many boxes, the last of which does not want to end.
async fn running(runtime: &Runtime, count: usize) -> Vec<Started> {
    let mut boxes = Vec::new();
    for number in 0..count {
        let script = if number + 1 == count { UNWILLING } else { WILLING };
        boxes.push(start(runtime, &format!("box{number}"), script).await);
    }
    for started in &mut boxes {
        until_ready(started).await;
    }
    boxes
}

fn end(
    runtime: &Runtime,
    event_loop: &tokio::runtime::Runtime,
    (how, boxes): (&str, Vec<Started>),
) {
    let began;
    match how {
        "async" => {
            wait_for_a_line();
            began = Instant::now();
            event_loop.block_on(runtime.shutdown(WITHIN)).unwrap();
        }
        "drop" => {
            let guard = runtime.shutdown_on_drop(WITHIN);
            wait_for_a_line();
            began = Instant::now();
            // Also where somebody else's event loop runs.
            event_loop.block_on(async { drop(guard) });
        }
        "signal" => {
            event_loop.block_on(async {
                use tokio::signal::unix::{SignalKind, signal};
                let mut term = signal(SignalKind::terminate()).unwrap();
                say("listening");
                term.recv().await
            });
            began = Instant::now();
            runtime.shutdown_blocking(WITHIN).unwrap();
        }
        "exit" => {
            wait_for_a_line();
            // Nothing at all is done.
            std::process::exit(0);
        }
        _ => panic!("see the head of this file"),
    }
    say(&format!("stopped after {} ms", began.elapsed().as_millis()));
    wait_for_a_line();
    drop(boxes);
}

/// A child of the program's own ends while boxes die around it.
async fn child(runtime: &Runtime) {
    let boxes = running(runtime, 3).await;
    let mut child = Command::new("sh")
        .args(["-c", "read -r _; exit 42"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    say(&format!("child {}", child.id()));
    wait_for_a_line();
    drop(child.stdin.take());
    // It is a zombie for as long as its owner likes.
    let id = child.id();
    let stat = || std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    while !stat().contains(") Z ") {
        std::thread::yield_now();
    }
    say("it has ended");
    wait_for_a_line();
    say(&format!("its code is {:?}", child.wait().unwrap().code()));
    drop(boxes);
    let _ = runtime.shutdown(WITHIN).await;
}

/// Starts that are given up at different times.
async fn abandon(runtime: &Runtime, how: &str, count: usize) {
    let mut starts = JoinSet::new();
    for number in 0..count {
        let (runtime, how) = (runtime.clone(), how.to_owned());
        let held = {
            let request = request(&format!("box{number}"), WILLING);
            let prepared =
                runtime.prepare("busybox", request.shape, Start::First, &mut |_| {}).await;
            runtime.create(&request, &prepared.unwrap()).unwrap()
        };
        let patience = Duration::from_millis(number as u64 * 20);
        let start = async move {
            let mut started = held.start(&runtime).unwrap();
            let ready = tokio::time::timeout(patience, until_ready(&mut started)).await;
            match how.as_str() {
                "panic" => panic!("given up"),
                "error" => Err(format!("given up {ready:?}")),
                _ => std::future::pending().await,
            }
        };
        starts.spawn(start);
    }
    if how == "drop" {
        tokio::time::sleep(Duration::from_millis(count as u64 * 10)).await;
        starts.abort_all();
    }
    while let Some(ended) = starts.join_next().await {
        let failed: Result<(), String> = ended.unwrap_or_else(|gone| Err(gone.to_string()));
        eprintln!("{failed:?}");
    }
}
