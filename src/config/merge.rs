//! Merging the sources into one policy, weakest first.
//!
//! Grants add up, and so do refusals. What the administrator's file forbids, no later source brings back; what a
//! project's file grants is held back until the user agreed to it, or for good.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::check::Same;
use super::credentials;
use super::layer::Layer;
use crate::policy::address::classify;
use crate::policy::environment::pattern_covers;
use crate::policy::{
    CredentialsPolicy, EnvironmentPolicy, FilesystemPolicy, LimitsPolicy, Policy, Publish, ScanMode, SecretsPolicy,
    Source, Sourced, WorkspaceMode, WorkspacePolicy,
    egress::{EgressPolicy, Rule},
};

/// Something a project's policy asks for and does not get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PendingGrant {
    /// The key in the policy, such as `filesystem.write`.
    pub key: &'static str,
    /// What it asks for.
    pub value: String,
    /// Where.
    pub source: Source,
    /// Whether agreement would give it.
    pub state: GrantState,
}

/// Whether the user's agreement gives a project what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GrantState {
    /// `jail trust` gives it.
    Pending,
    /// A project's policy never gives it.
    Never,
}

/// Collects the sources; see [`Merger::finish`].
#[derive(Debug)]
pub struct Merger {
    policy: Policy,
    system: Layer,
}

impl Merger {
    /// Nothing is granted yet.
    pub fn new(profiles: Vec<String>) -> Self {
        Self {
            policy: Policy {
                profiles,
                workspace: WorkspacePolicy { mode: Sourced::default_value(WorkspaceMode::Direct) },
                filesystem: FilesystemPolicy::default(),
                secrets: SecretsPolicy { scan: Sourced::default_value(ScanMode::Names) },
                environment: EnvironmentPolicy::default(),
                limits: LimitsPolicy::default(),
                egress: EgressPolicy::default(),
                publish: Vec::new(),
                credentials: CredentialsPolicy::default(),
            },
            system: Layer::default(),
        }
    }

    /// Adds the administrator's file: later sources do not undo what it forbids.
    pub fn system(&mut self, layer: Layer) {
        self.system = layer.clone();
        self.layer(layer);
    }

    /// Adds a source that may grant.
    pub fn layer(&mut self, layer: Layer) {
        let policy = &mut self.policy;
        let fixed_mode = self.system.mode.as_ref().is_some_and(|mode| mode.value == WorkspaceMode::ReadOnly);
        if let Some(mode) = layer.mode.filter(|mode| !fixed_mode || mode.value == WorkspaceMode::ReadOnly) {
            policy.workspace.mode = mode;
        }
        let fixed_scan = self.system.scan.as_ref().is_some_and(|scan| scan.value == ScanMode::Names);
        if let Some(scan) = layer.scan.filter(|scan| !fixed_scan || scan.value == ScanMode::Names) {
            policy.secrets.scan = scan;
        }
        filesystem(&mut policy.filesystem, layer.filesystem);
        environment(&mut policy.environment, &self.system.remove, layer.pass, layer.remove, layer.set);
        let (limits, caps) = (&mut policy.limits, &self.system.limits);
        replace(&mut limits.memory, layer.limits.memory, &caps.memory);
        replace(&mut limits.processes, layer.limits.processes, &caps.processes);
        replace(&mut limits.cpu, layer.limits.cpu, &caps.cpu);
        replace(&mut limits.time, layer.limits.time, &caps.time);
        replace(&mut limits.open_files, layer.limits.open_files, &caps.open_files);
        replace(&mut limits.connections, layer.limits.connections, &caps.connections);
        replace(&mut limits.connect_time, layer.limits.connect_time, &caps.connect_time);
        replace(&mut limits.idle_time, layer.limits.idle_time, &caps.idle_time);
        add(&mut policy.egress.allow, layer.egress.allow);
        add(&mut policy.egress.ask, layer.egress.ask);
        add(&mut policy.egress.deny, layer.egress.deny);
        for publish in layer.publish {
            policy.publish.retain(|earlier| earlier.value.host_port != publish.value.host_port);
            policy.publish.push(publish);
        }
        let fixed = &self.system.credentials.protected;
        merge_credentials(&mut policy.credentials, layer.credentials, fixed);
    }

