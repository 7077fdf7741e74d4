//! The head of an HTTP/1 message: start line and fields, as slices of the buffer they came in.
//!
//! Lines end in CR LF and nothing else (RFC 9112 section 2.2 allows a bare LF; a server that does and one that does not
//! see different requests), there is no folding (section 5.2), and no space before a colon (section 5.1).

use thiserror::Error;

/// The most bytes of a head, from the first to the empty line.
pub const MAX_HEAD: usize = 64 * 1024;

/// The most fields of a head.
pub const MAX_FIELDS: usize = 100;

/// The longest method that is looked at.
const MAX_METHOD: usize = 32;

/// What the bytes so far amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress<T, E> {
    /// The start of a head; more bytes are needed.
    More,
    /// A whole head.
    Head(T),
    /// Never a head that may pass, whatever follows.
    Bad(E),
}

/// Why bytes are no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HeadError {
    /// The first line of a request.
    #[error("the request line is malformed")]
    RequestLine,
    /// The first line of a response.
    #[error("the status line is malformed")]
    StatusLine,
    /// A version other than 1.0 and 1.1.
    #[error("only HTTP/1.0 and HTTP/1.1 are spoken here")]
    Version,
    /// A line that does not end in CR LF.
    #[error("a line does not end in CR LF")]
    LineEnd,
    /// A line that is not `name: value`.
    #[error("a header field is malformed")]
    Field,
    /// A line that continues the one before.
    #[error("a header field is folded")]
    Folded,
    /// More than [`MAX_HEAD`] bytes.
    #[error("the head is longer than 64 KiB")]
    TooLarge,
    /// More than [`MAX_FIELDS`] fields.
    #[error("more than 100 header fields")]
    TooMany,
}

/// The version of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// The fields that decide something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names of fields")]
pub enum Name {
    AltSvc,
    Connection,
    ContentLength,
    Expect,
    Host,
    Http2Settings,
    KeepAlive,
    ProxyAuthenticate,
    ProxyAuthenticationInfo,
    ProxyAuthorization,
    ProxyConnection,
    SecWebSocketAccept,
    SecWebSocketKey,
    SecWebSocketVersion,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    Other,
}

/// One header field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Which one.
    pub id: Name,
    /// The name as written: a token.
    pub name: &'a [u8],
    /// The value without the white space around it.
    pub value: &'a [u8],
}

/// The fields of a head in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields<'a>(Vec<Field<'a>>);

/// The head of a request, before anything is decided about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// A token; methods are case-sensitive (RFC 9110 section 9.1).
    pub method: &'a [u8],
    /// The request target as written.
    pub target: &'a [u8],
    /// The version the client speaks.
    pub version: Version,
    /// The fields.
    pub fields: Fields<'a>,
    /// How many bytes of the buffer the head takes up.
    pub len: usize,
}

/// The head of a response, before anything is decided about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead<'a> {
    /// The version the server speaks.
    pub version: Version,
    /// 100 to 599.
    pub status: u16,
    /// The reason phrase; often empty.
    pub reason: &'a [u8],
    /// The fields.
    pub fields: Fields<'a>,
    /// How many bytes of the buffer the head takes up.
    pub len: usize,
}

impl<'a> Fields<'a> {
    /// All fields in order.
    pub fn iter(&self) -> impl Iterator<Item = &Field<'a>> {
        self.0.iter()
    }

    /// The values of every field of this name, in order.
    pub fn all(&self, id: Name) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.0.iter().filter(move |field| field.id == id).map(|field| field.value)
    }

    /// The value of the only field of this name; `Err` when there are several.
    ///
    /// # Errors
    /// Two or more fields have the name.
    pub fn only(&self, id: Name) -> Result<Option<&'a [u8]>, Repeated> {
        let mut values = self.all(id);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(Repeated),
        }
    }
}

/// A field is given more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeated;

impl<'a> RequestHead<'a> {
    /// Reads a request head from the start of `buf`.
    pub fn parse(buf: &'a [u8]) -> Progress<Self, HeadError> {
        // What is no text at all is refused by its first byte.
        match buf.first() {
            Some(byte) if !is_token_byte(*byte) => Progress::Bad(HeadError::RequestLine),
            _ => whole(buf, Self::read),
        }
    }

    fn read(head: &'a [u8]) -> Result<Self, HeadError> {
        let (line, rest) = line(head).ok_or(HeadError::LineEnd)?;
        // RFC 9112 section 3: exactly one space between the three parts.
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(HeadError::RequestLine);
        };
        if !is_token(method) || method.len() > MAX_METHOD || target.is_empty() {
            return Err(HeadError::RequestLine);
        }
        if !target.iter().all(u8::is_ascii_graphic) {
            return Err(HeadError::RequestLine);
        }
        let version = self::version(version).ok_or(HeadError::Version)?;
        Ok(Self { method, target, version, fields: fields(rest)?, len: head.len() })
    }
}

impl<'a> ResponseHead<'a> {
    /// Reads a response head from the start of `buf`.
    pub fn parse(buf: &'a [u8]) -> Progress<Self, HeadError> {
        match buf.first() {
            Some(byte) if *byte != b'H' => Progress::Bad(HeadError::StatusLine),
            _ => whole(buf, Self::read),
        }
    }

