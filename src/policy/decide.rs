//! What the rules say about one connection or request. Pure: no name is looked up, nothing is opened.
//!
//! A connection is decided step by step, each step with what is known then: the name and port that were asked for
//! ([`Layer::Unknown`]), what the first bytes are, and the address that would be dialled
//! ([`EgressPolicy::decide_address`]). Every step has to allow it.

use std::net::IpAddr;

use serde::Serialize;

use super::address::{AddressClass, classify};
use super::egress::{EgressPolicy, Rule, Tunnel};
use super::host::Host;
use super::reason::Reason;
use super::{Source, Sourced};

/// What is known about the bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer<'a> {
    /// Nothing yet: is there anything that may be said to this host and port?
    Unknown,
    /// A TLS handshake, whose server name the caller compares.
    Tls,
    /// A request of plain HTTP, whose `Host` the caller compares.
    Http {
        /// Its method.
        method: &'a str,
    },
    /// Something else.
    Raw,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It may leave.
    Allow,
    /// It waits for a person. Nobody can be asked yet, so it does not leave.
    Ask,
    /// It does not leave.
    Deny,
}

/// Which list a rule stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// `[[allow]]`.
    Allow,
    /// `[[ask]]`.
    Ask,
    /// `[[deny]]`.
    Deny,
}

/// The rule that decided.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RuleRef<'a> {
    /// Its list.
    pub verb: Verb,
    /// Its place in that list, from 0.
    pub index: usize,
    /// The rule.
    pub rule: &'a Sourced<Rule>,
}

impl<'a> RuleRef<'a> {
    /// Where it was written.
    pub fn source(&self) -> &'a Source {
        &self.rule.source
    }
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision<'a> {
    /// What is to be done.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The rule that decided; where something is missing, the rule that comes closest.
    pub rule: Option<RuleRef<'a>>,
}

impl<'a> Decision<'a> {
    /// Whether it may leave.
    pub fn allows(&self) -> bool {
        self.verdict == Verdict::Allow
    }

    /// Whether the host may speak first: the connection is passed on whatever its bytes are.
    pub fn is_raw(&self) -> bool {
        self.allows() && self.rule.is_some_and(|rule| rule.rule.value.tunnel == Tunnel::Raw)
    }

    /// The addresses to dial instead of asking DNS; empty where DNS is asked.
    pub fn pins(&self) -> &'a [IpAddr] {
        self.rule.filter(|_| self.allows()).map_or(&[], |rule| rule.rule.value.resolve.as_slice())
    }

    fn deny(reason: Reason, rule: Option<RuleRef<'a>>) -> Self {
        Self { verdict: Verdict::Deny, reason, rule }
    }

    fn allow(rule: RuleRef<'a>) -> Self {
        Self { verdict: Verdict::Allow, reason: Reason::Allowed, rule: Some(rule) }
    }
}

impl EgressPolicy {
    /// Whether a connection to the host and port may carry what the layer says.
    ///
    /// `deny` beats `ask` beats `allow`. Among several rules that allow it the strongest source decides, and one with
    /// addresses of its own (`resolve`) before those without.
    pub fn decide(&self, host: &Host, port: u16, layer: Layer<'_>) -> Decision<'_> {
        self.first(host, Some(port), layer)
    }

    /// Whether the name may be looked up: whether some connection to it may be allowed, on whatever port.
    pub fn decide_name(&self, host: &Host) -> Decision<'_> {
        self.first(host, None, Layer::Unknown)
    }

