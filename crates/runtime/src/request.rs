//! What a user asked for becomes a spec, once: image and wishes joined, everything checked.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};

use boxwood_image::{Image, ImageConfig};
use boxwood_state::clock::Moment;
use boxwood_state::log::LogPolicy;
use boxwood_state::{
    AfterExit, BoxSpec, Client, ImageRef, ProcessSpec, StopPolicy, TemplateRef, Text,
};
use boxwood_types::{BoxId, BoxName, ByteSize, RestartPolicy, Shape, Signal, WindowSize};

use crate::{Error, HealthWishes};

/// What Docker gives a process that has no `PATH` of its own.
pub(crate) const DEFAULT_PATH: &str =
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What Docker gives a process with a terminal that has no `TERM` of its own.
pub(crate) const DEFAULT_TERM: &str = "TERM=xterm";
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
    /// The size of main's terminal, if it gets one.
    pub terminal: Option<WindowSize>,
    /// Instead of the image's stop signal.
    pub stop_signal: Option<Signal>,
    /// Instead of 10 s, in milliseconds.
    pub stop_grace_ms: Option<u64>,
    /// Beside the image's labels, or instead of those of the same name.
    pub labels: BTreeMap<String, String>,
    /// What becomes of the box after main.
    pub after_exit: AfterExit,
    /// Whether it is started again when it has ended by itself.
    pub restart: RestartPolicy,
    /// How much of what main writes is kept.
    pub log: LogPolicy,
    /// How its health is checked.
    pub health: HealthWishes,
    /// Whether the starting client stays.
    pub client: Client,
}

/// What is already known when a request becomes a spec.
pub(crate) struct Resolved<'a> {
    pub(crate) image: &'a Image,
    pub(crate) template: TemplateRef,
    pub(crate) again: TemplateRef,
    pub(crate) id: BoxId,
    pub(crate) name: BoxName,
}

impl CreateRequest {
    /// A box of this image that lives by its client and has nothing of its own: the rest is the image's or
    /// the default.
    pub fn of(image: &str) -> Self {
        CreateRequest {
            image: image.to_owned(),
            name: None,
            command: Vec::new(),
            entrypoint: None,
            env: Vec::new(),
            workdir: None,
            user: None,
            hostname: None,
            shape: Shape::default(),
            open_stdin: false,
            terminal: None,
            stop_signal: None,
            stop_grace_ms: None,
            labels: BTreeMap::new(),
            after_exit: AfterExit::Keep,
            restart: RestartPolicy::default(),
            log: LogPolicy::default(),
            health: HealthWishes::default(),
            client: Client::Attached,
        }
    }

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
        if let Some(host) = host_cpus()
            && self.shape.cpus() > host
        {
            return Err(Error::TooManyCpus { asked: self.shape.cpus(), host });
        }
        if self.after_exit == AfterExit::Remove && self.restart != RestartPolicy::No {
            return Err(Error::RestartAndRemove);
        }
        self.health.check()?;
        check_env(&self.env)?;
        check_workdir(self.workdir.as_deref())
    }

    pub(crate) fn spec(&self, resolved: Resolved<'_>) -> Result<BoxSpec, Error> {
        let Resolved { image, template, again, id, name } = resolved;
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
            again: Some(again),
            snapshot: None,
            shape: self.shape,
            hostname,
            process,
            stop: StopPolicy { signal, grace_ms: self.stop_grace_ms.unwrap_or(DEFAULT_GRACE_MS) },
            labels: image.config().labels.clone().into_iter().chain(self.labels.clone()).collect(),
            after_exit: self.after_exit,
            restart: self.restart,
            log: self.log,
            health: self.health.resolve(image.config().healthcheck.as_ref()),
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
            env: join_env(self.base_env(&config.env, hostname), &self.env),
            cwd: workdir.unwrap_or_else(|| of_image(&config.working_dir)),
            user: user.unwrap_or_else(|| of_image(&config.user)),
            open_stdin: self.open_stdin,
            terminal: self.terminal,
        })
    }

    /// The environment before the user's: `PATH`, `HOSTNAME`, `TERM` for a terminal, and the image's,
    /// in Docker's order.
    fn base_env(&self, image: &[String], hostname: &str) -> Vec<Text> {
        let mut base = vec![Text::from(DEFAULT_PATH), Text(format!("HOSTNAME={hostname}").into())];
        base.extend(self.terminal.map(|_| Text::from(DEFAULT_TERM)));
        let image: Vec<OsString> = image.iter().map(OsString::from).collect();
        join_env(base, &image)
    }
}

