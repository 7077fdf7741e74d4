//! The TLS client hello: what is read from it, and what is never taken for one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use jail::proxy::hello::{self, ClientHello, HelloError, MAX_LEN, Progress};
use proptest::prelude::*;

/// A value behind its length in `width` bytes.
fn sized(width: usize, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_be_bytes();
    [&length[8 - width..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &sized(2, content)].concat()
}

/// The server name extension with these entries.
fn names(entries: &[(u8, &[u8])]) -> Vec<u8> {
    let list: Vec<u8> = entries.iter().flat_map(|(kind, name)| [&[*kind][..], &sized(2, name)].concat()).collect();
    extension(0, &sized(2, &list))
}

fn name(name: &[u8]) -> Vec<u8> {
    names(&[(0, name)])
}

fn alpn(protocols: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = protocols.iter().flat_map(|protocol| sized(1, protocol)).collect();
    extension(16, &sized(2, &list))
}

/// The handshake message, with `extensions` as they are.
fn message(extensions: Option<&[u8]>) -> Vec<u8> {
    let extensions = extensions.map(|bytes| sized(2, bytes)).unwrap_or_default();
    message_of(1, &[9; 32], &[0x13, 1, 0x13, 2], &[0], &extensions)
}

/// A handshake message of these parts.
fn message_of(kind: u8, session: &[u8], ciphers: &[u8], compression: &[u8], extensions: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend(sized(1, session));
    body.extend(sized(2, ciphers));
    body.extend(sized(1, compression));
    body.extend(extensions);
    [&[kind][..], &sized(3, &body)].concat()
}

fn record(content: &[u8]) -> Vec<u8> {
    [&[22, 3, 1][..], &sized(2, content)].concat()
}

/// A hello in one record with these extensions.
fn wire(extensions: &[Vec<u8>]) -> Vec<u8> {
    record(&message(Some(&extensions.concat())))
}

fn read(bytes: &[u8]) -> ClientHello {
    match hello::parse(bytes) {
        Progress::Hello(hello) => hello,
        other => panic!("{other:?}"),
    }
}

fn bad(bytes: &[u8]) -> HelloError {
    match hello::parse(bytes) {
        Progress::Bad(error) => error,
        other => panic!("{other:?} for {bytes:?}"),
    }
}

fn server(bytes: &[u8]) -> Option<String> {
    read(bytes).server_name.map(|host| host.to_string())
}

/// Cuts a message into records of `size` bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(record).collect()
}