    /// Whether an address may be dialled for a host and port that [`decide`](Self::decide) allowed.
    ///
    /// Public addresses may, unless a rule denies the address. Others may when the rule pins the name to exactly that
    /// address, or when the host was written as that address; a metadata service only by a pin.
    pub fn decide_address<'a>(
        &'a self,
        allowed: Decision<'a>,
        host: &Host,
        port: u16,
        address: IpAddr,
    ) -> Decision<'a> {
        let address = address.to_canonical();
        let Some(rule) = allowed.rule.filter(|_| allowed.allows()) else { return allowed };
        let literal = Host::Address(address);
        if let Some(denied) = self.covering(Verb::Deny, &literal, Some(port)).last() {
            return Decision::deny(Reason::DeniedByRule, Some(denied));
        }
        let class = classify(address);
        let pinned = rule.rule.value.resolve.iter().any(|pin| pin.to_canonical() == address);
        if !rule.rule.value.resolve.is_empty() && !pinned {
            return Decision::deny(Reason::AddressNotPublic, Some(rule));
        }
        if pinned || class.is_public() {
            return allowed;
        }
        if class == AddressClass::Metadata {
            return Decision::deny(Reason::MetadataAddress, Some(rule));
        }
        // A rule that also names this address does not lend it to the rule's names.
        let written = *host == literal && rule.rule.value.host.matches(&literal);
        if written { allowed } else { Decision::deny(Reason::AddressNotPublic, Some(rule)) }
    }

    fn first(&self, host: &Host, port: Option<u16>, layer: Layer<'_>) -> Decision<'_> {
        let unmapped;
        let host = match host {
            Host::Address(address) => {
                unmapped = Host::from(*address);
                &unmapped
            }
            Host::Name(_) => host,
        };
        if let Some(rule) = self.covering(Verb::Deny, host, port).last() {
            return Decision::deny(Reason::DeniedByRule, Some(rule));
        }
        if let Some(rule) = self.covering(Verb::Ask, host, port).last() {
            return Decision { verdict: Verdict::Ask, reason: Reason::AskUnanswered, rule: Some(rule) };
        }
        let mut found: Option<RuleRef<'_>> = None;
        let mut refused: Option<(Reason, RuleRef<'_>)> = None;
        for rule in self.covering(Verb::Allow, host, port) {
            match carries(&rule.rule.value, host, layer) {
                Ok(()) => {
                    // Later sources are stronger; of the rest of a choice, what says more is kept.
                    let rank = |rule: &RuleRef<'_>| {
                        let value = &rule.rule.value;
                        let more = match layer {
                            Layer::Unknown => value.tunnel == Tunnel::Raw,
                            Layer::Http { .. } => value.tunnel != Tunnel::No,
                            Layer::Tls | Layer::Raw => false,
                        };
                        (!value.resolve.is_empty(), more)
                    };
                    if found.as_ref().is_none_or(|found| rank(&rule) >= rank(found)) {
                        found = Some(rule);
                    }
                }
                Err(reason) => refused = Some((reason, rule)),
            }
        }
        match (found, refused, host) {
            (Some(rule), _, Host::Address(address)) if classify(*address) == AddressClass::Metadata => {
                Decision::deny(Reason::MetadataAddress, Some(rule))
            }
            (Some(rule), ..) => Decision::allow(rule),
            (None, Some((reason, rule)), _) => Decision::deny(reason, Some(rule)),
            (None, None, _) => match (self.covering(Verb::Allow, host, None).last(), host) {
                (Some(rule), _) => Decision::deny(Reason::PortNotAllowed, Some(rule)),
                (None, Host::Address(address)) if classify(*address) == AddressClass::Metadata => {
                    Decision::deny(Reason::MetadataAddress, None)
                }
                (None, Host::Address(_)) => Decision::deny(Reason::AddressNotAllowed, None),
                (None, Host::Name(_)) => Decision::deny(Reason::HostNotAllowed, None),
            },
        }
    }

    /// The rules of a list that cover the host, and the port where one is given, weakest source first.
    ///
    /// A rule that denies or asks about some requests only covers all of them here: what cannot be seen is not let
    /// through. Without a port, only those that cover every port deny or ask.
    fn covering(&self, verb: Verb, host: &Host, port: Option<u16>) -> impl Iterator<Item = RuleRef<'_>> {
        let rules = match verb {
            Verb::Allow => &self.allow,
            Verb::Ask => &self.ask,
            Verb::Deny => &self.deny,
        };
        let fits = move |rule: &Rule| {
            let port = match port {
                Some(port) => rule.ports.contains(port),
                None => verb == Verb::Allow || rule.ports == super::egress::Ports::Any,
            };
            port && rule.host.matches(host)
        };
        let rules = rules.iter().enumerate().filter(move |(_, rule)| fits(&rule.value));
        rules.map(move |(index, rule)| RuleRef { verb, index, rule })
    }
}

/// Whether a rule that allows covers the layer; if not, why.
fn carries(rule: &Rule, host: &Host, layer: Layer<'_>) -> Result<(), Reason> {
    // Nothing looks inside yet: a rule that needs it allows nothing.
    if !rule.paths.is_empty() || rule.git.is_some() || rule.graphql.is_some() {
        return Err(Reason::NeedsInspection);
    }
    match (layer, rule.tunnel) {
        // No server name is an address (RFC 6066 section 3), so there is nothing to compare.
        (Layer::Tls, Tunnel::Named) if host.name().is_none() => Err(Reason::SniMissing),
        (Layer::Unknown, _) | (_, Tunnel::Raw) | (Layer::Tls | Layer::Http { .. }, Tunnel::Named) => Ok(()),
        (Layer::Raw, _) => Err(Reason::NotTls),
        (Layer::Tls, Tunnel::No) => Err(Reason::NeedsInspection),
        (Layer::Http { method }, Tunnel::No) if rule.methods.contains(method) => Ok(()),
        (Layer::Http { .. }, Tunnel::No) => Err(Reason::MethodNotAllowed),
    }
}