    /// Adds the project's file: what tightens counts, the rest is returned unless the user agreed to it.
    /// `named` are the profiles that somebody else named.
    pub fn project(&mut self, mut layer: Layer, trusted: bool, named: &[String]) -> Vec<PendingGrant> {
        let mut held = Held { trusted, grants: Vec::new() };
        let policy = &self.policy;
        held.back("extends", &mut layer.extends, |name| named.contains(name), String::clone);
        let (own, granted) = (&mut layer.filesystem, &policy.filesystem);
        let readable = |path: &PathBuf| has(&granted.read, path) || has(&granted.write, path);
        held.back("filesystem.read", &mut own.read, readable, |path| show_path(path));
        held.back("filesystem.write", &mut own.write, |path| has(&granted.write, path), |path| show_path(path));
        held.never("filesystem.reveal", &mut own.reveal);
        held.never("filesystem.unprotect", &mut own.unprotect);
        let passed = |name: &String| policy.environment.pass.iter().any(|entry| pattern_covers(&entry.value, name));
        held.back("environment.pass", &mut layer.pass, passed, String::clone);
        layer.set.retain(|(name, value)| {
            let same = policy.environment.set.get(name).is_some_and(|current| current.value == value.value);
            !same && held.keep("environment.set", format!("{name}={}", value.value), &value.source)
        });
        held.raise("limits.memory", &mut layer.limits.memory, &policy.limits.memory, u64::to_string);
        held.raise("limits.processes", &mut layer.limits.processes, &policy.limits.processes, u64::to_string);
        held.raise("limits.cpu", &mut layer.limits.cpu, &policy.limits.cpu, f64::to_string);
        let seconds = |time: &Duration| format!("{}s", time.as_secs());
        let (own, current) = (&mut layer.limits, &policy.limits);
        held.raise("limits.time", &mut own.time, &current.time, seconds);
        held.raise("limits.open_files", &mut own.open_files, &current.open_files, u64::to_string);
        held.raise("limits.connections", &mut own.connections, &current.connections, u64::to_string);
        held.raise("limits.connect_time", &mut own.connect_time, &current.connect_time, seconds);
        held.raise("limits.idle_time", &mut own.idle_time, &current.idle_time, seconds);
        held.allow(&mut layer.egress.allow, &policy.egress.allow);
        let published = |publish: &Publish| policy.publish.iter().any(|granted| granted.value == *publish);
        held.back("publish", &mut layer.publish, published, Publish::to_string);
        held.credentials(&mut layer.credentials, &policy.credentials);
        if let Some(mode) = layer.mode.take_if(|mode| mode.value == WorkspaceMode::Direct)
            && policy.workspace.mode.value == WorkspaceMode::ReadOnly
        {
            held.grant("workspace.mode", "direct".into(), &mode.source, GrantState::Never);
        }
        if let Some(scan) = layer.scan.take_if(|scan| scan.value == ScanMode::Off)
            && policy.secrets.scan.value != ScanMode::Off
        {
            held.grant("secrets.scan", "off".into(), &scan.source, GrantState::Never);
        }
        self.layer(layer);
        held.grants
    }

    /// The policy.
    pub fn finish(mut self) -> Policy {
        let filesystem = &mut self.policy.filesystem;
        filesystem.reveal.retain(|entry| !has(&filesystem.hide, &entry.value));
        filesystem.unprotect.retain(|entry| !has(&filesystem.protect, &entry.value));
        self.policy
    }
}

/// What a project asks for beyond what is granted already.
struct Held {
    trusted: bool,
    grants: Vec<PendingGrant>,
}

impl Held {
    fn grant(&mut self, key: &'static str, value: String, source: &Source, state: GrantState) {
        self.grants.push(PendingGrant { key, value, source: source.clone(), state });
    }

    /// Whether a grant counts; if not, it is remembered.
    fn keep(&mut self, key: &'static str, value: String, source: &Source) -> bool {
        if !self.trusted {
            self.grant(key, value, source, GrantState::Pending);
        }
        self.trusted
    }

    fn back<T>(
        &mut self,
        key: &'static str,
        list: &mut Vec<Sourced<T>>,
        granted: impl Fn(&T) -> bool,
        show: impl Fn(&T) -> String,
    ) {
        list.retain(|entry| !granted(&entry.value) && self.keep(key, show(&entry.value), &entry.source));
    }

    fn never(&mut self, key: &'static str, list: &mut Vec<Sourced<String>>) {
        for entry in list.drain(..) {
            self.grant(key, entry.value, &entry.source, GrantState::Never);
        }
    }

