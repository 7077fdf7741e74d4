//! What is allowed: the validated policy, as plain values without any I/O.
//!
//! `config` merges files and flags into a [`Policy`]; `plan` turns it into what will be done on this machine.
//! Every value remembers where it came from ([`Sourced`]), so that `jail plan` and `jail explain` can say so.

pub mod address;
pub mod authority;
pub mod credential;
pub mod decide;
pub mod egress;
pub mod environment;
pub mod host;
pub mod reason;
pub mod remedy;
pub mod source;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

pub use credential::CredentialsPolicy;
pub use environment::EnvironmentPolicy;
pub use source::{Origin, Source, Sourced};

/// What the jail allows: the result of merging every policy source, checked for contradictions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Policy {
    /// Names of the profiles that took part, in the order they were applied.
    pub profiles: Vec<String>,
    /// How the workspace appears inside.
    pub workspace: WorkspacePolicy,
    /// What else of the file system appears inside, and what is hidden.
    pub filesystem: FilesystemPolicy,
    /// How secrets are looked for.
    pub secrets: SecretsPolicy,
    /// Which variables enter the jail.
    pub environment: EnvironmentPolicy,
    /// Bounds on what the workload may use.
    pub limits: LimitsPolicy,
    /// Where requests may go.
    pub egress: egress::EgressPolicy,
    /// Servers inside that the host may reach, each host port once.
    pub publish: Vec<Sourced<Publish>>,
    /// Secrets that the workload uses without having them.
    pub credentials: CredentialsPolicy,
}

/// A server inside that programs on the host may connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Publish {
    /// The port on the host's loopback.
    pub host_port: u16,
    /// The port on the jail's loopback.
    pub port: u16,
}

impl fmt::Display for Publish {
    /// `PORT`, or `HOST_PORT:PORT` where they differ, as `--publish` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host_port != self.port {
            write!(f, "{}:", self.host_port)?;
        }
        write!(f, "{}", self.port)
    }
}

/// The workspace's mode.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkspacePolicy {
    /// Whether the workload writes to the real tree.
    pub mode: Sourced<WorkspaceMode>,
}

/// How the workspace appears inside the jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkspaceMode {
    /// The workload writes to the real tree.
    Direct,
    /// The workload sees the tree and cannot change it.
    ReadOnly,
}

/// Paths beyond the workspace, and the names hidden and protected inside it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FilesystemPolicy {
    /// Absolute paths (`~` already expanded) readable inside; those that do not exist are skipped. One that lies below a
    /// `write` path is read-only all the same: the longer path decides, so mounts go from short to long.
    pub read: Vec<Sourced<PathBuf>>,
    /// Absolute paths writable inside: agent state. Those that do not exist are skipped unless a flag named them.
    pub write: Vec<Sourced<PathBuf>>,
    /// Absolute paths read from the host whose writes go to a private layer.
    pub cache: Vec<Sourced<PathBuf>>,
    /// Globs, relative to the workspace, of files and directories to hide beside the built-in table. `*` and `?` stop
    /// at `/`. Stronger than `reveal`: nothing makes a file visible that one of these covers.
    pub hide: Vec<Sourced<String>>,
    /// Globs of files that stay visible although the built-in table would hide them. Never from a project's policy.
    pub reveal: Vec<Sourced<String>>,
    /// Workspace-relative paths that stay writable although the host executes them. Never from a project's policy.
    pub unprotect: Vec<Sourced<String>>,
    /// Workspace-relative names that are read-only beside the built-in table of what the host executes. Stronger than
    /// `unprotect`.
    pub protect: Vec<Sourced<String>>,
}

/// How secrets are looked for in the workspace.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SecretsPolicy {
    /// What is looked at.
    pub scan: Sourced<ScanMode>,
}

/// What the search for secrets looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScanMode {
    /// Nothing is hidden by the built-in table; only the policy's own `hide` globs count.
    Off,
    /// Files are hidden by their names.
    Names,
}

/// Bounds on what the workload may use; `None` means the kernel's or the caller's own limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LimitsPolicy {
    /// Memory of the whole jail in bytes, temporary files included.
    pub memory: Option<Sourced<u64>>,
    /// Processes and threads at once.
    pub processes: Option<Sourced<u64>>,
    /// Processors, as a fraction: 1.5 is one and a half.
    pub cpu: Option<Sourced<f64>>,
    /// Wall-clock time after which the run is stopped.
    pub time: Option<Sourced<Duration>>,
    /// Open descriptors of one process.
    pub open_files: Option<Sourced<u64>>,
    /// Connections out of the jail at once.
    pub connections: Option<Sourced<u64>>,
    /// How long a connection to a host may take to come about.
    pub connect_time: Option<Sourced<Duration>>,
    /// How long a connection may be without a byte in either direction.
    pub idle_time: Option<Sourced<Duration>>,
}

impl LimitsPolicy {
    /// Connections out of the jail at once.
    pub fn connections(&self) -> u64 {
        self.connections.as_ref().map_or(egress::CONNECTIONS, |limit| limit.value)
    }

    /// How long a connection to a host may take to come about.
    pub fn connect_time(&self) -> Duration {
        self.connect_time.as_ref().map_or(egress::CONNECT_TIME, |limit| limit.value)
    }

    /// How long a connection may be without a byte in either direction.
    pub fn idle_time(&self) -> Duration {
        self.idle_time.as_ref().map_or(egress::IDLE_TIME, |limit| limit.value)
    }
}
