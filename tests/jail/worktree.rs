//! Linked worktrees and submodules: their repository lies outside the workspace.

use std::fs;
use std::path::PathBuf;

use libtest_mimic::Failed;

use crate::checks::{ensure, same, unchanged};
use crate::needs::{Needing, test};
use crate::scene::{SECRET, Scene, printed, succeeded};

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("fs_020_git_works_in_a_linked_worktree", works),
        test("fs_020_nothing_is_left_in_the_repository_of_a_linked_worktree", nothing_left),
        test("fs_020_the_main_working_tree_is_not_visible", not_visible),
        test("fs_020_the_repository_of_a_linked_worktree_cannot_run_programs", not_writable),
        test("fs_020_another_worktree_cannot_be_changed", others),
        test("fs_020_a_forged_git_file_is_refused", forged),
        test("fs_020_a_git_file_that_names_a_repository_without_back_pointer_is_refused", no_back_pointer),
        test("fs_020_the_repository_of_another_submodule_is_refused", foreign_submodule),
        test("fs_020_a_git_link_out_of_the_workspace_is_refused", link_out),
        test("fs_020_a_read_only_linked_worktree_changes_nothing", read_only),
        test("fs_020_worktrees_inside_their_repository_work", inside),
        test("fs_020_git_works_in_a_submodule_as_workspace", submodule),
    ]
}

/// A scene whose workspace is a linked worktree of `~/main`, which has another one in `~/other`.
fn linked() -> Result<Scene, Failed> {
    let scene = Scene::bare()?;
    scene.outside_ok(
        "set -e; git init -q -b main ../main; cd ../main; echo .env > .gitignore; echo one > notes.txt; git add .
        git commit -qm first; git clone -q --bare . ../up.git; git remote add up ../up.git
        git worktree add -q ../other -b other; git worktree add -q ../repo -b topic",
    )?;
    for tree in ["main", "repo"] {
        fs::write(scene.home().join(tree).join(".env"), SECRET)?;
    }
    Ok(scene)
}

fn main_git(scene: &Scene) -> PathBuf {
    scene.home().join("main/.git")
}

fn works() -> Result<(), Failed> {
    let scene = linked()?;
    scene.outside_ok(
        "cp -r ../up.git up.git; echo up.git >> .gitignore; git add .gitignore; git commit -qm ignore
        git remote add near \"$PWD/up.git\"; git branch -q from-here main",
    )?;
    let shown = scene.inside_ok(
        "set -e; git status --porcelain; echo a > a; git add a; git commit -qm a; git fetch -q near
        git rebase -q from-here; echo b >> a; git stash -q; git stash pop -q; git commit -qam b
        git checkout -q -b more; git merge -q topic; git tag inner; git repack -dq; git status --porcelain; cat .env",
    )?;
    same(&shown.trim(), &"")?;
    same(&scene.git(&["log", "--format=%s"])?.as_str(), &"b\na\nignore\nfirst\n")?;
    same(&scene.git(&["-C", "../main", "status", "--porcelain"])?.as_str(), &"")?;
    same(&scene.git(&["-C", "../main", "branch", "--show-current"])?.as_str(), &"main\n")
}

fn nothing_left() -> Result<(), Failed> {
    let scene = linked()?;
    let before = Scene::listing(&scene.home())?;
    for flags in [&[][..], &["--read-only"]] {
        let output = scene.inside_with(flags, "git status --porcelain; git log --oneline")?;
        ensure(output.status.success(), || printed(&output))?;
    }
    unchanged(&before, &Scene::listing(&scene.home())?)
}

fn not_visible() -> Result<(), Failed> {
    let scene = linked()?;
    let look = "ls -A ../main ../other; cat ../main/notes.txt ../main/.env ../other/notes.txt .env";
    let outside = scene.outside_ok(look)?;
    ensure(outside.matches(SECRET).count() == 2 && outside.contains("notes.txt"), || format!("control: {outside}"))?;
    let inside = scene.inside(look)?;
    let text = String::from_utf8_lossy(&inside.stdout).into_owned();
    same(&text.split_whitespace().collect::<Vec<_>>(), &vec!["../main:", ".git"])
}

