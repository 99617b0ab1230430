//! Between the words of REST and those inside: the one place where what a client says is checked and
//! becomes a request, and where what the runtime knows becomes an answer. Called by the routes.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use boxwood_api::{
    BoxInfo, BoxProcesses, BoxStats, Bucket, CreateBox, CreateExec, ExecEnd, Exit, HealthCheck,
    Histogram, ImageInfo, Metric, RESERVED_LABELS, TerminalSize, UpdateBox,
};
use boxwood_runtime::image::ImageSummary;
use boxwood_runtime::state::clock::Moment;
use boxwood_runtime::state::control::{self, SessionEnd};
use boxwood_runtime::state::log::LogPolicy;
use boxwood_runtime::state::{AfterExit, Client, ExitRecord, Text};
use boxwood_runtime::vmm::TemplateInfo;
use boxwood_runtime::{
    CreateRequest, ExecRequest, HealthWishes, Listed, METRICS_PREFIX, Metrics, Processes,
    UpdateRequest,
};
use boxwood_types::{
    BoxState, ByteSize, ExitReason, ExitStatus, RestartPolicy, Shape, Signal, WindowSize,
};
use jiff::Timestamp;

use crate::error::ApiError;
use crate::keys::Key;

/// The longest time that can be asked for, in milliseconds: a year.
pub(crate) const MAX_MS: u64 = 31_536_000_000;
/// What a shell shows for a command whose box ended under it: 128 + SIGKILL.
const KILLED: u8 = 137;
/// What coreutils' `timeout` returns.
const TIMED_OUT: u8 = 124;

/// A box to create.
pub(crate) fn create(asked: CreateBox, key: Option<&Key>) -> Result<CreateRequest, ApiError> {
    let default = Shape::default();
    let memory = asked.memory_bytes.unwrap_or(default.memory_bytes());
    let shape = Shape::new(asked.cpus.unwrap_or(default.cpus()), ByteSize::from_bytes(memory));
    let client = if asked.start { Client::Detached } else { Client::Later };
    let request = CreateRequest {
        image: text(asked.image)?,
        name: asked.name.map(|name| name.parse()).transpose().map_err(wrong)?,
        command: texts(asked.command)?,
        entrypoint: asked.entrypoint.map(text).transpose()?.map(Into::into),
        env: texts(asked.env)?,
        workdir: asked.workdir.map(text).transpose()?.map(Into::into),
        user: asked.user.map(text).transpose()?.map(Into::into),
        hostname: asked.hostname,
        shape: shape.map_err(wrong)?,
        open_stdin: asked.open_stdin,
        terminal: asked.terminal.map(size),
        stop_signal: signal(asked.stop_signal.as_deref())?,
        stop_grace_ms: asked.stop_timeout_ms.map(milliseconds).transpose()?,
        labels: labels(asked.labels, key)?,
        after_exit: if asked.auto_remove { AfterExit::Remove } else { AfterExit::Keep },
        restart: restart(asked.restart_policy.as_deref())?.unwrap_or_default(),
        log: log_policy(asked.log_max_size_bytes, asked.log_max_files)?,
        health: health(asked.health_check_disabled, asked.health_check_settings)?,
        client,
    };
    request.check()?;
    Ok(request)
}

/// What a box is to be from now on.
pub(crate) fn update(asked: UpdateBox) -> Result<UpdateRequest, ApiError> {
    Ok(UpdateRequest {
        restart: restart(asked.restart_policy.as_deref())?,
        health: health(asked.health_check_disabled, asked.health_check_settings)?,
        stop_grace_ms: asked.stop_timeout_ms.map(milliseconds).transpose()?,
    })
}

fn restart(asked: Option<&str>) -> Result<Option<RestartPolicy>, ApiError> {
    if asked == Some("") {
        // On a command line it means the default; here that is said by leaving it out.
        return Err(ApiError::bad("a restart policy is not empty: leave it out"));
    }
    asked.map(str::parse).transpose().map_err(wrong)
}

fn log_policy(size: Option<u64>, files: Option<u32>) -> Result<LogPolicy, ApiError> {
    let default = LogPolicy::default();
    let policy = LogPolicy {
        max_size: size.unwrap_or(default.max_size),
        max_files: files.unwrap_or(default.max_files),
    };
    if !(1000..=1_000_000_000_000).contains(&policy.max_size) {
        return Err(ApiError::bad("a piece of a log has 1000 bytes to 1 TB"));
    }
    if !(1..=1000).contains(&policy.max_files) {
        return Err(ApiError::bad("a log has 1 to 1000 pieces"));
    }
    Ok(policy)
}

