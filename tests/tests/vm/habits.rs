//! What users of Docker are used to, here and at a daemon: choosing boxes, their sizes, ID files, templates of output.

use std::fs;

use boxwood_tests::Lab;

fn created(lab: &Lab, name: &str, label: &str) -> String {
    let made = lab.boxwood(["create", "--name", name, "--label", label, "busybox", "true"]);
    made.output().exits(0).quietly().word()
}

/// The arguments that make a verb one of this host's, and of a daemon's.
fn places(lab: &Lab) -> (boxwood_tests::Daemon, [Vec<String>; 2]) {
    let daemon = lab.daemon();
    let host = vec!["--host".to_owned(), format!("unix://{}", daemon.socket().display())];
    (daemon, [Vec::new(), host])
}

#[test]
fn boxes_are_chosen_by_when_they_were_created_and_pruned_by_that_and_by_labels() {
    let lab = Lab::new();
    let (daemon, places) = places(&lab);
    for place in places {
        let boxwood = |args: &[&str]| lab.boxwood(&place).args(args).output();
        let second = created(&lab, "second-of", "job=2");
        created(&lab, "third-of", "job=3");
        let names = |filter: &str| {
            boxwood(&["ps", "-a", "--format", "{{.Names}}", "--filter", filter]).exits(0).lines()
        };
        assert_eq!(names("since=second-of"), ["third-of"]);
        assert_eq!(names(&format!("since={}", &second[..12])), ["third-of"]);
        assert_eq!(names("before=third-of"), ["second-of"]);
        drop(boxwood(&["ps", "-a", "--filter", "before=none"]).refused(&["no such box: none"]));
        boxwood(&["prune", "-f", "--filter", "until=1h"]).exits(0);
        boxwood(&["prune", "-f", "--filter", "label=job=4"]).exits(0);
        assert_eq!(lab.boxes().len(), 2, "none is old, none has that label");
        boxwood(&["prune", "-f", "--filter", "label=job=2"]).exits(0);
        assert_eq!(names("label=job"), ["third-of"]);
        boxwood(&["prune", "-f", "--filter", "until=0s", "--filter", "label=job"]).exits(0);
        assert_eq!(lab.boxes(), [""; 0]);
        drop(
            boxwood(&["prune", "-f", "--filter", "color=red"])
                .refused(&["color=red", "until=TIME"]),
        );
    }
    daemon.stop();
}

#[test]
fn sizes_and_labels_of_boxes_are_listed() {
    let lab = Lab::new();
    let (daemon, places) = places(&lab);
    created(&lab, "web", "job=7");
    for place in places {
        let boxwood = |args: &[&str]| lab.boxwood(&place).args(args).output().exits(0).quietly();
        let table = boxwood(&["ps", "-a", "--size"]).text();
        assert!(table.lines().next().is_some_and(|line| line.ends_with("SIZE")), "{table}");
        assert!(table.contains("iB") || table.contains(" kB") || table.contains("MB"), "{table}");
        let shown = boxwood(&["ps", "-a", "--format", "{{.Label \"job\"}} {{.Size}}"]).text();
        assert!(shown.starts_with("7 ") && shown.trim().len() > 3, "{shown}");
        let titled = boxwood(&["ps", "-a", "--format", "table {{.Names}}\t{{.State}}"]).lines();
        assert_eq!(titled[0].split_whitespace().collect::<Vec<_>>(), ["NAMES", "STATE"]);
    }
    daemon.stop();
    lab.remove("web");
}

#[test]
fn h13_a_template_that_asks_for_what_is_not_there_is_refused() {
    let lab = Lab::new();
    created(&lab, "web", "job=7");
    let refused = |args: &[&str], words: &[&str]| drop(lab.boxwood(args).output().refused(words));
    refused(&["ps", "-a", "--format", "{{.Nmaes}}"], &["'Nmaes'", ".Names"]);
    refused(&["inspect", "--format", "{{.State.Satus}}", "web"], &["'Satus'", ".State"]);
    refused(&["images", "--format", "{{.Nope}}"], &["'Nope'"]);
    refused(&["template", "ls", "--format", "{{.Nope}}"], &["'Nope'", ".Key"]);
    lab.remove("web");
}

#[test]
fn h13_the_id_of_a_new_box_is_written_to_a_file_that_was_not_there() {
    let lab = Lab::new();
    let (daemon, places) = places(&lab);
    let file = lab.folder().join("id");
    let path = file.to_str().unwrap();
    for place in places {
        let boxwood = |args: &[&str]| lab.boxwood(&place).args(args).output();
        let id = boxwood(&["create", "--cidfile", path, "busybox", "true"]).exits(0).word();
        assert_eq!(fs::read_to_string(&file).unwrap(), id);
        let again = ["run", "--rm", "--cidfile", path, "busybox", "true"];
        drop(boxwood(&again).refused(&[path, "exists"]));
        assert_eq!(lab.boxes(), [&*id], "no box was made");
        assert_eq!(fs::read_to_string(&file).unwrap(), id);
        fs::remove_file(&file).unwrap();
        boxwood(&["run", "--rm", "--cidfile", path, "busybox", "true"]).exits(0);
        assert_eq!(fs::read_to_string(&file).unwrap().len(), id.len());
        fs::remove_file(&file).unwrap();
        boxwood(&["run", "--rm", "--cidfile", path, "no-such-image", "true"]).exits(125);
        assert!(!file.exists(), "a file without an ID is of no use");
        lab.remove(&id);
    }
    daemon.stop();
}

#[test]
fn a_template_is_inspected() {
    let lab = Lab::new();
    created(&lab, "web", "job=7");
    let (daemon, places) = places(&lab);
    let key = lab.inspect("web", "{{.Template}}");
    for place in places {
        let inspect =
            |args: &[&str]| lab.boxwood(&place).args(["template", "inspect"]).args(args).output();
        inspect(&["--format", "{{.Key}} {{.Damage}}", &key[..8]])
            .exits(0)
            .prints(format!("{key} <no value>\n"));
        drop(inspect(&["none"]).exits(125));
    }
    daemon.stop();
    lab.remove("web");
}
