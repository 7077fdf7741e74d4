//! Loading: from the sources of the policy to values and their placeholders.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::command::Running;
use super::secret::Secret;
use super::{file, keyring};
use crate::error::{Error, Result};
use crate::policy::Sourced;
use crate::policy::credential::{Credential, CredentialSource, CredentialsPolicy, Placement};
use crate::secrets::substitute::{SessionKey, Shape, placeholder};

/// The longest value, in bytes: what servers take as one header field.
pub const MOST: usize = 8 * 1024;

/// The fewest letters and digits of a value. Fewer would make placeholders that occur by chance.
pub const LEAST: usize = 8;

/// What the jail has of the host: no value is read from there, and no program started.
#[derive(Debug, Clone, Default)]
pub struct Ground {
    /// What it may write to: the workspace and what the policy names.
    pub writable: Vec<PathBuf>,
    /// What it may read.
    pub readable: Vec<PathBuf>,
    /// What is hidden in these.
    pub hidden: Vec<PathBuf>,
}

impl Ground {
    /// The directory that the jail may write to and that a path lies in.
    pub fn writable_at(&self, path: &Path) -> Option<&Path> {
        covering(&self.writable, path)
    }

    /// The directory that the jail may read and that a path lies in, unless it is hidden there.
    pub fn readable_at(&self, path: &Path) -> Option<&Path> {
        covering(&self.readable, path).filter(|_| covering(&self.hidden, path).is_none())
    }
}

fn covering<'a>(directories: &'a [PathBuf], path: &Path) -> Option<&'a Path> {
    directories.iter().map(PathBuf::as_path).find(|directory| path.starts_with(directory))
}

/// A credential whose value is loaded.
pub struct Held {
    /// What the policy says of it.
    pub credential: Credential,
    /// The value.
    pub value: Secret,
    /// What stands for it inside: printable ASCII, line ends and tabs.
    pub placeholder: String,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("name", &self.credential.name).finish_non_exhaustive()
    }
}

/// Why a source gave no value; never what it gave.
#[derive(Debug)]
pub(super) struct Failure {
    /// What is wrong.
    pub(super) message: String,
    /// What to do.
    pub(super) hint: String,
}

impl Failure {
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

/// Loads what the policy says is loaded. The caller is single-threaded and may still start programs.
///
/// # Errors
/// The first source that gives no value, with its reason.
pub fn load(policy: &CredentialsPolicy, key: &SessionKey, ground: &Ground) -> Result<Vec<Held>> {
    let credentials: Vec<&Sourced<Credential>> = policy.loaded().collect();
    let failed = |credential: &Sourced<Credential>, failure: Failure| {
        let Sourced { value, source } = credential;
        Error::setup(format!("cannot load credential {value} from {}: {}", value.source, failure.message))
            .hint(format!("{} ({source})", failure.hint))
    };
    // All programs first: each starts as a copy of this process, which holds no value yet.
    let mut running = Vec::with_capacity(credentials.len());
    for credential in &credentials {
        running.push(match &credential.value.source {
            CredentialSource::Command { words, time } => {
                Some(Running::start(words, *time, ground).map_err(|failure| failed(credential, failure))?)
            }
            _ => None,
        });
    }
    let mut held = Vec::with_capacity(credentials.len());
    for (credential, running) in credentials.into_iter().zip(running) {
        let value = match (&credential.value.source, running) {
            (CredentialSource::Env(name), _) => variable(name),
            (CredentialSource::File(path), _) => file::read(path, ground),
            (CredentialSource::Keyring(description), _) => keyring::read(description),
            (CredentialSource::Command { .. }, Some(running)) => running.finish(),
            (CredentialSource::Command { .. }, None) => Err(Failure::new("it was not started", "start again")),
        };
        let made = value.and_then(|value| hold(&credential.value, value, key));
        held.push(made.map_err(|failure| failed(credential, failure))?);
        tracing::debug!(credential = %credential.value, "loaded a credential");
    }
    Ok(held)
}

fn variable(name: &str) -> std::result::Result<Zeroizing<Vec<u8>>, Failure> {
    let value = std::env::var_os(OsStr::new(name))
        .ok_or_else(|| Failure::new("it is not set", "set it where `jail` is started"))?;
    Ok(Zeroizing::new(value.into_vec()))
}

/// Checks a value and makes its placeholder.
fn hold(
    credential: &Credential,
    mut value: Zeroizing<Vec<u8>>,
    key: &SessionKey,
) -> std::result::Result<Held, Failure> {
    // One line end: programs print one, editors write one.
    for end in [b'\n', b'\r'] {
        if value.last() == Some(&end) {
            let length = value.len().saturating_sub(1);
            value.truncate(length);
        } else {
            break;
        }
    }
    if value.is_empty() {
        return Err(Failure::new("it is empty", "see that it holds the value"));
    }
    if value.len() > MOST {
        return Err(Failure::new(
            format!("it is longer than {MOST} bytes"),
            "name the value alone, not a whole archive",
        ));
    }
    if value.iter().filter(|byte| byte.is_ascii_alphanumeric()).count() < LEAST {
        let message = format!("it has fewer than {LEAST} letters and digits");
        return Err(Failure::new(message, "so short a value cannot be told from other text; use a longer one"));
    }
    let one_line =
        matches!(credential.goes, Some(Placement::Header { .. } | Placement::Query(_) | Placement::Basic(_)));
    let bad = |byte: u8| byte.is_ascii_control() && (one_line || !matches!(byte, b'\n' | b'\r' | b'\t'));
    if value.iter().any(|byte| bad(*byte)) {
        let message = "it has more than one line, or a control character";
        return Err(Failure::new(message, "name the value alone"));
    }
    let placeholder = placeholder(key, &value, Shape::default());
    let placeholder = String::from_utf8(placeholder)
        .map_err(|_| Failure::new("no placeholder can be made for it", "please report this"))?;
    Ok(Held { credential: credential.clone(), value: Secret::new(value), placeholder })
}
