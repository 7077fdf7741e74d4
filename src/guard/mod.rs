//! What the host executes or obeys: what of it is read-only in the jail, and what is reported afterwards.

pub mod external;
pub mod git;
pub mod gitconfig;
pub mod gitview;
pub mod hostrun;
pub mod names;
pub mod placeholder;
pub mod report;

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::OFlag;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::policy::{FilesystemPolicy, Sourced};
use crate::secrets::glob::{Case, Globs};
use crate::sys::dirent::FileType;
use crate::tree::open::beneath;
use crate::tree::{Query, TreeFacts};

pub use names::protects;
pub use report::report;

/// One path that is protected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Guard {
    /// Relative to the workspace (or to the repository, in [`external::ExternalGit`]).
    #[serde(serialize_with = "crate::tree::escaped")]
    pub path: PathBuf,
    /// How it is protected.
    pub action: Action,
    /// Why.
    pub why: Cow<'static, str>,
}

/// How a path is protected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is bound onto itself, read-only.
    ReadOnly,
    /// It is bound onto itself, writable: a mount point cannot be renamed or removed.
    Pin,
    /// It is a symbolic link: the link itself is bound onto itself (open_tree(2) with `AT_SYMLINK_NOFOLLOW`), so that it
    /// cannot be replaced.
    PinSymlink,
    /// It does not exist: it is made on the host as a mount point, covered read-only and removed after the run.
    Placeholder(Placeholder),
}

/// What stands in for a path that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placeholder {
    /// An empty directory.
    Directory,
    /// A regular file with this content, chosen so that the program that reads it finds nothing to do.
    File(&'static str),
}

impl Guard {
    pub(crate) fn new(path: impl Into<PathBuf>, action: Action, why: impl Into<Cow<'static, str>>) -> Self {
        Self { path: path.into(), action, why: why.into() }
    }
}

/// The policy's `protect` and `unprotect`, compiled.
#[derive(Debug)]
pub struct Protection {
    protect: Globs,
    /// Entries of `protect` without wildcards, which are protected also while they do not exist.
    literal: Vec<(PathBuf, bool)>,
    lifted: Vec<PathBuf>,
}

impl Protection {
    /// Compiles the two lists.
    ///
    /// # Errors
    /// A glob that cannot be compiled or a path that leads out of the workspace, named with its place.
    pub fn compile(filesystem: &FilesystemPolicy) -> Result<Self> {
        let protect = Globs::compile("protect", &filesystem.protect, Case::Fold)?;
        let wild = |text: &str| text.contains(['*', '?', '[', '{', '\\']);
        let literal = filesystem.protect.iter().filter(|entry| !wild(&entry.value));
        let literal = literal.map(|entry| Ok((plain("protect", entry)?, entry.value.ends_with('/'))));
        let lifted = filesystem.unprotect.iter().map(|entry| plain("unprotect", entry));
        Ok(Self { protect, literal: literal.collect::<Result<_>>()?, lifted: lifted.collect::<Result<_>>()? })
    }

    /// Whether the policy protects this entry beside the built-in table.
    pub fn also(&self, parent: &[u8], name: &[u8], directory: bool) -> bool {
        !self.protect.is_empty() && self.protect.find(parent, name, directory).is_some()
    }

    /// Whether the policy leaves this path writable: it or a directory above is in `unprotect`.
    pub fn lifted(&self, path: &Path) -> bool {
        self.lifted.iter().any(|lifted| path.starts_with(lifted))
    }

    /// The guards for what exists, and placeholders for what does not.
    pub(crate) fn guards(&self, existing: &[(PathBuf, FileType)]) -> Vec<Guard> {
        let mut guards = Vec::new();
        for (path, kind) in existing {
            let why = names::why(path).map_or(Cow::Borrowed("named in the policy's protect"), Cow::Borrowed);
            let action = if *kind == FileType::Symlink { Action::PinSymlink } else { Action::ReadOnly };
            if let Some(parent) = names::pinned_parent(path) {
                guards.push(Guard::new(
                    parent,
                    Action::Pin,
                    "holds what the host executes; renaming it would uncover that",
                ));
            }
            guards.push(Guard::new(path.clone(), action, why));
        }
        guards
    }
}

fn plain(key: &str, entry: &Sourced<String>) -> Result<PathBuf> {
    let path = Path::new(&entry.value);
    let path: PathBuf =
        path.components().filter(|part| !matches!(part, Component::CurDir | Component::RootDir)).collect();
    if path.as_os_str().is_empty() || path.components().any(|part| !matches!(part, Component::Normal(_))) {
        let message = format!("filesystem.{key}: {:?} ({}) is not a path in the workspace", entry.value, entry.source);
        return Err(Error::setup(message));
    }
    Ok(path)
}

