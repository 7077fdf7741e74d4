//! Host names and the patterns that match them.
//!
//! Both are held in one normal form (ASCII, lower case, no final dot), so that a comparison is a comparison of bytes.
//! What is not plainly a name or an address is refused: a pattern read differently by two parsers is a hole.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Serialize, Serializer};
use thiserror::Error;
use unicode_normalization::UnicodeNormalization as _;

/// How many names one pattern may expand to with `{a,b}`.
const MAX_ALTERNATIVES: usize = 64;

/// The longest name, with a final dot.
const MAX_WIRE: usize = 254;

/// Domains of services where everyone can have a name, beside the public suffixes that no pattern may cover.
const HOSTING: &[&str] = &[
    "amazonaws.com",
    "api.aws",
    "atlassian.net",
    "auth0.com",
    "azure.com",
    "azure.net",
    "azurecr.io",
    "b-cdn.net",
    "backblazeb2.com",
    "cloudflarestorage.com",
    "databricks.com",
    "digitaloceanspaces.com",
    "discord.com",
    "docker.com",
    "firebaseio.com",
    "fly.io",
    "force.com",
    "github.com",
    "gitlab.com",
    "googleusercontent.com",
    "heroku.com",
    "jsdelivr.net",
    "linodeobjects.com",
    "mongodb.net",
    "ngrok.com",
    "oastify.com",
    "okta.com",
    "on.aws",
    "oraclecloud.com",
    "postman.co",
    "queue.core.windows.net",
    "railway.app",
    "requestbin.net",
    "salesforce.com",
    "scw.cloud",
    "sharepoint.com",
    "slack.com",
    "snowflakecomputing.com",
    "storage.googleapis.com",
    "table.core.windows.net",
    "twilio.com",
    "unpkg.com",
    "upstash.io",
    "vercel-storage.com",
    "wasabisys.com",
    "windows.net",
    "zendesk.com",
];

/// Why a text is not a host name or a host pattern.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HostError {
    /// The text is empty.
    #[error("a host name is empty")]
    Empty,
    /// A character that no host name has.
    #[error("host {text:?} contains {found:?}; {why}")]
    Character {
        /// The text as written.
        text: String,
        /// The offending character.
        found: char,
        /// What is expected instead.
        why: &'static str,
    },
    /// The name breaks the rules of DNS or IDNA.
    #[error("host {text:?} is not a valid name: {why}")]
    Invalid {
        /// The text as written.
        text: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// A wildcard where none may stand.
    #[error("host pattern {text:?} has a wildcard that is not a whole leading label")]
    Wildcard {
        /// The pattern as written.
        text: String,
    },
    /// Unbalanced, nested, empty or too many alternatives.
    #[error("host pattern {text:?}: {why}")]
    Braces {
        /// The pattern as written.
        text: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// The pattern covers names of unrelated owners.
    #[error("host pattern {text:?} covers the public suffix {suffix:?}, below which anyone can have a name")]
    PublicSuffix {
        /// The pattern as written.
        text: String,
        /// The public suffix.
        suffix: String,
    },
}

/// A host name in its normal form, or an IP address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A DNS name: ASCII, lower case, no final dot.
    Name(String),
    /// An address literal.
    Address(IpAddr),
}

impl Host {
    /// Reads a host as it stands in a URL's authority or in a CONNECT line, without a port. One final dot is dropped.
    ///
    /// # Errors
    /// Anything but a DNS name, a dotted IPv4 address of four decimal parts, or an IPv6 address in brackets.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        check_characters(text, &['*', '{', '}', ','], "a single host name is expected")?;
        let name = text.strip_suffix('.').unwrap_or(text);
        match normalise(name, text)? {
            Self::Address(_) if name.len() != text.len() => {
                Err(HostError::Invalid { text: text.to_owned(), why: "an address has no final dot" })
            }
            host => Ok(host),
        }
    }

    /// Reads a host that came over a network protocol: as [`Host::parse`], but in ASCII, as RFC 3986 section 3.2.2,
    /// RFC 6066 section 3 and RFC 1928 have it. A program that knows names in other scripts sends their `xn--` form.
    ///
    /// # Errors
    /// Anything that [`Host::parse`] refuses, whatever is not ASCII, and more than 254 bytes.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, HostError> {
        let start = || bytes.get(..64).unwrap_or(bytes);
        let invalid = |why| HostError::Invalid { text: String::from_utf8_lossy(start()).into_owned(), why };
        if bytes.len() > MAX_WIRE {
            return Err(invalid("it is longer than 253 characters"));
        }
        match std::str::from_utf8(bytes) {
            Ok(text) if text.is_ascii() => Self::parse(text),
            _ => Err(invalid("it is not ASCII")),
        }
    }

    /// The name, unless this is an address.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Address(_) => None,
        }
    }
}

