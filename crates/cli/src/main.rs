//! The `boxwood` command. Each verb has a file of its own in `verbs/`; what they share is here
//! beside it: how results look, how progress is shown, how errors are told.

mod client;
mod detach;
mod envfile;
mod filter;
mod format;
mod health;
mod idfile;
mod labels;
mod logopts;
mod out;
mod progress;
mod remote;
mod shown;
mod sys;
mod terminal;
mod times;
mod verbs;
mod wishes;

use std::io::IsTerminal;
use std::process::ExitCode;

use crate::out::{say, tell};
use anyhow::Context;
use boxwood_client::Host;
use boxwood_runtime::{Locations, Runtime};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

/// The exit code of everything Boxwood itself refuses or fails at; what a box's main returns is
/// passed on as it is.
const REFUSED: u8 = 125;

/// Run OCI images in microVMs that start in a fraction of a second.
///
/// Each box has a kernel of its own, with or without hardware virtualization.
#[derive(Debug, Parser)]
#[command(
    name = "boxwood",
    version,
    disable_help_subcommand = true,
    after_help = "Examples:
  boxwood run --rm busybox -- sh -c 'uname -a; id'
  boxwood load -i image.tar && boxwood run --rm my/image
  boxwood exec -it BOX sh
  boxwood doctor

Environment:
  BOXWOOD_HOME    where boxes are kept
  BOXWOOD_STORE   where images, templates and the kernel are kept
  BOXWOOD_ACCEL   auto, kvm or tcg
  BOXWOOD_QEMU    the QEMU binary to use
  BOXWOOD_KERNEL  the kernel image to use, with its modules in BOXWOOD_MODULES

With --host:
  BOXWOOD_TOKEN_FILE  the file with the daemon's token
  BOXWOOD_TLS_CA      the certificates to believe instead of the system's"
)]
struct Cli {
    /// Ask the daemon there: unix:///PATH, http://HOST:PORT or https://HOST:PORT
    #[arg(long, global = true, env = "BOXWOOD_HOST", value_name = "URL")]
    host: Option<Host>,
    #[command(subcommand)]
    verb: Verb,
}

// What a verb takes is described once it is asked for: a tenth of the time of a short command.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Verb {
    Run(verbs::run::Args),
    Create(verbs::create::Args),
    Start(verbs::start::Args),
    Exec(verbs::exec::Args),
    Attach(verbs::attach::Args),
    Ps(verbs::ps::Args),
    Inspect(verbs::inspect::Args),
    Logs(verbs::logs::Args),
    Events(verbs::events::Args),
    Top(verbs::top::Args),
    Stats(verbs::stats::Args),
    Metrics(verbs::metrics::Args),
    Stop(verbs::stop::Args),
    Kill(verbs::kill::Args),
    Restart(verbs::restart::Args),
    Pause(verbs::pause::Args),
    Unpause(verbs::unpause::Args),
    Wait(verbs::wait::Args),
    Rm(verbs::rm::Args),
    Rename(verbs::rename::Args),
    Snapshot(verbs::snapshot::Args),
    Pool(verbs::pool::Args),
    Restore(verbs::restore::Args),
    Fork(verbs::restore::ForkArgs),
    Update(verbs::update::Args),
    Prune(verbs::prune::Args),
    Images(verbs::images::Args),
    Load(verbs::load::Args),
    Import(verbs::import::Args),
    Rmi(verbs::rmi::Args),
    Serve(verbs::serve::Args),
    Setup(verbs::setup::Args),
    Doctor(verbs::doctor::Args),
    Template(verbs::template::Args),
    Version(verbs::version::Args),
    Completion(verbs::completion::Args),
    #[command(hide = true)]
    Shim(verbs::shim::Args),
    #[command(hide = true)]
    Warm(verbs::shim::Args),
    #[command(hide = true)]
    Refill(verbs::shim::RefillArgs),
}

