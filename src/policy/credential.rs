//! Credentials: secrets that the workload uses without having them. Inside stands a placeholder; the value is known to
//! the supervisor alone.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::Sourced;
use super::egress::Ports;
use super::host::{Host, HostPattern};

/// The environment that is protected unless the policy says otherwise.
pub const PRODUCTION: &str = "production";

/// How long a command may take to print a value, unless the policy says otherwise: a person may have to unlock a store.
pub const COMMAND_TIME: Duration = Duration::from_secs(30);

/// Every credential that the sources name, and which of them a run loads.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CredentialsPolicy {
    /// The environment whose credentials are loaded, beside those that belong to none.
    pub environment: Option<Sourced<String>>,
    /// Environments, and whether choosing one has to be typed on a terminal.
    pub protected: BTreeMap<String, Sourced<bool>>,
    /// All of them.
    pub credentials: Vec<Sourced<Credential>>,
}

impl CredentialsPolicy {
    /// Those that a run loads. The sources of all others are never read.
    pub fn loaded(&self) -> impl Iterator<Item = &Sourced<Credential>> {
        self.credentials.iter().filter(|credential| self.is_loaded(&credential.value))
    }

    /// Those that belong to an environment that was not chosen.
    pub fn left(&self) -> impl Iterator<Item = &Sourced<Credential>> {
        self.credentials.iter().filter(|credential| !self.is_loaded(&credential.value))
    }

    fn is_loaded(&self, credential: &Credential) -> bool {
        let chosen = self.environment.as_ref().map(|environment| &environment.value);
        credential.environment.as_ref().is_none_or(|environment| chosen == Some(environment))
    }

    /// Whether choosing the environment has to be typed on a terminal.
    pub fn is_protected(&self, environment: &str) -> bool {
        self.protected.get(environment).map_or(environment == PRODUCTION, |protected| protected.value)
    }

    /// Variables of the host that hold values, of whichever environment: they never enter the jail.
    pub fn withheld(&self, name: &str) -> bool {
        self.credentials.iter().any(|credential| match &credential.value.source {
            CredentialSource::Env(variable) => variable == name,
            _ => false,
        })
    }
}

/// One credential.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Credential {
    /// What messages and the record call it.
    pub name: String,
    /// The environment it belongs to; `None` belongs to all.
    pub environment: Option<String>,
    /// The variable that holds the placeholder inside.
    pub env: Option<String>,
    /// The file that holds the placeholder inside.
    pub file: Option<HeldFile>,
    /// Where the value comes from.
    pub source: CredentialSource,
    /// Hosts toward which the placeholder becomes the value.
    pub hosts: Vec<HostPattern>,
    /// Ports of these hosts.
    pub ports: Ports,
    /// Where in a request the value goes; `None` leaves it where the placeholder stands.
    pub goes: Option<Placement>,
}

impl Credential {
    /// Whether this is a host that the credential is for.
    pub fn is_for(&self, host: &Host, port: u16) -> bool {
        self.ports.contains(port) && self.hosts.iter().any(|pattern| pattern.matches(host))
    }
}

impl fmt::Display for Credential {
    /// Its name, and its environment in parentheses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.environment {
            Some(environment) => write!(f, " ({environment})"),
            None => Ok(()),
        }
    }
}

/// A file of the private home that holds a placeholder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldFile {
    /// Absolute, below the home directory.
    pub path: PathBuf,
    /// What it holds; `{}` stands for the placeholder, once.
    pub template: String,
}

impl HeldFile {
    /// What the file holds with this in the place of `{}`.
    pub fn content(&self, placeholder: &str) -> String {
        self.template.replacen("{}", placeholder, 1)
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialSource {
    /// A variable of the host.
    Env(String),
    /// A file of the host, absolute.
    File(PathBuf),
    /// What a program prints.
    Command {
        /// Program and arguments; no shell is between.
        words: Vec<String>,
        /// How long it may take.
        time: Duration,
    },
    /// A key of type `user` in the kernel's keyrings, by its description.
    Keyring(String),
}

impl fmt::Display for CredentialSource {
    /// For messages: the kind and the name, of a command the program alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "variable {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            // Arguments may be long, and a careless one secret.
            Self::Command { words, .. } => write!(f, "command {}", words.first().map_or("", String::as_str)),
            Self::Keyring(description) => write!(f, "key {description:?} of the kernel's keyring"),
        }
    }
}

/// Where in a request a value goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// A field of the head.
    Header {
        /// Its name.
        name: String,
        /// What it holds; `{}` stands for the value, once.
        value: String,
    },
    /// A parameter of the query.
    Query(String),
    /// Basic authentication (RFC 7617): what is encoded, `USER:PASSWORD` with `{}` for the value, once.
    Basic(String),
    /// A field of a JSON object or a form.
    Body(String),
}
