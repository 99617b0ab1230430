//! What a user asked for becomes a spec, once: image and wishes joined, everything checked.

use std::ffi::OsString;

use boxwood_image::Image;
use boxwood_state::clock::Moment;
use boxwood_state::{
    AfterExit, BoxSpec, Client, ImageRef, ProcessSpec, StopPolicy, TemplateRef, Text,
};
use boxwood_types::{BoxId, BoxName, ByteSize, Shape, Signal};

use crate::Error;

/// What Docker gives a process that has no `PATH` of its own.
pub(crate) const DEFAULT_PATH: &str =
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Docker's stop timeout, in milliseconds.
const DEFAULT_GRACE_MS: u64 = 10_000;

/// A box as a user describes it. What is not said is the image's or the default.
#[derive(Clone, Debug)]
pub struct CreateRequest {
    /// Name or id of the image.
    pub image: String,
    /// The box's name.
    pub name: Option<BoxName>,
    /// Instead of the image's command.
    pub command: Vec<OsString>,
    /// Instead of the image's entrypoint; empty for none.
    pub entrypoint: Option<OsString>,
    /// Set or, without `=`, unset: `NAME=value`.
    pub env: Vec<OsString>,
    /// Instead of the image's working directory.
    pub workdir: Option<OsString>,
    /// Instead of the image's user.
    pub user: Option<OsString>,
    /// The host name in the box.
    pub hostname: Option<String>,
    /// vCPUs and memory.
    pub shape: Shape,
    /// Whether standard input is connected.
    pub open_stdin: bool,
    /// Instead of the image's stop signal.
    pub stop_signal: Option<Signal>,
    /// Instead of 10 s, in milliseconds.
    pub stop_grace_ms: Option<u64>,
    /// What becomes of the box after main.
    pub after_exit: AfterExit,
    /// Whether the starting client stays.
    pub client: Client,
}

/// What is already known when a request becomes a spec.
pub(crate) struct Resolved<'a> {
    pub(crate) image: &'a Image,
    pub(crate) template: TemplateRef,
    pub(crate) id: BoxId,
    pub(crate) name: BoxName,
}

impl CreateRequest {
    /// Checks what can be checked before anything is looked up.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn check(&self) -> Result<(), Error> {
        if let Some(hostname) = &self.hostname {
            check_hostname(hostname)?;
        }
        if let Some(host) = host_memory()
            && self.shape.memory_bytes() > host
        {
            let asked = ByteSize::from_bytes(self.shape.memory_bytes());
            return Err(Error::TooMuchMemory { asked, host: ByteSize::from_bytes(host) });
        }
        for setting in &self.env {
            let bytes = setting.as_encoded_bytes();
            if bytes.is_empty() || bytes[0] == b'=' || bytes.contains(&0) {
                return Err(Error::BadEnv(setting.to_string_lossy().into_owned()));
            }
        }
        if let Some(workdir) = &self.workdir
            && !workdir.as_encoded_bytes().starts_with(b"/")
        {
            return Err(Error::BadWorkdir(workdir.to_string_lossy().into_owned()));
        }
        Ok(())
    }

    pub(crate) fn spec(&self, resolved: Resolved<'_>) -> Result<BoxSpec, Error> {
        let Resolved { image, template, id, name } = resolved;
        let hostname = self.hostname.clone().unwrap_or_else(|| id.short().to_owned());
        let process = self.process(image, &hostname)?;
        let signal = self.stop_signal.or(image.config().stop_signal).unwrap_or(Signal::TERM);
        Ok(BoxSpec {
            id,
            name,
            created: Moment::now(),
            image: ImageRef {
                id: image.id().clone(),
                name: self.image.clone(),
                block: image.block().to_owned(),
            },
            template,
            shape: self.shape,
            hostname,
            process,
            stop: StopPolicy { signal, grace_ms: self.stop_grace_ms.unwrap_or(DEFAULT_GRACE_MS) },
            after_exit: self.after_exit,
            client: self.client,
        })
    }

    fn process(&self, image: &Image, hostname: &str) -> Result<ProcessSpec, Error> {
        let config = image.config();
        let texts = |from: &[String]| from.iter().map(|t| Text::from(t.as_str())).collect();
        let given: Vec<Text> = self.command.iter().cloned().map(Text::from).collect();
        // Docker: an entrypoint of the user's takes the image's command away, too.
        let (entrypoint, command): (Vec<Text>, Vec<Text>) = match &self.entrypoint {
            Some(own) if own.is_empty() => (Vec::new(), given),
            Some(own) => (vec![Text::from(own.clone())], given),
            None if given.is_empty() => (texts(&config.entrypoint), texts(&config.cmd)),
            None => (texts(&config.entrypoint), given),
        };
        let entrypoint_len = entrypoint.len();
        let argv = [entrypoint, command].concat();
        if argv.first().is_none_or(|first| first.0.is_empty()) {
            return Err(Error::NoCommand(self.image.clone()));
        }
        let workdir = self.workdir.clone().map(Text::from);
        let user = self.user.clone().map(Text::from);
        let of_image = |text: &Option<String>| Text::from(text.as_deref().unwrap_or_default());
        Ok(ProcessSpec {
            argv,
            entrypoint_len,
            env: join_env(&config.env, &self.env, hostname),
            cwd: workdir.unwrap_or_else(|| of_image(&config.working_dir)),
            user: user.unwrap_or_else(|| of_image(&config.user)),
            open_stdin: self.open_stdin,
        })
    }
}

