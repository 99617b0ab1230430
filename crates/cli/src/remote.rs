//! `--host`: the verbs, asked of a daemon. Which verb is whose is said here; what each asks is beside what
//! it does locally, in its own file.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use boxwood_api::{ErrorKind, TerminalSize};
use boxwood_client::{Client, Host, Secrets};
use boxwood_types::{ExitReason, ExitStatus, WindowSize};

use crate::{REFUSED, Verb, client, complain, shown, verbs, wait_for};

/// Runs a verb against the daemon there.
pub(crate) fn run(host: Host, verb: Verb) -> anyhow::Result<ExitCode> {
    let file = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(Into::into);
    let secrets =
        Secrets { token_file: file("BOXWOOD_TOKEN_FILE"), ca_file: file("BOXWOOD_TLS_CA") };
    let client = Client::new(host, secrets);
    wait_for(async {
        let client = &client;
        match verb {
            Verb::Run(args) => verbs::run::remote(args, client).await,
            Verb::Create(args) => verbs::create::remote(args, client).await,
            Verb::Start(args) => verbs::start::remote(args, client).await,
            Verb::Exec(args) => verbs::exec::remote(args, client).await,
            Verb::Attach(args) => verbs::attach::remote(args, client).await,
            Verb::Ps(args) => verbs::ps::remote(&args, client).await,
            Verb::Inspect(args) => verbs::inspect::remote(&args, client).await,
            Verb::Logs(args) => verbs::logs::remote(&args, client).await,
            Verb::Stop(args) => verbs::stop::remote(&args, client).await,
            Verb::Kill(args) => verbs::kill::remote(&args, client).await,
            Verb::Restart(args) => verbs::restart::remote(&args, client).await,
            Verb::Pause(args) => verbs::pause::remote(&args, client).await,
            Verb::Unpause(args) => verbs::unpause::remote(&args, client).await,
            Verb::Wait(args) => verbs::wait::remote(&args, client).await,
            Verb::Rm(args) => verbs::rm::remote(&args, client).await,
            Verb::Rename(args) => verbs::rename::remote(&args, client).await,
            Verb::Images(args) => verbs::images::remote(&args, client).await,
            Verb::Load(args) => verbs::load::remote(&args, client).await,
            Verb::Import(args) => verbs::import::remote(args, client).await,
            Verb::Update(args) => verbs::update::remote(args, client).await,
            Verb::Rmi(args) => verbs::rmi::remote(&args, client).await,
            Verb::Version(args) => verbs::version::remote(&args, client).await,
            Verb::Events(args) => verbs::events::remote(args, client).await,
            Verb::Top(args) => verbs::top::remote(&args, client).await,
            Verb::Stats(args) => verbs::stats::remote(&args, client).await,
            Verb::Metrics(args) => verbs::metrics::remote(&args, client).await,
            Verb::Prune(args) => verbs::prune::remote(&args, client).await,
            Verb::Template(args) => verbs::template::remote(&args, client).await,
            Verb::Snapshot(args) => verbs::snapshot::remote(&args, client).await,
            Verb::Pool(args) => verbs::pool::remote(&args, client).await,
            Verb::Restore(args) => verbs::restore::restore_there(&args, client).await,
            Verb::Fork(args) => verbs::restore::fork_there(&args, client).await,
            // These are about the host they are run on.
            _ => bail!("this verb can't be asked of a daemon: run it on that host, without --host"),
        }
    })
}

/// Whether a daemon said that there is no such thing.
pub(crate) fn is_not_found(error: &boxwood_client::Error) -> bool {
    error.kind() == Some(ErrorKind::NotFound)
}

/// The end of something that runs already: when the daemon is lost meanwhile, nobody knows how it ends, and
/// that is not the code of what could not be done.
pub(crate) fn known(ended: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    use boxwood_client::Error::{Broken, CutOff, Stream, Unreachable};

    match ended {
        Err(error)
            if matches!(
                error.downcast_ref(),
                Some(Broken { .. } | CutOff | Stream(_) | Unreachable { .. })
            ) =>
        {
            complain(&error);
            Ok(ExitCode::from(ExitStatus::Unknown.shell_code()))
        }
        other => other,
    }
}

/// What Boxwood could not do, with the exit code that a box's failed start has.
pub(crate) fn refused(error: boxwood_client::Error) -> ExitCode {
    let exit = match &error {
        boxwood_client::Error::Refused(problem) => problem.exit.clone().map(shown::exit),
        _ => None,
    };
    match exit {
        // In the same words as here.
        Some(exit) if exit.reason != ExitReason::Exited => client::tell_end(&exit),
        exit => {
            complain(&error.into());
            ExitCode::from(exit.map_or(REFUSED, |exit| exit.code))
        }
    }
}

/// Texts, which JSON can carry.
pub(crate) fn texts(words: Vec<OsString>) -> anyhow::Result<Vec<String>> {
    words.into_iter().map(text).collect()
}

/// A text that JSON can carry.
pub(crate) fn text(word: OsString) -> anyhow::Result<String> {
    word.into_string().map_err(|word| anyhow!("'{}' is not UTF-8", word.display()))
}

/// A terminal's size.
pub(crate) fn size(size: WindowSize) -> TerminalSize {
    TerminalSize { rows: size.rows, columns: size.columns }
}
