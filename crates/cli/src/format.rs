//! `--format`: Go templates, JSON, and the tables people see without it.

mod functions;

use crate::out::say;
use anyhow::{Context, anyhow};
use comfy_table::{ContentArrangement, Table, presets};
use gotmpl::{MissingKey, Template, TemplateError, to_value};
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
                let heading = template.fill(&headings(rows, columns))?;
                let split = |line: String| line.split('\t').map(str::to_owned).collect();
                let lines: Vec<String> =
                    rows.iter().map(|row| template.fill(row)).collect::<Result<_, _>>()?;
                print_aligned(split(heading), lines.into_iter().map(split))?;
            }
        }
        Ok(())
    }
}

/// What stands above each field of rows: the heading of its column, or else its name.
fn headings(rows: &[Value], columns: &[(&'static str, &'static str)]) -> Value {
    let fields = rows.first().and_then(Value::as_object).into_iter().flat_map(|row| row.keys());
    let mut all: serde_json::Map<String, Value> =
        fields.map(|field| (field.clone(), field.to_uppercase().into())).collect();
    all.extend(columns.iter().map(|(heading, field)| ((*field).to_owned(), (*heading).into())));
    Value::Object(all)
}

/// Maps whose keys are anybody's: there a key that is missing is no mistake in the template.
const OPEN: [&str; 2] = [".Labels.", ".Attributes."];

/// A Go template.
pub(crate) struct Parsed {
    text: String,
    template: Template,
}

impl Parsed {
    /// Of what was given on the command line: as Docker has it, also with `\t` and `\n`.
    pub(crate) fn new(given: &str) -> anyhow::Result<Self> {
        let text = given.replace("\\t", "\t").replace("\\n", "\n");
        let missing = match OPEN.iter().any(|map| text.contains(map)) {
            true => MissingKey::Invalid,
            false => MissingKey::Error,
        };
        let template = Template::new("format")
            .missing_key(missing)
            .func("json", functions::json)
            .func("join", functions::join)
            .func("split", functions::split)
            .func("pad", functions::pad)
            .func("truncate", functions::truncate)
            .func("title", functions::title)
            .func("lower", functions::lower)
            .func("upper", functions::upper)
            .func("label", functions::label)
            .parse(&methods(&text))
            .map_err(|error| anyhow!("{error}"))
            .with_context(|| format!("the --format template '{text}' can't be parsed"))?;
        Ok(Parsed { text, template })
    }

    /// A value through it.
    pub(crate) fn fill(&self, value: &Value) -> anyhow::Result<String> {
        let data = to_value(value).map_err(|error| anyhow!("{error}"))?;
        self.template.execute_to_string(&data).map_err(|error| match error {
            TemplateError::MissingKey { key } => anyhow!(
                "the --format template '{}' asks for '{key}', which is not there; it can ask for {}",
                self.text,
                fields(value)
            ),
            error => anyhow!("the --format template '{}' can't be filled in: {error}", self.text),
        })
    }
}

/// What a template can ask for at its top.
fn fields(value: &Value) -> String {
    let fields = value.as_object().into_iter().flat_map(|fields| fields.keys());
    fields.map(|field| format!(".{field}")).collect::<Vec<_>>().join(", ")
}

/// Docker's `.Label "x"` is a method; here it is a function of the labels.
fn methods(text: &str) -> String {
    text.split_inclusive("{{")
        .map(|part| match part.split_once("}}") {
            Some((action, rest)) => {
                format!("{}}}}}{rest}", action.replace(".Label \"", "label .Labels \""))
            }
            None => part.to_owned(),
        })
        .collect()
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
        for (template, expected) in [
            (r#"{{range split "a/b/c" "/"}}{{.}};{{end}}"#, "a;b;c;"),
            (r#"{{len (split "" ",")}}"#, "1"),
            (r#"{{title "a box-full of wood"}}"#, "A Box-Full Of Wood"),
            (r#"[{{pad "x" 2 1}}{{pad "" 2 1}}]"#, "[  x ]"),
            (r#"{{truncate "häuser" 2}}{{truncate "x" 9}}"#, "häx"),
        ] {
            assert_eq!(execute(template, &value).unwrap(), expected, "{template}");
        }
        assert!(execute(r#"{{split "a"}}"#, &value).is_err());
        assert!(execute("{{.State", &value).is_err());
    }

    #[test]
    fn h13_a_field_that_is_not_there_is_refused_and_those_that_are_are_told() {
        let value = json!({"Names": "web", "Labels": "job=7,tier=front"});
        let execute = |text: &str| Parsed::new(text)?.fill(&value);
        let error = execute("{{.Nmaes}}").unwrap_err().to_string();
        assert!(error.contains("asks for 'Nmaes'") && error.contains(".Labels, .Names"), "{error}");
        assert_eq!(execute(r#"{{.Names}} {{.Label "tier"}}"#).unwrap(), "web front");
        assert_eq!(execute(r#"{{.Label "none"}}{{eq (.Label "job") "7"}}"#).unwrap(), "true");
        // What users name may be missing, as with Docker.
        let open = Parsed::new("{{.Config.Labels.job}}").unwrap();
        assert_eq!(open.fill(&json!({"Config": {"Labels": {}}})).unwrap(), "<no value>");
    }
}
