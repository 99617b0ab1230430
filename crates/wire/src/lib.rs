//! The protocol between a shim on the host and the guest in its VM.
//!
//! Bytes in, values out: nothing here reads a socket or a clock, so both sides use the same code and
//! it can be tested to the last byte. From the outside in:
//!
//! 1. [`preface`]: one greeting each way after every restore. It finds its beginning in whatever the
//!    port still held, agrees on a version, and carries the epoch.
//! 2. [`mux`]: then the port is a yamux connection; the host opens its streams.
//! 3. [`frame`]: a stream names its service by port number and then carries frames.
//! 4. [`message`]: the frames that are not plain bytes.
//!
//! Before there is a channel, there is the [`console`].
//!
//! Each side takes the other for hostile: every length is bounded before it allocates.

pub mod console;
pub mod frame;
pub mod message;
pub mod mux;
pub mod preface;
