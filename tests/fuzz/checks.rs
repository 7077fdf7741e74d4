//! What holds for every input of a parser. The fuzz targets try inputs, `tests/it/proxy_seeds.rs` those that were kept.

#![allow(dead_code, reason = "each target uses one function")]
#![allow(clippy::unwrap_used, reason = "a broken rule is a panic")]

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use domain::base::Message;
use jail::policy::authority::Authority;
use jail::policy::host::Host;
use jail::proxy::dns::message::{self, Answer, MAX_ANSWER, Parsed};
use jail::proxy::dns::pool::{Pool, REST};
use jail::proxy::hello;
use jail::proxy::http::body::{Body, BodyError, Framing, LAST_CHUNK, write_chunk};
use jail::proxy::http::head::{Fields, HeadError, MAX_FIELDS, MAX_HEAD, Progress};
use jail::proxy::http::request::{Forward, Request, RequestError, Target};
use jail::proxy::http::response::{Exchange, Kind, ResponseError};
use jail::proxy::socks::{Negotiation, Step};

/// Panics when an input breaks a rule.
type Check = fn(&[u8]);

/// Every check under the name of its target.
pub const ALL: [(&str, Check); 8] = [
    ("authority", authority),
    ("hello", hello),
    ("request", request),
    ("response", response),
    ("chunked", chunked),
    ("socks", socks),
    ("dns", dns),
    ("pool", pool),
];

/// The first byte, which steers the check, and the rest.
fn steered(data: &[u8]) -> (usize, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (usize::from(*first), rest))
}

/// A place to cut the bytes at.
fn cut(steer: usize, bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len() * steer / 256]
}

fn plain(host: &Host) {
    if let Host::Name(name) = host {
        assert!(!name.is_empty() && name.len() <= 253);
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b)), "{name}");
        assert!(name.parse::<IpAddr>().is_err());
    }
    assert_eq!(Host::from_wire(host.to_string().as_bytes()).as_ref(), Ok(host));
}

/// An authority reads the same when it is written again, and its name is plain.
pub fn authority(data: &[u8]) {
    if let Ok(authority) = Authority::parse(data) {
        assert_eq!(Authority::parse(authority.to_string().as_bytes()).as_ref(), Ok(&authority));
        assert!(data.is_ascii() && authority.port != Some(0));
        plain(&authority.host);
    }
    if let Ok(host) = std::str::from_utf8(data).map_err(|_| ()).and_then(|text| Host::parse(text).map_err(|_| ())) {
        plain(&host);
    }
}

/// The start of a hello waits or is answered as the whole, and the hello alone as the hello with what follows.
pub fn hello(data: &[u8]) {
    let (steer, bytes) = steered(data);
    let whole = hello::parse(bytes);
    let start = hello::parse(cut(steer, bytes));
    assert!(start == hello::Progress::More || start == whole);
    if let hello::Progress::Hello(hello) = &whole {
        assert_eq!(hello::parse(&bytes[..hello.len]), whole);
        assert_eq!(hello::parse(&bytes[..hello.len - 1]), hello::Progress::More);
        if let Some(host) = &hello.server_name {
            assert!(host.name().is_some());
            plain(host);
        }
    }
}

/// Fields that a head may have more when it is passed on, and bytes of each: the framing and the connection's own.
const ADDED: (usize, usize) = (4, 64);

/// Whether a head of this many bytes was at the bounds when it came, so that it is beyond them when it is passed on.
fn outgrown(error: &HeadError, fields: &Fields<'_>, len: usize) -> bool {
    match error {
        HeadError::TooMany => fields.iter().count() + ADDED.0 > MAX_FIELDS,
        HeadError::TooLarge => len + ADDED.0 * ADDED.1 > MAX_HEAD,
        _ => false,
    }
}

/// What is passed on of a request is read as what was decided, and stays the same when it is passed on again.
pub fn request(data: &[u8]) {
    let (steer, bytes) = steered(data);
    let whole = Request::parse(bytes);
    let start = Request::parse(cut(steer, bytes));
    assert!(start == Progress::More || start == whole);
    let Progress::Head(request) = whole else { return };
    assert!(request.framing != Framing::UntilClose && request.head.len <= bytes.len());
    if request.target == Target::Connect {
        assert!(request.authority.as_ref().is_some_and(|authority| authority.port.is_some()));
        return;
    }
    if request.authority.is_none() {
        return;
    }
    let forward = Forward { absolute: steer & 1 == 1, websocket: true, close: steer & 2 == 2, extra: &[] };
    let mut out = Vec::new();
    request.write(&forward, &mut out);
    let again = match Request::parse(&out) {
        Progress::Head(again) => again,
        Progress::Bad(RequestError::Head(error)) if outgrown(&error, &request.head.fields, request.head.len) => return,
        _ => panic!("refused: {}", out.escape_ascii()),
    };
    assert_eq!((&again.authority, again.framing), (&request.authority, request.framing));
    assert_eq!((again.websocket, again.head.len), (request.websocket, out.len()));
    assert_eq!(again.head.method, request.head.method);
    let mut twice = Vec::new();
    again.write(&forward, &mut twice);
    assert_eq!(out, twice);
}

const REQUESTS: [&[u8]; 4] = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://a/ HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: \
      dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
];

fn exchange(steer: usize) -> Exchange {
    match Request::parse(REQUESTS[steer % 4]) {
        Progress::Head(request) => Exchange::new(&request, true),
        other => panic!("{other:?}"),
    }
}

