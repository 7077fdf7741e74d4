//! Another proxy that the host's programs use (`HTTPS_PROXY` and its like): connections that the gate let through go by
//! way of it.
//!
//! It resolves the name itself, so no address is checked then: what it lets its clients reach, an allowed name can lead
//! to. Names with addresses of their own (`resolve`) and addresses are dialled directly.

use std::fmt;
use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::forward;
use super::http::head::Progress;
use super::http::response::{Exchange, Kind};
use crate::policy::authority::Authority;
use crate::policy::host::Host;

/// Why a variable of the environment names no proxy that can be used. The value may hold a password, so it is not shown.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParentError {
    /// Not `http://`.
    #[error("{0} names a proxy that is not spoken to in plain HTTP")]
    Scheme(&'static str),
    /// Not `http://[user:password@]host[:port]`.
    #[error("{0} is no URL of a proxy")]
    Malformed(&'static str),
}

/// One proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Parent {
    host: Host,
    port: u16,
    /// The value of `Proxy-Authorization`.
    authorization: Option<Zeroizing<String>>,
}

impl fmt::Debug for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parent({}:{})", self.host, self.port)
    }
}

/// The proxies of the environment, and for which hosts there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parents {
    tls: Option<Parent>,
    plain: Option<Parent>,
    any: Option<Parent>,
    without: Vec<String>,
}

/// What is to be carried, as far as it decides about the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// TLS, or what a program asked a proxy for.
    Tls,
    /// Requests of plain HTTP.
    Plain,
    /// A WebSocket over plain HTTP. Its bytes are nobody's requests, so the proxy is asked for a connection: one that
    /// passed on the answer to the handshake and went on reading requests would take them for such.
    WebSocket,
    /// Anything else.
    Raw,
}

impl Parents {
    /// Reads the variables that curl(1) and others do; the lower-case ones win.
    ///
    /// # Errors
    /// A proxy is named that cannot be used: going around it would not be what the user wants.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ParentError> {
        let first = |names: [&'static str; 2]| -> Result<Option<Parent>, ParentError> {
            let set =
                names.into_iter().find_map(|name| Some((name, variable(name).filter(|value| !value.is_empty())?)));
            set.map(|(name, value)| Parent::parse(name, &value)).transpose()
        };
        let without = ["no_proxy", "NO_PROXY"].into_iter().find_map(&variable).unwrap_or_default();
        let entry = |text: &str| text.trim().trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
        Ok(Self {
            tls: first(["https_proxy", "HTTPS_PROXY"])?,
            plain: first(["http_proxy", "HTTP_PROXY"])?,
            any: first(["all_proxy", "ALL_PROXY"])?,
            without: without.split([',', ' ']).map(entry).filter(|entry| !entry.is_empty()).collect(),
        })
    }

    /// The proxy for a host, if there is one.
    pub fn of(&self, host: &Host, port: u16, purpose: Use) -> Option<&Parent> {
        let Host::Name(name) = host else { return None };
        let spared = |entry: &String| {
            let (entry, fits) = match entry.rsplit_once(':') {
                Some((entry, digits)) => (entry, digits.parse() == Ok(port)),
                None => (entry.as_str(), true),
            };
            fits && (entry == "*"
                || name.strip_suffix(entry).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
        };
        if self.without.iter().any(spared) {
            return None;
        }
        let own = match purpose {
            Use::Tls => self.tls.as_ref(),
            Use::Plain | Use::WebSocket => self.plain.as_ref(),
            Use::Raw => None,
        };
        own.or(self.any.as_ref())
    }
}

