//! What the runtime knows about boxes, commands, images and templates, as it is told.

use std::time::{SystemTime, UNIX_EPOCH};

use boxwood_api::{BoxInfo, ExecEnd, Exit, ImageInfo};
use boxwood_runtime::Listed;
use boxwood_runtime::image::ImageSummary;
use boxwood_runtime::state::clock::Moment;
use boxwood_runtime::state::control::SessionEnd;
use boxwood_runtime::state::{AfterExit, ExitRecord, Text};
use boxwood_runtime::vmm::TemplateInfo;
use boxwood_types::{ExitReason, ExitStatus};

use super::value::rfc3339;

/// What a shell shows for a command whose box ended under it: 128 + SIGKILL.
const KILLED: u8 = 137;
/// What coreutils' `timeout` returns.
const TIMED_OUT: u8 = 124;

/// What there is to say about a box.
pub(crate) fn info(listed: &Listed) -> BoxInfo {
    let (spec, record) = (&listed.spec, &listed.record);
    let live = record.state.is_live();
    BoxInfo {
        id: spec.id.to_string(),
        name: spec.name.to_string(),
        image: spec.image.name.clone(),
        image_id: spec.image.id.to_string(),
        command: spec.process.argv.iter().map(Text::display).collect(),
        state: record.state.to_string(),
        created: rfc3339(spec.created),
        started: record.started.map(rfc3339),
        finished: record.finished.map(rfc3339),
        exit: record.exit.as_ref().map(exit),
        labels: spec.labels.clone(),
        hostname: spec.hostname.clone(),
        cpus: spec.shape.cpus(),
        memory_bytes: spec.shape.memory_bytes(),
        open_stdin: spec.process.open_stdin,
        terminal: spec.process.terminal.is_some(),
        auto_remove: spec.after_exit == AfterExit::Remove,
        restart_policy: spec.restart.to_string(),
        restarts: record.restarts,
        health: record.health.map(|health| health.word().to_owned()),
        shim_pid: record.shim.as_ref().filter(|_| live).map(|shim| shim.pid),
        vm_pid: record.vmm_pid.filter(|_| live),
        disk_bytes: None,
    }
}

/// How a box ended.
pub(crate) fn exit(record: &ExitRecord) -> Exit {
    Exit {
        code: record.code,
        signal: signal_of(record.status),
        known: record.reason == ExitReason::Exited && record.status != ExitStatus::Unknown,
        reason: word(&record.reason),
        message: record.message.clone(),
    }
}

fn signal_of(status: ExitStatus) -> Option<u8> {
    match status {
        ExitStatus::Signal(signal) => Some(signal.number()),
        ExitStatus::Code(_) | ExitStatus::Unknown => None,
    }
}

/// As it is written on the disk.
fn word(reason: &ExitReason) -> String {
    let json = serde_json::to_value(reason).expect("plain data always encodes");
    json.as_str().unwrap_or_default().to_owned()
}

/// How a command beside main ended.
pub(crate) fn exec_end(end: &SessionEnd) -> ExecEnd {
    let of = |code, reason: &str, message| ExecEnd {
        code,
        signal: None,
        reason: reason.to_owned(),
        message,
    };
    match end {
        SessionEnd::Exited { status } => {
            ExecEnd { signal: signal_of(*status), ..of(status.shell_code(), "exited", None) }
        }
        SessionEnd::TimedOut => of(TIMED_OUT, "timed_out", None),
        SessionEnd::Refused { refusal, reason } => {
            of(refusal.shell_code(), "refused", Some(reason.clone()))
        }
        SessionEnd::Failed { reason } => of(125, "failed", Some(reason.clone())),
    }
}

/// The end of a command whose box ended under it.
pub(crate) fn exec_bereaved(exit: &ExitRecord) -> ExecEnd {
    let message = Some(exit.reason.to_string());
    ExecEnd { code: KILLED, signal: None, reason: "box_ended".to_owned(), message }
}

/// The end of a command of which nobody knows how it ended.
pub(crate) fn exec_lost(reason: &str) -> ExecEnd {
    let code = ExitStatus::Unknown.shell_code();
    ExecEnd { code, signal: None, reason: reason.to_owned(), message: None }
}

/// An image.
pub(crate) fn image(summary: ImageSummary) -> ImageInfo {
    let created = summary.created.and_then(nanoseconds).map(rfc3339);
    ImageInfo {
        id: summary.id.to_string(),
        names: summary.names.iter().map(ToString::to_string).collect(),
        created,
        content_bytes: summary.content_bytes,
        disk_bytes: summary.disk_bytes,
        damaged: summary.damaged,
    }
}

fn nanoseconds(time: SystemTime) -> Option<Moment> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok().map(Moment)
}

/// A template.
pub(crate) fn template(info: TemplateInfo) -> boxwood_api::TemplateInfo {
    let (manifest, damaged) = match info.manifest {
        Ok(manifest) => (Some(manifest), None),
        Err(damage) => (None, Some(damage)),
    };
    let manifest = manifest.as_ref();
    let created = manifest.map(|m| Moment(m.made_unix_s().saturating_mul(1_000_000_000)));
    boxwood_api::TemplateInfo {
        key: info.key,
        disk_bytes: info.disk_bytes,
        verified: info.verified,
        shape: manifest.map(|m| m.shape().to_string()),
        image: manifest.and_then(|m| m.image().map(str::to_owned)),
        accelerator: manifest.map(|m| m.accelerator().to_string()),
        created: created.map(rfc3339),
        qemu_version: manifest.map(|m| m.engine_version().to_string()),
        damaged,
    }
}
