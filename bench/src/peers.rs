//! Other tools that run the same image: `ctr` of containerd and `podman`, each where it is installed
//! and works. Called by `start`.

use boxwood_tests::archive::{Image, Layer, write};
use boxwood_tests::{Invocation, Lab, Output};

/// The image's name in their stores.
const NAME: &str = "docker.io/library/boxwood-bench:1";

/// A tool that has the image.
pub(crate) struct Peer {
    pub(crate) title: &'static str,
    program: &'static str,
    run: &'static [&'static str],
    /// What comes between the image's name and the command: ctr wants a name for the container.
    named: bool,
    remove: &'static [&'static str],
}

const PEERS: [(Peer, &[&str]); 2] = [
    (
        Peer {
            title: "ctr run --rm",
            program: "ctr",
            run: &["run", "--rm"],
            named: true,
            remove: &["image", "rm"],
        },
        &["image", "import"],
    ),
    (
        Peer {
            title: "podman run --rm --network none",
            program: "podman",
            run: &["run", "--rm", "--network", "none"],
            named: false,
            remove: &["rmi", "-f"],
        },
        &["load", "-q", "-i"],
    ),
];

/// The peers that are here, with the image in their stores.
pub(crate) fn find(lab: &Lab) -> Vec<Peer> {
    let archive = lab.folder().join("peers.tar");
    write(&archive, &Image::of(vec![Layer::busybox().end()]).docker_archive(&[NAME]));
    let mut found = Vec::new();
    for (peer, import) in PEERS {
        if !boxwood_tests::host_has(peer.program) {
            println!("{} is not installed: not compared", peer.program);
            continue;
        }
        let imported = Invocation::new(peer.program).args(import).args([&archive]).output();
        // The first run makes what later ones find.
        let last = if imported.code() == Some(0) { peer.run() } else { imported };
        if last.code() == Some(0) {
            found.push(peer);
        } else {
            let why = last.complaint();
            let why = why.lines().last().unwrap_or("it does not say why");
            println!("{} does not work here: not compared ({why})", peer.program);
        }
    }
    found
}

impl Peer {
    /// Runs `true` once.
    pub(crate) fn run(&self) -> Output {
        let run = Invocation::new(self.program).args(self.run).args([NAME]);
        let run = if self.named { run.args(["boxwood-bench"]) } else { run };
        run.args(["/bin/busybox", "true"]).output()
    }

    /// Takes the image away again.
    pub(crate) fn forget(&self) {
        let removed = Invocation::new(self.program).args(self.remove).args([NAME]).output();
        if removed.code() != Some(0) {
            eprintln!("{NAME} stays in the store of {}\n{removed:?}", self.program);
        }
    }
}
