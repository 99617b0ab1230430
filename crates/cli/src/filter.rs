//! `ps --filter`: Docker's conditions. Those with the same key are alternatives, different keys must
//! all hold.

use std::collections::BTreeMap;
use std::str::FromStr;

use boxwood_runtime::state::clock::Moment;
use boxwood_types::{BoxState, HealthStatus};

use crate::shown::Shown;

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    /// The beginning of an ID.
    Id(String),
    /// A part of a name.
    Name(String),
    /// A state.
    Status(BoxState),
    /// How it fares; `None`: nobody checks.
    Health(Option<HealthStatus>),
    /// The exit code of a box that has ended.
    Exited(u8),
    /// A label, with any or with this value.
    Label(String, Option<String>),
    /// The image, by the name it was run by or the beginning of its ID.
    Ancestor(String),
    /// Created before the box with this name or beginning of an ID.
    Before(String),
    /// Created after it.
    Since(String),
    /// Created before this moment.
    Earlier(Moment),
    /// Created after it.
    Later(Moment),
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) =
            text.split_once('=').ok_or_else(|| format!("'{text}' is no filter: KEY=VALUE"))?;
        let value = value.to_owned();
        Ok(match key {
            "id" => Filter::Id(value),
            "name" => Filter::Name(value.trim_start_matches('/').to_owned()),
            "status" => {
                let json = serde_json::Value::String(value.clone());
                let state = serde_json::from_value(json);
                Filter::Status(state.map_err(|_| format!("'{value}' is no state of a box"))?)
            }
            "health" if value == "none" => Filter::Health(None),
            "health" => Filter::Health(Some(value.parse()?)),
            "exited" => {
                let code = value.parse();
                Filter::Exited(code.map_err(|_| format!("'{value}' is no exit code"))?)
            }
            "label" => match value.split_once('=') {
                Some((name, value)) => Filter::Label(name.to_owned(), Some(value.to_owned())),
                None => Filter::Label(value, None),
            },
            "ancestor" => Filter::Ancestor(value),
            "before" => Filter::Before(value),
            "since" => Filter::Since(value),
            _ => {
                return Err(format!(
                    "'{key}' is no filter: id, name, status, health, exited, label, ancestor, before, since"
                ));
            }
        })
    }
}

impl Filter {
    fn key(&self) -> u8 {
        match self {
            Filter::Id(_) => 0,
            Filter::Name(_) => 1,
            Filter::Status(_) => 2,
            Filter::Exited(_) => 3,
            // Docker wants all labels, so each is a key of its own.
            Filter::Label(..) => 4,
            Filter::Ancestor(_) => 5,
            Filter::Health(_) => 6,
            Filter::Before(_) | Filter::Earlier(_) => 7,
            Filter::Since(_) | Filter::Later(_) => 8,
        }
    }

    /// Whether it says something about boxes that don't run, so that they are meant, too.
    fn means_all(&self) -> bool {
        matches!(self, Filter::Status(_) | Filter::Exited(_))
    }

    fn holds(&self, shown: &Shown) -> bool {
        match self {
            Filter::Earlier(moment) => shown.created < *moment,
            Filter::Later(moment) => shown.created > *moment,
            // Which box is meant was not looked up.
            Filter::Before(_) | Filter::Since(_) => false,
            Filter::Id(start) => shown.id.starts_with(start),
            Filter::Name(part) => shown.name.contains(part),
            Filter::Status(state) => shown.state == *state,
            Filter::Health(health) => shown.health == *health,
            Filter::Exited(code) => !shown.state.is_live() && shown.exit_code == Some(*code),
            Filter::Label(name, None) => shown.labels.contains_key(name),
            Filter::Label(name, Some(value)) => shown.labels.get(name) == Some(value),
            Filter::Ancestor(image) => {
                let id = &shown.image_id;
                shown.image == *image
                    || id.starts_with(image)
                    || id.trim_start_matches("sha256:").starts_with(image)
            }
        }
    }
}

/// Whether these conditions are about boxes that don't run, too.
pub(crate) fn mean_all(filters: &[Filter]) -> bool {
    filters.iter().any(Filter::means_all)
}

/// The same conditions, with the times of the boxes that they name.
pub(crate) fn found(filters: &[Filter], boxes: &[Shown]) -> anyhow::Result<Vec<Filter>> {
    let created = |name: &str| {
        let named = boxes.iter().find(|one| one.name == name);
        let found = named.or_else(|| {
            let mut meant = boxes.iter().filter(|one| !name.is_empty() && one.id.starts_with(name));
            meant.next().filter(|_| meant.next().is_none())
        });
        found.map(|one| one.created).ok_or_else(|| {
            anyhow::anyhow!(
                "no such box: {name}; --filter before= and since= take one's name or ID"
            )
        })
    };
    let found = |filter: &Filter| {
        Ok(match filter {
            Filter::Before(name) => Filter::Earlier(created(name)?),
            Filter::Since(name) => Filter::Later(created(name)?),
            other => other.clone(),
        })
    };
    filters.iter().map(found).collect()
}

/// Whether a box meets the conditions.
pub(crate) fn hold(filters: &[Filter], shown: &Shown) -> bool {
    let mut keys: BTreeMap<u8, bool> = BTreeMap::new();
    for filter in filters {
        let holds = filter.holds(shown);
        let every = matches!(filter, Filter::Label(..));
        keys.entry(filter.key())
            .and_modify(|so_far| *so_far = if every { *so_far && holds } else { *so_far || holds })
            .or_insert(holds);
    }
    keys.into_values().all(|holds| holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_as_docker_writes_them() {
        let parse = |text: &str| text.parse::<Filter>();
        assert_eq!(parse("status=paused"), Ok(Filter::Status(BoxState::Paused)));
        assert_eq!(parse("label=a=b=c"), Ok(Filter::Label("a".into(), Some("b=c".into()))));
        assert_eq!(parse("label=a"), Ok(Filter::Label("a".into(), None)));
        assert_eq!(parse("name=/web"), Ok(Filter::Name("web".into())));
        assert_eq!(parse("health=none"), Ok(Filter::Health(None)));
        assert_eq!(parse("before=web"), Ok(Filter::Before("web".into())));
        for wrong in
            ["", "web", "health=fine", "status=gone", "exited=256", "exited=x", "color=red"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
