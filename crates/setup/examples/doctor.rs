//! Prints what the doctor finds: `doctor HOME [STORE_DIR]`.

// People run it and read what it prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::env;
use std::error::Error;
use std::path::PathBuf;

use boxwood_setup::{Patient, Report, Sources, Stores, Style, VmPlaces};
use boxwood_vmm::Templates;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let home = arguments.next().ok_or("usage: doctor HOME [STORE_DIR]")?;
    let store = arguments.next().unwrap_or_else(|| home.clone());
    let cache = home.join("cache");
    let patient =
        Patient { home: &home, stores: &Stores::new(&store), sources: &Sources::from_env()? };
    let templates = Templates::open(home.join("templates"));
    let places = VmPlaces { templates: &templates, cache: &cache };
    print!("{}", Report::examine_all(&patient, &places).await.render(Style::Plain));
    Ok(())
}
