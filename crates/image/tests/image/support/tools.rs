//! Programs the tests need. A missing one is a failure that says what to install.

use std::path::Path;
use std::process::Command;

/// Runs a program and gives what it says; fails when it fails.
pub(crate) fn run(program: &str, package: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; apt-get install {package}"));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    said
}

/// Has `fsck.erofs` check a whole image.
pub(crate) fn fsck(image: &Path) {
    let said =
        run("fsck.erofs", "erofs-utils", &["-d3", "--extract", &image.display().to_string()]);
    assert!(said.contains("No errors found"), "{said}");
}
