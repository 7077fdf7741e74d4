//! What will be done on this machine: plain data made from the policy and the machine's facts.
//!
//! A [`Plan`] holds no descriptor and needs no privilege, so `jail plan` prints it and tests compare it.

pub mod environment;
pub mod etc;
pub mod identity;
pub mod landlock;
pub mod limits;
pub mod mounts;
pub mod network;
pub mod ruleset;
pub mod seccomp;
pub mod text;

use std::ffi::OsString;
use std::path::PathBuf;

use serde::Serialize;

use crate::policy::WorkspaceMode;
pub use identity::Identity;
pub use mounts::{Access, Mount};

/// Everything the launcher does, in plain values.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Names this run: in `jail ps`, in the record, in the session directory.
    pub session: String,
    /// The command and its arguments.
    #[serde(serialize_with = "text::words")]
    pub command: Vec<OsString>,
    /// The directory tree the agent works in: absolute, without symbolic links.
    #[serde(serialize_with = "text::path")]
    pub workspace: PathBuf,
    /// Where the command starts: the workspace or below it.
    #[serde(serialize_with = "text::path")]
    pub directory: PathBuf,
    /// How the workspace appears.
    pub mode: WorkspaceMode,
    /// Who the workload is, inside and outside.
    pub identity: Identity,
    /// The host name inside.
    pub hostname: String,
    /// The private home directory's path inside, the same as outside.
    #[serde(serialize_with = "text::path")]
    pub home: PathBuf,
    /// What the network namespace is.
    pub network: network::NetworkPlan,
    /// The new root, parents before children.
    pub mounts: Vec<Mount>,
    /// What stands in front of hidden files.
    pub masks: Vec<Mask>,
    /// What the workload must not change because the host executes it.
    pub guards: Vec<Guard>,
    /// The environment of the workload.
    #[serde(serialize_with = "text::pairs")]
    pub environment: Vec<(OsString, OsString)>,
    /// The Landlock ruleset of every command inside.
    pub landlock: landlock::LandlockPlan,
    /// The system-call filter of every command inside.
    pub seccomp: seccomp::SeccompPlan,
    /// Resource limits of every process inside.
    pub limits: limits::LimitsPlan,
    /// Device and inode of the trees that were searched, by their paths inside: what is mounted there must be the same.
    #[serde(skip)]
    pub searched: Vec<(PathBuf, (u64, u64))>,
    /// Size of all private writable directories together, in bytes.
    pub scratch_bytes: u64,
}

/// A hidden file or directory and what the workload sees instead.
#[derive(Debug, Clone, Serialize)]
pub struct Mask {
    /// Relative to the workspace; absolute in a directory that is shown beside it.
    #[serde(serialize_with = "text::path")]
    pub path: PathBuf,
    /// What is seen in its place.
    pub stand_in: StandIn,
    /// The rule that hides it, for people.
    pub why: String,
}

/// What the workload sees in place of a hidden entry.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StandIn {
    /// A read-only file of the same size and modification time, filled with blanks.
    File {
        /// Bytes.
        size: u64,
        /// Seconds and nanoseconds since the epoch.
        mtime: (i64, i64),
        /// Permission bits.
        mode: u32,
    },
    /// An empty read-only directory.
    Directory,
}

/// A path the workload may see but not change, although it lies in a writable place. Relative to its base.
#[derive(Debug, Clone, Serialize)]
pub struct Guard {
    /// Relative to the workspace, or absolute for a linked worktree's common directory.
    #[serde(serialize_with = "text::path")]
    pub path: PathBuf,
    /// How it is protected.
    pub action: GuardAction,
    /// Who would execute it, for people.
    pub why: String,
}

/// How a guarded path is protected.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuardAction {
    /// Bound onto itself, read-only.
    ReadOnly,
    /// Bound onto itself and still writable: it can no longer be renamed or removed.
    Pin,
    /// Covered by an empty read-only file: a socket in a directory that is shown.
    Cover,
    /// Does not exist: an empty directory is created for the run, shown read-only and removed afterwards.
    PlaceholderDirectory,
    /// Does not exist: a file is created for the run, shown read-only and removed afterwards.
    PlaceholderFile {
        /// What the placeholder holds.
        content: String,
    },
}

impl GuardAction {
    /// One word for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::Pin => "pinned",
            Self::Cover => "covered",
            Self::PlaceholderDirectory | Self::PlaceholderFile { .. } => "placeholder",
        }
    }
}
