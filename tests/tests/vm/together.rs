//! Contracts H1, H3, H5 and H13: many commands at the same time on the same few names of one home. Whatever order it
//! comes to, each command ends with a code that it may end with, no listing lies, and nothing is left.

use std::time::Duration;

use boxwood_tests::{Lab, Output, Process};
use serde_json::Value;

/// Clients at the same time, and the commands of each.
const CLIENTS: u64 = 8;
const COMMANDS: u32 = 30;
/// A name that several of them mean.
const NAMES: [&str; 4] = ["north", "east", "south", "west"];
/// No command takes that long: none waits for another's box.
const WITHIN: Duration = Duration::from_secs(180);

/// The same order for the same seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        high as usize % count
    }

    fn name(&mut self) -> &'static str {
        NAMES[self.below(NAMES.len())]
    }
}

/// A command, and the codes beside 0 and 125 that it may end with.
fn command(dice: &mut Dice) -> (Vec<&'static str>, &'static [i32]) {
    const SCRIPT: &str = "echo hello; exec sleep 1000";
    // What main or a session came to when somebody ended it or its box; 255 when the box was lost to it.
    const ENDED: &[i32] = &[129, 137, 143, 255];
    // What a start came to that somebody else has stopped.
    const STOPPED: &[i32] = &[137, 143];
    let (one, other) = (dice.name(), dice.name());
    match dice.below(24) {
        0 | 1 => (vec!["create", "--name", one, "busybox", "sh", "-c", SCRIPT], &[]),
        2 | 3 => (vec!["run", "-d", "--name", one, "busybox", "sh", "-c", SCRIPT], STOPPED),
        4 => (
            vec!["run", "--rm", "--name", one, "busybox", "sh", "-c", "exit 7"],
            &[7, 137, 143, 255],
        ),
        5 | 6 => (vec!["exec", one, "sh", "-c", "echo hello; exit 3"], &[3, 129, 137, 143, 255]),
        7 => (vec!["exec", one, "sleep", "0.1"], ENDED),
        8 => (vec!["stop", "-t", "1", one], &[]),
        9..=11 => (vec!["start", one], STOPPED),
        12 => (vec!["start", one, other], STOPPED),
        13 => (vec!["kill", one], &[]),
        14 => (vec!["restart", "-t", "1", one], STOPPED),
        15 => (vec!["rm", "-f", one], &[]),
        16 => (vec!["rm", one, other], &[]),
        17 => (vec!["ps", "-a", "--no-trunc", "--format", "json"], &[]),
        18 => (vec!["inspect", one], &[]),
        19 => (vec!["rename", one, other], &[]),
        20 => (vec!["logs", one], &[]),
        21 => (vec!["prune", "--force"], &[]),
        22 => (vec!["pause", one], &[]),
        _ => (vec!["unpause", one], &[]),
    }
}

/// What is wrong with how it ended, if something is.
fn fault(output: &Output, codes: &[i32]) -> Option<String> {
    let said = output.complaint();
    let allowed = |code: i32| code == 0 || code == 125 || codes.contains(&code);
    let wrong = !output.code().is_some_and(allowed)
        || said.contains("panicked")
        || output.code() == Some(125) && !said.lines().all(|line| line.starts_with("boxwood"))
        || output.code() == Some(125) && said.is_empty();
    wrong.then(|| format!("{output:?}"))
}

/// What a listing says is what there is.
fn check_states(lab: &Lab) {
    let listed = lab.boxwood(["ps", "-aq", "--no-trunc"]).output().exits(0).quietly();
    for id in listed.lines() {
        // What was sent a signal last may still be on its way out.
        if lab.inspect(&id, "{{.State.Status}}") == "stopping" {
            drop(lab.boxwood(["wait", &id]).output().exits(0));
        }
        let found = lab.boxwood(["inspect", &id]).output().exits(0);
        let view: Value = serde_json::from_slice(&found.stdout).unwrap();
        let name = view[0]["Name"].as_str().unwrap_or_default().trim_start_matches('/');
        let named = lab.boxwood(["inspect", "--format", "{{.Id}}", name]).output();
        assert_eq!(named.word(), id, "another box has its name, or none: {named:?}");
        let state = &view[0]["State"];
        let pid = |field: &str| state[field].as_u64().and_then(|pid| u32::try_from(pid).ok());
        let lives = |field| {
            pid(field).filter(|pid| *pid > 0).is_some_and(|pid| Process::get(pid).is_some())
        };
        match state["Status"].as_str() {
            Some("running" | "paused") => {
                assert!(
                    lives("ShimPid") && lives("Pid"),
                    "a dead box is shown as running: {state}"
                );
            }
            Some("created" | "exited" | "failed") => {
                assert!(!lives("Pid"), "a box that has ended has a VM: {state}");
                assert_ne!(state["ExitReason"], "lost", "nobody has lost it: {state}");
            }
            _ => panic!("nobody works on it any more: {state}"),
        }
    }
}

#[test]
fn h3_h13_eight_clients_doing_everything_at_once_agree_on_one_home() {
    let seed = std::env::var("BOXWOOD_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or(7);
    let lab = Lab::new();
    let client = |number: u64| -> Vec<String> {
        let mut dice = Dice((seed * CLIENTS + number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut faults = Vec::new();
        for _ in 0..COMMANDS {
            let (args, codes) = command(&mut dice);
            let output = lab.boxwood(args).within(WITHIN).output();
            faults.extend(fault(&output, codes));
        }
        faults
    };
    let faults: Vec<String> = std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    check_states(&lab);
    assert!(faults.is_empty(), "seed {seed}:\n{}", faults.join("\n"));
    lab.boxwood(["rm", "-f"]).args(lab.boxes()).output();
    assert_eq!(lab.boxes(), [""; 0]);
    lab.is_clean();
}
