//! Where the jail may go, in words: `jail explain` about hosts, the list of `jail plan`, the line at the start.

use std::path::Path;

use serde::Serialize;

use crate::config::check::{Ground, host_and_port};
use crate::config::profiles;
use crate::config::text::printable;
use crate::error::{Error, Result};
use crate::plan::network::{Egress, NetworkPlan};
use crate::policy::address::classify;
use crate::policy::decide::{Decision, Layer, Verdict};
use crate::policy::egress::EgressPolicy;
use crate::policy::host::{Host, is_known_suffix};
use crate::policy::reason::Reason;
use crate::policy::remedy::{Remedy, remedy};

/// What is asked about: a host, a port, and what would be said there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// As it is shown.
    shown: String,
    host: Host,
    port: u16,
    layer: Layer<'static>,
}

/// Schemes, their ports, and what is said there.
const SCHEMES: &[(&str, u16, Layer<'static>)] = &[
    ("https", 443, Layer::Tls),
    ("wss", 443, Layer::Tls),
    ("http", 80, Layer::Http { method: "GET" }),
    ("ws", 80, Layer::Http { method: "GET" }),
    ("ssh", 22, Layer::Raw),
    ("git", 9418, Layer::Raw),
    ("ftp", 21, Layer::Raw),
    ("postgres", 5432, Layer::Raw),
    ("postgresql", 5432, Layer::Raw),
    ("mysql", 3306, Layer::Raw),
    ("redis", 6379, Layer::Raw),
    ("rediss", 6379, Layer::Tls),
    ("mongodb", 27017, Layer::Raw),
    ("amqp", 5672, Layer::Raw),
    ("amqps", 5671, Layer::Tls),
];

impl Target {
    /// Reads a URL, `HOST` or `HOST:PORT`; `None` for what is a path: it has a slash, or it is there, or its end is no
    /// top-level domain and no rule covers it.
    ///
    /// # Errors
    /// A URL or a port that is not valid.
    pub fn parse(text: &str, egress: &EgressPolicy, directory: &Path) -> Result<Option<Self>> {
        let invalid = |why: &dyn std::fmt::Display| Error::setup(format!("{text:?}: {why}"));
        if let Some((scheme, rest)) = text.split_once("://") {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let (host, port) = host_and_port(authority).map_err(|fault| invalid(&fault.message))?;
            let host = Host::parse(host).map_err(|error| invalid(&error))?;
            let scheme = scheme.to_ascii_lowercase();
            let known = SCHEMES.iter().find(|(name, ..)| *name == scheme);
            let (port, layer) = match (port, known) {
                (Some(port), Some((.., layer))) => (port, *layer),
                (None, Some((_, port, layer))) => (*port, *layer),
                (Some(port), None) => (port, Layer::Raw),
                (None, None) => {
                    let hint = format!("name it, as in {scheme}://{host}:PORT");
                    return Err(invalid(&"the scheme's port is not known").hint(hint));
                }
            };
            // The path may hold a token, and no rule looks at it.
            return Ok(Some(Self { shown: format!("{scheme}://{authority}"), host, port, layer }));
        }
        if text.contains('/') || text.starts_with(['.', '~']) || directory.join(text).symlink_metadata().is_ok() {
            return Ok(None);
        }
        let Ok((host, port)) = host_and_port(text) else { return Ok(None) };
        let Ok(host) = Host::parse(host) else { return Ok(None) };
        let named = match &host {
            Host::Address(_) => true,
            Host::Name(name) => name == "localhost" || name.contains('.') && is_known_suffix(name),
        };
        let rules = || egress.allow.iter().chain(&egress.ask).chain(&egress.deny);
        if port.is_none() && !named && !rules().any(|rule| rule.value.host.matches(&host)) {
            return Ok(None);
        }
        let port = port.unwrap_or(443);
        let layer = SCHEMES.iter().find(|(_, usual, _)| *usual == port).map_or(Layer::Tls, |(.., layer)| *layer);
        Ok(Some(Self { shown: text.to_owned(), host, port, layer }))
    }
}

/// The answer.
#[derive(Debug, Serialize)]
pub struct Answer {
    target: String,
    host: String,
    port: u16,
    verdict: &'static str,
    reason: Reason,
    because: &'static str,
    /// `file:line`.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    /// What else counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<Remedy>,
    /// The profile that would allow it.
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<&'static str>,
}

/// Whether the target may be reached, by which rule, and what would change that.
pub fn explain(target: &Target, egress: &EgressPolicy, ground: &Ground) -> Answer {
    let Target { host, port, layer, .. } = target;
    let decision = egress.decide(host, *port, *layer);
    let allowed = decision.allows();
    Answer {
        target: target.shown.clone(),
        host: host.to_string(),
        port: *port,
        verdict: match decision.verdict {
            Verdict::Allow => "allowed",
            Verdict::Ask | Verdict::Deny => "refused",
        },
        reason: decision.reason,
        because: decision.reason.sentence(),
        rule: decision.rule.map(|rule| rule.source().to_string()),
        note: note(&decision, host),
        change: if allowed { None } else { remedy(decision.reason, host, *port, *layer) },
        profile: if allowed { None } else { opened_by(target, ground) },
    }
}

/// The profile of a tool chain that names the target.
fn opened_by(target: &Target, ground: &Ground) -> Option<&'static str> {
    let opens =
        |layer: &crate::config::layer::Layer| layer.egress.decide(&target.host, target.port, target.layer).allows();
    profiles::tools(ground).find(|(_, layer)| opens(layer)).map(|(name, _)| name)
}

