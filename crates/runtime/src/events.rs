//! `events`: what happens to the boxes of a home, from any time on, as a stream.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use boxwood_state::clock::Moment;
use boxwood_state::events::{Cursor, Event};

use crate::changes::Changes;
use crate::{Error, Runtime};

/// Which events.
#[derive(Clone, Debug, Default)]
pub struct EventsRequest {
    /// From then on, as far as they are kept; without it from now on.
    pub since: Option<Moment>,
    /// Up to then; without it without end.
    pub until: Option<Moment>,
    /// Only those that one filter of each kind lets by; of labels, all.
    pub filters: Vec<EventFilter>,
}

/// A condition on events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventFilter {
    /// The type: only boxes have events.
    Type(String),
    /// The action, or its part before the colon.
    Event(String),
    /// The box: its name, its id, or the beginning of that.
    Container(String),
    /// A label, and its value if that matters.
    Label(String, Option<String>),
    /// The image, as the box was asked for it.
    Image(String),
}

impl FromStr for EventFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((key, value)) = text.split_once('=') else {
            return Err(format!("'{text}' is no filter: write KEY=VALUE"));
        };
        let value = value.to_owned();
        Ok(match key {
            "type" => EventFilter::Type(value),
            "event" => EventFilter::Event(value),
            "container" | "box" => EventFilter::Container(value),
            "image" => EventFilter::Image(value),
            "label" => match value.split_once('=') {
                Some((name, value)) => EventFilter::Label(name.to_owned(), Some(value.to_owned())),
                None => EventFilter::Label(value, None),
            },
            _ => return Err(format!("'{key}' is no filter: type, event, container, label, image")),
        })
    }
}

/// As it is read.
impl fmt::Display for EventFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventFilter::Type(kind) => write!(f, "type={kind}"),
            EventFilter::Event(action) => write!(f, "event={action}"),
            EventFilter::Container(text) => write!(f, "container={text}"),
            EventFilter::Image(image) => write!(f, "image={image}"),
            EventFilter::Label(name, None) => write!(f, "label={name}"),
            EventFilter::Label(name, Some(value)) => write!(f, "label={name}={value}"),
        }
    }
}

impl EventFilter {
    fn key(&self) -> u8 {
        match self {
            EventFilter::Type(_) => 0,
            EventFilter::Event(_) => 1,
            EventFilter::Container(_) => 2,
            EventFilter::Image(_) => 3,
            EventFilter::Label(..) => 4,
        }
    }

    fn holds(&self, event: &Event) -> bool {
        let attribute = |name: &str| event.actor.attributes.get(name);
        match self {
            EventFilter::Type(kind) => event.kind == *kind,
            EventFilter::Event(action) => {
                event.action == *action || event.action.split(':').next() == Some(action)
            }
            EventFilter::Container(text) => {
                attribute("name") == Some(text)
                    || !text.is_empty() && event.actor.id.starts_with(text.as_str())
            }
            EventFilter::Image(image) => attribute("image") == Some(image),
            EventFilter::Label(name, None) => attribute(name).is_some(),
            EventFilter::Label(name, value) => attribute(name) == value.as_ref(),
        }
    }
}

impl EventsRequest {
    fn wants(&self, event: &Event) -> bool {
        let at = Moment(event.time_nano);
        if self.since.is_some_and(|since| at < since) || self.until.is_some_and(|until| at > until)
        {
            return false;
        }
        let mut kinds: BTreeMap<u8, bool> = BTreeMap::new();
        for filter in &self.filters {
            let every = matches!(filter, EventFilter::Label(..));
            let so_far = kinds.entry(filter.key()).or_insert(every);
            let holds = filter.holds(event);
            *so_far = if every { *so_far && holds } else { *so_far || holds };
        }
        kinds.into_values().all(|holds| holds)
    }
}

/// Events as they come.
#[derive(Debug)]
pub struct Events {
    request: EventsRequest,
    cursor: Cursor,
    changes: Changes,
}

impl Runtime {
    /// The events of this home. Nothing that happens after the call is missed.
    ///
    /// # Errors
    /// When the journal can't be read or watched.
    pub fn events(&self, request: EventsRequest) -> Result<Events, Error> {
        let journal = self.home.journal()?;
        let path = journal.directory();
        let watched = Changes::of(path);
        let action = "watch";
        let changes =
            watched.map_err(|source| Error::Io { action, path: path.to_owned(), source })?;
        let cursor = match request.since {
            Some(_) => Cursor::at_start(&journal)?,
            None => Cursor::at_end(&journal)?,
        };
        Ok(Events { request, cursor, changes })
    }

    /// A box was stopped and started again because somebody wanted it so.
    pub fn announce_restart(&self, spec: &boxwood_state::BoxSpec) {
        self.home.announce(spec, &boxwood_state::events::Action::Restart);
    }
}

impl Events {
    /// The next one; `None` after the last. Waits for it. May be dropped and called again.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            while let Some(event) = self.cursor.next_event()? {
                if self.request.wants(&event) {
                    return Ok(Some(event));
                }
            }
            let left = self.request.until.map(|until| until.0.saturating_sub(Moment::now().0));
            if left == Some(0) {
                return Ok(None);
            }
            let over = async {
                match left {
                    Some(left) => tokio::time::sleep(Duration::from_nanos(left)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.changes.wait() => {
                    let path = self.path();
                    changed.map_err(|source| Error::Io { action: "watch", path, source })?;
                }
                () = over => {}
            }
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.cursor.directory().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use boxwood_state::events::Actor;

    fn event(action: &str) -> Event {
        let pairs = [("name", "web"), ("image", "busybox"), ("job", "7"), ("kind", "x")];
        let attributes = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let (kind, scope) = ("container".to_owned(), "local".to_owned());
        let actor = Actor { id: "abcdef".into(), attributes };
        Event { kind, action: action.into(), actor, scope, time: 5, time_nano: 5_000_000_000 }
    }

    #[test]
    fn h12_filters_are_dockers() {
        let wants = |filters: &[&str]| {
            let filters = filters.iter().map(|text| text.parse().unwrap()).collect();
            EventsRequest { filters, ..EventsRequest::default() }.wants(&event("exec_start: sh"))
        };
        assert!(wants(&[]));
        assert!(wants(&["type=container", "event=exec_start", "container=web"]));
        assert!(wants(&["container=abc", "event=die", "event=exec_start"]));
        assert!(wants(&["label=job=7", "label=kind", "image=busybox"]));
        for none in [
            &["type=image"][..],
            &["event=exec"],
            &["container=we"],
            &["label=job=8", "label=kind"],
            &["image=other"],
        ] {
            assert!(!wants(none), "{none:?}");
        }
        assert!("color=red".parse::<EventFilter>().is_err());
        assert!("web".parse::<EventFilter>().is_err());
    }

    #[test]
    fn h12_since_and_until_are_bounds() {
        let at = |seconds: u64| Some(Moment(seconds * 1_000_000_000));
        for (since, until, wanted) in
            [(at(5), at(5), true), (at(6), None, false), (None, at(4), false), (at(4), at(6), true)]
        {
            let request = EventsRequest { since, until, filters: Vec::new() };
            assert_eq!(request.wants(&event("start")), wanted, "{since:?} {until:?}");
        }
    }
}
