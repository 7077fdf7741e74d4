//! The user's terminal and the three standard descriptors: what goes in, what comes out, and how it is left behind.
//!
//! The workload never holds a descriptor of the host. What it reads and writes passes through [`relay`]; bytes on
//! their way to a terminal pass through [`filter`]; [`outer`] puts the terminal into raw mode and back.

pub mod filter;
mod io;
pub mod modes;
pub mod outer;
mod pump;
pub mod relay;
pub mod stdio;
pub mod table;
