//! Single values, both ways: times, signals, sizes, states, texts.

use boxwood_api::TerminalSize;
use boxwood_runtime::state::BoxSpec;
use boxwood_runtime::state::clock::Moment;
use boxwood_types::{BoxState, ByteSize, Shape, ShapeError, Signal, WindowSize};
use jiff::Timestamp;

use crate::error::ApiError;

/// The longest time that can be asked for, in milliseconds: a year.
pub(crate) const MAX_MS: u64 = 31_536_000_000;

/// A state.
pub(crate) fn state(asked: boxwood_api::BoxState) -> BoxState {
    use boxwood_api::BoxState as Asked;
    match asked {
        Asked::Created => BoxState::Created,
        Asked::Starting => BoxState::Starting,
        Asked::Running => BoxState::Running,
        Asked::Paused => BoxState::Paused,
        Asked::Restarting => BoxState::Restarting,
        Asked::Stopping => BoxState::Stopping,
        Asked::Exited => BoxState::Exited,
        Asked::Failed => BoxState::Failed,
    }
}

/// A terminal's size.
pub(crate) fn size(asked: TerminalSize) -> WindowSize {
    WindowSize { rows: asked.rows, columns: asked.columns }
}

/// A signal by name or number.
pub(crate) fn signal(asked: Option<&str>) -> Result<Option<Signal>, ApiError> {
    asked.map(str::parse).transpose().map_err(wrong)
}

/// A time in milliseconds.
pub(crate) fn milliseconds(asked: u64) -> Result<u64, ApiError> {
    if asked > MAX_MS {
        return Err(ApiError::bad(format!("a time is at most {MAX_MS} ms, a year")));
    }
    Ok(asked)
}

/// A moment.
pub(crate) fn moment(asked: &str) -> Result<Moment, ApiError> {
    let wrong = || ApiError::bad("a time is written as in 2026-01-31T12:00:00.000000000Z");
    let time: Timestamp = asked.parse().map_err(|_| wrong())?;
    // Before 1970 nothing was written.
    Ok(Moment(u64::try_from(time.as_nanosecond()).unwrap_or(0)))
}

/// A label with any or with this value.
pub(crate) type Label = (String, Option<String>);

/// One as it is asked for: `NAME`, or `NAME=VALUE`.
pub(crate) fn label(asked: String) -> Label {
    match asked.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (asked, None),
    }
}

/// Whether a box has it.
pub(crate) fn has_label(spec: &BoxSpec, (name, value): &Label) -> bool {
    match value {
        Some(value) => spec.labels.get(name) == Some(value),
        None => spec.labels.contains_key(name),
    }
}

/// vCPUs and memory, where they are not the default.
pub(super) fn shape(cpus: Option<u32>, memory_bytes: Option<u64>) -> Result<Shape, ApiError> {
    let default = Shape::default();
    let memory = ByteSize::from_bytes(memory_bytes.unwrap_or(default.memory_bytes()));
    // It is rounded up, but what is too little is not made enough.
    if memory.bytes() < u64::from(Shape::MIN_MEMORY_MIB) << 20 {
        return Err(wrong(ShapeError::Memory(memory)));
    }
    Shape::new(cpus.unwrap_or(default.cpus()), memory).map_err(wrong)
}

pub(super) fn texts<T: From<String>>(given: Vec<String>) -> Result<Vec<T>, ApiError> {
    given.into_iter().map(|one| text(one).map(T::from)).collect()
}

pub(super) fn text(given: String) -> Result<String, ApiError> {
    if given.contains('\0') {
        return Err(ApiError::bad("a text has no NUL character"));
    }
    Ok(given)
}

pub(super) fn wrong(error: impl std::error::Error) -> ApiError {
    ApiError::bad(boxwood_types::chain(&error))
}

/// RFC 3339 in UTC with nanoseconds, as Docker writes it.
pub(crate) fn rfc3339(moment: Moment) -> String {
    match Timestamp::from_nanosecond(i128::from(moment.0)) {
        Ok(time) => format!("{time:.9}"),
        Err(_) => "0001-01-01T00:00:00Z".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_docker_does_and_read_again() {
        let moment_of = Moment(1_700_000_000_123_456_789);
        assert_eq!(rfc3339(moment_of), "2023-11-14T22:13:20.123456789Z");
        assert_eq!(moment(&rfc3339(moment_of)).unwrap(), moment_of);
        assert!(moment("yesterday").is_err());
    }
}
