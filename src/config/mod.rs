//! From files and flags to one [`Policy`]: built-in profiles, the administrator's file, the user's, the project's, and
//! what was typed, weakest first (`docs/policy.md`).
//!
//! There is no partial policy: the first problem in any file is an error that names its place.

pub mod check;
mod credentials;
pub mod document;
pub mod layer;
mod machine;
pub mod merge;
mod places;
pub mod profiles;
mod rules;
mod suggest;
pub mod text;
pub mod trust;
mod warnings;
mod workspace;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use check::{Access, Ground};
use layer::Layer;
use merge::Merger;
use profiles::Resolved;
use text::{Links, SourceText, read_regular};
use trust::TrustStore;

use crate::error::{Error, Result};
use crate::policy::{Origin, Policy, Source, Sourced, WorkspaceMode};

pub use merge::{GrantState, PendingGrant};
pub use places::Places;
pub use workspace::check_workspace;

/// The name of a project's policy at the root of its workspace.
pub const PROJECT_FILE: &str = ".jail.toml";

/// What a run asks for: where files are looked for, what is run, what was typed.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The user's home directory, absolute.
    pub home: &'a Path,
    /// The administrator's policy, `/etc/jail/policy.toml`.
    pub system_file: &'a Path,
    /// The directory that holds `jail/policy.toml`: `$XDG_CONFIG_HOME` or `~/.config`.
    pub config_home: &'a Path,
    /// The directory that holds `jail/trust.json`: `$XDG_STATE_HOME` or `~/.local/state`.
    pub state_home: &'a Path,
    /// The workspace's root, canonical.
    pub workspace: &'a Path,
    /// The command as typed; its file name chooses the agent profile.
    pub command: &'a OsStr,
    /// What was typed.
    pub flags: &'a Flags,
}

/// Flags that take part in the policy. Paths are absolute already.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--profile`.
    pub profiles: Vec<String>,
    /// `--policy`: takes the place of the user's policy and of the user's policy for this workspace. The
    /// administrator's file still counts, and the project's still tightens.
    pub policy_file: Option<PathBuf>,
    /// `--environment`: which credentials are loaded.
    pub environment: Option<String>,
    /// `--allow HOST[:PORT]`.
    pub allow: Vec<String>,
    /// `--publish PORT` or `--publish HOST_PORT:PORT`.
    pub publish: Vec<String>,
    /// `--read`.
    pub read: Vec<PathBuf>,
    /// `--write`.
    pub write: Vec<PathBuf>,
    /// `--read-only`: the workspace cannot be changed.
    pub read_only: bool,
}

/// A policy and what it was made of.
#[derive(Debug)]
pub struct Loaded {
    /// The merged policy.
    pub policy: Policy,
    /// What the project's policy asks for and does not get.
    pub pending: Vec<PendingGrant>,
    /// What is likely not meant as it stands.
    pub warnings: Vec<String>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
    /// The project's policy, where there is one.
    pub project: Option<Project>,
}

/// A project's policy file as it was read.
#[derive(Debug, Clone)]
pub struct Project {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
    /// Whether the user agreed to exactly these bytes.
    pub trusted: bool,
}

