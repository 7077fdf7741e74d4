//! The only unsafe code: one file per kernel interface, no policy in it.

pub mod close_range;
pub mod dirent;
pub mod prctl;
pub mod tty;
