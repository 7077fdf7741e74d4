//! The server's side of SOCKS 4, 4a and 5 (RFC 1928), up to the point where a client says where it wants to go.
//!
//! CONNECT without authentication is all there is: who can reach the proxy is inside the jail, and no other command opens
//! a connection that the policy has a rule for.

use std::net::IpAddr;

use thiserror::Error;

use crate::policy::host::{Host, HostError};

/// The longest user id of SOCKS 4 that is looked at; names have the same bound.
const MAX_TEXT: usize = 255;

const V4: u8 = 4;
const V5: u8 = 5;
const CONNECT: u8 = 1;
const NO_AUTHENTICATION: u8 = 0;

/// The answer to a greeting: no authentication is needed (RFC 1928 section 3).
pub const GREETED: [u8; 2] = [V5, NO_AUTHENTICATION];

/// What the client's bytes amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// More bytes are needed.
    More,
    /// A greeting of so many bytes: [`GREETED`] is sent and the rest read as the request.
    Greeted(usize),
    /// A request for a connection.
    Connect(Request),
    /// Never a request that may pass: [`Negotiation::refusal`] is sent, and the connection closed.
    Bad(SocksError),
}

/// A request for a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Where to.
    pub host: Host,
    /// Never 0.
    pub port: u16,
    /// How many bytes of the buffer the request takes up. What follows is for the other side.
    pub len: usize,
}

/// Why a client is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SocksError {
    /// Another protocol.
    #[error("not SOCKS 4 or 5")]
    Version,
    /// No method without authentication among those offered.
    #[error("the SOCKS client wants to authenticate")]
    Method,
    /// BIND, UDP ASSOCIATE and others.
    #[error("of SOCKS only CONNECT is served")]
    Command,
    /// An address type that does not exist.
    #[error("an unknown type of address in a SOCKS request")]
    AddressType,
    /// The host.
    #[error("the host of a SOCKS request: {0}")]
    Host(#[from] HostError),
    /// Port 0, a reserved byte that is used, or a text without end.
    #[error("malformed SOCKS request")]
    Malformed,
}

/// What came of a request (RFC 1928 section 6). SOCKS 4 knows only yes and no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The connection stands.
    Granted = 0,
    /// Something else.
    Failure = 1,
    /// The policy says no.
    NotAllowed = 2,
    /// There is no way to the network.
    NetworkUnreachable = 3,
    /// There is no way to the host, or no such name.
    HostUnreachable = 4,
    /// The host refused.
    Refused = 5,
    /// Another command than CONNECT.
    CommandNotSupported = 7,
    /// An unknown type of address.
    AddressTypeNotSupported = 8,
}

/// Where the conversation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Negotiation {
    /// Nothing was read.
    #[default]
    Start,
    /// A client of SOCKS 4.
    V4,
    /// A client of SOCKS 5 that was greeted.
    V5,
}

impl Negotiation {
    /// Looks at the client's bytes. They are used up as far as the step says; after [`Step::More`] it is called again with
    /// the same bytes and more.
    pub fn next(&mut self, buf: &[u8]) -> Step {
        let mut rest = Reader { buf, at: 0 };
        let step = match (*self, buf.first()) {
            (_, None) => return Step::More,
            (Self::Start | Self::V4, Some(&V4)) => {
                *self = Self::V4;
                rest.version_4().map(Step::Connect)
            }
            (Self::Start, Some(&V5)) => rest.greeting().map(Step::Greeted),
            (Self::V5, Some(&V5)) => rest.version_5().map(Step::Connect),
            _ => Err(Stop::Bad(SocksError::Version)),
        };
        match step {
            Ok(step) => {
                if let Step::Greeted(_) = step {
                    *self = Self::V5;
                }
                step
            }
            Err(Stop::More) => Step::More,
            Err(Stop::Bad(error)) => Step::Bad(error),
        }
    }

