//! One policy file, checked: every value is typed and knows its place.

use std::ops::Range;

use super::check::{self, Access, Fault, Ground, Same};
use super::document::{self, At, Document, History, List, Mode, OnFind, PublishedPort, Scan};
use super::suggest;
use super::text::{Problem, SourceText};
use crate::error::Result;
use crate::policy::egress::EgressPolicy;
use crate::policy::{CredentialsPolicy, FilesystemPolicy, LimitsPolicy, Publish, ScanMode, Sourced, WorkspaceMode};

/// What one source says.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    /// Profiles it builds on.
    pub extends: Vec<Sourced<String>>,
    /// The workspace's mode.
    pub mode: Option<Sourced<WorkspaceMode>>,
    /// How secrets are looked for.
    pub scan: Option<Sourced<ScanMode>>,
    /// Paths and globs.
    pub filesystem: FilesystemPolicy,
    /// Variables taken over.
    pub pass: Vec<Sourced<String>>,
    /// Variables not taken over.
    pub remove: Vec<Sourced<String>>,
    /// Variables set.
    pub set: Vec<(String, Sourced<String>)>,
    /// Bounds.
    pub limits: LimitsPolicy,
    /// Rules about requests.
    pub egress: EgressPolicy,
    /// Servers inside that the host may reach.
    pub publish: Vec<Sourced<Publish>>,
    /// Credentials.
    pub credentials: CredentialsPolicy,
}

impl Layer {
    /// Reads and checks a file's text.
    ///
    /// # Errors
    /// The first problem in the file, with its place. There is no partial result.
    pub fn parse(text: &SourceText, ground: &Ground) -> Result<Self> {
        let document: Document = toml::from_str(text.text()).map_err(|error| text.error(&from_toml(&error, text)))?;
        let mut reader = Reader { text, ground, problems: Vec::new() };
        let layer = reader.layer(&document);
        match reader.problems.into_iter().min_by_key(|problem| problem.span.start) {
            Some(problem) => Err(text.error(&problem)),
            None => Ok(layer),
        }
    }
}

/// Says a TOML or type error in the words of this program.
fn from_toml(error: &toml::de::Error, text: &SourceText) -> Problem {
    let span = error.span().unwrap_or(0..0);
    let message = error.message().trim().replace('\n', ", ");
    let quoted = |prefix: &str| {
        message.strip_prefix(prefix)?.split_once('`').map(|(name, rest)| (name.to_owned(), rest.to_owned()))
    };
    if let Some((key, rest)) = quoted("unknown field `") {
        let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
        let problem = Problem::new(span, format!("unknown key {key:?}, expected {}", listed(&known)));
        return match suggest::nearest(&key, known.iter().copied()) {
            Some(near) => problem.hint(format!("did you mean {near:?}?")),
            None => problem,
        };
    }
    if let Some((value, rest)) = quoted("unknown variant `") {
        let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
        return Problem::new(span, format!("unknown value {value:?}, expected {}", listed(&known)));
    }
    if let Some((key, _)) = quoted("missing field `") {
        return Problem::new(first_line(span, text), format!("missing key {key:?}"));
    }
    if let Some((found, expected)) =
        message.strip_prefix("invalid type: ").and_then(|rest| rest.split_once(", expected "))
    {
        return wrong_type(span, found, expected, text);
    }
    Problem::new(span, message.replace('`', "\""))
}

/// Lists of tables; all else of that name is one bracket too few, or the wrong side of `=`.
const TABLES: [&str; 5] = ["allow", "ask", "deny", "publish", "credential"];

