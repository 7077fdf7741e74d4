//! The jail's name service: what is a question, what is answered, and which address stands for which name.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use domain::base::iana::{OptRcode, Rcode};
use domain::base::opt::exterr::ExtendedError;
use domain::base::{Message, Record};
use domain::rdata::AllRecordData;
use jail::proxy::dns::message::{self, Answer, Kind, MAX_ANSWER, MAX_QUERY, Parsed, Query};
use jail::proxy::dns::pool::{Addresses, MAX_NAMES, Pool, REST};
use proptest::prelude::*;

const A: u16 = 1;
const AAAA: u16 = 28;
const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 1, 1));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x18, 1, 0, 0, 0, 0, 1));

fn header(counts: [u16; 4]) -> Vec<u8> {
    let counts = counts.iter().flat_map(|count| count.to_be_bytes());
    [0xab, 0xcd, 1, 0].into_iter().chain(counts).collect()
}

fn labels(labels: &[&[u8]]) -> Vec<u8> {
    let labels = labels.iter().flat_map(|label| [&[label.len() as u8][..], label].concat());
    labels.chain([0]).collect()
}

fn question(name: &[u8], kind: u16, class: u16) -> Vec<u8> {
    [name, &kind.to_be_bytes(), &class.to_be_bytes()].concat()
}

fn opt(version: u8, options: &[u8]) -> Vec<u8> {
    let length = (options.len() as u16).to_be_bytes();
    [&[0, 0, 41, 4, 208, 0, version, 0, 0][..], &length, options].concat()
}

/// A query of a name with a dot between its labels.
fn ask(name: &str, kind: u16) -> Vec<u8> {
    let name: Vec<&[u8]> = name.split('.').map(str::as_bytes).collect();
    [header([1, 0, 0, 0]), question(&labels(&name), kind, 1)].concat()
}

/// The same with an extension record.
fn ask_edns(name: &str, kind: u16, options: &[u8]) -> Vec<u8> {
    let mut bytes = [ask(name, kind), opt(0, options)].concat();
    bytes[11] = 1;
    bytes
}

fn read(bytes: &[u8]) -> Query<'_> {
    match message::parse(bytes) {
        Parsed::Query(query) => query,
        other => panic!("{other:?} for {bytes:?}"),
    }
}

fn host(bytes: &[u8]) -> Option<String> {
    read(bytes).host.map(|host| host.to_string())
}

/// The status of a refusal.
fn rejected(bytes: &[u8]) -> OptRcode {
    match message::parse(bytes) {
        Parsed::Reject(answer) => {
            let message = Message::from_slice(&answer).unwrap();
            assert!(message.header().qr());
            assert_eq!(message.header().id(), 0xabcd);
            assert_eq!(message.header_counts().ancount(), 0);
            message.opt_rcode()
        }
        other => panic!("{other:?} for {bytes:?}"),
    }
}

fn records(answer: &[u8]) -> Vec<String> {
    let message = Message::from_slice(answer).unwrap();
    let section = message.answer().unwrap().limit_to::<AllRecordData<_, _>>();
    section
        .map(|record| {
            let record: Record<_, _> = record.unwrap();
            format!("{} {} {}", record.owner(), record.ttl().as_secs(), record.data())
        })
        .collect()
}

#[test]
fn a_question_gets_the_address_of_its_family() {
    let bytes = ask("API.Example.com", A);
    let query = read(&bytes);
    assert_eq!((query.host.as_ref().unwrap().to_string(), query.kind), ("api.example.com".into(), Kind::V4));
    let answer = query.answer(Answer::Address(V4));
    assert_eq!(records(&answer), ["API.Example.com 60 198.18.1.1"]);
    assert_eq!(records(&query.answer(Answer::Address(V6))), [""; 0]);
    let message = Message::from_slice(&answer).unwrap();
    let header = message.header();
    assert!(header.qr() && header.ra() && header.rd() && !header.aa() && !header.tc());
    assert_eq!((header.id(), header.rcode()), (0xabcd, Rcode::NOERROR));
    // The question is repeated letter for letter: clients compare it.
    assert_eq!(answer[12..33], bytes[12..33]);

    let bytes = ask("api.example.com", AAAA);
    assert_eq!(read(&bytes).kind, Kind::V6);
    assert_eq!(records(&read(&bytes).answer(Answer::Address(V6))), ["api.example.com 60 fd00:18:1::1"]);
    assert_eq!(records(&read(&bytes).answer(Answer::NoData)), [""; 0]);
}