fn not_writable() -> Result<(), Failed> {
    const EVIL: &str = "printf '[core]\\nfsmonitor = \"touch MARK; false\"\\n'";
    const HOOK: &str = "printf '#!/bin/sh\\ntouch MARK\\n'";
    let plants = [
        ("G=../main/.git; EVIL >> $G/config", "git status"),
        ("G=../main/.git; cp $G/config $G/c; EVIL >> $G/c; mv -f $G/c $G/config", "git status"),
        ("git config core.fsmonitor 'touch MARK; false'", "git status; git -C ../main status"),
        ("H=../main/.git/hooks; HOOK > $H/pre-commit; chmod +x $H/pre-commit", "git commit --allow-empty -qm x"),
        (
            "W=$(git rev-parse --git-dir); EVIL > $W/config.worktree",
            "git config extensions.worktreeConfig true; git status",
        ),
        ("EVIL > ../main/.git/config.worktree", "git config extensions.worktreeConfig true; git -C ../main status"),
        (
            "G=../main/.git; mkdir $G/evil; cp -r $G/objects $G/refs $G/HEAD $G/config $G/evil; EVIL >> $G/evil/config
             W=$(git rev-parse --git-dir); echo ../../evil > $W/commondir",
            "git status",
        ),
        (
            "cp -r ../main/.git ../main/.evil; EVIL >> ../main/.evil/config; echo ../.evil > ../main/.git/commondir",
            "git -C ../main status",
        ),
        ("cp -r ../main/.git evil; EVIL >> evil/config; rm .git; mv evil .git", "git status"),
        ("cp -r ../main/.git g; EVIL >> g/config; echo gitdir: g > .git", "git status"),
        (
            "mv ../main/.git ../main/g; cp -r ../main/g ../main/.git; EVIL >> ../main/.git/config",
            "git -C ../main status",
        ),
    ];
    for (plant, trigger) in plants {
        for inside in [false, true] {
            let scene = linked()?;
            let marker = scene.outside("marker");
            let text = |script: &str| {
                script.replace("EVIL", EVIL).replace("HOOK", HOOK).replace("MARK", &marker.display().to_string())
            };
            let output = if inside {
                scene.inside(&text(plant))?
            } else {
                scene.host("sh").args(["-c", &text(plant)]).output()?
            };
            ensure(output.status.code() != Some(125), || printed(&output))?;
            let triggered = scene.host("sh").args(["-c", trigger]).output()?;
            ensure(marker.exists() != inside, || {
                let ran = if inside { "what was planted inside ran" } else { "the positive control did not run" };
                format!("{ran}: {plant}\nplanting: {}\ntrigger: {}", printed(&output), printed(&triggered))
            })?;
        }
    }
    Ok(())
}

fn others() -> Result<(), Failed> {
    let scene = linked()?;
    let before = Scene::listing(&main_git(&scene).join("worktrees/other"))?;
    let (head, index) = (fs::read(main_git(&scene).join("HEAD"))?, fs::read(main_git(&scene).join("index"))?);
    let change =
        "cd ../main/.git; echo x > HEAD; echo x > index; cd worktrees/other; echo x > HEAD; rm -f index; touch x";
    scene.inside(change)?;
    unchanged(&before, &Scene::listing(&main_git(&scene).join("worktrees/other"))?)?;
    same(&fs::read(main_git(&scene).join("HEAD"))?, &head)?;
    same(&fs::read(main_git(&scene).join("index"))?, &index)?;
    // The control: outside the same changes all that.
    scene.outside_ok(change)?;
    ensure(fs::read(main_git(&scene).join("HEAD"))? == b"x\n", || "the positive control changed nothing".to_owned())
}

/// The jail must not start, and the victim's repository stays as it is.
fn refused(scene: &Scene) -> Result<(), Failed> {
    let victim = Scene::listing(&scene.home().join("main"))?;
    let output = scene.inside("git log; git log --all; cat ../main/.git/config")?;
    ensure(output.status.code() == Some(125) && output.stdout.is_empty(), || printed(&output))?;
    unchanged(&victim, &Scene::listing(&scene.home().join("main"))?)
}

fn forged() -> Result<(), Failed> {
    let scene = linked()?;
    // The workspace names the git directory of another worktree, which names that worktree.
    scene.outside_ok("echo \"gitdir: $(cd ../main/.git && pwd)/worktrees/other\" > .git")?;
    same(&scene.git(&["branch", "--show-current"])?.as_str(), &"other\n")?;
    refused(&scene)
}

