//! What belongs to one connection and is not passed on (RFC 9110 section 7.6.1), and changes of protocol.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};
use thiserror::Error;

use super::head::{Field, Fields, Name, RequestHead, Version, is_token, list};

/// How many fields a message may name in `Connection`.
const MAX_NOMINATED: usize = 16;

/// What RFC 6455 section 1.3 adds to a key before it is hashed.
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Fields for all who handle a message. `Connection` may not take them out: it would change where the message goes, how
/// long it is, who sends it or what it means (RFC 9110 section 7.6.1).
const PROTECTED: [&[u8]; 27] = [
    b"accept",
    b"accept-encoding",
    b"age",
    b"authorization",
    b"cache-control",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"cookie",
    b"date",
    b"etag",
    b"expect",
    b"forwarded",
    b"host",
    b"if-match",
    b"if-none-match",
    b"location",
    b"origin",
    b"range",
    b"referer",
    b"set-cookie",
    b"transfer-encoding",
    b"vary",
    b"via",
    b"www-authenticate",
    b"x-forwarded-for",
];

/// Why the connection's own fields are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HopError {
    /// An element that is no token, or too many of them.
    #[error("the Connection field is malformed")]
    Connection,
    /// It names a field that is for everyone.
    #[error("the Connection field names a field that is not the connection's")]
    Protected,
    /// Half a WebSocket handshake.
    #[error("the WebSocket handshake is malformed")]
    WebSocket,
}

/// What `Connection` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connection<'a> {
    /// The connection ends with this message.
    pub close: bool,
    /// `Upgrade` is meant.
    pub upgrade: bool,
    /// Other fields that go no further.
    nominated: Vec<&'a [u8]>,
}

impl<'a> Connection<'a> {
    /// Reads every `Connection` field.
    ///
    /// # Errors
    /// See [`HopError`].
    pub fn parse(fields: &Fields<'a>) -> Result<Self, HopError> {
        let mut connection = Self::default();
        for option in fields.all(Name::Connection).flat_map(list) {
            if !is_token(option) {
                return Err(HopError::Connection);
            }
            if option.eq_ignore_ascii_case(b"close") {
                connection.close = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                connection.upgrade = true;
            } else if PROTECTED.iter().any(|name| name.eq_ignore_ascii_case(option)) || is_websocket(option) {
                return Err(HopError::Protected);
            } else if connection.nominated.len() == MAX_NOMINATED {
                return Err(HopError::Connection);
            } else {
                connection.nominated.push(option);
            }
        }
        Ok(connection)
    }

    /// Whether a field goes no further than this connection.
    fn holds_back(&self, field: &Field<'_>) -> bool {
        match field.id {
            Name::Connection
            | Name::Http2Settings
            | Name::KeepAlive
            | Name::ProxyAuthenticate
            | Name::ProxyAuthenticationInfo
            | Name::ProxyAuthorization
            | Name::ProxyConnection
            | Name::Te
            | Name::Trailer
            | Name::TransferEncoding
            | Name::Upgrade => true,
            _ => self.nominated.iter().any(|nominated| nominated.eq_ignore_ascii_case(field.name)),
        }
    }
}

fn is_websocket(name: &[u8]) -> bool {
    name.get(..14).is_some_and(|start| start.eq_ignore_ascii_case(b"sec-websocket-"))
}

/// Copies the fields that go further, except those that the program writes itself.
pub fn write_fields(
    fields: &Fields<'_>,
    connection: &Connection<'_>,
    own: impl Fn(&Field<'_>) -> bool,
    out: &mut Vec<u8>,
) {
    for field in fields.iter().filter(|field| !own(field) && !connection.holds_back(field)) {
        write_field(field.name, field.value, out);
    }
}

/// Writes one line. Name and value are those of a field that was read, or the program's own.
pub fn write_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// A well-formed WebSocket handshake of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebSocket {
    /// What the server has to answer in `Sec-WebSocket-Accept`.
    accept: [u8; 28],
}

impl WebSocket {
    /// Reads the handshake of RFC 6455 section 4.2.1. `None` when the request wants no WebSocket: whatever else `Upgrade`
    /// says is left out of what is passed on (h2c would carry requests that nobody looks at).
    ///
    /// # Errors
    /// It wants one and does not say so properly.
    pub fn parse(
        head: &RequestHead<'_>,
        connection: &Connection<'_>,
        has_body: bool,
    ) -> Result<Option<Self>, HopError> {
        let wants = |token: &[u8]| token.get(..9).is_some_and(|start| start.eq_ignore_ascii_case(b"websocket"));
        if !connection.upgrade || !head.fields.all(Name::Upgrade).flat_map(list).any(wants) {
            return Ok(None);
        }
        let only = |id| head.fields.only(id).map_err(|_| HopError::WebSocket);
        let plain = only(Name::Upgrade)?.is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"));
        let version = only(Name::SecWebSocketVersion)? == Some(b"13");
        if head.method != b"GET" || head.version != Version::Http11 || has_body || !plain || !version {
            return Err(HopError::WebSocket);
        }
        let key = only(Name::SecWebSocketKey)?.ok_or(HopError::WebSocket)?;
        let mut bytes = [0; 18];
        match STANDARD.decode_slice(key, &mut bytes) {
            Ok(16) if key.len() == 24 => {}
            _ => return Err(HopError::WebSocket),
        }
        let mut accept = [0; 28];
        let hash = Sha1::new().chain_update(key).chain_update(WEBSOCKET_GUID).finalize();
        match STANDARD.encode_slice(hash, &mut accept) {
            Ok(28) => Ok(Some(Self { accept })),
            _ => Err(HopError::WebSocket),
        }
    }

    /// Whether a server's 101 answers this handshake (RFC 6455 section 4.1).
    pub fn is_answered_by(&self, fields: &Fields<'_>, connection: &Connection<'_>) -> bool {
        let upgrade = fields.only(Name::Upgrade).ok().flatten();
        let accept = fields.only(Name::SecWebSocketAccept).ok().flatten();
        connection.upgrade
            && upgrade.is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"))
            && accept == Some(self.accept.as_slice())
    }
}
