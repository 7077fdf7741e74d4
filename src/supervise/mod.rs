//! The host side of a running jail.

pub mod callers;
pub mod control;
pub mod credentials;
pub mod egress;
pub mod exec;
pub mod harden;
pub mod jail;
pub mod leave;
pub mod leftovers;
pub mod pipes;
pub mod publish;
pub mod run;
pub mod session;
pub mod signals;
pub mod summary;
pub mod terminal;
pub mod watch;
