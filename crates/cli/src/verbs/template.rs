//! `boxwood template`: the frozen VMs that boxes start from.

use std::process::ExitCode;

use anyhow::anyhow;
use boxwood_runtime::state::clock::Moment;
use boxwood_types::ByteSize;
use serde_json::{Value, json};

use crate::format::Format;
use crate::out::say;
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
    let templates = open_runtime()?.templates();
    let infos = templates.list()?;
    match &args.verb {
        Verb::Ls { format, quiet } => {
            let now = Moment::now();
            if *quiet {
                infos.iter().try_for_each(|info| say!("{}", info.key))?;
                return Ok(ExitCode::SUCCESS);
            }
            let rows: Vec<Value> = infos
                .iter()
                .map(|info| {
                    let manifest = &info.manifest;
                    let created = Moment(manifest.made_unix_s().saturating_mul(1_000_000_000));
                    json!({
                        "Key": info.key,
                        "Shape": manifest.shape().to_string(),
                        "Image": manifest.image().unwrap_or("all"),
                        "Accelerator": manifest.accelerator().to_string(),
                        "CreatedSince": format!("{} ago", times::since(created, now)),
                        "CreatedAt": times::rfc3339(created),
                        "Size": ByteSize::from_bytes(info.disk_bytes).to_string(),
                        "QemuVersion": manifest.engine_version().to_string(),
                        "Checked": if info.verified { "yes" } else { "at next use" },
                    })
                })
                .collect();
            Format::new(format.as_deref(), &COLUMNS)?.print(&rows, &COLUMNS)?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Rm { all, keys } => {
            let mut code = ExitCode::SUCCESS;
            let chosen: Vec<String> = match all {
                true => infos.iter().map(|info| info.key.clone()).collect(),
                false => keys.clone(),
            };
            for text in chosen {
                let mut meant = infos.iter().filter(|info| info.key.starts_with(&text));
                let result = match (meant.next(), meant.next()) {
                    (Some(info), None) => {
                        wait_for(async { Ok(templates.remove(&info.key).await?) })
                    }
                    (None, _) => Err(anyhow!("no such template: {text}")),
                    _ => Err(anyhow!("'{text}' is the beginning of more than one template's key")),
                };
                match result {
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
