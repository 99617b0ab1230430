//! Capturing a box: who asked, and what is done when its guest stands still. Called by the loop.

use std::path::{Path, PathBuf};
use std::time::Duration;

use boxwood_state::control::Reply;
use boxwood_state::{BoxDir, StateError};
use boxwood_types::chain;
use boxwood_vmm::Vm;
use boxwood_vmm::snapshot::{CaptureRequest, Captured, DiskSwitch, layer, link_or_copy};
use boxwood_vmm::{MAX_LAYERS, make_overlay};
use boxwood_wire::preface::Mark;

use super::{Guest, Supervisor, tell};
use crate::greeting;
use crate::hold;
use crate::life::{Event, Life};
use crate::output::Sender;

/// How long QEMU may take.
const CAPTURE: Duration = Duration::from_secs(60);

/// A capture that was asked for.
pub(crate) struct Capturing {
    client: Sender,
    directory: PathBuf,
    mark: Mark,
}

impl Supervisor {
    /// Asks the guest to stand still, or says why not.
    pub(super) fn begin_capture(
        &mut self,
        token: &str,
        (client, life): (Sender, &Life),
        (guest, news): (&Guest, &tokio::sync::mpsc::Sender<Event>),
    ) {
        let prepared = match life {
            Life::Running if self.capturing.is_some() || guest.link.is_corked() => {
                Err("it is being captured already".to_owned())
            }
            Life::Running => self.prepare_capture(token, client.clone()),
            _ => Err("only a running box can be captured".to_owned()),
        };
        match prepared {
            Ok(capturing) => {
                let mark = capturing.mark;
                self.capturing = Some(capturing);
                let (link, questions) = (guest.link.clone(), guest.questions.clone());
                hold::begin(link, questions, mark, news.clone());
            }
            Err(message) => tell(&client, &Reply::Refused { state: life.state(), message }),
        }
    }

    fn prepare_capture(&self, token: &str, client: Sender) -> Result<Capturing, String> {
        let layers = self.dir.disk_files().map_err(|error| chain(&error))?.below.len();
        if layers >= MAX_LAYERS {
            return Err(format!("its disk has {layers} layers, which is the most"));
        }
        let directory = self.home.capturing(token).ok_or("there is nowhere to capture it to")?;
        let mark = greeting::mark().map_err(|error| error.to_string())?;
        Ok(Capturing { client, directory, mark })
    }

    /// Captures the VM, whose guest stands still, and lets both go on.
    pub(super) async fn capture(&mut self, vm: &mut Vm, guest: &Guest) {
        let Some(Capturing { client, directory, mark }) = self.capturing.take() else { return };
        let captured = capture_into(&self.dir, vm, &directory, mark).await;
        hold::go_on(&guest.link);
        let linked = captured.and_then(|captured| {
            link_disk(&self.dir, &directory).map_err(|error| chain(&error))?;
            Ok(captured)
        });
        let reply = match linked {
            Ok(Captured { pause, pages }) => {
                let pause_us = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
                Reply::Captured { pause_us, pages }
            }
            Err(message) => Reply::Refused { state: self.record.state, message },
        };
        tell(&client, &reply);
    }

    /// Nothing comes of a capture.
    pub(super) fn give_capture_up(&mut self, why: String) {
        if let Some(Capturing { client, .. }) = self.capturing.take() {
            tell(&client, &Reply::Refused { state: self.record.state, message: why });
        }
    }

    /// The guest stands still, and nobody wants that any more.
    pub(super) fn let_go(&mut self, guest: &Guest) {
        hold::go_on(&guest.link);
        self.give_capture_up("it is being stopped".to_owned());
    }
}

async fn capture_into(
    dir: &BoxDir,
    vm: &mut Vm,
    directory: &Path,
    mark: Mark,
) -> Result<Captured, String> {
    let overlay = dir.new_overlay().map_err(|error| chain(&error))?;
    make_overlay(&overlay)
        .map_err(|error| format!("can't make an overlay of its disk: {error}"))?;
    let mut switch = |to| match to {
        DiskSwitch::Over => dir.push_overlay(),
        DiskSwitch::Back => dir.pop_overlay(),
    };
    let request =
        CaptureRequest { directory, mark: mark.0, overlay, switch: &mut switch, within: CAPTURE };
    vm.capture(request).await.map_err(|error| chain(&error))
}

/// Gives the layers of the disk to the snapshot, too.
fn link_disk(dir: &BoxDir, directory: &Path) -> Result<(), StateError> {
    for (number, path) in dir.disk_files()?.below.iter().enumerate() {
        let to = layer(directory, number);
        let linked = std::fs::File::open(path).and_then(|file| link_or_copy(&file, &to));
        linked.map_err(|source| StateError::Io { action: "make", path: to, source })?;
    }
    Ok(())
}