/// A server that sends without end is read to an end, and what is passed on is read as what was decided.
pub fn response(data: &[u8]) {
    let (steer, mut bytes) = steered(data);
    let mut exchange = exchange(steer);
    for _ in 0..18 {
        let mut other = exchange.clone();
        let start = other.parse(cut(steer, bytes));
        let mut before = exchange.clone();
        let whole = exchange.parse(bytes);
        assert!(start == Progress::More || start == whole);
        let Progress::Head(response) = whole else { return };
        let mut out = Vec::new();
        exchange.write(&response, steer & 64 == 64, &mut out);
        if !out.is_empty() {
            let again = match before.parse(&out) {
                Progress::Head(again) => again,
                Progress::Bad(ResponseError::Head(error))
                    if outgrown(&error, &response.head.fields, response.head.len) =>
                {
                    return;
                }
                _ => panic!("refused: {}", out.escape_ascii()),
            };
            let expected = match response.kind {
                Kind::Final(framing) => Kind::Final(exchange.delivered(framing)),
                other => other,
            };
            assert_eq!((again.kind, again.head.len), (expected, out.len()));
        }
        if response.kind != Kind::Interim {
            return;
        }
        bytes = &bytes[response.head.len..];
    }
    panic!("interim responses without end");
}

/// The payload, how much was used, and whether the body ended.
fn decode(bytes: &[u8], size: usize) -> Result<(Vec<u8>, usize, bool), BodyError> {
    let mut body = Body::new(Framing::Chunked);
    let (mut payload, mut used) = (Vec::new(), 0);
    for block in bytes.chunks(size) {
        let mut rest = block;
        while !rest.is_empty() && !body.is_done() {
            let piece = body.next(rest)?;
            assert!(piece.skip + piece.payload > 0);
            payload.extend_from_slice(&rest[piece.skip..piece.skip + piece.payload]);
            rest = &rest[piece.skip + piece.payload..];
            used += piece.skip + piece.payload;
        }
    }
    Ok((payload, used, body.is_done()))
}

/// Chunks in pieces are the chunks of the whole; written again they have the same payload.
pub fn chunked(data: &[u8]) {
    let (steer, bytes) = steered(data);
    let whole = decode(bytes, bytes.len().max(1));
    assert_eq!(decode(bytes, steer % 19 + 1), whole);
    if let Ok((payload, used, true)) = whole {
        assert!(payload.len() < used && bytes[..used].ends_with(b"\r\n"));
        let mut out = Vec::new();
        payload.chunks(steer + 1).for_each(|piece| write_chunk(piece, &mut out));
        out.extend_from_slice(LAST_CHUNK);
        assert_eq!(decode(&out, out.len()), Ok((payload, out.len(), true)));
    }
}

/// The start of a request waits or is answered as the whole.
pub fn socks(data: &[u8]) {
    let (steer, mut bytes) = steered(data);
    let mut stage = Negotiation::default();
    loop {
        let mut other = stage;
        let start = other.next(cut(steer, bytes));
        let step = stage.next(bytes);
        assert!(start == Step::More || start == step);
        match step {
            Step::Greeted(len) => bytes = &bytes[len..],
            Step::Connect(request) => {
                assert!(request.port != 0 && request.len <= bytes.len() && request.len <= 520);
                return plain(&request.host);
            }
            Step::Bad(error) => {
                stage.refusal(&error);
                return;
            }
            Step::More => return,
        }
    }
}

/// Whatever is asked, answers are whole messages that fit every transport.
pub fn dns(data: &[u8]) {
    match message::parse(data) {
        Parsed::Query(query) => {
            if let Some(host) = &query.host {
                assert!(host.name().is_some());
                plain(host);
            }
            let v4 = Answer::Address(IpAddr::from([198, 18, 1, 1]));
            let v6 = Answer::Address(IpAddr::from([0xfd00, 0x18, 1, 0, 0, 0, 0, 1]));
            for answer in [v4, v6, Answer::NoData, Answer::Denied("denied"), Answer::NotImplemented, Answer::Failed] {
                let bytes = query.answer(answer);
                assert!(bytes.len() <= MAX_ANSWER);
                let message = Message::from_slice(&bytes).unwrap();
                assert!(message.is_answer(Message::from_slice(data).unwrap()));
                assert!(message.iter().all(|record| record.is_ok()));
            }
        }
        Parsed::Reject(bytes) => {
            assert!(bytes.len() <= 64 && bytes[..2] == data[..2]);
            assert!(Message::from_slice(&bytes).unwrap().header().qr());
        }
        Parsed::Ignore => {}
    }
}

/// An address that was told or connected to stands for the same name until it rested.
pub fn pool(data: &[u8]) {
    let mut pool = Pool::new(4);
    let mut now = Instant::now();
    let mut told: HashMap<IpAddr, (u8, Instant)> = HashMap::new();
    let mut open: HashMap<IpAddr, usize> = HashMap::new();
    for step in data.chunks_exact(2) {
        now += Duration::from_secs(u64::from(step[1]) * 30);
        let name = format!("n{}.test", step[0] % 8);
        let Some(addresses) = pool.addresses_of(&name, now) else { continue };
        let address = if step[0] & 8 == 8 { IpAddr::V4(addresses.v4) } else { addresses.v6.into() };
        let key = IpAddr::V6(addresses.v6);
        assert_eq!(pool.name_of(address).map(|host| host.to_string()), Some(name));
        if let Some((before, since)) = told.insert(key, (step[0] % 8, now))
            && before != step[0] % 8
        {
            assert!(now.duration_since(since) >= REST && open.get(&key).is_none_or(|open| *open == 0));
        }
        let open = open.entry(key).or_default();
        match step[0] >> 6 {
            1 => {
                assert!(pool.hold(address, now).is_some());
                *open += 1;
            }
            2 if *open > 0 => {
                pool.release(address, now);
                *open -= 1;
            }
            _ => {}
        }
    }
}