fn health(disabled: bool, asked: Option<HealthCheck>) -> Result<HealthWishes, ApiError> {
    let asked = asked.unwrap_or_default();
    if disabled {
        // What is disabled has no settings that could matter.
        return Ok(HealthWishes { disabled, ..HealthWishes::default() });
    }
    let time = |ms: Option<u64>| match ms {
        Some(0) => Err(ApiError::bad("a time of a health check is at least 1 ms")),
        ms => ms.map(milliseconds).transpose(),
    };
    if asked.command.as_deref() == Some("") {
        return Err(ApiError::bad("the command of a health check is not empty: leave it out"));
    }
    if asked.retries.is_some_and(|retries| !(1..=1_000_000).contains(&retries)) {
        return Err(ApiError::bad("a health check has 1 to 1000000 retries"));
    }
    Ok(HealthWishes {
        disabled,
        command: asked.command.map(text).transpose()?,
        interval_ms: time(asked.interval_ms)?,
        timeout_ms: time(asked.timeout_ms)?,
        start_period_ms: time(asked.start_period_ms)?,
        start_interval_ms: time(asked.start_interval_ms)?,
        retries: asked.retries,
    })
}

fn labels(
    given: BTreeMap<String, String>,
    key: Option<&Key>,
) -> Result<BTreeMap<String, String>, ApiError> {
    let mut labels = given;
    for name in labels.keys() {
        if name.is_empty() || name.starts_with(RESERVED_LABELS) {
            let message = format!(
                "invalid label '{name}': a name is not empty and does not begin with \
                 '{RESERVED_LABELS}'"
            );
            return Err(ApiError::bad(message));
        }
    }
    if let Some(Key { key, body }) = key {
        labels.insert(boxwood_api::KEY_LABEL.to_owned(), key.clone());
        labels.insert(boxwood_api::BODY_LABEL.to_owned(), body.clone());
    }
    Ok(labels)
}

/// A command beside main.
pub(crate) fn exec(asked: CreateExec) -> Result<ExecRequest, ApiError> {
    let bytes = |texts: &[String]| texts.iter().map(|text| text.len() + 1).sum::<usize>();
    if bytes(&asked.command) + bytes(&asked.env) > crate::execs::MAX_REQUEST {
        let limit = ByteSize::from_bytes(crate::execs::MAX_REQUEST as u64);
        let message = format!("the command and its environment have more than {limit}");
        return Err(ApiError::too_large(message));
    }
    if asked.command.first().is_none_or(String::is_empty) {
        return Err(ApiError::bad("no command specified: say what to run"));
    }
    if asked.timeout_ms == Some(0) {
        return Err(ApiError::bad("a timeout is above 0"));
    }
    let request = ExecRequest {
        command: texts(asked.command)?,
        env: texts(asked.env)?,
        workdir: asked.workdir.map(text).transpose()?.map(Into::into),
        user: asked.user.map(text).transpose()?.map(Into::into),
        open_stdin: asked.open_stdin && !asked.detach,
        terminal: asked.terminal.map(size),
        timeout_ms: asked.timeout_ms.map(milliseconds).transpose()?,
        client: if asked.detach { Client::Detached } else { Client::Attached },
    };
    request.check()?;
    Ok(request)
}

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

fn texts<T: From<String>>(given: Vec<String>) -> Result<Vec<T>, ApiError> {
    given.into_iter().map(|one| text(one).map(T::from)).collect()
}

fn text(given: String) -> Result<String, ApiError> {
    if given.contains('\0') {
        return Err(ApiError::bad("a text has no NUL character"));
    }
    Ok(given)
}

fn wrong(error: impl std::error::Error) -> ApiError {
    ApiError::bad(boxwood_types::chain(&error))
}

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

/// What a box takes of the host.
pub(crate) fn stats(
    listed: &Listed,
    usage: Option<control::Usage>,
    processes: Option<usize>,
) -> BoxStats {
    let usage = usage.map(|usage| boxwood_api::Usage {
        cpu_ns: usage.cpu_ns,
        memory_bytes: usage.memory,
        read_bytes: usage.read,
        written_bytes: usage.written,
    });
    BoxStats {
        id: listed.spec.id.to_string(),
        name: listed.spec.name.to_string(),
        time: rfc3339(Moment::now()),
        memory_limit_bytes: listed.spec.shape.memory_bytes(),
        usage,
        processes: processes.map(|count| count as u64),
    }
}

/// The processes in a box.
pub(crate) fn processes(found: Processes) -> BoxProcesses {
    let process = |one: control::BoxProcess| boxwood_api::BoxProcess {
        pid: one.pid,
        ppid: one.ppid,
        user: one.user,
        state: one.state.to_string(),
        terminal: one.terminal,
        started: rfc3339(one.started),
        age_ms: one.age_ms,
        cpu_ms: one.cpu_ms,
        rss_kib: one.rss_kib,
        command: one.command,
    };
    BoxProcesses { processes: found.processes.into_iter().map(process).collect(), more: found.more }
}

