//! Protection of repositories: submodules, worktrees, hooks and what configuration names.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use jail::guard::report::Change;
use jail::guard::{Action, Guard, Placeholder, report};
use jail::policy::{FilesystemPolicy, ScanMode};
use jail::tree::{Query, pass};

use crate::guard::{action, by_path, git, repository};
use crate::tree::{facts, workspace, write};

const DIRECTORY: Action = Action::Placeholder(Placeholder::Directory);

fn refused(root: &Path) -> String {
    let query = Query::new(root, &FilesystemPolicy::default(), ScanMode::Names).expect("query");
    let error = pass(&query).expect_err("a refusal");
    assert!(error.hint_text().is_some(), "{error} says what to do");
    error.to_string()
}

fn guard<'g>(guards: &'g [Guard], path: &str) -> Option<&'g Action> {
    by_path(guards).get(Path::new(path)).copied()
}

#[test]
fn a_configured_hooks_directory_is_read_only() {
    let (_dir, root) = workspace();
    repository(&root);
    write(&root, "tools/git/hooks/pre-commit", "");
    write(&root, ".git/config", "[CORE]\n\tHooksPath = \"tools/git/hooks\" ; ours\n");
    let found = facts(&root);
    assert_eq!(action(&found, "tools/git/hooks"), Some(&Action::ReadOnly));
    assert_eq!(action(&found, "tools/git"), Some(&Action::Pin), "or a rename would uncover the name");
    assert_eq!(action(&found, "tools"), Some(&Action::Pin));
    fs::remove_dir_all(root.join("tools/git")).expect("remove");
    let found = facts(&root);
    assert_eq!(action(&found, "tools/git"), Some(&DIRECTORY), "a missing one is covered");
    for elsewhere in ["/usr/share/hooks", "../hooks", "~/hooks-of-the-user"] {
        write(&root, ".git/config", &format!("[core]\n\thooksPath = {elsewhere}\n"));
        assert!(
            facts(&root).guards.iter().all(|guard| !guard.path.ends_with("hooks") || guard.path.starts_with(".git"))
        );
    }
    write(&root, ".git/config", "[core]\n\thooksPath = .\n");
    assert!(refused(&root).contains("hooksPath"));
    write(&root, ".git/config", "[core\n");
    assert!(refused(&root).contains("line 1"));
}

#[test]
fn included_configuration_is_read_only_and_read() {
    let (_dir, root) = workspace();
    repository(&root);
    write(
        &root,
        ".git/config",
        "[include]\n\tpath = ../conf/git.inc\n[includeIf \"gitdir:x\"]\n\tpath = missing.inc\n",
    );
    write(&root, "conf/git.inc", "[core]\n\thooksPath = hk\n\tfsmonitor = ./conf/monitor.sh --fast\n");
    write(&root, "conf/monitor.sh", "");
    let before = facts(&root);
    assert_eq!(action(&before, "conf/git.inc"), Some(&Action::ReadOnly));
    assert_eq!(action(&before, "conf"), Some(&Action::Pin));
    assert_eq!(action(&before, "hk"), Some(&DIRECTORY));
    assert_eq!(action(&before, ".git/missing.inc"), Some(&Action::Placeholder(Placeholder::File(""))));
    write(&root, "conf/monitor.sh", "evil");
    let planted = report(&before, &facts(&root));
    assert_eq!(
        planted.iter().map(|p| (p.path.0.as_path(), p.what)).collect::<Vec<_>>(),
        [(Path::new("conf/monitor.sh"), Change::Changed)]
    );
}

