//! Boxes: described, listed, told to do things, listened to.

mod acts;
mod describe;
mod health;
mod listed;
mod streams;

pub use acts::{DeleteBox, Ended, KillBox, RenameBox, StopBox, UpdateBox, WaitBox};
pub use describe::{CreateBox, Created, TerminalSize};
pub use health::HealthCheck;
pub use listed::{BoxInfo, BoxList, BoxState, Exit, ListBoxes};
pub use streams::{AttachBox, ListEvents, Logs};
