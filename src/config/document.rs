//! A policy file as it is written: the shape of the TOML, before its values are checked.
//!
//! The JSON schema (`jail schema`) and the keys of `docs/policy.md` come from these types.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

use crate::policy::egress::GitAccess;

/// A value with its place in the file, in bytes.
#[derive(Debug, Clone)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Range<usize>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = toml::Spanned::<T>::deserialize(deserializer)?;
        Ok(Self { span: spanned.span(), value: spanned.into_inner() })
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }
}

impl<T: PartialEq> PartialEq for At<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for At<T> {}

impl<T: PartialOrd> PartialOrd for At<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl<T: Ord> Ord for At<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.value.cmp(&other.value)
    }
}

/// A list whose entries know their places.
pub type List = Vec<At<String>>;

/// A policy file of `jail`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "jail policy")]
pub struct Document {
    /// Profiles this policy builds on: built-in ones or files in `~/.config/jail/profiles`.
    pub extends: List,
    /// How the workspace appears inside.
    pub workspace: Workspace,
    /// What else of the file system appears inside, and what is hidden.
    pub filesystem: Filesystem,
    /// How secrets are looked for.
    pub secrets: Secrets,
    /// Which variables enter the jail.
    pub environment: Environment,
    /// Bounds on what the jail may use.
    pub limits: Limits,
    /// Requests that may leave.
    pub allow: Vec<Allow>,
    /// Requests that wait for a person.
    pub ask: Vec<Match>,
    /// Requests that never leave.
    pub deny: Vec<Match>,
    /// Servers inside that the host may reach.
    pub publish: Vec<PublishedPort>,
    /// Secrets that the workload uses without having them.
    pub credential: Vec<Credential>,
    /// Which credentials a run loads.
    pub credentials: Credentials,
}

/// A server inside that programs on the host may reach.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Publish")]
pub struct PublishedPort {
    /// The port that the server inside listens on, on loopback.
    pub port: At<i64>,
    /// The port on the host's loopback; the same unless given.
    pub host_port: Option<At<i64>>,
}

/// How the workspace appears inside.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Workspace {
    /// `direct`: the agent writes to the real tree; `read-only`: it cannot; `overlay`: its writes are kept apart.
    pub mode: Option<At<Mode>>,
    /// Keep a copy of the workspace as it was before the run.
    pub snapshot: Option<At<bool>>,
}

/// How the workspace appears inside.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The agent writes to the real tree.
    Direct,
    /// Writes are kept apart until they are accepted. Not available yet.
    Overlay,
    /// The agent cannot change the tree.
    ReadOnly,
}

/// What else of the file system appears inside, and what is hidden.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Filesystem {
    /// Absolute or `~/` paths that are readable inside. Those that do not exist are skipped.
    pub read: List,
    /// Absolute or `~/` paths that are writable inside. Those that do not exist are skipped.
    pub write: List,
    /// Globs in the workspace whose files and directories are hidden.
    pub hide: List,
    /// Globs in the workspace of files that stay visible although their names look like secrets.
    pub reveal: List,
    /// Absolute or `~/` paths that are read from the host and written to a private layer. Not available yet.
    pub cache: List,
    /// Paths in the workspace that are read-only because the host runs them.
    pub protect: List,
    /// Paths in the workspace that stay writable although the host runs them.
    pub unprotect: List,
}

/// How secrets are looked for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Secrets {
    /// `off`, `names` or `content` (not available yet).
    pub scan: Option<At<Scan>>,
    /// What is done with a file that holds a secret. Only `hide` is available yet.
    pub on_find: Option<At<OnFind>>,
    /// What is done about secrets in git's history. Only `off` is available yet.
    pub history: Option<At<History>>,
}

/// What is looked at to find secrets.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scan {
    /// Nothing but the policy's own `hide`.
    Off,
    /// File names.
    Names,
    /// File names and contents. Not available yet.
    Content,
}

/// What is done with a file that holds a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFind {
    /// The secret's bytes are replaced. Not available yet.
    Redact,
    /// The file is hidden.
    Hide,
    /// The run does not start. Not available yet.
    Refuse,
}

/// What is done about secrets in git's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum History {
    /// The objects are replaced by redacted ones. Not available yet.
    Hide,
    /// A warning is shown. Not available yet.
    Warn,
    /// The run does not start. Not available yet.
    Refuse,
    /// Nothing.
    Off,
}

/// Which variables enter the jail.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Environment {
    /// Names, with an optional trailing `*`, taken over from the host.
    pub pass: List,
    /// Names, with an optional trailing `*`, that are not taken over although a weaker source passes them.
    pub remove: List,
    /// Variables set inside, whatever the host has.
    pub set: BTreeMap<At<String>, At<String>>,
}

/// Bounds on what the jail may use.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory of the whole jail, such as `"8GiB"`.
    pub memory: Option<At<String>>,
    /// Processes and threads at once.
    pub processes: Option<At<i64>>,
    /// Processors, such as `1.5`.
    pub cpu: Option<At<f64>>,
    /// Time after which the run is stopped, such as `"2h"`.
    pub time: Option<At<String>>,
    /// Open files of one process.
    pub open_files: Option<At<i64>>,
    /// Connections out of the jail at once.
    pub connections: Option<At<i64>>,
    /// How long a connection to a host may take to come about, such as `"10s"`.
    pub connect_time: Option<At<String>>,
    /// How long a connection may be without a byte in either direction, such as `"1h"`.
    pub idle_time: Option<At<String>>,
}

