//! The kernel interfaces, one file each; no policy in here. Nothing else may use `unsafe`.

#![allow(unsafe_code)]

pub mod clone;
pub mod close_range;
pub mod ctty;
pub mod dirent;
pub mod environment;
pub mod fdpass;
pub mod keyring;
pub mod landlock;
pub mod memory;
pub mod mount;
pub mod net;
pub mod netlink;
pub mod prctl;
pub mod process;
pub mod random;
pub mod readiness;
pub mod release;
pub mod sockdiag;
pub mod tty;
