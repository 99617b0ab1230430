//! The end of a box: its VM ended, its end written down, everybody told. Called by `launch`.

use std::rc::Rc;
use std::time::Duration;

use boxwood_state::clock::Moment;
use boxwood_state::control::Reply;
use boxwood_state::{AfterExit, ExitRecord};
use boxwood_types::{BoxState, ExitReason, ExitStatus};
use boxwood_vmm::Vm;
use tokio::sync::mpsc;

use super::Supervisor;
use crate::clients::{self, Asked};
use crate::note::note;
use crate::output::{Outgoing, Sender};

/// How long QEMU may take to be gone after SIGKILL before it is reported as stuck.
const REAP: Duration = Duration::from_secs(10);

impl Supervisor {
    /// Ends the VM, then writes the end down, then removes the box if it is to be removed. Returns
    /// what to tell everybody.
    pub(crate) async fn conclude(&mut self, vm: Option<Vm>, mut exit: ExitRecord) -> ExitRecord {
        if let Some(mut vm) = vm {
            loop {
                match vm.end(REAP).await {
                    Ok(_) => break,
                    // Nothing of the box is touched while its VM may still use it (contract H3).
                    Err(stuck) => note!("{}", boxwood_types::chain(&stuck)),
                }
            }
        }
        let never_ran = matches!(exit.reason, ExitReason::FailedToStart | ExitReason::Refused);
        self.explain(&mut exit);
        self.record.state = if never_ran { BoxState::Failed } else { BoxState::Exited };
        self.record.finished = Some(Moment::now());
        self.record.vmm_pid = None;
        self.record.exit = Some(exit.clone());
        let result = match self.spec.after_exit {
            AfterExit::Keep => self.dir.write_record(&self.record),
            // No reader can see a live record without its box: removing is one rename.
            AfterExit::Remove => self.home.remove(&self.dir),
        };
        if let Err(error) = result {
            let text = boxwood_types::chain(&error);
            note!("{text}");
            append(&mut exit.message, &text);
        }
        exit
    }

    /// Adds what people need to find out why a box failed.
    fn explain(&self, exit: &mut ExitRecord) {
        if let Some(failure) = self.output.log_failure() {
            append(&mut exit.message, &format!("its log is not complete: {failure}"));
        }
        let unexplained = exit.status == ExitStatus::Unknown
            && matches!(exit.reason, ExitReason::VmDied | ExitReason::FailedToStart);
        let tail = self.run.console.tail();
        if unexplained && !tail.trim().is_empty() {
            // Only kept for people; the record has its last lines, too.
            let _ = std::fs::write(self.dir.console(), &tail);
            let lines: Vec<&str> = tail.lines().filter(|line| !line.trim().is_empty()).collect();
            let last = lines[lines.len().saturating_sub(3)..].join(" | ");
            let last = crate::greeting::shorten(last);
            append(&mut exit.message, &format!("last lines of its console: {last}"));
        }
    }

    /// Tells everybody who waits how the box ended, and returns when they have heard it or gone.
    pub(crate) async fn say_goodbye(self, exit: ExitRecord, asked: &mut mpsc::Receiver<Asked>) {
        let goodbye = clients::frame(&Reply::Ended { exit });
        asked.close();
        let mut everybody = self.waiters;
        everybody.extend(self.run.starter);
        while let Some(asked) = asked.recv().await {
            match asked {
                Asked::Request(_, client) => everybody.push(client),
                Asked::Streams(_, caller) => everybody.push(caller.reply),
                Asked::StarterGone => {}
            }
        }
        everybody.extend(self.run.early.into_iter().map(|caller| caller.reply));
        let (bereaved, mut sessions) = self.run.relays.into_bereaved();
        everybody.extend(bereaved);
        let mut partings = tokio::task::JoinSet::new();
        for client in everybody {
            partings.spawn_local(part(client, goodbye.clone()));
        }
        // Sessions end with the link, once their clients have taken what was said before.
        while let Some(ended) = sessions.join_next().await {
            if let Ok(Some(client)) = ended {
                partings.spawn_local(part(client, goodbye.clone()));
            }
        }
        partings.join_all().await;
    }
}

async fn part(client: Sender, goodbye: Rc<Vec<u8>>) {
    if client.send(Outgoing::Last(goodbye)).await.is_ok() {
        client.closed().await;
    }
}

fn append(message: &mut Option<String>, text: &str) {
    match message {
        Some(message) => {
            message.push_str("; ");
            message.push_str(text);
        }
        None => *message = Some(text.to_owned()),
    }
}
