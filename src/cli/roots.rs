//! The trees that are searched: the workspace, and directories the user named beside it. Both get masks and guards, are
//! watched, and are compared after the run.

use std::path::Path;

use crate::error::Result;
use crate::guard::{Action, Placeholder};
use crate::plan::mounts::{Access, Mount};
use crate::plan::{Guard, GuardAction, Mask, StandIn};
use crate::policy::{FilesystemPolicy, Origin, Policy};
use crate::tree::{self, HiddenKind, Query, Searched, TreeFacts};

/// Searches the directories that the user named beside the workspace. Not those of built-in profiles: tool chains hold
/// nothing of the user's, and an agent needs the credentials in its own state.
pub fn search_named(policy: &Policy, mounts: &[Mount], workspace: &Path) -> Result<Vec<Searched>> {
    let filesystem = &policy.filesystem;
    let named = filesystem.read.iter().chain(&filesystem.write);
    let mut roots: Vec<Searched> = Vec::new();
    for path in named.filter(|path| !matches!(path.source.origin, Origin::Profile(_))) {
        let Some((shown, source, _)) = bound(mounts, &path.value) else { continue };
        if shown.starts_with(workspace) || roots.iter().any(|root| root.shown == shown) {
            continue;
        }
        let query = Query::new(source, &FilesystemPolicy::default(), policy.secrets.scan.value)?;
        let facts = tree::pass(&query)?;
        facts.check(false)?;
        roots.push(Searched { shown: shown.to_owned(), query, facts });
    }
    Ok(roots)
}

fn bound<'m>(mounts: &'m [Mount], wanted: &Path) -> Option<(&'m Path, &'m Path, Access)> {
    mounts.iter().find_map(|mount| match mount {
        Mount::Bind { path, source, access, directory: true, .. } if path == wanted => {
            Some((path.as_path(), source.as_path(), *access))
        }
        _ => None,
    })
}

/// What stands in front of the hidden files of a tree; `base` is empty for the workspace, whose paths are relative.
pub fn masks(base: &Path, tree: &TreeFacts) -> Vec<Mask> {
    tree.hidden
        .iter()
        .map(|hidden| Mask {
            path: base.join(&hidden.path),
            stand_in: match hidden.kind {
                HiddenKind::Directory => StandIn::Directory,
                HiddenKind::File { size, mtime, mode } => StandIn::File { size, mtime, mode },
            },
            why: hidden.reason.to_string(),
        })
        .collect()
}

/// Guards of a tree, then those of a repository outside it that it belongs to as a worktree.
pub fn guards(base: &Path, tree: &TreeFacts) -> Vec<Guard> {
    let own = tree.guards.iter().map(|guard| convert(base, guard));
    let external = tree.external_git.iter();
    let external = external.flat_map(|git| git.guards.iter().map(|guard| convert(&git.common, guard)));
    own.chain(external).collect()
}

fn convert(base: &Path, guard: &crate::guard::Guard) -> Guard {
    Guard {
        path: base.join(&guard.path),
        action: match &guard.action {
            Action::ReadOnly => GuardAction::ReadOnly,
            Action::Pin | Action::PinSymlink => GuardAction::Pin,
            Action::Placeholder(Placeholder::Directory) => GuardAction::PlaceholderDirectory,
            Action::Placeholder(Placeholder::File(content)) => {
                GuardAction::PlaceholderFile { content: (*content).to_owned() }
            }
        },
        why: guard.why.clone().into_owned(),
    }
}

/// Guards of the named directories: all of them in a writable repository; in any other directory only those of what
/// exists, since placeholders would only litter it.
pub fn named_guards(roots: &[Searched], mounts: &[Mount]) -> Vec<Guard> {
    let mut all = Vec::new();
    for root in roots {
        let writable = bound(mounts, &root.shown).is_some_and(|(_, _, access)| access == Access::ReadWrite);
        if !writable {
            continue;
        }
        let repository = root.facts.git.iter().any(|git| git.path == Path::new(".git"));
        let placed = |guard: &Guard| {
            matches!(guard.action, GuardAction::PlaceholderDirectory | GuardAction::PlaceholderFile { .. })
        };
        all.extend(guards(&root.shown, &root.facts).into_iter().filter(|guard| repository || !placed(guard)));
    }
    all
}

/// Sockets in directories that built-in profiles make writable: agents' state. From Landlock's ABI 9 on the kernel
/// refuses these connections too.
pub fn socket_guards(policy: &Policy, mounts: &[Mount], roots: &[Searched]) -> Result<Vec<Guard>> {
    let mut guards = Vec::new();
    for shown in &policy.filesystem.write {
        let Some((path, source, _)) = bound(mounts, &shown.value) else { continue };
        if roots.iter().any(|root| root.shown == path) {
            // A search hides sockets itself.
            continue;
        }
        for socket in tree::sockets(source)? {
            guards.push(Guard {
                path: path.join(socket),
                action: GuardAction::Cover,
                why: format!("a socket of a process outside, in a directory that is shown ({})", shown.source),
            });
        }
    }
    Ok(guards)
}

/// Paths that are to be read-only below a writable directory and do not exist: an agent's settings and hooks, which the
/// agent outside would execute. Without a stand-in the workload could create them.
pub fn absent_guards(policy: &Policy, mounts: &[Mount]) -> Vec<Guard> {
    let filesystem = &policy.filesystem;
    let mut guards = Vec::new();
    for path in &filesystem.read {
        let above =
            filesystem.write.iter().any(|write| path.value.starts_with(&write.value) && path.value != write.value);
        let missing = || path.value.symlink_metadata().is_err() && path.value.parent().is_some_and(Path::is_dir);
        if !above || !missing() || mounts.iter().any(|mount| mount.path() == path.value) {
            continue;
        }
        // The policy does not say what it would be; names with an ending are files in every profile.
        let action = match path.value.extension().map(|ending| ending.to_string_lossy().into_owned()).as_deref() {
            None => GuardAction::PlaceholderDirectory,
            Some("json") => GuardAction::PlaceholderFile { content: "{}\n".to_owned() },
            Some(_) => GuardAction::PlaceholderFile { content: String::new() },
        };
        guards.push(Guard { path: path.value.clone(), action, why: path.source.to_string() });
    }
    guards
}
