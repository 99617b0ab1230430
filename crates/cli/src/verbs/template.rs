//! `boxwood template`: the frozen VMs that boxes start from.

use std::process::ExitCode;

use anyhow::anyhow;
use boxwood_runtime::state::clock::Moment;
use boxwood_runtime::vmm::{TemplateInfo, Templates};
use boxwood_types::ByteSize;
use serde_json::{Value, json};

use crate::format::Format;
use crate::out::{say, tell};
use crate::{REFUSED, complain, open_runtime, times, wait_for};

const COLUMNS: [(&str, &str); 7] = [
    ("KEY", "Key"),
    ("SHAPE", "Shape"),
    ("IMAGE", "Image"),
    ("ACCELERATOR", "Accelerator"),
    ("CREATED", "CreatedSince"),
    ("SIZE", "Size"),
    ("CHECKED", "Checked"),
];

/// List or remove templates
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood template ls
  boxwood template rm --all")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List templates
    Ls {
        /// A Go template, 'table TEMPLATE', or 'json'
        #[arg(long, value_name = "FORMAT")]
        format: Option<String>,
        /// Only the keys
        #[arg(short, long)]
        quiet: bool,
    },
    /// Remove templates; they are baked again when they are needed
    Rm {
        /// All of them
        #[arg(long)]
        all: bool,
        /// Keys, or their beginnings
        #[arg(required_unless_present = "all", value_name = "KEY")]
        keys: Vec<String>,
    },
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::Ls { format, quiet } => {
            let format = Format::new(format.as_deref(), &COLUMNS)?;
            list(&open_runtime()?.templates().list()?, &format, *quiet)
        }
        Verb::Rm { all, keys } => {
            let templates = open_runtime()?.templates();
            let infos = templates.list()?;
            let chosen: Vec<String> = match all {
                true => infos.iter().map(|info| info.key.clone()).collect(),
                false => keys.clone(),
            };
            let mut code = ExitCode::SUCCESS;
            for text in chosen {
                match remove(&templates, &infos, &text) {
                    Ok(()) => say!("{text}")?,
                    Err(error) => {
                        complain(&error);
                        code = ExitCode::from(REFUSED);
                    }
                }
            }
            Ok(code)
        }
    }
}

fn list(infos: &[TemplateInfo], format: &Format, quiet: bool) -> anyhow::Result<ExitCode> {
    if quiet {
        infos.iter().try_for_each(|info| say!("{}", info.key))?;
        return Ok(ExitCode::SUCCESS);
    }
    let now = Moment::now();
    let rows: Vec<Value> = infos.iter().map(|info| row(info, now)).collect();
    format.print(&rows, &COLUMNS)?;
    Ok(ExitCode::SUCCESS)
}

fn row(info: &TemplateInfo, now: Moment) -> Value {
    let size = ByteSize::from_bytes(info.disk_bytes).to_string();
    let manifest = match &info.manifest {
        Ok(manifest) => manifest,
        Err(damage) => {
            tell!("template {}: {damage}", info.key);
            return json!({
                "Key": info.key,
                "Shape": "?",
                "Image": "?",
                "Accelerator": "?",
                "CreatedSince": "?",
                "CreatedAt": "",
                "Size": size,
                "QemuVersion": "?",
                "Checked": "damaged",
            });
        }
    };
    let created = Moment(manifest.made_unix_s().saturating_mul(1_000_000_000));
    json!({
        "Key": info.key,
        "Shape": manifest.shape().to_string(),
        "Image": manifest.image().unwrap_or("all"),
        "Accelerator": manifest.accelerator().to_string(),
        "CreatedSince": format!("{} ago", times::since(created, now)),
        "CreatedAt": times::rfc3339(created),
        "Size": size,
        "QemuVersion": manifest.engine_version().to_string(),
        "Checked": if info.verified { "yes" } else { "at next use" },
    })
}

/// Removes the template whose key begins like this.
fn remove(templates: &Templates, infos: &[TemplateInfo], text: &str) -> anyhow::Result<()> {
    let mut meant = infos.iter().filter(|info| info.key.starts_with(text));
    match (meant.next(), meant.next()) {
        (Some(info), None) => wait_for(async { Ok(templates.remove(&info.key).await?) }),
        (None, _) => Err(anyhow!("no such template: {text}")),
        _ => Err(anyhow!("'{text}' is the beginning of more than one template's key")),
    }
}
