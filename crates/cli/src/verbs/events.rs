//! `boxwood events`: what happens to boxes, as it happens.

use std::process::ExitCode;

use boxwood_api::ListEvents;
use boxwood_runtime::state::clock::Moment;
use boxwood_runtime::state::events::Event;
use boxwood_runtime::{EventFilter, EventsRequest};

use crate::format::Parsed;
use crate::out::{self, say};
use crate::times::{self, Time};
use crate::{open_runtime, remote, wait_for};

/// Show what happens to boxes, as it happens
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood events
  boxwood events --since 10m --until 0s
  boxwood events -f container=web -f event=die --format '{{.Actor.Attributes.exitCode}}'
  boxwood events --since 2026-01-02T15:04:05Z --format json

A time is RFC 3339, seconds since 1970, or how long ago (90s, 10m, 1h30m). Without --until it goes on.")]
pub(crate) struct Args {
    /// Also what happened since then
    #[arg(long, value_name = "TIME")]
    since: Option<Time>,
    /// Nothing that happens after that
    #[arg(long, value_name = "TIME")]
    until: Option<Time>,
    /// Only events for which this holds: type, event, container, label or image
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<EventFilter>,
    /// A Go template, or 'json'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let form = Form::new(args.format.as_deref())?;
    let now = Moment::now();
    let moment = |time: Option<Time>| time.map(|time| time.before(now));
    let (since, until) = (moment(args.since), moment(args.until));
    let runtime = open_runtime()?;
    wait_for(async {
        let mut events = runtime.events(EventsRequest { since, until, filters: args.filter })?;
        while let Some(event) = events.next().await? {
            form.print(&event)?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// The same, asked of a daemon.
pub(crate) async fn remote(
    args: Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    let form = Form::new(args.format.as_deref())?;
    let now = Moment::now();
    let moment = |time: Option<Time>| time.map(|time| times::rfc3339(time.before(now)));
    let which = ListEvents {
        since: moment(args.since),
        until: moment(args.until),
        filter: args.filter.iter().map(ToString::to_string).collect(),
    };
    let mut events = daemon.events(&which).await?;
    let told = async {
        while let Some(event) = events.next().await? {
            form.print(&event)?;
        }
        Ok(ExitCode::SUCCESS)
    };
    remote::known(told.await)
}

/// What an event looks like.
enum Form {
    Line,
    Json,
    Template(Parsed),
}

impl Form {
    fn new(given: Option<&str>) -> anyhow::Result<Self> {
        Ok(match given {
            None => Form::Line,
            Some("json") => Form::Json,
            Some(text) => Form::Template(Parsed::new(text)?),
        })
    }

    fn print(&self, event: &Event) -> anyhow::Result<()> {
        match self {
            Form::Line => say!("{}", line(event)),
            Form::Json => say!("{}", serde_json::to_string(event)?),
            Form::Template(template) => say!("{}", template.fill(&serde_json::to_value(event)?)?),
        }
    }
}

/// As Docker writes it for people.
fn line(event: &Event) -> String {
    let pairs = event.actor.attributes.iter().map(|(name, value)| format!("{name}={value}"));
    let attributes = pairs.collect::<Vec<_>>().join(", ");
    let time = times::rfc3339(Moment(event.time_nano));
    let text = format!("{time} {} {} {} ({attributes})", event.kind, event.action, event.actor.id);
    text.chars().map(out::printable).collect()
}
