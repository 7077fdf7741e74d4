//! The credentials of a policy file, `[[credential]]` and `[credentials]`, and which of them a run loads.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::check::{self, Fault};
use super::document::{self, At, Document, SourceTable};
use super::layer::Reader;
use super::text::Problem;
use crate::error::{Error, Result};
use crate::policy::credential::{COMMAND_TIME, Credential, CredentialSource, HeldFile, Placement};
use crate::policy::egress::Ports;
use crate::policy::host::{HostError, HostPattern};
use crate::policy::{CredentialsPolicy, Origin, Policy, Sourced};

/// The longest that a command may take.
const MOST_TIME: Duration = Duration::from_secs(300);

/// The flag that chooses an environment.
pub(super) const FLAG: &str = "--environment";

/// The longest template of a file.
const TEMPLATE: usize = 16 * 1024;

/// Variables that jail itself sets, beside those that begin with `JAIL_`.
const OWN: &[&str] = &["HOME", "PATH", "TMPDIR"];

/// Fields that are the connection's, or say where a request goes: RFC 9110 and RFC 9112.
const FIELDS: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl Reader<'_> {
    /// Everything about credentials.
    pub(super) fn credentials(&mut self, document: &Document) -> CredentialsPolicy {
        let table = &document.credentials;
        let environment = table.environment.as_ref().and_then(|at| self.check(at, |text| environment_name(text)));
        let mut protected = BTreeMap::new();
        for (name, settings) in &table.environments {
            let (Some(name), Some(at)) = (self.check(name, |text| environment_name(text)), &settings.protected) else {
                continue;
            };
            protected.insert(name.value, self.sourced(at.value, &at.span));
        }
        let mut credentials: Vec<Sourced<Credential>> = Vec::with_capacity(document.credential.len());
        for table in &document.credential {
            let Some(credential) = self.credential(table) else { continue };
            let same = credentials.iter().find(|earlier| same(&earlier.value, &credential.value));
            if let Some(earlier) = same {
                let message = format!(
                    "credential {} is given twice; it is in line {} already",
                    credential.value, earlier.source.line
                );
                let problem = Problem::new(table.name.span.clone(), message);
                self.problems.push(problem.hint("give it another name, or another `environment`"));
                continue;
            }
            credentials.push(credential);
        }
        CredentialsPolicy { environment, protected, credentials }
    }

    fn credential(&mut self, table: &document::Credential) -> Option<Sourced<Credential>> {
        let name = self.check(&table.name, |text| name(text));
        let goes = self.placement(table);
        if table.env.is_none() && table.file.is_none() {
            let message = "the credential is nowhere inside: it has no `env` and no `file`";
            let problem = Problem::new(table.name.span.clone(), message);
            self.problems.push(problem.hint("name the variable that holds a placeholder inside: env = \"API_TOKEN\""));
        }
        if table.hosts.value.is_empty() {
            let problem =
                Problem::new(table.hosts.span.clone(), "`hosts` is empty, and so the credential is of no use");
            self.problems.push(problem);
        }
        let file = self.held_file(table);
        let credential = Credential {
            name: name?.value,
            environment: table
                .environment
                .as_ref()
                .and_then(|at| self.check(at, |text| environment_name(text)))
                .map(|environment| environment.value),
            env: table.env.as_ref().and_then(|at| self.check(at, |text| variable(text))).map(|env| env.value),
            file,
            source: self.credential_source(&table.source)?,
            hosts: self.hosts(table),
            ports: self.ports(&table.ports, || Ports::Only([443].into())),
            goes,
        };
        Some(self.sourced(credential, &table.name.span))
    }

    fn hosts(&mut self, table: &document::Credential) -> Vec<HostPattern> {
        let mut hosts: Vec<HostPattern> = Vec::new();
        for at in &table.hosts.value {
            let Some(host) =
                self.host(at, |text: &str| -> std::result::Result<HostPattern, HostError> { HostPattern::parse(text) })
            else {
                continue;
            };
            if hosts.contains(&host) {
                self.problems.push(Problem::new(at.span.clone(), format!("{:?} is given twice", at.value)));
                continue;
            }
            hosts.push(host);
        }
        hosts
    }

    fn held_file(&mut self, table: &document::Credential) -> Option<HeldFile> {
        let home = self.ground.home.clone();
        if let (None, Some(at)) = (&table.file, &table.template) {
            let problem = Problem::new(at.span.clone(), "`template` says what `file` holds, and there is no `file`");
            self.problems.push(problem);
        }
        let path = self.check(table.file.as_ref()?, |text| {
            let path = check::absolute_path(text, &home)?;
            if path == home || !check::within(&path, &home) {
                return Err(Fault {
                    message: format!("file {text:?} is not in the home directory"),
                    hint: Some("the jail's home is private: name a file in it, such as `~/.config/tool/token`".into()),
                });
            }
            Ok(path)
        });
        let template = match &table.template {
            Some(at) => self.check(at, |text| template(text)).map(|template| template.value),
            None => Some("{}\n".to_owned()),
        };
        Some(HeldFile { path: path?.value, template: template? })
    }

    fn credential_source(&mut self, at: &At<SourceTable>) -> Option<CredentialSource> {
        let SourceTable { env, file, command, keyring, secret_service, timeout } = &at.value;
        if let Some(at) = secret_service {
            let problem = Problem::new(at.span.clone(), "`secret-service` is not available in this version");
            self.problems.push(problem.hint(
                "use a program that asks it: source = { command = [\"secret-tool\", \"lookup\", \"service\", \"NAME\"] }",
            ));
            return None;
        }
        let given = [env.is_some(), file.is_some(), command.is_some(), keyring.is_some()];
        if given.iter().filter(|given| **given).count() != 1 {
            let message = "a source has one of `env`, `file`, `command` and `keyring`";
            self.problems.push(Problem::new(at.span.clone(), message).hint("source = { env = \"NAME\" }"));
            return None;
        }
        if let (None, Some(at)) = (command, timeout) {
            self.problems.push(Problem::new(at.span.clone(), "`timeout` is for a `command`, and there is none"));
        }
        let time = timeout.as_ref().and_then(|at| self.check(at, |text| command_time(text)));
        let home = self.ground.home.clone();
        if let Some(at) = env {
            return self.check(at, |text| check::variable(text)).map(|name| CredentialSource::Env(name.value));
        }
        if let Some(at) = file {
            let path = self.check(at, |text| check::absolute_path(text, &home));
            return path.map(|path: Sourced<PathBuf>| CredentialSource::File(path.value));
        }
        if let Some(at) = command {
            let words = self.check(at, |words| command_words(words))?.value;
            return Some(CredentialSource::Command { words, time: time.map_or(COMMAND_TIME, |time| time.value) });
        }
        let at = keyring.as_ref()?;
        self.check(at, |text| description(text)).map(|description| CredentialSource::Keyring(description.value))
    }

    /// Where in a request it goes: at most one place.
    fn placement(&mut self, table: &document::Credential) -> Option<Placement> {
        let places =
            [("header", &table.header), ("query", &table.query), ("basic", &table.basic), ("body", &table.body)];
        let mut given = places.into_iter().filter_map(|(key, at)| at.as_ref().map(|at| (key, at)));
        let (key, at) = given.next()?;
        if let Some((other, second)) = given.next() {
            let message = format!("`{key}` and `{other}` cannot both say where the value goes");
            self.problems.push(Problem::new(second.span.clone(), message).hint("leave out one of the two"));
        }
        let placement = match key {
            "header" => self.check(at, |text| header(text)),
            "query" => self.check(at, |text| parameter(text).map(Placement::Query)),
            "basic" => self.check(at, |text| basic(text)),
            _ => self.check(at, |text| parameter(text).map(Placement::Body)),
        };
        placement.map(|placement| placement.value)
    }
}

