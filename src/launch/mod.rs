//! From a plan to processes. The order and its reasons are in `docs/design.md`, "Processes".

pub mod cgroup;
pub mod confine;
pub mod guards;
pub mod holders;
pub mod idmap;
pub mod init;
pub mod lease;
pub mod masks;
pub mod message;
pub mod network;
mod placeholders;
pub mod redirect;
pub mod rootfs;
pub mod session_files;
pub mod shares;
pub mod spares;
pub mod start;
pub mod workload;
