//! Classes of addresses: every special range to its first and last address, and every address within another.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jail::policy::address::AddressClass::{
    self, Benchmark, Documentation, LinkLocal, Loopback, Metadata, Multicast, Private, Public, Reserved, Shared,
    Transition, Unspecified,
};
use jail::policy::address::classify;
use proptest::prelude::*;

fn class(text: &str) -> AddressClass {
    classify(text.parse().unwrap())
}

/// First and last address of a range, and what lies on both sides of it (`None` where another range begins).
type Range = (&'static str, &'static str, AddressClass, Option<AddressClass>, Option<AddressClass>);

const RANGES: &[Range] = &[
    ("0.0.0.0", "0.255.255.255", Unspecified, None, Some(Public)),
    ("10.0.0.0", "10.255.255.255", Private, Some(Public), Some(Public)),
    ("100.64.0.0", "100.100.100.199", Shared, Some(Public), Some(Metadata)),
    ("100.100.100.200", "100.100.100.200", Metadata, Some(Shared), Some(Shared)),
    ("100.100.100.201", "100.127.255.255", Shared, Some(Metadata), Some(Public)),
    ("127.0.0.0", "127.255.255.255", Loopback, Some(Public), Some(Public)),
    ("168.63.129.16", "168.63.129.16", Metadata, Some(Public), Some(Public)),
    ("169.254.0.0", "169.254.0.22", LinkLocal, Some(Public), Some(Metadata)),
    ("169.254.42.43", "169.254.168.255", LinkLocal, Some(Metadata), Some(Metadata)),
    ("169.254.169.0", "169.254.170.255", Metadata, Some(LinkLocal), Some(LinkLocal)),
    ("169.254.171.0", "169.254.255.255", LinkLocal, Some(Metadata), Some(Public)),
    ("172.16.0.0", "172.31.255.255", Private, Some(Public), Some(Public)),
    ("192.0.0.0", "192.0.0.191", Reserved, Some(Public), Some(Metadata)),
    ("192.0.0.192", "192.0.0.192", Metadata, Some(Reserved), Some(Reserved)),
    ("192.0.0.193", "192.0.0.255", Reserved, Some(Metadata), Some(Public)),
    ("192.0.2.0", "192.0.2.255", Documentation, Some(Public), Some(Public)),
    ("192.31.196.0", "192.31.196.255", Reserved, Some(Public), Some(Public)),
    ("192.52.193.0", "192.52.193.255", Reserved, Some(Public), Some(Public)),
    ("192.88.99.0", "192.88.99.255", Transition, Some(Public), Some(Public)),
    ("192.168.0.0", "192.168.255.255", Private, Some(Public), Some(Public)),
    ("192.175.48.0", "192.175.48.255", Reserved, Some(Public), Some(Public)),
    ("198.18.0.0", "198.19.255.255", Benchmark, Some(Public), Some(Public)),
    ("198.51.100.0", "198.51.100.255", Documentation, Some(Public), Some(Public)),
    ("203.0.113.0", "203.0.113.255", Documentation, Some(Public), Some(Public)),
    ("224.0.0.0", "239.255.255.255", Multicast, Some(Public), Some(Reserved)),
    ("240.0.0.0", "255.255.255.254", Reserved, Some(Multicast), Some(Multicast)),
    ("255.255.255.255", "255.255.255.255", Multicast, Some(Reserved), None),
    ("::", "::", Unspecified, None, Some(Loopback)),
    ("::1", "::1", Loopback, Some(Unspecified), None),
    ("100::", "100::ffff:ffff:ffff:ffff", Reserved, Some(Reserved), Some(Reserved)),
    ("2001:1::", "2001:1:ffff:ffff:ffff:ffff:ffff:ffff", Reserved, None, Some(Benchmark)),
    ("2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff", Benchmark, Some(Reserved), Some(Reserved)),
    ("2001:2:1::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", Reserved, Some(Benchmark), Some(Public)),
    ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", Documentation, Some(Public), Some(Public)),
    ("2620:4f:8000::", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff", Reserved, Some(Public), Some(Public)),
    ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", Documentation, Some(Public), Some(Public)),
    ("4000::", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Reserved, Some(Public), Some(Private)),
    ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Reserved, Some(Reserved), Some(Reserved)),
    ("fc00::", "fcff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Private, Some(Reserved), Some(Private)),
    ("fd00:ec2::", "fd00:ec2:ffff:ffff:ffff:ffff:ffff:ffff", Metadata, Some(Private), Some(Private)),
    ("fd00:42::", "fd00:42:ffff:ffff:ffff:ffff:ffff:ffff", Metadata, Some(Private), Some(Private)),
    ("fd20:ce::", "fd20:ce:ffff:ffff:ffff:ffff:ffff:ffff", Metadata, Some(Private), Some(Private)),
    ("fe00::", "fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Reserved, Some(Private), Some(LinkLocal)),
    ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", LinkLocal, Some(Reserved), Some(Private)),
    ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Private, Some(LinkLocal), Some(Multicast)),
    ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Multicast, Some(Private), None),
];