/// Whether one takes the place of the other.
pub(super) fn same(one: &Credential, other: &Credential) -> bool {
    one.name == other.name && one.environment == other.environment
}

/// Looks at what the sources come to: which environment is chosen, and that no two credentials are in each other's way.
///
/// # Errors
/// The environment is not known or may not be chosen so; or two credentials that would be loaded want the same name,
/// variable or file.
pub(super) fn check(policy: &Policy) -> Result<()> {
    let credentials = &policy.credentials;
    if let Some(chosen) = &credentials.environment {
        let mut known: Vec<&str> =
            credentials.credentials.iter().filter_map(|credential| credential.value.environment.as_deref()).collect();
        known.sort_unstable();
        known.dedup();
        if !known.contains(&chosen.value.as_str()) {
            let hint = match known.as_slice() {
                [] => "no credential of the policy belongs to an environment".to_owned(),
                known => format!("there are credentials for {}", known.join(", ")),
            };
            let error = Error::setup(format!("{}: no credential is for environment {:?}", chosen.source, chosen.value));
            return Err(error.hint(hint));
        }
        // A file that `--policy` names is a flag's too.
        let typed = matches!(&chosen.source.origin, Origin::Flag(flag) if flag == FLAG);
        if credentials.is_protected(&chosen.value) && !typed {
            let error = Error::setup(format!(
                "{}: environment {:?} is protected, and no policy chooses it",
                chosen.source, chosen.value
            ));
            return Err(error.hint(format!("type --environment {} on a terminal", chosen.value)));
        }
    }
    let loaded: Vec<&Sourced<Credential>> = credentials.loaded().collect();
    for (at, credential) in loaded.iter().enumerate() {
        let own = &credential.value;
        if let Some(set) = own.env.as_ref().and_then(|name| policy.environment.set.get(name)) {
            let name = own.env.as_deref().unwrap_or_default();
            let message = format!(
                "{}: credential {own} puts a placeholder into {name}, which {} sets",
                credential.source, set.source
            );
            return Err(Error::setup(message).hint("leave out one of the two"));
        }
        for earlier in loaded.iter().take(at) {
            let other = &earlier.value;
            let what = if own.name == other.name {
                format!("the name {:?}", own.name)
            } else if own.env.is_some() && own.env == other.env {
                format!("the variable {}", own.env.as_deref().unwrap_or_default())
            } else if let (Some(one), Some(two)) = (&own.file, &other.file)
                && one.path == two.path
            {
                format!("the file {}", one.path.display())
            } else {
                continue;
            };
            let message = format!("{}: credentials {other} and {own} both want {what}", credential.source);
            let error = Error::setup(message);
            return Err(error.hint(format!("the other one is at {}; give one of them another", earlier.source)));
        }
    }
    Ok(())
}

