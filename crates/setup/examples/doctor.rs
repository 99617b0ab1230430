//! Prints what the doctor finds: `doctor HOME [STORE_DIR]`.

use std::env;
use std::error::Error;
use std::path::PathBuf;

use boxwood_setup::{Patient, Report, Sources, Stores, Style};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let home = arguments.next().ok_or("usage: doctor HOME [STORE_DIR]")?;
    let stores = Stores::new(arguments.next().unwrap_or_else(|| home.clone()));
    let sources = Sources::from_env()?;
    let report = Report::examine(&Patient { home: &home, stores: &stores, sources: &sources });
    print!("{}", report.render(Style::Plain));
    Ok(())
}
