//! Repositories: git works inside, and nothing planted in a repository runs on the host.

use std::fs;

use libtest_mimic::Failed;

use crate::checks::{ensure, same, unchanged};
use crate::needs::{Needing, test};
use crate::scene::{SECRET, Scene, printed};

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("git_everyday_commands_work_inside", everyday),
        test("fs_029_a_tracked_hidden_file_stays_clean_and_its_blanks_are_not_committed", tracked_hidden),
        test("fs_029_blanks_of_an_untracked_hidden_file_are_not_committed", untracked_hidden),
        test("git_status_stays_clean_without_info_exclude", no_exclude),
        test("git_status_stays_clean_where_info_is_missing", no_info),
        test("fs_013_an_exclude_file_that_is_a_link_is_not_read_for_the_jail", exclude_link),
        test("fs_013_an_info_directory_that_is_a_link_is_not_read_for_the_jail", info_link),
        test("ps_001_a_new_hook_cannot_be_written", hook),
        test("ps_001_a_hook_cannot_come_by_renaming_the_directory", hooks_renamed),
        test("ps_001_an_existing_hook_cannot_be_changed", hook_changed),
        test("ps_001_hooks_cannot_be_made_where_the_directory_is_missing", hooks_missing),
        test("ps_002_git_config_cannot_set_a_program", config_command),
        test("ps_002_the_configuration_cannot_be_appended_to", config_appended),
        test("ps_002_the_configuration_cannot_be_replaced_by_rename", config_renamed),
        test("ps_002_the_configuration_cannot_be_exchanged_for_a_link", config_link),
        test("ps_002_config_worktree_cannot_be_planted_for_later", config_worktree),
        test("ps_003_the_repository_cannot_be_renamed", renamed),
        test("ps_003_the_repository_cannot_be_replaced_by_a_link", replaced_by_link),
        test("ps_004_commondir_cannot_be_written", commondir),
        test("ps_006_a_submodules_hooks_cannot_be_written", submodule_hook),
        test("ps_006_a_submodules_configuration_cannot_be_written", submodule_config),
        test("ps_006_a_submodules_repository_cannot_be_renamed", submodule_renamed),
        test("ps_006_a_submodule_that_is_not_there_yet_cannot_be_planted", submodule_planted),
        test("ps_006_a_nested_repository_is_protected", nested),
        test("ps_006_a_nested_repository_cannot_be_renamed", nested_renamed),
        test("ps_006_commits_in_a_submodule_work", submodule_commit),
        test("ps_008_a_configured_hooks_directory_is_protected", hooks_path),
        test("ps_008_a_configured_hooks_directory_that_is_missing_cannot_be_made", hooks_path_missing),
        test("ps_008_a_configured_hooks_directory_cannot_move_with_its_parent", hooks_path_deep),
        test("ps_008_the_users_own_hooks_path_is_protected", hooks_path_of_user),
        test("ps_009_an_output_option_of_git_writes_nothing_protected", output_option),
        test("ps_010_info_attributes_cannot_activate_a_filter", attributes),
        test("ps_010_an_included_configuration_is_protected", included),
        test("ps_010_an_included_configuration_that_is_missing_cannot_be_made", included_missing),
    ]
}

/// Runs `setup` on the host, `plant` outside as positive control and inside, then `trigger` on the host: only the one
/// planted outside may run. In the scripts `MARK` is a file outside that a planted program makes.
pub fn planted(setup: &str, plant: &str, trigger: &str) -> Result<(), Failed> {
    for inside in [false, true] {
        let scene = Scene::new()?;
        let marker = scene.outside("marker");
        let text = |script: &str| script.replace("MARK", &marker.display().to_string());
        scene.outside_ok(&text(&format!("set -e\n{setup}")))?;
        ensure(!marker.exists(), || "the set-up itself made the marker".to_owned())?;
        let before = Scene::listing(&scene.path(".git"))?;
        let output =
            if inside { scene.inside(&text(plant))? } else { scene.host("sh").args(["-c", &text(plant)]).output()? };
        if inside {
            ensure(output.status.code() != Some(125), || printed(&output))?;
            let after = Scene::listing(&scene.path(".git"))?;
            unchanged(&executed(&before), &executed(&after))?;
        }
        let triggered = scene.host("sh").args(["-c", &text(trigger)]).output()?;
        ensure(marker.exists() != inside, || {
            let ran = if inside { "what was planted inside ran" } else { "the positive control did not run" };
            format!("{ran}\nplanting: {}\ntrigger: {}", printed(&output), printed(&triggered))
        })?;
    }
    Ok(())
}

