//! Contracts S1 and S2: snapshots of a disk alone, of boxes that run and of those that don't.

use boxwood_tests::Lab;

/// Main says what it finds and adds to it.
const MAIN: &str = "cat /kept 2>/dev/null; echo start >> /kept; echo ready; sleep 600";

#[test]
fn s2_the_disk_of_a_box_is_kept_alone_and_its_main_begins_anew() {
    let lab = Lab::new();
    let create = |snapshot: &str| {
        let created = lab.boxwood(["snapshot", "create", "--disk-only", "web", snapshot]).output();
        created.exits(0).quietly().prints(format!("{snapshot}\n"));
    };
    lab.detached("web", ["-e", "A=1", "busybox", "sh", "-c", MAIN]);
    lab.logged("web", "ready\n");
    create("running");
    lab.exec(["web", "sh", "-c", "echo later >> /kept"]).output().exits(0);
    // The next of the whole box is right all the same.
    lab.snapshot("web", "whole");
    lab.boxwood(["stop", "-t", "0", "web"]).output().exits(0);
    create("stopped");
    let part = "{{.Name}} {{.Part}}";
    let listed = lab.boxwood(["snapshot", "ls", "--format", part]).output().exits(0);
    assert_eq!(listed.lines(), ["running disk", "whole everything", "stopped disk"]);
    let created = lab.boxwood(["snapshot", "ls", "--format", "{{.CreatedSince}}"]).output();
    let created = created.exits(0).lines();
    assert!(created.iter().all(|since| since.ends_with(" ago")), "{created:?}");
    let restore = |snapshot: &str, name: &str| {
        lab.boxwood(["restore", "--disk-only", "--name", name, "-e", "B=2", snapshot]).output()
    };
    for (snapshot, log) in [
        ("running", "start\nready\n"),
        ("stopped", "start\nlater\nready\n"),
        ("whole", "start\nlater\nready\n"),
    ] {
        lab.boxwood(["snapshot", "verify", snapshot]).output().exits(0).quietly();
        restore(snapshot, "anew").exits(0).quietly();
        lab.logged("anew", log);
        let own = lab.inspect("anew", "{{.Config.Hostname}}");
        let script = "echo $A $B $HOSTNAME $(hostname)";
        let told = lab.exec(["anew", "sh", "-c", script]).output().word();
        assert_eq!(told, format!("1 2 {own} {own}"));
        lab.remove("anew");
    }
    // There is nothing in it that could go on.
    for snapshot in ["running", "stopped"] {
        let alone = lab.boxwood(["restore", snapshot]);
        lab.refuses(alone, &["of a disk alone", "restore --disk-only"]);
    }
    lab.restored("whole", "clone");
    let kept = lab.exec(["clone", "cat", "/kept"]).output();
    kept.exits(0).prints("start\nlater\n");
    // The source goes on from where it was stopped.
    lab.boxwood(["start", "web"]).output().exits(0);
    lab.logged("web", "start\nlater\nready\n");
    for name in ["web", "clone"] {
        lab.remove(name);
    }
    let carried = lab.boxwood(["snapshot", "export", "stopped"]).output().exits(0).stdout;
    let import = lab.boxwood(["snapshot", "import", "carried"]).stdin(carried).output();
    import.exits(0).prints("carried\n");
    restore("carried", "anew").exits(0);
    lab.logged("anew", "start\nlater\nready\n");
    lab.remove("anew");
    for snapshot in ["running", "whole", "stopped", "carried"] {
        lab.forget(snapshot);
    }
}

#[test]
fn s2_a_disk_that_can_not_be_kept_alone_is_refused() {
    let lab = Lab::new();
    let create = |name: &str| lab.boxwood(["snapshot", "create", "--disk-only", name, "warm"]);
    lab.refuses(create("nobody"), &["no such box"]);
    lab.idle("web");
    lab.boxwood(["pause", "web"]).output().exits(0);
    lab.refuses(create("web"), &["paused"]);
    lab.boxwood(["unpause", "web"]).output().exits(0);
    lab.refuses(lab.boxwood(["restore", "--disk-only", "nobody"]), &["no such snapshot"]);
    lab.remove("web");
}

#[test]
fn s2_a_disk_has_a_limit_of_layers_and_the_box_serves_on_at_it() {
    let lab = Lab::new();
    lab.detached("web", ["busybox", "sh", "-c", MAIN]);
    lab.logged("web", "ready\n");
    let mut made = 0;
    let refused = loop {
        let created = lab.boxwood(["snapshot", "create", "--disk-only", "web", "layer"]).output();
        if created.code() != Some(0) {
            break created;
        }
        made += 1;
        lab.forget("layer");
        assert!(made <= 100, "there is no end of it");
    };
    refused.refused(&["64 layers"]);
    assert_eq!(made, 64);
    lab.exec(["web", "sh", "-c", "cat /kept; echo x > /more; sync"]).output().prints("start\n");
    lab.boxwood(["stop", "-t", "0", "web"]).output().exits(0);
    lab.boxwood(["start", "web"]).output().exits(0);
    lab.logged("web", "start\nready\n");
    lab.exec(["web", "cat", "/more"]).output().prints("x\n");
    lab.remove("web");
}
