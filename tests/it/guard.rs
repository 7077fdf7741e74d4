//! What the host executes: what is read-only, and what is reported.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use jail::guard::report::Change;
use jail::guard::{Action, Guard, Placeholder, report};
use jail::policy::FilesystemPolicy;
use jail::tree::TreeFacts;

use crate::names::{check_page, sourced};
use crate::tree::{facts, facts_with, workspace, write};

pub fn git(at: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .current_dir(at)
        .args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "protocol.file.allow=always"])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .expect("git");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub fn repository(at: &Path) {
    fs::create_dir_all(at).expect("directory");
    git(at, &["init", "-q", "-b", "main"]);
    git(at, &["commit", "-q", "--allow-empty", "-m", "first"]);
}

pub fn by_path(guards: &[Guard]) -> BTreeMap<&Path, &Action> {
    guards.iter().map(|guard| (guard.path.as_path(), &guard.action)).collect()
}

pub fn action<'f>(facts: &'f TreeFacts, path: &str) -> Option<&'f Action> {
    by_path(&facts.guards).get(Path::new(path)).copied()
}

fn protected(protect: &[&str], unprotect: &[&str]) -> FilesystemPolicy {
    FilesystemPolicy { protect: sourced(protect), unprotect: sourced(unprotect), ..FilesystemPolicy::default() }
}

const DIRECTORY: Action = Action::Placeholder(Placeholder::Directory);

#[test]
fn a_plain_repository_is_pinned_and_its_programs_are_read_only() {
    let (_dir, root) = workspace();
    repository(&root);
    let facts = facts(&root);
    assert_eq!(action(&facts, ".git"), Some(&Action::Pin));
    for name in ["config", "hooks", "info"] {
        assert_eq!(action(&facts, &format!(".git/{name}")), Some(&Action::ReadOnly), "{name}");
    }
    assert_eq!(action(&facts, ".git/commondir"), Some(&Action::Placeholder(Placeholder::File(".\n"))));
    assert_eq!(action(&facts, ".git/config.worktree"), Some(&Action::Placeholder(Placeholder::File(""))));
    assert_eq!(action(&facts, ".git/modules"), Some(&DIRECTORY));
    fs::remove_dir_all(root.join(".git/hooks")).expect("hooks");
    let facts = self::facts(&root);
    assert_eq!(action(&facts, ".git/hooks"), Some(&DIRECTORY));
    let paths: Vec<&PathBuf> = facts.guards.iter().map(|guard| &guard.path).collect();
    assert!(paths.is_sorted(), "parents come first: {paths:?}");
}

#[test]
fn configuration_is_protected_where_it_is_and_where_it_is_missing() {
    let (_dir, root) = workspace();
    repository(&root);
    write(&root, "sub/.vscode/tasks.json", "{}");
    write(&root, "node_modules/x/.vscode/tasks.json", "{}");
    write(&root, ".github/workflows/ci.yml", "");
    write(&root, ".Cursor/rules", "");
    let facts = facts(&root);
    assert_eq!(action(&facts, "sub/.vscode"), Some(&Action::ReadOnly));
    assert_eq!(action(&facts, "node_modules/x/.vscode"), None, "package managers have to remove it");
    assert_eq!(action(&facts, ".github"), Some(&Action::Pin));
    assert_eq!(action(&facts, ".github/workflows"), Some(&Action::ReadOnly));
    assert_eq!(action(&facts, ".Cursor"), Some(&Action::ReadOnly));
    assert_eq!(action(&facts, ".cursor"), None, "the same name on a file system that ignores case");
    assert_eq!(action(&facts, ".claude"), Some(&DIRECTORY));
    assert_eq!(action(&facts, ".mcp.json"), Some(&Action::Placeholder(Placeholder::File("{}\n"))));
    assert!(facts.git_ignore.contains(&"/.mcp.json".to_owned()) && facts.git_ignore.contains(&"/.claude".to_owned()));
    assert!(!facts.git_ignore.iter().any(|line| line.starts_with("/.git/")));
}

#[test]
fn a_protected_link_is_pinned_and_its_target_read_only() {
    let (_dir, root) = workspace();
    write(&root, "shared/claude/settings.json", "{}");
    symlink("shared/claude", root.join(".claude")).expect("link");
    symlink("/etc", root.join(".vscode")).expect("link");
    let facts = facts(&root);
    assert_eq!(action(&facts, ".claude"), Some(&Action::PinSymlink));
    assert_eq!(action(&facts, "shared/claude"), Some(&Action::ReadOnly));
    assert_eq!(action(&facts, ".vscode"), Some(&Action::PinSymlink));
}