/// Of a listing of `.git`, what makes git run something.
fn executed(lines: &[String]) -> Vec<String> {
    const NAMES: &[&str] = &["config", "config.worktree", "hooks", "info", "commondir", "modules", "worktrees"];
    let path = |line: &String| line.split(' ').next().unwrap_or_default().to_owned();
    let about = |line: &&String| {
        let path = path(line);
        !path.contains("objects/")
            && path.split('/').any(|part| NAMES.contains(&part) && !part.is_empty())
            && !path.starts_with("modules/sub/") | path.split('/').skip(2).any(|part| NAMES.contains(&part))
    };
    lines.iter().filter(about).cloned().collect()
}

macro_rules! plants {
    ($($name:ident: $setup:expr, $plant:expr, $trigger:expr;)*) => {
        $(fn $name() -> Result<(), Failed> { planted($setup, $plant, $trigger) })*
    };
}

const COMMIT: &str = "git commit --allow-empty -qm x";
/// `.git` of a submodule `sub`, whose origin is the bare repository `up`.
const SUBMODULE: &str = "git clone -q --bare . up; export GIT_ALLOW_PROTOCOL=file
git submodule --quiet add ./up sub; git commit -qm sub";

plants! {
    hook: "", "printf '#!/bin/sh\ntouch MARK\n' > .git/hooks/pre-commit; chmod +x .git/hooks/pre-commit", COMMIT;
    hooks_renamed: "",
        "cp -r .git/hooks h; printf '#!/bin/sh\ntouch MARK\n' > h/pre-commit; chmod +x h/pre-commit
         mv .git/hooks .git/h; mv -T h .git/hooks", COMMIT;
    hook_changed: "printf '#!/bin/sh\n' > .git/hooks/pre-commit; chmod +x .git/hooks/pre-commit",
        "echo touch MARK >> .git/hooks/pre-commit || { rm -f .git/hooks/pre-commit; printf '#!/bin/sh\ntouch MARK\n' > x
         chmod +x x; mv x .git/hooks/pre-commit; }", COMMIT;
    hooks_missing: "rm -r .git/hooks",
        "mkdir .git/hooks; printf '#!/bin/sh\ntouch MARK\n' > .git/hooks/pre-commit; chmod +x .git/hooks/pre-commit", COMMIT;
    config_command: "", "git config core.fsmonitor 'touch MARK; false'", "git status";
    config_appended: "", "printf '[core]\nfsmonitor = \"touch MARK; false\"\n' >> .git/config", "git status";
    config_renamed: "",
        "cp .git/config .git/config.lock; printf '[core]\nfsmonitor = \"touch MARK; false\"\n' >> .git/config.lock
         mv .git/config.lock .git/config || { rm -f .git/config; mv .git/config.lock .git/config; }; rm -f .git/config.lock",
        "git status";
    config_link: "",
        "cp .git/config c; printf '[core]\nfsmonitor = \"touch MARK; false\"\n' >> c; ln -sfn ../c .git/config", "git status";
    config_worktree: "", "printf '[core]\nfsmonitor = \"touch MARK; false\"\n' > .git/config.worktree",
        "git config extensions.worktreeConfig true; git status";
    renamed: "",
        "mv .git .git_old && cp -r .git_old .git; printf '[core]\nfsmonitor = \"touch MARK; false\"\n' >> .git/config",
        "git status";
    replaced_by_link: "",
        "cp -r .git g; printf '[core]\nfsmonitor = \"touch MARK; false\"\n' >> g/config
         mv .git .git_old; ln -s g .git", "git status";
    commondir: "",
        "cp -r .git .evil; printf '[core]\nfsmonitor = \"touch MARK; false\"\n' >> .evil/config
         echo ../.evil > .git/commondir || { rm -f .git/commondir; echo ../.evil > x; mv x .git/commondir; }", "git status";
    submodule_hook: SUBMODULE,
        "h=.git/modules/sub/hooks/pre-commit; printf '#!/bin/sh\ntouch MARK\n' > $h; chmod +x $h", "git -C sub commit --allow-empty -qm x";
    submodule_config: SUBMODULE, "git -C sub config core.fsmonitor 'touch MARK; false'", "git -C sub status";
    submodule_renamed: SUBMODULE,
        "cd .git/modules; mv sub old; cp -r old sub; printf '[core]\nfsmonitor = \"touch MARK; false\"\n' >> sub/config
         cd ..; mv modules m; cp -r m modules; printf '[core]\nfsmonitor = \"touch MARK; false\"\n' >> modules/sub/config",
        "git -C sub status";
    submodule_planted: "git clone -q --bare . up; export GIT_ALLOW_PROTOCOL=file; git submodule --quiet add ./up sub
         git commit -qm sub; git submodule --quiet deinit -f sub; rm -rf .git/modules",
        "mkdir -p .git/modules; git clone -q --bare . .git/modules/sub && cd .git/modules/sub || exit 1
         printf '[core]\nbare = false\nworktree = ../../../sub\nfsmonitor = \"touch MARK; false\"\n' > config
         printf '#!/bin/sh\ntouch MARK\n' > hooks/post-checkout; chmod +x hooks/post-checkout",
        "GIT_ALLOW_PROTOCOL=file git submodule update --init";
    nested: "mkdir vendor; git init -q vendor/lib",
        "git -C vendor/lib config core.fsmonitor 'touch MARK; false'
         printf '[core]\nfsmonitor = \"touch MARK; false\"\n' >> vendor/lib/.git/config", "git -C vendor/lib status";
    nested_renamed: "mkdir vendor; git init -q vendor/lib",
        "cd vendor/lib; mv .git old && cp -r old .git; printf '[core]\nfsmonitor = \"touch MARK; false\"\n' >> .git/config",
        "git -C vendor/lib status";
    hooks_path: "git config core.hooksPath .husky; mkdir .husky; touch .husky/keep",
        "printf '#!/bin/sh\ntouch MARK\n' > .husky/pre-commit; chmod +x .husky/pre-commit", COMMIT;
    hooks_path_missing: "git config core.hooksPath dev/hooks",
        "mkdir -p dev/hooks; printf '#!/bin/sh\ntouch MARK\n' > dev/hooks/pre-commit; chmod +x dev/hooks/pre-commit", COMMIT;
    hooks_path_deep: "git config core.hooksPath dev/tools/hooks; mkdir -p dev/tools/hooks",
        "mv dev old; mkdir -p dev/tools/hooks; printf '#!/bin/sh\ntouch MARK\n' > dev/tools/hooks/pre-commit
         chmod +x dev/tools/hooks/pre-commit", COMMIT;
    hooks_path_of_user: "git config --global core.hooksPath .hooks",
        "mkdir .hooks; printf '#!/bin/sh\ntouch MARK\n' > .hooks/pre-commit; chmod +x .hooks/pre-commit", COMMIT;
    output_option: "printf '#!/bin/sh\n' > .git/hooks/pre-commit; chmod +x .git/hooks/pre-commit",
        "git log -1 --format='#!/bin/sh%ntouch MARK' --output=.git/hooks/pre-commit
         git diff HEAD~1 --output=.git/info/attributes; git archive -o .git/hooks/a.tar HEAD
         git format-patch -q -o .git/hooks -1; git bundle create -q .git/hooks/b HEAD", COMMIT;
    attributes: "git config filter.evil.clean 'touch MARK; cat'", "echo '* filter=evil' > .git/info/attributes",
        "echo x > new; git add new";
    included: "git config include.path ../shared.gitconfig; echo '[a]' > shared.gitconfig",
        "printf '[core]\nfsmonitor = \"touch MARK; false\"\n' > shared.gitconfig || { rm shared.gitconfig
         printf '[core]\nfsmonitor = \"touch MARK; false\"\n' > x; mv x shared.gitconfig; }", "git status";
    included_missing: "git config include.path ../shared.gitconfig",
        "printf '[core]\nfsmonitor = \"touch MARK; false\"\n' > shared.gitconfig", "git status";
}

