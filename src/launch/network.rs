//! The jail's network namespace: addresses, routes, redirection and listeners. Runs in init, before it builds anything
//! else, so that no program inside ever sees the namespace without them.
//!
//! Every address is local (an "AnyIP" route): the kernel answers at once for whatever nobody listens on. nftables then
//! hands every TCP connection to the proxy and every question to its resolver. Without nftables the listeners are on
//! all addresses, for the ports that the policy names; nothing gets out either way, because there is no other interface.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::socket::{SockProtocol, SockType};
use serde::{Deserialize, Serialize};

use super::message::{Failure, Step};
use super::redirect::{self, Means};
use crate::plan::network::{DNS_PORT, Egress, NetworkPlan, OWN_V4, OWN_V6, PROXY_PORT, PROXY_V4, PROXY_V6};
use crate::sys::netlink::{Batch, CREATE, Refused};
use crate::sys::{net, sockdiag};

/// Connections that wait to be accepted, at most; the namespace's own `somaxconn` starts at the same number.
const BACKLOG: i32 = 4096;

/// Sockets that listen inside; the supervisor accepts on them. All are non-blocking.
#[derive(Debug, Default)]
pub struct Listeners {
    /// TCP connections to anywhere.
    pub tcp: Vec<OwnedFd>,
    /// Questions to the resolver over UDP.
    pub dns_udp: Vec<OwnedFd>,
    /// Questions to the resolver over TCP.
    pub dns_tcp: Vec<OwnedFd>,
    /// For questions about the sockets of the namespace, where the kernel answers such.
    pub diag: Option<OwnedFd>,
}

/// How connections come to the listeners.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Redirection {
    /// Not at all: there is no listener, and no route.
    Closed,
    /// nftables: every TCP port, and questions to any resolver. Nothing is translated.
    Nftables,
    /// The same by translation of addresses, which costs more for each packet.
    Translation,
    /// By routes alone: the ports of the plan, and questions to the jail's own resolver.
    Routes {
        /// Why there is no nftables.
        why: String,
    },
}

impl Redirection {
    /// For people.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Closed => "loopback only; no way out",
            Self::Nftables | Self::Translation => "every connection goes to the policy proxy",
            Self::Routes { .. } => "connections on the policy's ports go to the policy proxy, all others are refused",
        }
    }
}

/// A network namespace that is set up.
#[derive(Debug)]
pub struct Network {
    /// How connections come to the listeners.
    pub redirection: Redirection,
    /// What the supervisor accepts on.
    pub listeners: Listeners,
}

/// Sets the current network namespace up. Needs CAP_NET_ADMIN and CAP_NET_BIND_SERVICE there.
pub fn set_up(plan: &NetworkPlan) -> Result<Network, Failure> {
    let Egress::Proxied { ports } = &plan.egress else {
        loopback().send(SockProtocol::NetlinkRoute).map_err(failed)?;
        return Ok(Network { redirection: Redirection::Closed, listeners: Listeners::default() });
    };
    let six = match routes().send(SockProtocol::NetlinkRoute) {
        Ok(()) => true,
        // The first refusal is reported, and IPv6 comes last: the rest is done.
        Err(refused) if without_ipv6(refused) => false,
        Err(refused) => return Err(failed(refused)),
    };
    let mut listeners = Listeners { diag: sockdiag::open().ok(), ..Listeners::default() };
    let transparent = listen(&mut listeners, six)?;
    let redirection = redirect(transparent).map_err(failed)?;
    if matches!(redirection, Redirection::Routes { .. }) {
        listen_everywhere(&mut listeners, ports, six)?;
    }
    Ok(Network { redirection, listeners })
}

/// Sets nftables up as well as it goes.
fn redirect(transparent: bool) -> Result<Redirection, Refused> {
    let means = [(Means::Transparent, Redirection::Nftables), (Means::Translation, Redirection::Translation)];
    let mut why = String::new();
    for (means, redirection) in means.into_iter().skip(usize::from(!transparent)) {
        match redirect::rules(means).send(SockProtocol::NetlinkNetFilter) {
            Ok(()) => return Ok(redirection),
            // Not a want of nftables but of memory or descriptors.
            Err(refused @ Refused { errno: Errno::ENOMEM | Errno::ENOBUFS | Errno::EMFILE | Errno::ENFILE, .. }) => {
                return Err(refused);
            }
            Err(refused) => why = format!("{}: {}", refused.what, refused.errno.desc()),
        }
    }
    Ok(Redirection::Routes { why })
}

fn failed(refused: Refused) -> Failure {
    Step::Network.failed(refused.what, refused.errno)
}

/// The families there are: the proxy's address, and any.
fn families(six: bool) -> impl Iterator<Item = (IpAddr, IpAddr)> {
    let families: [(IpAddr, IpAddr); 2] =
        [(PROXY_V4.into(), Ipv4Addr::UNSPECIFIED.into()), (PROXY_V6.into(), Ipv6Addr::UNSPECIFIED.into())];
    families.into_iter().filter(move |(proxy, _)| six || proxy.is_ipv4())
}

