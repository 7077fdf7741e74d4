//! Where requests may go: typed rules, decided by the proxy. What cannot be decided is refused.
//!
//! `deny` beats `ask` beats `allow`; what nothing allows is denied.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Serialize;

use super::Sourced;
use super::host::HostPattern;

/// The rules about requests that leave the jail.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct EgressPolicy {
    /// Requests that may leave.
    pub allow: Vec<Sourced<Rule>>,
    /// Requests that wait for a person.
    pub ask: Vec<Sourced<Rule>>,
    /// Requests that never leave, whatever else says so.
    pub deny: Vec<Sourced<Rule>>,
}

/// One rule: it covers a request when every condition that is set holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rule {
    /// Which hosts.
    pub host: HostPattern,
    /// Which ports.
    pub ports: Ports,
    /// Which methods.
    pub methods: Methods,
    /// Which paths, without the query; empty means any.
    pub paths: Vec<String>,
    /// Only git's smart-HTTP endpoints of this operation.
    pub git: Option<GitAccess>,
    /// Only GraphQL requests whose every root field is covered.
    pub graphql: Option<GraphqlRule>,
    /// The connection is passed on without looking inside; only ever set in `allow`.
    pub tunnel: bool,
    /// Addresses the name stands for, instead of DNS. Lifts the guard against private addresses for this name.
    pub resolve: Vec<IpAddr>,
    /// File with the certificate authorities (PEM) this host is checked against, instead of the system's.
    pub ca: Option<PathBuf>,
}

impl Rule {
    /// Whether deciding needs a look inside the connection, beyond host and port.
    pub fn inspects(&self) -> bool {
        !self.paths.is_empty() || self.git.is_some() || self.graphql.is_some() || self.methods != Methods::Any
    }

    /// Whether some request is covered by the hosts and ports of both rules.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.ports.overlaps(&other.ports) && self.host.overlaps(&other.host)
    }
}

/// The ports a rule covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ports {
    /// Every port.
    Any,
    /// These ports.
    Only(BTreeSet<u16>),
}

impl Ports {
    /// Whether the port is covered.
    pub fn contains(&self, port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Only(ports) => ports.contains(&port),
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Only(a), Self::Only(b)) => !a.is_disjoint(b),
            _ => true,
        }
    }
}

/// The HTTP methods a rule covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Methods {
    /// Every method.
    Any,
    /// These methods, upper case.
    Only(BTreeSet<String>),
}

impl Methods {
    /// What an `allow` grants unless it says more: GET, HEAD and OPTIONS.
    pub fn safe() -> Self {
        Self::Only(["GET", "HEAD", "OPTIONS"].map(str::to_owned).into())
    }
}

/// What a client does with a git repository over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GitAccess {
    /// Clone and fetch: `git-upload-pack`.
    Fetch,
    /// Push: `git-receive-pack`.
    Push,
}

/// Patterns of GraphQL root fields by operation; `*` stands for any run of characters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GraphqlRule {
    /// Fields of `query` operations.
    pub query: Vec<String>,
    /// Fields of `mutation` operations.
    pub mutation: Vec<String>,
    /// Fields of `subscription` operations.
    pub subscription: Vec<String>,
}
