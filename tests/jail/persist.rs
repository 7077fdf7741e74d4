//! What the host executes or obeys later: protected where it is and where it is missing, or reported.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::checks::{ensure, same, succeeded, unchanged, wait_for};
use crate::needs::{Needing, test};
use crate::scene::{Scene, printed};

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("fs_003_protected_names_that_are_missing_cannot_be_made", missing),
        test("ps_011_protected_directories_cannot_be_changed", directories),
        test("ps_011_protected_files_withstand_every_verb", every_verb),
        test("ps_012_the_projects_policy_cannot_be_made_or_changed", own_policy),
        test("ps_013_a_nested_protected_directory_is_protected", nested),
        test("ps_013_a_protected_directory_behind_a_link_is_protected", linked),
        test("ps_013_unprotect_leaves_a_path_writable", unprotected),
        test("fs_003_what_the_host_puts_in_a_placeholder_survives", host_fills),
        test("fs_003_a_directory_that_served_an_earlier_run_keeps_what_the_host_puts_into_it", spares),
        test("fs_003_two_jails_share_their_placeholders", two_jails),
        test("fs_003_a_killed_init_leaves_nothing", killed_init),
        test("fs_003_a_file_of_the_user_that_looks_like_a_placeholder_stays", look_alike),
        test("ps_007_a_bare_repository_is_reported", bare),
        test("ps_006_a_new_repository_is_reported", new_repository),
        test("ps_014_protected_names_in_subdirectories_are_reported", reported_names),
        test("ps_013_a_protected_name_that_was_moved_aside_and_made_anew_is_reported", made_anew),
        test("ps_006_a_repository_that_was_moved_aside_and_made_anew_is_reported", repository_anew),
        test("ps_015_changed_build_files_are_reported", build_files),
        test("ps_017_outward_links_are_reported_and_odd_names_escaped", outward),
        test("ps_015_what_tools_obey_is_reported_or_protected", obeyed_by_tools),
        test("ps_015_a_run_that_changes_nothing_reports_nothing", nothing),
        test("ps_015_a_workspace_that_cannot_be_examined_afterwards_is_said", unexaminable),
        test("ps_018_what_is_written_to_the_home_does_not_reach_the_host", home),
        test("ps_019_nothing_of_one_session_is_in_the_next", next_session),
    ]
}

const DIRECTORIES: &[&str] =
    &[".claude", ".cursor", ".codex", ".gemini", ".kiro", ".windsurf", ".vscode", ".zed", ".devcontainer", ".husky"];
const FILES: &[&str] = &[".jail.toml", ".mcp.json", ".envrc"];

/// Every way to make a name.
const MAKE: &str = r#"
n=NAME
mkdir "$n"; mkdir -p "$n/hooks"; echo evil > "$n"; echo evil > "$n/settings.json"; touch "$n/x"
mkdir -p prepared; echo evil > prepared/settings.json
mv -T prepared "$n"; mv prepared "$n/"; cp -r prepared "$n"; ln -s prepared "$n"; ln -sfn prepared "$n"
echo evil > file; mv -T file "$n"; ln file "$n"; ln -f file "$n"; rm -rf "$n"; rmdir "$n"; mv "$n" away; mv "$n" prepared/
mkfifo "$n" && rm "$n"; mknod "$n" p && rm "$n"; chmod 777 "$n"; touch -d 2020-01-01 "$n"
echo evil > "$n"; echo evil > "$n/settings.json"
rm -rf prepared file away
true
"#;

fn missing() -> Result<(), Failed> {
    for name in DIRECTORIES.iter().chain(FILES) {
        let scene = Scene::new()?;
        let script = MAKE.replace("NAME", name);
        let before = Scene::listing(&scene.workspace())?;
        scene.inside_ok(&script)?;
        unchanged(&before, &Scene::listing(&scene.workspace())?)?;
        scene.outside_ok(&script)?;
        ensure(scene.path(name).symlink_metadata().is_ok(), || format!("the positive control did not make {name}"))?;
    }
    Ok(())
}