/// The environment of main, in Docker's order: `PATH` and `HOSTNAME`, the image's, the user's; the
/// last setting of a name wins in the place of the first.
fn join_env(image: &[String], user: &[OsString], hostname: &str) -> Vec<Text> {
    let mut joined: Vec<Vec<u8>> =
        vec![DEFAULT_PATH.into(), format!("HOSTNAME={hostname}").into_bytes()];
    let image = image.iter().map(|setting| setting.as_bytes());
    for setting in image.chain(user.iter().map(|setting| setting.as_encoded_bytes())) {
        let name = env_name(setting);
        let place = joined.iter().position(|other| env_name(other) == name);
        match (place, setting.contains(&b'=')) {
            (Some(place), true) => joined[place] = setting.to_vec(),
            (Some(place), false) => drop(joined.remove(place)),
            (None, true) => joined.push(setting.to_vec()),
            (None, false) => {}
        }
    }
    joined.into_iter().map(Text).collect()
}

fn env_name(setting: &[u8]) -> &[u8] {
    setting.split(|byte| *byte == b'=').next().unwrap_or_default()
}

/// RFC 1123 labels, at most 64 bytes in all (Linux, `HOST_NAME_MAX`).
fn check_hostname(hostname: &str) -> Result<(), Error> {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if hostname.len() <= 64 && hostname.split('.').all(label) {
        Ok(())
    } else {
        Err(Error::BadHostname(hostname.chars().take(80).collect()))
    }
}

/// The host's memory in bytes (proc(5), `MemTotal`).
fn host_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g7_the_users_environment_wins_and_keeps_its_place() {
        let image = ["A=1".to_owned(), "PATH=/x".to_owned(), "B=2".to_owned()];
        let user: Vec<OsString> =
            ["B=3", "C=", "A", "HOSTNAME=mine"].iter().map(OsString::from).collect();
        let joined: Vec<String> = join_env(&image, &user, "h").iter().map(Text::display).collect();
        assert_eq!(joined, ["PATH=/x", "HOSTNAME=mine", "B=3", "C="]);
    }

    #[test]
    fn h13_hostnames_are_checked() {
        for good in ["a", "web-1", "a.b.c", "A_1"] {
            assert!(check_hostname(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "a..b", "a b", "a/b", &"x".repeat(65)] {
            assert!(check_hostname(bad).is_err(), "{bad}");
        }
    }
}
