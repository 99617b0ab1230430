//! Named steps at which a test can end a process: what is killed there must leave nothing and nobody lying.
//! Called at the steps of a box's life in the runtime, the shim and the daemon; `vmm` has its own door to it.
//!
//! Without the feature `failpoints` this is no code at all. With it, `BOXWOOD_FAILPOINT=STEP=WHAT` does
//! something when the step is reached for the first time, and makes the file `BOXWOOD_FAILPOINT_MARK` right
//! before. WHAT is `kill` (this process), `kill-child` (its children) or `stop` (this process). Processes that
//! this one starts inherit the wish.

/// This step has been reached.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn failpoint(_step: &str) {}

/// Reads the wish from the environment. Called once, when a process begins.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn prepare_failpoints() {}

#[cfg(feature = "failpoints")]
pub use wished::{failpoint, prepare_failpoints};

#[cfg(feature = "failpoints")]
mod wished {
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::process::{Pid, Signal, getpid, kill_process};

    /// This step has been reached.
    pub fn failpoint(step: &str) {
        fail::fail_point!(step);
    }

    /// Reads the wish from the environment. Called once, when a process begins.
    pub fn prepare_failpoints() {
        let Ok(wish) = std::env::var("BOXWOOD_FAILPOINT") else { return };
        let (step, what) = wish.split_once('=').expect("BOXWOOD_FAILPOINT is STEP=WHAT");
        let act: fn() = match what {
            "kill" => || send(getpid(), Signal::KILL),
            "stop" => || send(getpid(), Signal::STOP),
            "kill-child" => || children().into_iter().for_each(|child| send(child, Signal::KILL)),
            _ => panic!("BOXWOOD_FAILPOINT can kill, kill-child or stop, not '{what}'"),
        };
        let happened = AtomicBool::new(false);
        let once = move || {
            if !happened.swap(true, Ordering::SeqCst) {
                mark();
                act();
            }
        };
        fail::cfg_callback(step, once).expect("a callback can be set");
    }

    /// That it was reached can be seen.
    fn mark() {
        if let Some(path) = std::env::var_os("BOXWOOD_FAILPOINT_MARK") {
            fs::write(path, std::process::id().to_string()).expect("the mark can be made");
        }
    }

    fn send(pid: Pid, signal: Signal) {
        // It may have gone by itself.
        let _ = kill_process(pid, signal);
    }

    fn children() -> Vec<Pid> {
        let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        let text: String = lists.collect();
        text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
    }
}