#[test]
fn submodules_are_protected_and_nested_ones_too() {
    let (_dir, root) = workspace();
    let (_other, upstream) = workspace();
    repository(&upstream.join("inner"));
    repository(&upstream.join("outer"));
    git(&upstream.join("outer"), &["submodule", "--quiet", "add", "../inner", "in"]);
    git(&upstream.join("outer"), &["commit", "-qam", "inner"]);
    repository(&root);
    git(&root, &["submodule", "--quiet", "add", upstream.join("outer").to_str().expect("path"), "libs/out"]);
    git(&root, &["submodule", "--quiet", "update", "--init", "--recursive"]);
    let facts = facts(&root);
    assert_eq!(action(&facts, "libs/out/.git"), Some(&Action::ReadOnly));
    assert_eq!(action(&facts, "libs/out/in/.git"), Some(&Action::ReadOnly));
    for gitdir in [".git/modules/libs/out", ".git/modules/libs/out/modules/in"] {
        assert_eq!(action(&facts, gitdir), Some(&Action::Pin));
        assert_eq!(action(&facts, &format!("{gitdir}/config")), Some(&Action::ReadOnly));
        assert_eq!(action(&facts, &format!("{gitdir}/hooks")), Some(&Action::ReadOnly));
        let commondir = Action::Placeholder(Placeholder::File(".\n"));
        assert_eq!(action(&facts, &format!("{gitdir}/commondir")), Some(&commondir));
    }
    for above in [".git/modules", ".git/modules/libs", ".git/modules/libs/out/modules"] {
        assert_eq!(action(&facts, above), Some(&Action::ReadOnly), "{above}");
    }
    assert!(facts.external_git.is_none());
}

#[test]
fn nested_and_bare_repositories_are_protected() {
    let (_dir, root) = workspace();
    repository(&root.join("vendor/x"));
    git(&root, &["init", "-q", "--bare", "fixtures/bare"]);
    let facts = facts(&root);
    assert_eq!(action(&facts, "vendor/x/.git"), Some(&Action::Pin));
    assert_eq!(action(&facts, "vendor/x/.git/config"), Some(&Action::ReadOnly));
    assert_eq!(action(&facts, "fixtures/bare/config"), Some(&Action::ReadOnly));
    assert_eq!(action(&facts, "fixtures/bare/hooks"), Some(&Action::ReadOnly));
    assert_eq!(action(&facts, "fixtures/bare/commondir"), None, "nothing is added where nothing is in use");
}

#[test]
fn a_worktree_inside_its_repository_stays_usable() {
    let (_dir, root) = workspace();
    repository(&root);
    git(&root, &["worktree", "add", "-q", ".worktrees/x"]);
    let facts = facts(&root);
    assert_eq!(action(&facts, ".git/worktrees"), Some(&Action::ReadOnly));
    assert_eq!(action(&facts, ".git/worktrees/x"), Some(&Action::Pin), "writable in the read-only directory");
    assert_eq!(action(&facts, ".git/worktrees/x/commondir"), Some(&Action::ReadOnly));
    assert_eq!(action(&facts, ".worktrees/x/.git"), Some(&Action::ReadOnly));
}

#[test]
fn a_linked_worktree_brings_its_repository() {
    let (_dir, base) = workspace();
    let (main, tree) = (base.join("main"), base.join("tree"));
    repository(&main);
    git(&main, &["worktree", "add", "-q", "../tree"]);
    git(&main, &["worktree", "add", "-q", "../other"]);
    let facts = facts(&tree);
    let external = facts.external_git.as_ref().expect("the repository");
    assert_eq!((&external.common, &external.gitdir), (&main.join(".git"), &main.join(".git/worktrees/tree")));
    for name in
        ["config", "hooks", "info", "worktrees", "HEAD", "index", "worktrees/tree/commondir", "worktrees/tree/gitdir"]
    {
        let exists = main.join(".git").join(name).exists();
        assert_eq!(guard(&external.guards, name), exists.then_some(&Action::ReadOnly), "{name}");
    }
    assert_eq!(guard(&external.guards, "worktrees/tree"), Some(&Action::Pin));
    assert_eq!(guard(&external.guards, "objects"), None);
    assert_eq!(action(&facts, ".git"), Some(&Action::ReadOnly));
    assert!(facts.git_ignore.contains(&"/.claude".to_owned()));
}

