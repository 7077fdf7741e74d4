//! A request with everything decided that must be before it is passed on.

use std::io::Write as _;

use thiserror::Error;

use super::body::{self, Framing, FramingError};
use super::head::{Field, HeadError, Name, Progress, RequestHead, Version};
use super::hop::{self, Connection, HopError, WebSocket};
use crate::policy::authority::{Authority, AuthorityError};

/// A scheme that a request target may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `http`.
    Http,
    /// `https`: a client that wants the proxy to speak TLS for it.
    Https,
}

impl Scheme {
    /// The port that is meant when none is written.
    pub fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The form of the request target (RFC 9112 section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A path, as a server is asked.
    Origin {
        /// With its query; it starts with a slash.
        path: &'a [u8],
    },
    /// A whole URL, as a proxy is asked.
    Absolute {
        /// Its scheme.
        scheme: Scheme,
        /// With its query; empty, or it starts with a slash or question mark.
        path: &'a [u8],
    },
    /// CONNECT.
    Connect,
    /// `*`: OPTIONS for the server as a whole.
    Asterisk,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RequestError {
    /// The head as such.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The request target.
    #[error("the request target is malformed, or not of a form that the method has")]
    Target,
    /// The host in the target or in `Host`.
    #[error("the request's host: {0}")]
    Authority(#[from] AuthorityError),
    /// CONNECT without a port.
    #[error("CONNECT names no port")]
    NoPort,
    /// RFC 9112 section 3.2: exactly one.
    #[error("a request has one Host field")]
    Host,
    /// Two answers to the question where the request goes.
    #[error("the request target and the Host field name different hosts or ports")]
    HostMismatch,
    /// The length of the body.
    #[error(transparent)]
    Framing(#[from] FramingError),
    /// The connection's own fields.
    #[error(transparent)]
    Hop(#[from] HopError),
    /// `Expect` other than `100-continue`.
    #[error("Expect says something other than 100-continue")]
    Expect,
}

impl RequestError {
    /// The status that tells the client.
    pub fn status(&self) -> u16 {
        match self {
            Self::Head(HeadError::TooLarge | HeadError::TooMany) => 431,
            Self::Head(HeadError::Version) => 505,
            Self::Framing(FramingError::Coding) => 501,
            Self::Expect => 417,
            _ => 400,
        }
    }
}

/// A request that may be passed on, if the policy says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// The head as it came.
    pub head: RequestHead<'a>,
    /// What is asked for.
    pub target: Target<'a>,
    /// Where the request goes; `None` only for HTTP/1.0 without any `Host`.
    pub authority: Option<Authority>,
    /// How long the body is: never until the connection closes.
    pub framing: Framing,
    /// The client waits for 100 before it sends the body.
    pub expects_continue: bool,
    /// A WebSocket is wanted.
    pub websocket: Option<WebSocket>,
    connection: Connection<'a>,
}

/// How a request is passed on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Forward<'a> {
    /// To another proxy: with the whole URL as target.
    pub absolute: bool,
    /// With its WebSocket handshake, when it has one.
    pub websocket: bool,
    /// The connection is not used again.
    pub close: bool,
    /// The proxy's own fields. Those of the same name that came from the client are left out.
    pub extra: &'a [(&'a str, &'a str)],
}

impl<'a> Request<'a> {
    /// Reads a request from the start of `buf` and decides what has to be decided.
    pub fn parse(buf: &'a [u8]) -> Progress<Self, RequestError> {
        match RequestHead::parse(buf) {
            Progress::More => Progress::More,
            Progress::Bad(error) => Progress::Bad(error.into()),
            Progress::Head(head) => match Self::decide(head) {
                Ok(request) => Progress::Head(request),
                Err(error) => Progress::Bad(error),
            },
        }
    }

    fn decide(head: RequestHead<'a>) -> Result<Self, RequestError> {
        let (target, named) = target(head.method, head.target)?;
        let authority = authority(&head, target, named)?;
        let framing = framing(&head)?;
        let connection = Connection::parse(&head.fields)?;
        // Java says of a handshake that it has a body of no bytes.
        let has_body = !matches!(framing, Framing::None | Framing::Length(0));
        let websocket = WebSocket::parse(&head, &connection, has_body)?;
        let expects_continue = match head.fields.only(Name::Expect) {
            Ok(None) => false,
            Ok(Some(value)) if value.eq_ignore_ascii_case(b"100-continue") => {
                head.version == Version::Http11 && has_content(framing)
            }
            // Servers differ in what they make of others, and in whether they then read the body.
            _ => return Err(RequestError::Expect),
        };
        Ok(Self { head, target, authority, framing, expects_continue, websocket, connection })
    }

    /// The port the request goes to; plain requests without one mean 80.
    pub fn port(&self) -> Option<u16> {
        let implied = match self.target {
            Target::Absolute { scheme, .. } => scheme.port(),
            _ => Scheme::Http.port(),
        };
        self.authority.as_ref().map(|authority| authority.port_or(implied))
    }

    /// Why the request may do more than its method says: a body uploads, and some frameworks take another method from a
    /// field. `None` for one that reads.
    pub fn does_more_than_its_method(&self) -> Option<&'static str> {
        const OVERRIDES: [&[u8]; 3] = [b"X-HTTP-Method-Override", b"X-HTTP-Method", b"X-Method-Override"];
        // Many servers take `_` for `-`.
        let is = |name: &[u8], other: &[u8]| {
            let plain = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
            name.iter().map(plain).eq(other.iter().map(plain))
        };
        if self.framing == Framing::Chunked || has_content(self.framing) {
            return Some("a request that reads has no body");
        }
        let overrides = |name: &[u8]| OVERRIDES.iter().any(|other| is(name, other));
        self.head.fields.iter().any(|field| overrides(field.name)).then_some("a field asks for another method")
    }

    /// Whether the client may send another request afterwards (RFC 9112 section 9.3). One that speaks HTTP/1.0 may not.
    pub fn keeps_alive(&self) -> bool {
        self.head.version == Version::Http11 && !self.connection.close
    }

    /// Writes the head anew for the next server: HTTP/1.1, one `Host` that is the authority that was decided on, the
    /// framing that was decided on, nothing that is this connection's. Not for CONNECT.
    pub fn write(&self, forward: &Forward<'_>, out: &mut Vec<u8>) {
        out.reserve(self.head.len.saturating_add(256));
        out.extend_from_slice(self.head.method);
        out.push(b' ');
        self.write_target(forward.absolute, out);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        if let Some(authority) = &self.authority {
            let _ = write!(out, "Host: {authority}\r\n");
        }
        let own = |field: &Field<'_>| match field.id {
            Name::Host | Name::ContentLength => true,
            Name::Expect => !self.expects_continue,
            _ => forward.extra.iter().any(|(name, _)| name.as_bytes().eq_ignore_ascii_case(field.name)),
        };
        hop::write_fields(&self.head.fields, &self.connection, own, out);
        for (name, value) in forward.extra {
            hop::write_field(name.as_bytes(), value.as_bytes(), out);
        }
        write_framing(self.framing, out);
        if forward.websocket && self.websocket.is_some() {
            out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
        } else if forward.close {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }

    fn write_target(&self, absolute: bool, out: &mut Vec<u8>) {
        let (scheme, path) = match self.target {
            Target::Origin { path } => (Scheme::Http, path),
            Target::Absolute { scheme, path } => (scheme, path),
            Target::Asterisk | Target::Connect => (Scheme::Http, &b"*"[..]),
        };
        // RFC 9112 section 3.2.4: a proxy is asked about a whole server by a URL without a path.
        let asterisk = path == b"*" || path.is_empty() && self.head.method == b"OPTIONS";
        match &self.authority {
            Some(authority) if absolute => {
                let _ = write!(out, "{}://{authority}", scheme.text());
            }
            _ if asterisk => out.push(b'*'),
            _ => {}
        }
        if asterisk {
            return;
        }
        if !path.starts_with(b"/") {
            out.push(b'/');
        }
        out.extend_from_slice(path);
    }
}

/// Writes the field that says how long the body is.
pub(super) fn write_framing(framing: Framing, out: &mut Vec<u8>) {
    match framing {
        Framing::Length(length) => {
            let _ = write!(out, "Content-Length: {length}\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::None | Framing::UntilClose => {}
    }
}

fn has_content(framing: Framing) -> bool {
    !matches!(framing, Framing::None | Framing::Length(0))
}

/// RFC 9112 section 6.3, rules 4 to 7.
fn framing(head: &RequestHead<'_>) -> Result<Framing, FramingError> {
    let framing = body::declared(&head.fields, head.version)?.unwrap_or(Framing::None);
    // RFC 9110 sections 9.3.6 and 9.3.8: CONNECT and TRACE have no content.
    if matches!(head.method, b"CONNECT" | b"TRACE") && (framing == Framing::Chunked || has_content(framing)) {
        return Err(FramingError::Unexpected);
    }
    Ok(framing)
}

/// The form of the target, and the authority in it.
fn target<'a>(method: &[u8], target: &'a [u8]) -> Result<(Target<'a>, Option<Authority>), RequestError> {
    if method == b"CONNECT" {
        let authority = Authority::parse(target)?;
        // RFC 9110 section 9.3.6: there is no default.
        return match authority.port {
            Some(_) => Ok((Target::Connect, Some(authority))),
            None => Err(RequestError::NoPort),
        };
    }
    // A fragment is never sent (RFC 9112 section 3.2.1), and some programs take a backslash for a slash.
    if target.iter().any(|byte| matches!(byte, b'#' | b'\\')) {
        return Err(RequestError::Target);
    }
    match target {
        [b'/', ..] => Ok((Target::Origin { path: target }, None)),
        b"*" if method == b"OPTIONS" => Ok((Target::Asterisk, None)),
        _ => {
            let (scheme, rest) = scheme(target).ok_or(RequestError::Target)?;
            let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            Ok((Target::Absolute { scheme, path }, Some(Authority::parse(authority)?)))
        }
    }
}

fn scheme(target: &[u8]) -> Option<(Scheme, &[u8])> {
    [(&b"http://"[..], Scheme::Http), (b"https://", Scheme::Https)].into_iter().find_map(|(prefix, scheme)| {
        let (start, rest) = target.split_at_checked(prefix.len())?;
        start.eq_ignore_ascii_case(prefix).then_some((scheme, rest))
    })
}

/// The one answer to the question where the request goes. RFC 9112 section 3.2.2 lets the target win over `Host`; here
/// they have to agree, because what is behind may not know that rule.
fn authority(
    head: &RequestHead<'_>,
    target: Target<'_>,
    named: Option<Authority>,
) -> Result<Option<Authority>, RequestError> {
    let host = match head.fields.only(Name::Host).map_err(|_| RequestError::Host)? {
        Some(value) => Authority::parse(value)?,
        None if head.version == Version::Http11 => return Err(RequestError::Host),
        None => return Ok(named),
    };
    let Some(named) = named else { return Ok(Some(host)) };
    let same_port = match target {
        Target::Absolute { scheme, .. } => named.port_or(scheme.port()) == host.port_or(scheme.port()),
        // Clients write the host of CONNECT with and without its port.
        _ => host.port.is_none() || host.port == named.port,
    };
    if host.host != named.host || !same_port {
        return Err(RequestError::HostMismatch);
    }
    Ok(Some(named))
}