fn main() -> ExitCode {
    boxwood_runtime::state::prepare_failpoints();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // The same words, told by one that knows all verbs.
        Err(error) => return usage(&described().try_get_matches().err().unwrap_or(error)),
    };
    let result = match cli.verb {
        // Before anything that might start a thread: QEMU dies with the thread that started it.
        Verb::Shim(args) => return verbs::shim::run(&args),
        Verb::Warm(args) => return verbs::shim::run_warm(&args),
        Verb::Refill(args) => return verbs::shim::refill(&args),
        Verb::Completion(args) => verbs::completion::run(&args, &mut described()),
        Verb::Serve(args) => match cli.host.filter(|_| host_was_given()) {
            Some(_) => Err(anyhow::anyhow!(
                "serve is what others ask with --host; --socket and --tcp say where it listens"
            )),
            None => verbs::serve::run(args),
        },
        verb => match cli.host {
            Some(host) => remote::run(host, verb),
            None => local(verb),
        },
    };
    match result {
        Ok(code) => code,
        Err(error) if out::is_hang_up(&error) => ExitCode::from(sys::BROKEN_PIPE),
        Err(error) => {
            complain(&error);
            ExitCode::from(REFUSED)
        }
    }
}

/// Whether a host was named here, and not by the environment.
fn host_was_given() -> bool {
    std::env::args_os().any(|word| word.to_string_lossy().split('=').next() == Some("--host"))
}

/// The whole command line, with everything that each verb takes.
fn described() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    command
}