fn directories() -> Result<(), Failed> {
    for name in DIRECTORIES.iter().chain(&[".idea", ".opencode", ".github/workflows", ".githooks"]) {
        let scene = Scene::new()?;
        scene.write(Path::new(name).join("settings.json"), "{}")?;
        scene.write(Path::new(name).join("deep/er"), "x")?;
        let before = Scene::listing(&scene.workspace())?;
        let script = MAKE.replace("NAME", name);
        let script = format!(
            "{script}\nmv .github gh; rm -rf {name}/deep; mv {name}/deep deep; rm -rf deep; chmod 777 {name}/settings.json"
        );
        scene.inside(&script)?;
        unchanged(&before, &Scene::listing(&scene.workspace())?)?;
        scene.outside_ok(&script.replace("chmod 777", "true"))?;
        ensure(Scene::listing(&scene.workspace())? != before, || {
            format!("the positive control changed nothing in {name}")
        })?;
    }
    Ok(())
}

fn every_verb() -> Result<(), Failed> {
    for name in [
        ".claude/settings.json",
        ".mcp.json",
        ".vscode/tasks.json",
        ".git/config",
        ".git/hooks/pre-push.sample",
        ".git/info/exclude",
    ] {
        let scene = Scene::new()?;
        let path = scene.path(name);
        if !path.exists() {
            scene.write(name, "{}")?;
        }
        scene.write(Path::new(name).with_file_name("other"), "other")?;
        let before = Scene::listing(&scene.workspace())?;
        let text = path.display().to_string();
        let worked = succeeded(&scene.attack(&[], &["write-verbs", &text])?);
        // A file in a directory that is itself writable: what can be made beside it is no change of the file.
        let beside = [
            "create",
            "link",
            "mkdir",
            "mknodat fifo",
            "mknodat file",
            "open O_TMPFILE",
            "symlink",
            "mknodat whiteout",
        ];
        let beside = if matches!(name, ".mcp.json" | ".git/config") { &beside[..] } else { &[] };
        let bad: Vec<_> = worked.iter().filter(|verb| *verb == "link" || !beside.contains(&verb.as_str())).collect();
        ensure(bad.is_empty(), || format!("{name}: {bad:?}"))?;
        unchanged(&before, &Scene::listing(&scene.workspace())?)?;
        let control = succeeded(&scene.attack_outside(&["write-verbs", &text])?);
        ensure(control.len() > 15, || format!("the positive control could only {control:?}"))?;
    }
    Ok(())
}

fn own_policy() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.write(".jail.toml", "[workspace]\nmode = \"direct\"\n")?;
    let before = Scene::listing(&scene.workspace())?;
    let script = "echo > .jail.toml; rm -f .jail.toml; mv .jail.toml x; cp .jail.toml y; echo >> y; mv y .jail.toml; rm -f y; true";
    scene.inside_ok(script)?;
    unchanged(&before, &Scene::listing(&scene.workspace())?)?;
    scene.outside_ok(script)?;
    ensure(Scene::listing(&scene.workspace())? != before, || "the positive control changed nothing".to_owned())
}

fn nested() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.write("packages/a/.vscode/tasks.json", "{}")?;
    scene.write("packages/a/.envrc", "x")?;
    let before = Scene::listing(&scene.workspace())?;
    let script =
        "cd packages/a; echo evil > .vscode/tasks.json; rm -rf .vscode; mv .vscode v; echo evil > .envrc; rm -f .envrc
        echo evil > x; mv x .envrc; rm -f x; true";
    scene.inside_ok(script)?;
    unchanged(&before, &Scene::listing(&scene.workspace())?)?;
    scene.outside_ok(script)?;
    ensure(Scene::listing(&scene.workspace())? != before, || "the positive control changed nothing".to_owned())
}

fn linked() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.write("shared/claude/settings.json", "{}")?;
    symlink("shared/claude", scene.path(".claude"))?;
    let before = Scene::listing(&scene.workspace())?;
    let script = "echo evil > .claude/settings.json; echo evil > shared/claude/settings.json; rm -f .claude; mkdir e; ln -sfn e .claude
        mv .claude x; echo evil > e/settings.json; mv -T e .claude; rm -rf e; true";
    scene.inside_ok(script)?;
    unchanged(&before, &Scene::listing(&scene.workspace())?)?;
    scene.outside_ok(script)?;
    ensure(Scene::listing(&scene.workspace())? != before, || "the positive control changed nothing".to_owned())
}

