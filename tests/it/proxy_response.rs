//! Responses and bodies: where they end, and what of them is passed on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use jail::proxy::http::body::{Body, BodyError, Framing, FramingError, LAST_CHUNK, write_chunk, write_chunk_head};
use jail::proxy::http::head::{HeadError, MAX_HEAD, Progress};
use jail::proxy::http::request::Request;
use jail::proxy::http::response::{Exchange, Kind, Response, ResponseError};
use proptest::prelude::*;

/// The exchange of a request with this method.
fn to(method: &str) -> Exchange {
    exchange(&format!("{method} / HTTP/1.1\r\nHost: example.com\r\n\r\n"))
}

fn exchange(request: &str) -> Exchange {
    match Request::parse(request.as_bytes()) {
        Progress::Head(request) => Exchange::new(&request, true),
        other => panic!("{other:?}"),
    }
}

fn websocket() -> Exchange {
    exchange(
        "GET / HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: \
         dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    )
}

fn read<'a>(exchange: &mut Exchange, bytes: &'a [u8]) -> Response<'a> {
    match exchange.parse(bytes) {
        Progress::Head(response) => response,
        other => panic!("{other:?} for {:?}", String::from_utf8_lossy(bytes)),
    }
}

fn bad(mut exchange: Exchange, bytes: impl AsRef<[u8]>) -> ResponseError {
    match exchange.parse(bytes.as_ref()) {
        Progress::Bad(error) => error,
        other => panic!("{other:?} for {:?}", String::from_utf8_lossy(bytes.as_ref())),
    }
}

fn kind(mut exchange: Exchange, text: &str) -> Kind {
    read(&mut exchange, format!("{text}\r\n\r\n").as_bytes()).kind
}

