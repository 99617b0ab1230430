//! Between the words of REST and those inside: the one place where what a client says is checked and
//! becomes a request, and where what the runtime knows becomes an answer. Called by the routes.

mod answer;
mod asked;
mod captured;
mod figures;
mod pool;
mod value;

pub(crate) use answer::{exec_bereaved, exec_end, exec_lost, exit, image, info, template};
pub(crate) use asked::{create, exec, update};
pub(crate) use captured::{capture, fork, imported_as, restore, snapshot};
pub(crate) use figures::{metrics, processes, stats};
pub(crate) use pool::{pool, pool_request};
pub(crate) use value::{
    Label, MAX_MS, has_label, label, milliseconds, moment, rfc3339, signal, size, state,
};
