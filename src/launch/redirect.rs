//! The nftables rules of the jail's network namespace, as one transaction.
//!
//! In the language of nft(8):
//!
//! ```text
//! table inet jail {
//!     chain in {
//!         type filter hook prerouting priority -150; policy accept;
//!         tcp flags & (syn | ack) != syn accept
//!         ip daddr 127.0.0.0/8 accept
//!         ip daddr 198.18.0.0/24 accept
//!         ip6 daddr ::1 accept
//!         ip6 daddr fd00:18::/64 accept
//!         th dport 53 tproxy ip to 198.18.0.1:53 accept
//!         th dport 53 tproxy ip6 to [fd00:18::1]:53 accept
//!         meta l4proto tcp tproxy ip to 198.18.0.1:3128
//!         meta l4proto tcp tproxy ip6 to [fd00:18::1]:3128
//!     }
//! }
//! ```
//!
//! The first packet of a connection is handed to the listener as it is: nothing is translated, so the kernel keeps no
//! table of connections, and every later packet finds its socket by itself.
//! <https://docs.kernel.org/networking/tproxy.html>
//!
//! Loopback stays the jail's own: its servers talk to each other. So do its own addresses, by which programs that ask
//! for the machine's address find each other; a connection to the proxy's listener itself is one of a client that knows
//! it as a proxy.
//!
//! Where the kernel has no module for that, but one for translation, a chain of type `nat` does the same in the output
//! hook, with `dnat` in the place of `tproxy`. A translation to the other family's address does nothing, and the next one
//! is tried.
//!
//! Every step of a rule costs the launch nearly two microseconds, hence so few of them.

use std::net::Ipv6Addr;

use crate::plan::network::{DNS_PORT, PROXY_PORT, PROXY_V4, PROXY_V6};
use crate::sys::netlink::{Attributes, Batch, CREATE};

// linux/netfilter/nfnetlink.h, nf_tables.h, netfilter.h
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NFTABLES: u16 = 10;
const NEW_TABLE: u16 = NFTABLES << 8;
const NEW_CHAIN: u16 = NFTABLES << 8 | 3;
const NEW_RULE: u16 = NFTABLES << 8 | 6;
const APPEND: u16 = 0x800;
const INET: u8 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
const TCP: u8 = 6;

const TABLE: &str = "jail";
const CHAIN: &str = "jail";

/// How a connection comes to a listener that it was not for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// The listener takes it as it is, and has to be transparent (`IP_TRANSPARENT`, ip(7)).
    Transparent,
    /// Its address is translated.
    Translation,
}

impl Means {
    /// The chain's type, hook and priority: `NF_IP_PRI_MANGLE`, `NF_IP_PRI_NAT_DST`.
    fn chain(self) -> (&'static str, u32, i32) {
        const PRE_ROUTING: u32 = 0;
        const LOCAL_OUT: u32 = 3;
        match self {
            Self::Transparent => ("filter", PRE_ROUTING, -150),
            Self::Translation => ("nat", LOCAL_OUT, -100),
        }
    }
}