fn unprotected() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let policy = scene.outside("policy.toml");
    fs::write(&policy, "[filesystem]\nunprotect = [\".vscode\"]\n")?;
    let flags = ["--policy", &policy.display().to_string()];
    let output = scene.inside_with(&flags, "mkdir .vscode && echo {} > .vscode/tasks.json; mkdir .cursor/x")?;
    ensure(!output.status.success() && scene.path(".vscode/tasks.json").exists(), || printed(&output))?;
    ensure(!scene.path(".cursor").exists(), || ".cursor was left".to_owned())
}

/// A jail that runs until the file `stop` appears in the workspace, then a script.
struct Running(Child);

impl Running {
    fn start(scene: &Scene, mark: &str, last: &str) -> Result<Self, Failed> {
        let script = format!("touch started-{mark}; while [ ! -e stop-{mark} ]; do sleep 0.01; done; {last}");
        let mut command = scene.run_with(&[]);
        let child = command.args(["sh", "-c", &script]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let running = Self(child);
        wait_for(&scene.path(format!("started-{mark}")))?;
        fs::remove_file(scene.path(format!("started-{mark}")))?;
        Ok(running)
    }

    fn stop(mut self, scene: &Scene, mark: &str) -> Result<(), Failed> {
        scene.write(format!("stop-{mark}"), "")?;
        let status = self.0.wait()?;
        fs::remove_file(scene.path(format!("stop-{mark}")))?;
        ensure(status.success(), || format!("{mark}: {status}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn host_fills() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let evil = "echo evil > .claude/settings.json; echo evil >> .mcp.json; echo evil > .vscode/x; rm -rf .claude .mcp.json; true";
    let running = Running::start(&scene, "a", evil)?;
    scene.write(".claude/settings.json", "mine")?;
    scene.write(".mcp.json", "mine too")?;
    scene.write("new", "renamed")?;
    fs::rename(scene.path("new"), scene.path(".jail.toml"))?;
    fs::remove_dir(scene.path(".vscode"))?;
    scene.write(".vscode/tasks.json", "also mine")?;
    sleep(Duration::from_millis(300));
    running.stop(&scene, "a")?;
    same(&fs::read_to_string(scene.path(".claude/settings.json"))?.as_str(), &"mine")?;
    same(&fs::read_to_string(scene.path(".mcp.json"))?.as_str(), &"mine too")?;
    same(&fs::read_to_string(scene.path(".jail.toml"))?.as_str(), &"renamed")?;
    let vscode: Vec<_> =
        fs::read_dir(scene.path(".vscode"))?.map(|entry| entry.map(|e| e.file_name())).collect::<Result<_, _>>()?;
    same(&vscode, &vec!["tasks.json".into()])?;
    ensure(!scene.path(".cursor").exists(), || "an empty placeholder was left".to_owned())
}

/// An ordinary user's runs use the same empty directories again.
fn spares() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let before = Scene::listing(&scene.workspace())?;
    let spares = || -> Result<Vec<u64>, Failed> {
        let kept = fs::read_dir(scene.outside("state/jail/spare"));
        let kept = if nix::unistd::geteuid().is_root() { return Ok(Vec::new()) } else { kept? };
        Ok(kept
            .map(|entry| entry.and_then(|entry| entry.metadata()).map(|found| found.ino()))
            .collect::<Result<_, _>>()?)
    };
    scene.inside_ok("true")?;
    unchanged(&before, &Scene::listing(&scene.workspace())?)?;
    let kept = spares()?;
    let running = Running::start(&scene, "a", "mkdir .claude; echo evil > .claude/settings.json; true")?;
    let used = fs::metadata(scene.path(".claude"))?.ino();
    ensure(kept.is_empty() || kept.contains(&used), || "a new directory was made".to_owned())?;
    scene.write(".claude/settings.json", "mine")?;
    running.stop(&scene, "a")?;
    same(&fs::read_to_string(scene.path(".claude/settings.json"))?.as_str(), &"mine")?;
    ensure(!scene.path(".cursor").exists(), || "an empty placeholder was left".to_owned())?;
    let left = spares()?;
    ensure(!left.contains(&used), || "the user's directory was taken away".to_owned())?;
    same(&left.len(), &kept.len().saturating_sub(1))
}

fn two_jails() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let before = Scene::listing(&scene.workspace())?;
    let evil =
        "mkdir .claude; echo evil > .claude/settings.json; echo evil > .mcp.json; echo ../x > .git/commondir; true";
    // Whichever ends first, the other stays protected, and the last one removes the placeholders.
    for (first, second) in [("a", "b"), ("b", "a")] {
        let mut jails = vec![("a", Running::start(&scene, "a", evil)?), ("b", Running::start(&scene, "b", evil)?)];
        jails.sort_by_key(|(name, _)| *name != first);
        for (name, jail) in jails {
            jail.stop(&scene, name)?;
            if name == second {
                unchanged(&before, &Scene::listing(&scene.workspace())?)?;
            }
        }
    }
    Ok(())
}

fn killed_init() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let before = Scene::listing(&scene.workspace())?;
    let mut running = Running::start(&scene, "a", "true")?;
    ensure(scene.path(".claude").exists(), || "there is no placeholder to be left".to_owned())?;
    let supervisor = running.0.id();
    let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children"))?;
    let init: i32 = children.split_whitespace().next().ok_or("no init")?.parse().map_err(|_| "no pid")?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(init), nix::sys::signal::Signal::SIGKILL)?;
    let _ = running.0.wait();
    unchanged(&before, &Scene::listing(&scene.workspace())?)
}