/// What was counted and timed.
pub(crate) fn metrics(found: &Metrics) -> boxwood_api::Metrics {
    let labels = |label: Option<(&str, &str)>| {
        label.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let counters = found.counters().map(|(series, value)| Metric {
        name: format!("{METRICS_PREFIX}_{}_total", series.family),
        labels: labels(series.label),
        help: series.help.to_owned(),
        value,
    });
    let gauges = found.boxes().iter().map(|(state, value)| Metric {
        name: format!("{METRICS_PREFIX}_boxes"),
        labels: labels(Some(("state", &state.to_string()))),
        help: "Boxes by their states".to_owned(),
        value: *value,
    });
    let histograms = found.timings().map(|(series, spread)| {
        let mut so_far = 0;
        let bounded = spread.buckets.iter().filter(|(bound, _)| **bound != u64::MAX);
        let buckets = bounded.map(|(bound, count)| {
            so_far += count;
            Bucket { le_seconds: seconds(*bound), count: so_far }
        });
        Histogram {
            name: format!("{METRICS_PREFIX}_{}_seconds", series.family),
            help: series.help.to_owned(),
            buckets: buckets.collect(),
            count: spread.count(),
            sum_seconds: seconds(spread.sum_us),
        }
    });
    boxwood_api::Metrics {
        gauges: gauges.collect(),
        counters: counters.collect(),
        histograms: histograms.collect(),
    }
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
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

    fn create_of(text: &str) -> Result<CreateRequest, ApiError> {
        create(serde_json::from_str(text).unwrap(), None)
    }

    #[test]
    fn h13_what_is_wrong_with_a_request_is_found_before_anything_is_done() {
        for bad in [
            r#"{"image":"busybox","name":"../x"}"#,
            r#"{"image":"busybox","cpus":0}"#,
            r#"{"image":"busybox","memory_bytes":1}"#,
            r#"{"image":"busybox","memory_bytes":18446744073709551615}"#,
            r#"{"image":"busybox","env":["=x"]}"#,
            r#"{"image":"busybox","workdir":"srv"}"#,
            r#"{"image":"busybox","hostname":"a b"}"#,
            r#"{"image":"busybox","stop_signal":"SIGNOTHING"}"#,
            r#"{"image":"busybox","stop_timeout_ms":31536000001}"#,
            r#"{"image":"busybox","command":["a\u0000b"]}"#,
            r#"{"image":"busybox","labels":{"boxwood.x":"y"}}"#,
            r#"{"image":"busybox","labels":{"":"y"}}"#,
            r#"{"image":"busybox","restart_policy":"sometimes"}"#,
            r#"{"image":"busybox","restart_policy":""}"#,
            r#"{"image":"busybox","restart_policy":"always","auto_remove":true}"#,
            r#"{"image":"busybox","health_check_settings":{"interval_ms":0}}"#,
            r#"{"image":"busybox","log_max_files":0}"#,
            r#"{"image":"busybox","health_check_settings":{"retries":1000001}}"#,
        ] {
            assert!(create_of(bad).is_err(), "{bad}");
        }
        create_of(r#"{"image":"busybox","name":"web","cpus":2,"labels":{"a":""}}"#).unwrap();
    }

    #[test]
    fn h9_health_is_checked_unless_it_is_disabled() {
        let health = |text| create_of(text).unwrap().health;
        let default = health(r#"{"image":"busybox"}"#);
        assert_eq!(default, health(r#"{"image":"busybox","health_check_disabled":false}"#));
        assert_eq!(default, HealthWishes::default());
        assert!(health(r#"{"image":"busybox","health_check_disabled":true}"#).disabled);
        let own =
            health(r#"{"image":"busybox","health_check_settings":{"command":"true","retries":2}}"#);
        assert_eq!((own.command.as_deref(), own.retries), (Some("true"), Some(2)));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for bad in [
            r#"{"image":"busybox","immage":"x"}"#,
            r#"{"image":"busybox","terminal":{"rows":1,"columns":1,"depth":1}}"#,
            r#"{"image":7}"#,
            r#"{"image":"busybox","terminal":{"rows":65536,"columns":1}}"#,
            r#"{}"#,
        ] {
            assert!(serde_json::from_str::<CreateBox>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_time_is_written_as_docker_does_and_read_again() {
        let moment_of = Moment(1_700_000_000_123_456_789);
        assert_eq!(rfc3339(moment_of), "2023-11-14T22:13:20.123456789Z");
        assert_eq!(moment(&rfc3339(moment_of)).unwrap(), moment_of);
        assert!(moment("yesterday").is_err());
    }
}