#[test]
fn dn_006_other_types_have_no_records() {
    // TXT, NULL, HTTPS, SVCB, PTR, MX, SRV, CNAME, NS, CAA
    for kind in [16, 10, 65, 64, 12, 15, 33, 5, 2, 257] {
        let bytes = ask("api.example.com", kind);
        let query = read(&bytes);
        assert_eq!(query.kind, Kind::Other, "{kind}");
        for answer in [Answer::NoData, Answer::Address(V4), Answer::Address(V6)] {
            let answer = query.answer(answer);
            assert_eq!(Message::from_slice(&answer).unwrap().header_counts().ancount(), 0);
            assert_eq!(Message::from_slice(&answer).unwrap().header().rcode(), Rcode::NOERROR);
        }
    }
    // ANY, AXFR, IXFR, MAILB, TSIG, TKEY, OPT, 0
    for kind in [255, 252, 251, 253, 250, 249, 41, 0] {
        let bytes = ask("api.example.com", kind);
        assert_eq!(read(&bytes).kind, Kind::Meta, "{kind}");
        let answer = read(&bytes).answer(Answer::NotImplemented);
        assert_eq!(Message::from_slice(&answer).unwrap().header().rcode(), Rcode::NOTIMP);
    }
}

#[test]
fn dn_006_what_is_no_single_question_is_rejected() {
    let name = labels(&[b"api", b"example", b"com"]);
    let one = question(&name, A, 1);
    let record = [&name[..], &[0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]].concat();
    let cases: Vec<Vec<u8>> = vec![
        header([0, 0, 0, 0]),
        header([1, 0, 0, 0]),
        [header([2, 0, 0, 0]), one.clone(), one.clone()].concat(),
        [header([65535, 0, 0, 0]), one.clone()].concat(),
        [header([1, 1, 0, 0]), one.clone(), record.clone()].concat(),
        [header([1, 0, 1, 0]), one.clone(), record.clone()].concat(),
        [header([1, 0, 0, 1]), one.clone(), record].concat(),
        [header([1, 0, 0, 2]), one.clone(), opt(0, &[]), opt(0, &[])].concat(),
        [header([1, 0, 0, 2]), one.clone(), opt(0, &[])].concat(),
        [header([1, 0, 0, 1]), one.clone()].concat(),
        [header([1, 0, 0, 1]), one.clone(), opt(0, &[0, 8, 0, 9, 1])].concat(),
        [header([1, 0, 0, 1]), one.clone(), opt(0, &[])[..9].to_vec()].concat(),
        [header([1, 0, 0, 0]), one.clone(), vec![0]].concat(),
        [header([1, 0, 0, 0]), one.clone(), vec![0; MAX_QUERY]].concat(),
        [header([1, 0, 0, 0]), one[..one.len() - 1].to_vec()].concat(),
        // Labels of unknown kinds, and a name that is too long.
        [header([1, 0, 0, 0]), vec![0x41, b'a', 0, 0, 1, 0, 1]].concat(),
        [header([1, 0, 0, 0]), vec![0x81, b'a', 0, 0, 1, 0, 1]].concat(),
        [header([1, 0, 0, 0]), question(&labels(&[&[b'a'; 63][..]; 4]), A, 1)].concat(),
        ask_edns("api.example.com", A, &[0; MAX_QUERY]),
    ];
    for case in cases {
        assert_eq!(rejected(&case), OptRcode::FORMERR, "{case:?}");
    }
}

#[test]
fn dn_006_compression_in_a_question_is_rejected() {
    let with = |name: &[u8]| [header([1, 0, 0, 0]), question(name, A, 1)].concat();
    for name in [
        // To itself, to one another, ahead, behind the end, into the header.
        &[0xc0, 12][..],
        &[1, b'a', 0xc0, 12],
        &[0xc0, 14, 0xc0, 12],
        &[0xc0, 40],
        &[0xff, 0xff],
        &[0xc0, 0],
        &[3, b'a', b'p', b'i', 0xc0, 4],
    ] {
        assert_eq!(rejected(&with(name)), OptRcode::FORMERR, "{name:?}");
    }
}

#[test]
fn dn_006_answers_and_fragments_are_not_answered() {
    let mut answer = ask("api.example.com", A);
    answer[2] |= 0x80;
    assert!(matches!(message::parse(&answer), Parsed::Ignore));
    for length in 0..12 {
        assert!(matches!(message::parse(&answer[..length]), Parsed::Ignore), "{length}");
    }
}

#[test]
fn dn_006_other_operations_classes_and_versions_are_rejected() {
    for opcode in [1u8, 2, 4, 5, 6, 15] {
        let mut bytes = ask("api.example.com", A);
        bytes[2] = opcode << 3;
        assert_eq!(rejected(&bytes), OptRcode::NOTIMP, "{opcode}");
    }
    let name = labels(&[b"version", b"bind"]);
    for class in [0, 3, 4, 254, 255] {
        let bytes = [header([1, 0, 0, 0]), question(&name, 16, class)].concat();
        assert_eq!(rejected(&bytes), OptRcode::REFUSED, "{class}");
    }
    let bytes = [header([1, 0, 0, 1]), question(&name, A, 1), opt(1, &[])].concat();
    assert_eq!(rejected(&bytes), OptRcode::BADVERS);
}

