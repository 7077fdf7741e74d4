//! The one error type of the binary: what went wrong, which exit status it means, and what to do about it.

use std::fmt;

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

/// An error with an optional hint that says what to do.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
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
        Self { kind, message: message.to_string(), hint: None }
    }

    /// Adds what the user can do; printed after `hint: `.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
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
