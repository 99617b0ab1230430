//! What serde takes more or less strictly than JSON Schema: objects are no lists, and 7.0 is a whole
//! number. Used by the types of requests; and the patterns of their schemas.

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use utoipa::openapi::schema::{Array, ObjectBuilder, Schema, SchemaType, Type};

/// An object, or nothing; derived code would take a list for one, too.
pub(crate) fn object<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let object = Option::<Map<String, Value>>::deserialize(deserializer)?;
    object
        .map(|map| serde_json::from_value(Value::Object(map)))
        .transpose()
        .map_err(D::Error::custom)
}

/// A whole number, also one that is written with a fraction of 0.
pub(crate) fn whole<'de, T: TryFrom<u64>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    let whole = number.as_u64().or_else(|| {
        let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
        // Up to here each whole number is a float of its own.
        (0.0..=9_007_199_254_740_992.0).contains(&float).then_some(float as u64)
    });
    let fits = whole.and_then(|whole| T::try_from(whole).ok());
    fits.ok_or_else(|| D::Error::custom(format!("{number} is no whole number in the bounds")))
}

/// The same, or nothing.
pub(crate) fn maybe_whole<'de, T: TryFrom<u64>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    struct Whole<T>(T);
    impl<'de, T: TryFrom<u64>> Deserialize<'de> for Whole<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            whole(deserializer).map(Whole)
        }
    }
    Ok(Option::<Whole<T>>::deserialize(deserializer)?.map(|Whole(number)| number))
}

/// A whole number in a query; one without a value is none, and not no number.
pub(crate) fn in_query<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u64>, D::Error> {
    u64::deserialize(deserializer).map(Some)
}

/// A signal by name or number (signal(7)).
const SIGNAL: &str = "^((SIG)?(HUP|INT|QUIT|ILL|TRAP|ABRT|BUS|FPE|KILL|USR1|SEGV|USR2|PIPE|ALRM|TERM|\
STKFLT|CHLD|CONT|STOP|TSTP|TTIN|TTOU|URG|XCPU|XFSZ|VTALRM|PROF|WINCH|IO|PWR|SYS|RTMIN|RTMAX)|\
[1-9]|[1-5][0-9]|6[0-4])$";

/// A signal.
pub(crate) fn signal() -> Schema {
    signal_as(SchemaType::new(Type::String))
}

/// A signal, or none.
pub(crate) fn maybe_signal() -> Schema {
    signal_as(SchemaType::from_iter([Type::String, Type::Null]))
}

fn signal_as(schema_type: SchemaType) -> Schema {
    let signal = ObjectBuilder::new().schema_type(schema_type).pattern(Some(SIGNAL));
    let examples = [serde_json::json!("SIGTERM")];
    Schema::Object(
        signal.description(Some("A signal by name or number")).examples(examples).build(),
    )
}

/// Words of a command.
pub(crate) fn texts() -> Schema {
    list("^[^\\x00]*$", None)
}

/// A command: its first word says what is run.
pub(crate) fn command() -> Schema {
    list("^[^\\x00]+$", Some(1))
}

/// Settings of an environment.
pub(crate) fn settings() -> Schema {
    list("^[^=\\x00][^\\x00]*$", None)
}

/// Labels: names and values.
pub(crate) fn labels() -> Schema {
    let text = |pattern| {
        let text = ObjectBuilder::new().schema_type(SchemaType::new(Type::String));
        Schema::Object(text.pattern(Some(pattern)).build())
    };
    let labels = ObjectBuilder::new().property_names(Some(text("^(?!boxwood\\.)[^\\x00]+$")));
    Schema::Object(labels.additional_properties(Some(text("^[^\\x00]*$"))).build())
}

/// Conditions on events.
pub(crate) fn filters() -> Schema {
    list("^(type|event|container|image|label)=.*$", None)
}

fn list(pattern: &str, least: Option<usize>) -> Schema {
    let text =
        ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).pattern(Some(pattern));
    let mut list = Array::new(text);
    list.min_items = least;
    Schema::Array(list)
}

#[cfg(test)]
mod tests {
    use crate::{CreateBox, StopBox};

    #[test]
    fn a_list_is_no_object_and_7_point_0_is_7() {
        let create = |terminal: &str| {
            let text = format!(r#"{{"image":"busybox","terminal":{terminal}}}"#);
            serde_json::from_str::<CreateBox>(&text)
        };
        assert!(create("[24, 80]").is_err());
        assert_eq!(create("null").unwrap().terminal, None);
        let size = create(r#"{"rows":24.0,"columns":80}"#).unwrap().terminal.unwrap();
        assert_eq!((size.rows, size.columns), (24, 80));
        for bad in ["24.5", "-1", "65536", "1e99", "\"24\"", "null"] {
            assert!(create(&format!(r#"{{"rows":{bad},"columns":80}}"#)).is_err(), "{bad}");
        }
        let stop = |text| serde_json::from_str::<StopBox>(text);
        assert_eq!(stop(r#"{"timeout_ms":null}"#).unwrap().timeout_ms, None);
        assert_eq!(stop(r#"{"timeout_ms":1e3}"#).unwrap().timeout_ms, Some(1000));
    }
}
