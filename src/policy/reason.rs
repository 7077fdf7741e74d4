//! Why a connection or request may leave the jail or not: stable codes for the record, sentences for people and models.

use std::fmt;

use serde::{Serialize, Serializer};

/// Why something was allowed or refused. The codes are part of the record's format: none is renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// An `[[allow]]` covers it.
    Allowed,
    /// A `[[deny]]` covers it.
    DeniedByRule,
    /// An `[[ask]]` covers it, and nobody can be asked.
    AskUnanswered,
    /// No rule names the host.
    HostNotAllowed,
    /// No rule names the address, and addresses are allowed only one by one.
    AddressNotAllowed,
    /// The host is allowed, on other ports.
    PortNotAllowed,
    /// The host is allowed, and its method is not among those that are.
    MethodNotAllowed,
    /// The host is allowed for what can be looked at, and nothing can be seen in TLS.
    NeedsInspection,
    /// The name leads to an address that is not public.
    AddressNotPublic,
    /// The name or address is a cloud's metadata service.
    MetadataAddress,
    /// What was asked for is no host name or address.
    BadHost,
    /// The server name in TLS is another than the one asked for.
    SniMismatch,
    /// TLS names no server.
    SniMissing,
    /// The `Host` of a request is another than the one asked for.
    HostMismatch,
    /// The bytes are neither TLS nor HTTP, and the rule covers only these.
    NotTls,
    /// The server name is hidden in an encrypted part (ECH), so that the visible one says nothing.
    EchOuterName,
    /// A request that parsers read differently.
    BadRequest,
    /// The program spoke a protocol of proxies in a way that is not supported, such as UDP over SOCKS.
    BadProtocol,
    /// What the program wanted to say did not arrive in time.
    TooSlow,
    /// Too many connections at once.
    LimitReached,
    /// The name has no address.
    NameNotFound,
    /// No address of the host could be reached.
    Unreachable,
    /// It took too long.
    TimedOut,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::Allowed,
        Self::DeniedByRule,
        Self::AskUnanswered,
        Self::HostNotAllowed,
        Self::AddressNotAllowed,
        Self::PortNotAllowed,
        Self::MethodNotAllowed,
        Self::NeedsInspection,
        Self::AddressNotPublic,
        Self::MetadataAddress,
        Self::BadHost,
        Self::SniMismatch,
        Self::SniMissing,
        Self::HostMismatch,
        Self::NotTls,
        Self::EchOuterName,
        Self::BadRequest,
        Self::BadProtocol,
        Self::TooSlow,
        Self::LimitReached,
        Self::NameNotFound,
        Self::Unreachable,
        Self::TimedOut,
    ];

    /// The stable code, for the record and for programs.
    pub fn code(self) -> &'static str {
        self.row().0
    }

    /// One sentence, lower case and without a period.
    pub fn sentence(self) -> &'static str {
        self.row().1
    }

    /// What to do, for whoever reads the refusal inside the jail and for the person outside.
    pub fn hint(self) -> &'static str {
        self.row().2
    }

    /// Whether the policy allowed it and something else was in the way.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::NameNotFound | Self::Unreachable | Self::TimedOut)
    }

    fn row(self) -> (&'static str, &'static str, &'static str) {
        const STOP: &str = "this is a decision, not an error to work around: stop and tell the person who started you";
        const ALLOW: &str = "if the task needs this host, ask the person who started you: `jail run --allow HOST`";
        match self {
            Self::Allowed => ("allowed", "the policy allows it", "nothing is to be done"),
            Self::DeniedByRule => ("denied_by_rule", "a rule of the policy denies it", STOP),
            Self::AskUnanswered => {
                ("ask_unanswered", "the policy wants a person to be asked, which this version cannot do", STOP)
            }
            Self::HostNotAllowed => ("host_not_allowed", "no rule of the policy allows this host", ALLOW),
            Self::AddressNotAllowed => (
                "address_not_allowed",
                "addresses are allowed only one by one, and no rule names this one",
                "use the host's name; an address needs a rule with exactly that address",
            ),
            Self::PortNotAllowed => (
                "port_not_allowed",
                "the policy allows this host on other ports only",
                "if the task needs this port, ask the person who started you: `jail run --allow HOST:PORT`",
            ),
            Self::MethodNotAllowed => (
                "method_not_allowed",
                "the policy allows this host for reading only",
                "ask the person who started you: `tunnel = true` in the rule allows every method",
            ),
            Self::NeedsInspection => (
                "needs_inspection",
                "the rule allows some requests only, and which ones cannot be seen in TLS",
                "ask the person who started you: `tunnel = true` in the rule allows TLS to this host unseen",
            ),
            Self::AddressNotPublic => (
                "address_not_public",
                "the name leads to an address that is not on the public Internet",
                "a rule with `resolve` for exactly this name and address would allow it; only the person who started you can write one",
            ),
            Self::MetadataAddress => (
                "metadata_address",
                "the address is a cloud's metadata service, which hands out the machine's credentials",
                STOP,
            ),
            Self::BadHost => (
                "bad_host",
                "this is no host name or address in its plain form",
                "write the name in plain letters, or the address as four decimal numbers or in brackets",
            ),
            Self::SniMismatch => (
                "sni_mismatch",
                "the server name in TLS is not the host that was asked for",
                "connect to the host by the name that TLS uses",
            ),
            Self::SniMissing => (
                "sni_missing",
                "no server is named in TLS, so that the host cannot be told",
                "use a client that sends the server name (SNI)",
            ),
            Self::HostMismatch => (
                "host_mismatch",
                "the Host of the request is not the host that was asked for",
                "send the request to the host it names",
            ),
            Self::NotTls => (
                "not_tls",
                "the bytes are neither TLS nor HTTP, and the rule covers only these",
                "if the task needs another protocol, ask the person who started you for `tunnel = \"raw\"` with that port",
            ),
            Self::EchOuterName => (
                "ech_outer_name",
                "the server name is encrypted (ECH), and the one that can be seen is not allowed",
                "switch off encrypted client hello",
            ),
            Self::BadRequest => (
                "bad_request",
                "the request is malformed, or could be read in two ways",
                "send it in the plain form that RFC 9112 describes",
            ),
            Self::BadProtocol => (
                "bad_protocol",
                "only connections by TCP are passed on",
                "use TCP; UDP and listening on the outside do not work from inside the jail",
            ),
            Self::TooSlow => {
                ("too_slow", "the first words of the connection did not arrive whole in time", "send them at once")
            }
            Self::LimitReached => (
                "limit_reached",
                "too many connections are open at once",
                "close some, then try again; `connections` in the policy is the bound",
            ),
            Self::NameNotFound => (
                "name_not_found",
                "the name has no address",
                "check the spelling; the machine that runs the jail could not resolve the name",
            ),
            Self::Unreachable => ("unreachable", "no address of the host could be reached", "try again later"),
            Self::TimedOut => ("timed_out", "it took too long", "try again later"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}
