//! The answers to one request, with everything decided that must be before they are passed on.

use std::io::Write as _;

use thiserror::Error;

use super::body::{self, Framing, FramingError};
use super::head::{Field, HeadError, Name, Progress, ResponseHead, Version};
use super::hop::{self, Connection, HopError, WebSocket};
use super::request::{Request, write_framing};

/// How many interim responses a server may send before the final one.
const MAX_INTERIM: usize = 16;

/// Why a response is refused: the client gets 502.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ResponseError {
    /// The head as such.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The length of the body.
    #[error(transparent)]
    Framing(#[from] FramingError),
    /// The connection's own fields.
    #[error(transparent)]
    Hop(#[from] HopError),
    /// 101 that nobody asked for, or to something else than what was asked for.
    #[error("the server changes the protocol without being asked to")]
    Switch,
    /// Interim responses without end.
    #[error("the server sends more than 16 interim responses")]
    Interim,
}

/// What a response is to its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 1xx: another response follows.
    Interim,
    /// The WebSocket that was asked for: what follows in both directions is no longer HTTP.
    Switch,
    /// 2xx to CONNECT: what follows in both directions is no longer HTTP.
    Tunnel,
    /// The last one, with the framing of the body that follows.
    Final(Framing),
}

/// A request that waits for its response: what was asked, and what was answered so far.
#[derive(Debug, Clone)]
pub struct Exchange {
    head_only: bool,
    connect: bool,
    websocket: Option<WebSocket>,
    client: Version,
    keeps_alive: bool,
    interim: usize,
}

/// A response that may be passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response<'a> {
    /// The head as it came.
    pub head: ResponseHead<'a>,
    /// What it is to its request.
    pub kind: Kind,
    /// The length it names, body or not.
    length: Option<u64>,
    connection: Connection<'a>,
}

impl Exchange {
    /// For a request that was passed on, with its WebSocket handshake or without.
    pub fn new(request: &Request<'_>, websocket: bool) -> Self {
        Self {
            head_only: request.head.method == b"HEAD",
            connect: false,
            websocket: request.websocket.filter(|_| websocket),
            client: request.head.version,
            keeps_alive: request.keeps_alive(),
            interim: 0,
        }
    }

    /// For a CONNECT of the proxy's own to another proxy.
    pub fn connect() -> Self {
        Self {
            head_only: false,
            connect: true,
            websocket: None,
            client: Version::Http11,
            keeps_alive: false,
            interim: 0,
        }
    }

    /// Reads the next response from the start of `buf`. After [`Kind::Interim`] it is called again for the next one; with
    /// anything else the exchange is over, and what the server sends after the body is not looked at.
    pub fn parse<'a>(&mut self, buf: &'a [u8]) -> Progress<Response<'a>, ResponseError> {
        match ResponseHead::parse(buf) {
            Progress::More => Progress::More,
            Progress::Bad(error) => Progress::Bad(error.into()),
            Progress::Head(head) => match self.decide(head) {
                Ok(response) => Progress::Head(response),
                Err(error) => Progress::Bad(error),
            },
        }
    }

    fn decide<'a>(&mut self, head: ResponseHead<'a>) -> Result<Response<'a>, ResponseError> {
        let declared = body::declared(&head.fields, head.version)?;
        let connection = Connection::parse(&head.fields)?;
        // RFC 9110 section 8.6 and RFC 9112 section 6.1: no body, and nothing that says there is one.
        let bodiless = head.status < 200 || head.status == 204;
        if bodiless && !matches!(declared, None | Some(Framing::Length(0))) {
            return Err(FramingError::Unexpected.into());
        }
        let kind = match head.status {
            101 => {
                let answered = |websocket: &WebSocket| websocket.is_answered_by(&head.fields, &connection);
                if head.version != Version::Http11 || !self.websocket.as_ref().is_some_and(answered) {
                    return Err(ResponseError::Switch);
                }
                Kind::Switch
            }
            100..200 => {
                self.interim = self.interim.saturating_add(1);
                if self.interim > MAX_INTERIM {
                    return Err(ResponseError::Interim);
                }
                Kind::Interim
            }
            200..300 if self.connect => Kind::Tunnel,
            204 | 304 => Kind::Final(Framing::None),
            _ if self.head_only => Kind::Final(Framing::None),
            _ => Kind::Final(declared.unwrap_or(Framing::UntilClose)),
        };
        let length = match declared {
            Some(Framing::Length(length)) if !bodiless => Some(length),
            _ => None,
        };
        Ok(Response { head, kind, length, connection })
    }

    /// Whether the client may send another request after this response.
    pub fn keeps_alive(&self, response: &Response<'_>) -> bool {
        let framed = match response.kind {
            Kind::Final(framing) => self.delivered(framing) != Framing::UntilClose,
            Kind::Interim => true,
            Kind::Switch | Kind::Tunnel => false,
        };
        self.keeps_alive && framed
    }

    /// How the body is passed on to the client: HTTP/1.0 has no chunks.
    pub fn delivered(&self, framing: Framing) -> Framing {
        match framing {
            Framing::Chunked if self.client == Version::Http10 => Framing::UntilClose,
            other => other,
        }
    }

    /// Writes the head anew for the client: the framing that was decided on, nothing that is the other connection's, no
    /// `Alt-Svc` (RFC 7838: it sends the client elsewhere, by a protocol that nobody looks at).
    ///
    /// `close` says that the connection to the client ends with this response whatever else is so.
    pub fn write(&self, response: &Response<'_>, close: bool, out: &mut Vec<u8>) {
        // RFC 9110 section 15.2: a client that speaks HTTP/1.0 does not know interim responses.
        if response.kind == Kind::Interim && self.client == Version::Http10 {
            return;
        }
        let head = &response.head;
        out.reserve(head.len.saturating_add(128));
        let _ = write!(out, "HTTP/1.1 {} ", head.status);
        out.extend_from_slice(head.reason);
        out.extend_from_slice(b"\r\n");
        let own = |field: &Field<'_>| matches!(field.id, Name::AltSvc | Name::ContentLength);
        hop::write_fields(&head.fields, &response.connection, own, out);
        match (response.kind, response.length) {
            (Kind::Final(Framing::None), Some(length)) => write_framing(Framing::Length(length), out),
            (Kind::Final(framing), _) => write_framing(self.delivered(framing), out),
            (Kind::Interim | Kind::Switch | Kind::Tunnel, _) => {}
        }
        match response.kind {
            Kind::Switch => out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n"),
            Kind::Final(_) if close || !self.keeps_alive(response) => out.extend_from_slice(b"Connection: close\r\n"),
            _ => {}
        }
        out.extend_from_slice(b"\r\n");
    }
}

impl Response<'_> {
    /// Whether the server may be sent another request after this response (RFC 9112 section 9.3).
    pub fn server_keeps_alive(&self) -> bool {
        let framed = matches!(self.kind, Kind::Final(framing) if framing != Framing::UntilClose);
        self.head.version == Version::Http11 && !self.connection.close && framed
    }
}
