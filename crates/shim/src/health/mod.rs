//! The health check of a box: probes at their times while main runs (contracts H9, S5). Begun by the
//! [supervisor](crate::supervisor), which hears of each change and writes it down.

mod alarm;
mod policy;
mod probe;
mod pulse;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Instant;

use boxwood_state::metrics::Counter;
use boxwood_state::{BoxDir, BoxSpec, HealthSpec};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::health::alarm::Alarm;
use crate::health::policy::Course;
use crate::health::probe::{Prober, Sign};
use crate::health::pulse::Pulse;
use crate::life::Event;
use crate::link::Link;
use crate::note::note;
use crate::questions::Questions;

/// Whether main can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Main {
    Runs,
    /// Nothing is asked of what stands still.
    StandsStill,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Wish {
    main: Main,
    spec: Option<HealthSpec>,
    /// How often it was said that nothing is to be checked: what is known of before is nothing then.
    ended: u32,
}

/// The check of one run, as long as this lives.
#[derive(Debug)]
pub(crate) struct Monitor {
    wish: watch::Sender<Wish>,
    task: AbortHandle,
}

/// Where a check asks and tells.
pub(crate) struct Ways {
    pub(crate) link: Link,
    pub(crate) questions: Questions,
    pub(crate) news: mpsc::Sender<Event>,
    /// A handle of its own on the box's directory: what came of the probes is written there.
    pub(crate) dir: Option<BoxDir>,
}

impl Monitor {
    /// Begins when main has started, so the epoch is acknowledged.
    pub(crate) fn begin(ways: Ways, spec: &BoxSpec) -> Monitor {
        let (wish, wishes) =
            watch::channel(Wish { main: Main::Runs, spec: spec.health.clone(), ended: 0 });
        let Ways { link, questions, news, dir } = ways;
        let prober = Prober { link, questions, main: spec.process.clone() };
        let checked = async {
            if let Err(error) = check(prober, wishes, news, dir).await {
                note!("can't check the box's health any more: its timer failed: {error}");
            }
        };
        let task = tokio::task::spawn_local(checked).abort_handle();
        Monitor { wish, task }
    }

    /// Main goes on, or stands still.
    pub(crate) fn main(&self, main: Main) {
        self.wish.send_modify(|wish| wish.main = main);
    }

    /// From now on it is checked like this.
    pub(crate) fn change(&self, spec: Option<HealthSpec>) {
        self.wish.send_modify(|wish| {
            wish.ended += u32::from(spec.is_none());
            wish.spec = spec;
        });
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn check(
    prober: Prober,
    mut wishes: watch::Receiver<Wish>,
    news: mpsc::Sender<Event>,
    dir: Option<BoxDir>,
) -> io::Result<()> {
    let alarm = Rc::new(Alarm::new()?);
    let began = Instant::now();
    let course = Rc::new(RefCell::new(Course::new()));
    // There is one while the guest is well.
    let mut pulse: Option<Pulse> = None;
    let mut ended = 0;
    loop {
        let wish = wishes.borrow_and_update().clone();
        if std::mem::replace(&mut ended, wish.ended) != wish.ended {
            course.replace(Course::new());
        }
        let (Main::Runs, Some(spec)) = (wish.main, wish.spec) else {
            if wishes.changed().await.is_err() {
                return Ok(());
            }
            continue;
        };
        let wait = course.borrow().interval(&spec, began.elapsed());
        let started = Cell::new(began.elapsed());
        let sign = async {
            if let Some(pulse) = &pulse {
                return prober.listen(&spec, pulse, &alarm).await;
            }
            alarm.after(wait).await?;
            started.set(began.elapsed());
            Ok(Sign::AskedFor(prober.probe(&spec, &alarm).await))
        };
        let sign = tokio::select! {
            biased;
            changed = wishes.changed() => {
                pulse = None;
                match changed {
                    // What a probe found out meanwhile is worth nothing: the box may have stood still.
                    Ok(()) => continue,
                    Err(_) => return Ok(()),
                }
            }
            sign = sign => sign?,
        };
        prober.link.counters().add(Counter::HealthProbes, 1);
        let (result, asked) = match sign {
            Sign::Given(result) => (result, false),
            Sign::AskedFor(result) => (result, true),
        };
        let before = course.borrow().health().failing_streak;
        let change = course.borrow_mut().take(result, &spec, started.get());
        let (streak, is_well) =
            (course.borrow().health().failing_streak, course.borrow().is_well());
        let liveness = spec.probe.argv().is_none();
        // A sign of life like the one before is no news.
        let silent = liveness && change.is_none() && (before, streak) == (0, 0);
        if !silent && let Some(dir) = &dir {
            // For people; the record has the status.
            let _ = dir.write_health(course.borrow().health());
        }
        match &pulse {
            Some(pulse) if !asked => pulse.expect(),
            _ => {
                // The end of the old one is told before the beginning of the next.
                drop(pulse.take());
                let ways = (&prober.link, &prober.questions);
                let begin = || Pulse::begin(ways, (&alarm, &course), &spec).ok();
                pulse = (liveness && is_well).then(begin).flatten();
            }
        }
        if let Some(status) = change
            && news.send(Event::HealthChanged(status)).await.is_err()
        {
            return Ok(());
        }
    }
}
