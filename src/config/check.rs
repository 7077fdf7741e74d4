//! Checks on single values of a policy file: paths, globs, names, sizes. Each says what was expected.

use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use globset::GlobBuilder;
use jiff::SignedDuration;

use crate::policy::Publish;
use crate::policy::address::{AddressClass, classify};
use crate::policy::authority::parse_port;
use crate::policy::egress::{DEFAULT_PORTS, Ports, Rule};
use crate::policy::environment::{DANGEROUS, is_dangerous};
use crate::policy::host::{Host, HostError, HostPattern};

/// What is wrong with a value, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong, with the value quoted.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Fault {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

type Check<T> = Result<T, Fault>;

/// The directories that paths are judged against.
#[derive(Debug, Clone)]
pub struct Ground {
    /// The user's home.
    pub home: PathBuf,
    /// Directories of `jail` itself: policies; trust and records.
    pub own: [PathBuf; 2],
}

impl Ground {
    /// From the home, configuration and state directories of the user, in normal form.
    pub fn new(home: &Path, config_home: &Path, state_home: &Path) -> Self {
        let normal = |path: &Path| path.components().collect::<PathBuf>();
        Self { home: normal(home), own: [config_home, state_home].map(|path| normal(path).join("jail")) }
    }

    /// The same directories as links lead to them, whether or not `jail`'s own exist yet.
    pub fn real(&self) -> Self {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let own = self.own.each_ref().map(|own| match (own.canonicalize(), own.parent(), own.file_name()) {
            (Err(_), Some(parent), Some(name)) => real(parent).join(name),
            (Ok(path), ..) => path,
            _ => own.clone(),
        });
        Self { home: real(&self.home), own }
    }
}

/// What a path is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It is only read.
    Read,
    /// It is written too.
    Write,
}

/// Kernel and service directories: nothing in them can be granted.
const LIVE: &[&str] = &["/proc", "/sys", "/dev", "/run", "/var/run"];
/// Directories that are too much as a whole; what lies below can be granted.
const BROAD: &[&str] = &["/etc", "/boot", "/root", "/home", "/var", "/tmp", "/var/tmp"];
/// Directories whose contents the host runs or trusts: nothing in them can be granted for writing.
const SYSTEM: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/boot"];

