//! Tests that need no privilege and no kernel feature.

mod config;
mod seccomp;
mod terminal;
