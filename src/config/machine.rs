//! The paths of a policy as they are on this machine: where links lead, and whether they meet the workspace.

use std::path::{Path, PathBuf};

use super::check::{self, Access, Fault, Ground, within};
use super::fault_error;
use crate::error::{Error, Result};
use crate::policy::{FilesystemPolicy, Origin, Sourced};

/// Checks every path that exists, and leaves out built-in ones that meet the workspace.
///
/// # Errors
/// A workspace that overlaps `jail`'s own directories, a path that overlaps the workspace, or a link that leads to more than its own place shows.
pub(super) fn check(filesystem: &mut FilesystemPolicy, workspace: &Path, ground: &Ground) -> Result<()> {
    let real = ground.real();
    // Where the home is a link, the workspace has a name below it too.
    let named = workspace.strip_prefix(&real.home).map(|rest| ground.home.join(rest));
    let names = [workspace, named.as_deref().unwrap_or(workspace)];
    let meets = |path: &Path| names.iter().any(|name| within(path, name) || within(name, path));
    if let Some(own) = ground.own.iter().chain(&real.own).find(|own| meets(own)) {
        let message = format!(
            "workspace {}: it overlaps {}, where jail keeps policies and records",
            workspace.display(),
            own.display()
        );
        return Err(Error::setup(message).hint("start in the project's own directory"));
    }
    for (list, access) in [(&mut filesystem.read, Access::Read), (&mut filesystem.write, Access::Write)] {
        list.retain(|entry| !is_builtin(entry) || !meets(&entry.value));
        for entry in list.iter() {
            if meets(&entry.value) {
                let message = format!("path {:?} overlaps the workspace {workspace:?}", entry.value);
                let hint = "what is in the workspace is governed by `hide`, `reveal`, `protect` and `unprotect`";
                return Err(fault_error(&entry.source, Fault { message, hint: Some(hint.into()) }));
            }
            // A built-in directory that is only read lies where nothing in a jail can replace it by a link; those
            // below a writable one are looked at next.
            if !is_builtin(entry) || access == Access::Write {
                leads_somewhere_narrow(entry, access, workspace, &real)?;
            }
        }
    }
    below_writable(filesystem)
}

fn is_builtin(entry: &Sourced<PathBuf>) -> bool {
    matches!(entry.source.origin, Origin::Profile(_))
}

fn leads_somewhere_narrow(entry: &Sourced<PathBuf>, access: Access, workspace: &Path, ground: &Ground) -> Result<()> {
    let Ok(real) = entry.value.canonicalize() else { return Ok(()) };
    let led = |fault: Fault| leads(entry, &real, &fault.message, fault.hint.as_deref());
    check::not_too_broad(&real, access, ground).map_err(led)?;
    if within(&real, workspace) || within(workspace, &real) {
        return Err(leads(entry, &real, &format!("it overlaps the workspace {workspace:?}"), None));
    }
    Ok(())
}

fn leads(entry: &Sourced<PathBuf>, real: &Path, why: &str, hint: Option<&str>) -> Error {
    let message = format!("path {:?} leads to {real:?}: {why}", entry.value);
    fault_error(&entry.source, Fault { message, hint: hint.map(str::to_owned) })
}

fn both(filesystem: &FilesystemPolicy) -> impl Iterator<Item = (&Sourced<PathBuf>, Access)> {
    let read = filesystem.read.iter().map(|entry| (entry, Access::Read));
    read.chain(filesystem.write.iter().map(|entry| (entry, Access::Write)))
}

/// A link in an agent's state may have been made by the agent in an earlier run, toward anything it wants to read in
/// this one. So what lies below a writable path has to stay there, unless the user lets its target be read by name.
fn below_writable(filesystem: &mut FilesystemPolicy) -> Result<()> {
    let mut granted_by_name = Vec::new();
    for (entry, access) in both(filesystem) {
        let above = |root: &&Sourced<PathBuf>| root.value != entry.value && entry.value.starts_with(&root.value);
        let Some(root) = filesystem.write.iter().find(above) else { continue };
        if entry.value.symlink_metadata().is_err() {
            continue;
        }
        let root = root.value.canonicalize().unwrap_or_else(|_| root.value.clone());
        let real = entry.value.canonicalize().unwrap_or_default();
        if real.starts_with(&root) {
            continue;
        }
        let by_name = |other: &&Sourced<PathBuf>| {
            let place = other.value.canonicalize();
            !is_builtin(other) && other.value != entry.value && place.is_ok_and(|place| real.starts_with(place))
        };
        if access == Access::Write || !filesystem.read.iter().any(|other| by_name(&other)) {
            let hint = format!("if the link is yours, add {real:?} to `read` in your policy; if not, remove it");
            return Err(leads(entry, &real, &format!("the link is in {root:?}, which a jail writes"), Some(&hint)));
        }
        // The link itself leads there inside too; mounting something over it would follow it.
        granted_by_name.push(entry.value.clone());
    }
    filesystem.read.retain(|entry| !granted_by_name.contains(&entry.value));
    Ok(())
}
