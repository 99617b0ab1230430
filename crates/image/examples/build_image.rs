//! Builds images by hand and prints what is in the store and how fast it got there:
//! `build_image STORE` and one of `load ARCHIVE|LAYOUT`, `import ROOTFS NAME`, `busybox`,
//! `resolve NAME`, `list`.

// People run it and read what it prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::Path;
use std::time::Instant;

use boxwood_image::{ImageConfig, ImageStore, Import, Progress, Source};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [store, verb @ ..] = &arguments[..] else { return Err("usage: see the source".into()) };
    let store = ImageStore::open(Path::new(store))?;
    let start = Instant::now();
    let mut bytes = std::collections::BTreeMap::new();
    let mut progress = |progress| {
        if let Progress::Layer { image, layer, bytes: now, .. } = progress {
            bytes.insert((image, layer), now);
        }
    };
    match verb {
        ["load", path] => {
            for loaded in store.load(Source::Path(path.into()), &mut progress)? {
                println!("loaded {} {:?} existed={}", loaded.id, loaded.names, loaded.existed);
            }
        }
        ["import", path, name] => {
            let (source, name) = (Source::Path(path.into()), Some(name.parse()?));
            let import = Import { source, name, config: ImageConfig::default() };
            println!("imported {}", store.import(import, &mut progress)?.id);
        }
        ["resolve", name] => {
            let id = store.resolve(name)?.id().clone();
            println!("{id} in {} us", start.elapsed().as_micros());
        }
        ["busybox"] => println!("made {}", store.make_default()?.id),
        ["list"] => {}
        _ => return Err("usage: see the source".into()),
    }
    let (total, seconds) =
        (bytes.values().sum::<u64>() as f64 / 1e6, start.elapsed().as_secs_f64());
    println!("{total:.1} MB of layers in {seconds:.3} s: {:.0} MB/s", total / seconds);
    for image in store.list()? {
        let names: Vec<String> = image.names.iter().map(|name| name.familiar()).collect();
        let (content, disk) = (image.content_bytes, image.disk_bytes);
        println!("{} {names:?} content={content} disk={disk}", image.id.short());
        println!("  {}", store.resolve(image.id.as_str())?.block().display());
    }
    Ok(())
}