/// Refuses of an image that is to be made what would be refused of a box.
///
/// # Errors
/// With what can't be.
pub fn check_image_config(config: &ImageConfig) -> Result<(), Error> {
    let named =
        |setting: &&String| setting.find('=').is_some_and(|at| at > 0) && !setting.contains('\0');
    if let Some(setting) = config.env.iter().find(|setting| !named(setting)) {
        return Err(Error::BadImageEnv(setting.clone()));
    }
    check_workdir(config.working_dir.as_deref().map(OsStr::new))
}

/// Every setting has a name.
pub(crate) fn check_env(env: &[OsString]) -> Result<(), Error> {
    for setting in env {
        let bytes = setting.as_encoded_bytes();
        if bytes.is_empty() || bytes[0] == b'=' || bytes.contains(&0) {
            return Err(Error::BadEnv(setting.to_string_lossy().into_owned()));
        }
    }
    Ok(())
}

/// A working directory is absolute.
pub(crate) fn check_workdir(workdir: Option<&OsStr>) -> Result<(), Error> {
    match workdir {
        Some(workdir) if !workdir.as_encoded_bytes().starts_with(b"/") => {
            Err(Error::BadWorkdir(workdir.to_string_lossy().into_owned()))
        }
        _ => Ok(()),
    }
}

/// An environment with more settings in it: the last of a name wins, in the place of the first; one
/// without a value takes the name away.
pub(crate) fn join_env(base: Vec<Text>, more: &[OsString]) -> Vec<Text> {
    let mut joined: Vec<Option<Text>> = Vec::with_capacity(base.len() + more.len());
    // Files of settings may be long.
    let mut places: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
    for setting in base {
        places.entry(env_name(&setting.0).to_vec()).or_default().push(joined.len());
        joined.push(Some(setting));
    }
    for setting in more.iter().map(|setting| setting.as_encoded_bytes()) {
        let of_name = places.entry(env_name(setting).to_vec()).or_default();
        if !setting.contains(&b'=') {
            of_name.drain(..).for_each(|place| joined[place] = None);
        } else if let Some(first) = of_name.first() {
            joined[*first] = Some(Text(setting.to_vec()));
        } else {
            of_name.push(joined.len());
            joined.push(Some(Text(setting.to_vec())));
        }
    }
    joined.into_iter().flatten().collect()
}

pub(crate) fn env_name(setting: &[u8]) -> &[u8] {
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

/// The host's processors, whatever this process may use of them (proc(5), `cpuinfo`).
fn host_cpus() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let count = text.lines().filter(|line| line.starts_with("processor\t")).count();
    u32::try_from(count).ok().filter(|count| *count > 0)
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
        let texts = |texts: &[&str]| texts.iter().map(OsString::from).collect::<Vec<_>>();
        let base = vec![Text::from("PATH=/bin"), Text::from("HOSTNAME=h")];
        let image = join_env(base, &texts(&["A=1", "PATH=/x", "B=2"]));
        let joined = join_env(image, &texts(&["B=3", "C=", "A", "HOSTNAME=mine"]));
        let joined: Vec<String> = joined.iter().map(Text::display).collect();
        assert_eq!(joined, ["PATH=/x", "HOSTNAME=mine", "B=3", "C="]);
    }

    #[test]
    fn h13_a_long_environment_is_joined_at_once() {
        // Each compared with all others, this would take minutes.
        let more: Vec<OsString> = (0..400_000).map(|n| format!("N{n}=").into()).collect();
        let joined = join_env(join_env(vec![Text::from("A=1")], &more), &more);
        assert_eq!(joined.len(), 400_001);
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
