//! One file per verb: parse, ask the runtime, print.

pub(crate) mod attach;
pub(crate) mod completion;
pub(crate) mod doctor;
pub(crate) mod exec;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod kill;
pub(crate) mod load;
pub(crate) mod logs;
pub(crate) mod pause;
pub(crate) mod prune;
pub(crate) mod ps;
pub(crate) mod rename;
pub(crate) mod restart;
pub(crate) mod rm;
pub(crate) mod rmi;
pub(crate) mod run;
pub(crate) mod setup;
pub(crate) mod shim;
pub(crate) mod start;
pub(crate) mod stop;
pub(crate) mod template;
pub(crate) mod unpause;
pub(crate) mod version;
pub(crate) mod wait;
