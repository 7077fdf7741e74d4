//! The rules of a policy file about requests: `[[allow]]`, `[[ask]]` and `[[deny]]`.
//!
//! Their values are checked in full, also those of keys that are not enforced yet: these are refused afterwards, so
//! that no rule is read and then not kept.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::check::{self, Fault};
use super::document::{self, Allow, At, Document, Graphql, List, Match};
use super::layer::{Layer, Reader};
use super::text::Problem;
use crate::policy::Sourced;
use crate::policy::address::{AddressClass, classify};
use crate::policy::egress::{DEFAULT_PORTS, EgressPolicy, GitAccess, GraphqlRule, Methods, Ports, Rule, Tunnel};
use crate::policy::host::{HostError, HostPattern};

impl Reader<'_> {
    /// The three lists.
    pub(super) fn egress(&mut self, document: &Document) -> EgressPolicy {
        EgressPolicy {
            allow: self.rules(&document.allow, Self::allow),
            ask: self.rules(&document.ask, |reader, rule| reader.covers(rule, HostPattern::parse)),
            deny: self.rules(&document.deny, |reader, rule| reader.covers(rule, HostPattern::parse_for_deny)),
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
        let before = self.problems.len();
        let tunnel = match table.tunnel.as_ref().map(|at| at.value) {
            None | Some(document::Tunnel::Flag(false)) => Tunnel::No,
            Some(document::Tunnel::Flag(true)) => Tunnel::Named,
            Some(document::Tunnel::Raw) => Tunnel::Raw,
        };
        let inspects = inspecting(&table.paths, &table.methods, &table.git, &table.graphql);
        if tunnel != Tunnel::No
            && let Some((span, key)) = inspects.clone()
        {
            let message = format!("`{key}` needs a look inside, but `tunnel` says that there is none");
            self.problems.push(Problem::new(span, message).hint("leave out one of the two"));
        }
        if let Some(at) = table.tunnel.as_ref().filter(|_| tunnel == Tunnel::Raw && table.ports.is_none()) {
            let message = "`tunnel = \"raw\"` passes any bytes on, and so it needs `ports`";
            self.problems.push(Problem::new(at.span.clone(), message).hint("name the ports, such as ports = [22]"));
        }
        let host = self.host(&table.host, HostPattern::parse);
        let methods = match (&table.methods, tunnel != Tunnel::No || table.git.is_some() || table.graphql.is_some()) {
            (None, false) => Methods::safe(),
            _ => self.methods(&table.methods),
        };
        let connections = table.connections.as_ref();
        let rule = Rule {
            host: host?,
            ports: self.ports(&table.ports, || Ports::Only(DEFAULT_PORTS.into())),
            methods,
            paths: self.some_list(&table.paths, "paths", check::request_path),
            git: table.git.as_ref().map(|at| at.value),
            graphql: self.graphql(&table.graphql),
            tunnel,
            resolve: self.some_list(&table.resolve, "resolve", pin),
            ca: table.ca.as_ref().and_then(|at| self.ca(at)),
            connections: connections
                .and_then(|at| self.check(at, |number| check::count(*number, 1, check::MOST_CONNECTIONS)))
                .map(|connections| connections.value),
        };
        self.combined(&table.methods, &table.git, &table.graphql);
        if let Some(at) = table.resolve.as_ref().filter(|_| rule.host.single_name().is_none()) {
            self.problems
                .push(Problem::new(at.span.clone(), "`resolve` needs a single host name, not a pattern or an address"));
        }
        if let Err(fault) = check::addresses(&rule.host) {
            self.fault(&table.host.span, fault);
        }
        if tunnel != Tunnel::No
            && let Some(at) = &table.ca
        {
            self.problems.push(Problem::new(
                at.span.clone(),
                "`ca` has no meaning for a tunnel, whose certificate is not checked here",
            ));
        }
        if self.problems.len() == before {
            let ca = table.ca.as_ref().map(|at| (at.span.clone(), "ca"));
            self.not_enforced(
                inspects.or(ca),
                "say `tunnel = true` to allow the whole host unseen, or leave the rule out",
            );
        }
        Some(self.sourced(rule, &table.host.span))
    }

    fn covers(
        &mut self,
        table: &Match,
        parse: impl Fn(&str) -> Result<HostPattern, HostError>,
    ) -> Option<Sourced<Rule>> {
        let before = self.problems.len();
        let host = self.host(&table.host, parse);
        let rule = Rule {
            host: host?,
            ports: self.ports(&table.ports, || Ports::Any),
            methods: self.methods(&table.methods),
            paths: self.some_list(&table.paths, "paths", check::request_path),
            git: table.git.as_ref().map(|at| at.value),
            graphql: self.graphql(&table.graphql),
            tunnel: Tunnel::No,
            resolve: Vec::new(),
            ca: None,
            connections: None,
        };
        self.combined(&table.methods, &table.git, &table.graphql);
        if self.problems.len() == before {
            let inspects = inspecting(&table.paths, &table.methods, &table.git, &table.graphql);
            self.not_enforced(inspects, "let the rule cover the whole host");
        }
        Some(self.sourced(rule, &table.host.span))
    }

    /// What needs a look inside is refused: a policy that is read but not enforced is worse than none.
    fn not_enforced(&mut self, key: Option<(Range<usize>, &'static str)>, hint: &str) {
        let Some((span, key)) = key else { return };
        self.problems.push(Problem::new(span, format!("`{key}` is not enforced by this version yet")).hint(hint));
    }

    pub(super) fn host(
        &mut self,
        at: &At<String>,
        parse: impl Fn(&str) -> Result<HostPattern, HostError>,
    ) -> Option<HostPattern> {
        let problem = |error: HostError| {
            let hint = check::host_hint(&at.value, &error);
            Problem { span: at.span.clone(), message: error.to_string(), hint }
        };
        parse(&at.value).map_err(|error| self.problems.push(problem(error))).ok()
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

    pub(super) fn ports(&mut self, ports: &Option<At<Vec<At<i64>>>>, default: impl Fn() -> Ports) -> Ports {
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

    pub(super) fn rule_contradictions(&mut self, layer: &Layer, document: &Document) {
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

/// An address that a name may be pinned to, in its one form.
fn pin(text: &str) -> Result<IpAddr, Fault> {
    let address: IpAddr =
        text.parse().map_err(|_| Fault { message: format!("{text:?} is not an IP address"), hint: None })?;
    let class = classify(address);
    match class {
        AddressClass::Unspecified | AddressClass::Multicast => {
            Err(Fault { message: format!("{text:?} is {}, and so nothing answers there", class.reason()), hint: None })
        }
        _ => Ok(address.to_canonical()),
    }
}
