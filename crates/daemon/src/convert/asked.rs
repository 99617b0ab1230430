//! What a client asks for: checked, and made a request of the runtime's.

use std::collections::BTreeMap;

use boxwood_api::{CreateBox, CreateExec, HealthCheck, UpdateBox, check_label};
use boxwood_runtime::state::log::LogPolicy;
use boxwood_runtime::state::{AfterExit, Client};
use boxwood_runtime::{CreateRequest, ExecRequest, HealthWishes, UpdateRequest};
use boxwood_types::{ByteSize, RestartPolicy};

use super::value::{milliseconds, shape, signal, size, text, texts, wrong};
use crate::error::ApiError;
use crate::keys::Key;

/// A box to create.
pub(crate) fn create(asked: CreateBox, key: Option<&Key>) -> Result<CreateRequest, ApiError> {
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
        shape: shape(asked.cpus, asked.memory_bytes)?,
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
    if disabled && asked.is_some() {
        return Err(ApiError::bad(
            "a health check that is disabled has no settings: leave them out",
        ));
    }
    let asked = asked.unwrap_or_default();
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

pub(super) fn labels(
    given: BTreeMap<String, String>,
    key: Option<&Key>,
) -> Result<BTreeMap<String, String>, ApiError> {
    let mut labels = given;
    labels.keys().try_for_each(|name| check_label(name)).map_err(ApiError::bad)?;
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
            r#"{"image":"busybox","memory_bytes":67108863}"#,
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
}
