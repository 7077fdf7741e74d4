//! Decides. Everything that leaves the jail passes here, in steps that cannot be left out:
//!
//! 1. [`Gate::admit`] knows the host and port that a program asked for, and makes a [`Permit`]: what a connection is
//!    opened with.
//! 2. [`Gate::address`] knows the address that would be dialled.
//! 3. [`Gate::clear`] knows what the program says on the connection, and makes a [`Clearance`]: what the opened
//!    connection gives out its socket for.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

use super::caller::Caller;
use super::hello::{ClientHello, HelloError};
use crate::policy::decide::{Decision, Layer};
use crate::policy::egress::{EgressPolicy, Tunnel};
use crate::policy::host::Host;
use crate::policy::reason::Reason;

/// By which way a program came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// It connected to the host, as far as it knows.
    Transparent,
    /// It asked a proxy for a connection (RFC 9110 section 9.3.6).
    Connect,
    /// It sent a proxy a request of plain HTTP (RFC 9112 section 3.2.2).
    Forward,
    /// It asked a SOCKS proxy for a connection.
    Socks,
    /// It asked for the addresses of a name.
    Dns,
}

/// Where a program wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// By which way it came.
    pub entry: Entry,
    /// The host it asked for.
    pub host: Host,
    /// The port; 0 for a question about a name.
    pub port: u16,
    /// Which program it is.
    pub caller: Caller,
}

impl Wanted {
    /// The addresses of a name.
    pub fn name(host: &Host) -> Self {
        Self { entry: Entry::Dns, host: host.clone(), port: 0, caller: Caller::default() }
    }
}

/// What a program says on its connection, as far as it matters to where it goes.
#[derive(Debug, Clone, Copy)]
pub enum Speech<'a> {
    /// A TLS hello.
    Tls(&'a ClientHello),
    /// A request of plain HTTP.
    Http {
        /// Its method.
        method: &'a str,
        /// The host it names.
        host: &'a Host,
        /// The port it names, or the one implied.
        port: u16,
    },
    /// Anything, whoever speaks first.
    Raw,
}

/// Something that was not let through, or did not come about.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Where the program wanted to go.
    pub wanted: Wanted,
    /// Why it does not.
    pub reason: Reason,
    /// The rule that decided, or comes closest, as `FILE:LINE`.
    pub rule: Option<String>,
    /// What more there is to say, without anything secret.
    pub detail: Option<String>,
}

impl Refusal {
    /// A refusal that no rule decides.
    pub fn new(wanted: &Wanted, reason: Reason) -> Self {
        Self { wanted: wanted.clone(), reason, rule: None, detail: None }
    }

    /// Adds what more there is to say.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    fn decided(wanted: &Wanted, decision: &Decision<'_>) -> Self {
        let rule = decision.rule.map(|rule| rule.source().to_string());
        Self { wanted: wanted.clone(), reason: decision.reason, rule, detail: None }
    }
}

/// The proof that the gate let a host and port through. It opens one connection.
///
/// Nobody else makes one:
///
/// ```compile_fail,E0451
/// use jail::policy::host::Host;
/// use jail::proxy::gate::{Entry, Permit, Wanted};
///
/// let host = Host::parse("example.com").unwrap();
/// let wanted = Wanted { entry: Entry::Connect, host, port: 443, caller: Default::default() };
/// let permit = Permit { wanted, rule: 0, pins: Vec::new(), raw: true };
/// ```
#[derive(Debug)]
pub struct Permit {
    wanted: Wanted,
    rule: usize,
    pins: Vec<IpAddr>,
    raw: bool,
}

impl Permit {
    /// Where to.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// The addresses the rule gives the name; empty where DNS is asked.
    pub fn pins(&self) -> &[IpAddr] {
        &self.pins
    }

    /// Whether the rule lets any bytes through, so that the host may speak first.
    pub fn is_raw(&self) -> bool {
        self.raw
    }
}

/// The proof that the gate has seen what a program says to a host and port.
///
/// Nobody else makes one:
///
/// ```compile_fail,E0451
/// use jail::policy::host::Host;
/// use jail::proxy::gate::Clearance;
///
/// let host = Host::parse("example.com").unwrap();
/// let clearance = Clearance { host, port: 443, rule: "".into(), tunnel: true };
/// ```
#[derive(Debug)]
pub struct Clearance {
    host: Host,
    port: u16,
    rule: Arc<str>,
    tunnel: bool,
}

impl Clearance {
    /// Whether the rule lets a connection turn into something that nobody looks at, such as a WebSocket.
    pub fn is_tunnel(&self) -> bool {
        self.tunnel
    }

    /// What it is for, by the way that `like` came.
    pub fn wanted(&self, like: &Wanted) -> Wanted {
        Wanted { host: self.host.clone(), port: self.port, ..like.clone() }
    }

    /// Whether it is for what this permit is for.
    pub fn fits(&self, permit: &Permit) -> bool {
        self.host == permit.wanted.host && self.port == permit.wanted.port
    }

    /// A refusal for something else that the rule does not cover.
    pub fn refusal(&self, permit: &Permit, reason: Reason) -> Refusal {
        Refusal { rule: Some(self.rule.to_string()), ..Refusal::new(&permit.wanted, reason) }
    }

    /// The rule that decided, as `FILE:LINE`.
    pub fn rule(&self) -> Arc<str> {
        Arc::clone(&self.rule)
    }
}

