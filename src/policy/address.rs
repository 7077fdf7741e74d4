//! What kind of address a connection would go to. Only public ones are dialled for a name.
//!
//! An address inside another is judged by the inner one as well: `::ffff:127.0.0.1`, `64:ff9b::10.0.0.1` and
//! `2002:7f00:1::` lead to where their IPv4 address leads.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use AddressClass::{
    Benchmark, Documentation, LinkLocal, Loopback, Metadata, Multicast, Private, Public, Reserved, Shared, Transition,
    Unspecified,
};

/// What an address stands for; where several classes fit, the first counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressClass {
    /// A host of the public Internet.
    Public,
    /// A cloud's service that hands out the machine's own credentials.
    Metadata,
    /// No address, or this machine: `0.0.0.0/8`, `::`.
    Unspecified,
    /// This machine.
    Loopback,
    /// A private network.
    Private,
    /// The network of a provider behind its address translation (RFC 6598).
    Shared,
    /// Neighbours on the same link.
    LinkLocal,
    /// A group of hosts, or all of them.
    Multicast,
    /// Examples in documents.
    Documentation,
    /// Measurements between test machines (RFC 2544), and the jail's own addresses.
    Benchmark,
    /// An address within another by a transition mechanism that nothing public needs: 6to4, Teredo, local NAT64.
    Transition,
    /// Set aside for protocols or for the future.
    Reserved,
}

impl AddressClass {
    /// Whether a name may lead there without a pin.
    pub fn is_public(self) -> bool {
        self == Self::Public
    }

    /// What the address is, as part of a sentence: "the address is …".
    pub fn reason(self) -> &'static str {
        match self {
            Self::Public => "a public one",
            Self::Metadata => "a cloud's metadata service, which hands out the machine's credentials",
            Self::Unspecified => "no address of a host",
            Self::Loopback => "this machine's own",
            Self::Private => "one of a private network",
            Self::Shared => "one of the provider's own network",
            Self::LinkLocal => "one of the local link",
            Self::Multicast => "a multicast or broadcast address",
            Self::Documentation => "one for examples",
            Self::Benchmark => "one for measurements or the jail's own",
            Self::Transition => "one within another by a transition mechanism",
            Self::Reserved => "a reserved one",
        }
    }
}

/// Prefixes of IPv4, the first that fits decides: metadata services, then the special-purpose registry of the IANA
/// (RFC 6890), with what it calls globally reachable but no agent needs.
const V4: &[(Ipv4Addr, u32, AddressClass)] = &[
    (v4(169, 254, 169, 0), 24, Metadata), // AWS, Google, Azure, Oracle, OpenStack and others; AWS DNS and time
    (v4(169, 254, 170, 0), 24, Metadata), // AWS: credentials of containers and of pods
    (v4(169, 254, 42, 42), 32, Metadata), // Scaleway
    (v4(169, 254, 0, 23), 32, Metadata),  // Tencent
    (v4(168, 63, 129, 16), 32, Metadata), // Azure's wire server, in public space
    (v4(100, 100, 100, 200), 32, Metadata), // Alibaba
    (v4(192, 0, 0, 192), 32, Metadata),   // Oracle, older
    (v4(0, 0, 0, 0), 8, Unspecified),
    (v4(10, 0, 0, 0), 8, Private),
    (v4(100, 64, 0, 0), 10, Shared),
    (v4(127, 0, 0, 0), 8, Loopback),
    (v4(169, 254, 0, 0), 16, LinkLocal),
    (v4(172, 16, 0, 0), 12, Private),
    (v4(192, 0, 0, 0), 24, Reserved),
    (v4(192, 0, 2, 0), 24, Documentation),
    (v4(192, 31, 196, 0), 24, Reserved),  // AS112
    (v4(192, 52, 193, 0), 24, Reserved),  // AMT
    (v4(192, 88, 99, 0), 24, Transition), // 6to4 relays
    (v4(192, 168, 0, 0), 16, Private),
    (v4(192, 175, 48, 0), 24, Reserved), // AS112
    (v4(198, 18, 0, 0), 15, Benchmark),
    (v4(198, 51, 100, 0), 24, Documentation),
    (v4(203, 0, 113, 0), 24, Documentation),
    (v4(224, 0, 0, 0), 4, Multicast),
    (v4(255, 255, 255, 255), 32, Multicast),
    (v4(240, 0, 0, 0), 4, Reserved),
];