fn note(decision: &Decision<'_>, host: &Host) -> Option<String> {
    let pins = decision.pins();
    if !pins.is_empty() {
        let pins: Vec<String> = pins.iter().map(ToString::to_string).collect();
        return Some(format!("the name leads to {}, whatever DNS says", pins.join(", ")));
    }
    match (decision.reason, host) {
        (Reason::Allowed, Host::Name(_)) => {
            Some("what DNS says must be public addresses; `resolve` names others".to_owned())
        }
        (Reason::Allowed, Host::Address(_)) => None,
        (Reason::DeniedByRule | Reason::AskUnanswered, _) => Some("no [[allow]] is stronger than that rule".to_owned()),
        (_, Host::Address(address)) if !classify(*address).is_public() => {
            Some(format!("the address is {}", classify(*address).reason()))
        }
        _ => None,
    }
}

impl Answer {
    /// Several lines for people.
    pub fn text(&self) -> String {
        let rule = self.rule.as_deref().unwrap_or("none; what no rule allows is refused");
        let mut text = format!(
            "{}: {}\nreason: {} ({})\nrule: {}\n",
            printable(&self.target),
            self.verdict,
            self.because,
            self.reason,
            printable(rule)
        );
        if let Some(note) = &self.note {
            text.push_str(&format!("note: {note}\n"));
        }
        if let Some(profile) = self.profile {
            text.push_str(&format!("hint: --profile {profile}, or extends = [{profile:?}] in your own policy\n"));
        }
        if let Some(Remedy { flag, rule }) = &self.change {
            let or = flag.as_ref().map_or_else(String::new, |flag| format!("{flag}, or "));
            text.push_str(&format!("hint: {or}in your own policy:\n\n"));
            rule.lines().for_each(|line| text.push_str(&format!("    {line}\n")));
        }
        text
    }
}

/// The rules for `jail plan`, one per line.
pub fn list(egress: &EgressPolicy, network: &NetworkPlan) -> String {
    let mut text = String::new();
    if network.egress == Egress::Closed {
        return text;
    }
    text.push_str(&format!("\nreachable: {}\n", egress.allow.len()));
    for (verb, rules) in [("allow", &egress.allow), ("ask", &egress.ask), ("deny", &egress.deny)] {
        for rule in rules {
            let pins: Vec<String> = rule.value.resolve.iter().map(ToString::to_string).collect();
            let pins = if pins.is_empty() { String::new() } else { format!(" at {}", pins.join(", ")) };
            let shown = match verb {
                "allow" => rule.value.to_string(),
                _ => rule.value.target(),
            };
            text.push_str(&format!("  {verb:<8} {shown}{pins}  ({})\n", printable(&rule.source.to_string())));
        }
    }
    text
}

/// Where the jail may go, in a few words: `reaches api.example.com and 3 more`.
pub fn summary(egress: &EgressPolicy, network: &NetworkPlan) -> String {
    let mut hosts: Vec<&str> = Vec::new();
    for rule in &egress.allow {
        let host = rule.value.host.as_str();
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    match hosts.as_slice() {
        _ if network.egress == Egress::Closed => "no network".to_owned(),
        [] => "reaches no host".to_owned(),
        [one] => format!("reaches {one}"),
        [one, two] => format!("reaches {one} and {two}"),
        [one, more @ ..] => format!("reaches {one} and {} more", more.len()),
    }
}

/// The same for the agent, in one line of Markdown.
pub fn brief(egress: &EgressPolicy, network: &NetworkPlan) -> String {
    const MOST: usize = 20;
    if network.egress == Egress::Closed {
        return "There is no network: every connection is refused.".to_owned();
    }
    if egress.allow.is_empty() {
        return "No host can be reached: every connection out is refused.".to_owned();
    }
    let targets: Vec<String> = egress.allow.iter().take(MOST).map(|rule| rule.value.to_string()).collect();
    let more = egress.allow.len().saturating_sub(MOST);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("These hosts can be reached, and no others: {}{more}.", targets.join(", "))
}