impl From<IpAddr> for Host {
    /// An IPv4 address in the form of IPv6 (`::ffff:192.0.2.7`) becomes the IPv4 address, which is what is dialled.
    fn from(address: IpAddr) -> Self {
        Self::Address(address.to_canonical())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// Which names a pattern's alternative covers, relative to its base name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    /// `api.example.com`: this host only.
    Exact(Host),
    /// `*.example.com`: one label below.
    OneLabel(String),
    /// `**.example.com`: one label or more below.
    AnyDepth(String),
    /// `.example.com`: the name itself and everything below.
    Domain(String),
}

/// A host pattern: `api.example.com`, `*.example.com`, `**.example.com`, `.example.com`, with `{a,b}` alternatives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    text: String,
    shapes: Vec<Shape>,
}

impl HostPattern {
    /// Reads a pattern for a rule that grants: one that covers a public suffix is refused.
    ///
    /// # Errors
    /// See [`HostError`].
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let pattern = Self::parse_for_deny(text)?;
        for shape in &pattern.shapes {
            let base = match shape {
                Shape::OneLabel(base) | Shape::AnyDepth(base) | Shape::Domain(base) => base,
                Shape::Exact(Host::Name(name)) if !name.contains('.') && is_known_suffix(name) => name,
                Shape::Exact(_) => continue,
            };
            if psl::domain(base.as_bytes()).is_none() {
                return Err(HostError::PublicSuffix { text: text.to_owned(), suffix: base.clone() });
            }
        }
        Ok(pattern)
    }

    /// Reads a pattern for a rule that denies: it may cover a public suffix.
    ///
    /// # Errors
    /// See [`HostError`].
    pub fn parse_for_deny(text: &str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        check_characters(text, &[], "")?;
        let mut shapes = Vec::new();
        for alternative in expand(text)? {
            let shape = shape(&alternative, text)?;
            if shapes.contains(&shape) {
                return Err(HostError::Braces { text: text.to_owned(), why: "an alternative is given twice" });
            }
            shapes.push(shape);
        }
        Ok(Self { text: text.to_owned(), shapes })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern covers the host.
    pub fn matches(&self, host: &Host) -> bool {
        self.shapes.iter().any(|shape| shape.matches(host))
    }

    /// The domain below which this pattern covers names of strangers: one where everyone can have a name or a place,
    /// and which the public suffix list does not know, or knows only in part.
    pub fn hosting(&self) -> Option<&'static str> {
        let covers = |shape: &Shape, domain: &str| match shape {
            Shape::Exact(_) => false,
            Shape::OneLabel(base) => base == domain,
            Shape::AnyDepth(base) | Shape::Domain(base) => base == domain || is_below(domain, base),
        };
        HOSTING.iter().find(|domain| self.shapes.iter().any(|shape| covers(shape, domain))).copied()
    }

    /// The addresses this pattern names.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.shapes.iter().filter_map(|shape| match shape {
            Shape::Exact(Host::Address(address)) => Some(*address),
            _ => None,
        })
    }

    /// The one name this pattern stands for, if it covers exactly one.
    pub fn single_name(&self) -> Option<&str> {
        match self.shapes.as_slice() {
            [Shape::Exact(host)] => host.name(),
            _ => None,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl Shape {
    fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Exact(own), _) => own == host,
            (_, Host::Address(_)) => false,
            (Self::OneLabel(base), Host::Name(name)) => parent(name) == Some(base),
            (Self::AnyDepth(base), Host::Name(name)) => is_below(name, base),
            (Self::Domain(base), Host::Name(name)) => name == base || is_below(name, base),
        }
    }
}

/// The name without its first label.
fn parent(name: &str) -> Option<&str> {
    name.split_once('.').map(|(_, rest)| rest)
}