fn fault<T>(message: String, hint: &str) -> std::result::Result<T, Fault> {
    Err(Fault { message, hint: Some(hint.to_owned()).filter(|hint| !hint.is_empty()) })
}

/// A name as it appears in messages: nothing that could be mistaken for more.
fn plain(text: &str, what: &str) -> std::result::Result<String, Fault> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    fault(format!("{text:?} is not {what}; at most 64 letters, digits, `-`, `_` and `.` are expected"), "")
}

fn name(text: &str) -> std::result::Result<String, Fault> {
    plain(text, "a credential's name")
}

/// An environment such as `staging`.
pub(super) fn environment_name(text: &str) -> std::result::Result<String, Fault> {
    plain(text, "an environment's name")
}

fn variable(text: &str) -> std::result::Result<String, Fault> {
    let name = check::settable(text)?;
    if OWN.contains(&name.as_str()) || name.starts_with("GIT_CONFIG_") {
        return fault(format!("variable {text:?} is set by jail itself"), "");
    }
    Ok(name)
}

fn template(text: &str) -> std::result::Result<String, Fault> {
    if text.len() > TEMPLATE || text.contains('\0') {
        return fault(format!("the template is longer than {TEMPLATE} bytes, or holds a NUL"), "");
    }
    once(text, "template", "token = \"{}\"")
}

/// A text with `{}` in it, once.
fn once(text: &str, what: &str, example: &str) -> std::result::Result<String, Fault> {
    match text.matches("{}").count() {
        1 => Ok(text.to_owned()),
        count => fault(
            format!("the {what} has `{{}}` {count} times; once is expected, where the value stands"),
            &format!("for example {example:?}"),
        ),
    }
}

fn header(text: &str) -> std::result::Result<Placement, Fault> {
    let example = "Authorization: Bearer {}";
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let Some((name, value)) = text.split_once(':').filter(|(name, _)| !name.is_empty() && name.bytes().all(token))
    else {
        return fault(format!("header {text:?} is not NAME: VALUE"), &format!("for example {example:?}"));
    };
    if FIELDS.contains(&name.to_ascii_lowercase().as_str()) {
        return fault(format!("header {name:?} is the connection's own, or says where a request goes"), "");
    }
    let value = value.trim_matches([' ', '\t']);
    if !value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return fault(format!("header {text:?} has a character that no header can have"), "");
    }
    Ok(Placement::Header { name: name.to_owned(), value: once(value, "header", example)? })
}

fn basic(text: &str) -> std::result::Result<Placement, Fault> {
    let example = "oauth2:{}";
    if !text.contains(':') || text.chars().any(char::is_control) {
        return fault(format!("{text:?} is not USER:PASSWORD"), &format!("for example {example:?} or \"{{}}:\""));
    }
    once(text, "user and password", example).map(Placement::Basic)
}

fn parameter(text: &str) -> std::result::Result<String, Fault> {
    if text.is_empty() || text.len() > 256 || !text.bytes().all(|byte| matches!(byte, b'!'..=b'~')) {
        return fault(
            format!("{text:?} is not the name of a field; printable characters without spaces are expected"),
            "",
        );
    }
    Ok(text.to_owned())
}

fn command_time(text: &str) -> std::result::Result<Duration, Fault> {
    let time = check::duration(text)?;
    if time > MOST_TIME {
        return fault(format!("time {text:?} is more than five minutes"), "");
    }
    Ok(time)
}

fn command_words(words: &[At<String>]) -> std::result::Result<Vec<String>, Fault> {
    let words: Vec<String> = words.iter().map(|word| word.value.clone()).collect();
    match words.first().map(String::as_str) {
        None | Some("") => fault("the command is empty".to_owned(), "name a program and its arguments, one by one"),
        Some(program) if program.contains('/') && !program.starts_with('/') => fault(
            format!(
                "program {program:?} is relative; an absolute path, or a name that is looked for in PATH, is expected"
            ),
            "",
        ),
        Some(program) if words.len() == 1 && program.contains(' ') => fault(
            format!("{program:?} is one word with spaces; no shell takes it apart"),
            "write the program and its arguments as words of the list",
        ),
        Some(_) if words.iter().any(|word| word.contains('\0')) => fault("a word contains a NUL".to_owned(), ""),
        Some(_) => Ok(words),
    }
}

fn description(text: &str) -> std::result::Result<String, Fault> {
    if text.is_empty() || text.len() > 255 || text.chars().any(char::is_control) {
        return fault(format!("{text:?} is not a key's description"), "`keyctl show @u` lists them");
    }
    Ok(text.to_owned())
}