fn beside(address: IpAddr, step: i8) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(address) => Ipv4Addr::from(u32::from(address).checked_add_signed(step.into())?).into(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address).checked_add_signed(step.into())?).into(),
    })
}

#[test]
fn nt_008_every_special_range_from_its_first_to_its_last_address() {
    for (first, last, expected, below, above) in RANGES {
        assert_eq!(class(first), *expected, "{first}");
        assert_eq!(class(last), *expected, "{last}");
        if let Some(below) = below {
            let neighbour = beside(first.parse().unwrap(), -1).unwrap();
            assert_eq!(classify(neighbour), *below, "{neighbour}, before {first}");
        }
        if let Some(above) = above {
            let neighbour = beside(last.parse().unwrap(), 1).unwrap();
            assert_eq!(classify(neighbour), *above, "{neighbour}, after {last}");
        }
    }
}

/// Their class depends on what is written inside.
#[test]
fn nt_007_tunnels_over_ipv4_are_never_public() {
    for (first, last) in [
        ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"),
    ] {
        assert!(!class(first).is_public() && !class(last).is_public(), "{first}");
    }
    for outside in ["2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2003::"] {
        assert_eq!(class(outside), Public, "{outside}");
    }
}

#[test]
fn public_addresses_are_public() {
    for text in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "100.63.255.255",
        "100.128.0.0",
        "140.82.112.3",
        "169.253.255.255",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "2a00:1450:4001:81c::200e",
        "2001:4860:4860::8888",
        "2001:200::1",
        "2620:fe::fe",
        "3ffe::1",
        // Networks without IPv4 reach these hosts through a translator.
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        // An ISATAP identifier with a public address, below a public prefix.
        "2606:4700::5efe:8.8.8.8",
    ] {
        assert_eq!(class(text), Public, "{text}");
    }
}

#[test]
fn nt_005_metadata_services_have_a_class_of_their_own() {
    for text in [
        "169.254.169.254",
        "169.254.169.253",
        "169.254.169.123",
        "169.254.170.2",
        "169.254.170.23",
        "169.254.42.42",
        "169.254.0.23",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fd00:42::42",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "::ffff:0:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "64:ff9b:1:a9fe:a9:fe00::",
        "2002:a9fe:a9fe::",
        "2001:0:a9fe:a9fe::1",
        "2001::5601:5601",
        "2606:4700::5efe:a9fe:a9fe",
        "fe80::200:5efe:a9fe:a9fe",
        "2002:a83f:8110::1",
    ] {
        assert_eq!(class(text), Metadata, "{text}");
    }
}