/// Reads, checks and merges every source.
///
/// # Errors
/// The first problem in any file or flag, with its place.
pub fn load(request: &Request<'_>) -> Result<Loaded> {
    let ground = Ground::new(request.home, request.config_home, request.state_home);
    let [own_config, own_state] = ground.own.clone();
    let flags = request.flags;

    let mut files = Vec::new();
    let mut read = |path: &Path, origin: Origin, links: Links| -> Result<Option<(Layer, Vec<u8>)>> {
        let Some(bytes) = read_regular(path, links)? else { return Ok(None) };
        files.push(path.to_path_buf());
        let text = SourceText::new(origin, path.to_path_buf(), bytes.clone())?;
        Ok(Some((Layer::parse(&text, &ground)?, bytes)))
    };
    let system = read(request.system_file, Origin::System, Links::Follow)?.map(|(layer, _)| layer);
    let (user, own) = match &flags.policy_file {
        Some(path) => {
            let layer = read(path, Origin::Flag("--policy".into()), Links::Follow)?;
            let (layer, _) = layer.ok_or_else(|| {
                Error::setup(format!("{}: no such policy file", crate::escape::escape(path)))
                    .hint("`jail init` writes one for a workspace")
            })?;
            (None, Some(layer))
        }
        None => (
            read(&own_config.join("policy.toml"), Origin::User, Links::Follow)?.map(|(layer, _)| layer),
            read(&workspace_file(&own_config, request.workspace), Origin::Workspace, Links::Follow)?
                .map(|(layer, _)| layer),
        ),
    };
    let project_path = request.workspace.join(PROJECT_FILE);
    let (project, project_file) = match read(&project_path, Origin::Project, Links::Refuse)? {
        Some((layer, bytes)) => {
            let sha256 = trust::sha256(&bytes);
            let trusted = TrustStore::load(&own_state)?.trusts(request.workspace, &sha256);
            (Some(layer), Some(Project { path: project_path, sha256, trusted }))
        }
        None => (None, None),
    };
    let trusted = project_file.as_ref().is_some_and(|project| project.trusted);
    let typed = typed(flags, &ground)?;

    let mut resolved = Resolved::default();
    let flag = |name: &str| Sourced::new(name.to_owned(), flag_source("--profile"));
    let agent = profiles::agent(request.command, request.workspace);
    let first = std::iter::once(profiles::BASE).chain(agent).map(|name| Sourced::default_value(name.to_owned()));
    let project_extends = project.iter().filter(|_| trusted).flat_map(|layer| &layer.extends);
    let named = [&system, &user].into_iter().flatten().flat_map(|layer| &layer.extends);
    let last = own.iter().flat_map(|layer| &layer.extends);
    let wanted: Vec<Sourced<String>> = first
        .chain(named.chain(project_extends).chain(last).cloned())
        .chain(flags.profiles.iter().map(|name| flag(name)))
        .collect();
    for name in &wanted {
        resolved.add(name, &own_config, &ground)?;
    }

    let mut merger = Merger::new(resolved.layers.iter().map(|(name, _)| name.clone()).collect());
    let (builtin, users): (Vec<_>, Vec<_>) =
        resolved.layers.into_iter().partition(|(name, _)| profiles::builtin(name).is_some());
    files.extend(resolved.files);
    builtin.into_iter().for_each(|(_, layer)| merger.layer(layer));
    if let Some(layer) = system {
        merger.system(layer);
    }
    users.into_iter().map(|(_, layer)| layer).chain(user).for_each(|layer| merger.layer(layer));
    let pending = project.map(|layer| merger.project(layer, trusted, &resolved.named)).unwrap_or_default();
    own.into_iter().chain([typed]).for_each(|layer| merger.layer(layer));
    let mut policy = merger.finish();
    machine::check(&mut policy.filesystem, request.workspace, &ground)?;
    credentials::check(&policy)?;
    let warnings = warnings::about(&policy.egress);
    Ok(Loaded { policy, pending, warnings, files, project: project_file })
}

/// The user's policy for a workspace, which lies outside of it.
pub fn workspace_file(own_config: &Path, workspace: &Path) -> PathBuf {
    own_config.join("workspaces").join(format!("{}.toml", &trust::workspace_key(workspace)[..16]))
}

fn flag_source(flag: &str) -> Source {
    Source { origin: Origin::Flag(flag.to_owned()), file: None, line: 0, column: 0 }
}

/// The flags as the strongest source.
fn typed(flags: &Flags, ground: &Ground) -> Result<Layer> {
    let mut layer = Layer::default();
    let paths = |flag: &str, paths: &[PathBuf], access| -> Result<Vec<Sourced<PathBuf>>> {
        let checked = paths.iter().map(|path| {
            let path: PathBuf = path.components().collect();
            match check::not_too_broad(&path, access, ground) {
                Ok(()) => Ok(Sourced::new(path, flag_source(flag))),
                Err(fault) => Err(fault_error(flag, fault)),
            }
        });
        checked.collect()
    };
    layer.filesystem.read = paths("--read", &flags.read, Access::Read)?;
    layer.filesystem.write = paths("--write", &flags.write, Access::Write)?;
    for text in &flags.allow {
        let rule = check::allowed(text).map_err(|fault| fault_error("--allow", fault))?;
        layer.egress.allow.push(Sourced::new(rule, flag_source("--allow")));
    }
    for text in &flags.publish {
        let publish = check::published(text).map_err(|fault| fault_error("--publish", fault))?;
        layer.publish.push(Sourced::new(publish, flag_source("--publish")));
    }
    if let Some(name) = &flags.environment {
        let name = credentials::environment_name(name).map_err(|fault| fault_error("--environment", fault))?;
        layer.credentials.environment = Some(Sourced::new(name, flag_source(credentials::FLAG)));
    }
    if flags.read_only {
        layer.mode = Some(Sourced::new(WorkspaceMode::ReadOnly, flag_source("--read-only")));
    }
    Ok(layer)
}

fn fault_error(place: impl std::fmt::Display, fault: check::Fault) -> Error {
    let error = Error::setup(format!("{place}: {}", fault.message));
    match fault.hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
