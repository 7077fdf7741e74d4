//! What passes between the jail and the network.
//!
//! The parsers here do no I/O: they are given bytes and say what the bytes are, that more is needed, or why they are
//! refused. Each has a bound on what it reads and keeps. What two programs could read differently is refused, never
//! repaired.

pub mod dns;
pub mod hello;
pub mod http;
pub mod socks;
