//! Snapshots as they are shown, wherever they were heard of.

use std::collections::BTreeMap;

use boxwood_api::SnapshotInfo;
use boxwood_runtime::state::clock::Moment;
use boxwood_runtime::state::{Snapshot, SnapshotPart};
use boxwood_types::ByteSize;
use serde_json::{Value, json};

use crate::format::Format;
use crate::out::say;
use crate::{shown, times};

pub(super) const COLUMNS: [(&str, &str); 6] = [
    ("NAME", "Name"),
    ("BOX", "Box"),
    ("IMAGE", "Image"),
    ("PART", "Part"),
    ("CREATED", "CreatedSince"),
    ("SIZE", "Size"),
];

/// A snapshot.
pub(super) struct Shown {
    name: String,
    id: String,
    created: Moment,
    part: String,
    own_bytes: u64,
    shared_bytes: u64,
    cache_bytes: u64,
    directory: String,
    source: Source,
    pause_us: u64,
    memory_bytes: u64,
}

/// The box that was captured.
struct Source {
    id: String,
    name: String,
    image: String,
    shape: String,
    labels: BTreeMap<String, String>,
}

impl From<&Snapshot> for Shown {
    fn from(snapshot: &Snapshot) -> Self {
        let (info, size) = (&snapshot.info, snapshot.size());
        let source = &info.source;
        Shown {
            name: info.name.to_string(),
            id: info.id.to_string(),
            created: info.created,
            part: part(info.part).to_owned(),
            own_bytes: size.own,
            shared_bytes: size.shared,
            cache_bytes: size.cache,
            directory: snapshot.directory.display().to_string(),
            source: Source {
                id: source.id.to_string(),
                name: source.name.to_string(),
                image: source.image.name.clone(),
                shape: source.shape.to_string(),
                labels: source.labels.clone(),
            },
            pause_us: info.pause_us,
            memory_bytes: info.memory_bytes(),
        }
    }
}

impl TryFrom<SnapshotInfo> for Shown {
    type Error = anyhow::Error;

    fn try_from(info: SnapshotInfo) -> anyhow::Result<Self> {
        let source = info.source;
        Ok(Shown {
            created: shown::moment(&info.created)?,
            name: info.name,
            id: info.id,
            part: info.part,
            own_bytes: info.own_bytes,
            shared_bytes: info.shared_bytes,
            cache_bytes: info.cache_bytes,
            directory: info.directory,
            source: Source {
                id: source.id,
                name: source.name,
                image: source.image,
                shape: source.shape,
                labels: source.labels,
            },
            pause_us: info.pause_us,
            memory_bytes: info.memory_bytes,
        })
    }
}

/// Prints a table of them, or their names alone.
pub(super) fn list(snapshots: &[Shown], format: &Format, quiet: bool) -> anyhow::Result<()> {
    if quiet {
        return snapshots.iter().try_for_each(|one| say!("{}", one.name));
    }
    let now = Moment::now();
    let rows: Vec<Value> = snapshots.iter().map(|one| row(one, now)).collect();
    format.print(&rows, &COLUMNS)
}

fn row(one: &Shown, now: Moment) -> Value {
    let bytes = |bytes| ByteSize::from_bytes(bytes).to_string();
    json!({
        "Name": one.name,
        "ID": one.id.chars().take(12).collect::<String>(),
        "Box": one.source.name,
        "Image": one.source.image,
        "CreatedSince": format!("{} ago", times::since(one.created, now)),
        "CreatedAt": times::rfc3339(one.created),
        "Part": one.part,
        "OwnSize": bytes(one.own_bytes),
        "SharedSize": bytes(one.shared_bytes),
        "CacheSize": bytes(one.cache_bytes),
        "Size": format!("{} (and {} shared)", bytes(one.own_bytes), bytes(one.shared_bytes)),
    })
}

/// Everything there is to know about one.
pub(super) fn view(one: &Shown) -> Value {
    json!({
        "Name": one.name,
        "Id": one.id,
        "Created": times::rfc3339(one.created),
        "Part": one.part,
        "Size": { "Own": one.own_bytes, "Shared": one.shared_bytes, "Cache": one.cache_bytes },
        "Directory": one.directory,
        "Source": {
            "Id": one.source.id,
            "Name": one.source.name,
            "Image": one.source.image,
            "Shape": one.source.shape,
            "Labels": one.source.labels,
        },
        "Pause": { "Microseconds": one.pause_us },
        "MemoryBytes": one.memory_bytes,
    })
}

fn part(part: SnapshotPart) -> &'static str {
    match part {
        SnapshotPart::Everything => "everything",
        SnapshotPart::Disk => "disk",
    }
}
