//! Where a value of the policy came from.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// A policy value together with the place that set it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sourced<T> {
    /// The value itself.
    pub value: T,
    /// Where it was set.
    pub source: Source,
}

impl<T> Sourced<T> {
    /// Pairs a value with its source.
    pub fn new(value: T, source: Source) -> Self {
        Self { value, source }
    }

    /// A value that no file sets: the program's own default.
    pub fn default_value(value: T) -> Self {
        Self { value, source: Source { origin: Origin::Default, file: None, line: 0, column: 0 } }
    }
}

/// A place in a policy file, or a flag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Which of the ordered sources it is.
    pub origin: Origin,
    /// The file, where there is one; for a built-in profile its name in `profiles/`.
    pub file: Option<PathBuf>,
    /// Line, counted from 1; 0 where there is no file.
    pub line: usize,
    /// Column in characters, counted from 1; 0 where there is no file.
    pub column: usize,
}

/// The ordered sources of a policy, weakest first (`docs/design.md`, "Policy language").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The program's own default.
    Default,
    /// A built-in profile, by name.
    Profile(String),
    /// The administrator's `/etc/jail/policy.toml`.
    System,
    /// The user's `~/.config/jail/policy.toml` or a user profile.
    User,
    /// `.jail.toml` in the workspace: only tightens unless trusted.
    Project,
    /// The user's policy for this workspace, stored outside it.
    Workspace,
    /// A command-line flag, by its spelling.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.origin, &self.file) {
            (Origin::Profile(name), _) if self.line > 0 => write!(f, "profile {name}:{}", self.line),
            (_, Some(file)) => write!(f, "{}:{}", file.display(), self.line),
            (Origin::Flag(flag), None) => write!(f, "{flag}"),
            (Origin::Profile(name), None) => write!(f, "profile {name}"),
            _ => write!(f, "default"),
        }
    }
}