fn look_alike() -> Result<(), Failed> {
    let scene = Scene::new()?;
    // Empty, as a placeholder is, but of another age.
    fs::create_dir(scene.path(".claude"))?;
    scene.write(".mcp.json", "{}\n")?;
    // The age of a placeholder, but with content.
    scene.write(".cursor/mine", "x")?;
    scene.outside_ok("touch -d @1000000000.000000042 .cursor")?;
    scene.write(".envrc", "mine")?;
    scene.outside_ok("touch -d @1000000000.000000042 .envrc")?;
    let before = Scene::listing(&scene.workspace())?;
    scene.inside_ok("ls -la > /dev/null")?;
    unchanged(&before, &Scene::listing(&scene.workspace())?)
}

/// Runs a script; the lines of the report at the end, checked against the record.
fn report(scene: &Scene, script: &str) -> Result<Vec<String>, Failed> {
    let output = scene.jail(&["run", "--json", "--", "sh", "-c", script]).output()?;
    ensure(output.status.success(), || printed(&output))?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let summary =
        errors.lines().rev().find(|line| line.starts_with('{')).ok_or_else(|| format!("no summary: {errors}"))?;
    let summary: Value = serde_json::from_str(summary).map_err(|error| error.to_string())?;
    let lines = summary["planted"].as_array().ok_or("no report")?;
    let lines: Vec<String> = lines.iter().filter_map(|line| line.as_str().map(str::to_owned)).collect();
    let record = fs::read_to_string(summary["record"].as_str().ok_or("no record")?)?;
    let recorded = record.lines().filter(|line| line.contains("planted")).count();
    same(&recorded, &lines.len())?;
    // The same for people.
    Ok(lines)
}

fn bare() -> Result<(), Failed> {
    let marker = "touch MARK; false";
    for inside in [false, true] {
        let scene = Scene::new()?;
        let mark = scene.outside("marker");
        let plant = format!(
            "git init -q --bare docs; git -C docs config core.fsmonitor '{}'; git -C docs config core.bare false
             git -C docs config core.worktree ..",
            marker.replace("MARK", &mark.display().to_string())
        );
        if inside {
            let lines = report(&scene, &plant)?;
            ensure(lines.contains(&"docs: looks like a git repository".to_owned()), || format!("{lines:?}"))?;
        } else {
            scene.outside_ok(&plant)?;
            scene.host("sh").args(["-c", "cd docs && git status"]).output()?;
            ensure(mark.exists(), || "the positive control did not run: it need not be reported".to_owned())?;
        }
    }
    Ok(())
}

fn new_repository() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let lines = report(
        &scene,
        "mkdir -p a/b; git init -q a/b; mkdir c; echo gitdir: ../a/b/.git > c/.git; git init -q --bare up.git",
    )?;
    same(
        &lines,
        &["a/b/.git: new git repository", "c/.git: new git repository", "up.git: looks like a git repository"]
            .map(str::to_owned)
            .to_vec(),
    )
}

