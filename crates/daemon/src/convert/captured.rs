//! Snapshots and forks: what a client asks of them, checked, and what is told about them.

use std::collections::BTreeMap;

use boxwood_api::{CreateSnapshot, ForkBox, RestoreSnapshot, SnapshotInfo, SnapshotSource};
use boxwood_runtime::RestoreRequest;
use boxwood_runtime::state::{AfterExit, Client, Snapshot, SnapshotPart};
use boxwood_types::BoxName;

use super::asked::labels;
use super::value::{rfc3339, texts, wrong};
use crate::error::ApiError;

/// The most children of a fork.
const CHILDREN: u16 = 1000;

/// What is to be captured, and what it is to be called.
pub(crate) fn capture(asked: &CreateSnapshot) -> Result<(BoxName, SnapshotPart), ApiError> {
    let part = if asked.disk_only { SnapshotPart::Disk } else { SnapshotPart::Everything };
    Ok((asked.name.parse().map_err(wrong)?, part))
}

/// The name that a snapshot is imported under, if it is to be another one.
pub(crate) fn imported_as(asked: Option<&str>) -> Result<Option<BoxName>, ApiError> {
    asked.map(str::parse).transpose().map_err(wrong)
}

/// What a restored box is to have of its own, and what of the snapshot it is to be made of.
pub(crate) fn restore(asked: RestoreSnapshot) -> Result<(RestoreRequest, SnapshotPart), ApiError> {
    let part = if asked.disk_only { SnapshotPart::Disk } else { SnapshotPart::Everything };
    let RestoreSnapshot { name, env, labels, auto_remove, .. } = asked;
    Ok((own(name, (env, labels), auto_remove)?, part))
}

/// What each child of a fork is to have of its own.
pub(crate) fn fork(asked: ForkBox) -> Result<Vec<RestoreRequest>, ApiError> {
    let ForkBox { number, name, env, labels, auto_remove } = asked;
    let number = number.unwrap_or(1);
    if !(1..=CHILDREN).contains(&number) {
        return Err(ApiError::bad(format!("a fork has 1 to {CHILDREN} boxes, not {number}")));
    }
    own(name, (env, labels), auto_remove)?.numbered(number).map_err(wrong)
}

type Said = (Vec<String>, BTreeMap<String, String>);

fn own(
    name: Option<String>,
    (env, said): Said,
    auto_remove: bool,
) -> Result<RestoreRequest, ApiError> {
    let request = RestoreRequest {
        name: name.map(|name| name.parse()).transpose().map_err(wrong)?,
        env: texts(env)?,
        labels: labels(said, None)?,
        after_exit: if auto_remove { AfterExit::Remove } else { AfterExit::Keep },
        client: Client::Detached,
    };
    request.check()?;
    Ok(request)
}

/// A snapshot. Reads how large its files are.
pub(crate) fn snapshot(snapshot: &Snapshot) -> SnapshotInfo {
    let (info, size) = (&snapshot.info, snapshot.size());
    let source = &info.source;
    SnapshotInfo {
        name: info.name.to_string(),
        id: info.id.to_string(),
        created: rfc3339(info.created),
        part: match info.part {
            SnapshotPart::Everything => "everything".to_owned(),
            SnapshotPart::Disk => "disk".to_owned(),
        },
        own_bytes: size.own,
        shared_bytes: size.shared,
        cache_bytes: size.cache,
        directory: snapshot.directory.display().to_string(),
        source: SnapshotSource {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h13_what_is_wrong_with_a_fork_is_found_before_anything_is_captured() {
        let of = |text: &str| fork(serde_json::from_str(text).unwrap());
        for bad in [
            r#"{"number":0}"#,
            r#"{"number":1001}"#,
            r#"{"name":"../x"}"#,
            r#"{"env":["=x"]}"#,
            r#"{"labels":{"boxwood.x":""}}"#,
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
        let long = format!(r#"{{"name":"{}","number":2}}"#, "x".repeat(127));
        assert!(of(&long).is_err(), "with its number it is too long");
        let names = |text| {
            let children = of(text).unwrap().into_iter();
            children.map(|child| child.name.map(String::from)).collect::<Vec<_>>()
        };
        assert_eq!(
            names(r#"{"name":"try","number":2}"#),
            [Some("try-1".into()), Some("try-2".into())]
        );
        assert_eq!(names(r#"{"name":"try"}"#), [Some("try".into())]);
        assert_eq!(names("{}"), [None]);
    }

    #[test]
    fn what_is_not_known_of_a_capture_is_refused() {
        for bad in
            [r#"{"name":"x","nam":"y"}"#, "{}", r#"{"name":7}"#, r#"{"name":"x","disk_only":1}"#]
        {
            assert!(serde_json::from_str::<CreateSnapshot>(bad).is_err(), "{bad}");
        }
        for bad in ["", "x", "../x", "a b"] {
            let asked = CreateSnapshot { name: bad.to_owned(), disk_only: false };
            assert!(capture(&asked).is_err(), "{bad}");
        }
    }
}