/// Runs a verb on this host.
fn local(verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Run(args) => verbs::run::run(args),
        Verb::Create(args) => verbs::create::run(args),
        Verb::Start(args) => verbs::start::run(args),
        Verb::Exec(args) => verbs::exec::run(args),
        Verb::Attach(args) => verbs::attach::run(args),
        Verb::Ps(args) => verbs::ps::run(&args),
        Verb::Inspect(args) => verbs::inspect::run(&args),
        Verb::Logs(args) => verbs::logs::run(&args),
        Verb::Events(args) => verbs::events::run(args),
        Verb::Top(args) => verbs::top::run(&args),
        Verb::Stats(args) => verbs::stats::run(&args),
        Verb::Metrics(args) => verbs::metrics::run(&args),
        Verb::Stop(args) => verbs::stop::run(&args),
        Verb::Kill(args) => verbs::kill::run(&args),
        Verb::Restart(args) => verbs::restart::run(&args),
        Verb::Pause(args) => verbs::pause::run(&args),
        Verb::Unpause(args) => verbs::unpause::run(&args),
        Verb::Wait(args) => verbs::wait::run(&args),
        Verb::Rm(args) => verbs::rm::run(&args),
        Verb::Rename(args) => verbs::rename::run(&args),
        Verb::Snapshot(args) => verbs::snapshot::run(&args),
        Verb::Pool(args) => verbs::pool::run(&args),
        Verb::Restore(args) => verbs::restore::restore(&args),
        Verb::Fork(args) => verbs::restore::fork(&args),
        Verb::Update(args) => verbs::update::run(args),
        Verb::Prune(args) => verbs::prune::run(&args),
        Verb::Images(args) => verbs::images::run(&args),
        Verb::Load(args) => verbs::load::run(&args),
        Verb::Import(args) => verbs::import::run(&args),
        Verb::Rmi(args) => verbs::rmi::run(&args),
        Verb::Setup(args) => verbs::setup::run(&args),
        Verb::Doctor(args) => verbs::doctor::run(&args),
        Verb::Template(args) => verbs::template::run(&args),
        Verb::Version(args) => verbs::version::run(&args),
        // These were run before.
        Verb::Shim(_) | Verb::Warm(_) | Verb::Refill(_) | Verb::Completion(_) | Verb::Serve(_) => {
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// One line, whatever happened: what, where, why.
fn complain(error: &anyhow::Error) {
    let mut parts: Vec<String> = error.chain().map(ToString::to_string).collect();
    parts.dedup();
    if error.chain().any(is_out_of_files) {
        parts.push("raise the limit with 'ulimit -n 1024'".to_owned());
    }
    // What others wrote, a name or a path, must neither break the line nor move the cursor.
    let text: String = parts.join(": ").chars().map(out::printable).collect();
    tell!("{text}");
}

fn is_out_of_files(cause: &(dyn std::error::Error + 'static)) -> bool {
    // An io::Error has no kind for it yet.
    let code = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    code == Some(sys::EMFILE)
}

/// Help and version go to standard output and succeed; everything else is bad input, told in one
/// line like every other error.
fn usage(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        // If even this can't be printed, the exit code still tells.
        let printed = error.print().is_ok()
            && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
        return ExitCode::from(if printed { 0 } else { REFUSED });
    }
    let text = error.to_string();
    // What is wrong comes first, then tips and usage in paragraphs of their own.
    let what: Vec<&str> =
        text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
    let what = what.join(" ");
    let known = described();
    let verb = std::env::args().skip(1).find(|word| known.find_subcommand(word).is_some());
    let verb = verb.map(|verb| format!(" {verb}")).unwrap_or_default();
    let help = if error.kind() == ErrorKind::InvalidSubcommand { String::new() } else { verb };
    tell!("{}; see 'boxwood{help} --help'", what.trim_start_matches("error: "));
    ExitCode::from(REFUSED)
}

/// Opens the home that the environment names.
fn open_runtime() -> anyhow::Result<Runtime> {
    // The kernel's own name for the running file: it works after an upgrade replaced the file, too.
    let own = std::env::current_exe().context("can't find the boxwood binary itself")?;
    Ok(Runtime::open(Locations::from_environment()?, own)?)
}

/// Runs a verb that waits for something. The process ends right after, so a thread that still reads
/// standard input is not waited for, and nothing is put away that the kernel puts away at once.
fn wait_for<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't start the event loop")?;
    let result = runtime.block_on(work);
    std::mem::forget(runtime);
    result
}

/// Does something for each of the named boxes, as Docker does: all are tried, the names of those
/// that worked are printed, and one that failed makes the whole fail.
async fn for_each<F>(names: &[String], mut work: F) -> anyhow::Result<ExitCode>
where
    F: AsyncFnMut(&str) -> anyhow::Result<()>,
{
    for_each_found(names, async |name| work(name).await.map(|()| Found::Yes)).await
}

/// Whether there was what was named.
enum Found {
    Yes,
    /// It was not there, and need not be: that is told.
    No(anyhow::Error),
}

/// The same for what need not be there: its name is not printed, and it makes nothing fail.
async fn for_each_found<F>(names: &[String], mut work: F) -> anyhow::Result<ExitCode>
where
    F: AsyncFnMut(&str) -> anyhow::Result<Found>,
{
    let mut code = ExitCode::SUCCESS;
    for name in names {
        match work(name).await {
            Ok(Found::Yes) => say!("{name}")?,
            Ok(Found::No(why)) => complain(&why),
            Err(error) => {
                complain(&error);
                code = ExitCode::from(REFUSED);
            }
        }
    }
    Ok(code)
}

/// Whether standard error is somebody's screen.
fn on_a_terminal() -> bool {
    std::io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_says_what_every_verb_is_for() {
        let command = described();
        for verb in command.get_subcommands() {
            assert!(verb.get_about().is_some(), "{} says nothing of itself", verb.get_name());
        }
    }

    #[test]
    fn the_help_of_what_has_verbs_of_its_own_has_examples_of_each() {
        let cli = described();
        let nested = |verb: &&clap::Command| ["snapshot", "pool"].contains(&verb.get_name());
        for verb in cli.get_subcommands().filter(nested) {
            for one in verb.get_subcommands() {
                let line = format!("boxwood {} {}", verb.get_name(), one.get_name());
                let help = one.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains(&line), "'{line}' has no example: {help}");
            }
        }
    }
}
