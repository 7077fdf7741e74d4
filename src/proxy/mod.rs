//! The one way out: what passes between the jail and the network, and who decides it.
//!
//! The parsers here do no I/O: they are given bytes and say what the bytes are, that more is needed, or why they are
//! refused. Each has a bound on what it reads and keeps. What two programs could read differently is refused, never
//! repaired.
//!
//! Only [`gate`] makes a [`gate::Permit`], and only a permit opens a connection. What was opened gives out its socket
//! only for a [`gate::Clearance`], which the gate makes once it has seen what the program says.

pub mod bounds;
pub mod caller;
pub mod client;
pub mod dial;
pub mod dns;
pub mod forward;
pub mod front;
pub mod gate;
pub mod hello;
pub mod http;
pub mod ledger;
pub mod listen;
pub mod parent;
pub mod pipes;
pub mod refuse;
pub mod resolve;
pub mod shared;
pub mod socks;
