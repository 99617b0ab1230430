//! How fast an image comes in, by the form of its archive.

use boxwood_tests::archive::{Compression, Image, Layer, write};
use boxwood_tests::{Lab, StoreKind};

use crate::table::{SAMPLE, Sample, print};

const LAYERS: u8 = 5;
const LAYER_BYTES: usize = 40_000_000;
const FILE_BYTES: usize = 1_000_000;
const ROUNDS: usize = 3;

/// Loads an image of 200 MB in five layers.
pub(crate) fn measure(count: Option<usize>) {
    let lab = Lab::with(StoreKind::OwnImages);
    let image = Image::of((0..LAYERS).map(layer).collect());
    let bytes: usize = image.layers.iter().map(Vec::len).sum();
    let forms = [
        ("Docker archive", image.docker_archive(&["bench:1"])),
        ("OCI archive", image.oci_archive(&["bench:1"], Compression::None)),
        ("OCI archive, gzip", image.oci_archive(&["bench:1"], Compression::Gzip)),
        ("OCI archive, zstd", image.oci_archive(&["bench:1"], Compression::Zstd)),
    ];
    let file = lab.folder().join("image.tar");
    let rows = forms.map(|(title, archive)| {
        write(&file, &archive);
        let mut sample = Sample::default();
        for _ in 0..count.unwrap_or(ROUNDS) {
            let loaded = lab.boxwood(["load", "-i"]).args([&file]).output().exits(0);
            sample.add(loaded.took);
            drop(lab.boxwood(["rmi", "bench:1"]).output().exits(0));
        }
        let mut row = vec![title.to_owned(), format!("{:.0}", archive.len() as f64 / 1e6)];
        row.extend(sample.cells());
        row.push(format!("{:.0}", bytes as f64 / 1e3 / sample.median()));
        row
    });
    let headings: Vec<&str> =
        ["archive", "MB"].into_iter().chain(SAMPLE).chain(["plain MB/s"]).collect();
    print("Loading an image of 200 MB in five layers", &headings, &rows);
}

/// Files that compress to about half, as programs do.
fn layer(number: u8) -> Vec<u8> {
    let mut state = u64::from(number) + 1;
    let mut layer = Layer::new().folder(&format!("l{number}"));
    for file in 0..LAYER_BYTES / FILE_BYTES {
        let bytes: Vec<u8> = (0..FILE_BYTES)
            .map(|at| {
                // xorshift64 (Marsaglia, "Xorshift RNGs", 2003).
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                if at % 64 < 32 { state as u8 } else { 0 }
            })
            .collect();
        layer = layer.file(&format!("l{number}/f{file}"), 0o644, &bytes);
    }
    layer.end()
}