fn everyday() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.outside_ok("git clone -q --bare . up.git; git remote add up ./up.git; echo up.git > .git/info/exclude")?;
    let printed = scene.inside_ok(
        "set -e
        git status --porcelain
        echo a > a; git add a; git commit -qm a
        echo b >> a; git stash -q; git stash pop -q; git commit -qam b
        git branch topic HEAD~1; git checkout -q topic; echo t > t; git add -A; git commit -qm t
        git rebase -q main; git checkout -q main; git merge -q --no-ff -m merge topic
        git tag v1; git tag -a -m two v2; git checkout -q -b other; git switch -q main
        git fetch -q up; git push -q up main:pushed; git diff HEAD~1 --stat >/dev/null
        git worktree list >/dev/null; git log --oneline >/dev/null; git blame a >/dev/null
        git reset -q --hard HEAD; git clean -qfd; git mv a b; git commit -qm moved; git rm -q b; git commit -qm removed
        git cherry-pick -n HEAD~1 >/dev/null 2>&1 || true; git reset -q --hard
        git gc -q; git fsck >/dev/null; git status --porcelain",
    )?;
    same(&printed.as_str(), &"")?;
    let log = scene.git(&["log", "--first-parent", "--format=%an %s"])?;
    same(&log.as_str(), &"Ann removed\nAnn moved\nAnn merge\nAnn b\nAnn a\nAnn second\nAnn first\n")?;
    same(&scene.git(&["tag"])?.as_str(), &"v1\nv2\n")?;
    same(&scene.git(&["-C", "up.git", "log", "-1", "--format=%s", "pushed"])?.as_str(), &"merge\n")?;
    same(&scene.git(&["status", "--porcelain"])?.as_str(), &"")
}

