//! Plan → processes.

pub mod confine;
