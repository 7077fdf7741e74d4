//! The first message of a TLS client, read without answering it (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2).
//!
//! It is read to learn which name the client asks for; it is then passed on byte for byte. A message that is not
//! complete is never decided on, and one that two TLS libraries could read differently is refused.

use thiserror::Error;

use crate::policy::host::{Host, HostError};

/// The most bytes that are looked at, record headers included.
pub const MAX_LEN: usize = 64 * 1024;

/// The most records that one message may be spread over. Each call walks over them again.
const MAX_RECORDS: usize = 128;

/// RFC 8446 section 5.1: a record carries at most 2^14 bytes.
const MAX_RECORD: usize = 1 << 14;

const RECORD_HEADER: usize = 5;
const CONTENT_HANDSHAKE: u8 = 22;
const HANDSHAKE_CLIENT_HELLO: u8 = 1;

/// How many extensions a message may have: browsers send about twenty.
const MAX_EXTENSIONS: usize = 256;

/// How many protocols a client may offer.
const MAX_PROTOCOLS: usize = 64;

const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;

/// Descriptions of a fatal alert (RFC 8446 section 6.2).
pub mod description {
    /// `access_denied`: the policy says no.
    pub const ACCESS_DENIED: u8 = 49;
    /// `decode_error`: the message is malformed.
    pub const DECODE_ERROR: u8 = 50;
    /// `internal_error`: nothing the client did.
    pub const INTERNAL_ERROR: u8 = 80;
    /// `unrecognized_name`: no such server (RFC 6066 section 3).
    pub const UNRECOGNIZED_NAME: u8 = 112;
}

/// What the bytes so far amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The start of a hello; more bytes are needed.
    More,
    /// A whole hello.
    Hello(ClientHello),
    /// Never a hello that may pass, whatever follows.
    Bad(HelloError),
}

/// What a hello says about where it wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHello {
    /// The name of the server; `None` when the client sent none. Never an address.
    pub server_name: Option<Host>,
    /// The protocols offered, in order (RFC 7301); empty when none were.
    pub alpn: Vec<Vec<u8>>,
    /// Whether there may be another name, encrypted: ECH (RFC 9849) or one of its drafts. Browsers send a dummy too.
    pub ech: bool,
    /// How many bytes of the buffer the hello takes up, with its record headers.
    pub len: usize,
}

