//! Where requests may go: typed rules, decided by the proxy. What cannot be decided is refused.
//!
//! `deny` beats `ask` beats `allow`; what nothing allows is denied.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::Sourced;
use super::host::HostPattern;

/// Connections out of the jail at once, unless the policy says otherwise.
pub const CONNECTIONS: u64 = 4096;
/// How long a connection to a host may take to come about, unless the policy says otherwise.
pub const CONNECT_TIME: Duration = Duration::from_secs(10);
/// How long a connection may be without a byte, unless the policy says otherwise: a model may think for long, and
/// a debugger may wait for a person.
pub const IDLE_TIME: Duration = Duration::from_secs(2 * 3600);

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
    /// Whether the connection is passed on without looking inside; only ever other than `No` in `allow`.
    pub tunnel: Tunnel,
    /// Addresses the name stands for, instead of DNS. Lifts the guard against private addresses for this name.
    pub resolve: Vec<IpAddr>,
    /// File with the certificate authorities (PEM) this host is checked against, instead of the system's.
    pub ca: Option<PathBuf>,
    /// Connections under this rule at once; `None` leaves it to the bound for all of them.
    pub connections: Option<u64>,
}

/// How much of a connection is passed on without a look inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tunnel {
    /// Nothing: only what can be looked at is allowed.
    No,
    /// TLS whose server name is the host, and plain HTTP to the host with any method.
    Named,
    /// Any bytes; the name is what was asked for, and nothing in the bytes tells it.
    Raw,
}

impl Rule {
    /// What `tunnel = true` for a host means: all of its requests on the ports.
    pub fn tunnel(host: HostPattern, ports: Ports) -> Self {
        Self {
            host,
            ports,
            methods: Methods::Any,
            paths: Vec::new(),
            git: None,
            graphql: None,
            tunnel: Tunnel::Named,
            resolve: Vec::new(),
            ca: None,
            connections: None,
        }
    }

    /// The hosts, and the ports where they are not those of HTTPS and HTTP, or not all.
    pub fn target(&self) -> String {
        match &self.ports {
            Ports::Only(ports) if *ports != DEFAULT_PORTS.into() => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                format!("{}:{}", self.host, ports.join(","))
            }
            _ => self.host.to_string(),
        }
    }

    /// Whether deciding needs a look inside the connection, beyond host and port.
    pub fn inspects(&self) -> bool {
        !self.paths.is_empty() || self.git.is_some() || self.graphql.is_some() || self.methods != Methods::Any
    }
}

impl fmt::Display for Rule {
    /// Host, ports and how much passes: `example.com:22 (any bytes)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.target())?;
        match self.tunnel {
            Tunnel::Raw => f.write_str(" (any bytes)"),
            Tunnel::Named => Ok(()),
            Tunnel::No => f.write_str(" (reading over plain HTTP)"),
        }
    }
}

/// What `[[allow]]` covers without `ports`: HTTPS and HTTP.
pub const DEFAULT_PORTS: [u16; 2] = [443, 80];

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

    /// Whether the method is covered. Methods are case-sensitive (RFC 9110, section 9.1).
    pub fn contains(&self, method: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(methods) => methods.contains(method),
        }
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