#[test]
fn a_hello_says_where_it_wants_to_go() {
    let bytes = wire(&[extension(0x2a2a, b""), name(b"API.Example.com"), alpn(&[b"h2", b"http/1.1"])]);
    let hello = read(&bytes);
    assert_eq!(hello.server_name.unwrap().to_string(), "api.example.com");
    assert_eq!(hello.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert!(!hello.ech);
    assert_eq!(hello.len, bytes.len());
    // What follows in further records is the rest of the stream.
    assert_eq!(read(&[&bytes[..], &[20, 3, 3, 0, 1, 1]].concat()).len, bytes.len());
    assert_eq!(server(&wire(&[alpn(&[b"h2"])])), None);
    assert_eq!(server(&record(&message(None))), None);
}

#[test]
fn tl_001_only_one_plain_name_is_a_server_name() {
    assert_eq!(server(&wire(&[name(b"UPPER.example.com")])).unwrap(), "upper.example.com");
    let long = [&[b'a'; 63][..], b".", &[b'b'; 63], b".", &[b'c'; 63], b".", &[b'd'; 63], b".e"].concat();
    let cases: [&[u8]; 19] = [
        b"",
        b"192.0.2.1",
        b"[2001:db8::1]",
        b"2001:db8::1",
        b"2130706433",
        b"0x7f.1",
        b"allowed.com:443",
        b"allowed.com.",
        b"evil.test\0.allowed.com",
        b"allowed.com\0",
        b"\0",
        b"evil.test%00.allowed.com",
        b"*.allowed.com",
        b"user@allowed.com",
        b"allowed.com/evil",
        b"b\xc3\xbccher.example.com",
        b"\xff\xfe",
        b" allowed.com",
        &long,
    ];
    for case in cases {
        let error = bad(&wire(&[name(case)]));
        assert!(
            matches!(error, HelloError::ServerName(_) | HelloError::Address | HelloError::Malformed(_)),
            "{case:?}: {error:?}"
        );
    }
    assert!(matches!(bad(&wire(&[name(b"192.0.2.1")])), HelloError::Address));
    assert!(matches!(bad(&wire(&[name(b"allowed.com.")])), HelloError::Malformed(_)));
    assert!(matches!(bad(&wire(&[name(&[b'a'; 256])])), HelloError::ServerName(_)));
}

#[test]
fn tl_001_two_server_names_are_none() {
    for extensions in [
        names(&[(0, b"allowed.com"), (0, b"evil.test")]),
        names(&[(0, b"allowed.com"), (1, b"evil.test")]),
        names(&[(1, b"evil.test"), (0, b"allowed.com")]),
        names(&[(1, b"allowed.com")]),
        names(&[]),
        extension(0, b""),
        extension(0, &[&sized(2, &[&[0][..], &sized(2, b"allowed.com")].concat())[..], b"x"].concat()),
        [name(b"allowed.com"), name(b"evil.test")].concat(),
        [name(b"allowed.com"), name(b"allowed.com")].concat(),
    ] {
        assert!(matches!(bad(&wire(std::slice::from_ref(&extensions))), HelloError::Malformed(_)), "{extensions:?}");
    }
}

#[test]
fn tl_007_a_hidden_name_is_seen() {
    for kind in [0xfe0d, 0xfe0a, 0xfe08, 0xffce] {
        let hello = read(&wire(&[name(b"outer.example.com"), extension(kind, &[0; 40])]));
        assert!(hello.ech, "{kind:#x}");
    }
    assert!(!read(&wire(&[name(b"outer.example.com"), extension(0xfe00, b"")])).ech);
}

#[test]
fn tl_008_a_hello_in_pieces_is_the_same_hello() {
    let message = message(Some(&[extension(51, &[1; 1300]), name(b"late.example.com"), alpn(&[b"h2"])].concat()));
    let whole = read(&record(&message));
    for size in [12, 13, 64, 700, 1200, message.len() - 1] {
        let bytes = records(&message, size);
        let hello = read(&bytes);
        assert_eq!(hello, ClientHello { len: bytes.len(), ..whole.clone() }, "{size}");
        for end in 0..bytes.len() {
            assert_eq!(hello::parse(&bytes[..end]), Progress::More, "{size}: {end}");
        }
    }
    assert_eq!(bad(&records(&message, 4)), HelloError::TooLarge);
}

#[test]
fn tl_008_record_versions_say_nothing_but_other_protocols_are_seen_at_once() {
    let mut bytes = wire(&[name(b"a.example.com")]);
    for minor in [0, 1, 2, 3, 4, 255] {
        bytes[2] = minor;
        assert_eq!(server(&bytes).unwrap(), "a.example.com");
    }
    bytes[1] = 2;
    assert_eq!(bad(&bytes), HelloError::NotTls);
    let sslv2 = [0x80, 0x2e, 1, 3, 1, 0, 0x15];
    let others: [&[u8]; 8] =
        [&sslv2, b"G", b"SSH-2.0-x\r\n", b"PRI * HTTP/2.0", &[0, 0, 0, 8], &[5, 1, 0], &[23, 3, 3], &[22, 254, 253]];
    for other in others {
        assert_eq!(bad(other), HelloError::NotTls, "{other:?}");
    }
}

#[test]
fn tl_008_sizes_are_bounded() {
    let large = message(Some(&[extension(21, &[0; 40_000]), name(b"a.example.com")].concat()));
    assert_eq!(server(&records(&large, 1 << 14)).unwrap(), "a.example.com");
    // The message announces more than is ever read: refused by its first bytes.
    assert_eq!(bad(&[22, 3, 1, 0, 4, 1, 1, 0, 1]), HelloError::TooLarge);
    assert_eq!(bad(&record(&[1, 255, 255, 255])), HelloError::TooLarge);
    assert!(matches!(bad(&[22, 3, 1, 0x40, 1]), HelloError::Record(_)));
    assert!(matches!(bad(&[22, 3, 1, 0, 0]), HelloError::Record(_)));
    let mut endless = vec![1, 1, 0, 0];
    endless.resize(4 + MAX_LEN, 0);
    let bytes = records(&endless, 1 << 14);
    assert_eq!(hello::parse(&bytes[..MAX_LEN - 1]), Progress::More);
    assert_eq!(bad(&bytes), HelloError::TooLarge);
    let many: Vec<Vec<u8>> = (1000..1300).map(|kind| extension(kind, b"")).collect();
    assert!(matches!(bad(&wire(&many)), HelloError::Malformed(_)));
    assert!(matches!(bad(&wire(&[alpn(&[&b"x"[..]; 65])])), HelloError::Malformed(_)));
}

#[test]
fn messages_that_libraries_read_differently_are_refused() {
    let good = message(Some(&name(b"a.example.com")));
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut body = good[4..].to_vec();
        change(&mut body);
        record(&[&[1][..], &sized(3, &body)].concat())
    };
    assert_eq!(server(&with(&|_| ())).unwrap(), "a.example.com");
    assert_eq!(server(&record(&message_of(1, &[], &[0x13, 1], &[1, 0], &[]))), None);
    let cases: Vec<Vec<u8>> = vec![
        with(&|body| body[0] = 2),
        record(&message_of(1, &[9; 33], &[0x13, 1], &[0], &[])),
        record(&message_of(1, &[9; 32], &[], &[0], &[])),
        record(&message_of(1, &[9; 32], &[0x13, 1, 0x13], &[0], &[])),
        record(&message_of(1, &[9; 32], &[0x13, 1], &[], &[])),
        record(&message_of(1, &[9; 32], &[0x13, 1], &[1], &[])),
        record(&message_of(2, &[9; 32], &[0x13, 1], &[0], &[])),
        with(&|body| body.push(0)),
        with(&|body| body.truncate(body.len() - 1)),
        with(&|body| body.truncate(20)),
        with(&|body| body.truncate(70)),
        // More in the record after the message, and another message in it.
        record(&[&good[..], &[0]].concat()),
        record(&[&good[..], &good[..]].concat()),
        record(&[2, 0, 0, 1, 0]),
        wire(&[alpn(&[])]),
        wire(&[alpn(&[b""])]),
        wire(&[extension(16, &[0, 3, 2, b'h', b'2', 0])]),
        wire(&[name(b"a.example.com"), vec![0, 51, 0]]),
        wire(&[extension(51, b""), extension(51, b"")]),
    ];
    for case in cases {
        assert!(matches!(bad(&case), HelloError::Malformed(_)), "{case:?}: {:?}", bad(&case));
    }
    let mut interleaved = records(&good, 50);
    interleaved.splice(55..55, [21, 3, 3, 0, 2, 1, 0]);
    assert!(matches!(bad(&interleaved), HelloError::Record(_)));
}