/// Whether a path is the directory or lies below it. Both are in normal form, so bytes can be compared: this runs for
/// every path of every profile at each start, and taking paths apart into components was half of that time.
pub fn within(path: &Path, directory: impl AsRef<Path>) -> bool {
    let rest = path.as_os_str().as_bytes().strip_prefix(directory.as_ref().as_os_str().as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Equality of list entries, where it is cheaper than [`PartialEq`].
pub trait Same {
    /// Whether both are the same.
    fn same(&self, other: &Self) -> bool;
}

impl Same for PathBuf {
    fn same(&self, other: &Self) -> bool {
        self.as_os_str() == other.as_os_str()
    }
}

impl Same for String {
    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Same for IpAddr {
    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Same for Rule {
    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

/// An absolute path without `..`, with `~/` replaced by the home directory.
pub fn absolute_path(text: &str, home: &Path) -> Check<PathBuf> {
    no_control(text, "path")?;
    if text.contains(['*', '?', '[', '{']) {
        return Err(Fault::new(format!("path {text:?} contains a wildcard; a plain path is expected"))
            .hint("name the directory itself; globs work in `hide` and `reveal`"));
    }
    if text.contains('$') {
        return Err(Fault::new(format!("path {text:?} contains a variable; variables are not replaced"))
            .hint("write `~/` for the home directory"));
    }
    let path = match text.strip_prefix('~') {
        Some("") => home.to_path_buf(),
        Some(rest) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        Some(_) => return Err(Fault::new(format!("path {text:?} names another user's home; `~/` is expected"))),
        None => PathBuf::from(text),
    };
    if !path.is_absolute() {
        return Err(Fault::new(format!(
            "path {text:?} is relative; an absolute path or one that starts with `~/` is expected"
        )));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(Fault::new(format!("path {text:?} contains `..`")));
    }
    Ok(path.components().collect())
}

/// Refuses a path whose grant would give away more than a tool's directory.
pub fn not_too_broad(path: &Path, access: Access, ground: &Ground) -> Check<()> {
    let shown = path.display();
    let narrower = "name the directory that is needed, such as `~/.cargo/bin`";
    if path.parent().is_none() {
        return Err(Fault::new("path \"/\" is the whole file system").hint(narrower));
    }
    if path.as_os_str() == ground.home.as_os_str() {
        return Err(Fault::new(format!("path {shown:?} is the whole home directory")).hint(narrower));
    }
    if within(&ground.home, path) {
        return Err(Fault::new(format!("path {shown:?} contains the home directory")).hint(narrower));
    }
    if let Some(live) = LIVE.iter().find(|live| within(path, live)) {
        return Err(Fault::new(format!(
            "path {shown:?} is in {live}, where the host's devices, processes and sockets are"
        )));
    }
    if BROAD.iter().any(|broad| path.as_os_str() == *broad) {
        return Err(Fault::new(format!("path {shown:?} is too broad")).hint(narrower));
    }
    if access == Access::Write
        && let Some(system) = SYSTEM.iter().find(|system| within(path, system))
    {
        return Err(Fault::new(format!("path {shown:?} is in {system}, which the host runs programs from")));
    }
    if let Some(own) = ground.own.iter().find(|own| within(path, own) || within(own, path)) {
        return Err(Fault::new(format!(
            "path {shown:?} gives access to {}, where jail keeps policies and records",
            own.display()
        ))
        .hint(narrower));
    }
    Ok(())
}

/// A glob relative to the workspace, as it was written: one without a slash matches at any depth, one with a final
/// slash matches directories only.
pub fn glob(text: &str) -> Check<String> {
    no_control(text, "glob")?;
    let expected = "a glob relative to the workspace is expected";
    if text.starts_with('/') || text.starts_with('~') {
        return Err(Fault::new(format!("glob {text:?} is absolute; {expected}")));
    }
    if text.starts_with('!') {
        return Err(Fault::new(format!("glob {text:?} starts with `!`; {expected}")).hint("globs are not negated here"));
    }
    let written = text.strip_prefix("./").unwrap_or(text);
    let trimmed = written.strip_suffix('/').unwrap_or(written);
    if trimmed.is_empty() || trimmed == "." {
        return Err(Fault::new(format!("glob {text:?} names nothing; {expected}")));
    }
    if trimmed.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Fault::new(format!(
            "glob {text:?} has an empty, `.` or `..` part, and so matches nothing; {expected}"
        )));
    }
    GlobBuilder::new(trimmed)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map_err(|error| Fault::new(format!("glob {text:?}: {}", error.kind())))?;
    Ok(written.to_owned())
}

/// A glob that does not cover everything.
pub fn narrow_glob(text: &str) -> Check<String> {
    let glob = glob(text)?;
    if text.chars().all(|c| "*/?.{},[]!".contains(c)) {
        return Err(
            Fault::new(format!("glob {text:?} covers every file")).hint("name the files that are to stay visible")
        );
    }
    Ok(glob)
}

/// A plain path relative to the workspace.
pub fn workspace_path(text: &str) -> Check<String> {
    no_control(text, "path")?;
    let expected = "a path relative to the workspace is expected";
    if text.starts_with('/') || text.starts_with('~') {
        return Err(Fault::new(format!("path {text:?} is absolute; {expected}")));
    }
    if text.contains(['*', '?', '[', '{', '\\']) {
        return Err(Fault::new(format!("path {text:?} contains a wildcard; {expected}")));
    }
    let trimmed = text.strip_prefix("./").unwrap_or(text).trim_end_matches('/');
    if trimmed.is_empty() || trimmed.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Fault::new(format!("path {text:?} has an empty, `.` or `..` part; {expected}")));
    }
    Ok(trimmed.to_owned())
}

/// A workspace path that may lose its protection.
pub fn unprotectable(text: &str) -> Check<String> {
    let path = workspace_path(text)?;
    if path == super::PROJECT_FILE {
        return Err(Fault::new(format!("{path:?} is always protected: it is the project's policy")));
    }
    Ok(path)
}

/// A variable's name.
pub fn variable(text: &str) -> Check<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if text.is_empty() {
        return Err(Fault::new("a variable's name is empty"));
    }
    if !text.bytes().all(plain) || text.as_bytes()[0].is_ascii_digit() {
        return Err(Fault::new(format!("{text:?} is not a variable's name; letters, digits and `_` are expected")));
    }
    Ok(text.to_owned())
}

/// A variable's name with an optional trailing `*`.
pub fn variable_pattern(text: &str) -> Check<String> {
    match text.strip_suffix('*') {
        Some("") => {
            Err(Fault::new("\"*\" covers every variable").hint("name the variables, or a prefix such as `LC_*`"))
        }
        Some(prefix) => variable(prefix).map(|_| text.to_owned()),
        None => variable(text),
    }
}

