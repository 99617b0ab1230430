//! `boxwood template`: the frozen VMs that boxes start from.

use std::process::ExitCode;

use anyhow::anyhow;
use boxwood_runtime::state::clock::Moment;
use boxwood_runtime::vmm::TemplateInfo;
use boxwood_types::ByteSize;
use serde_json::{Value, json};

use crate::format::{Format, print_views};
use crate::out::{say, tell};
use crate::{REFUSED, complain, for_each, open_runtime, shown, times, wait_for};

const COLUMNS: [(&str, &str); 7] = [
    ("KEY", "Key"),
    ("SHAPE", "Shape"),
    ("IMAGE", "Image"),
    ("ACCELERATOR", "Accelerator"),
    ("CREATED", "CreatedSince"),
    ("SIZE", "Size"),
    ("CHECKED", "Checked"),
];

/// List, show or remove templates
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  boxwood template ls
  boxwood template inspect --format '{{.QemuVersion}}' 3f2a
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
    /// Show everything about templates
    Inspect {
        /// A Go template instead of JSON
        #[arg(short, long, value_name = "FORMAT")]
        format: Option<String>,
        /// Keys, or their beginnings
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
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
            let format = Format::new(format.as_deref(), &COLUMNS)?;
            let shown: Vec<Shown> = infos.into_iter().map(Shown::from).collect();
            list(&shown, &format, *quiet)
        }
        Verb::Inspect { format, keys } => {
            let shown: Vec<Shown> = infos.into_iter().map(Shown::from).collect();
            inspect(&shown, keys, format.as_deref())
        }
        Verb::Rm { all, keys } => wait_for(async {
            let known: Vec<&str> = infos.iter().map(|info| &*info.key).collect();
            let chosen = chosen(*all, keys, &known);
            for_each(&chosen, async |text| {
                let key = meant(&known, text)?;
                Ok(templates.remove(key).await?)
            })
            .await
        }),
    }
}

/// The same, asked of a daemon.
pub(crate) async fn remote(
    args: &Args,
    daemon: &boxwood_client::Client,
) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::Ls { format, quiet } => {
            let format = Format::new(format.as_deref(), &COLUMNS)?;
            let templates = daemon.templates().await?.templates;
            let shown: anyhow::Result<Vec<Shown>> =
                templates.into_iter().map(Shown::try_from).collect();
            list(&shown?, &format, *quiet)
        }
        Verb::Inspect { format, keys } => {
            let templates = daemon.templates().await?.templates;
            let shown: anyhow::Result<Vec<Shown>> =
                templates.into_iter().map(Shown::try_from).collect();
            inspect(&shown?, keys, format.as_deref())
        }
        Verb::Rm { all, keys } => {
            let infos = daemon.templates().await?.templates;
            let known: Vec<&str> = infos.iter().map(|info| &*info.key).collect();
            let chosen = chosen(*all, keys, &known);
            for_each(&chosen, async |text| Ok(daemon.remove_template(meant(&known, text)?).await?))
                .await
        }
    }
}

/// A template, wherever it was heard of.
struct Shown {
    key: String,
    disk_bytes: u64,
    verified: bool,
    /// What there is to say about it, or what is wrong with it.
    about: Result<About, String>,
}

struct About {
    shape: String,
    image: Option<String>,
    accelerator: String,
    created: Moment,
    qemu_version: String,
}

impl From<TemplateInfo> for Shown {
    fn from(info: TemplateInfo) -> Self {
        let about = info.manifest.map(|manifest| About {
            shape: manifest.shape().to_string(),
            image: manifest.image().map(str::to_owned),
            accelerator: manifest.accelerator().to_string(),
            created: Moment(manifest.made_unix_s().saturating_mul(1_000_000_000)),
            qemu_version: manifest.engine_version().to_string(),
        });
        let TemplateInfo { key, disk_bytes, verified, .. } = info;
        Shown { key, disk_bytes, verified, about }
    }
}

