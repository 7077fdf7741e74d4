//! Tests that need no privilege and no kernel feature.

mod address;
mod attacks;
mod config;
mod decide;
mod generated;
mod git;
mod guard;
mod hosts;
mod landlock;
mod names;
mod policy;
mod policy_docs;
mod profiles;
mod proxy_hello;
mod proxy_request;
mod proxy_response;
mod proxy_socks;
mod rules;
mod seccomp;
mod structure;
mod syscalls_reference;
mod terminal;
mod tighten;
mod tree;
mod trust;
mod watch;
