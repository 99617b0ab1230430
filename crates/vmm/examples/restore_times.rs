//! Bakes a template of a kernel and an initramfs, restores it again and again, and prints how long
//! the steps take: `restore_times VMLINUX INITRAMFS DIR [ROUNDS]`. The guest says something on its
//! channel when it is idle, and answers each line with a line.

// People run it and read what it prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use boxwood_types::Shape;
use boxwood_vmm::{
    BOX_DISK_BYTES, BakeRequest, BootFiles, DiskDurability, Engine, IMAGE_DISK_BYTES, QemuUser,
    RestoreRequest, Template, Templates, probe, restore,
};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, vmlinux, initramfs, dir, rest @ ..] = arguments.as_slice() else {
        return Err("usage: restore_times VMLINUX INITRAMFS DIR [ROUNDS]".into());
    };
    let rounds: usize = rest.first().map_or(Ok(20), |rounds| rounds.parse())?;
    let dir = Path::new(dir);
    let verdict = probe(&dir.join("cache"))?;
    println!("{verdict}");
    let engine = Engine::find(verdict.accelerator, &dir.join("cache"))?;
    println!("{} {}", engine.path().display(), engine.version());
    let boot = BootFiles {
        vmlinux: vmlinux.into(),
        vmlinux_sha256: sha256(vmlinux)?,
        initramfs: initramfs.into(),
        initramfs_sha256: sha256(initramfs)?,
    };
    let request = BakeRequest {
        mark: [0; 16],
        again_if: None,
        engine: &engine,
        accelerator: verdict.accelerator,
        boot: &boot,
        shape: Shape::default(),
        within: BakeRequest::WITHIN,
    };
    let templates = Templates::open(dir.join("templates")).with_cache(dir.join("cache"));
    let idle = async |channel: &mut UnixStream| -> Result<()> {
        channel.read_exact(&mut [0; 1]).await?;
        Ok(())
    };
    let template = templates.ensure(&request, idle, &mut |progress| println!("{progress:?}")).await;
    let template = template.inspect_err(|error| explain(error))?;
    let mut steps: Vec<[Duration; 8]> = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        templates.find(&request).await?.ok_or("it was there a moment ago")?;
        let found = start.elapsed();
        steps.push(round(&template, found).await.inspect_err(|error| explain(&**error))?);
    }
    let names = ["find", "spawned", "ram", "ready", "loaded", "running", "reply", "end"];
    for (step, name) in names.iter().enumerate() {
        let mut values: Vec<Duration> = steps.iter().map(|round| round[step]).collect();
        values.sort();
        println!("{name:8} {:6.2} ms", values[values.len() / 2].as_secs_f64() * 1e3);
    }
    Ok(())
}

async fn round(template: &Template, found: Duration) -> Result<[Duration; 8]> {
    let image = tempfile::NamedTempFile::new()?;
    image.as_file().set_len(IMAGE_DISK_BYTES)?;
    let disk = tempfile::tempfile()?;
    disk.set_len(BOX_DISK_BYTES)?;
    let request = RestoreRequest {
        image: File::open(image.path())?,
        disk: boxwood_vmm::Disk::raw(disk),
        durability: DiskDurability::Scratch,
        console: File::options().write(true).open("/dev/null")?,
        user: QemuUser::Drop { uid: 0x7000_0001, gid: 0x7000_0001 },
        within: Duration::from_secs(30),
    };
    let start = Instant::now();
    let mut vm = restore(template, request).await?;
    let mut channel = vm.take_channel().ok_or("no channel")?;
    channel.write_all(b"ping\n").await?;
    let reply = tokio::time::timeout(Duration::from_secs(2), channel.read_exact(&mut [0; 1])).await;
    reply??;
    let replied = start.elapsed();
    let end = Instant::now();
    let _ = vm.end(Duration::from_secs(5)).await?;
    let times = vm.timings();
    let [spawned, ram, ready] = [times.spawned, times.ram, times.ready];
    Ok([found, spawned, ram, ready, times.loaded, times.running, replied, end.elapsed()])
}

fn sha256(path: &str) -> Result<String> {
    let digest = Sha256::digest(std::fs::read(path)?);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn explain(error: &(dyn Error + 'static)) {
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("caused by: {error}");
        cause = error.source();
    }
}