/// Whether `name` has `base` as a proper suffix at a label's border.
fn is_below(name: &str, base: &str) -> bool {
    name.strip_suffix(base).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

/// Whether a name ends in a public suffix that the list knows.
pub fn is_known_suffix(name: &str) -> bool {
    psl::suffix(name.as_bytes()).is_some_and(|suffix| suffix.is_known())
}

/// Refuses what would be read differently by URL, proxy and DNS code, before anything else looks at the text.
fn check_characters(text: &str, also: &[char], also_why: &'static str) -> Result<(), HostError> {
    if text.is_empty() {
        return Err(HostError::Empty);
    }
    for found in text.chars() {
        let why = match found {
            _ if found.is_control() => "control characters are refused",
            _ if found.is_whitespace() => "spaces are refused",
            '%' => "percent-encoding is refused",
            '@' => "user information is refused",
            '\\' => "backslashes are refused",
            '/' | '?' | '#' => "a host name is expected, not a URL",
            _ if also.contains(&found) => also_why,
            _ => continue,
        };
        return Err(HostError::Character { text: text.to_owned(), found, why });
    }
    if !text.starts_with('[') && text.contains(':') {
        return Err(HostError::Character {
            text: text.to_owned(),
            found: ':',
            why: "ports are given by `ports`, IPv6 addresses in brackets",
        });
    }
    Ok(())
}

fn shape(alternative: &str, text: &str) -> Result<Shape, HostError> {
    type Make = fn(String) -> Shape;
    let prefixes: [(&str, Make); 3] = [("**.", Shape::AnyDepth), ("*.", Shape::OneLabel), (".", Shape::Domain)];
    for (prefix, make) in prefixes {
        let Some(base) = alternative.strip_prefix(prefix) else { continue };
        if base.contains('*') {
            return Err(HostError::Wildcard { text: text.to_owned() });
        }
        return match normalise(base, text)? {
            Host::Name(name) => Ok(make(name)),
            Host::Address(_) => {
                Err(HostError::Invalid { text: text.to_owned(), why: "an address has no names below it" })
            }
        };
    }
    if alternative.contains('*') {
        return Err(HostError::Wildcard { text: text.to_owned() });
    }
    normalise(alternative, text).map(Shape::Exact)
}

/// All texts that `{a,b}` stands for; no nesting.
fn expand(text: &str) -> Result<Vec<String>, HostError> {
    let braces = |why| HostError::Braces { text: text.to_owned(), why };
    let mut expanded = vec![String::new()];
    let mut rest = text;
    while let Some(start) = rest.find(['{', '}', ',']) {
        let (literal, from) = rest.split_at(start);
        if !from.starts_with('{') {
            return Err(braces("`}` or `,` stands outside of braces"));
        }
        let Some((group, after)) = from[1..].split_once('}') else { return Err(braces("`{` is not closed")) };
        if group.contains('{') {
            return Err(braces("braces are nested"));
        }
        if group.split(',').any(str::is_empty) {
            return Err(braces("an alternative is empty"));
        }
        let alternatives: Vec<&str> = group.split(',').collect();
        if expanded.len() * alternatives.len() > MAX_ALTERNATIVES {
            return Err(braces("more than 64 names"));
        }
        expanded = expanded
            .iter()
            .flat_map(|head| alternatives.iter().map(move |alternative| format!("{head}{literal}{alternative}")))
            .collect();
        rest = after;
    }
    for one in &mut expanded {
        one.push_str(rest);
    }
    Ok(expanded)
}

/// Whether a name in another script is in its own normal form, case apart. IDNA drops invisible characters and turns
/// full-width, circled and other look-alikes, and three more full stops, into plain ones: `１２７。１` is no name.
fn reads_as_written(name: &str, ascii: &str) -> bool {
    let (unicode, result) = idna::domain_to_unicode(ascii);
    let mut labels = name.split('.').zip(unicode.split('.'));
    result.is_ok()
        && name.split('.').count() == unicode.split('.').count()
        && labels.all(|(written, read)| written.is_ascii() || written.to_lowercase().nfc().eq(read.chars()))
}

/// The normal form of a name or address without a final dot.
fn normalise(name: &str, text: &str) -> Result<Host, HostError> {
    let invalid = |why| HostError::Invalid { text: text.to_owned(), why };
    if let Some(inner) = name.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or_else(|| invalid("`[` is not closed"))?;
        let address: Ipv6Addr = inner.parse().map_err(|_| invalid("not an IPv6 address"))?;
        return Ok(Host::from(IpAddr::V6(address)));
    }
    let ascii = idna::domain_to_ascii_cow(name.as_bytes(), idna::AsciiDenyList::URL)
        .map_err(|_| invalid("it cannot be written in ASCII (IDNA)"))?;
    if ascii.is_empty() {
        return Err(invalid("it is empty"));
    }
    if !name.is_ascii() && !reads_as_written(name, &ascii) {
        return Err(invalid("it has characters that stand for others or for none"));
    }
    if ascii.len() > 253 {
        return Err(invalid("it is longer than 253 characters"));
    }
    for label in ascii.split('.') {
        if label.is_empty() {
            return Err(invalid("a label is empty"));
        }
        if label.len() > 63 {
            return Err(invalid("a label is longer than 63 characters"));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(invalid("a label starts or ends with a hyphen"));
        }
        if !label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_'))
        {
            return Err(invalid("a label has characters other than letters, digits, `-` and `_`"));
        }
    }
    // Resolvers read "127.1", "0x7f.1" and "2130706433" as addresses: a last label that is a number is one.
    let last = ascii.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if hexadecimal || last.bytes().all(|byte| byte.is_ascii_digit()) {
        let address: Ipv4Addr = ascii.parse().map_err(|_| invalid("an address has four decimal parts"))?;
        return Ok(Host::Address(address.into()));
    }
    Ok(Host::Name(ascii.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dn_002_the_list_of_hosting_domains_has_none_that_are_refused_anyway() {
        let pattern = |domain: &&&str| HostPattern::parse(&format!(".{domain}"));
        let refused: Vec<_> = HOSTING.iter().filter(|domain| pattern(domain).is_err()).collect();
        assert!(refused.is_empty(), "{refused:?}");
        assert!(HOSTING.iter().all(|domain| pattern(&domain).is_ok_and(|pattern| pattern.hosting().is_some())));
    }
}
