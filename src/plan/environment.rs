//! The workload's environment: an allowlist, and what the jail itself sets.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::mounts::{BRIEF_PATH, Mount};
use crate::policy::EnvironmentPolicy;

/// git settings that keep `git status` clean over masks: a stand-in has the hidden file's size and modification
/// time, but not its inode and change time. Where git compares contents all the same (a file as young as the index),
/// the filter answers with what the index has, so that blanks are never committed; a file it does not have is refused.
/// And `checkout -b` must not fail on writing the read-only configuration.
const GIT_SETTINGS: &[(&str, &str)] = &[
    ("core.checkStat", "minimal"),
    ("core.trustctime", "false"),
    ("branch.autoSetupMerge", "false"),
    ("filter.jail-hidden.clean", "git cat-file blob :%f"),
    ("filter.jail-hidden.smudge", "cat"),
    ("filter.jail-hidden.required", "true"),
];

/// Builds the environment from the host's variables.
pub fn build(
    policy: &EnvironmentPolicy,
    host: impl Iterator<Item = (OsString, OsString)>,
    home: &Path,
    session: &str,
    mounts: &[Mount],
) -> Vec<(OsString, OsString)> {
    let mut inside: BTreeMap<OsString, OsString> = BTreeMap::new();
    let mut path = None;
    for (name, value) in host {
        if name == "PATH" {
            path = Some(value);
        } else if name.to_str().is_some_and(|name| policy.passes(name)) {
            inside.insert(name, value);
        }
    }
    inside.insert("HOME".into(), home.into());
    inside.insert("PATH".into(), search_path(path.as_deref(), mounts));
    inside.insert("TMPDIR".into(), "/tmp".into());
    for (name, value) in &policy.set {
        inside.insert(name.into(), value.value.clone().into());
    }
    inside.insert("JAIL_SESSION".into(), session.into());
    inside.insert("JAIL_BRIEF".into(), BRIEF_PATH.into());
    inside.insert("GIT_CONFIG_COUNT".into(), GIT_SETTINGS.len().to_string().into());
    for (index, (key, value)) in GIT_SETTINGS.iter().enumerate() {
        inside.insert(format!("GIT_CONFIG_KEY_{index}").into(), key.into());
        inside.insert(format!("GIT_CONFIG_VALUE_{index}").into(), value.into());
    }
    inside.into_iter().collect()
}

/// The host's PATH without the entries that do not exist inside, in the same order.
fn search_path(host: Option<&OsStr>, mounts: &[Mount]) -> OsString {
    let visible = |entry: &Path| {
        entry.is_absolute()
            && mounts.iter().any(|mount| match mount {
                Mount::Bind { path, .. } => entry.starts_with(path),
                Mount::Symlink { path, .. } => entry.starts_with(path),
                _ => false,
            })
    };
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in host.into_iter().flat_map(std::env::split_paths) {
        if visible(&entry) && !entries.contains(&entry) {
            entries.push(entry);
        }
    }
    for needed in ["/usr/local/bin", "/usr/bin", "/bin"] {
        if !entries.iter().any(|entry| entry == Path::new(needed)) {
            entries.push(needed.into());
        }
    }
    // `split_paths` never yields an entry with a colon, so joining cannot fail.
    std::env::join_paths(entries).unwrap_or_else(|_| "/usr/bin:/bin".into())
}