#[test]
fn px_003_labels_that_are_no_host_name_have_no_host() {
    let host = |name: &[&[u8]]| host(&[header([1, 0, 0, 0]), question(&labels(name), A, 1)].concat());
    assert_eq!(host(&[b"a_b", b"Example", b"com"]).unwrap(), "a_b.example.com");
    let cases: [&[&[u8]]; 14] = [
        &[],
        &[b"evil.test\0", b"allowed", b"com"],
        &[b"evil", b"test\0.allowed.com"],
        &[b"evil.test", b"allowed.com"],
        &[b"allowed.com"],
        &[b"a b", b"com"],
        &[b"*", b"allowed", b"com"],
        &[b"a\\.b", b"com"],
        &[b"b\xc3\xbccher", b"com"],
        &[b"\xff", b"com"],
        &[b"192", b"0", b"2", b"1"],
        &[b"127", b"1"],
        &[b"-a", b"com"],
        &[b"a:443"],
    ];
    for case in cases {
        assert_eq!(host(case), None, "{case:?}");
    }
}

#[test]
fn dn_001_a_refusal_says_why_and_fits() {
    let long = [&"a".repeat(63)[..], &"b".repeat(63), &"c".repeat(63), &"d".repeat(61)].join(".");
    for name in ["evil.test", &long] {
        let bytes = ask_edns(name, A, &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
        let text = "é".repeat(500);
        let answer = read(&bytes).answer(Answer::Denied(&text));
        assert!(answer.len() <= MAX_ANSWER, "{}", answer.len());
        let message = Message::from_slice(&answer).unwrap();
        assert_eq!((message.header().rcode(), message.header_counts().ancount()), (Rcode::NXDOMAIN, 0));
        let opt = message.opt().unwrap();
        let errors: Vec<ExtendedError<_>> = opt.opt().iter().map(Result::unwrap).collect();
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].code().to_int(), 15);
        assert_eq!(errors[0].text_slice().unwrap(), "é".repeat(100).as_bytes());
        // The cookie and everything else the client sent stays out.
        assert_eq!(opt.opt().iter::<domain::base::opt::UnknownOptData<_>>().count(), 1);
        // The longest positive answer.
        let answer = read(&ask_edns(name, AAAA, &[])).answer(Answer::Address(V6));
        assert_eq!(records(&answer).len(), 1);
        assert!(answer.len() <= MAX_ANSWER, "{}", answer.len());
    }
    // Who did not ask for extensions gets none.
    let answer = read(&ask("evil.test", A)).answer(Answer::Denied("no"));
    let message = Message::from_slice(&answer).unwrap();
    assert_eq!((message.header().rcode(), message.header_counts().arcount()), (Rcode::NXDOMAIN, 0));
    let answer = read(&ask("evil.test", A)).answer(Answer::Failed);
    assert_eq!(Message::from_slice(&answer).unwrap().header().rcode(), Rcode::SERVFAIL);
}

#[test]
fn a_name_keeps_its_addresses_and_they_stand_for_it() {
    let mut pool = Pool::default();
    let now = Instant::now();
    let first = pool.addresses_of("a.example.com", now).unwrap();
    assert_eq!((IpAddr::from(first.v4), IpAddr::from(first.v6)), (V4, V6));
    let second = pool.addresses_of("b.example.com", now).unwrap();
    assert_ne!(first, second);
    assert_eq!(pool.addresses_of("a.example.com", now + REST * 9).unwrap(), first);
    let name = |address: IpAddr| pool.name_of(address).map(|host| host.to_string());
    for address in [V4, V6, "::ffff:198.18.1.1".parse().unwrap()] {
        assert_eq!(name(address).as_deref(), Some("a.example.com"));
    }
    assert_eq!(name(second.v6.into()).as_deref(), Some("b.example.com"));
    for other in [
        "198.18.1.0",
        "198.18.1.3",
        "198.18.0.1",
        "198.20.0.0",
        "192.0.2.1",
        "0.0.0.0",
        "255.255.255.255",
        "fd00:18:1::",
        "fd00:18:1::3",
        "fd00:18:1:1::1",
        "fd00:18::1",
        "fd00:18:2::1",
        "::",
        "::1",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ] {
        assert_eq!(name(other.parse().unwrap()), None, "{other}");
    }
}

