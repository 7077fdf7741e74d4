//! The shortest thing that would allow what was refused.

use super::address::{AddressClass, classify};
use super::decide::Layer;
use super::egress::DEFAULT_PORTS;
use super::host::Host;
use super::reason::Reason;

/// What a person can do so that a refused connection is allowed the next time.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Remedy {
    /// The flag of `jail run`, where one is enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flag: Option<String>,
    /// The rule for a policy file, several lines of TOML.
    pub rule: String,
}

impl Remedy {
    /// In one line: the flag, or the rule where none is enough.
    pub fn brief(&self) -> String {
        self.flag.clone().unwrap_or_else(|| {
            let keys: Vec<&str> = self.rule.lines().skip(1).collect();
            format!("[[allow]] with {}", keys.join(", "))
        })
    }
}

/// What would allow a connection that was refused for this reason; `None` where nothing that may be proposed does: a
/// rule that denies is there on purpose.
pub fn remedy(reason: Reason, host: &Host, port: u16, layer: Layer<'_>) -> Option<Remedy> {
    if let Host::Address(address) = host
        && matches!(classify(*address), AddressClass::Metadata | AddressClass::Unspecified | AddressClass::Multicast)
    {
        return None;
    }
    let usual = DEFAULT_PORTS.contains(&port);
    let raw = match reason {
        Reason::NotTls => true,
        // TLS to an address names no server that could be compared.
        Reason::SniMissing => host.name().is_none(),
        Reason::AddressNotAllowed | Reason::NeedsInspection | Reason::PortNotAllowed
            if layer == Layer::Tls && host.name().is_none() =>
        {
            true
        }
        Reason::HostNotAllowed | Reason::AddressNotAllowed | Reason::PortNotAllowed => layer == Layer::Raw,
        Reason::NeedsInspection | Reason::MethodNotAllowed => false,
        Reason::AddressNotPublic if host.name().is_some() => {
            let rule = format!("{}resolve = [\"ADDRESS\"]\n", rule(host, port, usual, "true"));
            return Some(Remedy { flag: None, rule });
        }
        _ => return None,
    };
    let flag = (!raw).then(|| match usual {
        true => format!("--allow {host}"),
        false => format!("--allow {host}:{port}"),
    });
    Some(Remedy { flag, rule: rule(host, port, usual && !raw, if raw { "\"raw\"" } else { "true" }) })
}

fn rule(host: &Host, port: u16, usual: bool, tunnel: &str) -> String {
    let ports = if usual { String::new() } else { format!("ports = [{port}]\n") };
    // In a rule an IPv6 address stands in brackets, as it is shown.
    format!("[[allow]]\nhost = \"{host}\"\n{ports}tunnel = {tunnel}\n")
}
