//! What this machine can do. Found by doing, never by version; nobody else looks.

use nix::unistd::{Gid, Uid};
use serde::Serialize;

use crate::error::{Error, Result};

/// What a launch has to know beforehand; everything else is found out by the launch itself, which refuses to go on.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Facts {
    /// The calling user.
    pub uid: u32,
    /// The calling group.
    pub gid: u32,
    /// The Landlock ABI, 0 where there is none.
    pub landlock_abi: u32,
}

impl Facts {
    /// Looks.
    pub fn detect() -> Self {
        Self {
            uid: Uid::effective().as_raw(),
            gid: Gid::effective().as_raw(),
            landlock_abi: crate::sys::landlock::abi(),
        }
    }
}

/// Refuses where there is no /proc: nothing can be found out or set up without it.
///
/// # Errors
/// /proc/self/stat cannot be read.
pub fn proc() -> Result<()> {
    std::fs::metadata("/proc/self/stat").map(drop).map_err(|error| {
        Error::setup(format!("cannot look at /proc/self/stat: {error}"))
            .hint("jail needs /proc: mount -t proc proc /proc; in a chroot or container, have it mounted there")
    })
}
