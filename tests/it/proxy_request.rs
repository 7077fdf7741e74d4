//! Requests: where they go, how long they are, and what of them is passed on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use jail::policy::authority::AuthorityError;
use jail::proxy::http::body::{Framing, FramingError};
use jail::proxy::http::head::{HeadError, MAX_HEAD, Progress};
use jail::proxy::http::hop::HopError;
use jail::proxy::http::request::{Forward, Request, RequestError, Scheme, Target};
use proptest::prelude::*;

fn read(bytes: &[u8]) -> Request<'_> {
    match Request::parse(bytes) {
        Progress::Head(request) => request,
        other => panic!("{other:?} for {:?}", String::from_utf8_lossy(bytes)),
    }
}

fn bad(bytes: impl AsRef<[u8]>) -> RequestError {
    match Request::parse(bytes.as_ref()) {
        Progress::Bad(error) => error,
        other => panic!("{other:?} for {:?}", String::from_utf8_lossy(bytes.as_ref())),
    }
}

/// A POST with these lines after its `Host`.
fn post(lines: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: example.com\r\n{lines}\r\n\r\n")
}

fn get(lines: &str) -> String {
    format!("GET /a HTTP/1.1\r\nHost: example.com\r\n{lines}\r\n\r\n")
}

fn passed_on(bytes: &str, forward: &Forward<'_>) -> String {
    let mut out = Vec::new();
    read(bytes.as_bytes()).write(forward, &mut out);
    String::from_utf8(out).unwrap()
}

fn authority(text: &str) -> Option<String> {
    read(text.as_bytes()).authority.map(|authority| authority.to_string())
}

