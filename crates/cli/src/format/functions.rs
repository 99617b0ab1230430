//! What Docker lets templates call besides Go's own functions. Called by `format`.

use gotmpl::{Result, TemplateError, Value};

/// The most spaces that are put beside a text.
const MOST_SPACES: i64 = 4096;

pub(super) fn json(arguments: &[Value]) -> Result<Value> {
    match arguments {
        [value] => Ok(Value::String(plain(value).to_string().into())),
        _ => Err(wrong("json", 1, arguments)),
    }
}

pub(super) fn join(arguments: &[Value]) -> Result<Value> {
    let [Value::List(items), Value::String(between)] = arguments else {
        return Err(wrong("join", 2, arguments));
    };
    let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
    Ok(Value::String(texts.join(between).into()))
}

/// The parts of a text between a separator.
pub(super) fn split(arguments: &[Value]) -> Result<Value> {
    let [Value::String(text), Value::String(between)] = arguments else {
        return Err(wrong("split", 2, arguments));
    };
    let part = |part: &str| Value::String(part.into());
    Ok(Value::List(match &**between {
        // As Go has it: into its characters.
        "" => text.chars().map(|one| part(one.encode_utf8(&mut [0; 4]))).collect(),
        between => text.split(between).map(part).collect(),
    }))
}

/// A text with so many spaces before and behind it; nothing stays nothing.
pub(super) fn pad(arguments: &[Value]) -> Result<Value> {
    let [Value::String(text), Value::Int(before), Value::Int(behind)] = arguments else {
        return Err(wrong("pad", 3, arguments));
    };
    let spaces = |count: &i64| " ".repeat((*count).clamp(0, MOST_SPACES) as usize);
    Ok(Value::String(match &**text {
        "" => "".into(),
        text => format!("{}{text}{}", spaces(before), spaces(behind)).into(),
    }))
}

/// The first so many characters of a text.
pub(super) fn truncate(arguments: &[Value]) -> Result<Value> {
    let [Value::String(text), Value::Int(count)] = arguments else {
        return Err(wrong("truncate", 2, arguments));
    };
    let count = usize::try_from(*count).unwrap_or(0);
    Ok(Value::String(text.chars().take(count).collect::<String>().into()))
}

/// Each word with a capital.
pub(super) fn title(arguments: &[Value]) -> Result<Value> {
    changed("title", arguments, |text| {
        let mut inside = false;
        let mut capital = |one: char| {
            let first =
                one.is_alphanumeric() && !std::mem::replace(&mut inside, one.is_alphanumeric());
            inside = one.is_alphanumeric();
            if first { one.to_uppercase().collect::<String>() } else { one.to_string() }
        };
        text.chars().map(&mut capital).collect()
    })
}

/// The value of a label in the list that Docker makes of them; nothing if it is not there.
pub(super) fn label(arguments: &[Value]) -> Result<Value> {
    let [Value::String(labels), Value::String(name)] = arguments else {
        return Err(wrong("Label", 1, arguments));
    };
    let mut pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
    let found = pairs.find(|(other, _)| *other == &**name);
    Ok(Value::String(found.map_or("", |(_, value)| value).into()))
}

pub(super) fn lower(arguments: &[Value]) -> Result<Value> {
    changed("lower", arguments, str::to_lowercase)
}

pub(super) fn upper(arguments: &[Value]) -> Result<Value> {
    changed("upper", arguments, str::to_uppercase)
}

fn changed(name: &str, arguments: &[Value], how: fn(&str) -> String) -> Result<Value> {
    match arguments {
        [Value::String(text)] => Ok(Value::String(how(text).into())),
        _ => Err(wrong(name, 1, arguments)),
    }
}

fn wrong(name: &str, expected: usize, arguments: &[Value]) -> TemplateError {
    TemplateError::ArgCount { name: name.to_owned(), expected, got: arguments.len() }
}

fn plain(value: &Value) -> serde_json::Value {
    match value {
        Value::Nil | Value::Function(_) => serde_json::Value::Null,
        Value::Bool(truth) => (*truth).into(),
        Value::Int(number) => (*number).into(),
        Value::Uint(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::String(text) => text.as_ref().into(),
        Value::List(items) => items.iter().map(plain).collect(),
        Value::Map(map) => map.iter().map(|(key, value)| (key.to_string(), plain(value))).collect(),
    }
}