#[test]
fn the_policy_adds_and_lifts_protection() {
    let (_dir, root) = workspace();
    repository(&root);
    write(&root, "deploy.sh", "");
    write(&root, "a/deploy.sh", "");
    write(&root, ".vscode/tasks.json", "{}");
    let policy = protected(&["deploy.sh", "ci/steps/", "tools/run"], &[".vscode", ".git/hooks", "./.mcp.json"]);
    let facts = facts_with(&root, &policy);
    assert_eq!(action(&facts, "deploy.sh"), Some(&Action::ReadOnly));
    assert_eq!(action(&facts, "a/deploy.sh"), Some(&Action::ReadOnly));
    assert_eq!(action(&facts, "ci"), Some(&DIRECTORY), "the first missing directory covers what lies below");
    assert_eq!(action(&facts, "tools"), Some(&DIRECTORY));
    for path in [".vscode", ".git/hooks", ".mcp.json"] {
        assert_eq!(action(&facts, path), None, "{path}");
    }
    for path in ["../x", "/", ""] {
        let policy = protected(&[], &[path]);
        assert!(jail::tree::Query::new(&root, &policy, jail::policy::ScanMode::Names).is_err(), "{path:?}");
    }
}

#[test]
fn what_was_planted_is_reported() {
    let (_dir, root) = workspace();
    repository(&root);
    write(&root, "Makefile", "all:\n");
    write(&root, "package.json", "{}");
    write(&root, "node_modules/x/package.json", "{}");
    symlink("/usr/bin", root.join("old")).expect("link");
    let before = facts(&root);
    assert!(report(&before, &facts(&root)).is_empty(), "nothing changed, nothing is reported");
    write(&root, "Makefile", "all: evil\n");
    write(&root, "conftest.py", "");
    write(&root, "node_modules/x/package.json", "{ }");
    write(&root, "node_modules/.bin/tsc", "");
    write(&root, "sub/.envrc", "");
    write(&root, "docs/HEAD", "ref: refs/heads/main\n");
    fs::create_dir_all(root.join("docs/objects")).expect("directory");
    fs::create_dir_all(root.join("docs/refs")).expect("directory");
    write(&root, "vendor/new/.git/HEAD", "ref: refs/heads/main\n");
    write(&root, "gitfile/.git", "gitdir: ../docs\n");
    symlink("../../../../home", root.join("docs/out")).expect("link");
    symlink("../Makefile", root.join("docs/in")).expect("link");
    symlink("old/../../etc", root.join("tricky")).expect("link");
    let lines: Vec<(String, Change)> = report(&before, &facts(&root))
        .into_iter()
        .map(|planted| (planted.path.0.display().to_string(), planted.what))
        .collect();
    let expected = [
        ("sub/.envrc", Change::ProtectedName),
        ("gitfile/.git", Change::NewRepository),
        ("vendor/new/.git", Change::NewRepository),
        ("docs", Change::BareRepository),
        ("docs/out", Change::OutwardSymlink),
        ("tricky", Change::OutwardSymlink),
        ("conftest.py", Change::Created),
        ("node_modules/.bin/tsc", Change::Created),
        ("Makefile", Change::Changed),
    ]
    .map(|(path, what)| (path.to_owned(), what));
    assert_eq!(lines, expected);
}

#[test]
fn the_documentation_shows_the_tables() {
    use jail::guard::hostrun;
    use jail::guard::names::{Missing, ROWS};
    use std::fmt::Write;
    let mut text = "| name | what the host does with it | while it is missing |\n|---|---|---|\n".to_owned();
    for row in ROWS {
        let missing = match row.missing {
            Missing::Reported => "its creation is reported",
            Missing::Directory => "covered by an empty directory",
            Missing::File(_) => "covered by a file",
        };
        let _ = writeln!(text, "| `{}` | {} | {missing} |", row.name, row.what);
    }
    check_page("docs/handoff.md", "generated", &text);
    let mut text = "| name | who executes or obeys it |\n|---|---|\n".to_owned();
    for row in hostrun::ROWS {
        let everywhere =
            if hostrun::IN_DEPENDENCIES.contains(&row.pattern) { "; in installed packages too" } else { "" };
        let _ = writeln!(text, "| `{}` | {}{everywhere} |", row.pattern, row.what);
    }
    check_page("docs/handoff.md", "generated reported", &text);
}

#[test]
fn every_reported_name_is_found() {
    let (_dir, root) = workspace();
    for row in jail::guard::hostrun::ROWS {
        let path = match row.pattern.strip_suffix('/') {
            Some(directory) => format!("{directory}/x"),
            None => row.pattern.replace('*', "x"),
        };
        write(&root, format!("at/{path}"), "");
        let found = facts(&root).host_run;
        assert_eq!(found.len(), 1, "{path}");
        fs::remove_dir_all(root.join("at")).expect("remove");
    }
}
