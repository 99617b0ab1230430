//! The commands beside main that clients have described, and what became of them. In memory: with the
//! daemon its streams end, and so do the commands that live by them. Called by `routes::exec`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use boxwood_api::{ExecEnd, ExecInfo, ExecState};
use boxwood_runtime::ExecRequest;
use boxwood_types::BoxId;

use crate::error::ApiError;

/// How many that were not started are kept; the oldest go first.
const PENDING: usize = 64;
/// How many that have ended or were released are remembered.
const ENDED: usize = 1024;
/// The most bytes of a command and its environment.
pub(crate) const MAX_REQUEST: usize = 256 << 10;

/// A command beside main.
#[derive(Debug)]
struct Exec {
    box_id: BoxId,
    life: Life,
}

/// Where it is in its life.
#[derive(Debug)]
enum Life {
    Created(Box<ExecRequest>),
    Starting,
    Running { session: u32 },
    Detached { session: u32 },
    Ended(ExecEnd),
}

#[derive(Debug, Default)]
struct Table {
    execs: HashMap<String, Exec>,
    pending: VecDeque<String>,
    ended: VecDeque<String>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Execs {
    table: Mutex<Table>,
}

impl Execs {
    /// Remembers a command to be started, and names it.
    pub(crate) fn add(&self, box_id: BoxId, request: ExecRequest) -> Result<String, ApiError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| ApiError::internal(error.to_string()))?;
        let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut table = self.table();
        let exec = Exec { box_id, life: Life::Created(Box::new(request)) };
        table.execs.insert(id.clone(), exec);
        table.pending.push_back(id.clone());
        if table.pending.len() > PENDING
            && let Some(oldest) = table.pending.pop_front()
        {
            table.execs.remove(&oldest);
        }
        Ok(id)
    }

    /// Takes a command to be started: once.
    pub(crate) fn take(&self, id: &str) -> Result<(BoxId, ExecRequest), ApiError> {
        let mut table = self.table();
        let exec = table.execs.get_mut(id).ok_or_else(|| unknown(id))?;
        let life = std::mem::replace(&mut exec.life, Life::Starting);
        let Life::Created(request) = life else {
            exec.life = life;
            return Err(ApiError::wrong_state(format!("exec {id} was started before")));
        };
        let box_id = exec.box_id.clone();
        table.pending.retain(|pending| pending != id);
        Ok((box_id, *request))
    }

    /// Whether a command is to go on without its client.
    pub(crate) fn is_detached(&self, id: &str) -> Result<bool, ApiError> {
        use boxwood_runtime::state::Client;
        match &self.table().execs.get(id).ok_or_else(|| unknown(id))?.life {
            Life::Created(request) => Ok(request.client == Client::Detached),
            _ => Err(ApiError::wrong_state(format!("exec {id} was started before"))),
        }
    }

    /// It runs, and this is what its shim calls it.
    pub(crate) fn runs(&self, id: &str, session: u32) {
        self.change(id, Life::Running { session });
    }

    /// It runs, and nobody hears of it any more.
    pub(crate) fn released(&self, id: &str, session: u32) {
        self.settle(id, Life::Detached { session });
    }

    /// It has ended. One that was released is nobody's to speak about.
    pub(crate) fn ended(&self, id: &str, end: ExecEnd) {
        if self
            .table()
            .execs
            .get(id)
            .is_some_and(|exec| !matches!(exec.life, Life::Detached { .. }))
        {
            self.settle(id, Life::Ended(end));
        }
    }

    /// Nothing happens to it any more; the oldest that nothing happens to is forgotten.
    fn settle(&self, id: &str, life: Life) {
        self.change(id, life);
        let mut table = self.table();
        table.ended.push_back(id.to_owned());
        if table.ended.len() > ENDED
            && let Some(oldest) = table.ended.pop_front()
        {
            table.execs.remove(&oldest);
        }
    }

    /// The box of a command that runs, and what its shim calls it.
    pub(crate) fn session(&self, id: &str) -> Result<(BoxId, u32), ApiError> {
        let table = self.table();
        let exec = table.execs.get(id).ok_or_else(|| unknown(id))?;
        match &exec.life {
            Life::Running { session } | Life::Detached { session } => {
                Ok((exec.box_id.clone(), *session))
            }
            Life::Created(_) | Life::Starting => {
                Err(ApiError::wrong_state(format!("exec {id} does not run yet")))
            }
            Life::Ended(_) => Err(ApiError::wrong_state(format!("exec {id} has ended"))),
        }
    }

    /// What there is to say about a command.
    pub(crate) fn info(&self, id: &str) -> Result<ExecInfo, ApiError> {
        let table = self.table();
        let exec = table.execs.get(id).ok_or_else(|| unknown(id))?;
        let (state, end) = match &exec.life {
            Life::Created(_) => (ExecState::Created, None),
            Life::Starting => (ExecState::Starting, None),
            Life::Running { .. } => (ExecState::Running, None),
            Life::Detached { .. } => (ExecState::Detached, None),
            Life::Ended(end) => (ExecState::Ended, Some(end.clone())),
        };
        Ok(ExecInfo { id: id.to_owned(), box_id: exec.box_id.to_string(), state, end })
    }

    fn change(&self, id: &str, life: Life) {
        if let Some(exec) = self.table().execs.get_mut(id) {
            exec.life = life;
        }
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(id: &str) -> ApiError {
    let id: String = id.chars().take(40).collect();
    ApiError::not_found(format!("no such exec: {id}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use boxwood_runtime::state::Client;

    fn request() -> ExecRequest {
        ExecRequest {
            command: vec!["true".into()],
            env: Vec::new(),
            workdir: None,
            user: None,
            open_stdin: false,
            terminal: None,
            timeout_ms: None,
            client: Client::Attached,
        }
    }

    fn end() -> ExecEnd {
        ExecEnd { code: 0, signal: None, reason: "exited".to_owned(), message: None }
    }

    #[test]
    fn a_command_is_started_once_and_its_end_is_remembered() {
        let execs = Execs::default();
        let id = execs.add(BoxId::from_random([1; 32]), request()).unwrap();
        assert_eq!(execs.info(&id).unwrap().state, ExecState::Created);
        assert!(execs.session(&id).is_err());
        execs.take(&id).unwrap();
        assert!(execs.take(&id).is_err());
        execs.runs(&id, 7);
        assert_eq!(execs.session(&id).unwrap().1, 7);
        execs.ended(&id, end());
        assert_eq!(execs.info(&id).unwrap().end, Some(end()));
        assert!(execs.session(&id).is_err());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let execs = Execs::default();
        for _ in 0..2 * PENDING {
            execs.add(BoxId::from_random([1; 32]), request()).unwrap();
        }
        assert_eq!(execs.table().execs.len(), PENDING);
        for _ in 0..2 * ENDED {
            let id = execs.add(BoxId::from_random([1; 32]), request()).unwrap();
            execs.take(&id).unwrap();
            execs.ended(&id, end());
        }
        let table = execs.table();
        assert!(table.execs.len() <= PENDING + ENDED, "{}", table.execs.len());
        assert_eq!(table.pending.len(), PENDING - 1);
    }
}
