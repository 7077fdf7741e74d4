//! A project's policy only ever tightens, whatever it says and whatever the other sources say.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use jail::policy::{LimitsPolicy, Policy, ScanMode, Sourced, WorkspaceMode};
use proptest::prelude::*;
use proptest::sample::subsequence;

use crate::config::World;

/// Parts of a policy file, from few values, so that sources meet.
#[derive(Debug, Clone)]
struct Parts {
    lists: Vec<(&'static str, &'static str, Vec<&'static str>)>,
    set: Vec<&'static str>,
    mode: Option<&'static str>,
    scan: Option<&'static str>,
    limits: [Option<u32>; 5],
    extends: Vec<&'static str>,
    rules: Vec<(&'static str, &'static str)>,
}

const LISTS: &[(&str, &str, &[&str])] = &[
    ("filesystem", "read", &["~/a", "~/b", "/srv/x", "~/.cargo/bin"]),
    ("filesystem", "write", &["~/a", "~/w", "/srv/y"]),
    ("filesystem", "hide", &["h", "x.pem", "d/*.key"]),
    ("filesystem", "reveal", &["x.pem", "y.pem"]),
    ("filesystem", "protect", &["Makefile", "ci"]),
    ("filesystem", "unprotect", &["ci", ".git"]),
    ("environment", "pass", &["TERM", "LC_*", "MY_*", "MY_A", "MY_AB*", "X"]),
    ("environment", "remove", &["TERM", "LC_ALL", "LC_*", "M*", "MY_*", "MY_A*", "MY_A", "PATH"]),
];

const RULES: &[&str] = &[
    "host = \"a.example.com\"",
    "host = \"*.example.com\"",
    "host = \"b.example.org\"\nports = [8443]",
    "host = \"{a.example.com,10.0.0.5}\"\nports = [22, 443]",
    "host = \"git.example.net\"",
];

const VARIABLES: &[&str] =
    &["TERM", "LC_ALL", "LC_TIME", "MY_A", "MY_AB", "MY_ABC", "MY_B", "X", "PATH", "LANG", "A", "MY_TOKEN"];

fn parts() -> impl Strategy<Value = Parts> {
    let lists: Vec<_> = LISTS
        .iter()
        .map(|(table, key, values)| {
            subsequence(values.to_vec(), 0..=values.len()).prop_map(move |some| (*table, *key, some))
        })
        .collect();
    let limits = proptest::array::uniform5(proptest::option::of(20u32..30));
    let rules = proptest::collection::vec(
        (prop_oneof![Just("allow"), Just("ask"), Just("deny")], proptest::sample::select(RULES)),
        0..4,
    );
    let choice = |values: &'static [&'static str]| proptest::option::of(proptest::sample::select(values));
    (
        lists,
        subsequence(vec!["A", "B"], 0..=2),
        choice(&["direct", "read-only"]),
        choice(&["off", "names"]),
        limits,
        subsequence(vec!["ci", "devcontainer"], 0..=2),
        rules,
    )
        .prop_map(|(lists, set, mode, scan, limits, extends, rules)| Parts {
            lists,
            set,
            mode,
            scan,
            limits,
            extends,
            rules,
        })
}

impl Parts {
    fn list(&self, key: &str) -> &[&'static str] {
        self.lists.iter().find(|(_, name, _)| *name == key).map(|(.., values)| values.as_slice()).unwrap_or_default()
    }

