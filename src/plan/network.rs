//! What the jail's network namespace is: loopback alone, or one in which every way out ends at the policy proxy.
//!
//! Nothing here is a way out: the namespace has no interface but loopback. What a connection reaches is decided by
//! whoever accepts on the listeners that init makes and the supervisor gets.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use crate::policy::Publish;
use crate::policy::egress::{DEFAULT_PORTS, EgressPolicy, Ports};

/// Where the proxy and its resolver listen inside (198.18.0.0/15 is for benchmarks, RFC 2544: nobody's real address).
pub const PROXY_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The same for IPv6, in a unique local prefix (RFC 4193).
pub const PROXY_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 0, 1);
/// The address that connections out come from.
pub const OWN_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// The same for IPv6.
pub const OWN_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 0, 2);
/// The proxy's TCP port inside.
pub const PROXY_PORT: u16 = 3128;
/// The resolver's port inside, for UDP and TCP.
pub const DNS_PORT: u16 = 53;
/// Most ports that are listened on without nftables: each takes two descriptors, and a message carries 253.
pub const MOST_PORTS: usize = 100;

/// The jail's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkPlan {
    /// What becomes of connections that are not for loopback.
    pub egress: Egress,
    /// Servers inside that the host may reach.
    pub publish: Vec<Publish>,
}

/// What becomes of connections that are not for loopback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Egress {
    /// They are refused: there is no route.
    Closed,
    /// They arrive at listeners that the supervisor holds.
    Proxied {
        /// TCP ports that are listened on where the kernel has no nftables; with it every port is.
        ports: Vec<u16>,
    },
}

impl NetworkPlan {
    /// Loopback alone.
    pub fn closed() -> Self {
        Self { egress: Egress::Closed, publish: Vec::new() }
    }

    /// Everything that is not for loopback goes to the proxy, which decides by these rules.
    pub fn for_policy(policy: &EgressPolicy) -> Self {
        let named = policy.allow.iter().filter_map(|rule| match &rule.value.ports {
            Ports::Any => None,
            Ports::Only(ports) => Some(ports.iter().copied()),
        });
        let mut ports: BTreeSet<u16> =
            named.flatten().filter(|port| ![0, DNS_PORT, PROXY_PORT].contains(port)).collect();
        while ports.len() > MOST_PORTS - DEFAULT_PORTS.len() {
            ports.pop_last();
        }
        ports.extend(DEFAULT_PORTS);
        Self { egress: Egress::Proxied { ports: ports.into_iter().collect() }, publish: Vec::new() }
    }

    /// For people.
    pub fn describe(&self) -> String {
        match &self.egress {
            Egress::Closed => "loopback only; every connection out is refused".to_owned(),
            Egress::Proxied { ports } => {
                let ports = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
                format!(
                    "every connection out goes to the policy proxy; without nftables in the kernel only those on ports {ports}"
                )
            }
        }
    }

    /// What `/etc/resolv.conf` says inside.
    pub fn resolver_file(&self) -> String {
        match self.egress {
            Egress::Closed => "# jail: there is no network\n".to_owned(),
            Egress::Proxied { .. } => {
                format!("# jail: names are resolved by the policy proxy\nnameserver {PROXY_V4}\noptions edns0\n")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Sourced;
    use crate::policy::egress::Rule;
    use crate::policy::host::HostPattern;

    fn ports_of(rules: &[Ports]) -> Vec<u16> {
        let Ok(host) = HostPattern::parse("example.com") else { return Vec::new() };
        let rule = |ports: &Ports| Sourced::default_value(Rule::tunnel(host.clone(), ports.clone()));
        let policy = EgressPolicy { allow: rules.iter().map(rule).collect(), ..EgressPolicy::default() };
        match NetworkPlan::for_policy(&policy).egress {
            Egress::Proxied { ports } => ports,
            Egress::Closed => Vec::new(),
        }
    }

    #[test]
    fn without_nftables_the_usual_ports_and_those_of_the_rules_are_listened_on() {
        assert_eq!(ports_of(&[]), [80, 443]);
        assert_eq!(ports_of(&[Ports::Any]), [80, 443]);
        let named = Ports::Only([22, 443, 5432].into());
        assert_eq!(ports_of(&[named]), [22, 80, 443, 5432]);
    }

    #[test]
    fn what_the_proxy_takes_itself_is_left_out_and_so_is_what_no_message_holds() {
        assert_eq!(ports_of(&[Ports::Only([0, DNS_PORT, PROXY_PORT].into())]), [80, 443]);
        let many = ports_of(&[Ports::Only((1000..2000).collect())]);
        assert_eq!(many.len(), MOST_PORTS);
        assert!(many.starts_with(&[80, 443, 1000]));
    }
}
