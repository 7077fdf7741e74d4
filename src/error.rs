//! The one error type of the binary: what went wrong, which exit status it means, and what to do about it.

use std::fmt;

use serde::Serialize;

/// Why `jail` itself failed; decides the exit status (env(1) and container tools use the same numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The jail could not be set up as promised, or the request was malformed: 125.
    Setup,
    /// The command was found but could not be executed: 126.
    NotExecutable,
    /// The command was not found: 127.
    NotFound,
}

impl ErrorKind {
    /// The process exit status for this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Setup => 125,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
        }
    }
}

/// A layer of the jail, in the order in which a launch builds them. Each is needed: `jail run` refuses to start without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// User, mount, pid, net, ipc, uts and cgroup namespaces, and their id maps.
    Namespaces,
    /// The network namespace's loopback and the host name.
    Network,
    /// The private root, its binds, masks and guards.
    FileSystem,
    /// A fresh /proc.
    Proc,
    /// Entering the new root and leaving the old one.
    Root,
    /// Resource limits, capabilities, no_new_privs, descriptors.
    Capabilities,
    /// The Landlock domain.
    Landlock,
    /// The system-call filter.
    Seccomp,
}

impl Layer {
    /// All, in order.
    pub const ALL: [Self; 8] = [
        Self::Namespaces,
        Self::Network,
        Self::FileSystem,
        Self::Proc,
        Self::Root,
        Self::Capabilities,
        Self::Landlock,
        Self::Seccomp,
    ];

    /// Its name in messages and in `jail doctor`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "user namespace",
            Self::Network => "network",
            Self::FileSystem => "file system",
            Self::Proc => "/proc",
            Self::Root => "private root",
            Self::Capabilities => "capabilities",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
        }
    }

    /// What could not be promised without it.
    pub fn promise(self) -> &'static str {
        match self {
            Self::Namespaces => "nothing would separate the command from the host",
            Self::Network => "there would be a way out",
            Self::FileSystem => "hidden files would be readable",
            Self::Proc => "the host's processes would be visible",
            Self::Root => "the host's files would be reachable",
            Self::Capabilities => "the command could gain privileges",
            Self::Landlock => "the borders in the file system would hang on the mounts alone",
            Self::Seccomp => "the kernel's dangerous calls would be open to the command",
        }
    }
}

/// An error with an optional hint that says what to do.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    layer: Option<Layer>,
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A set-up error (exit status 125). The message is lower case, without a final period, with the path inside.
    pub fn setup(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Setup, message)
    }

    /// An error of the given kind.
    pub fn new(kind: ErrorKind, message: impl fmt::Display) -> Self {
        Self { kind, message: message.to_string(), hint: None, layer: None }
    }

    /// Adds what the user can do; printed after `hint: `.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Says which layer of the jail this machine lacks.
    #[must_use]
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layer = Some(layer);
        self
    }

    /// The layer that is missing, if that is the reason.
    pub fn missing_layer(&self) -> Option<Layer> {
        self.layer
    }

    /// The kind, for the exit status.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The hint, if any.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