/// `struct nfgenmsg`: family, version 0, resource in network byte order.
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// The transaction.
pub fn rules(means: Means) -> Batch {
    let mut batch = Batch::default();
    batch.add("nftables", BATCH_BEGIN, 0, &header(0, NFTABLES), |_| {});
    batch.add("nftables table", NEW_TABLE, CREATE, &header(INET, 0), |table| {
        const NAME: u16 = 1;
        table.text(NAME, TABLE);
    });
    batch.add("nftables chain", NEW_CHAIN, CREATE, &header(INET, 0), |chain| {
        const OF_TABLE: u16 = 1;
        const NAME: u16 = 3;
        const HOOK: u16 = 4;
        const HOOK_NUMBER: u16 = 1;
        const HOOK_PRIORITY: u16 = 2;
        const TYPE: u16 = 7;
        let (kind, number, priority) = means.chain();
        chain.text(OF_TABLE, TABLE).text(NAME, CHAIN).text(TYPE, kind).nest(HOOK, |hook| {
            hook.network(HOOK_NUMBER, number).network(HOOK_PRIORITY, priority.cast_unsigned());
        });
    });
    if means == Means::Transparent {
        rule(&mut batch, |list| list.is_protocol(TCP).is_no_first_packet().accept());
    }
    let loopback = Ipv6Addr::LOCALHOST.octets();
    let (proxy4, proxy6) = (PROXY_V4.octets(), PROXY_V6.octets());
    for own in [&[127], &proxy4[..3]] {
        rule(&mut batch, |list| list.is_to(IPV4, 16, own).accept());
    }
    for own in [&loopback, &proxy6[..8]] {
        rule(&mut batch, |list| list.is_to(IPV6, 24, own).accept());
    }
    // Nothing but TCP and UDP can be sent from inside.
    match means {
        Means::Translation => {
            rule(&mut batch, |list| list.is_port(DNS_PORT).translate(DNS_PORT));
            rule(&mut batch, |list| list.is_protocol(TCP).translate(PROXY_PORT));
        }
        // One for the other family ends the rule.
        Means::Transparent => {
            for (family, listener) in [(IPV4, &proxy4[..]), (IPV6, &proxy6[..])] {
                rule(&mut batch, |list| list.is_port(DNS_PORT).hand_over(family, listener, DNS_PORT).accept());
            }
            for (family, listener) in [(IPV4, &proxy4[..]), (IPV6, &proxy6[..])] {
                rule(&mut batch, |list| list.is_protocol(TCP).hand_over(family, listener, PROXY_PORT));
            }
        }
    }
    batch.add_silent("nftables", BATCH_END, &header(0, NFTABLES));
    batch
}

fn rule(
    batch: &mut Batch,
    fill: impl for<'a, 'b, 'c> FnOnce(&'c mut Expressions<'a, 'b>) -> &'c mut Expressions<'a, 'b>,
) {
    const OF_TABLE: u16 = 1;
    const OF_CHAIN: u16 = 2;
    const EXPRESSIONS: u16 = 4;
    batch.add("nftables rule", NEW_RULE, CREATE | APPEND, &header(INET, 0), |rule| {
        rule.text(OF_TABLE, TABLE).text(OF_CHAIN, CHAIN).nest(EXPRESSIONS, |list| {
            fill(&mut Expressions(list));
        });
    });
}

/// `NFT_REG_1` and `NFT_REG_2`, 16 bytes each.
const FIRST: u32 = 1;
const SECOND: u32 = 2;
/// `NFTA_DATA_VALUE`.
const VALUE: u16 = 1;
/// `NFT_PAYLOAD_TRANSPORT_HEADER`.
const TRANSPORT_HEADER: u32 = 2;
/// `NFT_CMP_EQ`, `NFT_CMP_NEQ`.
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

/// What a rule does, step by step.
struct Expressions<'a, 'b>(&'a mut Attributes<'b>);

impl Expressions<'_, '_> {
    fn add(&mut self, name: &str, fill: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        const ELEMENT: u16 = 1;
        const NAME: u16 = 1;
        const DATA: u16 = 2;
        self.0.nest(ELEMENT, |element| {
            element.text(NAME, name).nest(DATA, fill);
        });
        self
    }

    /// The destination, `offset` bytes into this family's header, begins with these bytes.
    fn is_to(&mut self, family: u8, offset: u32, prefix: &[u8]) -> &mut Self {
        const NETWORK_HEADER: u32 = 1;
        const NFPROTO: u32 = 15;
        self.meta(NFPROTO, family).payload(NETWORK_HEADER, offset, prefix)
    }

    fn is_port(&mut self, port: u16) -> &mut Self {
        self.payload(TRANSPORT_HEADER, 2, &port.to_be_bytes())
    }

    fn is_protocol(&mut self, protocol: u8) -> &mut Self {
        const L4PROTO: u32 = 16;
        self.meta(L4PROTO, protocol)
    }

    fn meta(&mut self, key: u32, value: u8) -> &mut Self {
        const REGISTER: u16 = 1;
        const KEY: u16 = 2;
        self.add("meta", |meta| {
            meta.network(REGISTER, FIRST).network(KEY, key);
        });
        self.equals(&[value])
    }

    /// Of TCP: the packet does not open a connection.
    fn is_no_first_packet(&mut self) -> &mut Self {
        const FLAGS: u32 = 13;
        const SYN: u8 = 0x02;
        const ACK: u8 = 0x10;
        self.field(TRANSPORT_HEADER, FLAGS, 1).mask(SYN | ACK).compare(NOT_EQUAL, &[SYN])
    }