fn tracked_hidden() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let secret = format!("TOKEN={SECRET}\n");
    scene.write("deep/er/server.key", SECRET)?;
    scene.outside_ok("git add -f .env deep; git commit -qm secrets")?;
    // The positive control: written over outside, the file is not clean and its new content is committed.
    let control = Scene::new()?;
    control.outside_ok("git add -f .env; git commit -qm secrets; echo > .env; git commit -qam blank")?;
    same(&control.git(&["show", "HEAD:.env"])?.as_str(), &"\n")?;

    let steps = "set -e
        git status --porcelain; git diff; git diff HEAD --stat
        touch .env 2>/dev/null || true; git status --porcelain
        git add -A; git commit -q --allow-empty -am one; git add -u; git add .env; git commit -q --allow-empty -m again
        echo x >> notes.txt; git stash -q; git stash pop -q; git commit -qam two
        git checkout -- . ; git checkout -q -B topic; git checkout -q main; git reset -q --hard; git status --porcelain
        git update-index -q --refresh; git status --porcelain; git diff-index HEAD";
    for _ in 0..2 {
        same(&scene.inside_ok(steps)?.as_str(), &"")?;
        same(&scene.git(&["show", "HEAD:.env"])?, &secret)?;
        same(&scene.git(&["show", "HEAD:deep/er/server.key"])?.as_str(), &SECRET)?;
        same(&fs::read_to_string(scene.path(".env"))?, &secret)?;
        same(&fs::read_to_string(scene.path("deep/er/server.key"))?.as_str(), &SECRET)?;
        same(&scene.git(&["status", "--porcelain"])?.as_str(), &"")?;
    }
    Ok(())
}

