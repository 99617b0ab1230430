//! Figures and how they are printed. Called by every measurement.

use std::time::Duration;

/// Durations of the same thing.
#[derive(Debug, Default)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    pub(crate) fn add(&mut self, took: Duration) {
        self.add_ms(took.as_secs_f64() * 1000.0);
    }

    pub(crate) fn add_ms(&mut self, ms: f64) {
        self.0.push(ms);
        self.0.sort_by(f64::total_cmp);
    }

    /// The value that this share of the others does not exceed.
    pub(crate) fn at(&self, share: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let place = (share * last as f64).round() as usize;
        self.0.get(place).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn median(&self) -> f64 {
        self.at(0.5)
    }

    /// Count, median, least, 90th percentile and most, in milliseconds.
    pub(crate) fn cells(&self) -> [String; 5] {
        let ms = |value: f64| format!("{value:.1}");
        [
            self.0.len().to_string(),
            ms(self.median()),
            ms(self.at(0.0)),
            ms(self.at(0.9)),
            ms(self.at(1.0)),
        ]
    }
}

/// The headings of [`Sample::cells`].
pub(crate) const SAMPLE: [&str; 5] = ["n", "median ms", "least", "90 %", "most"];

/// Prints rows below a title, the first column to the left, the others to the right.
pub(crate) fn print(title: &str, headings: &[&str], rows: &[Vec<String>]) {
    let heading = headings.iter().map(|text| (*text).to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&heading).chain(rows).collect();
    let width = |column: usize| {
        let cells = all.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    println!("\n{title}");
    for row in &all {
        let cells = row.iter().enumerate().map(|(column, cell)| match column {
            0 => format!("{cell:<width$}", width = width(column)),
            _ => format!("{cell:>width$}", width = width(column)),
        });
        println!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}