    fn payload(&mut self, base: u32, offset: u32, value: &[u8]) -> &mut Self {
        self.field(base, offset, value.len() as u32).equals(value)
    }

    fn field(&mut self, base: u32, offset: u32, length: u32) -> &mut Self {
        const REGISTER: u16 = 1;
        const BASE: u16 = 2;
        const OFFSET: u16 = 3;
        const LENGTH: u16 = 4;
        self.add("payload", |payload| {
            payload.network(REGISTER, FIRST).network(BASE, base).network(OFFSET, offset).network(LENGTH, length);
        })
    }

    /// Keeps these bits of a byte.
    fn mask(&mut self, bits: u8) -> &mut Self {
        const SOURCE: u16 = 1;
        const DESTINATION: u16 = 2;
        const LENGTH: u16 = 3;
        const MASK: u16 = 4;
        const XOR: u16 = 5;
        self.add("bitwise", |bitwise| {
            bitwise.network(SOURCE, FIRST).network(DESTINATION, FIRST).network(LENGTH, 1);
            for (kind, value) in [(MASK, bits), (XOR, 0)] {
                bitwise.nest(kind, |data| {
                    data.bytes(VALUE, &[value]);
                });
            }
        })
    }

    fn equals(&mut self, value: &[u8]) -> &mut Self {
        self.compare(EQUAL, value)
    }

    fn compare(&mut self, operation: u32, value: &[u8]) -> &mut Self {
        const REGISTER: u16 = 1;
        const OPERATION: u16 = 2;
        const DATA: u16 = 3;
        self.add("cmp", |compare| {
            compare.network(REGISTER, FIRST).network(OPERATION, operation).nest(DATA, |data| {
                data.bytes(VALUE, value);
            });
        })
    }

    fn accept(&mut self) -> &mut Self {
        const REGISTER: u16 = 1;
        const VERDICT_REGISTER: u32 = 0;
        const DATA: u16 = 2;
        const VERDICT: u16 = 2;
        const CODE: u16 = 1;
        const ACCEPT: u32 = 1;
        self.add("immediate", |immediate| {
            immediate.network(REGISTER, VERDICT_REGISTER).nest(DATA, |data| {
                data.nest(VERDICT, |verdict| {
                    verdict.network(CODE, ACCEPT);
                });
            });
        })
    }

    fn load(&mut self, register: u32, value: &[u8]) -> &mut Self {
        const REGISTER: u16 = 1;
        const DATA: u16 = 2;
        self.add("immediate", |immediate| {
            immediate.network(REGISTER, register).nest(DATA, |data| {
                data.bytes(VALUE, value);
            });
        })
    }

    /// To the listener at this address and port, for packets of its family alone.
    fn hand_over(&mut self, family: u8, listener: &[u8], port: u16) -> &mut Self {
        const FAMILY: u16 = 1;
        const ADDRESS_REGISTER: u16 = 2;
        const PORT_REGISTER: u16 = 3;
        self.load(FIRST, listener).load(SECOND, &port.to_be_bytes()).add("tproxy", |tproxy| {
            tproxy.network(FAMILY, family.into());
            tproxy.network(ADDRESS_REGISTER, FIRST).network(PORT_REGISTER, SECOND);
        })
    }

    /// To this port of the proxy's address in the packet's family.
    fn translate(&mut self, port: u16) -> &mut Self {
        self.load(SECOND, &port.to_be_bytes())
            .load(FIRST, &PROXY_V4.octets())
            .dnat(IPV4)
            .load(FIRST, &PROXY_V6.octets())
            .dnat(IPV6)
    }

    fn dnat(&mut self, family: u8) -> &mut Self {
        const TYPE: u16 = 1;
        const DESTINATION: u32 = 1;
        const FAMILY: u16 = 2;
        const ADDRESS_REGISTER: u16 = 3;
        const PORT_REGISTER: u16 = 5;
        self.add("nat", |nat| {
            nat.network(TYPE, DESTINATION).network(FAMILY, family.into());
            nat.network(ADDRESS_REGISTER, FIRST).network(PORT_REGISTER, SECOND);
        })
    }
}