fn untracked_hidden() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.write(".gitignore", "vendor\n")?;
    let odd = ["a b/server.key", "x[1].pem", "-id.key", "sub/\u{fc}n\u{ef}.pem", "ta\tb.key", "vendor/lib/.env"];
    scene.outside_ok("mkdir vendor; git init -q vendor/lib; git commit -qam ignore")?;
    for name in odd {
        scene.write(name, SECRET)?;
    }
    let shown = scene.outside_ok("git status --porcelain -uall; git -C vendor/lib status --porcelain")?;
    ensure(shown.matches("?? .env").count() == 2 && shown.contains("server.key"), || {
        format!("positive control: {shown}")
    })?;
    let everything =
        "git status --porcelain -uall; git -C vendor/lib status --porcelain; git add -A; git -C vendor/lib add -A
        git commit -q --allow-empty -m all; git ls-files; git -C vendor/lib ls-files";
    same(
        &scene.inside_ok(&format!("rm -rf vendor/lib/.git/index; {everything}"))?.as_str(),
        &".gitignore\nnotes.txt\n",
    )?;
    // By force it is refused, and nothing is stored.
    let forced = scene.inside("git add -f .env")?;
    ensure(!forced.status.success(), || printed(&forced))?;
    same(&scene.git(&["ls-files", ".env"])?.as_str(), &"")
}

fn no_exclude() -> Result<(), Failed> {
    let scene = Scene::new()?;
    fs::remove_file(scene.path(".git/info/exclude"))?;
    stays_clean(&scene)
}

fn no_info() -> Result<(), Failed> {
    let scene = Scene::new()?;
    fs::remove_dir_all(scene.path(".git/info"))?;
    stays_clean(&scene)
}

fn stays_clean(scene: &Scene) -> Result<(), Failed> {
    let before = Scene::listing(&scene.workspace())?;
    same(&scene.inside_ok("ls -d .claude; git status --porcelain")?.as_str(), &".claude\n")?;
    // The control: a file of that kind does show.
    same(&scene.inside_ok("touch x; git status --porcelain; rm x")?.as_str(), &"?? x\n")?;
    unchanged(&before, &Scene::listing(&scene.workspace())?)
}

fn exclude_link() -> Result<(), Failed> {
    let scene = Scene::new()?;
    fs::write(scene.home().join("outside-secret"), SECRET)?;
    scene.outside_ok("ln -sfn ../../../outside-secret .git/info/exclude")?;
    not_read(&scene)
}

fn info_link() -> Result<(), Failed> {
    let scene = Scene::new()?;
    fs::create_dir(scene.home().join("info"))?;
    fs::write(scene.home().join("info/exclude"), SECRET)?;
    scene.outside_ok("rm -r .git/info; ln -s ../../info .git/info")?;
    not_read(&scene)
}

fn not_read(scene: &Scene) -> Result<(), Failed> {
    let look = "cat .git/info/exclude; cat ~/.config/git/ignore; git status --porcelain";
    ensure(scene.host("sh").args(["-c", look]).output().map(|o| printed(&o))?.contains(SECRET), || {
        "no control".into()
    })?;
    let output = scene.inside(look)?;
    ensure(output.status.success() && !printed(&output).contains(SECRET), || printed(&output))
}

fn submodule_commit() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.outside_ok(&format!("set -e\n{SUBMODULE}"))?;
    scene.inside_ok(
        "set -e; cd sub; echo x > inner; git add inner; git commit -qm inner; git status --porcelain
        cd ..; git add sub; git commit -qm bump; git submodule status >/dev/null",
    )?;
    same(&scene.git(&["-C", "sub", "log", "-1", "--format=%s"])?.as_str(), &"inner\n")?;
    same(&scene.git(&["log", "-1", "--format=%s"])?.as_str(), &"bump\n")
}