/// Adds to the facts what needs a look at the files: symbolic links, placeholders and git.
pub(crate) fn apply(root: BorrowedFd<'_>, query: &Query, facts: &mut TreeFacts) -> Result<()> {
    link_targets(query, facts);
    placeholders(root, query, facts);
    git::apply(root, query, facts)?;
    facts.guards.retain(|guard| !query.protection.lifted(&guard.path));
    tidy(&mut facts.guards);
    let named = facts.protected.iter().map(|path| &path.0).chain(facts.git.iter().map(|git| &git.path));
    let identity = |path: &PathBuf| {
        let stat = beneath(root, path, OFlag::O_PATH).and_then(|fd| nix::sys::stat::fstat(&fd)).ok()?;
        Some((path.clone(), (stat.st_dev, stat.st_ino)))
    };
    facts.identities = named.chain([&PathBuf::new()]).filter_map(identity).collect();
    facts.git_ignore = gitview::ignore(facts);
    facts.git_attributes = gitview::attributes(facts);
    Ok(())
}

/// Protects what a protected symbolic link leads to, where that is in the workspace.
fn link_targets(query: &Query, facts: &mut TreeFacts) {
    let links: Vec<PathBuf> = paths_with(&facts.guards, |action| *action == Action::PinSymlink);
    // A repository behind a link is protected in parts.
    for link in links.into_iter().filter(|link| link.file_name() != Some(OsStr::new(".git"))) {
        let Ok(resolved) = std::fs::canonicalize(query.root.join(&link)) else { continue };
        let Ok(target) = resolved.strip_prefix(&query.root) else { continue };
        if target.as_os_str().is_empty() || link.starts_with(target) {
            facts.notes.push(format!(
                "{} leads to a directory above itself and is protected only as a link.",
                crate::tree::escape(&link)
            ));
            continue;
        }
        let why = format!("target of {}", crate::tree::escape(&link));
        facts.guards.push(Guard::new(target, Action::ReadOnly, why));
    }
}

fn paths_with(guards: &[Guard], wanted: impl Fn(&Action) -> bool) -> Vec<PathBuf> {
    guards.iter().filter(|guard| wanted(&guard.action)).map(|guard| guard.path.clone()).collect()
}

/// Whether something is there. A placeholder is not: it belongs to another jail, or to one that was killed, and is taken
/// over as if it were to be made.
fn exists(root: BorrowedFd<'_>, path: &Path) -> bool {
    beneath(root, path, OFlag::O_PATH).is_ok() && !placeholder::is_placeholder_at(root, path)
}

/// Every content that the built-in tables give a placeholder file.
pub(crate) fn placeholder_contents() -> impl Iterator<Item = &'static str> {
    names::missing().map(|(_, stand_in, _)| stand_in).chain(git::stand_ins()).filter_map(|stand_in| match stand_in {
        Placeholder::File(content) => Some(content),
        Placeholder::Directory => None,
    })
}

fn placeholders(root: BorrowedFd<'_>, query: &Query, facts: &mut TreeFacts) {
    let table = names::missing().map(|(name, stand_in, why)| (PathBuf::from(name), stand_in, Cow::Borrowed(why)));
    let own = query.protection.literal.iter().map(|(path, directory)| {
        let stand_in = if *directory { Placeholder::Directory } else { Placeholder::File("") };
        (path.clone(), stand_in, Cow::Borrowed("named in the policy's protect"))
    });
    for (path, stand_in, why) in table.chain(own) {
        if facts.protected.iter().any(|known| crate::guard::same_name(&known.0, &path)) || exists(root, &path) {
            continue;
        }
        // Where a directory above is missing too, covering that one covers the path.
        let mut missing = PathBuf::new();
        for part in path.components() {
            missing.push(part);
            if !exists(root, &missing) {
                break;
            }
        }
        let stand_in = if missing == path { stand_in } else { Placeholder::Directory };
        facts.guards.push(Guard::new(missing, Action::Placeholder(stand_in), why));
    }
}

/// Whether two paths are the same on a file system that ignores letter case.
fn same_name(a: &Path, b: &Path) -> bool {
    a.as_os_str().as_bytes().eq_ignore_ascii_case(b.as_os_str().as_bytes())
}

/// Sorts parents first and keeps one guard per path: the stronger.
fn tidy(guards: &mut Vec<Guard>) {
    let strength = |action: &Action| match action {
        Action::Pin => 1,
        Action::PinSymlink => 2,
        Action::ReadOnly => 3,
        Action::Placeholder(_) => 4,
    };
    guards.sort_by(|a, b| a.path.cmp(&b.path).then(strength(&b.action).cmp(&strength(&a.action))));
    guards.dedup_by(|later, first| later.path == first.path);
}