fn reported_names() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let names = ["sub/.envrc", "sub/.claude", "sub/.VSCode", ".idea", ".opencode", "sub/.husky", "sub/.kiro"];
    let script: String = names.iter().map(|name| format!("mkdir -p {name}\n")).collect();
    let lines = report(&scene, &script)?;
    let mut wanted: Vec<String> = names.iter().map(|name| format!("{name}: appeared; the host obeys it")).collect();
    wanted.sort();
    same(&lines, &wanted)
}

fn made_anew() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.write("sub/.claude/settings.json", "{}")?;
    let lines = report(&scene, "mv sub old; mkdir -p sub/.claude; echo evil > sub/.claude/settings.json")?;
    for name in ["sub/.claude", "old/.claude"] {
        ensure(lines.contains(&format!("{name}: appeared; the host obeys it")), || format!("{name} in {lines:?}"))?;
    }
    Ok(())
}

fn repository_anew() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.outside_ok("mkdir -p vendor/lib; git init -q vendor/lib")?;
    let lines = report(&scene, "mv vendor old; mkdir -p vendor/lib; git init -q vendor/lib")?;
    for name in ["vendor/lib/.git", "old/lib/.git"] {
        ensure(lines.contains(&format!("{name}: new git repository")), || format!("{name} in {lines:?}"))?;
    }
    Ok(())
}

fn build_files() -> Result<(), Failed> {
    let scene = Scene::new()?;
    for name in
        ["Makefile", "package.json", "build.rs", "node_modules/.bin/tsc", "CLAUDE.md", "sub/setup.py", "same.mk"]
    {
        scene.write(name, "before")?;
    }
    let lines = report(
        &scene,
        "echo after > Makefile; touch -r notes.txt package.json; echo x >> build.rs; echo evil > node_modules/.bin/tsc
        cp -p CLAUDE.md c; mv c CLAUDE.md; chmod +x sub/setup.py; echo x > conftest.py; mkdir -p .venv/bin; echo x > .venv/bin/python
        echo '* filter=x' > .gitattributes; echo x > notes.txt; cat same.mk",
    )?;
    let mut wanted: Vec<String> =
        ["Makefile", "package.json", "build.rs", "node_modules/.bin/tsc", "CLAUDE.md", "sub/setup.py"]
            .iter()
            .map(|name| format!("{name}: changed; the host executes it"))
            .chain(
                [".gitattributes", ".venv/bin/python", "conftest.py"]
                    .iter()
                    .map(|name| format!("{name}: created; the host executes it")),
            )
            .collect();
    wanted.sort();
    let mut lines = lines;
    lines.sort();
    same(&lines, &wanted)
}

/// What tools and consoles obey, also where its name or content makes it a hidden file, or it lies in `.git`.
fn obeyed_by_tools() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.write(".Rprofile", "before")?;
    scene.write(".git/objects/info/alternates", "")?;
    let others = Scene::new()?;
    let script = "echo evil > .Rprofile; echo evil > .git/objects/info/alternates; rm -f .Rprofile; mv .Rprofile away
        mkdir -p .terraform/providers .direnv
        for name in eslint.config.js .pylintrc requirements.txt .terraform/providers/p .direnv/flake-profile-1.rc \\
            mise.local.toml .ghci; do echo evil > $name; done
        printf 'script-shell=./evil\\n//registry.example.com/:_authToken=abc\\n' > .npmrc; sleep 0.2; true";
    let before = fs::read(scene.path(".git/objects/info/alternates"))?;
    let mut lines = report(&scene, script)?;
    lines.sort();
    let mut wanted = vec![".ghci: appeared; the host obeys it".to_owned()];
    let created = [
        "eslint.config.js",
        ".pylintrc",
        "requirements.txt",
        ".terraform/providers/p",
        ".direnv/flake-profile-1.rc",
        "mise.local.toml",
        ".npmrc",
    ];
    wanted.extend(created.map(|name| format!("{name}: created; the host executes it")));
    wanted.sort();
    same(&lines, &wanted)?;
    same(&fs::read(scene.path(".Rprofile"))?, &b"before".to_vec())?;
    same(&fs::read(scene.path(".git/objects/info/alternates"))?, &before)?;
    // Where there was none it can be made, and is named.
    let lines = report(&others, "echo /elsewhere/objects > .git/objects/info/alternates")?;
    same(&lines, &vec![".git/objects/info/alternates: created; the host executes it".to_owned()])?;
    scene.outside_ok(script)?;
    ensure(scene.path(".Rprofile").symlink_metadata().is_err(), || "the positive control changed nothing".to_owned())
}

