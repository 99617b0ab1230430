//! A box as lists show it, wherever it was heard of. Made for `ps` and its filters.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow};
use boxwood_api::{BoxInfo, Exit};
use boxwood_runtime::Listed;
use boxwood_runtime::state::clock::Moment;
use boxwood_runtime::state::{ExitRecord, Text};
use boxwood_types::{BoxState, ExitReason, ExitStatus, HealthStatus, Signal};

/// A box.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) image_id: String,
    pub(crate) command: Vec<String>,
    pub(crate) created: Moment,
    pub(crate) state: BoxState,
    pub(crate) started: Option<Moment>,
    pub(crate) finished: Option<Moment>,
    pub(crate) exit_code: Option<u8>,
    pub(crate) health: Option<HealthStatus>,
    pub(crate) labels: BTreeMap<String, String>,
    /// What it takes on the disk, where somebody wants to know.
    pub(crate) disk_bytes: Option<u64>,
}

impl From<&Listed> for Shown {
    fn from(listed: &Listed) -> Self {
        let (spec, record) = (&listed.spec, &listed.record);
        Shown {
            id: spec.id.to_string(),
            name: spec.name.to_string(),
            image: spec.image.name.clone(),
            image_id: spec.image.id.to_string(),
            command: spec.process.argv.iter().map(Text::display).collect(),
            created: spec.created,
            state: record.state,
            started: record.started,
            finished: record.finished,
            exit_code: record.exit.as_ref().map(|exit| exit.code),
            health: record.health,
            labels: spec.labels.clone(),
            disk_bytes: None,
        }
    }
}

impl TryFrom<BoxInfo> for Shown {
    type Error = anyhow::Error;

    fn try_from(info: BoxInfo) -> anyhow::Result<Self> {
        Ok(Shown {
            created: moment(&info.created)?,
            state: word(&info.state)?,
            started: info.started.as_deref().map(moment).transpose()?,
            finished: info.finished.as_deref().map(moment).transpose()?,
            exit_code: info.exit.map(|exit| exit.code),
            health: info.health.as_deref().map(word).transpose()?,
            id: info.id,
            name: info.name,
            image: info.image,
            image_id: info.image_id,
            command: info.command,
            labels: info.labels,
            disk_bytes: info.disk_bytes,
        })
    }
}

/// A time as a daemon writes it.
pub(crate) fn moment(text: &str) -> anyhow::Result<Moment> {
    let time: jiff::Timestamp =
        text.parse().with_context(|| format!("the daemon says '{text}', which is no time"))?;
    Ok(Moment(u64::try_from(time.as_nanosecond()).unwrap_or(0)))
}

fn word<T: serde::de::DeserializeOwned>(text: &str) -> anyhow::Result<T> {
    serde_json::from_value(text.into())
        .map_err(|_| anyhow!("the daemon says '{text}', which this version does not understand"))
}

/// An end as a daemon tells it.
pub(crate) fn exit(exit: Exit) -> ExitRecord {
    let signal = exit.signal.and_then(|number| Signal::try_from(number).ok());
    let status = match (signal, exit.known) {
        (Some(signal), _) => ExitStatus::Signal(signal),
        (None, true) => ExitStatus::Code(exit.code),
        (None, false) => ExitStatus::Unknown,
    };
    let reason = word(&exit.reason).unwrap_or(ExitReason::Lost);
    ExitRecord { status, reason, code: exit.code, message: exit.message }
}