/// Listens on the proxy's own addresses; whether packets for others can be handed to these sockets.
fn listen(listeners: &mut Listeners, six: bool) -> Result<bool, Failure> {
    let mut transparent = true;
    for (proxy, _) in families(six) {
        let tcp = tcp(SocketAddr::new(proxy, PROXY_PORT))?;
        let dns_tcp = self::tcp(SocketAddr::new(proxy, DNS_PORT))?;
        let resolver = SocketAddr::new(proxy, DNS_PORT);
        let dns_udp = net::bound(SockType::Datagram, resolver)
            .and_then(|socket| net::tell_destinations(&socket, resolver.is_ipv6()).map(|()| socket))
            .map_err(|errno| Step::Network.failed(format!("bind {resolver}"), errno))?;
        transparent &= [&tcp, &dns_tcp, &dns_udp].into_iter().all(|socket| net::make_transparent(socket).is_ok());
        listeners.tcp.push(tcp);
        listeners.dns_tcp.push(dns_tcp);
        listeners.dns_udp.push(dns_udp);
    }
    Ok(transparent)
}

/// Listens on these ports of all addresses.
fn listen_everywhere(listeners: &mut Listeners, ports: &[u16], six: bool) -> Result<(), Failure> {
    for (_, any) in families(six) {
        for port in ports {
            listeners.tcp.push(tcp(SocketAddr::new(any, *port))?);
        }
    }
    Ok(())
}

fn tcp(address: SocketAddr) -> Result<OwnedFd, Failure> {
    net::listener(address, BACKLOG).map_err(|errno| Step::Network.failed(format!("listen on {address}"), errno))
}

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
/// The loopback interface is the first of every namespace.
const LOOPBACK: u32 = 1;

/// A batch that sets loopback up.
fn loopback() -> Batch {
    const IFF_UP: u32 = 1;
    let mut batch = Batch::default();
    // struct ifinfomsg: family, padding, type, index, flags, mask of the flags that change.
    let header = [[0; 4], LOOPBACK.to_ne_bytes(), IFF_UP.to_ne_bytes(), IFF_UP.to_ne_bytes()].concat();
    batch.add("loopback", RTM_NEWLINK, 0, &header, |_| {});
    batch
}

/// A batch that sets loopback up, gives it the addresses, and makes every address local.
fn routes() -> Batch {
    let mut batch = loopback();
    address(&mut batch, "IPv4 address", &PROXY_V4.octets());
    address(&mut batch, "IPv4 address", &OWN_V4.octets());
    let all = Route { to: (&[], 0), kind: RTN_LOCAL, from: Some(&OWN_V4.octets()), family: INET };
    route(&mut batch, "IPv4 route", all);
    // Multicast is not local by the route above: it would vanish instead of being refused.
    let multicast = Route { to: (&[224, 0, 0, 0], 4), kind: RTN_UNREACHABLE, from: None, family: INET };
    route(&mut batch, "IPv4 multicast", multicast);
    address(&mut batch, IPV6[0], &PROXY_V6.octets());
    address(&mut batch, IPV6[0], &OWN_V6.octets());
    let all = Route { to: (&[], 0), kind: RTN_LOCAL, from: Some(&OWN_V6.octets()), family: INET6 };
    route(&mut batch, IPV6[1], all);
    let mut to = [0; 16];
    to[0] = 0xff;
    let multicast = Route { to: (&to, 8), kind: RTN_UNREACHABLE, from: None, family: INET6 };
    route(&mut batch, IPV6[2], multicast);
    batch
}

/// The names of the IPv6 requests.
const IPV6: [&str; 3] = ["IPv6 address", "IPv6 route", "IPv6 multicast"];

/// A machine may have no IPv6, or have it switched off: then nothing inside reaches anything over it either.
fn without_ipv6(refused: Refused) -> bool {
    IPV6.contains(&refused.what)
        && matches!(refused.errno, Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::EACCES | Errno::ENODEV)
}

const INET: u8 = libc::AF_INET as u8;
const INET6: u8 = libc::AF_INET6 as u8;
const RTN_LOCAL: u8 = 2;
const RTN_UNREACHABLE: u8 = 7;

fn address(batch: &mut Batch, what: &'static str, octets: &[u8]) {
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    const IFA_F_NODAD: u8 = 2;
    let family = if octets.len() == 4 { INET } else { INET6 };
    // struct ifaddrmsg: family, prefix length, flags, scope, index.
    let header = [[family, (octets.len() * 8) as u8, IFA_F_NODAD, 0], LOOPBACK.to_ne_bytes()].concat();
    batch.add(what, RTM_NEWADDR, CREATE, &header, |attributes| {
        attributes.bytes(IFA_LOCAL, octets).bytes(IFA_ADDRESS, octets);
    });
}

struct Route<'a> {
    to: (&'a [u8], u8),
    kind: u8,
    from: Option<&'a [u8]>,
    family: u8,
}

fn route(batch: &mut Batch, what: &'static str, route: Route<'_>) {
    const RTA_DST: u16 = 1;
    const RTA_OIF: u16 = 4;
    const RTA_PREFSRC: u16 = 7;
    // The kernel looks in this table first, and only what it finds here counts as its own address when it refuses.
    const RT_TABLE_LOCAL: u8 = 255;
    const RTPROT_BOOT: u8 = 3;
    const RT_SCOPE_HOST: u8 = 254;
    let (to, length) = route.to;
    // struct rtmsg: family, lengths of destination and source, TOS, table, protocol, scope, type, flags.
    let header =
        [[route.family, length, 0, 0], [RT_TABLE_LOCAL, RTPROT_BOOT, RT_SCOPE_HOST, route.kind], [0; 4]].concat();
    batch.add(what, RTM_NEWROUTE, CREATE, &header, |attributes| {
        if !to.is_empty() {
            attributes.bytes(RTA_DST, to);
        }
        if route.kind == RTN_LOCAL {
            attributes.native(RTA_OIF, LOOPBACK);
        }
        if let Some(from) = route.from {
            attributes.bytes(RTA_PREFSRC, from);
        }
    });
}