#[test]
fn an_address_in_use_is_never_another_name_s() {
    let mut pool = Pool::new(2);
    let now = Instant::now();
    let a = pool.addresses_of("a.example.com", now).unwrap();
    let b = pool.addresses_of("b.example.com", now + Duration::from_secs(10)).unwrap();
    // Told a short while ago.
    assert_eq!(pool.addresses_of("c.example.com", now + REST - Duration::from_secs(1)), None);
    assert_eq!(pool.name_of(a.v4.into()).unwrap().to_string(), "a.example.com");
    // Connected to, for longer than that.
    assert_eq!(pool.hold(a.v6.into(), now).unwrap().to_string(), "a.example.com");
    assert_eq!(pool.hold(a.v4.into(), now).unwrap().to_string(), "a.example.com");
    assert_eq!(pool.addresses_of("c.example.com", now + REST), None);
    let later = now + REST * 10;
    assert_eq!(pool.addresses_of("c.example.com", later), Some(b));
    assert_eq!(pool.name_of(b.v4.into()).unwrap().to_string(), "c.example.com");
    assert_eq!(pool.addresses_of("d.example.com", later), None);
    pool.release(a.v4.into(), later);
    assert_eq!(pool.addresses_of("d.example.com", later + REST), Some(b), "one connection is still open");
    pool.release(a.v4.into(), later);
    assert_eq!(pool.addresses_of("e.example.com", later + REST), Some(a));
    // The names that lost theirs are as new.
    assert_eq!(pool.addresses_of("a.example.com", later + REST), None);
    assert_eq!(pool.hold("198.18.1.9".parse().unwrap(), now), None);
}

#[test]
fn the_pool_is_bounded() {
    let mut pool = Pool::new(usize::MAX);
    let now = Instant::now();
    let last = (0..130_815).map(|n| pool.addresses_of(&format!("n{n}.example.com"), now)).last().unwrap().unwrap();
    assert_eq!(last, Addresses { v4: [198, 19, 255, 255].into(), v6: "fd00:18:1::1:feff".parse().unwrap() });
    assert_eq!(pool.addresses_of("one.more.example.com", now), None);
    let mut pool = Pool::default();
    assert!((0..MAX_NAMES).all(|n| pool.addresses_of(&format!("n{n}.example.com"), now).is_some()));
    assert_eq!(pool.addresses_of("one.more.example.com", now), None);
}

/// A query with something changed: hostile, but near enough to be looked at.
fn changed() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let cut = prop::option::of(any::<prop::sample::Index>());
    (any::<bool>(), changes, cut).prop_map(|(edns, changes, cut)| {
        let options = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
        let mut bytes = if edns { ask_edns("api.example.com", A, &options) } else { ask("api.example.com", AAAA) };
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes
    })
}

proptest! {
    #[test]
    fn any_query_has_an_answer_that_fits(bytes in changed()) {
        match message::parse(&bytes) {
            Parsed::Query(query) => {
                for answer in [Answer::Address(V4), Answer::Address(V6), Answer::NoData, Answer::Denied("no"), Answer::Failed] {
                    let answer = query.answer(answer);
                    prop_assert!(answer.len() <= MAX_ANSWER);
                    let message = Message::from_slice(&answer).unwrap();
                    prop_assert!(message.is_answer(Message::from_slice(&bytes).unwrap()));
                    prop_assert!(message.iter().all(|record| record.is_ok()));
                }
            }
            Parsed::Reject(answer) => prop_assert!(answer.len() <= 64 && answer[..2] == bytes[..2]),
            Parsed::Ignore => {}
        }
    }

    #[test]
    fn any_bytes_are_looked_at(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = message::parse(&[header([1, 0, 0, 1]), bytes].concat());
    }

    /// Whatever happens, an address that was told or connected to stands for the same name until it rested.
    #[test]
    fn the_pool_never_tells_one_address_for_two_names(steps in prop::collection::vec((0u8..6, 0u64..2000, any::<bool>()), 0..60)) {
        let mut pool = Pool::new(3);
        let mut now = Instant::now();
        let mut told: std::collections::HashMap<Ipv4Addr, (u8, Instant)> = Default::default();
        for (name, seconds, connect) in steps {
            now += Duration::from_secs(seconds);
            let Some(Addresses { v4, .. }) = pool.addresses_of(&format!("n{name}.test"), now) else { continue };
            if let Some((before, since)) = told.insert(v4, (name, now)) {
                prop_assert!(before == name || now.duration_since(since) >= REST);
            }
            if connect {
                prop_assert_eq!(pool.hold(v4.into(), now).unwrap().to_string(), format!("n{name}.test"));
                pool.release(v4.into(), now);
            }
        }
    }
}
