//! What a guest prints on its console for the host to recognize, when it ends before there is a channel.

/// Completes "can't" when the kernel has measured its timer wrongly while it booted. Another guest that
/// boots may fare better.
pub const MISTIMED: &str = "trust the CPU's timer, which the kernel has measured wrongly";