#[test]
fn nt_007_an_address_within_another_counts() {
    let cases = [
        ("::ffff:127.0.0.1", Loopback),
        ("::ffff:7f00:1", Loopback),
        ("::127.0.0.1", Loopback),
        ("::8.8.8.8", Reserved),
        ("::ffff:10.1.2.3", Private),
        ("::ffff:0:127.0.0.1", Loopback),
        ("::ffff:0:8.8.8.8", Reserved),
        ("64:ff9b::7f00:1", Loopback),
        ("64:ff9b::192.168.1.1", Private),
        ("64:ff9b::198.18.0.1", Benchmark),
        ("64:ff9b:1::8.8.8.8", Transition),
        ("64:ff9b:1::10.0.0.1", Private),
        ("64:ff9b:1:7f00:0:100::", Loopback),
        ("64:ff9b:1:808:8:800::", Transition),
        ("64:ff9b:1::", Unspecified),
        ("64:ff9b:1:ffff:ffff:ffff:ffff:ffff", Multicast),
        ("64:ff9b:2::8.8.8.8", Reserved),
        ("64:ff9b:0:1::8.8.8.8", Reserved),
        ("2002:7f00:1::", Loopback),
        ("2002:c0a8:101::1", Private),
        ("2002:808:808::1", Transition),
        ("2001:0:808:808::f7f7:f7f7", Transition),
        ("2001:0:7f00:1::f7f7:f7f7", Loopback),
        ("2001:0:808:808::80ff:fffe", Loopback),
        ("2606:4700::5efe:10.0.0.1", Private),
        ("2606:4700::200:5efe:127.0.0.1", Loopback),
        ("fd00::5efe:8.8.8.8", Private),
        ("::", Unspecified),
        ("::1", Loopback),
        ("fe80::1", LinkLocal),
    ];
    for (text, expected) in cases {
        assert_eq!(class(text), expected, "{text}");
    }
}

/// Every way to write an IPv4 address within an IPv6 address that something may take apart again.
fn forms(inner: Ipv4Addr) -> [Ipv6Addr; 9] {
    let low = u128::from(u32::from(inner));
    let of = |bits: u128| Ipv6Addr::from(bits);
    [
        of(0xffff << 32 | low),
        of(low),
        of(0xffff << 48 | low),
        of(0x0064_ff9b_u128 << 96 | low),
        of(0x0064_ff9b_0001_u128 << 80 | low),
        of(0x2002 << 112 | low << 80),
        of(0x2001 << 112 | low << 64 | 0xf7f7_f7f7),
        of(0x2001 << 112 | 0x0808_0808 << 64 | u128::from(!u32::from(inner))),
        of(0x2606_4700_u128 << 96 | 0x5efe << 32 | low),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_form_makes_an_address_public_that_is_not(bits: u32) {
        let inner = Ipv4Addr::from(bits);
        let own = classify(inner.into());
        for form in forms(inner) {
            if matches!(form.segments(), [0, 0, 0, 0, 0, 0, 0, 0 | 1]) {
                continue;
            }
            let outer = classify(form.into());
            prop_assert!(own.is_public() || !outer.is_public(), "{} is {:?}, {} is {:?}", inner, own, form, outer);
            prop_assert!(own != Metadata || outer == Metadata, "{} hides {}", form, inner);
        }
    }

    #[test]
    fn nothing_outside_of_the_public_block_is_public(bits: u128) {
        let address = Ipv6Addr::from(bits);
        let translated = matches!(address.segments(), [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..]);
        prop_assert!(bits >> 125 == 1 || translated || !classify(address.into()).is_public(), "{}", address);
    }
}

#[test]
fn every_class_has_words_of_its_own() {
    let all = [
        Public,
        Metadata,
        Unspecified,
        Loopback,
        Private,
        Shared,
        LinkLocal,
        Multicast,
        Documentation,
        Benchmark,
        Transition,
        Reserved,
    ];
    let words: std::collections::BTreeSet<&str> = all.iter().map(|class| class.reason()).collect();
    assert_eq!(words.len(), all.len());
    assert_eq!(all.iter().filter(|class| class.is_public()).count(), 1);
}