fn outward() -> Result<(), Failed> {
    let scene = Scene::new()?;
    symlink("../elsewhere", scene.path("known"))?;
    let lines = report(
        &scene,
        "ln -s ~/.ssh evil; ln -s ../../x up; ln -s notes.txt near; ln -s /etc/passwd \"$(printf 'a\\nb\\033[31m')\"
        echo x > \"$(printf 'x\\n\\033]52;c;AAAA\\007.mk')\"",
    )?;
    same(&lines.len(), &4)?;
    ensure(lines.iter().all(|line| !line.contains(['\n', '\u{1b}', '\u{7}'])), || format!("{lines:?}"))?;
    for name in ["evil", "up", "a\\nb"] {
        let found = lines.iter().any(|line| line.starts_with(name) && line.contains("symbolic link out of"));
        ensure(found, || format!("{name}: {lines:?}"))?;
    }
    Ok(())
}

fn nothing() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.write("Makefile", "all:")?;
    scene.outside_ok("git init -q sub")?;
    let lines = report(
        &scene,
        "echo x > y; git add y; git commit -qm y; git -C sub status >/dev/null; make --version >/dev/null; cat Makefile",
    )?;
    same(&lines, &Vec::new())
}

fn unexaminable() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.outside_ok("git init -q sub; mkdir -p sub/.git/x")?;
    // Whatever a workload leaves, the report either names what it planted or says that it could not look.
    let plant = "d=.git/x; mkdir $d; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do d=$d/modules; mkdir $d; done
        mkdir deep; cd deep; i=0; while [ $i -lt 400 ]; do mkdir dddddddddddd; cd dddddddddddd; i=$((i+1)); done; touch Makefile
        mkdir locked; touch locked/Makefile; chmod 0 locked; cd; cd - >/dev/null; cd \"$OLDPWD\" 2>/dev/null; true";
    let output =
        scene.jail(&["run", "--", "sh", "-c", &format!("{plant}; echo evil > \"$HOME/repo/Makefile\"")]).output()?;
    let text = printed(&output);
    ensure(text.contains("Makefile: created") || text.contains("cannot"), || text.clone())?;
    scene.outside_ok("chmod -R u+rwx deep; rm -rf deep").map(drop)
}

fn home() -> Result<(), Failed> {
    let scene = Scene::new()?;
    for name in [
        ".bashrc",
        ".profile",
        ".ssh/authorized_keys",
        ".config/autostart/x",
        ".local/bin/x",
        ".cache/x",
        ".claude/x",
        ".cargo/config.toml",
    ] {
        let path = scene.home().join(name);
        fs::create_dir_all(path.parent().ok_or("no parent")?)?;
        fs::write(path, "mine")?;
    }
    let before = Scene::listing(&scene.home())?;
    let script = "cd; for f in .bashrc .profile .zshrc .ssh/authorized_keys .config/autostart/x .config/systemd/user/x .local/bin/x .cache/x \
        .claude/x .cargo/config.toml .gitconfig; do mkdir -p $(dirname $f); rm -f $f; echo evil > $f; done; true";
    scene.inside_ok(script)?;
    unchanged(&before, &Scene::listing(&scene.home())?)?;
    scene.outside_ok(script)?;
    ensure(Scene::listing(&scene.home())? != before, || "the positive control changed nothing".to_owned())
}

fn next_session() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let places = "$HOME /tmp /var/tmp /dev/shm /run";
    scene.inside_ok(&format!(
        "for d in {places}; do echo poison > $d/poison 2>/dev/null; done; ls $HOME/poison /tmp/poison /dev/shm/poison"
    ))?;
    let seen = scene.inside_ok(&format!("for d in {places}; do cat $d/poison 2>/dev/null; done; true"))?;
    same(&seen.as_str(), &"")
}
