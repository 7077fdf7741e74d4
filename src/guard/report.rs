//! What the host will execute or obey and changed during the run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::hostrun::HostRun;
use crate::tree::{PathText, TreeFacts, escape};

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Planted {
    /// Where, relative to the workspace.
    pub path: PathText,
    /// What happened.
    pub what: Change,
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// A name of the table of protected configuration appeared, or took the place of the protected one.
    ProtectedName,
    /// A git repository, or a file that names one, appeared.
    NewRepository,
    /// A directory got a repository's layout: git takes its configuration from it.
    BareRepository,
    /// A symbolic link out of the workspace appeared.
    OutwardSymlink,
    /// A file the host executes appeared.
    Created,
    /// A file the host executes changed.
    Changed,
}

impl fmt::Display for Planted {
    /// One line, safe to print to a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            Change::ProtectedName => "appeared; the host obeys it",
            Change::NewRepository => "new git repository",
            Change::BareRepository => "looks like a git repository",
            Change::OutwardSymlink => "symbolic link out of the workspace",
            Change::Created => "created; the host executes it",
            Change::Changed => "changed; the host executes it",
        };
        write!(f, "{}: {what}", escape(&self.path.0))
    }
}

/// Compares two passes over the same workspace.
pub fn report(before: &TreeFacts, after: &TreeFacts) -> Vec<Planted> {
    let mut planted = Vec::new();
    let mut add = |path: &Path, what| planted.push(Planted { path: PathText(path.to_path_buf()), what });
    // The same path is another thing where the directory above was moved aside and made anew.
    let other = |path: &Path| before.identities.get(path) != after.identities.get(path);
    for path in after.protected.iter().filter(|path| before.protected.binary_search(path).is_err() || other(&path.0)) {
        add(&path.0, Change::ProtectedName);
    }
    for git in after.git.iter().filter(|git| before.git.binary_search(git).is_err() || other(&git.path)) {
        add(&git.path, Change::NewRepository);
    }
    for path in new(&before.bare, &after.bare) {
        add(&path.0, Change::BareRepository);
    }
    for path in new(&before.outward, &after.outward) {
        add(&path.0, Change::OutwardSymlink);
    }
    let known: BTreeMap<&Path, &HostRun> = before.host_run.iter().map(|run| (run.path.as_path(), run)).collect();
    for run in &after.host_run {
        match known.get(run.path.as_path()) {
            None => add(&run.path, Change::Created),
            Some(old) if *old != run => add(&run.path, Change::Changed),
            Some(_) => {}
        }
    }
    planted.sort_by(|a, b| (a.what, &a.path).cmp(&(b.what, &b.path)));
    planted
}

fn new<'a, T: Ord>(before: &[T], after: &'a [T]) -> Vec<&'a T> {
    let known: BTreeSet<&T> = before.iter().collect();
    after.iter().filter(|entry| !known.contains(entry)).collect()
}