fn no_back_pointer() -> Result<(), Failed> {
    let scene = linked()?;
    scene.outside_ok("echo \"gitdir: $(cd ../main/.git && pwd)\" > .git")?;
    same(&scene.git(&["branch", "--show-current"])?.as_str(), &"main\n")?;
    refused(&scene)
}

/// The workspace names the git directory of another submodule, which names that submodule's tree.
fn foreign_submodule() -> Result<(), Failed> {
    let scene = linked()?;
    scene.outside_ok(
        "cd ../main; mkdir -p .git/modules sub; git init -q --separate-git-dir=.git/modules/sub sub
        git -C sub config core.worktree ../../../sub",
    )?;
    scene.outside_ok("echo \"gitdir: $(cd ../main/.git/modules/sub && pwd)\" > .git")?;
    let tree = scene.outside_ok("git rev-parse --show-toplevel")?;
    ensure(tree.trim_end().ends_with("/main/sub"), || format!("git takes {tree} for the working tree"))?;
    refused(&scene)?;
    // The positive control: it is used where it names this tree.
    scene.outside_ok("git --git-dir=../main/.git/modules/sub config core.worktree \"$PWD\"")?;
    let output = scene.inside("git rev-parse --show-toplevel")?;
    succeeded("the tree it names", &output)
}

fn link_out() -> Result<(), Failed> {
    let scene = linked()?;
    scene.outside_ok("rm .git; ln -s ../main/.git .git")?;
    same(&scene.git(&["branch", "--show-current"])?.as_str(), &"main\n")?;
    refused(&scene)
}

fn read_only() -> Result<(), Failed> {
    let scene = linked()?;
    let before = Scene::listing(&scene.home())?;
    let change = "git commit --allow-empty -m x; touch x; echo x >> notes.txt; echo x > ../main/.git/refs/heads/x
        rm -f notes.txt; git tag x; touch ../main/.git/x; chmod 777 notes.txt; git checkout -b x";
    scene.inside_with(&["--read-only"], change)?;
    unchanged(&before, &Scene::listing(&scene.home())?)?;
    scene.inside(change)?;
    ensure(Scene::listing(&scene.home())? != before, || "the positive control changed nothing".to_owned())
}

fn inside() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.outside_ok("echo .trees >> .gitignore; git commit -qam trees; git worktree add -q .trees/x -b x")?;
    scene.inside_ok(
        "set -e; git status --porcelain; echo m > m; git add m; git commit -qm main
        cd .trees/x; git status --porcelain; echo x > x; git add x; git commit -qm inner; git rebase -q main
        git stash list; git log --oneline > /dev/null",
    )?;
    same(&scene.git(&["log", "-1", "--format=%s"])?.as_str(), &"main\n")?;
    same(&scene.git(&["-C", ".trees/x", "log", "-2", "--format=%s"])?.as_str(), &"inner\nmain\n")?;
    let refused =
        scene.inside("git worktree add -q .trees/y; git worktree remove --force .trees/x; ls .trees/x/.git")?;
    ensure(refused.status.success(), || printed(&refused))?;
    // What lies in it can go, as everywhere in the workspace; what says which repository it is stays.
    same(&scene.git(&["-C", ".trees/x", "checkout", "--", "."])?.as_str(), &"")?;
    same(&scene.git(&["-C", ".trees/x", "status", "--porcelain"])?.as_str(), &"")
}

fn submodule() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.outside_ok(
        "set -e; git clone -q --bare . ../up; git -c protocol.file.allow=always submodule --quiet add ../up sub
        git commit -qm sub; cd sub; git checkout -q -B main",
    )?;
    let before = Scene::listing(&scene.path(".git/hooks"))?;
    let script = "set -e; git status --porcelain; echo x > x; git add x; git commit -qm inner; git log -1 --format=%s
        ls ../notes.txt 2>/dev/null || true; git config a.b c 2>/dev/null && exit 1; true";
    let output = scene.run_with(&["--workspace", "sub"]).args(["sh", "-c", script]).output()?;
    ensure(output.status.success(), || printed(&output))?;
    same(&String::from_utf8_lossy(&output.stdout).as_ref(), &"inner\n")?;
    same(&scene.git(&["-C", "sub", "log", "-1", "--format=%s"])?.as_str(), &"inner\n")?;
    unchanged(&before, &Scene::listing(&scene.path(".git/hooks"))?)?;
    same(&scene.git(&["status", "--porcelain"])?.as_str(), &" M sub\n")
}