#[test]
fn an_alert_is_a_record() {
    assert_eq!(hello::alert(hello::description::UNRECOGNIZED_NAME), [21, 3, 3, 0, 2, 2, 112]);
}

/// A hello with something changed: hostile, but near enough to be looked at.
fn changed() -> impl Strategy<Value = Vec<u8>> {
    let extensions = prop::collection::vec((0u16..20, prop::collection::vec(any::<u8>(), 0..20)), 0..6);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    (extensions, changes, 8usize..400).prop_map(|(extensions, changes, size)| {
        let extensions: Vec<u8> = extensions.iter().flat_map(|(kind, data)| extension(*kind, data)).collect();
        let mut bytes = records(&message(Some(&[name(b"a.example.com"), extensions].concat())), size);
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    /// Bytes that come one by one lead to the answer that they lead to at once.
    #[test]
    fn every_start_of_a_hello_waits_or_answers_as_the_whole(bytes in changed()) {
        let whole = hello::parse(&bytes);
        for end in 0..bytes.len() {
            let start = hello::parse(&bytes[..end]);
            prop_assert!(start == Progress::More || start == whole, "{end}: {start:?} and {whole:?}");
        }
        if let Progress::Hello(hello) = whole {
            prop_assert_eq!(hello::parse(&bytes[..hello.len]), Progress::Hello(hello.clone()));
            prop_assert_eq!(hello::parse(&bytes[..hello.len - 1]), Progress::More);
        }
    }

    #[test]
    fn any_bytes_have_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = hello::parse(&bytes);
        let _ = hello::parse(&[&[22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3][..], &bytes].concat());
    }
}