    fn read(head: &'a [u8]) -> Result<Self, HeadError> {
        let (line, rest) = line(head).ok_or(HeadError::LineEnd)?;
        let mut parts = line.splitn(3, |byte| *byte == b' ');
        let version = parts.next().ok_or(HeadError::StatusLine)?;
        let version = self::version(version).ok_or(HeadError::Version)?;
        let status = parts.next().and_then(status).ok_or(HeadError::StatusLine)?;
        // RFC 9112 section 4 wants the space even before an empty reason; some servers leave it out.
        let reason = parts.next().unwrap_or_default();
        if !is_value(reason) {
            return Err(HeadError::StatusLine);
        }
        Ok(Self { version, status, reason, fields: fields(rest)?, len: head.len() })
    }
}

/// Finds the end of the head and reads it.
fn whole<'a, T>(buf: &'a [u8], read: impl Fn(&'a [u8]) -> Result<T, HeadError>) -> Progress<T, HeadError> {
    let bounded = buf.get(..MAX_HEAD).unwrap_or(buf);
    let end = memchr::memmem::find(bounded, b"\r\n\r\n").map(|at| at.saturating_add(4));
    let head = end.and_then(|end| bounded.get(..end));
    let seen = head.unwrap_or(bounded);
    // Looked at before the end is there: who ends lines in a bare LF would wait for ever.
    let bare = |at: usize| at.checked_sub(1).and_then(|before| seen.get(before)) != Some(&b'\r');
    if memchr::memchr_iter(b'\n', seen).any(bare) {
        return Progress::Bad(HeadError::LineEnd);
    }
    match head.map(read) {
        Some(Ok(head)) => Progress::Head(head),
        Some(Err(error)) => Progress::Bad(error),
        None if buf.len() >= MAX_HEAD => Progress::Bad(HeadError::TooLarge),
        None => Progress::More,
    }
}

/// The first line without its CR LF, and what follows it.
fn line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\n', text)?;
    let (line, rest) = text.split_at_checked(end)?;
    Some((line.strip_suffix(b"\r")?, rest.get(1..)?))
}

/// The lines up to the empty one.
fn fields(mut text: &[u8]) -> Result<Fields<'_>, HeadError> {
    let mut fields = Vec::with_capacity(24);
    loop {
        let (line, rest) = line(text).ok_or(HeadError::LineEnd)?;
        text = rest;
        match line.first() {
            None => return Ok(Fields(fields)),
            Some(b' ' | b'\t') => return Err(HeadError::Folded),
            Some(_) if fields.len() == MAX_FIELDS => return Err(HeadError::TooMany),
            Some(_) => {}
        }
        let colon = memchr::memchr(b':', line).ok_or(HeadError::Field)?;
        let (name, value) = line.split_at(colon);
        let value = trim(value.get(1..).unwrap_or_default());
        if !is_token(name) || !is_value(value) {
            return Err(HeadError::Field);
        }
        let id = identify(name);
        if id == Name::Other && is_a_known_name_in_disguise(name) {
            return Err(HeadError::Field);
        }
        fields.push(Field { id, name, value });
    }
}

/// Programs that take fields from CGI variables see no difference between `Content_Length` and `Content-Length`.
fn is_a_known_name_in_disguise(name: &[u8]) -> bool {
    let dashed = || name.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect::<Vec<u8>>();
    name.contains(&b'_') && identify(&dashed()) != Name::Other
}

fn version(text: &[u8]) -> Option<Version> {
    match text {
        b"HTTP/1.1" => Some(Version::Http11),
        b"HTTP/1.0" => Some(Version::Http10),
        _ => None,
    }
}

/// RFC 9110 section 15: three digits, of which the first is 1 to 5.
fn status(digits: &[u8]) -> Option<u16> {
    let plain = digits.len() == 3 && digits.iter().all(u8::is_ascii_digit);
    let status: u16 = std::str::from_utf8(plain.then_some(digits)?).ok()?.parse().ok()?;
    (100..600).contains(&status).then_some(status)
}

/// Without the spaces and tabs at both ends (OWS, RFC 9110 section 5.6.3); other white space is no white space here.
pub fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// The elements of a comma-separated list without the empty ones (RFC 9110 section 5.6.1).
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|element| !element.is_empty())
}

/// Whether the bytes are a token (RFC 9110 section 5.6.2).
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_token_byte(*byte))
}

/// Whether a byte may stand in a token.
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether a byte may stand in a field's value (RFC 9110 section 5.5): no control character but the tab.
pub fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || byte >= 0x20 && byte != 0x7f
}

fn is_value(text: &[u8]) -> bool {
    text.iter().all(|byte| is_value_byte(*byte))
}

/// Which field a name names (RFC 9110 section 5.1: whatever its case).
fn identify(name: &[u8]) -> Name {
    const NAMES: [(&[u8], Name); 18] = [
        (b"alt-svc", Name::AltSvc),
        (b"connection", Name::Connection),
        (b"content-length", Name::ContentLength),
        (b"expect", Name::Expect),
        (b"host", Name::Host),
        (b"http2-settings", Name::Http2Settings),
        (b"keep-alive", Name::KeepAlive),
        (b"proxy-authenticate", Name::ProxyAuthenticate),
        (b"proxy-authentication-info", Name::ProxyAuthenticationInfo),
        (b"proxy-authorization", Name::ProxyAuthorization),
        (b"proxy-connection", Name::ProxyConnection),
        (b"sec-websocket-accept", Name::SecWebSocketAccept),
        (b"sec-websocket-key", Name::SecWebSocketKey),
        (b"sec-websocket-version", Name::SecWebSocketVersion),
        (b"te", Name::Te),
        (b"trailer", Name::Trailer),
        (b"transfer-encoding", Name::TransferEncoding),
        (b"upgrade", Name::Upgrade),
    ];
    let known = NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    known.map_or(Name::Other, |(_, id)| *id)
}