/// One connection counted against its rule's bound; uncounted when it is dropped.
#[derive(Debug)]
pub struct Slot {
    counts: Arc<[AtomicU64]>,
    rule: usize,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(count) = self.counts.get(self.rule) {
            count.fetch_sub(1, Relaxed);
        }
    }
}

/// The policy and what is open under its rules.
#[derive(Debug)]
pub struct Gate {
    policy: Arc<EgressPolicy>,
    /// The sources of the rules that allow, as text.
    sources: Vec<Arc<str>>,
    open: Arc<[AtomicU64]>,
}

impl Gate {
    /// A gate that lets through what the policy allows.
    pub fn new(policy: Arc<EgressPolicy>) -> Self {
        let sources = policy.allow.iter().map(|rule| rule.source.to_string().into()).collect();
        let open = policy.allow.iter().map(|_| AtomicU64::new(0)).collect();
        Self { policy, sources, open }
    }

    /// Whether the addresses of a name may be asked for.
    pub fn name(&self, host: &Host) -> Result<(), Refusal> {
        let decision = self.policy.decide_name(host);
        if decision.allows() { Ok(()) } else { Err(Refusal::decided(&Wanted::name(host), &decision)) }
    }

    /// Whether anything may be said to the host and port.
    pub fn admit(&self, wanted: Wanted) -> Result<Permit, Refusal> {
        let decision = self.policy.decide(&wanted.host, wanted.port, Layer::Unknown);
        match decision.rule {
            Some(rule) if decision.allows() => {
                Ok(Permit { rule: rule.index, pins: decision.pins().to_vec(), raw: decision.is_raw(), wanted })
            }
            _ => Err(Refusal::decided(&wanted, &decision)),
        }
    }

    /// Whether this address may be dialled for the host. Every address of a name has to pass.
    pub fn address(&self, permit: &Permit, address: IpAddr) -> Result<(), Refusal> {
        let Wanted { host, port, .. } = &permit.wanted;
        let allowed = self.policy.decide(host, *port, Layer::Unknown);
        let decision = self.policy.decide_address(allowed, host, *port, address);
        if decision.allows() {
            return Ok(());
        }
        Err(Refusal::decided(&permit.wanted, &decision).detail(format!("the address is {address}")))
    }

    /// Counts a connection against the bound of its rule.
    pub fn enter(&self, permit: &Permit) -> Result<Slot, Refusal> {
        let most = self.policy.allow.get(permit.rule).and_then(|rule| rule.value.connections).unwrap_or(u64::MAX);
        let count = self.open.get(permit.rule);
        let entered = count.is_none_or(|count| {
            count.fetch_update(Relaxed, Relaxed, |open| (open < most).then(|| open.saturating_add(1))).is_ok()
        });
        if entered {
            return Ok(Slot { counts: Arc::clone(&self.open), rule: permit.rule });
        }
        let rule = self.sources.get(permit.rule).map(|source| source.to_string());
        Err(Refusal { rule, ..Refusal::new(&permit.wanted, Reason::LimitReached) })
    }

    /// Whether what the program says is for the host it asked for, and may be said to it.
    pub fn clear(&self, permit: &Permit, speech: Speech<'_>) -> Result<Clearance, Refusal> {
        let Wanted { host, port, .. } = &permit.wanted;
        let layer = match speech {
            Speech::Tls(hello) => {
                names_the_host(hello, host).map_err(|reason| {
                    let named = hello.server_name.as_ref().map(|name| format!("the server name is {name}"));
                    Refusal { detail: named, ..Refusal::new(&permit.wanted, reason) }
                })?;
                Layer::Tls
            }
            Speech::Http { method, host: named, port: named_port } => {
                if named != host || named_port != *port {
                    let detail = format!("the request is for {named}:{named_port}");
                    return Err(Refusal::new(&permit.wanted, Reason::HostMismatch).detail(detail));
                }
                Layer::Http { method }
            }
            Speech::Raw => Layer::Raw,
        };
        let decision = self.policy.decide(host, *port, layer);
        match decision.rule.and_then(|rule| Some((rule, self.sources.get(rule.index)?))) {
            Some((rule, source)) if decision.allows() => Ok(Clearance {
                host: host.clone(),
                port: *port,
                rule: Arc::clone(source),
                tunnel: rule.rule.value.tunnel != Tunnel::No,
            }),
            _ => Err(Refusal::decided(&permit.wanted, &decision)),
        }
    }
}

/// Whether the server name is the host that was asked for. One that is encrypted cannot be compared, and an address has
/// none: TLS to an address needs a rule for any bytes.
fn names_the_host(hello: &ClientHello, host: &Host) -> Result<(), Reason> {
    match &hello.server_name {
        Some(name) if name == host => Ok(()),
        Some(_) if hello.ech => Err(Reason::EchOuterName),
        Some(_) => Err(Reason::SniMismatch),
        None => Err(Reason::SniMissing),
    }
}

/// What a hello that cannot be read is refused for.
pub fn bad_hello(wanted: &Wanted, error: &HelloError) -> Refusal {
    let reason = match error {
        HelloError::NotTls => Reason::NotTls,
        HelloError::ServerName(_) | HelloError::Address => Reason::BadHost,
        HelloError::Record(_) | HelloError::Malformed(_) | HelloError::TooLarge => Reason::BadRequest,
    };
    Refusal::new(wanted, reason).detail(error.to_string())
}