impl TryFrom<boxwood_api::TemplateInfo> for Shown {
    type Error = anyhow::Error;

    fn try_from(info: boxwood_api::TemplateInfo) -> anyhow::Result<Self> {
        let created = info.created.as_deref().map(shown::moment).transpose()?;
        let about = match info.damaged {
            Some(damage) => Err(damage),
            None => Ok(About {
                shape: info.shape.unwrap_or_default(),
                image: info.image,
                accelerator: info.accelerator.unwrap_or_default(),
                created: created.unwrap_or(Moment(0)),
                qemu_version: info.qemu_version.unwrap_or_default(),
            }),
        };
        Ok(Shown { key: info.key, disk_bytes: info.disk_bytes, verified: info.verified, about })
    }
}

fn list(templates: &[Shown], format: &Format, quiet: bool) -> anyhow::Result<ExitCode> {
    if quiet {
        templates.iter().try_for_each(|one| say!("{}", one.key))?;
        return Ok(ExitCode::SUCCESS);
    }
    let now = Moment::now();
    let rows: Vec<Value> = templates.iter().map(|one| row(one, now)).collect();
    format.print(&rows, &COLUMNS)?;
    Ok(ExitCode::SUCCESS)
}

fn inspect(templates: &[Shown], keys: &[String], format: Option<&str>) -> anyhow::Result<ExitCode> {
    let known: Vec<&str> = templates.iter().map(|one| &*one.key).collect();
    let mut code = ExitCode::SUCCESS;
    let mut views = Vec::new();
    for text in keys {
        match meant(&known, text) {
            Ok(key) => views.extend(templates.iter().filter(|one| one.key == key).map(view)),
            Err(error) => {
                complain(&error);
                code = ExitCode::from(REFUSED);
            }
        }
    }
    print_views(format, views)?;
    Ok(code)
}

/// Everything there is to know about a template; null where that is damaged.
fn view(shown: &Shown) -> Value {
    let about = shown.about.as_ref();
    json!({
        "Key": shown.key,
        "Shape": about.map(|about| &about.shape).ok(),
        "Image": about.ok().and_then(|about| about.image.as_ref()),
        "Accelerator": about.map(|about| &about.accelerator).ok(),
        "Created": about.map(|about| times::rfc3339(about.created)).ok(),
        "QemuVersion": about.map(|about| &about.qemu_version).ok(),
        "Size": shown.disk_bytes,
        "Checked": shown.verified,
        "Damage": about.err(),
    })
}

fn row(shown: &Shown, now: Moment) -> Value {
    let size = ByteSize::from_bytes(shown.disk_bytes).to_string();
    let about = match &shown.about {
        Ok(about) => about,
        Err(damage) => {
            tell!("template {}: {damage}", shown.key);
            return json!({
                "Key": shown.key,
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
    json!({
        "Key": shown.key,
        "Shape": about.shape,
        "Image": about.image.as_deref().unwrap_or("all"),
        "Accelerator": about.accelerator,
        "CreatedSince": format!("{} ago", times::since(about.created, now)),
        "CreatedAt": times::rfc3339(about.created),
        "Size": size,
        "QemuVersion": about.qemu_version,
        "Checked": if shown.verified { "yes" } else { "at next use" },
    })
}

/// Those that were named, or all.
fn chosen(all: bool, keys: &[String], known: &[&str]) -> Vec<String> {
    if all { known.iter().map(|key| (*key).to_owned()).collect() } else { keys.to_vec() }
}

/// The key that begins like this.
fn meant<'a>(known: &[&'a str], text: &str) -> anyhow::Result<&'a str> {
    let mut meant = known.iter().filter(|key| key.starts_with(text));
    match (meant.next(), meant.next()) {
        (Some(key), None) => Ok(key),
        (None, _) => Err(anyhow!("no such template: {text}")),
        _ => Err(anyhow!("'{text}' is the beginning of more than one template's key")),
    }
}