fn passed_on(mut exchange: Exchange, text: &str, close: bool) -> String {
    let response = read(&mut exchange, text.as_bytes());
    let mut out = Vec::new();
    exchange.write(&response, close, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn the_end_of_a_response_follows_from_status_request_and_fields() {
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 5";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked";
    assert_eq!(kind(to("GET"), length), Kind::Final(Framing::Length(5)));
    assert_eq!(kind(to("GET"), chunked), Kind::Final(Framing::Chunked));
    assert_eq!(kind(to("GET"), "HTTP/1.1 200 OK"), Kind::Final(Framing::UntilClose));
    assert_eq!(kind(to("GET"), "HTTP/1.0 200"), Kind::Final(Framing::UntilClose));
    for text in [length, chunked, "HTTP/1.1 200 OK"] {
        assert_eq!(kind(to("HEAD"), text), Kind::Final(Framing::None), "{text}");
        assert_eq!(kind(to("GET"), &text.replace("200", "304")), Kind::Final(Framing::None), "{text}");
    }
    assert_eq!(kind(to("GET"), "HTTP/1.1 204 No Content"), Kind::Final(Framing::None));
    assert_eq!(kind(to("GET"), "HTTP/1.1 204 No Content\r\nContent-Length: 0"), Kind::Final(Framing::None));
    assert_eq!(kind(to("GET"), "HTTP/1.1 103 Early Hints\r\nLink: </a>"), Kind::Interim);
    assert_eq!(kind(Exchange::connect(), "HTTP/1.1 200 OK"), Kind::Tunnel);
    assert_eq!(kind(Exchange::connect(), "HTTP/1.1 407 No\r\nContent-Length: 3"), Kind::Final(Framing::Length(3)));
    assert_eq!(kind(to("GET"), "HTTP/1.1 200 ok"), Kind::Final(Framing::UntilClose));
}

#[test]
fn px_021_a_response_whose_end_is_not_certain_is_refused() {
    let cases = [
        ("200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", FramingError::Both),
        ("200 OK\r\nContent-Length: 5\r\nContent-Length: 5", FramingError::Length),
        ("200 OK\r\nContent-Length: 5, 5", FramingError::Length),
        ("200 OK\r\nContent-Length: +5", FramingError::Length),
        ("200 OK\r\nTransfer-Encoding: gzip, chunked", FramingError::Coding),
        ("200 OK\r\nTransfer-Encoding: identity", FramingError::Coding),
        ("204 No Content\r\nContent-Length: 5", FramingError::Unexpected),
        ("204 No Content\r\nTransfer-Encoding: chunked", FramingError::Unexpected),
        ("100 Continue\r\nContent-Length: 5", FramingError::Unexpected),
        ("103 Early Hints\r\nTransfer-Encoding: chunked", FramingError::Unexpected),
    ];
    for (text, error) in cases {
        let text = format!("HTTP/1.1 {text}\r\n\r\n");
        assert_eq!(bad(to("GET"), &text), ResponseError::Framing(error), "{text}");
        assert_eq!(bad(to("HEAD"), &text), ResponseError::Framing(error), "{text}");
    }
    let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(bad(to("GET"), old), ResponseError::Framing(FramingError::OldVersion));
}

#[test]
fn px_021_malformed_status_lines_are_refused() {
    for line in [
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 0200 OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 600 OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1 200 O\x00K",
        "HTTP/1.1 200 O\rK",
        "HTTP/1.1",
        "Hello",
        "<html>",
    ] {
        let error = bad(to("GET"), format!("{line}\r\nContent-Length: 0\r\n\r\n"));
        assert!(
            matches!(error, ResponseError::Head(HeadError::StatusLine | HeadError::Version)),
            "{line:?}: {error:?}"
        );
    }
    assert_eq!(bad(to("GET"), "HTTP/2 200 OK\r\n\r\n"), ResponseError::Head(HeadError::Version));
    assert_eq!(bad(to("GET"), "HTTP/1.1 200 OK\n\n"), ResponseError::Head(HeadError::LineEnd));
    assert_eq!(bad(to("GET"), "\r\nHTTP/1.1 200 OK\r\n\r\n"), ResponseError::Head(HeadError::StatusLine));
    let folded = "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n";
    assert_eq!(bad(to("GET"), folded), ResponseError::Head(HeadError::Folded));
}

#[test]
fn px_021_what_follows_a_response_is_not_part_of_it() {
    let first = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
    let stream = format!("{first}okHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    let mut exchange = to("GET");
    let response = read(&mut exchange, stream.as_bytes());
    assert_eq!(response.head.len, first.len());
    let mut body = Body::new(Framing::Length(2));
    let piece = body.next(&stream.as_bytes()[first.len()..]).unwrap();
    assert_eq!((piece.skip, piece.payload, piece.done), (0, 2, true));
    assert_eq!(body.next(b"HTTP/1.1").unwrap().payload, 0);
}

#[test]
fn px_012_a_server_changes_the_protocol_only_when_asked_to() {
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    assert_eq!(read(&mut websocket(), answer.as_bytes()).kind, Kind::Switch);
    let passed = passed_on(websocket(), answer, false);
    assert_eq!(
        passed,
        "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nConnection: \
         Upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
    assert_eq!(bad(to("GET"), answer), ResponseError::Switch);
    assert_eq!(bad(Exchange::connect(), answer), ResponseError::Switch);
    for (from, to) in [
        ("s3pP", "s3pQ"),
        ("Upgrade: websocket", "Upgrade: h2c"),
        ("Upgrade: websocket", "Upgrade: websocket, h2c"),
        ("Connection: Upgrade", "Connection: keep-alive"),
        ("Sec-WebSocket-Accept", "X-Accept"),
        ("HTTP/1.1", "HTTP/1.0"),
    ] {
        assert_eq!(bad(websocket(), answer.replacen(from, to, 1)), ResponseError::Switch, "{to}");
    }
    let framed = answer.replacen("Upgrade:", "Content-Length: 4\r\nUpgrade:", 1);
    assert_eq!(bad(websocket(), framed), ResponseError::Framing(FramingError::Unexpected));
    // The handshake was held back, or the server declines: an ordinary response.
    let text = "GET / HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: \
                dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let Progress::Head(request) = Request::parse(text.as_bytes()) else { panic!("refused") };
    assert_eq!(bad(Exchange::new(&request, false), answer), ResponseError::Switch);
    assert_eq!(kind(websocket(), "HTTP/1.1 403 No\r\nContent-Length: 1"), Kind::Final(Framing::Length(1)));
}

#[test]
fn px_019_interim_responses_end() {
    let mut exchange = to("GET");
    for _ in 0..16 {
        assert_eq!(read(&mut exchange, b"HTTP/1.1 100 Continue\r\n\r\n").kind, Kind::Interim);
    }
    assert_eq!(bad(exchange.clone(), "HTTP/1.1 102 Processing\r\n\r\n"), ResponseError::Interim);
    assert_eq!(read(&mut exchange, b"HTTP/1.1 200 OK\r\n\r\n").kind, Kind::Final(Framing::UntilClose));
    assert_eq!(passed_on(to("GET"), "HTTP/1.1 100 Continue\r\n\r\n", true), "HTTP/1.1 100 Continue\r\n\r\n");
    let old = self::exchange("GET http://example.com/ HTTP/1.0\r\n\r\n");
    assert_eq!(passed_on(old, "HTTP/1.1 100 Continue\r\n\r\n", false), "");
}

#[test]
fn px_019_response_heads_are_bounded() {
    let text = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
    assert_eq!(bad(to("GET"), text(&"A: b\r\n".repeat(101))), ResponseError::Head(HeadError::TooMany));
    let endless = format!("HTTP/1.1 200 {}", "a".repeat(MAX_HEAD));
    assert_eq!(bad(to("GET"), &endless), ResponseError::Head(HeadError::TooLarge));
    assert_eq!(to("GET").parse(&endless.as_bytes()[..MAX_HEAD - 1]), Progress::More);
}

#[test]
fn px_018_nothing_sends_the_client_elsewhere_unseen() {
    let text = "HTTP/1.1 302 Found\r\nLocation: http://evil.test/\r\nAlt-Svc: h3=\"evil.test:443\"\r\nALT-SVC: clear\r\n\
                Content-Length: 0\r\n\r\n";
    // The next request is decided anew, so the redirect itself is passed on.
    let expected = "HTTP/1.1 302 Found\r\nLocation: http://evil.test/\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(passed_on(to("GET"), text, false), expected);
}

#[test]
fn px_015_a_response_loses_what_is_the_connection_s() {
    let text = "HTTP/1.1 200 Fine\r\nConnection: x-own, keep-alive\r\nX-Own: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\n\
                Proxy-Authenticate: Basic\r\nProxy-Authentication-Info: a\r\nTrailer: X\r\nTransfer-Encoding: CHUNKED\r\n\
                Set-Cookie: a\r\nSet-Cookie: b\r\n\r\n";
    let rest = "Set-Cookie: a\r\nSet-Cookie: b\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    assert_eq!(passed_on(to("GET"), text, false), format!("HTTP/1.1 200 Fine\r\n{rest}{chunked}\r\n"));
    let closed = format!("HTTP/1.1 200 Fine\r\n{rest}{chunked}Connection: close\r\n\r\n");
    assert_eq!(passed_on(to("GET"), text, true), closed);
    assert!(matches!(bad(to("GET"), "HTTP/1.1 200 OK\r\nConnection: set-cookie\r\n\r\n"), ResponseError::Hop(_)));
}

#[test]
fn a_client_is_told_where_the_body_ends() {
    let old = || exchange("GET http://example.com/ HTTP/1.0\r\n\r\n");
    let closing = || exchange("GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n");
    let chunked = "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n";
    let until_close = "HTTP/1.0 200 OK\r\n\r\n";
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    let close = "Connection: close\r\n\r\n";
    assert_eq!(passed_on(old(), chunked, false), format!("HTTP/1.1 200 \r\n{close}"));
    assert_eq!(passed_on(to("GET"), until_close, false), format!("HTTP/1.1 200 OK\r\n{close}"));
    assert_eq!(passed_on(to("GET"), length, false), length);
    assert_eq!(passed_on(closing(), length, false), format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n{close}"));
    // The length of what a GET would get.
    assert_eq!(passed_on(to("HEAD"), length, false), length);
    assert_eq!(old().delivered(Framing::Chunked), Framing::UntilClose);
    assert_eq!(to("GET").delivered(Framing::Chunked), Framing::Chunked);

    let reuse = |text: &str| {
        let mut exchange = to("GET");
        let response = read(&mut exchange, text.as_bytes());
        (exchange.keeps_alive(&response), response.server_keeps_alive())
    };
    assert_eq!(reuse(length), (true, true));
    assert_eq!(reuse(chunked), (true, true));
    assert_eq!(reuse(until_close), (false, false));
    assert_eq!(reuse("HTTP/1.1 200 OK\r\n\r\n"), (false, false));
    assert_eq!(reuse("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"), (true, false));
    assert_eq!(reuse("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n"), (true, false));
}

/// The payload, what is left of the input, and whether the body ended; fed in pieces of `size` bytes.
fn decode(bytes: &[u8], size: usize) -> Result<(Vec<u8>, usize, bool), BodyError> {
    let mut body = Body::new(Framing::Chunked);
    let (mut payload, mut used) = (Vec::new(), 0);
    for block in bytes.chunks(size) {
        let mut rest = block;
        while !rest.is_empty() && !body.is_done() {
            let piece = body.next(rest)?;
            assert!(piece.skip + piece.payload > 0, "progress");
            payload.extend_from_slice(&rest[piece.skip..piece.skip + piece.payload]);
            rest = &rest[piece.skip + piece.payload..];
            used += piece.skip + piece.payload;
            assert_eq!(piece.done, body.is_done());
        }
    }
    assert_eq!(body.closed().is_ok(), body.is_done());
    Ok((payload, bytes.len() - used, body.is_done()))
}

#[test]
fn chunks_are_read_whatever_the_pieces() {
    let text = b"5\r\nhello\r\n00A;x=\"y;z\"\r\n, world!!!\r\n1;\r\n.\r\n0\r\nX-Sum: 5\r\nY:\r\n\r\nGET / HTTP/1.1\r\n";
    for size in [1, 2, 3, 7, 1000] {
        let (payload, left, done) = decode(text, size).unwrap();
        assert_eq!((payload.as_slice(), left, done), (&b"hello, world!!!."[..], 16, true), "{size}");
    }
    assert_eq!(decode(b"0\r\n\r\n", 9).unwrap(), (Vec::new(), 0, true));
    assert!(!decode(b"5\r\nhello\r\n0\r\n", 9).unwrap().2);
    let mut out = Vec::new();
    ["", "a", "", "b"].iter().for_each(|payload| write_chunk(payload.as_bytes(), &mut out));
    assert_eq!(out, b"1\r\na\r\n1\r\nb\r\n", "an empty chunk would end the body");
}

#[test]
fn px_008_chunks_that_two_readers_end_differently_are_refused() {
    let cases: [(&[u8], BodyError); 27] = [
        (b"\r\n", BodyError::Size),
        (b";a\r\n", BodyError::Size),
        (b" 5\r\n", BodyError::Size),
        (b"5 \r\n", BodyError::Size),
        (b"5\t;a\r\n", BodyError::Size),
        (b"+5\r\n", BodyError::Size),
        (b"-5\r\n", BodyError::Size),
        (b"0x5\r\n", BodyError::Size),
        (b"5_0\r\n", BodyError::Size),
        (b"g\r\n", BodyError::Size),
        (b"5\n", BodyError::Size),
        (b"5\0\r\n", BodyError::Size),
        (b"5;a\n", BodyError::Size),
        (b"5;a\0\r\n", BodyError::Size),
        (b"8000000000000000\r\n", BodyError::Size),
        (b"10000000000000000\r\n", BodyError::Size),
        (b"00000000000000005\r\n", BodyError::Size),
        (b"5\rx", BodyError::LineEnd),
        (b"5;a\rb\r\n", BodyError::LineEnd),
        (b"5\r\nhello0\r\n", BodyError::LineEnd),
        (b"5\r\nhello\n0\r\n", BodyError::LineEnd),
        (b"5\r\nhello\rx", BodyError::LineEnd),
        (b"0\r\n\n", BodyError::Trailer),
        (b"0\r\n X: y\r\n", BodyError::Trailer),
        (b"0\r\nX y\r\n", BodyError::Trailer),
        (b"0\r\nX: y\n\r\n", BodyError::Trailer),
        (b"0\r\nX: y\0\r\n", BodyError::Trailer),
    ];
    for (bytes, error) in cases {
        for size in [1, 1000] {
            assert_eq!(decode(bytes, size), Err(error), "{:?}", String::from_utf8_lossy(bytes));
        }
    }
    assert_eq!(decode(b"0\r\nX\r\n\r\n", 9), Err(BodyError::Trailer));
    assert_eq!(decode(b"0\r\n: y\r\n\r\n", 9), Err(BodyError::Trailer));
}

#[test]
fn px_008_extensions_and_trailers_are_bounded() {
    let chunk = |extension: usize| format!("1;{}\r\nx\r\n", "e".repeat(extension));
    assert!(decode(chunk(254).as_bytes(), 50).is_ok());
    assert_eq!(decode(chunk(255).as_bytes(), 50), Err(BodyError::Extensions));
    assert!(decode(chunk(99).repeat(163).as_bytes(), 5000).is_ok());
    assert_eq!(decode(chunk(99).repeat(164).as_bytes(), 5000), Err(BodyError::Extensions));
    let trailer = |length: usize| format!("0\r\nA: {}\r\n\r\n", "b".repeat(length));
    assert!(decode(trailer(16_000).as_bytes(), 5000).unwrap().2);
    assert_eq!(decode(trailer(17_000).as_bytes(), 5000), Err(BodyError::LongTrailer));
}

#[test]
fn lengths_are_counted_and_a_close_is_no_end() {
    let mut body = Body::new(Framing::Length(10));
    assert_eq!(body.unread(), 10);
    assert_eq!(body.next(b"1234").unwrap().payload, 4);
    assert_eq!(body.closed(), Err(BodyError::Truncated));
    body.passed(5);
    let piece = body.next(b"0GET").unwrap();
    assert_eq!((piece.payload, piece.done, body.closed()), (1, true, Ok(())));
    assert!(Body::new(Framing::None).is_done() && Body::new(Framing::Length(0)).is_done());
    let mut body = Body::new(Framing::UntilClose);
    assert_eq!((body.next(b"abc").unwrap().payload, body.is_done(), body.closed()), (3, false, Ok(())));
    let mut body = Body::new(Framing::Chunked);
    assert_eq!(body.unread(), 0);
    assert_eq!(body.next(b"ff\r\n").unwrap().skip, 4);
    assert_eq!(body.unread(), 255);
    body.passed(255);
    assert_eq!((body.unread(), body.closed()), (0, Err(BodyError::Truncated)));
    assert_eq!(body.next(b"\r\n0\r\n\r\n").unwrap().skip, 7);
    assert!(body.is_done());
}

/// A chunked body with something changed.
fn changed() -> impl Strategy<Value = Vec<u8>> {
    let chunk = (prop::collection::vec(any::<u8>(), 1..40), prop::sample::select(vec!["", ";a", ";a=\"b\""]));
    let change = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..2);
    (prop::collection::vec(chunk, 0..5), change).prop_map(|(chunks, changes)| {
        let mut bytes = Vec::new();
        for (payload, extension) in chunks {
            bytes.extend(format!("{:X}{extension}\r\n", payload.len()).bytes());
            bytes.extend(payload);
            bytes.extend(*b"\r\n");
        }
        bytes.extend(*b"0\r\nA: b\r\n\r\nnext");
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn chunks_in_pieces_are_the_chunks_of_the_whole(bytes in changed(), size in 1usize..30) {
        prop_assert_eq!(decode(&bytes, size), decode(&bytes, bytes.len()));
    }

    /// What is written anew has the same payload and ends at the same place.
    #[test]
    fn chunks_written_are_chunks_read(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..9)) {
        let mut out = Vec::new();
        for payload in &payloads {
            write_chunk(payload, &mut out);
        }
        out.extend_from_slice(LAST_CHUNK);
        prop_assert_eq!(decode(&out, 17), Ok((payloads.concat(), 0, true)));
    }

    #[test]
    fn sizes_are_written_in_hexadecimal(size: u64) {
        let mut out = Vec::new();
        write_chunk_head(size, &mut out);
        prop_assert_eq!(out, format!("{size:x}\r\n").into_bytes());
    }

    #[test]
    fn every_start_of_a_response_waits_or_answers_as_the_whole(
        lines in prop::collection::vec(
            prop::sample::select(vec!["Content-Length: 5", "Transfer-Encoding: chunked", "A: b", "Connection: x", "A\n: b"]),
            0..4,
        ),
        status in prop::sample::select(vec!["200 OK", "100", "204 ", "101 x", "999 y"]),
    ) {
        let text = format!("HTTP/1.1 {status}\r\n{}\r\n\r\nbody", lines.join("\r\n"));
        let whole = to("GET").parse(text.as_bytes());
        for end in 0..text.len() {
            let mut exchange = to("GET");
            let start = exchange.parse(&text.as_bytes()[..end]);
            prop_assert!(start == Progress::More || start == whole, "{}: {:?} and {:?}", end, start, whole);
        }
    }
}
