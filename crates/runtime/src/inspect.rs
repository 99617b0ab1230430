//! `inspect`: a box in Docker's shape.

use boxwood_state::clock::Moment;
use boxwood_state::control::Counted;
use boxwood_state::{AfterExit, HealthSpec, ProbeResult, Text};
use boxwood_types::{BoxState, ExitReason};
use serde_json::{Value, json};

use crate::Listed;

/// What Docker writes for a moment that has not come.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// A box as `docker inspect` shows a container, as far as a box has the thing. Times are RFC 3339 in
/// UTC. `State.Status` is the box's own state; `State.Guest` is what its guest says it has counted, and
/// null where that is not known.
pub fn view(listed: &Listed, counted: Option<Counted>, time: &dyn Fn(Moment) -> String) -> Value {
    let guest = counted.map(
        |counted| json!({ "OrphansReaped": counted.orphans_reaped, "Sessions": counted.sessions }),
    );
    let (spec, record) = (&listed.spec, &listed.record);
    let exit = record.exit.as_ref();
    let when = |moment: Option<Moment>| moment.map_or_else(|| NEVER.to_owned(), time);
    let texts = |texts: &[Text]| texts.iter().map(Text::display).collect::<Vec<_>>();
    let (entrypoint, command) = spec.process.argv.split_at(spec.process.entrypoint_len);
    json!({
        "Id": spec.id.as_str(),
        "Name": format!("/{}", spec.name),
        "Created": time(spec.created),
        "Path": spec.process.argv.first().map(Text::display),
        "Args": texts(spec.process.argv.get(1..).unwrap_or_default()),
        "Image": spec.image.id.as_str(),
        "State": {
            "Status": record.state.to_string(),
            // As with Docker, what is paused or is started again runs, too.
            "Running": matches!(
                record.state,
                BoxState::Running | BoxState::Paused | BoxState::Restarting
            ),
            "Paused": record.state == BoxState::Paused,
            "Restarting": record.state == BoxState::Restarting,
            "Dead": record.state == BoxState::Failed,
            "Pid": record.vmm_pid.unwrap_or(0),
            "ShimPid": if record.state.is_live() { record.shim.as_ref().map(|s| s.pid) } else { None },
            "ExitCode": exit.map_or(0, |exit| exit.code),
            "ExitReason": exit.map(|exit| exit.reason),
            "ResultKnown": exit.map(|exit| exit.reason == ExitReason::Exited),
            "Error": exit.and_then(|exit| exit.message.clone()).unwrap_or_default(),
            "StartedAt": when(record.started),
            "FinishedAt": when(record.finished),
            "Health": health(listed, time),
            "Guest": guest,
        },
        "RestartCount": record.restarts,
        "Config": {
            "Hostname": spec.hostname,
            "User": spec.process.user.display(),
            "Env": texts(&spec.process.env),
            "Entrypoint": texts(entrypoint),
            "Cmd": texts(command),
            "WorkingDir": spec.process.cwd.display(),
            "Image": spec.image.name,
            "Labels": spec.labels,
            "OpenStdin": spec.process.open_stdin,
            "Tty": spec.process.terminal.is_some(),
            "Healthcheck": healthcheck(spec.health.as_ref()),
            "StopSignal": spec.stop.signal.to_string(),
            "StopTimeout": spec.stop.grace_ms.div_ceil(1000),
        },
        "HostConfig": {
            "Memory": spec.shape.memory_bytes(),
            "NanoCpus": u64::from(spec.shape.cpus()) * 1_000_000_000,
            "AutoRemove": spec.after_exit == AfterExit::Remove,
            "LogConfig": {
                "Type": "local",
                "Config": {
                    "max-size": spec.log.max_size.to_string(),
                    "max-file": spec.log.max_files.to_string(),
                },
            },
            "RestartPolicy": {
                "Name": spec.restart.name(),
                "MaximumRetryCount": spec.restart.maximum_retry_count(),
            },
        },
        "Template": spec.template.key,
        "LogPath": listed.dir.log_file(),
    })
}

/// Docker's `State.Health`; null where nobody checks, or has not yet.
fn health(listed: &Listed, time: &dyn Fn(Moment) -> String) -> Value {
    let Some(status) = listed.record.health else { return Value::Null };
    let health = listed.dir.health().ok().flatten();
    let (streak, log) = health.map_or((0, Vec::new()), |h| (h.failing_streak, h.log));
    let entry = |result: &ProbeResult| {
        json!({
            "Start": time(result.start),
            "End": time(result.end),
            "ExitCode": result.exit_code,
            "Output": result.output,
        })
    };
    let log: Vec<Value> = log.iter().map(entry).collect();
    json!({ "Status": status, "FailingStreak": streak, "Log": log })
}

/// Docker's `Config.Healthcheck`: times are in nanoseconds.
fn healthcheck(spec: Option<&HealthSpec>) -> Value {
    let Some(spec) = spec else { return json!({ "Test": ["NONE"] }) };
    let nanoseconds = |milliseconds: u64| milliseconds.saturating_mul(1_000_000);
    json!({
        "Test": spec.probe.test(),
        "Interval": nanoseconds(spec.interval_ms),
        "Timeout": nanoseconds(spec.timeout_ms),
        "StartPeriod": nanoseconds(spec.start_period_ms),
        "StartInterval": nanoseconds(spec.start_interval_ms),
        "Retries": spec.retries,
    })
}
