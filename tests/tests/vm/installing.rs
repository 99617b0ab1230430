//! `make install`: what root runs after a user has built.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use boxwood_tests::{Invocation, workspace};

const BUILT: [(&str, &str); 2] = [
    ("target/release/boxwood", "usr/local/bin/boxwood"),
    (
        "target/x86_64-unknown-linux-gnu/release/boxwood-guest",
        "usr/local/lib/boxwood/boxwood-guest",
    ),
];

#[test]
fn installing_copies_what_was_built_and_builds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let makefile = workspace().join("Makefile");
    let install = || {
        let make = Invocation::new("make").args(["-C"]).args([folder.path()]);
        make.args(["-f"]).args([&makefile]).args(["install", "DESTDIR=installed"]).output()
    };
    let refused = install().exits(2);
    assert!(refused.complaint().contains("run 'make build' first"), "{refused:?}");
    for (built, _) in BUILT {
        let path = folder.path().join(built);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, built).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    drop(install().exits(0));
    for (built, place) in BUILT {
        let installed = folder.path().join("installed").join(place);
        assert_eq!(fs::read_to_string(installed).unwrap(), built);
    }
}
