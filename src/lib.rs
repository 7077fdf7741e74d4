//! `jail` launches a coding agent inside a jail of namespaces, Landlock and seccomp.
//!
//! The values flow one way: `cli` → `config` → [`policy::Policy`] → [`plan::Plan`] → `launch` → `supervise`
//! (see `docs/design.md`). `unsafe` code lives in `sys` only.

#![deny(unsafe_code)]

pub mod audit;
pub mod broker;
pub mod cli;
pub mod config;
pub mod error;
pub mod escape;
pub mod guard;
pub mod launch;
pub mod plan;
pub mod policy;
pub mod probe;
pub mod proxy;
pub mod secrets;
pub mod supervise;
pub mod sys;
pub mod tree;
pub mod watch;
