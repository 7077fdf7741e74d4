//! One policy file, checked: every value is typed and knows its place.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::check::{self, Access, Fault, Ground, Same};
use super::document::{self, Allow, At, Document, Graphql, History, List, Match, Mode, OnFind, Scan};
use super::suggest;
use super::text::{Problem, SourceText};
use crate::error::Result;
use crate::policy::egress::{EgressPolicy, GitAccess, GraphqlRule, Methods, Ports, Rule};
use crate::policy::host::HostPattern;
use crate::policy::{FilesystemPolicy, LimitsPolicy, ScanMode, Sourced, WorkspaceMode};

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
        let expected = expected.replace("a sequence", "a list").replace("i64", "a whole number");
        return Problem::new(
            span,
            format!("expected {expected}, found {}", found.replace('`', "\"").replace("sequence", "a list")),
        );
    }
    Problem::new(span, message.replace('`', "\""))
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

struct Reader<'a> {
    text: &'a SourceText,
    ground: &'a Ground,
    problems: Vec<Problem>,
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
            egress: EgressPolicy {
                allow: self.rules(&document.allow, Self::allow),
                ask: self.rules(&document.ask, |reader, rule| reader.covers(rule, HostPattern::parse)),
                deny: self.rules(&document.deny, |reader, rule| reader.covers(rule, HostPattern::parse_for_deny)),
            },
        };
        self.contradictions(&layer, document);
        layer
    }

    fn sourced<T>(&self, value: T, span: &Range<usize>) -> Sourced<T> {
        Sourced::new(value, self.text.source(span))
    }

    fn fault(&mut self, span: &Range<usize>, fault: Fault) {
        self.problems.push(Problem { span: span.clone(), message: fault.message, hint: fault.hint });
    }

    fn check<T, V>(&mut self, at: &At<V>, check: impl FnOnce(&V) -> Result<T, Fault>) -> Option<Sourced<T>> {
        match check(&at.value) {
            Ok(value) => Some(self.sourced(value, &at.span)),
            Err(fault) => {
                self.fault(&at.span, fault);
                None
            }
        }
    }

    fn list<T: Same>(&mut self, list: &List, check: impl Fn(&str) -> Result<T, Fault>) -> Vec<Sourced<T>> {
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
        if let Some(credential) = document.credential.first() {
            refuse(&credential.name.span, "`[[credential]]`", "leave it out");
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
        }
    }

    fn rules<T>(&mut self, tables: &[T], read: impl Fn(&mut Self, &T) -> Option<Sourced<Rule>>) -> Vec<Sourced<Rule>> {
        let mut rules: Vec<Sourced<Rule>> = Vec::with_capacity(tables.len());
        for table in tables {
            let Some(rule) = read(self, table) else { continue };
            rules.push(rule);
        }
        rules
    }

    fn allow(&mut self, table: &Allow) -> Option<Sourced<Rule>> {
        let tunnel = table.tunnel.as_ref().is_some_and(|at| at.value);
        if tunnel && let Some((span, key)) = inspecting(&table.paths, &table.methods, &table.git, &table.graphql) {
            let message = format!("`{key}` needs a look inside, but `tunnel = true` says that there is none");
            self.problems.push(Problem::new(span, message).hint("leave out one of the two"));
        }
        let host = self.host(&table.host, HostPattern::parse);
        let methods = match (&table.methods, tunnel || table.git.is_some() || table.graphql.is_some()) {
            (None, false) => Methods::safe(),
            _ => self.methods(&table.methods),
        };
        let rule = Rule {
            host: host?,
            ports: self.ports(&table.ports, || Ports::Only([443].into())),
            methods,
            paths: self.some_list(&table.paths, "paths", check::request_path),
            git: table.git.as_ref().map(|at| at.value),
            graphql: self.graphql(&table.graphql),
            tunnel,
            resolve: self.some_list(&table.resolve, "resolve", ip_address),
            ca: table.ca.as_ref().and_then(|at| self.ca(at)),
        };
        self.combined(&table.methods, &table.git, &table.graphql);
        if let Some(at) = table.resolve.as_ref().filter(|_| rule.host.single_name().is_none()) {
            self.problems
                .push(Problem::new(at.span.clone(), "`resolve` needs a single host name, not a pattern or an address"));
        }
        if tunnel && let Some(at) = &table.ca {
            self.problems.push(Problem::new(
                at.span.clone(),
                "`ca` has no meaning for a tunnel, whose certificate is not checked here",
            ));
        }
        Some(self.sourced(rule, &table.host.span))
    }

    fn covers(
        &mut self,
        table: &Match,
        parse: impl Fn(&str) -> Result<HostPattern, crate::policy::host::HostError>,
    ) -> Option<Sourced<Rule>> {
        let host = self.host(&table.host, parse);
        let rule = Rule {
            host: host?,
            ports: self.ports(&table.ports, || Ports::Any),
            methods: self.methods(&table.methods),
            paths: self.some_list(&table.paths, "paths", check::request_path),
            git: table.git.as_ref().map(|at| at.value),
            graphql: self.graphql(&table.graphql),
            tunnel: false,
            resolve: Vec::new(),
            ca: None,
        };
        self.combined(&table.methods, &table.git, &table.graphql);
        Some(self.sourced(rule, &table.host.span))
    }

    fn host(
        &mut self,
        at: &At<String>,
        parse: impl Fn(&str) -> Result<HostPattern, crate::policy::host::HostError>,
    ) -> Option<HostPattern> {
        parse(&at.value).map_err(|error| self.problems.push(Problem::new(at.span.clone(), error.to_string()))).ok()
    }

    /// `git` and `graphql` name the methods and endpoints themselves.
    fn combined(&mut self, methods: &Option<At<List>>, git: &Option<At<GitAccess>>, graphql: &Option<At<Graphql>>) {
        let mut refuse = |span: &Range<usize>, one: &str, other: &str| {
            let message = format!("`{one}` and `{other}` cannot be in the same rule");
            self.problems.push(
                Problem::new(span.clone(), message)
                    .hint(format!("`{other}` says which requests it covers; write two rules if both are meant")),
            );
        };
        if let (Some(at), Some(_)) = (methods, git) {
            refuse(&at.span, "methods", "git");
        }
        if let (Some(at), Some(_)) = (methods, graphql) {
            refuse(&at.span, "methods", "graphql");
        }
        if let (Some(at), Some(_)) = (graphql, git) {
            refuse(&at.span, "graphql", "git");
        }
    }

    fn ports(&mut self, ports: &Option<At<Vec<At<i64>>>>, default: impl Fn() -> Ports) -> Ports {
        let Some(list) = ports else { return default() };
        if list.value.is_empty() {
            self.problems.push(Problem::new(list.span.clone(), "`ports` is empty, and so the rule matches nothing"));
        }
        let mut only = BTreeSet::new();
        for at in &list.value {
            match u16::try_from(at.value).ok().filter(|port| *port != 0) {
                None => self
                    .problems
                    .push(Problem::new(at.span.clone(), format!("port {} is not between 1 and 65535", at.value))),
                Some(port) if !only.insert(port) => {
                    self.problems.push(Problem::new(at.span.clone(), format!("port {port} is given twice")));
                }
                Some(_) => {}
            }
        }
        Ports::Only(only)
    }

    fn methods(&mut self, methods: &Option<At<List>>) -> Methods {
        let listed = self.some_list(methods, "methods", check::method);
        if listed.is_empty() {
            return Methods::Any;
        }
        if !listed.iter().any(|method| method == "*") {
            return Methods::Only(listed.into_iter().collect());
        }
        if let Some(at) = methods.as_ref().filter(|_| listed.len() > 1) {
            self.problems.push(Problem::new(at.span.clone(), "\"*\" is every method; nothing can stand beside it"));
        }
        Methods::Any
    }

    /// A list that makes no sense when it is empty.
    fn some_list<T: Same>(
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

    fn graphql(&mut self, table: &Option<At<Graphql>>) -> Option<GraphqlRule> {
        let at = table.as_ref()?;
        let mut fields =
            |list: &List| self.list(list, check::field_pattern).into_iter().map(|entry| entry.value).collect();
        let rule = GraphqlRule {
            query: fields(&at.value.query),
            mutation: fields(&at.value.mutation),
            subscription: fields(&at.value.subscription),
        };
        if [&at.value.query, &at.value.mutation, &at.value.subscription].iter().all(|list| list.is_empty()) {
            self.problems
                .push(Problem::new(at.span.clone(), "`graphql` names no field, and so the rule matches nothing"));
        }
        Some(rule)
    }

    /// The file is looked for where the policy that names it lies.
    fn ca(&mut self, at: &At<String>) -> Option<PathBuf> {
        let base = self.text.path.parent().unwrap_or(Path::new("/"));
        let home = &self.ground.home;
        let path = if at.value.starts_with(['/', '~']) {
            check::absolute_path(&at.value, home)
        } else {
            check::workspace_path(&at.value).map(|path| base.join(path))
        };
        path.map_err(|fault| self.fault(&at.span, fault)).ok()
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

    fn rule_contradictions(&mut self, layer: &Layer, document: &Document) {
        let egress = &layer.egress;
        let repeated = |rules: &[Sourced<Rule>]| {
            (1..rules.len()).find_map(|at| {
                rules[..at]
                    .iter()
                    .find(|earlier| earlier.value == rules[at].value)
                    .map(|earlier| (at, earlier.source.line))
            })
        };
        let spans = |rules: &[Sourced<Rule>], hosts: Vec<&At<String>>, at: usize| {
            hosts
                .into_iter()
                .find(|host| self.text.source(&host.span) == rules[at].source)
                .map(|host| host.span.clone())
        };
        let hosts: [(_, Vec<&At<String>>); 3] = [
            (&egress.allow, document.allow.iter().map(|rule| &rule.host).collect()),
            (&egress.ask, document.ask.iter().map(|rule| &rule.host).collect()),
            (&egress.deny, document.deny.iter().map(|rule| &rule.host).collect()),
        ];
        let mut found = Vec::new();
        for (rules, hosts) in hosts {
            if let Some((at, line)) = repeated(rules)
                && let Some(span) = spans(rules, hosts, at)
            {
                found.push(Problem::new(span, format!("this rule is given twice; it is in line {line} already")));
            }
        }
        for table in &document.allow {
            let source = self.text.source(&table.host.span);
            let Some(allow) = egress.allow.iter().find(|rule| rule.source == source) else { continue };
            let denied = egress.deny.iter().find(|deny| {
                deny.value.host.as_str() == allow.value.host.as_str()
                    && deny.value.ports == Ports::Any
                    && !deny.value.inspects()
            });
            if let Some(deny) = denied {
                let message =
                    format!("this rule allows nothing: line {} denies everything to the same host", deny.source.line);
                found.push(Problem::new(table.host.span.clone(), message).hint("leave out one of the two"));
            }
        }
        self.problems.extend(found);
    }
}

fn inspecting(
    paths: &Option<At<List>>,
    methods: &Option<At<List>>,
    git: &Option<At<GitAccess>>,
    graphql: &Option<At<Graphql>>,
) -> Option<(Range<usize>, &'static str)> {
    let paths = paths.as_ref().map(|at| (at.span.clone(), "paths"));
    let methods = methods.as_ref().map(|at| (at.span.clone(), "methods"));
    let git = git.as_ref().map(|at| (at.span.clone(), "git"));
    let graphql = graphql.as_ref().map(|at| (at.span.clone(), "graphql"));
    paths.or(methods).or(git).or(graphql)
}

fn ip_address(text: &str) -> Result<IpAddr, Fault> {
    text.parse().map_err(|_| Fault { message: format!("{text:?} is not an IP address"), hint: None })
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
