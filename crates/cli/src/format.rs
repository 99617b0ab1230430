//! `--format`: Go templates, JSON, and the tables people see without it.

use crate::out::say;
use anyhow::{Context, anyhow};
use comfy_table::{ContentArrangement, Table, presets};
use gotmpl::{Template, to_value};
use serde_json::Value;

/// How a listing is printed.
pub(crate) enum Format {
    /// These columns: a heading and a field each.
    Table(Vec<(&'static str, &'static str)>),
    /// One JSON object a line.
    Json,
    /// A Go template a line; with headings when it began with `table`.
    Template { template: Parsed, headings: bool },
}

impl Format {
    /// What `--format` says; without it, a table of these columns. What can't be parsed is refused
    /// here, whether there will be anything to list or not.
    pub(crate) fn new(
        flag: Option<&str>,
        columns: &[(&'static str, &'static str)],
    ) -> anyhow::Result<Self> {
        Ok(match flag {
            None | Some("table") => Format::Table(columns.to_vec()),
            Some("json") => Format::Json,
            Some(text) => match text.strip_prefix("table ") {
                Some(rest) => Format::Template { template: Parsed::new(rest)?, headings: true },
                None => Format::Template { template: Parsed::new(text)?, headings: false },
            },
        })
    }

    /// Prints rows, which are JSON objects. `columns` name the headings of a `table` template.
    pub(crate) fn print(
        &self,
        rows: &[Value],
        columns: &[(&'static str, &'static str)],
    ) -> anyhow::Result<()> {
        match self {
            Format::Json => rows.iter().try_for_each(|row| say!("{row}"))?,
            Format::Table(columns) => {
                let cells = |row: &Value| -> Vec<String> {
                    let cell = |(_, field): &(&str, &str)| match &row[*field] {
                        Value::String(text) => printable(text),
                        other => other.to_string(),
                    };
                    columns.iter().map(cell).collect()
                };
                let heading = columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
                print_aligned(heading, rows.iter().map(cells))?;
            }
            Format::Template { template, headings: false } => {
                for row in rows {
                    say!("{}", template.fill(row)?)?;
                }
            }
            Format::Template { template, headings: true } => {
                let all = columns.iter().map(|(heading, field)| {
                    ((*field).to_owned(), Value::String((*heading).to_owned()))
                });
                let heading = template.fill(&Value::Object(all.collect()))?;
                let split = |line: String| line.split('\t').map(str::to_owned).collect();
                let lines: Vec<String> =
                    rows.iter().map(|row| template.fill(row)).collect::<Result<_, _>>()?;
                print_aligned(split(heading), lines.into_iter().map(split))?;
            }
        }
        Ok(())
    }
}

/// A Go template.
pub(crate) struct Parsed {
    text: String,
    template: Template,
}

impl Parsed {
    /// Of what was given on the command line: as Docker has it, also with `\t` and `\n`.
    pub(crate) fn new(given: &str) -> anyhow::Result<Self> {
        let text = given.replace("\\t", "\t").replace("\\n", "\n");
        let template = Template::new("format")
            .func("json", functions::json)
            .func("join", functions::join)
            .func("lower", functions::lower)
            .func("upper", functions::upper)
            .parse(&text)
            .map_err(|error| anyhow!("{error}"))
            .with_context(|| format!("the --format template '{text}' can't be parsed"))?;
        Ok(Parsed { text, template })
    }

    /// A value through it.
    pub(crate) fn fill(&self, value: &Value) -> anyhow::Result<String> {
        let data = to_value(value).map_err(|error| anyhow!("{error}"))?;
        self.template
            .execute_to_string(&data)
            .map_err(|error| anyhow!("{error}"))
            .with_context(|| format!("the --format template '{}' can't be filled in", self.text))
    }
}

/// What Docker lets templates call besides Go's own functions.
mod functions {
    use gotmpl::{Result, TemplateError, Value};

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
            Value::Map(map) => {
                map.iter().map(|(key, value)| (key.to_string(), plain(value))).collect()
            }
        }
    }
}

fn print_aligned(
    heading: Vec<String>,
    rows: impl Iterator<Item = Vec<String>>,
) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heading);
    rows.for_each(|row| {
        table.add_row(row);
    });
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    for line in table.to_string().lines() {
        say!("{}", line.trim_end())?;
    }
    Ok(())
}

/// What others named must not move the cursor.
fn printable(text: &str) -> String {
    text.chars().map(crate::out::printable).collect()
}

/// Prints what there is to know about each thing: all as JSON, or each by a Go template.
pub(crate) fn print_views(format: Option<&str>, views: Vec<Value>) -> anyhow::Result<()> {
    match format {
        None => say!("{:#}", Value::Array(views))?,
        Some("json") => say!("{}", Value::Array(views))?,
        Some(template) => {
            let template = Parsed::new(template)?;
            for view in &views {
                say!("{}", template.fill(view)?)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn go_templates_reach_into_json() {
        let value = json!({"State": {"ExitCode": 7, "Running": false}, "Args": ["a", "b"]});
        let execute = |text: &str, value| Parsed::new(text)?.fill(value);
        assert_eq!(execute("{{.State.ExitCode}}", &value).unwrap(), "7");
        assert_eq!(execute("{{range .Args}}{{.}};{{end}}", &value).unwrap(), "a;b;");
        assert_eq!(execute("{{json .Args}}", &value).unwrap(), r#"["a","b"]"#);
        assert_eq!(execute(r#"{{join .Args "-" | upper}}"#, &value).unwrap(), "A-B");
        assert!(execute("{{.State", &value).is_err());
    }
}
