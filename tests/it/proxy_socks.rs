//! SOCKS requests: where they go, and what is refused.

use jail::proxy::socks::{Negotiation, Reply, SocksError, Step};
use proptest::prelude::*;

/// A greeted client of SOCKS 5 and a request.
fn five(command: u8, kind: u8, address: &[u8], port: u16) -> Step {
    let request = [&[5, command, 0, kind], address, &port.to_be_bytes()].concat();
    Negotiation::V5.next(&request)
}

fn name(name: &[u8]) -> Step {
    five(1, 3, &[&[u8::try_from(name.len()).unwrap_or(255)], name].concat(), 443)
}

fn four(address: [u8; 4], rest: &[u8]) -> Step {
    Negotiation::Start.next(&[&[4, 1, 1, 187], &address[..], rest].concat())
}

/// Host and port, and how many bytes were used.
fn wanted(step: &Step) -> Option<(String, u16, usize)> {
    match step {
        Step::Connect(request) => Some((request.host.to_string(), request.port, request.len)),
        _ => None,
    }
}

#[test]
fn px_017_a_request_says_where_it_goes() {
    let mut client = Negotiation::default();
    assert_eq!(client.next(&[5, 2, 2, 0, 5]), Step::Greeted(4));
    assert_eq!(client, Negotiation::V5);
    assert_eq!(wanted(&name(b"API.example.com.")), Some(("api.example.com".into(), 443, 23)));
    assert_eq!(wanted(&five(1, 1, &[192, 0, 2, 1], 22)), Some(("192.0.2.1".into(), 22, 10)));
    let address = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    assert_eq!(wanted(&five(1, 4, &address, 1)), Some(("[2001:db8::1]".into(), 1, 22)));
    // One host, one spelling: a rule about the IPv4 address is about this one.
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 1];
    assert_eq!(wanted(&five(1, 4, &mapped, 22)), Some(("192.0.2.1".into(), 22, 22)));
    // The name of an address is that address, not a name that may be looked up.
    assert_eq!(wanted(&name(b"192.0.2.1")), Some(("192.0.2.1".into(), 443, 16)));

    assert_eq!(wanted(&four([192, 0, 2, 1], b"user\0more")), Some(("192.0.2.1".into(), 443, 13)));
    assert_eq!(wanted(&four([0, 0, 0, 1], b"\0example.com\0GET")), Some(("example.com".into(), 443, 21)));
    assert_eq!(wanted(&four([0, 0, 0, 0], b"\0")), Some(("0.0.0.0".into(), 443, 9)));
}

#[test]
fn px_003_a_nul_never_reaches_a_name() {
    assert!(matches!(name(b"evil.test\0.allowed.com"), Step::Bad(SocksError::Host(_))));
    assert!(matches!(name(b"allowed.com\0"), Step::Bad(SocksError::Host(_))));
    assert!(matches!(name(b"\0"), Step::Bad(SocksError::Host(_))));
    // In 4a the NUL ends the name, and what follows is for the other side.
    assert_eq!(wanted(&four([0, 0, 0, 9], b"\0evil.test\0.allowed.com\0")), Some(("evil.test".into(), 443, 19)));
    assert!(matches!(four([0, 0, 0, 9], b"\0\0"), Step::Bad(SocksError::Host(_))));
}

#[test]
fn px_004_a_name_that_two_readers_take_apart_differently_is_refused() {
    let long = [b'a'; 255];
    let cases: [&[u8]; 16] = [
        b"",
        b"user@evil.test",
        b"evil.test:443",
        b"evil.test#allowed.com",
        b"evil.test/",
        b"%65vil.test",
        b"evil.test\t",
        b"evil.test\r\n",
        b"[allowed.com]",
        b"::1",
        b"127.1",
        b"2130706433",
        b"b\xc3\xbccher.example.com",
        b"\xff",
        b"*.allowed.com",
        &long,
    ];
    for case in cases {
        assert!(matches!(name(case), Step::Bad(SocksError::Host(_))), "{case:?}: {:?}", name(case));
        let text = [b"\0", case, b"\0"].concat();
        assert!(matches!(four([0, 0, 0, 1], &text), Step::Bad(SocksError::Host(_))), "{case:?}");
    }
}

