//! The Landlock ruleset as data: which paths may be used how, once more beneath the mount view.
//!
//! Landlock stands behind the mounts: a descriptor, link or mount that leads out of the view still meets it, and it
//! keeps the workload from signalling or tracing anything outside its domain. Network ports are not restricted here:
//! inside the network namespace only the proxy answers, and development servers on loopback must work.

use std::path::PathBuf;

use serde::Serialize;

/// The newest Landlock ABI this program knows; a newer kernel is used up to here.
pub const NEWEST_ABI: u32 = 10;

/// The oldest ABI that is usable: version 1 refuses every rename and link between two directories, which breaks git.
pub const OLDEST_ABI: u32 = 2;

/// The ruleset that the workload enters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LandlockPlan {
    /// The ABI that must be enforced completely; every file-system right it knows is handled.
    pub abi: u32,
    /// What may be used.
    pub rules: Vec<LandlockRule>,
    /// What the workload is cut off from outside its own domain.
    pub scopes: Vec<LandlockScope>,
}

/// One path, with everything beneath it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LandlockRule {
    /// Absolute, as seen inside the jail.
    pub path: PathBuf,
    /// What may be done.
    pub access: Access,
    /// A missing path is an error unless this is set.
    pub optional: bool,
    /// Who needs it.
    pub why: &'static str,
}

/// Classes of access to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// List directories and read files.
    Read,
    /// Read, and execute programs.
    ReadExecute,
    /// Read, write, create and remove, but execute nothing.
    ReadWrite,
    /// Read, write, create, remove and execute.
    Full,
    /// Use a device: read, write and its own ioctls; nothing can be created beside it.
    Device,
    /// Connect to Unix sockets beneath it that a process outside the jail listens on (ABI 9; before, not restricted).
    Connect,
}

/// What a scope cuts off (ABI 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LandlockScope {
    /// Abstract Unix sockets made outside the domain.
    AbstractUnixSocket,
    /// Signals to processes outside the domain: the jail's init, and on machines without a pid namespace everyone.
    Signal,
}

impl LandlockPlan {
    /// An empty ruleset (nothing may be used) for a machine whose kernel has Landlock ABI `abi`; `None` where it is too
    /// old to be usable ([`OLDEST_ABI`]).
    pub fn for_abi(abi: u32) -> Option<Self> {
        if abi < OLDEST_ABI {
            return None;
        }
        let scopes = if abi >= 6 { vec![LandlockScope::AbstractUnixSocket, LandlockScope::Signal] } else { Vec::new() };
        Some(Self { abi: abi.min(NEWEST_ABI), rules: Vec::new(), scopes })
    }

    /// Adds a path that must exist.
    pub fn require(&mut self, path: impl Into<PathBuf>, access: Access, why: &'static str) -> &mut Self {
        self.rules.push(LandlockRule { path: path.into(), access, optional: false, why });
        self
    }

    /// Adds a path that is skipped where it does not exist.
    pub fn allow_if_present(&mut self, path: impl Into<PathBuf>, access: Access, why: &'static str) -> &mut Self {
        self.rules.push(LandlockRule { path: path.into(), access, optional: true, why });
        self
    }
}
