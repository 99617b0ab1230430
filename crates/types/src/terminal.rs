//! The size of a terminal.

use serde::{Deserialize, Serialize};

/// How many characters a terminal shows. Zeros are a size that nobody knows, as on Linux.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}