/// Why bytes are no hello that may pass.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HelloError {
    /// Another protocol, or TLS before SSL 3.
    #[error("not TLS")]
    NotTls,
    /// The record layer.
    #[error("malformed TLS record: {0}")]
    Record(&'static str),
    /// The message inside the records.
    #[error("malformed TLS client hello: {0}")]
    Malformed(&'static str),
    /// More bytes or records than any client needs.
    #[error("the TLS client hello is larger than 64 KiB or spread over more than 128 records")]
    TooLarge,
    /// The name of the server is not a plain DNS name.
    #[error("the server name in the TLS client hello: {0}")]
    ServerName(#[from] HostError),
    /// The name of the server is an address, which RFC 6066 section 3 forbids.
    #[error("the server name in the TLS client hello is an address")]
    Address,
}

use HelloError::{Malformed, NotTls, Record, TooLarge};

/// Reads the client's bytes from the start of the connection. `buf` may hold more than the hello.
pub fn parse(buf: &[u8]) -> Progress {
    match read(buf) {
        Ok(Some(hello)) => Progress::Hello(hello),
        Ok(None) if buf.len() >= MAX_LEN => Progress::Bad(TooLarge),
        Ok(None) => Progress::More,
        Err(error) => Progress::Bad(error),
    }
}

/// A fatal alert in a record of its own (RFC 8446 sections 5.1 and 6), with a [`description`].
pub fn alert(description: u8) -> [u8; 7] {
    const CONTENT_ALERT: u8 = 21;
    const FATAL: u8 = 2;
    [CONTENT_ALERT, 3, 3, 0, 2, FATAL, description]
}

/// `None` when more bytes are needed.
fn read(buf: &[u8]) -> Result<Option<ClientHello>, HelloError> {
    let mut rest = Reader(buf.get(..MAX_LEN).unwrap_or(buf));
    let available = rest.0.len();
    // A message in one record is read where it lies; fragments are put together.
    let mut gathered = Vec::new();
    let mut only: &[u8] = &[];
    for number in 0..MAX_RECORDS {
        let Some((fragment, whole)) = record(&mut rest, number == 0)? else { return Ok(None) };
        match number {
            0 => only = fragment,
            1 => gathered = [only, fragment].concat(),
            _ => gathered.extend_from_slice(fragment),
        }
        match body(if number == 0 { only } else { &gathered })? {
            _ if !whole => return Ok(None),
            Some(body) => return client_hello(body, available.saturating_sub(rest.0.len())).map(Some),
            None => {}
        }
    }
    Err(TooLarge)
}

/// The next record's content, and whether all of it is there. `None` when its header is not complete.
fn record<'a>(rest: &mut Reader<'a>, first: bool) -> Result<Option<(&'a [u8], bool)>, HelloError> {
    let header = rest.0;
    match header.first() {
        None => return Ok(None),
        Some(&CONTENT_HANDSHAKE) => {}
        Some(_) if first => return Err(NotTls),
        // RFC 8446 section 5.1: no other record may stand between the fragments of a message.
        Some(_) => return Err(Record("another record inside the message")),
    }
    match header.get(1) {
        None => return Ok(None),
        // RFC 8446 section 5.1: the minor version says nothing.
        Some(3) => {}
        Some(_) if first => return Err(NotTls),
        Some(_) => return Err(Record("its version changes")),
    }
    if header.len() < RECORD_HEADER {
        return Ok(None);
    }
    let length = rest.take(3).and_then(|_| rest.u16()).map_or(0, usize::from);
    if length == 0 {
        return Err(Record("it is empty"));
    }
    if length > MAX_RECORD {
        return Err(Record("it is longer than 16384 bytes"));
    }
    let there = length.min(rest.0.len());
    Ok(rest.take(there).map(|fragment| (fragment, there == length)))
}

/// The body of the message, when all of it is there.
fn body(message: &[u8]) -> Result<Option<&[u8]>, HelloError> {
    let mut rest = Reader(message);
    match rest.u8() {
        None => return Ok(None),
        Some(HANDSHAKE_CLIENT_HELLO) => {}
        Some(_) => return Err(Malformed("it is another message")),
    }
    let Some(length) = rest.u24() else { return Ok(None) };
    if length > MAX_LEN {
        return Err(TooLarge);
    }
    // RFC 8446 section 5.1 lets messages share a record, but nothing can follow before the server has answered.
    if rest.0.len() > length {
        return Err(Malformed("more follows in its record"));
    }
    Ok((rest.0.len() == length).then_some(rest.0))
}

fn client_hello(body: &[u8], len: usize) -> Result<ClientHello, HelloError> {
    let mut hello = ClientHello { server_name: None, alpn: Vec::new(), ech: false, len };
    let mut rest = Reader(body);
    let ended = || Malformed("it ends early");
    if rest.u16().ok_or_else(ended)? >> 8 != 3 {
        return Err(Malformed("an unknown version"));
    }
    rest.take(32).ok_or_else(ended)?;
    let session = rest.short().ok_or_else(ended)?;
    if session.0.len() > 32 {
        return Err(Malformed("the session id is longer than 32 bytes"));
    }
    let ciphers = rest.long().ok_or_else(ended)?;
    if ciphers.0.is_empty() || !ciphers.0.len().is_multiple_of(2) {
        return Err(Malformed("the list of cipher suites"));
    }
    let compression = rest.short().ok_or_else(ended)?;
    if !compression.0.contains(&0) {
        return Err(Malformed("the list of compression methods"));
    }
    if rest.0.is_empty() {
        return Ok(hello);
    }
    let mut extensions = rest.long().ok_or_else(ended)?;
    if !rest.0.is_empty() {
        return Err(Malformed("more follows after the extensions"));
    }
    let mut seen = Vec::with_capacity(32);
    while !extensions.0.is_empty() {
        let kind = extensions.u16().ok_or_else(ended)?;
        let data = extensions.long().ok_or_else(ended)?;
        if seen.len() == MAX_EXTENSIONS {
            return Err(Malformed("more than 256 extensions"));
        }
        // RFC 8446 section 4.2: never two of a type. One library would take the first, another the last.
        if seen.contains(&kind) {
            return Err(Malformed("an extension is given twice"));
        }
        seen.push(kind);
        match kind {
            EXTENSION_SERVER_NAME => hello.server_name = Some(server_name(data)?),
            EXTENSION_ALPN => hello.alpn = protocols(data)?,
            _ => hello.ech |= hides_a_name(kind),
        }
    }
    Ok(hello)
}

/// RFC 6066 section 3: a list, of which only one entry of the only type was ever defined.
fn server_name(mut data: Reader<'_>) -> Result<Host, HelloError> {
    let malformed = || Malformed("the server name extension");
    let mut list = data.long().ok_or_else(malformed)?;
    let kind = list.u8().ok_or_else(malformed)?;
    let name = list.long().ok_or_else(malformed)?.0;
    if kind != 0 || !list.0.is_empty() || !data.0.is_empty() {
        return Err(malformed());
    }
    // The same section: no final dot. Servers differ in what they make of one.
    if name.ends_with(b".") {
        return Err(Malformed("the server name ends in a dot"));
    }
    match Host::from_wire(name)? {
        Host::Address(_) => Err(HelloError::Address),
        name => Ok(name),
    }
}

/// RFC 7301 section 3.1: at least one protocol, none of them empty.
fn protocols(mut data: Reader<'_>) -> Result<Vec<Vec<u8>>, HelloError> {
    let malformed = || Malformed("the protocol list (ALPN)");
    let mut list = data.long().ok_or_else(malformed)?;
    let mut protocols = Vec::new();
    while !list.0.is_empty() && protocols.len() < MAX_PROTOCOLS {
        let name = list.short().filter(|name| !name.0.is_empty()).ok_or_else(malformed)?;
        protocols.push(name.0.to_vec());
    }
    if protocols.is_empty() || !list.0.is_empty() || !data.0.is_empty() {
        return Err(malformed());
    }
    Ok(protocols)
}

/// Extensions that carry an encrypted server name: ECH (RFC 9849), its drafts 8 to 12, and ESNI before it.
fn hides_a_name(kind: u16) -> bool {
    matches!(kind, 0xfe08..=0xfe0d | 0xffce)
}

/// The rest of a message; every reader takes from its front, or nothing when there is too little.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).and_then(|bytes| bytes.first().copied())
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).and_then(|bytes| Some(u16::from_be_bytes(bytes.try_into().ok()?)))
    }

    fn u24(&mut self) -> Option<usize> {
        let high = usize::from(self.u8()?);
        Some(high << 16 | usize::from(self.u16()?))
    }

    /// What one byte of length goes before.
    fn short(&mut self) -> Option<Self> {
        let length = self.u8()?;
        self.take(length.into()).map(Self)
    }

    /// What two bytes of length go before.
    fn long(&mut self) -> Option<Self> {
        let length = self.u16()?;
        self.take(length.into()).map(Self)
    }
}
