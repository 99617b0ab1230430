//! Contract H2 and H8: Boxwood as a library, in a program that has children and plans of its own.

use std::time::Duration;

use boxwood_tests::{Lab, Live, Process, Running};
use rustix::process::Signal;

fn embedding(lab: &Lab, arguments: &[&str]) -> Running {
    lab.embedding(env!("CARGO_BIN_EXE_embedding")).args(arguments).spawn()
}

fn live(lab: &Lab, count: usize) -> Vec<Live> {
    (0..count).map(|number| lab.live(&format!("box{number}"))).collect()
}

#[track_caller]
fn has_no_child_but(embedding: &Running, known: &[u32]) {
    let children = Process::get(embedding.pid()).unwrap().children();
    let others = children.iter().filter(|child| !known.contains(&child.pid));
    let others: Vec<String> = others.map(ToString::to_string).collect();
    assert!(others.is_empty(), "children of {}: {others:?}", embedding.pid());
}

#[test]
fn h2_a_child_of_the_embedding_program_keeps_its_code_while_boxes_die_around_it() {
    let lab = Lab::new();
    let mut program = embedding(&lab, &["child"]);
    let said = program.says("child ");
    let child: u32 = said.rsplit("child ").next().unwrap().trim().parse().unwrap();
    let boxes = live(&lab, 3);
    boxes[0].qemu.kill();
    program.write("\n");
    program.says("it has ended\n");
    boxes[1].shim.kill();
    boxes[2].qemu.kill();
    boxes.iter().for_each(|one| one.shim.is_gone_soon());
    boxes.iter().for_each(|one| one.qemu.is_gone_soon());
    // What died was not its, and what is its is not reaped by anybody else.
    has_no_child_but(&program, &[child]);
    assert_eq!(Process::get(child).map(|child| child.state), Some('Z'));
    program.write("\n");
    let said = program.wait().exits(0).text();
    assert!(said.contains("its code is Some(42)\n"), "{said}");
    lab.boxwood(["rm", "-f", "box0", "box1", "box2"]).output().exits(0);
}

#[test]
fn h8_a_runtime_that_shuts_down_stops_what_lives_by_it_at_the_same_time_and_in_time() {
    let lab = Lab::new();
    for how in ["async", "drop", "signal"] {
        lab.idle("other");
        let mut program = embedding(&lab, &["shutdown", how, "4"]);
        program.says("running\n");
        let boxes = live(&lab, 4);
        match how {
            "signal" => {
                program.says("listening\n");
                program.signal(Signal::TERM);
            }
            _ => program.write("\n"),
        }
        let said = program.says(" ms\n");
        let took = said.rsplit("stopped after ").next().unwrap();
        let took: u64 = took.trim().trim_end_matches(" ms").parse().unwrap();
        // The last does not want to end, and has as long as there is: 3 s, with one for its disk.
        assert!((1_500..4_000).contains(&took), "{how}: {took} ms");
        // All have ended by then, not a moment later.
        for one in &boxes {
            assert!(one.qemu.ended_within(Duration::ZERO), "{how}");
        }
        has_no_child_but(&program, &[]);
        let end = "{{.State.Status}} {{.State.ExitCode}} {{.State.ResultKnown}}";
        for name in ["box0", "box1", "box2"] {
            assert_eq!(lab.inspect(name, end), "exited 3 true", "{how}");
        }
        assert_eq!(lab.inspect("box3", end), "exited 137 true", "{how}");
        assert_eq!(lab.state("other"), "running");
        program.write("\n");
        program.wait().exits(0);
        // Their disks were flushed.
        for (name, file) in [("box0", "/bye"), ("box3", "/here")] {
            lab.boxwood(["start", name]).output().exits(0);
            lab.exec([name, "test", "-s", file]).output().exits(0);
        }
        lab.boxwood(["rm", "-f", "other", "box0", "box1", "box2", "box3"]).output().exits(0);
    }
}

#[test]
fn h8_a_program_that_just_ends_has_its_boxes_stopped_by_their_shims() {
    let lab = Lab::new();
    for signal in [None, Some(Signal::KILL)] {
        let mut program = embedding(&lab, &["shutdown", "exit", "2"]);
        program.says("running\n");
        let boxes = live(&lab, 2);
        match signal {
            Some(signal) => program.signal(signal),
            None => program.write("\n"),
        }
        drop(program.wait());
        boxes[0].qemu.is_gone_soon();
        assert_eq!(lab.inspect("box0", "{{.State.ExitCode}}"), "3");
        // The other has its 10 s, as with any stop.
        lab.boxwood(["kill", "box1"]).output().exits(0);
        lab.boxwood(["rm", "box0", "box1"]).output().exits(0);
    }
}

#[test]
fn h2_starts_that_are_given_up_half_way_leave_no_process_and_a_record_that_says_so() {
    let lab = Lab::new();
    for how in ["panic", "error", "drop"] {
        let mut program = embedding(&lab, &["abandon", how, "8"]);
        program.says("abandoned\n");
        has_no_child_but(&program, &[]);
        for number in 0..8 {
            let name = format!("box{number}");
            // One that was given up is stopped as soon as it can be.
            let waited = lab.boxwood(["wait", &name]).output();
            let end = lab.inspect(&name, "{{.State.ExitReason}} {{.State.ExitCode}}");
            let ended = ["exited 3", "exited 143", " 0"].contains(&&*end);
            assert!(ended, "{how}, {name}: {end} {waited:?}");
        }
        has_no_child_but(&program, &[]);
        program.write("\n");
        program.wait().exits(0);
        lab.boxwood(["rm"]).args(lab.boxes()).output().exits(0);
        lab.is_clean();
    }
}