impl Parent {
    fn parse(name: &'static str, value: &str) -> Result<Self, ParentError> {
        let rest = match value.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(ParentError::Scheme(name)),
            None => value,
        };
        let rest = rest.trim_end_matches('/');
        let (user, authority) = match rest.rsplit_once('@') {
            Some((user, authority)) => (Some(user), authority),
            None => (None, rest),
        };
        let malformed = || ParentError::Malformed(name);
        let Authority { host, port } = Authority::parse(authority.as_bytes()).map_err(|_| malformed())?;
        let authorization = match user {
            Some(user) => {
                let plain = Zeroizing::new(decode(user).ok_or_else(malformed)?);
                Some(Zeroizing::new(format!("Basic {}", STANDARD.encode(&*plain))))
            }
            None => None,
        };
        // curl(1): a proxy without a port is at 1080.
        Ok(Self { host, port: port.unwrap_or(1080), authorization })
    }

    /// Its host and port.
    pub fn address(&self) -> (&Host, u16) {
        (&self.host, self.port)
    }

    /// What it wants to be told of who asks.
    pub fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref().map(String::as_str)
    }

    /// Asks it for a connection. Returns what it sent behind its answer: the first words of the host.
    ///
    /// # Errors
    /// It says no, or speaks no HTTP: with the reason.
    pub async fn connect(
        &self,
        stream: &TcpStream,
        host: &Host,
        port: u16,
        patience: Duration,
    ) -> Result<Vec<u8>, String> {
        let mut request = Zeroizing::new(format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n"));
        if let Some(authorization) = &self.authorization {
            request.push_str("Proxy-Authorization: ");
            request.push_str(authorization);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        let asked = async {
            forward::write_all(stream, request.as_bytes(), patience).await?;
            let mut exchange = Exchange::connect();
            let mut read = Vec::new();
            loop {
                if forward::read_more(stream, &mut read).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let (kind, status, length) = match exchange.parse(&read) {
                    Progress::More => continue,
                    Progress::Bad(error) => return Err(io::Error::other(error)),
                    Progress::Head(response) => (response.kind, response.head.status, response.head.len),
                };
                read.drain(..length.min(read.len()));
                match kind {
                    Kind::Tunnel => return Ok(read),
                    Kind::Interim => {}
                    Kind::Switch | Kind::Final(_) => return Err(io::Error::other(format!("it answered {status}"))),
                }
            }
        };
        let answered = timeout(patience, asked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        answered.map_err(|error| format!("the host's proxy {}:{}: {error}", self.host, self.port))
    }
}

/// Takes `%xx` for a byte (RFC 3986 section 2.1).
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parents(variables: &[(&str, &str)]) -> Result<Parents, ParentError> {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Parents::read(find)
    }

    fn chosen(parents: &Parents, host: &str, port: u16, purpose: Use) -> Option<String> {
        parents.of(&Host::parse(host).unwrap(), port, purpose).map(|parent| format!("{parent:?}"))
    }

    #[test]
    fn each_protocol_has_its_variable() {
        let parents = parents(&[
            ("HTTPS_PROXY", "http://secure.test:3128"),
            ("http_proxy", "plain.test"),
            ("HTTP_PROXY", "http://other.test"),
            ("all_proxy", "http://[::1]:8080/"),
        ])
        .unwrap();
        assert_eq!(chosen(&parents, "a.test", 443, Use::Tls).as_deref(), Some("Parent(secure.test:3128)"));
        assert_eq!(chosen(&parents, "a.test", 80, Use::Plain).as_deref(), Some("Parent(plain.test:1080)"));
        assert_eq!(chosen(&parents, "a.test", 22, Use::Raw).as_deref(), Some("Parent([::1]:8080)"));
        assert_eq!(chosen(&parents, "192.0.2.1", 443, Use::Tls), None);
    }

    #[test]
    fn some_hosts_are_reached_without() {
        let parents =
            parents(&[("HTTPS_PROXY", "http://p.test:1"), ("NO_PROXY", "a.test, .b.test,*.c.test d.test:8443,")])
                .unwrap();
        for (host, port, without) in [
            ("a.test", 443, true),
            ("x.a.test", 443, true),
            ("xa.test", 443, false),
            ("b.test", 443, true),
            ("x.b.test", 443, true),
            ("c.test", 443, true),
            ("y.x.c.test", 443, true),
            ("d.test", 443, false),
            ("d.test", 8443, true),
            ("e.test", 443, false),
        ] {
            assert_eq!(chosen(&parents, host, port, Use::Tls).is_none(), without, "{host}:{port}");
        }
        let all = self::parents(&[("https_proxy", "http://p.test:1"), ("no_proxy", "*")]).unwrap();
        assert_eq!(chosen(&all, "a.test", 443, Use::Tls), None);
    }

    #[test]
    fn who_asks_is_told_and_never_shown() {
        let parents = parents(&[("https_proxy", "http://ann:p%40ss:w@p.test:1")]).unwrap();
        let parent = parents.of(&Host::parse("a.test").unwrap(), 443, Use::Tls).unwrap();
        // RFC 7617: `ann:p@ss:w`.
        assert_eq!(parent.authorization(), Some("Basic YW5uOnBAc3M6dw=="));
        assert!(!format!("{parents:?}").contains("YW5u"), "{parents:?}");
    }

    #[test]
    fn px_022_a_proxy_that_cannot_be_used_is_not_gone_around() {
        for (value, error) in [
            ("socks5://p.test:1080", ParentError::Scheme("https_proxy")),
            ("https://p.test", ParentError::Scheme("https_proxy")),
            ("http://p.test:0", ParentError::Malformed("https_proxy")),
            ("http://p.test/path", ParentError::Malformed("https_proxy")),
            ("http://a%4@p.test", ParentError::Malformed("https_proxy")),
            ("http://", ParentError::Malformed("https_proxy")),
        ] {
            assert_eq!(parents(&[("https_proxy", value)]), Err(error), "{value}");
        }
        assert_eq!(parents(&[("https_proxy", "")]), Ok(Parents::default()));
    }
}