/// A variable or prefix that may be taken over from the host.
pub fn passable(text: &str) -> Check<String> {
    let pattern = variable_pattern(text)?;
    let hint = "give it a value of its own with `set`, or name the harmless variables one by one";
    match pattern.strip_suffix('*') {
        None if is_dangerous(&pattern) => Err(Fault::new(format!(
            "variable {text:?} never enters the jail: it runs code or reaches the host's services"
        ))
        .hint(hint)),
        Some(prefix) => {
            let covered = DANGEROUS.iter().find(|entry| {
                let known = entry.trim_end_matches('*');
                known.starts_with(prefix) || (entry.ends_with('*') && prefix.starts_with(known))
            });
            match covered {
                Some(entry) => {
                    Err(Fault::new(format!("pattern {text:?} covers {entry}, which never enters the jail")).hint(hint))
                }
                None => Ok(pattern),
            }
        }
        None => Ok(pattern),
    }
}

/// A variable that a policy may set.
pub fn settable(text: &str) -> Check<String> {
    let name = variable(text)?;
    if name.starts_with("JAIL_") {
        return Err(Fault::new(format!("variable {text:?} is set by jail itself")));
    }
    Ok(name)
}

/// A number of bytes such as `8GiB`.
pub fn size(text: &str) -> Check<u64> {
    const UNITS: &[(&str, u64)] = &[
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
    ];
    const LEAST: u64 = 16 << 20;
    let expected = "a whole number with a unit is expected, such as \"512MiB\" or \"8GiB\"";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = UNITS.iter().find(|(name, _)| *name == unit.trim_start());
    let (Some((_, factor)), Ok(number)) = (unit, number.parse::<u64>()) else {
        return Err(Fault::new(format!("size {text:?} is not valid; {expected}")));
    };
    let bytes = number
        .checked_mul(*factor)
        .filter(|bytes| *bytes <= i64::MAX as u64)
        .ok_or_else(|| Fault::new(format!("size {text:?} is too large")))?;
    if bytes < LEAST {
        return Err(Fault::new(format!("size {text:?} is too small; at least \"16MiB\" is expected")));
    }
    Ok(bytes)
}

/// A time such as `2h` or `1h 30m`.
pub fn duration(text: &str) -> Check<Duration> {
    let expected = "a time of at least a second is expected, such as \"90s\", \"30m\" or \"2h\"";
    let duration: SignedDuration =
        text.parse().map_err(|_| Fault::new(format!("time {text:?} is not valid; {expected}")))?;
    let most = SignedDuration::from_hours(24 * 365);
    if duration < SignedDuration::from_secs(1) || duration > most {
        return Err(Fault::new(format!("time {text:?} is not between a second and a year; {expected}")));
    }
    Ok(duration.unsigned_abs())
}

/// A whole number within bounds.
pub fn count(number: i64, least: u64, most: u64) -> Check<u64> {
    u64::try_from(number)
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| Fault::new(format!("{number} is not between {least} and {most}")))
}

/// A number of processors.
pub fn processors(number: f64) -> Check<f64> {
    // The comparison is false for NaN.
    if (0.01..=4096.0).contains(&number) {
        Ok(number)
    } else {
        Err(Fault::new(format!("{number} is not between 0.01 and 4096")))
    }
}

/// Connections at once that a policy may name: the ports of one address.
pub const MOST_CONNECTIONS: u64 = 1 << 16;

/// The parts of `HOST` or `HOST:PORT`; the colons of an IPv6 address stand in brackets.
pub fn host_and_port(text: &str) -> Check<(&str, Option<u16>)> {
    let Some((host, port)) = text.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) else {
        return Ok((text, None));
    };
    match parse_port(port.as_bytes()) {
        Some(port) => Ok((host, Some(port))),
        None => Err(Fault::new(format!("{text:?} is not HOST or HOST:PORT"))),
    }
}

/// The host, and the port, that were probably meant by a text that is more than a host: a URL, or one with its port.
pub fn meant(text: &str) -> Option<(HostPattern, Option<u16>)> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next()?;
    // What is left of a range of addresses is not what was meant.
    let range = rest.strip_prefix(authority)?.strip_prefix('/').is_some_and(|bits| bits.parse::<u8>().is_ok());
    let (host, port) = host_and_port(authority).ok()?;
    let host = HostPattern::parse(host).ok()?;
    (!range && host.as_str() != text).then_some((host, port))
}

/// What to do about a host that cannot be allowed.
pub fn host_hint(text: &str, error: &HostError) -> Option<String> {
    let hint = match error {
        HostError::PublicSuffix { .. } | HostError::Wildcard { .. } => {
            "name whose hosts are meant: `*.example.com` is one label below, `.example.com` the domain and all below"
        }
        HostError::Character { found: '/', .. }
            if text.split_once('/').is_some_and(|(_, bits)| bits.parse::<u8>().is_ok()) =>
        {
            "there are no ranges of addresses: a rule names one, or a name with `resolve`"
        }
        _ => {
            return meant(text).map(|(host, port)| match port {
                Some(port) => format!("write host = \"{host}\" and ports = [{port}]"),
                None => format!("write host = \"{host}\""),
            });
        }
    };
    Some(hint.to_owned())
}

