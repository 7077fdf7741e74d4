//! What git in the jail is told about placeholders and stand-ins, so that it neither lists nor commits them.
//!
//! The lines go into git's own files of the private home: there they apply to every repository in the workspace, and
//! nothing of the repositories has to be covered for them.

use std::collections::BTreeSet;
use std::path::Path;

use super::Action;
use crate::tree::{HiddenKind, TreeFacts};

/// From this many hidden files on patterns name files without their directories: git tries every pattern on every file.
const MANY: usize = 1000;

/// Name of the filter that [`attributes`] gives to hidden files.
pub const FILTER: &str = "jail-hidden";

/// Lines for git's `ignore`: placeholders, and hidden files that are not tracked.
pub fn ignore(facts: &TreeFacts) -> Vec<String> {
    let placeholders = facts.guards.iter().filter(|guard| matches!(guard.action, Action::Placeholder(_)));
    let placeholders = placeholders.filter(|guard| !guard.path.starts_with(".git")).map(|guard| line(&guard.path));
    let mut lines: BTreeSet<String> = placeholders.collect();
    lines.extend(hidden(facts));
    lines.into_iter().collect()
}

/// Lines for git's `attributes`: the filter stores for a hidden file what the index has already.
pub fn attributes(facts: &TreeFacts) -> Vec<String> {
    hidden(facts).into_iter().map(|pattern| format!("{pattern} filter={FILTER}")).collect()
}

/// Patterns for the hidden files, each as the repositories around it see it.
fn hidden(facts: &TreeFacts) -> BTreeSet<String> {
    let files = || facts.hidden.iter().filter(|hidden| hidden.kind != HiddenKind::Directory).map(|hidden| &hidden.path);
    if files().count() > MANY {
        return files().filter_map(|path| path.file_name()).map(|name| escape(Path::new(name))).collect();
    }
    let nested: Vec<&Path> = facts.git.iter().filter_map(|git| git.path.parent()).collect();
    files()
        .flat_map(|path| {
            let inner = nested.iter().filter_map(|tree| path.strip_prefix(tree).ok());
            std::iter::once(line(path)).chain(inner.map(line)).collect::<Vec<_>>()
        })
        .collect()
}

/// The path as an anchored pattern.
fn line(path: &Path) -> String {
    format!("/{}", escape(path))
}

/// The path with `?` for every byte that patterns, their quoting or UTF-8 would make something else of.
fn escape(path: &Path) -> String {
    let mut text = String::new();
    for chunk in std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).utf8_chunks() {
        for c in chunk.valid().chars() {
            let special = c.is_control() || c.is_whitespace() || matches!(c, '*' | '?' | '[' | '\\' | '!' | '#' | '"');
            if special {
                // git compares bytes.
                text.extend(std::iter::repeat_n('?', c.len_utf8()));
            } else {
                text.push(c);
            }
        }
        text.extend(std::iter::repeat_n('?', chunk.invalid().len()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn patterns_match_only_by_their_own_letters() {
        // A closing bracket that nothing opened is a letter.
        assert_eq!(line(Path::new("a b/[x]!\n.env")), "/a?b/?x]??.env");
        assert_eq!(line(Path::new(OsStr::from_bytes(b"\xff\xe4.key"))), "/??.key");
        assert_eq!(line(Path::new("\u{fc}\u{a0}")), "/\u{fc}??");
    }
}
