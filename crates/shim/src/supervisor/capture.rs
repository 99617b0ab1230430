//! Capturing a box: who asked, and what is done when its guest stands still. Called by the loop.

use std::path::{Path, PathBuf};
use std::time::Duration;

use boxwood_state::control::Reply;
use boxwood_state::events::Action;
use boxwood_state::{BoxDir, SnapshotPart, StateError, failpoint};
use boxwood_types::chain;
use boxwood_vmm::Vm;
use boxwood_vmm::snapshot::{CaptureRequest, Captured, DiskSwitch, Part, link_layers};
use boxwood_vmm::{MAX_LAYERS, make_overlay};
use boxwood_wire::preface::Mark;

use super::{Guest, Supervisor, tell};
use crate::clock;
use crate::greeting;
use crate::hold;
use crate::life::{Event, Life};
use crate::output::Sender;

/// How long QEMU may take.
const CAPTURE: Duration = Duration::from_secs(60);

/// A capture that was asked for.
pub(crate) struct Capturing {
    client: Sender,
    wanted: Wanted,
}

/// What is captured, and to where.
struct Wanted {
    directory: PathBuf,
    part: Part,
    mark: Mark,
}

impl Supervisor {
    /// Asks the guest to stand still, or says why not.
    pub(super) fn begin_capture(
        &mut self,
        what: (&str, SnapshotPart),
        (client, life): (Sender, &Life),
        (guest, news): (&Guest, &tokio::sync::mpsc::Sender<Event>),
    ) {
        let prepared = match (life, &self.capturing) {
            // Its guest is told to stand still already, and who wanted that has gone.
            (Life::Running, Some(past)) if past.client.is_closed() => {
                self.prepare_capture(what, client.clone(), Some(past.wanted.mark))
            }
            (Life::Running, None) if !guest.link.is_corked() => {
                self.prepare_capture(what, client.clone(), None)
            }
            (Life::Running, _) => Err("it is being captured already".to_owned()),
            _ => Err("only a running box can be captured".to_owned()),
        };
        match prepared {
            Ok(capturing) => {
                failpoint("capture: asked");
                let mark = capturing.wanted.mark;
                if self.capturing.replace(capturing).is_none() {
                    let (link, questions) = (guest.link.clone(), guest.questions.clone());
                    hold::begin(link, questions, mark, news.clone());
                }
            }
            Err(message) => tell(&client, &Reply::Refused { state: life.state(), message }),
        }
    }

    fn prepare_capture(
        &self,
        (token, part): (&str, SnapshotPart),
        client: Sender,
        told: Option<Mark>,
    ) -> Result<Capturing, String> {
        let layers = self.dir.disk_files().map_err(|error| chain(&error))?.below.len();
        if layers >= MAX_LAYERS {
            return Err(format!(
                "its disk has {layers} layers, which is the most: start a new box from the image, \
                 and copy what it needs"
            ));
        }
        let directory = self.home.capturing(token).ok_or("there is nowhere to capture it to")?;
        let mark = told.map_or_else(greeting::mark, Ok).map_err(|error| error.to_string())?;
        let part = match part {
            SnapshotPart::Everything => Part::Everything,
            SnapshotPart::Disk => Part::Disk,
        };
        Ok(Capturing { client, wanted: Wanted { directory, part, mark } })
    }

    /// Captures the VM, whose guest stands still, and lets both go on.
    pub(super) async fn capture(&mut self, vm: &mut Vm, guest: &Guest) {
        let Some(Capturing { client, wanted }) = self.capturing.take() else { return };
        failpoint("capture: guest holds");
        let captured = capture_into(&self.dir, vm, &wanted).await;
        failpoint("capture: done");
        hold::go_on(&guest.link);
        clock::put_forward(vm.take_stood_still(), &guest.orders);
        let linked = captured.and_then(|captured| {
            link_disk(&self.dir, &wanted.directory).map_err(|error| chain(&error))?;
            Ok(captured)
        });
        failpoint("capture: disk linked");
        let reply = match linked {
            Ok(Captured { pause, pages }) => {
                self.announcer.say(&Action::Checkpoint);
                let pause_us = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
                Reply::Captured { pause_us, pages }
            }
            Err(message) => Reply::Refused { state: self.record.state, message },
        };
        tell(&client, &reply);
        failpoint("capture: told");
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
    Wanted { directory, part, mark }: &Wanted,
) -> Result<Captured, String> {
    let overlay = dir.new_overlay().map_err(|error| chain(&error))?;
    make_overlay(&overlay)
        .map_err(|error| format!("can't make an overlay of its disk: {error}"))?;
    let mut switch = |to| match to {
        DiskSwitch::Over => dir.push_overlay(),
        DiskSwitch::Back => dir.pop_overlay(),
    };
    let request = CaptureRequest {
        directory,
        part: *part,
        mark: mark.0,
        overlay,
        switch: &mut switch,
        within: CAPTURE,
    };
    let captured = vm.capture(request).await.map_err(|error| chain(&error));
    if captured.is_err() {
        // An overlay that stays harms nobody: the next capture makes it anew.
        let _ = dir.settle_disk();
    }
    captured
}

/// Gives the layers of the disk to the snapshot, too.
fn link_disk(dir: &BoxDir, directory: &Path) -> Result<(), StateError> {
    let linked = link_layers(&dir.disk_files()?.below, directory);
    linked.map_err(|(path, source)| StateError::Io { action: "make", path, source })
}