/// A port.
pub fn port(number: i64) -> Check<u16> {
    count(number, 1, u16::MAX.into()).map(|number| number as u16)
}

/// `PORT` or `HOST_PORT:PORT` as `--publish` takes it.
pub fn published(text: &str) -> Check<Publish> {
    let number = |text: &str| {
        parse_port(text.as_bytes()).ok_or_else(|| Fault::new(format!("{text:?} is not PORT or HOST_PORT:PORT")))
    };
    match text.split_once(':') {
        Some((host, inside)) => Ok(Publish { host_port: number(host)?, port: number(inside)? }),
        None => number(text).map(|port| Publish { host_port: port, port }),
    }
}

/// `HOST` or `HOST:PORT` as `--allow` takes it: `tunnel = true` for the host, on the port or on 443 and 80.
pub fn allowed(text: &str) -> Check<Rule> {
    let with_hint = |message: String, hint: Option<String>| {
        let hint = match meant(text) {
            Some((host, Some(port))) => Some(format!("--allow {host}:{port}")),
            Some((host, None)) => Some(format!("--allow {host}")),
            None => hint,
        };
        Fault { message, hint }
    };
    let (host, port) = host_and_port(text).map_err(|fault| with_hint(fault.message, None))?;
    let host = HostPattern::parse(host).map_err(|error| with_hint(error.to_string(), host_hint(host, &error)))?;
    addresses(&host)?;
    let ports = port.map_or_else(|| DEFAULT_PORTS.into(), |port| [port].into());
    Ok(Rule::tunnel(host, Ports::Only(ports)))
}

/// The addresses that an `[[allow]]` names must be those of hosts that a policy may open.
pub fn addresses(host: &HostPattern) -> Check<()> {
    for address in host.addresses() {
        let class = classify(address);
        let refuse = Fault::new(format!("address {} is {}", Host::from(address), class.reason()));
        match class {
            AddressClass::Metadata => {
                return Err(refuse.hint("only a rule for a name with `resolve` can open it, in your own policy"));
            }
            AddressClass::Unspecified | AddressClass::Multicast => return Err(refuse),
            _ => {}
        }
    }
    Ok(())
}

/// A path pattern of a rule.
pub fn request_path(text: &str) -> Check<String> {
    no_control(text, "path pattern")?;
    let refuse = |why: &str| Err(Fault::new(format!("path pattern {text:?} {why}")));
    if !text.starts_with('/') {
        return refuse("does not start with `/`");
    }
    if text.contains(['?', '#']) {
        return refuse("contains `?` or `#`, and so matches nothing; patterns are compared without the query");
    }
    if text.contains(['%', '\\']) {
        return refuse(
            "contains `%` or a backslash, and so matches nothing; patterns are compared with the decoded path",
        );
    }
    let segments: Vec<&str> = text[1..].split('/').collect();
    if segments.iter().rev().skip(1).any(|segment| segment.is_empty())
        || segments.iter().any(|segment| matches!(*segment, "." | ".."))
    {
        return refuse("has an empty, `.` or `..` segment, and so matches nothing");
    }
    if segments.iter().any(|segment| segment.contains("**") && *segment != "**") {
        return refuse("has `**` beside other characters; `**` stands for whole segments");
    }
    Ok(text.to_owned())
}

/// An HTTP method.
pub fn method(text: &str) -> Check<String> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_')) {
        return Err(Fault::new(format!("{text:?} is not a method; upper case is expected, such as \"GET\", or \"*\"")));
    }
    if text == "CONNECT" {
        return Err(Fault::new("CONNECT is not a request to a host; `tunnel = true` is expected"));
    }
    Ok(text.to_owned())
}

/// A pattern of GraphQL field names.
pub fn field_pattern(text: &str) -> Check<String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'*')) {
        return Err(Fault::new(format!(
            "{text:?} is not a pattern of GraphQL fields; letters, digits, `_` and `*` are expected"
        )));
    }
    Ok(text.to_owned())
}

fn no_control(text: &str, what: &str) -> Check<()> {
    if text.is_empty() {
        return Err(Fault::new(format!("a {what} is empty")));
    }
    if text.chars().any(char::is_control) {
        return Err(Fault::new(format!("{what} {text:?} contains a control character")));
    }
    Ok(())
}
