//! The nftables rules of the jail's network namespace, as one transaction.
//!
//! In the language of nft(8):
//!
//! ```text
//! table inet jail {
//!     chain out {
//!         type nat hook output priority -100; policy accept;
//!         ip daddr 127.0.0.0/8 accept
//!         ip daddr 198.18.0.0/24 accept
//!         ip protocol tcp tcp dport 53 dnat to 198.18.0.1:53
//!         ip protocol udp udp dport 53 dnat to 198.18.0.1:53
//!         ip protocol tcp dnat to 198.18.0.1:3128
//!         (the same for ip6: ::1 and fd00:18::/64, to fd00:18::1)
//!     }
//! }
//! ```
//!
//! Loopback stays the jail's own: its servers talk to each other. The jail's own two addresses are left alone too: a
//! connection to the proxy's listener itself is one of a client that knows it as a proxy.

use std::net::IpAddr;

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
const LOCAL_OUT: u32 = 3;
/// `NF_IP_PRI_NAT_DST`.
const PRIORITY: i32 = -100;
const TCP: u8 = 6;
const UDP: u8 = 17;

const TABLE: &str = "jail";
const CHAIN: &str = "out";

/// `struct nfgenmsg`: family, version 0, resource in network byte order.
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// The transaction.
pub fn rules() -> Batch {
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
        chain.text(OF_TABLE, TABLE).text(NAME, CHAIN).text(TYPE, "nat").nest(HOOK, |hook| {
            hook.network(HOOK_NUMBER, LOCAL_OUT).network(HOOK_PRIORITY, PRIORITY.cast_unsigned());
        });
    });
    let v4 = Family { number: IPV4, destination: 16, own: [&[127], &PROXY_V4.octets()[..3]], proxy: PROXY_V4.into() };
    let loopback = std::net::Ipv6Addr::LOCALHOST.octets();
    let v6 =
        Family { number: IPV6, destination: 24, own: [&loopback, &PROXY_V6.octets()[..8]], proxy: PROXY_V6.into() };
    for family in [v4, v6] {
        for own in family.own {
            rule(&mut batch, |list| {
                list.is_family(family.number).payload(NETWORK_HEADER, family.destination, own).accept();
            });
        }
        for protocol in [TCP, UDP] {
            rule(&mut batch, |list| {
                list.is_family(family.number)
                    .is_protocol(protocol)
                    .payload(TRANSPORT_HEADER, 2, &DNS_PORT.to_be_bytes())
                    .dnat(family.number, family.proxy, DNS_PORT);
            });
        }
        rule(&mut batch, |list| {
            list.is_family(family.number).is_protocol(TCP).dnat(family.number, family.proxy, PROXY_PORT);
        });
    }
    batch.add_silent("nftables", BATCH_END, &header(0, NFTABLES));
    batch
}

struct Family<'a> {
    number: u8,
    /// Where the destination is in the header.
    destination: u32,
    /// Prefixes that are left alone, in whole bytes.
    own: [&'a [u8]; 2],
    proxy: IpAddr,
}

fn rule(batch: &mut Batch, fill: impl FnOnce(&mut Expressions<'_, '_>)) {
    const OF_TABLE: u16 = 1;
    const OF_CHAIN: u16 = 2;
    const EXPRESSIONS: u16 = 4;
    batch.add("nftables rule", NEW_RULE, CREATE | APPEND, &header(INET, 0), |rule| {
        rule.text(OF_TABLE, TABLE).text(OF_CHAIN, CHAIN).nest(EXPRESSIONS, |list| fill(&mut Expressions(list)));
    });
}

const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
/// `NFT_REG_1` and `NFT_REG_2`, 16 bytes each.
const FIRST: u32 = 1;
const SECOND: u32 = 2;
/// `NFTA_DATA_VALUE`.
const VALUE: u16 = 1;

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

    fn is_family(&mut self, family: u8) -> &mut Self {
        const NFPROTO: u32 = 15;
        self.meta(NFPROTO, family)
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

    fn payload(&mut self, base: u32, offset: u32, value: &[u8]) -> &mut Self {
        const REGISTER: u16 = 1;
        const BASE: u16 = 2;
        const OFFSET: u16 = 3;
        const LENGTH: u16 = 4;
        self.add("payload", |payload| {
            payload.network(REGISTER, FIRST).network(BASE, base).network(OFFSET, offset);
            payload.network(LENGTH, value.len() as u32);
        });
        self.equals(value)
    }

    fn equals(&mut self, value: &[u8]) -> &mut Self {
        const REGISTER: u16 = 1;
        const OPERATION: u16 = 2;
        const EQUAL: u32 = 0;
        const DATA: u16 = 3;
        self.add("cmp", |compare| {
            compare.network(REGISTER, FIRST).network(OPERATION, EQUAL).nest(DATA, |data| {
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

    fn dnat(&mut self, family: u8, to: IpAddr, port: u16) -> &mut Self {
        const TYPE: u16 = 1;
        const DESTINATION: u32 = 1;
        const FAMILY: u16 = 2;
        const ADDRESS_REGISTER: u16 = 3;
        const PORT_REGISTER: u16 = 5;
        match to {
            IpAddr::V4(address) => self.load(FIRST, &address.octets()),
            IpAddr::V6(address) => self.load(FIRST, &address.octets()),
        };
        self.load(SECOND, &port.to_be_bytes()).add("nat", |nat| {
            nat.network(TYPE, DESTINATION).network(FAMILY, family.into());
            nat.network(ADDRESS_REGISTER, FIRST).network(PORT_REGISTER, SECOND);
        })
    }
}
