//! `host[:port]` as it stands in a URL, in the target of CONNECT and in a `Host` field (RFC 3986 section 3.2).
//!
//! There is one reader for all of them, so that no two places can disagree about where a request goes.

use std::fmt;

use thiserror::Error;

use super::host::{Host, HostError};

/// A host and the port that was named with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The host.
    pub host: Host,
    /// The port, when one was written.
    pub port: Option<u16>,
}

/// Why bytes are not `host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AuthorityError {
    /// The part before the port.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The part after the colon.
    #[error("a port is a number from 1 to 65535 in plain digits")]
    Port,
}

impl Authority {
    /// Reads `host`, `host:port`, `[address]` or `[address]:port`.
    ///
    /// Stricter than RFC 3986 section 3.2.3: a port is not empty, has no sign and no leading zero, and is not 0.
    ///
    /// # Errors
    /// User information, percent-encoding, whatever [`Host::from_wire`] refuses, and any other port.
    pub fn parse(bytes: &[u8]) -> Result<Self, AuthorityError> {
        // A colon inside brackets belongs to the address.
        let end_of_address = match bytes.first() {
            Some(b'[') => bytes.iter().position(|byte| *byte == b']').unwrap_or(bytes.len()),
            _ => 0,
        };
        let (_, after) = bytes.split_at(end_of_address);
        let Some(colon) = after.iter().position(|byte| *byte == b':').map(|at| at.saturating_add(end_of_address))
        else {
            return Ok(Self { host: Host::from_wire(bytes)?, port: None });
        };
        let (host, port) = bytes.split_at(colon);
        let port = port.get(1..).and_then(parse_port);
        // The host is looked at first: `user:password@host` is about the user, not about the port.
        let host = Host::from_wire(host)?;
        Ok(Self { host, port: Some(port.ok_or(AuthorityError::Port)?) })
    }

    /// The port, or the one that the scheme implies.
    pub fn port_or(&self, implied: u16) -> u16 {
        self.port.unwrap_or(implied)
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => write!(f, "{}", self.host),
        }
    }
}

/// A port in plain decimal digits: 1 to 65535, no sign, no leading zero.
pub fn parse_port(digits: &[u8]) -> Option<u16> {
    let plain = digits.iter().all(u8::is_ascii_digit) && digits.first() != Some(&b'0');
    plain.then_some(digits).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, AuthorityError> {
        Authority::parse(text.as_bytes()).map(|authority| authority.to_string())
    }

    #[test]
    fn what_is_an_authority() {
        for (text, read) in [
            ("example.com", "example.com"),
            ("Example.com.:443", "example.com:443"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("[::1]", "[::1]"),
            ("[0::1]:65535", "[::1]:65535"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(read), "{text}");
        }
    }

    #[test]
    fn nt_010_ports_have_one_spelling() {
        for port in [
            "",
            "0",
            "+443",
            "-1",
            "00443",
            "0443",
            "65536",
            "99999999999",
            "443 ",
            " 443",
            "4 43",
            "0x1bb",
            "443:443",
            "https",
            "４４３",
        ] {
            assert_eq!(parse(&format!("example.com:{port}")), Err(AuthorityError::Port), "{port:?}");
            assert_eq!(parse(&format!("[::1]:{port}")), Err(AuthorityError::Port), "{port:?}");
        }
    }

    #[test]
    fn px_004_a_host_that_two_readers_take_apart_differently_is_refused() {
        for text in [
            "allowed.com@evil.test:443",
            "allowed.com:443@evil.test:443",
            "allowed:x@evil.test",
            "evil.test#allowed.com",
            "evil.test/allowed.com",
            "evil.test?allowed.com:443",
            "allowed.com\\@evil.test:443",
            "%65vil.test",
            "evil.test%00.allowed.com",
            "evil.test\0.allowed.com:443",
            "evil.test\t:443",
            " evil.test:443",
            "evil.test\r\n:443",
            "evil\u{3002}test",
            "evil\u{200b}.test",
            "\u{feff}evil.test",
            "[allowed.com]:443",
            "[::1",
            "[::1]x:443",
            "[::1]]",
            "[[::1]]",
            "::1",
            "::1:443",
            "[fe80::1%25eth0]:443",
            "[fe80::1%eth0]",
            "[v1.x]",
            ":443",
            ":",
            "",
            "\"evil.test\"",
            "'evil.test'",
            "<evil.test>",
            "evil.test;allowed.com",
            "127.1:80",
            "127.0.0.1.:80",
        ] {
            assert!(Authority::parse(text.as_bytes()).is_err(), "{text:?}: {:?}", parse(text));
        }
        assert!(Authority::parse(b"evil.test\xff").is_err());
    }
}