/// Prefixes of IPv6, the first that fits decides. Outside of `2000::/3` nothing is public.
const V6: &[(Ipv6Addr, u32, AddressClass)] = &[
    (v6(0xfd00, 0x0ec2, 0), 32, Metadata), // AWS: metadata, DNS, time, credentials of pods
    (v6(0xfd20, 0x00ce, 0), 32, Metadata), // Google
    (v6(0xfd00, 0x0042, 0), 32, Metadata), // Scaleway
    (Ipv6Addr::UNSPECIFIED, 128, Unspecified),
    (Ipv6Addr::LOCALHOST, 128, Loopback),
    (v6(0x0064, 0xff9b, 1), 48, Transition), // NAT64 of a local network
    (v6(0xfc00, 0, 0), 7, Private),
    (v6(0xfe80, 0, 0), 10, LinkLocal),
    (v6(0xfec0, 0, 0), 10, Private), // site-local, withdrawn
    (v6(0xff00, 0, 0), 8, Multicast),
    (v6(0x2001, 0x0002, 0), 48, Benchmark),
    (v6(0x2001, 0, 0), 32, Transition), // Teredo
    (v6(0x2001, 0, 0), 23, Reserved),   // protocols of the IETF
    (v6(0x2001, 0x0db8, 0), 32, Documentation),
    (v6(0x2002, 0, 0), 16, Transition),         // 6to4
    (v6(0x2620, 0x004f, 0x8000), 48, Reserved), // AS112
    (v6(0x3fff, 0, 0), 20, Documentation),
    (v6(0x2000, 0, 0), 3, Public),
];

/// The class of an address.
pub fn classify(address: IpAddr) -> AddressClass {
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => classify_v6(address),
    }
}

fn classify_v4(address: Ipv4Addr) -> AddressClass {
    let own = u32::from(address);
    let fits = |&&(base, length, _): &&(Ipv4Addr, u32, AddressClass)| (own ^ u32::from(base)) >> (32 - length) == 0;
    V4.iter().find(fits).map_or(Public, |(.., class)| *class)
}

fn classify_v6(address: Ipv6Addr) -> AddressClass {
    let own = u128::from(address);
    let fits = |&&(base, length, _): &&(Ipv6Addr, u32, AddressClass)| (own ^ u128::from(base)) >> (128 - length) == 0;
    let outer = V6.iter().find(fits).map_or(Reserved, |(.., class)| *class);
    match embedded(address) {
        Embedded::None => outer,
        Embedded::Same(inner) => classify_v4(inner),
        Embedded::Within(inner) => {
            let all = inner.into_iter().flatten().map(classify_v4).chain([outer]);
            // The order of the classes: metadata says most, a mechanism least.
            all.filter(|class| !class.is_public()).min().unwrap_or(Public)
        }
    }
}

/// The IPv4 addresses inside an IPv6 address.
enum Embedded {
    /// None.
    None,
    /// The kernel or a translator of the public Internet dials this one.
    Same(Ipv4Addr),
    /// One of these may be dialled; the outer address counts too.
    Within([Option<Ipv4Addr>; 2]),
}

fn embedded(address: Ipv6Addr) -> Embedded {
    let own = u128::from(address);
    let segments = address.segments();
    let at = |shift: u32| Ipv4Addr::from((own >> shift) as u32);
    match segments {
        // `::` and `::1` are no embedded addresses.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Embedded::None,
        // Mapped (RFC 4291) and NAT64 (RFC 6052): networks without IPv4 reach public hosts by the latter.
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => Embedded::Same(at(0)),
        // Compatible (RFC 4291) and translated (RFC 2765).
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => Embedded::Within([Some(at(0)), None]),
        // Local NAT64 (RFC 8215), by a prefix of 96 bits, or of 48 with a gap at bits 64 to 71 (RFC 6052).
        [0x64, 0xff9b, 1, 0, 0, 0, ..] => Embedded::Within([Some(at(0)), None]),
        [0x64, 0xff9b, 1, ..] => {
            let split = ((own >> 64) as u32) << 16 | ((own >> 40) as u32 & 0xffff);
            Embedded::Within([Some(Ipv4Addr::from(split)), None])
        }
        // Teredo (RFC 4380): the server, and the client with its bits turned over.
        [0x2001, 0, ..] => Embedded::Within([Some(at(64)), Some(Ipv4Addr::from(!(own as u32)))]),
        [0x2002, ..] => Embedded::Within([Some(at(80)), None]),
        // ISATAP (RFC 5214), below any prefix.
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => Embedded::Within([Some(at(0)), None]),
        _ => Embedded::None,
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, d)
}

const fn v6(a: u16, b: u16, c: u16) -> Ipv6Addr {
    Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)
}