/// Requests that may leave: GET, HEAD and OPTIONS over plain HTTP unless more is said.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    /// Host pattern: `api.example.com`, `*.example.com`, `**.example.com`, `.example.com`, `{a,b}.example.com`.
    pub host: At<String>,
    /// Ports; 443 and 80 unless given.
    pub ports: Option<At<Vec<At<i64>>>>,
    /// Path patterns: `*` stops at `/`, `**` does not. Not enforced yet, so refused.
    pub paths: Option<At<List>>,
    /// HTTP methods, or `["*"]`. Not enforced yet, so refused.
    pub methods: Option<At<List>>,
    /// Only git's smart-HTTP endpoints of this operation. Not enforced yet, so refused.
    pub git: Option<At<GitAccess>>,
    /// Only GraphQL requests whose every root field is named. Not enforced yet, so refused.
    pub graphql: Option<At<Graphql>>,
    /// `true`: TLS and plain HTTP pass without a look inside, and the name is checked. `"raw"`: any bytes pass; needs `ports`.
    pub tunnel: Option<At<Tunnel>>,
    /// Addresses of the name, instead of DNS; private ones are reachable then.
    pub resolve: Option<At<List>>,
    /// File with the certificate authorities (PEM) for this host, relative to the policy file. Not enforced yet, so refused.
    pub ca: Option<At<String>>,
    /// Connections to what this rule covers at once.
    pub connections: Option<At<i64>>,
}

/// Whether and how a connection is passed on without a look inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tunnel {
    /// `true` or `false`.
    Flag(bool),
    /// `"raw"`.
    Raw,
}

impl<'de> Deserialize<'de> for Tunnel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TunnelVisitor)
    }
}

struct TunnelVisitor;

impl Visitor<'_> for TunnelVisitor {
    type Value = Tunnel;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false or \"raw\"")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Tunnel, E> {
        Ok(Tunnel::Flag(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Tunnel, E> {
        match value {
            "raw" => Ok(Tunnel::Raw),
            other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
        }
    }
}

impl JsonSchema for Tunnel {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Tunnel".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "enum": [true, false, "raw"] })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// Requests that an `ask` or `deny` covers: everything to the host unless narrowed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// Host pattern, as in `allow`.
    pub host: At<String>,
    /// Ports; every port unless given.
    pub ports: Option<At<Vec<At<i64>>>>,
    /// Path patterns: `*` stops at `/`, `**` does not. Not enforced yet, so refused.
    pub paths: Option<At<List>>,
    /// HTTP methods; every method unless given. Not enforced yet, so refused.
    pub methods: Option<At<List>>,
    /// Only git's smart-HTTP endpoints of this operation. Not enforced yet, so refused.
    pub git: Option<At<GitAccess>>,
    /// Only GraphQL requests with one of these root fields. Not enforced yet, so refused.
    pub graphql: Option<At<Graphql>>,
}

/// Patterns of GraphQL root fields by operation; `*` stands for any run of characters.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Graphql {
    /// Fields of `query` operations.
    pub query: List,
    /// Fields of `mutation` operations.
    pub mutation: List,
    /// Fields of `subscription` operations.
    pub subscription: List,
}

/// Which credentials a run loads.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Credentials {
    /// The environment whose credentials are loaded, beside those that belong to none; `--environment` is stronger.
    pub environment: Option<At<String>>,
    /// Settings of single environments, by name.
    pub environments: BTreeMap<At<String>, CredentialEnvironment>,
}

/// Settings of an environment.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CredentialEnvironment {
    /// Whether it is chosen only by `--environment`, typed on a terminal; `production` is, unless it says otherwise.
    pub protected: Option<At<bool>>,
}

/// A secret that the workload uses without having it: inside stands a placeholder.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// Its name in messages and in the record.
    pub name: At<String>,
    /// The environment it belongs to, such as `staging`; all unless given.
    pub environment: Option<At<String>>,
    /// The variable that holds the placeholder inside.
    pub env: Option<At<String>>,
    /// The file of the private home that holds the placeholder, such as `~/.config/tool/token`.
    pub file: Option<At<String>>,
    /// What `file` holds; `{}` stands for the placeholder. The placeholder and a line end unless given.
    pub template: Option<At<String>>,
    /// Where the real value comes from.
    pub source: At<SourceTable>,
    /// Hosts that the value is for, as in `allow`.
    pub hosts: At<List>,
    /// Ports of these hosts; 443 unless given.
    pub ports: Option<At<Vec<At<i64>>>>,
    /// The header it is sent in, as `NAME: VALUE`; `{}` stands for the value.
    pub header: Option<At<String>>,
    /// The parameter of the query it is sent in.
    pub query: Option<At<String>>,
    /// Basic authentication it is sent in, as `USER:PASSWORD`; `{}` stands for the value.
    pub basic: Option<At<String>>,
    /// The field of a JSON object or form it is sent in.
    pub body: Option<At<String>>,
}

/// Where a secret's real value comes from: one of these.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(rename = "CredentialSource")]
pub struct SourceTable {
    /// A variable of the host.
    pub env: Option<At<String>>,
    /// A file: absolute, or below `~/`.
    pub file: Option<At<String>>,
    /// What a program prints: the program and its arguments. No shell is between.
    pub command: Option<At<List>>,
    /// A key of type `user` in the kernel's keyrings, by its description.
    pub keyring: Option<At<String>>,
    /// An entry of the Secret Service. Not available yet.
    pub secret_service: Option<At<BTreeMap<String, String>>>,
    /// How long the command may take, such as `"60s"`.
    pub timeout: Option<At<String>>,
}
