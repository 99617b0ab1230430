//! What people see while something takes long. On a terminal a line that moves; else a line for each
//! step, so that a log stays readable. Always on standard error.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::on_a_terminal;
use crate::out::tell;

/// Nothing is shown for work that is done within this time.
const PATIENCE: Duration = Duration::from_millis(300);

/// A piece of work with steps.
#[derive(Debug)]
pub(crate) struct Work {
    bar: Option<ProgressBar>,
    since: Instant,
    last: Option<String>,
}

impl Work {
    pub(crate) fn new() -> Self {
        Work { bar: None, since: Instant::now(), last: None }
    }

    /// The step at hand.
    pub(crate) fn step(&mut self, text: &str) {
        if self.last.as_deref() == Some(text) {
            return;
        }
        self.last = Some(text.to_owned());
        if !on_a_terminal() {
            tell!("{text}");
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_message(text.to_owned());
    }

    /// How far a step is, for those who watch.
    pub(crate) fn detail(&mut self, text: &str) {
        if on_a_terminal() && self.since.elapsed() > PATIENCE {
            self.step(text);
        }
    }

    /// The work is done; its line goes away.
    pub(crate) fn done(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.done();
    }
}