#[test]
fn px_017_only_connections_without_authentication() {
    for command in [0, 2, 3, 4, 255] {
        let step = five(command, 1, &[192, 0, 2, 1], 443);
        assert_eq!(step, Step::Bad(SocksError::Command), "{command}");
        let old = Negotiation::Start.next(&[4, command, 1, 187, 192, 0, 2, 1, 0]);
        assert_eq!(old, Step::Bad(SocksError::Command), "{command}");
    }
    for kind in [0, 2, 5, 255] {
        assert_eq!(five(1, kind, &[192, 0, 2, 1], 443), Step::Bad(SocksError::AddressType));
    }
    for greeting in [&[5, 0][..], &[5, 1, 2], &[5, 2, 1, 2], &[5, 1, 255]] {
        assert_eq!(Negotiation::Start.next(greeting), Step::Bad(SocksError::Method), "{greeting:?}");
    }
    for other in [0, 1, 3, 6, b'G', 0x16, 255] {
        assert_eq!(Negotiation::Start.next(&[other]), Step::Bad(SocksError::Version));
        assert_eq!(Negotiation::V5.next(&[other]), Step::Bad(SocksError::Version));
    }
    assert_eq!(Negotiation::V5.next(&[4, 1, 1, 187, 192, 0, 2, 1, 0]), Step::Bad(SocksError::Version));
    assert_eq!(five(1, 1, &[192, 0, 2, 1], 0), Step::Bad(SocksError::Malformed));
    assert_eq!(Negotiation::Start.next(&[4, 1, 0, 0, 192, 0, 2, 1, 0]), Step::Bad(SocksError::Malformed));
    assert_eq!(Negotiation::V5.next(&[5, 1, 1, 1, 192, 0, 2, 1, 1, 187]), Step::Bad(SocksError::Malformed));
}

#[test]
fn px_017_texts_without_end_are_refused() {
    assert_eq!(four([192, 0, 2, 1], &[b'u'; 255]), Step::More);
    assert_eq!(four([192, 0, 2, 1], &[b'u'; 256]), Step::Bad(SocksError::Malformed));
    let late = [&[b'u'; 256][..], &[0]].concat();
    assert_eq!(four([192, 0, 2, 1], &late), Step::Bad(SocksError::Malformed));
    let name = [&[0][..], &[b'a'; 256]].concat();
    assert_eq!(four([0, 0, 0, 1], &name), Step::Bad(SocksError::Malformed));
}

#[test]
fn replies_are_those_of_the_version() {
    assert_eq!(Negotiation::V5.reply(Reply::Granted), [5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(Negotiation::V5.reply(Reply::NotAllowed), [5, 2, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(Negotiation::V4.reply(Reply::Granted), [0, 90, 0, 0, 0, 0, 0, 0]);
    assert_eq!(Negotiation::V4.reply(Reply::NotAllowed), [0, 91, 0, 0, 0, 0, 0, 0]);
    assert_eq!(Negotiation::Start.refusal(&SocksError::Method), [5, 0xff]);
    assert_eq!(Negotiation::Start.refusal(&SocksError::Version), [0; 0]);
    assert_eq!(Negotiation::V5.refusal(&SocksError::Command), [5, 7, 0, 1, 0, 0, 0, 0, 0, 0]);
    let mut client = Negotiation::Start;
    assert!(matches!(client.next(&[4, 2]), Step::Bad(SocksError::Command)));
    assert_eq!(client.refusal(&SocksError::Command), [0, 91, 0, 0, 0, 0, 0, 0]);
}

proptest! {
    /// Bytes that come one by one lead to the answer that they lead to at once.
    #[test]
    fn every_start_of_a_request_waits_or_answers_as_the_whole(
        start in prop::sample::select(vec![vec![4, 1, 1, 187, 0, 0, 0, 1], vec![5, 1, 0, 3, 5], vec![5, 3], vec![]]),
        rest in prop::collection::vec(prop_oneof![Just(0u8), Just(b'a'), any::<u8>()], 0..40),
        stage in prop::sample::select(vec![Negotiation::Start, Negotiation::V4, Negotiation::V5]),
    ) {
        let bytes = [start, rest].concat();
        let whole = stage.clone().next(&bytes);
        for end in 0..bytes.len() {
            let start = stage.clone().next(&bytes[..end]);
            prop_assert!(start == Step::More || start == whole, "{end}: {start:?} and {whole:?}");
        }
    }
}