#[test]
fn the_four_forms_of_a_target() {
    let text = "GET /a?b=c HTTP/1.1\r\nHost: Example.com:8080\r\nAccept: */*\r\n\r\nrest";
    let request = read(text.as_bytes());
    assert_eq!(request.target, Target::Origin { path: b"/a?b=c" });
    assert_eq!(request.authority.as_ref().unwrap().to_string(), "example.com:8080");
    assert_eq!((request.port(), request.framing, request.head.len), (Some(8080), Framing::None, text.len() - 4));

    let request = read(b"GET HTTP://example.com?q HTTP/1.1\r\nhost: EXAMPLE.com:80\r\n\r\n");
    assert_eq!(request.target, Target::Absolute { scheme: Scheme::Http, path: b"?q" });
    assert_eq!(request.port(), Some(80));
    assert_eq!(read(b"GET https://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n").port(), Some(443));

    assert_eq!(read(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n").target, Target::Connect);
    assert_eq!(authority("CONNECT [::1]:22 HTTP/1.1\r\nHost: [::1]:22\r\n\r\n").unwrap(), "[::1]:22");
    assert_eq!(read(b"OPTIONS * HTTP/1.1\r\nHost: example.com\r\n\r\n").target, Target::Asterisk);
    assert_eq!(authority("GET / HTTP/1.0\r\n\r\n"), None);
    assert_eq!(authority("CONNECT example.com:443 HTTP/1.0\r\n\r\n").unwrap(), "example.com:443");
}

#[test]
fn px_003_a_nul_never_reaches_a_name() {
    for text in [
        "CONNECT evil.test\0.allowed.com:443 HTTP/1.1\r\nHost: allowed.com\r\n\r\n",
        "CONNECT evil.test%00.allowed.com:443 HTTP/1.1\r\nHost: evil.test%00.allowed.com:443\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: evil.test\0.allowed.com\r\n\r\n",
        "GET http://evil.test\0.allowed.com/ HTTP/1.1\r\nHost: allowed.com\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: allowed.com\r\n\r\n",
    ] {
        assert_eq!(bad(text).status(), 400, "{text:?}");
    }
}

#[test]
fn px_004_an_authority_that_two_readers_take_apart_differently_is_refused() {
    for host in [
        "allowed.com@evil.test:443",
        "allowed.com:443@evil.test:443",
        "evil.test#allowed.com:443",
        "evil.test/allowed.com:443",
        "evil.test/:443",
        "allowed.com\\@evil.test:443",
        "%65vil.test:443",
        "evil.test\t:443",
        "evil.test\r:443",
        "evil\u{3002}test:443",
        "evil\u{200b}.test:443",
        "\u{feff}evil.test:443",
        "[allowed.com]:443",
        "evil.test:+443",
        "evil.test:00443",
        "evil.test:0",
        "evil.test:65536",
        "evil.test:",
        "127.1:443",
        "0x7f000001:443",
        ":443",
        "\"evil.test\":443",
    ] {
        for text in [
            format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            format!("CONNECT {host} HTTP/1.0\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        ] {
            assert_eq!(bad(&text).status(), 400, "{text:?}");
        }
        // In a URL a slash or number sign ends the authority: the first is right there, the second is never sent.
        if !host.contains('/') {
            assert_eq!(bad(format!("GET http://{host}/ HTTP/1.0\r\n\r\n")).status(), 400, "{host:?}");
        }
    }
    assert_eq!(bad("CONNECT example.com HTTP/1.1\r\nHost: example.com\r\n\r\n"), RequestError::NoPort);
    assert_eq!(bad("GET / HTTP/1.1\r\nHost:\r\n\r\n").status(), 400);
    assert!(matches!(bad("GET / HTTP/1.1\r\nHost: a:0\r\n\r\n"), RequestError::Authority(AuthorityError::Port)));
}

#[test]
fn px_006_target_and_host_agree() {
    for text in [
        "GET http://allowed.com/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        "GET http://evil.test/ HTTP/1.1\r\nHost: allowed.com\r\n\r\n",
        "GET http://allowed.com/ HTTP/1.1\r\nHost: allowed.com:8080\r\n\r\n",
        "GET http://allowed.com:8080/ HTTP/1.1\r\nHost: allowed.com\r\n\r\n",
        "GET https://allowed.com/ HTTP/1.1\r\nHost: allowed.com:80\r\n\r\n",
        "GET http://allowed.com/ HTTP/1.0\r\nHost: evil.test\r\n\r\n",
        "CONNECT allowed.com:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n",
        "CONNECT allowed.com:443 HTTP/1.1\r\nHost: allowed.com:22\r\n\r\n",
    ] {
        assert_eq!(bad(text), RequestError::HostMismatch, "{text}");
    }
    for text in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET http://allowed.com/ HTTP/1.1\r\n\r\n",
        "CONNECT allowed.com:443 HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: allowed.com\r\nHost: evil.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: allowed.com\r\nhost: allowed.com\r\n\r\n",
        "GET http://allowed.com/ HTTP/1.0\r\nHost: allowed.com\r\nHOST: evil.test\r\n\r\n",
    ] {
        assert_eq!(bad(text), RequestError::Host, "{text}");
    }
    for text in [
        "GET http://allowed.com/ HTTP/1.1\r\nHost: allowed.com:80\r\n\r\n",
        "GET http://allowed.com:80/ HTTP/1.1\r\nHost: allowed.com\r\n\r\n",
        "GET https://ALLOWED.com./ HTTP/1.1\r\nHost: allowed.com:443\r\n\r\n",
    ] {
        assert_eq!(read(text.as_bytes()).authority.unwrap().host.to_string(), "allowed.com");
    }
    assert!(matches!(bad("GET / HTTP/1.1\r\nHost: allowed.com, evil.test\r\n\r\n"), RequestError::Authority(_)));
}

#[test]
fn targets_of_other_forms_are_refused() {
    for line in [
        "GET allowed.com/ HTTP/1.1",
        "GET allowed.com:80 HTTP/1.1",
        "GET * HTTP/1.1",
        "GET ftp://allowed.com/ HTTP/1.1",
        "GET file:///etc/passwd HTTP/1.1",
        "GET http:/allowed.com/ HTTP/1.1",
        "GET http:///allowed.com/ HTTP/1.1",
        "GET //evil.test#/ HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET /a\\..\\b HTTP/1.1",
        "GET http://allowed.com\\@evil.test/ HTTP/1.1",
        "CONNECT http://allowed.com:443/ HTTP/1.1",
        "CONNECT /allowed.com:443 HTTP/1.1",
        "CONNECT * HTTP/1.1",
    ] {
        assert_eq!(bad(format!("{line}\r\nHost: allowed.com\r\n\r\n")).status(), 400, "{line}");
    }
}

#[test]
fn px_008_a_length_that_is_not_plain_is_refused() {
    let cases = [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", FramingError::Both),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", FramingError::Both),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0", FramingError::Both),
        ("Content-Length: 5\r\nContent-Length: 6", FramingError::Length),
        ("Content-Length: 5\r\ncontent-length: 5", FramingError::Length),
        ("Content-Length: 5, 5", FramingError::Length),
        ("Content-Length: 5,6", FramingError::Length),
        ("Content-Length: +5", FramingError::Length),
        ("Content-Length: -5", FramingError::Length),
        ("Content-Length: 0x5", FramingError::Length),
        ("Content-Length: 5 5", FramingError::Length),
        ("Content-Length: 5;", FramingError::Length),
        ("Content-Length: 5.0", FramingError::Length),
        ("Content-Length: 05", FramingError::Length),
        ("Content-Length:", FramingError::Length),
        ("Content-Length: \"5\"", FramingError::Length),
        ("Content-Length: ５", FramingError::Length),
        ("Content-Length: 9223372036854775808", FramingError::Length),
        ("Content-Length: 18446744073709551616", FramingError::Length),
        ("Content-Length: 99999999999999999999999", FramingError::Length),
        ("Transfer-Encoding: xchunked", FramingError::Coding),
        ("Transfer-Encoding: chunked, identity", FramingError::Coding),
        ("Transfer-Encoding: identity, chunked", FramingError::Coding),
        ("Transfer-Encoding: chunked, chunked", FramingError::Coding),
        ("Transfer-Encoding: gzip, chunked", FramingError::Coding),
        ("Transfer-Encoding: identity", FramingError::Coding),
        ("Transfer-Encoding: chunked;a=b", FramingError::Coding),
        ("Transfer-Encoding: \"chunked\"", FramingError::Coding),
        ("Transfer-Encoding: ,chunked", FramingError::Coding),
        ("Transfer-Encoding: chunked,", FramingError::Coding),
        ("Transfer-Encoding:", FramingError::Coding),
        ("Transfer-Encoding: \u{a0}chunked", FramingError::Coding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", FramingError::Coding),
        ("Transfer-Encoding: chunked\r\nTransfer-encoding: x", FramingError::Coding),
        ("Transfer-Encoding: x\r\nTransfer-Encoding: chunked", FramingError::Coding),
    ];
    for (lines, error) in cases {
        assert_eq!(bad(post(lines)), RequestError::Framing(error), "{lines:?}");
    }
    let old = "POST / HTTP/1.0\r\nHost: a.example.com\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(bad(old), RequestError::Framing(FramingError::OldVersion));
    let framing = |lines: &str| read(post(lines).as_bytes()).framing;
    assert_eq!(framing("Content-Length: \t 5 \t"), Framing::Length(5));
    assert_eq!(framing("Content-Length: 9223372036854775807"), Framing::Length(i64::MAX as u64));
    assert_eq!(framing("transfer-encoding: Chunked"), Framing::Chunked);
    assert_eq!(framing("Content-Length: 0"), Framing::Length(0));
    assert_eq!(framing("Accept: a"), Framing::None);
}

#[test]
fn px_008_fields_that_servers_read_differently_are_refused() {
    for lines in [
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        "Transfer-Encoding:\x0bchunked",
        "Transfer-Encoding:\x0cchunked",
        "Transfer-Encoding: chunked\x00",
        "Transfer-Encoding: \x7fchunked",
        "\x0bTransfer-Encoding: chunked",
        "Transfer-\rEncoding: chunked",
        "Transfer_Encoding: chunked",
        "Content_Length: 5",
        "content_length: 5",
        "Content-Length : 5",
        "Foo",
        ": 5",
        "Foo\u{e9}: 5",
        "\"Foo\": 5",
        "(Foo): 5",
        "Foo: a\rb",
    ] {
        let error = bad(post(lines));
        assert!(matches!(error, RequestError::Head(HeadError::Field)), "{lines:?}: {error:?}");
    }
    for lines in ["Foo: bar\r\n Transfer-Encoding: chunked", "Foo: bar\r\n\tbaz", " Foo: bar", "Foo:\r\n bar"] {
        assert_eq!(bad(post(lines)), RequestError::Head(HeadError::Folded), "{lines:?}");
    }
    for text in [
        "GET / HTTP/1.1\nHost: a.example.com\n\n",
        "GET / HTTP/1.1\r\nHost: a.example.com\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example.com\r\nA: b\nContent-Length: 5\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example.com\r\n\n",
    ] {
        assert_eq!(bad(text), RequestError::Head(HeadError::LineEnd), "{text:?}");
    }
}

#[test]
fn px_008_request_lines_have_three_parts_and_one_space_between_them() {
    for line in [
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /",
        "GET",
        "GET / HTTP/1.1 x",
        "G(T / HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "GET /\x7f HTTP/1.1",
        "GET /a\rb HTTP/1.1",
        &format!("{} / HTTP/1.1", "M".repeat(33)),
    ] {
        assert!(
            matches!(bad(format!("{line}\r\nHost: a\r\n\r\n")), RequestError::Head(HeadError::RequestLine)),
            "{line}"
        );
    }
    for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "http/1.1", "HTTP/1.10", "HTTP/01.1", "HTTP/1", "ICY"] {
        let error = bad(format!("GET / {version}\r\nHost: a\r\n\r\n"));
        assert_eq!((&error, error.status()), (&RequestError::Head(HeadError::Version), 505), "{version}");
    }
    assert_eq!(bad("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status(), 505);
    assert_eq!(bad("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), RequestError::Head(HeadError::RequestLine));
    assert_eq!(bad([0x16]), RequestError::Head(HeadError::RequestLine));
}

#[test]
fn px_008_methods_without_content_have_none() {
    for (method, target) in [("CONNECT", "example.com:443"), ("TRACE", "/")] {
        for lines in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
            let text = format!("{method} {target} HTTP/1.1\r\nHost: example.com\r\n{lines}\r\n\r\n");
            assert_eq!(bad(text), RequestError::Framing(FramingError::Unexpected));
        }
        read(format!("{method} {target} HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n").as_bytes());
    }
}

#[test]
fn px_008_expectations_that_servers_read_differently_are_refused() {
    for lines in [
        "Expect: 100-continue, x",
        "Expect: y 100-continue",
        "Expect: 200-ok",
        "Expect:",
        "Expect: 100-continue\r\nExpect: 100-continue",
    ] {
        assert_eq!(bad(post(lines)).status(), 417, "{lines}");
    }
    assert!(read(post("Content-Length: 1\r\nExpect: 100-Continue").as_bytes()).expects_continue);
    let with_body = passed_on(&post("Content-Length: 1\r\nExpect: 100-continue"), &Forward::default());
    assert!(with_body.contains("Expect: 100-continue\r\n"));
    let without = passed_on(&post("Expect: 100-continue"), &Forward::default());
    assert!(!without.to_lowercase().contains("expect"), "{without}");
}

#[test]
fn px_012_only_a_whole_websocket_handshake_is_passed_on() {
    let handshake = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: \
                     dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat";
    let text = get(handshake);
    assert!(read(text.as_bytes()).websocket.is_some());
    let passed = passed_on(&text, &Forward { websocket: true, ..Forward::default() });
    assert!(
        passed.ends_with("Sec-WebSocket-Protocol: chat\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        "{passed}"
    );
    // Where the policy has none, the request loses it.
    let stripped = passed_on(&text, &Forward::default()).to_lowercase();
    assert!(!stripped.contains("\nupgrade:") && !stripped.contains("connection:"), "{stripped}");

    // As Java sends it.
    let empty = get(&format!("{handshake}\r\nContent-Length: 0"));
    assert!(read(empty.as_bytes()).websocket.is_some());

    for (from, to) in [
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 12"),
        ("Sec-WebSocket-Version: 13", "X: y"),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZT=="),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ=="),
        ("dGhlIHNhbXBsZSBub25jZQ==", "!!!!IHNhbXBsZSBub25jZQ=="),
        ("dGhlIHNhbXBsZSBub25jZQ==", ""),
        ("Sec-WebSocket-Key:", "Sec-WebSocket-Other:"),
        ("Upgrade: websocket", "Upgrade: websocket, h2c"),
        ("Upgrade: websocket", "Upgrade: h2c, websocket"),
        ("Upgrade: websocket", "Upgrade: websocket\r\nUpgrade: h2c"),
        ("Upgrade: websocket", "Upgrade: websocket/13"),
        ("Upgrade: websocket", "Upgrade: websocket\r\nContent-Length: 5"),
        ("Upgrade: websocket", "Upgrade: websocket\r\nTransfer-Encoding: chunked"),
    ] {
        let text = get(&handshake.replace(from, to));
        assert_eq!(bad(&text), RequestError::Hop(HopError::WebSocket), "{text}");
    }
    assert_eq!(bad(text.replace("GET", "POST")), RequestError::Hop(HopError::WebSocket));
    assert_eq!(bad(text.replace("HTTP/1.1", "HTTP/1.0")), RequestError::Hop(HopError::WebSocket));
}

#[test]
fn px_012_other_upgrades_are_left_out() {
    for lines in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
        "Connection: Upgrade\r\nUpgrade: TLS/1.0",
        "Upgrade: websocket",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABk",
        "Connection: upgrade, x-own\r\nUpgrade: foo/2\r\nX-Own: 1",
    ] {
        let passed = passed_on(&get(lines), &Forward { websocket: true, ..Forward::default() });
        assert_eq!(passed, "GET /a HTTP/1.1\r\nHost: example.com\r\n\r\n", "{lines}");
    }
}

#[test]
fn px_015_only_the_connection_s_own_fields_are_taken_out() {
    for name in
        ["authorization", "Host", "Content-Length", "transfer-encoding", "COOKIE", "expect", "Sec-WebSocket-Key"]
    {
        let text = get(&format!("Connection: close, {name}"));
        assert_eq!(bad(&text), RequestError::Hop(HopError::Protected), "{text}");
    }
    for value in ["a b", "\"close\"", "a;b", "close, (x)"] {
        assert_eq!(bad(get(&format!("Connection: {value}"))), RequestError::Hop(HopError::Connection), "{value}");
    }
    let many = (0..17).map(|n| format!("x{n}")).collect::<Vec<_>>().join(",");
    assert_eq!(bad(get(&format!("Connection: {many}"))), RequestError::Hop(HopError::Connection));

    let lines = "Connection: ,X-Own , close,\r\nX-Own: 1\r\nX-Policy: 2\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n\
                 Proxy-Authorization: Basic c2VjcmV0\r\nTE: trailers\r\nTrailer: X\r\nAuthorization: Bearer a\r\nAccept: */*";
    let text = get(lines);
    assert!(!read(text.as_bytes()).keeps_alive());
    let extra = [("authorization", "Bearer issued"), ("X-Added", "1")];
    let passed = passed_on(&text, &Forward { close: true, extra: &extra, ..Forward::default() });
    let expected = "GET /a HTTP/1.1\r\nHost: example.com\r\nX-Policy: 2\r\nAccept: */*\r\nauthorization: Bearer issued\r\n\
                    X-Added: 1\r\nConnection: close\r\n\r\n";
    assert_eq!(passed, expected);
    // A client cannot take out what the proxy adds.
    let passed = passed_on(&get("Connection: x-added"), &Forward { extra: &extra, ..Forward::default() });
    assert!(passed.contains("X-Added: 1\r\n"), "{passed}");
}

#[test]
fn what_is_passed_on_says_what_was_decided() {
    let forward = Forward::default();
    let absolute = Forward { absolute: true, ..forward };
    for (line, origin, whole) in [
        ("GET http://EXAMPLE.com./a?b HTTP/1.1", "GET /a?b", "GET http://example.com/a?b"),
        ("GET http://example.com HTTP/1.1", "GET /", "GET http://example.com/"),
        ("GET http://example.com?q HTTP/1.1", "GET /?q", "GET http://example.com/?q"),
        ("OPTIONS http://example.com HTTP/1.1", "OPTIONS *", "OPTIONS http://example.com"),
        ("OPTIONS * HTTP/1.1", "OPTIONS *", "OPTIONS http://example.com"),
        ("GET /a HTTP/1.1", "GET /a", "GET http://example.com/a"),
        ("GET //evil.test/ HTTP/1.1", "GET //evil.test/", "GET http://example.com//evil.test/"),
    ] {
        let text = format!("{line}\r\nHost:\texample.com \r\nA:  b\tc  \r\n\r\n");
        let rest = " HTTP/1.1\r\nHost: example.com\r\nA: b\tc\r\n\r\n";
        assert_eq!(passed_on(&text, &forward), format!("{origin}{rest}"));
        assert_eq!(passed_on(&text, &absolute), format!("{whole}{rest}"));
    }
    let body = passed_on(&post("Content-Length: 5"), &forward);
    assert_eq!(body, "POST /a HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\n\r\n");
    let chunked = passed_on(&post("TRANSFER-ENCODING: CHUNKED"), &forward);
    assert_eq!(chunked, "POST /a HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n");
}

#[test]
fn px_019_heads_are_bounded() {
    let fields = |count: usize| "A: b\r\n".repeat(count);
    let text = |fields: &str| format!("GET / HTTP/1.1\r\nHost: example.com\r\n{fields}\r\n");
    read(text(&fields(99)).as_bytes());
    assert_eq!(bad(text(&fields(100))), RequestError::Head(HeadError::TooMany));
    assert_eq!(bad(text(&fields(100))).status(), 431);
    assert_eq!(bad(text(&fields(9_000))), RequestError::Head(HeadError::TooMany));
    let long = |length: usize| text(&format!("A: {}\r\n", "b".repeat(length)));
    let rest = long(0).len();
    assert_eq!(read(long(MAX_HEAD - rest).as_bytes()).head.len, MAX_HEAD);
    assert_eq!(bad(long(MAX_HEAD - rest + 1)), RequestError::Head(HeadError::TooLarge));
    let line = format!("GET /{}", "a".repeat(1 << 20));
    assert_eq!(bad(&line).status(), 431);
    assert_eq!(Request::parse(&line.as_bytes()[..MAX_HEAD - 1]), Progress::More);
}

/// A request with something changed: hostile, but near enough to be looked at.
fn changed() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::sample::select(vec![
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Connection: close, x",
        "Upgrade: websocket",
        "Host: b.example.com",
        "Accept: */*",
        " folded",
    ]);
    let start = prop::sample::select(vec![
        "GET / HTTP/1.1",
        "POST http://a.example.com:80/x?y HTTP/1.1",
        "CONNECT a.example.com:443 HTTP/1.1",
        "OPTIONS * HTTP/1.0",
    ]);
    let bytes = prop::sample::select(b"\r\n :\t\0,a5\x0b".to_vec());
    let changes = prop::collection::vec((any::<prop::sample::Index>(), bytes), 0..2);
    (start, prop::collection::vec(line, 0..4), changes).prop_map(|(start, lines, changes)| {
        let mut bytes = format!("{start}\r\nHost: a.example.com\r\n").into_bytes();
        for line in lines {
            bytes.extend(line.bytes().chain(*b"\r\n"));
        }
        bytes.extend(*b"\r\nGET /next HTTP/1.1\r\n");
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
    fn every_start_of_a_request_waits_or_answers_as_the_whole(bytes in changed()) {
        let whole = Request::parse(&bytes);
        for end in 0..bytes.len() {
            let start = Request::parse(&bytes[..end]);
            prop_assert!(start == Progress::More || start == whole, "{end}: {start:?} and {whole:?}");
        }
    }

    /// What is passed on is read as what was decided: the next program has nothing to repair.
    #[test]
    fn what_is_passed_on_is_read_the_same(bytes in changed(), absolute: bool) {
        if let Progress::Head(request) = Request::parse(&bytes) {
            prop_assume!(request.target != Target::Connect && request.authority.is_some());
            let mut out = Vec::new();
            request.write(&Forward { absolute, websocket: true, ..Forward::default() }, &mut out);
            let again = read(&out);
            prop_assert_eq!(&again.authority, &request.authority);
            prop_assert_eq!((again.framing, again.websocket), (request.framing, request.websocket));
            prop_assert_eq!(again.head.len, out.len());
            let mut twice = Vec::new();
            again.write(&Forward { absolute, websocket: true, ..Forward::default() }, &mut twice);
            prop_assert_eq!(String::from_utf8(out).unwrap(), String::from_utf8(twice).unwrap());
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Request::parse(&[b"GET / HTTP/1.1\r\nHost: a\r\n", &bytes[..], b"\r\n\r\n"].concat());
        let _ = Request::parse(&bytes);
    }
}