    /// A project chooses neither a secret nor what is loaded; it may say that an environment is protected.
    fn credentials(&mut self, own: &mut CredentialsPolicy, current: &CredentialsPolicy) {
        for credential in own.credentials.drain(..) {
            self.grant("credential", credential.value.to_string(), &credential.source, GrantState::Never);
        }
        if let Some(chosen) = own.environment.take() {
            self.grant("credentials.environment", chosen.value, &chosen.source, GrantState::Never);
        }
        own.protected.retain(|name, protected| {
            if !protected.value && current.is_protected(name) {
                let key = "credentials.environments";
                self.grant(key, format!("{name} not protected"), &protected.source, GrantState::Never);
            }
            protected.value
        });
    }

    fn raise<T: PartialOrd>(
        &mut self,
        key: &'static str,
        own: &mut Option<Sourced<T>>,
        current: &Option<Sourced<T>>,
        show: impl Fn(&T) -> String,
    ) {
        let (Some(wanted), Some(current)) = (own.as_ref(), current) else { return };
        if wanted.value > current.value && !self.keep(key, show(&wanted.value), &wanted.source)
            || wanted.value == current.value
        {
            *own = None;
        }
    }

    fn allow(&mut self, rules: &mut Vec<Sourced<Rule>>, granted: &[Sourced<Rule>]) {
        rules.retain(|rule| {
            if has(granted, &rule.value) {
                return false;
            }
            // An address or a certificate authority of the project's choice would let it stand in for any host, and
            // what is in the user's own networks is not the project's to open.
            let inward = rule.value.host.addresses().any(|address| !classify(address).is_public());
            if inward || !rule.value.resolve.is_empty() || rule.value.ca.is_some() {
                self.grant("allow", rule.value.to_string(), &rule.source, GrantState::Never);
                return false;
            }
            self.keep("allow", rule.value.to_string(), &rule.source)
        });
    }
}

fn show_path(path: impl AsRef<Path>) -> String {
    path.as_ref().display().to_string()
}

fn has<T: Same>(list: &[Sourced<T>], value: &T) -> bool {
    list.iter().any(|entry| entry.value.same(value))
}

fn add<T: Same>(list: &mut Vec<Sourced<T>>, more: Vec<Sourced<T>>) {
    for entry in more {
        if !has(list, &entry.value) {
            list.push(entry);
        }
    }
}

fn filesystem(merged: &mut FilesystemPolicy, layer: FilesystemPolicy) {
    add(&mut merged.write, layer.write);
    add(&mut merged.read, layer.read);
    let write = &merged.write;
    merged.read.retain(|entry| !has(write, &entry.value));
    add(&mut merged.hide, layer.hide);
    add(&mut merged.reveal, layer.reveal);
    add(&mut merged.protect, layer.protect);
    add(&mut merged.unprotect, layer.unprotect);
}

fn merge_credentials(
    merged: &mut CredentialsPolicy,
    layer: CredentialsPolicy,
    fixed: &BTreeMap<String, Sourced<bool>>,
) {
    if layer.environment.is_some() {
        merged.environment = layer.environment;
    }
    for (name, protected) in layer.protected {
        if protected.value || fixed.get(&name).is_none_or(|fixed| !fixed.value) {
            merged.protected.insert(name, protected);
        }
    }
    for credential in layer.credentials {
        merged.credentials.retain(|earlier| !credentials::same(&earlier.value, &credential.value));
        merged.credentials.push(credential);
    }
}

fn environment(
    merged: &mut EnvironmentPolicy,
    fixed: &[Sourced<String>],
    pass: Vec<Sourced<String>>,
    remove: Vec<Sourced<String>>,
    set: Vec<(String, Sourced<String>)>,
) {
    for entry in pass {
        if fixed.iter().any(|fixed| pattern_covers(&fixed.value, &entry.value)) {
            continue;
        }
        merged.remove.retain(|removed| has(fixed, &removed.value) || !pattern_covers(&entry.value, &removed.value));
        add(&mut merged.pass, vec![entry]);
    }
    for entry in remove {
        merged.pass.retain(|passed| !pattern_covers(&entry.value, &passed.value));
        // Kept only where a broader pattern would still pass it, or where no later source may bring it back.
        let needed = merged.pass.iter().any(|passed| pattern_covers(&passed.value, &entry.value));
        if needed || has(fixed, &entry.value) {
            add(&mut merged.remove, vec![entry]);
        }
    }
    merged.set.extend(set);
}

/// The later value, unless the administrator's is lower.
fn replace<T: PartialOrd + Clone>(current: &mut Option<Sourced<T>>, new: Option<Sourced<T>>, cap: &Option<Sourced<T>>) {
    let Some(new) = new else { return };
    *current = match cap {
        Some(cap) if new.value > cap.value => Some(cap.clone()),
        _ => Some(new),
    };
}