#[test]
fn a_forged_back_pointer_mounts_nothing() {
    let (_dir, base) = workspace();
    let (victim, tree) = (base.join("victim"), base.join("tree"));
    repository(&victim);
    git(&victim, &["worktree", "add", "-q", "../linked"]);
    fs::create_dir(&tree).expect("directory");
    // Text in the workspace names a repository that knows nothing of it.
    for (content, why) in [
        (format!("gitdir: {}\n", victim.join(".git").display()), "core.worktree"),
        (format!("gitdir: {}\n", victim.join(".git/worktrees/linked").display()), "working tree is"),
        ("gitdir: ../victim/.git/worktrees/linked\n".to_owned(), "working tree is"),
        ("gitdir: ../missing\n".to_owned(), "cannot open"),
        (format!("gitdir: {}\n", base.join("alias/.git/worktrees/linked").display()), "without following links"),
    ] {
        write(&tree, ".git", &content);
        let _ = symlink("victim", base.join("alias"));
        let message = refused(&tree);
        assert!(message.contains(why), "{content:?}: {message}");
    }
    // A copied worktree is not the worktree.
    fs::copy(base.join("linked/.git"), tree.join(".git")).expect("copy");
    assert!(refused(&tree).contains("working tree is"));
    // A back-pointer alone does not help when the repository is not above it.
    let own = base.join("elsewhere/worktrees/x");
    write(&own, "gitdir", &format!("{}\n", tree.join(".git").display()));
    write(&own, "commondir", &format!("{}\n", victim.join(".git").display()));
    write(&tree, ".git", &format!("gitdir: {}\n", own.display()));
    assert!(refused(&tree).contains("worktrees"));
    // Objects that lead elsewhere.
    fs::rename(victim.join(".git/objects"), base.join("objects")).expect("rename");
    symlink(base.join("objects"), victim.join(".git/objects")).expect("link");
    assert!(refused(&base.join("linked")).contains("objects"));
}

#[test]
fn a_submodules_checkout_brings_its_git_directory() {
    let (_dir, base) = workspace();
    repository(&base.join("up"));
    repository(&base.join("main"));
    git(&base.join("main"), &["submodule", "--quiet", "add", "../up", "sub"]);
    let facts = facts(&base.join("main/sub"));
    let external = facts.external_git.as_ref().expect("the git directory");
    assert_eq!(external.common, base.join("main/.git/modules/sub"));
    assert_eq!(external.gitdir, external.common);
    assert_eq!(guard(&external.guards, "config"), Some(&Action::ReadOnly));
    assert_eq!(guard(&external.guards, "HEAD"), None);
    write(&base, "main/.git/modules/sub/config", "[core]\n\tworktree = ../../../../elsewhere\n");
    fs::create_dir(base.join("elsewhere")).expect("directory");
    assert!(refused(&base.join("main/sub")).contains("working tree is"));
}

#[test]
fn a_symbolic_link_for_git_is_held_or_refused() {
    let (_dir, root) = workspace();
    let (_other, outside) = workspace();
    repository(&root);
    fs::rename(root.join(".git"), root.join("store")).expect("rename");
    symlink("store", root.join(".git")).expect("link");
    let facts = facts(&root);
    assert_eq!(action(&facts, ".git"), Some(&Action::PinSymlink));
    assert_eq!(action(&facts, "store"), Some(&Action::Pin));
    assert_eq!(action(&facts, "store/config"), Some(&Action::ReadOnly));
    fs::rename(root.join("store"), outside.join("store")).expect("rename");
    fs::remove_file(root.join(".git")).expect("remove");
    symlink(outside.join("store"), root.join(".git")).expect("link");
    assert!(refused(&root).contains("symbolic link"));
}

#[test]
fn commands_left_in_an_unfinished_rebase_are_reported() {
    let (_dir, root) = workspace();
    repository(&root);
    let before = facts(&root);
    write(&root, ".git/rebase-merge/git-rebase-todo", "exec evil\n");
    let planted = report(&before, &facts(&root));
    assert_eq!(planted.len(), 1);
    assert_eq!(planted[0].what, Change::Created);
    assert!(planted[0].to_string().starts_with(".git/rebase-merge/git-rebase-todo: "));
}