    /// What contradicts itself within one file is left out: such a file is refused as a whole.
    fn text(&self) -> String {
        let mut text = format!("extends = {:?}\n", self.extends);
        for table in ["filesystem", "environment"] {
            text += &format!("[{table}]\n");
            for (_, key, values) in self.lists.iter().filter(|(own, ..)| *own == table) {
                let against = match *key {
                    "reveal" => self.list("hide"),
                    "unprotect" => self.list("protect"),
                    "remove" => self.list("pass"),
                    _ => &[],
                };
                let kept: Vec<_> = values.iter().filter(|value| !against.contains(value)).collect();
                text += &format!("{key} = {kept:?}\n");
            }
            if table == "environment" {
                let set: Vec<_> =
                    self.set.iter().map(|name| format!("{name} = \"{}\"", self.limits[0].unwrap_or(0))).collect();
                text += &format!("set = {{ {} }}\n", set.join(", "));
            }
        }
        if let Some(mode) = self.mode {
            text += &format!("[workspace]\nmode = {mode:?}\n");
        }
        if let Some(scan) = self.scan {
            text += &format!("[secrets]\nscan = {scan:?}\n");
        }
        text += "[limits]\n";
        let show: [fn(u32) -> String; 5] = [
            |n| format!("memory = \"{n}MiB\""),
            |n| format!("processes = {n}"),
            |n| format!("cpu = {n}.5"),
            |n| format!("time = \"{n}s\""),
            |n| format!("open_files = {n}"),
        ];
        for (limit, show) in self.limits.iter().zip(show) {
            text += &limit.map(|limit| show(limit) + "\n").unwrap_or_default();
        }
        let mut seen: Vec<(&str, &str)> = Vec::new();
        for (verb, rule) in &self.rules {
            let host = |rule: &str| rule.lines().next().unwrap_or_default().to_owned();
            let clash = seen.iter().any(|(other, earlier)| {
                if other == verb {
                    earlier == rule
                } else {
                    *verb != "ask" && *other != "ask" && host(earlier) == host(rule)
                }
            });
            if !clash {
                text += &format!("[[{verb}]]\n{rule}\n");
                seen.push((verb, rule));
            }
        }
        text
    }
}

fn contains<T: PartialEq + std::fmt::Debug>(what: &str, outer: &[Sourced<T>], inner: &[Sourced<T>]) {
    for entry in inner {
        assert!(outer.iter().any(|other| other.value == entry.value), "{what}: {entry:?} is missing");
    }
}

fn lower<T: PartialOrd + std::fmt::Debug>(what: &str, one: &Option<Sourced<T>>, other: &Option<Sourced<T>>) {
    if let Some(other) = other {
        assert!(one.as_ref().is_some_and(|one| one.value <= other.value), "{what}: {one:?} is more than {other:?}");
    }
}

fn lower_limits(one: &LimitsPolicy, other: &LimitsPolicy) {
    lower("memory", &one.memory, &other.memory);
    lower("processes", &one.processes, &other.processes);
    lower("cpu", &one.cpu, &other.cpu);
    lower("time", &one.time, &other.time);
    lower("open_files", &one.open_files, &other.open_files);
}

/// Panics where `tight` gives something that `wide` does not give.
fn not_wider(tight: &Policy, wide: &Policy) {
    let (files, more) = (&tight.filesystem, &wide.filesystem);
    let readable = [more.read.clone(), more.write.clone()].concat();
    contains("read", &readable, &files.read);
    contains("write", &more.write, &files.write);
    contains("hide", &files.hide, &more.hide);
    contains("reveal", &more.reveal, &files.reveal);
    contains("protect", &files.protect, &more.protect);
    contains("unprotect", &more.unprotect, &files.unprotect);
    for name in VARIABLES {
        assert!(!tight.environment.passes(name) || wide.environment.passes(name), "{name} is passed");
    }
    assert_eq!(tight.environment.set, wide.environment.set);
    lower_limits(&tight.limits, &wide.limits);
    assert!(
        tight.workspace.mode.value == WorkspaceMode::ReadOnly || wide.workspace.mode.value == WorkspaceMode::Direct
    );
    assert!(tight.secrets.scan.value == ScanMode::Names || wide.secrets.scan.value == ScanMode::Off);
    contains("allow", &wide.egress.allow, &tight.egress.allow);
    contains("ask", &tight.egress.ask, &wide.egress.ask);
    contains("deny", &tight.egress.deny, &wide.egress.deny);
    assert_eq!(tight.profiles, wide.profiles);
}