    /// The bytes that answer the request.
    pub fn reply(self, reply: Reply) -> Vec<u8> {
        match self {
            Self::Start => Vec::new(),
            // The protocol's description by Y.-D. Lee: 90 granted, 91 rejected or failed.
            Self::V4 => vec![0, if reply == Reply::Granted { 90 } else { 91 }, 0, 0, 0, 0, 0, 0],
            // The address that was bound is the proxy's own affair: 0.0.0.0:0.
            Self::V5 => vec![V5, reply as u8, 0, 1, 0, 0, 0, 0, 0, 0],
        }
    }

    /// The bytes that tell the client why it is refused; empty for other protocols.
    pub fn refusal(self, error: &SocksError) -> Vec<u8> {
        match error {
            SocksError::Method => vec![V5, 0xff],
            SocksError::Version => Vec::new(),
            SocksError::Command => self.reply(Reply::CommandNotSupported),
            SocksError::AddressType => self.reply(Reply::AddressTypeNotSupported),
            SocksError::Host(_) => self.reply(Reply::NotAllowed),
            SocksError::Malformed => self.reply(Reply::Failure),
        }
    }
}

/// Why reading ends before the end.
enum Stop {
    More,
    Bad(SocksError),
}

impl From<SocksError> for Stop {
    fn from(error: SocksError) -> Self {
        Self::Bad(error)
    }
}

struct Reader<'a> {
    buf: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Stop> {
        let end = self.at.saturating_add(count);
        let taken = self.buf.get(self.at..end).ok_or(Stop::More)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        self.take(N)?.try_into().map_err(|_| Stop::More)
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn port(&mut self) -> Result<u16, Stop> {
        match u16::from_be_bytes(self.array()?) {
            0 => Err(SocksError::Malformed.into()),
            port => Ok(port),
        }
    }

    /// Text up to a NUL, which is used up.
    fn text(&mut self) -> Result<&'a [u8], Stop> {
        let rest = self.buf.get(self.at..).unwrap_or_default();
        let Some(length) = rest.iter().take(MAX_TEXT.saturating_add(1)).position(|byte| *byte == 0) else {
            return Err(if rest.len() > MAX_TEXT { SocksError::Malformed.into() } else { Stop::More });
        };
        let text = self.take(length)?;
        self.take(1)?;
        Ok(text)
    }

    fn command(&mut self) -> Result<(), Stop> {
        self.take(1)?;
        if self.byte()? != CONNECT {
            return Err(SocksError::Command.into());
        }
        Ok(())
    }

    /// RFC 1928 section 3.
    fn greeting(&mut self) -> Result<usize, Stop> {
        self.take(1)?;
        let count = self.byte()?;
        if !self.take(count.into())?.contains(&NO_AUTHENTICATION) {
            return Err(SocksError::Method.into());
        }
        Ok(self.at)
    }

    /// RFC 1928 sections 4 and 5.
    fn version_5(&mut self) -> Result<Request, Stop> {
        self.command()?;
        if self.byte()? != 0 {
            return Err(SocksError::Malformed.into());
        }
        let host = match self.byte()? {
            1 => Host::from(IpAddr::from(self.array::<4>()?)),
            4 => Host::from(IpAddr::from(self.array::<16>()?)),
            3 => {
                let length = self.byte()?;
                Host::from_wire(self.take(length.into())?).map_err(SocksError::Host)?
            }
            _ => return Err(SocksError::AddressType.into()),
        };
        Ok(Request { host, port: self.port()?, len: self.at })
    }

    /// SOCKS 4, and 4a with a name: an address 0.0.0.x says that one follows.
    fn version_4(&mut self) -> Result<Request, Stop> {
        self.command()?;
        let port = self.port()?;
        let address = self.array::<4>()?;
        self.text()?;
        let host = match address {
            [0, 0, 0, last] if last != 0 => Host::from_wire(self.text()?).map_err(SocksError::Host)?,
            address => Host::from(IpAddr::from(address)),
        };
        Ok(Request { host, port, len: self.at })
    }
}