/// `found` and `expected` are in the words of the library that reads TOML.
fn wrong_type(span: Range<usize>, found: &str, expected: &str, text: &SourceText) -> Problem {
    let (kind, value) = found.split_once(' ').unwrap_or((found, ""));
    let found = match kind {
        "map" => "a table".to_owned(),
        "sequence" => "a list".to_owned(),
        "string" => found.to_owned(),
        _ => found.trim_end_matches(" as i128").replace('`', ""),
    };
    let expected = match expected {
        "a sequence" => "a list",
        "i64" => "a whole number",
        _ if expected.starts_with("struct ") => "a table",
        _ => expected,
    };
    let number = value.trim_matches(['"', '`']).parse::<i64>().ok();
    let line_start = text.text().get(..span.start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
    let line = text.text().get(line_start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let key = line.split('=').next().unwrap_or_default().trim().trim_matches(['[', ']']);
    let hint = match (expected, number) {
        ("a list" | "a table", _) if TABLES.contains(&key) => {
            Some(format!("write [[{key}]] on a line of its own, and its keys below"))
        }
        ("a list", Some(number)) => Some(format!("put it in brackets: [{number}]")),
        ("a list", None) if kind == "string" => Some(format!("put it in brackets: [{value}]")),
        ("a whole number", Some(number)) => Some(format!("without quotes: {number}")),
        _ => None,
    };
    let problem = Problem::new(span, format!("expected {expected}, found {found}"));
    match hint {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}

fn listed(known: &[&str]) -> String {
    let known: Vec<String> = known.iter().map(|name| format!("{name:?}")).collect();
    if known.len() == 1 { known.concat() } else { format!("one of {}", known.join(", ")) }
}

/// A table's span is its whole body; the message marks its header.
fn first_line(span: Range<usize>, text: &SourceText) -> Range<usize> {
    let end = text.text().get(span.clone()).and_then(|body| body.find('\n')).map_or(span.end, |len| span.start + len);
    span.start..end
}

/// Reads one file; collects what is wrong with it.
pub(super) struct Reader<'a> {
    pub(super) text: &'a SourceText,
    pub(super) ground: &'a Ground,
    pub(super) problems: Vec<Problem>,
}

impl Reader<'_> {
    fn layer(&mut self, document: &Document) -> Layer {
        let filesystem = self.filesystem(&document.filesystem);
        self.not_yet(document);
        let environment = &document.environment;
        let layer = Layer {
            extends: self.list(&document.extends, profile_name),
            mode: document.workspace.mode.as_ref().and_then(|mode| self.mode(mode)),
            scan: document.secrets.scan.as_ref().and_then(|scan| self.scan(scan)),
            filesystem,
            pass: self.list(&environment.pass, check::passable),
            remove: self.list(&environment.remove, check::variable_pattern),
            set: self.set(environment),
            limits: self.limits(&document.limits),
            egress: self.egress(document),
            publish: self.publish(&document.publish),
            credentials: self.credentials(document),
        };
        self.contradictions(&layer, document);
        layer
    }

    pub(super) fn sourced<T>(&self, value: T, span: &Range<usize>) -> Sourced<T> {
        Sourced::new(value, self.text.source(span))
    }

    pub(super) fn fault(&mut self, span: &Range<usize>, fault: Fault) {
        self.problems.push(Problem { span: span.clone(), message: fault.message, hint: fault.hint });
    }

    pub(super) fn check<T, V>(&mut self, at: &At<V>, check: impl FnOnce(&V) -> Result<T, Fault>) -> Option<Sourced<T>> {
        match check(&at.value) {
            Ok(value) => Some(self.sourced(value, &at.span)),
            Err(fault) => {
                self.fault(&at.span, fault);
                None
            }
        }
    }

    pub(super) fn list<T: Same>(&mut self, list: &List, check: impl Fn(&str) -> Result<T, Fault>) -> Vec<Sourced<T>> {
        let mut values: Vec<Sourced<T>> = Vec::with_capacity(list.len());
        for entry in list {
            let Some(value) = self.check(entry, |text| check(text)) else { continue };
            if let Some(earlier) = values.iter().find(|earlier| earlier.value.same(&value.value)) {
                let message =
                    format!("{:?} is given twice; it is in line {} already", entry.value, earlier.source.line);
                self.problems.push(Problem::new(entry.span.clone(), message));
                continue;
            }
            values.push(value);
        }
        values
    }

    /// What this version cannot do is refused: a policy that is read but not enforced is worse than none.
    fn not_yet(&mut self, document: &Document) {
        let mut refuse = |span: &Range<usize>, what: &str, hint: &str| {
            self.problems
                .push(Problem::new(span.clone(), format!("{what} is not available in this version")).hint(hint));
        };
        if let Some(at) = document.workspace.snapshot.as_ref().filter(|at| at.value) {
            refuse(&at.span, "snapshot = true", "leave it out, and commit your work before the run");
        }
        if let Some(at) = document.secrets.on_find.as_ref().filter(|at| at.value != OnFind::Hide) {
            refuse(&at.span, "this value of `on_find`", "use on_find = \"hide\"");
        }
        if let Some(at) = document.secrets.history.as_ref().filter(|at| at.value != History::Off) {
            refuse(&at.span, "this value of `history`", "use history = \"off\"; secrets in git objects stay readable");
        }
        if let Some(at) = document.filesystem.cache.first() {
            refuse(&at.span, "`cache`", "use `read`, or `write` if the tool's writes may reach the host");
        }
    }

    fn mode(&mut self, at: &At<Mode>) -> Option<Sourced<WorkspaceMode>> {
        let mode = match at.value {
            Mode::Direct => WorkspaceMode::Direct,
            Mode::ReadOnly => WorkspaceMode::ReadOnly,
            Mode::Overlay => {
                let problem = Problem::new(at.span.clone(), "mode = \"overlay\" is not available in this version");
                self.problems.push(problem.hint("use \"direct\" or \"read-only\""));
                return None;
            }
        };
        Some(self.sourced(mode, &at.span))
    }

    fn scan(&mut self, at: &At<Scan>) -> Option<Sourced<ScanMode>> {
        let scan = match at.value {
            Scan::Off => ScanMode::Off,
            Scan::Names => ScanMode::Names,
            Scan::Content => {
                let problem = Problem::new(at.span.clone(), "scan = \"content\" is not available in this version");
                self.problems.push(problem.hint("use \"names\", and `hide` for files with other names"));
                return None;
            }
        };
        Some(self.sourced(scan, &at.span))
    }

    fn filesystem(&mut self, table: &document::Filesystem) -> FilesystemPolicy {
        let ground = self.ground;
        let path = |access| {
            move |text: &str| {
                let path = check::absolute_path(text, &ground.home)?;
                check::not_too_broad(&path, access, ground)?;
                Ok(path)
            }
        };
        let write = self.list(&table.write, path(Access::Write));
        let mut read = self.list(&table.read, path(Access::Read));
        read.retain(|entry| write.iter().all(|written| !written.value.same(&entry.value)));
        FilesystemPolicy {
            read,
            write,
            cache: Vec::new(),
            hide: self.list(&table.hide, check::glob),
            reveal: self.list(&table.reveal, check::narrow_glob),
            protect: self.list(&table.protect, check::workspace_path),
            unprotect: self.list(&table.unprotect, check::unprotectable),
        }
    }

    fn set(&mut self, environment: &document::Environment) -> Vec<(String, Sourced<String>)> {
        let mut set = Vec::new();
        for (name, value) in &environment.set {
            if value.value.contains('\0') {
                self.problems
                    .push(Problem::new(value.span.clone(), format!("the value of {} contains a NUL", name.value)));
            }
            if let Some(name) = self.check(name, |text| check::settable(text)) {
                set.push((name.value, self.sourced(value.value.clone(), &value.span)));
            }
        }
        set
    }

    fn limits(&mut self, table: &document::Limits) -> LimitsPolicy {
        LimitsPolicy {
            memory: table.memory.as_ref().and_then(|at| self.check(at, |text| check::size(text))),
            processes: table
                .processes
                .as_ref()
                .and_then(|at| self.check(at, |number| check::count(*number, 1, 1 << 22))),
            cpu: table.cpu.as_ref().and_then(|at| self.check(at, |number| check::processors(*number))),
            time: table.time.as_ref().and_then(|at| self.check(at, |text| check::duration(text))),
            open_files: table
                .open_files
                .as_ref()
                .and_then(|at| self.check(at, |number| check::count(*number, 16, 1 << 20))),
            connections: table
                .connections
                .as_ref()
                .and_then(|at| self.check(at, |number| check::count(*number, 1, check::MOST_CONNECTIONS))),
            connect_time: table.connect_time.as_ref().and_then(|at| self.check(at, |text| check::duration(text))),
            idle_time: table.idle_time.as_ref().and_then(|at| self.check(at, |text| check::duration(text))),
        }
    }

    fn publish(&mut self, tables: &[PublishedPort]) -> Vec<Sourced<Publish>> {
        let mut published: Vec<Sourced<Publish>> = Vec::with_capacity(tables.len());
        for table in tables {
            let Some(port) = self.check(&table.port, |number| check::port(*number)) else { continue };
            let at = table.host_port.as_ref().unwrap_or(&table.port);
            let Some(host_port) = self.check(at, |number| check::port(*number)) else { continue };
            let publish = Publish { host_port: host_port.value, port: port.value };
            if let Some(earlier) = published.iter().find(|earlier| earlier.value.host_port == publish.host_port) {
                let message = format!(
                    "the host's port {} is given twice; it is in line {} already",
                    at.value, earlier.source.line
                );
                self.problems.push(Problem::new(at.span.clone(), message).hint("set another `host_port`"));
                continue;
            }
            published.push(self.sourced(publish, &table.port.span));
        }
        published
    }

    /// A list that makes no sense when it is empty.
    pub(super) fn some_list<T: Same>(
        &mut self,
        list: &Option<At<List>>,
        key: &str,
        check: impl Fn(&str) -> Result<T, Fault>,
    ) -> Vec<T> {
        let Some(list) = list else { return Vec::new() };
        if list.value.is_empty() {
            self.problems
                .push(Problem::new(list.span.clone(), format!("`{key}` is empty, and so the rule matches nothing")));
        }
        self.list(&list.value, check).into_iter().map(|entry| entry.value).collect()
    }

    fn contradictions(&mut self, layer: &Layer, document: &Document) {
        let both = |reader: &mut Self,
                    list: &List,
                    own: &[Sourced<String>],
                    other: &[Sourced<String>],
                    message: &dyn Fn(&str) -> String| {
            let clash = own.iter().find(|entry| other.iter().any(|other| other.value == entry.value));
            let Some(clash) = clash else { return };
            if let Some(at) = list.iter().find(|at| reader.text.source(&at.span) == clash.source) {
                reader.problems.push(Problem::new(at.span.clone(), message(&at.value)));
            }
        };
        let filesystem = &document.filesystem;
        let (checked, environment) = (&layer.filesystem, &document.environment);
        both(self, &filesystem.reveal, &checked.reveal, &checked.hide, &|text| {
            format!("{text:?} is in `hide` and in `reveal`")
        });
        both(self, &filesystem.unprotect, &checked.unprotect, &checked.protect, &|text| {
            format!("{text:?} is in `protect` and in `unprotect`")
        });
        both(self, &environment.remove, &layer.remove, &layer.pass, &|text| {
            format!("{text:?} is in `pass` and in `remove`")
        });
        self.rule_contradictions(layer, document);
    }
}

/// Profile names become file names: nothing that could leave the directory.
fn profile_name(text: &str) -> Result<String, Fault> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !text.is_empty() && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    Err(Fault {
        message: format!("{text:?} is not a profile's name; letters, digits, `-` and `_` are expected"),
        hint: None,
    })
}