fn world(system: &Parts, user: &Parts, own: &Parts) -> World {
    let world = World::new().system(&system.text()).user(&user.text());
    world.write(&world.workspace_file(), own.text());
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_project_file_never_widens(system in parts(), user in parts(), own in parts(), project in parts()) {
        let world = world(&system, &user, &own);
        let without = world.loaded().policy;
        let world = world.project(&project.text());
        not_wider(&world.loaded().policy, &without);
    }

    #[test]
    fn one_more_rule_in_a_project_file_never_widens(user in parts(), own in parts(), project in parts(), list in 0..LISTS.len(), value in any::<prop::sample::Index>(), rule in (prop_oneof![Just("ask"), Just("deny"), Just("allow")], proptest::sample::select(RULES))) {
        let nothing = Parts { lists: Vec::new(), set: Vec::new(), mode: None, scan: None, limits: [None; 5], extends: Vec::new(), rules: Vec::new() };
        let world = world(&nothing, &user, &own).project(&project.text());
        let before = world.loaded().policy;
        let mut more = project.clone();
        let added = value.get(LISTS[list].2);
        // Another list of the same file must not lose the value to the contradiction rule.
        let opposite = match LISTS[list].1 { "hide" => "reveal", "protect" => "unprotect", "pass" => "remove", _ => "" };
        prop_assume!(!project.list(opposite).contains(added) || opposite != "remove");
        if !more.lists[list].2.contains(added) {
            more.lists[list].2.push(added);
        }
        more.rules.push(rule);
        let world = world.project(&more.text());
        not_wider(&world.loaded().policy, &before);
    }

    #[test]
    fn nothing_undoes_the_administrator(system in parts(), user in parts(), own in parts(), project in parts()) {
        let world = world(&system, &user, &own).project(&project.text());
        let policy = world.loaded().policy;
        let alone = World::new().system(&system.text()).loaded().policy;
        contains("hide", &policy.filesystem.hide, &alone.filesystem.hide);
        contains("protect", &policy.filesystem.protect, &alone.filesystem.protect);
        contains("deny", &policy.egress.deny, &alone.egress.deny);
        let caps = |number: Option<u32>| number.map(u64::from);
        if let (Some(cap), Some(limit)) = (caps(system.limits[1]), &policy.limits.processes) {
            prop_assert!(limit.value <= cap);
        }
        if let (Some(cap), Some(limit)) = (caps(system.limits[0]), &policy.limits.memory) {
            prop_assert!(limit.value <= cap << 20);
        }
        prop_assert!(system.mode != Some("read-only") || policy.workspace.mode.value == WorkspaceMode::ReadOnly);
        prop_assert!(system.scan != Some("names") || policy.secrets.scan.value == ScanMode::Names);
        for removed in system.list("remove").iter().filter(|removed| !system.list("pass").contains(removed)) {
            for name in VARIABLES.iter().filter(|name| jail::policy::environment::pattern_matches(removed, name)) {
                prop_assert!(!policy.environment.passes(name), "{} is passed", name);
            }
        }
    }
}

/// A valid policy with many kinds of values, to be damaged.
const SAMPLE: &str = "extends = [\"rust\"]\n[filesystem]\nread = [\"~/ä/b\"]\nhide = [\"*.é{a,b}[c]\"]\r\n[environment]\nset = { A = \"\\u00e9\" }\n\
    [limits]\nmemory = \"8GiB\"\ncpu = 1.5\ntime = \"1h 30m\"\n[[allow]]\nhost = \"bücher.{a,b}.example.com\"\nports = [443]\ntunnel = \"raw\"\nresolve = [\"10.0.0.1\"]\n";

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_file_is_an_error_with_its_place_or_a_policy(at in any::<prop::sample::Index>(), cut in 0usize..6, insert in "\\PC{0,3}|[\\x00-\\x7f]{0,4}|[\"'\\[\\]{}=#\\n\\\\.*/~-]{0,6}") {
        let mut chars: Vec<char> = SAMPLE.chars().collect();
        let start = at.index(chars.len());
        let end = (start + cut).min(chars.len());
        chars.splice(start..end, insert.chars());
        let text: String = chars.into_iter().collect();
        let world = World::new().user(&text);
        if let Err(error) = world.load() {
            let message = error.to_string();
            let file = format!("{}:", world.user_file().display());
            let place = message.strip_prefix(&file).unwrap_or_default();
            prop_assert!(place.starts_with(|c: char| c.is_ascii_digit()), "{:?}", message);
            prop_assert!(message.chars().all(|c| c == '\n' || !c.is_control()), "{:?}", message);
        }
    }

    #[test]
    fn a_host_reads_the_same_after_it_was_written(text in "[a-zA-Z0-9.\\-_*{},ä。%:\\[\\]]{0,24}") {
        if let Ok(host) = jail::policy::host::Host::parse(&text) {
            prop_assert_eq!(jail::policy::host::Host::parse(&host.to_string()), Ok(host.clone()));
            prop_assert!(jail::policy::host::HostPattern::parse_for_deny(&host.to_string()).unwrap().matches(&host));
        }
        let _ = jail::policy::host::HostPattern::parse(&text);
    }
}
