//! Tests that need no privilege and no kernel feature.

mod config;
mod landlock;
mod seccomp;
mod syscalls_reference;
mod terminal;
