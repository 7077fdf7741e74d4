//! Hard links and symbolic links: to hidden files, out of the workspace, and raced while a jail starts.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use libtest_mimic::Failed;

use crate::checks::{ensure, results, same, unchanged, wait_for};
use crate::needs::{Needing, test};
use crate::scene::{SECRET, Scene, printed};

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("fs_008_a_hard_link_shows_the_mask_too", existing),
        test("fs_008_a_hard_link_into_a_hidden_directory_is_masked", interior),
        test("fs_008_a_name_outside_the_workspace_refuses_the_start", elsewhere),
        test("fs_009_no_hard_link_to_hidden_protected_or_system_files", made),
        test("fs_009_hard_links_work_in_the_workspace", allowed),
        test("fs_012_links_out_of_the_workspace_lead_nowhere", outward),
        test("fs_012_writing_through_links_changes_nothing_outside", written),
        test("fs_012_a_link_with_a_hidden_name_hides_its_target", hidden_link),
        test("fs_013_links_planted_where_the_supervisor_writes_are_not_followed", supervisor),
        test("fs_015_a_directory_that_turns_into_a_link_at_the_start_shows_nothing", race_below),
        test("fs_015_a_workspace_that_turns_into_a_link_at_the_start_shows_nothing", race_workspace),
    ]
}

fn existing() -> Result<(), Failed> {
    let scene = Scene::new()?;
    fs::create_dir_all(scene.path("a/b"))?;
    for name in ["notes-2.txt", "a/b/plain", "node_modules"] {
        fs::hard_link(scene.path(".env"), scene.path(name))?;
    }
    let script = "cat notes-2.txt a/b/plain node_modules";
    same(&scene.outside_ok(script)?.matches(SECRET).count(), &3)?;
    let inside = scene.inside_ok(script)?;
    ensure(inside.trim().is_empty(), || inside.clone())
}

fn interior() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.write(".aws/sso/cache/token", SECRET)?;
    fs::hard_link(scene.path(".aws/sso/cache/token"), scene.path("plain"))?;
    ensure(scene.outside_ok("cat plain")?.contains(SECRET), || "positive control".to_owned())?;
    let inside = scene.inside_ok("cat plain")?;
    ensure(inside.trim().is_empty(), || inside.clone())
}

fn elsewhere() -> Result<(), Failed> {
    let scene = Scene::new()?;
    fs::hard_link(scene.path(".env"), scene.home().join("other-name"))?;
    let output = scene.inside("cat .env; echo ran")?;
    ensure(output.status.code() == Some(125) && output.stdout.is_empty(), || printed(&output))?;
    fs::remove_file(scene.home().join("other-name"))?;
    scene.inside_ok("true").map(drop)
}

fn made() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.write(".vscode/tasks.json", "{}")?;
    fs::write(scene.home().join("shown"), "shown")?;
    let shown = scene.home().join("shown").display().to_string();
    let target = scene.path("alias").display().to_string();
    let before = Scene::listing(&scene.workspace())?;
    let files = [".env", ".vscode/tasks.json", ".git/config", ".git/commondir"]
        .map(|name| scene.path(name).display().to_string());
    for file in files.iter().map(String::as_str).chain(["/etc/passwd", "/usr/bin/env", "/bin/sh", &shown]) {
        let lines = scene.attack(&["--read", &shown], &["links", file, &target])?;
        for (verb, result) in results(&lines) {
            ensure(result != "ok" && !verb.starts_with("read"), || format!("{file}: {verb} {result}: {lines:?}"))?;
        }
        unchanged(&before, &Scene::listing(&scene.workspace())?)?;
    }
    let control = results(&scene.attack_outside(&["links", &files[0], &target])?);
    ensure(control.get("linkat").is_some_and(|result| result == "ok"), || format!("positive control: {control:?}"))
}

fn allowed() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let inside = scene.inside_ok("mkdir d; ln notes.txt d/alias && echo three >> d/alias && cat notes.txt; git gc -q; git status --porcelain -uno")?;
    same(&inside.as_str(), &"one\ntwo\nthree\n M notes.txt\n")
}

fn outward() -> Result<(), Failed> {
    let scene = Scene::new()?;
    fs::create_dir_all(scene.home().join(".ssh"))?;
    fs::write(scene.home().join(".ssh/id_rsa"), SECRET)?;
    fs::write(scene.outside("canary"), SECRET)?;
    symlink("../.ssh/id_rsa", scene.path("known"))?;
    symlink("../.ssh", scene.path("directory"))?;
    symlink("directory", scene.path("chain"))?;
    symlink(scene.outside("canary"), scene.path("absolute"))?;
    let script = "ln -s ~/.ssh/id_rsa k; ln -s k k2; ln -s /proc/self/cwd/../.ssh/id_rsa p; ln -s ../../canary up
        ln -s /proc/1/root$HOME/.ssh/id_rsa r; ln -s /proc/self/root$HOME/.ssh/id_rsa s
        for f in known directory/id_rsa chain/id_rsa absolute k k2 p up r s ../.ssh/id_rsa ../../canary; do cat $f; done 2>&1; true";
    let outside = scene.outside_ok(script)?;
    ensure(outside.matches(SECRET).count() >= 11, || outside.clone())?;
    scene.outside_ok("rm k k2 p up r s")?;
    let inside = scene.inside_ok(script)?;
    ensure(!inside.contains("CANARY"), || inside.clone())
}

fn written() -> Result<(), Failed> {
    let scene = Scene::new()?;
    fs::create_dir_all(scene.home().join("target"))?;
    fs::write(scene.home().join(".bashrc"), "mine\n")?;
    fs::write(scene.home().join("target/file"), "mine\n")?;
    let before = (Scene::listing(&scene.home().join("target"))?, fs::read(scene.home().join(".bashrc"))?);
    let script = "ln -s ~/.bashrc b; echo evil >> b; ln -s ../target t; echo evil > t/file; echo evil > t/new; rm -f t/file
        ln -s ../target/dangling d; echo evil > d; mkdir t/dir; mv notes.txt t/; cp .gitignore t/; chmod 777 t/file; true";
    scene.inside_ok(script)?;
    let after = (Scene::listing(&scene.home().join("target"))?, fs::read(scene.home().join(".bashrc"))?);
    same(&after, &before)?;
    scene.outside_ok("rm -f b t d; git checkout -q -- .")?;
    scene.outside_ok(script)?;
    ensure(Scene::listing(&scene.home().join("target"))? != before.0, || "positive control".to_owned())
}

fn hidden_link() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.write("config/settings", SECRET)?;
    symlink("config/settings", scene.path(".env.production"))?;
    let script = "cat .env.production; cat config/settings";
    same(&scene.outside_ok(script)?.matches(SECRET).count(), &2)?;
    let inside = scene.inside_ok(script)?;
    ensure(inside.trim().is_empty(), || inside.clone())
}

fn supervisor() -> Result<(), Failed> {
    let scene = Scene::new()?;
    fs::create_dir_all(scene.outside("victim"))?;
    fs::write(scene.outside("victim/file"), "mine")?;
    let before = Scene::listing(&scene.outside("victim"))?;
    // Where placeholders would be made, and where git's files are read: links planted by an earlier run.
    for name in
        [".claude", ".mcp.json", ".vscode", ".jail.toml", ".git/commondir", ".git/modules", ".git/config.worktree"]
    {
        let target = scene.outside("victim").join(name.trim_start_matches('.').replace('/', "-"));
        symlink(target, scene.path(name))?;
    }
    for _ in 0..2 {
        let output = scene.inside(
            "echo evil > .claude; echo evil > .mcp.json; echo evil > .git/config.worktree; ls -la >/dev/null",
        )?;
        ensure(!printed(&output).contains("panicked"), || printed(&output))?;
        unchanged(&before, &Scene::listing(&scene.outside("victim"))?)?;
    }
    // The control: written by their names outside they do reach it.
    scene.outside_ok("echo mine > .claude; echo mine > .mcp.json")?;
    ensure(Scene::listing(&scene.outside("victim"))? != before, || "positive control".to_owned())
}

/// A thread on the host that exchanges two names without a pause.
struct Racer {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<u64>>,
}

impl Racer {
    fn start(a: std::path::PathBuf, b: std::path::PathBuf) -> Self {
        use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut count = 0;
            while !told.load(Ordering::Relaxed) {
                if renameat2(AT_FDCWD, &a, AT_FDCWD, &b, RenameFlags::RENAME_EXCHANGE).is_ok() {
                    count += 1;
                }
                std::thread::sleep(std::time::Duration::from_micros(50 + count % 700));
            }
            count
        });
        Self { stop, thread: Some(thread) }
    }

    fn finish(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or(0)
    }
}

const RUNS: usize = 100;

fn race_below() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.write("sub/.claude/settings.json", "{}")?;
    scene.outside_ok("git init -q sub/lib")?;
    fs::create_dir_all(scene.outside("canary/.claude"))?;
    fs::create_dir_all(scene.outside("canary/lib/.git"))?;
    fs::write(scene.outside("canary/.env"), SECRET)?;
    symlink(scene.outside("canary"), scene.path("link"))?;
    let before = Scene::listing(&scene.outside("canary"))?;
    let racer = Racer::start(scene.path("sub"), scene.path("link"));
    let (mut started, mut seen) = (0, String::new());
    for _ in 0..RUNS {
        let output = scene.inside("cat sub/.env link/.env; for d in sub link; do echo evil > $d/.claude/x; echo evil > $d/.env; done; echo ran")?;
        started += usize::from(String::from_utf8_lossy(&output.stdout).contains("ran"));
        seen.push_str(&printed(&output));
    }
    let flips = racer.finish();
    ensure(!seen.contains("CANARY"), || "the jail read the canary".to_owned())?;
    unchanged(&before, &Scene::listing(&scene.outside("canary"))?)?;
    ensure(flips > 1000 && started > 0, || format!("{flips} flips, {started} of {RUNS} started"))
}

fn race_workspace() -> Result<(), Failed> {
    let scene = Scene::new()?;
    // Whoever may write in `outer`, a jail around it say, flips a directory above the one the user starts a jail in.
    let outer = scene.home().join("outer");
    fs::create_dir_all(outer.join("mid/repo"))?;
    fs::create_dir_all(scene.outside("canary/repo"))?;
    fs::write(scene.outside("canary/repo/plain"), SECRET)?;
    symlink(scene.outside("canary"), outer.join("link"))?;
    let before = Scene::listing(&scene.outside("canary"))?;
    // The shell stands in the directory itself, whatever name it has at the moment.
    let jail = scene.jail(&[]).get_program().to_string_lossy().into_owned();
    let (ready, go) = (scene.outside("ready"), scene.outside("go"));
    let script = format!(
        "touch {}; while [ ! -e {} ]; do sleep 0.01; done; i=0; while [ $i -lt {RUNS} ]; do i=$((i+1))
        {jail} --quiet run -- sh -c 'cat plain own; echo evil > planted; echo ran'; done",
        ready.display(),
        go.display()
    );
    fs::write(outer.join("mid/repo/own"), "own\n")?;
    let mut shell = scene.host("sh");
    shell.args(["-c", &script]).current_dir(outer.join("mid/repo"));
    let shell = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    wait_for(&ready)?;
    let racer = Racer::start(outer.join("mid"), outer.join("link"));
    fs::write(&go, "")?;
    let output = shell.wait_with_output()?;
    let flips = racer.finish();
    let text = printed(&output);
    ensure(!text.contains("CANARY"), || "a jail read the canary".to_owned())?;
    unchanged(&before, &Scene::listing(&scene.outside("canary"))?)?;
    let started = String::from_utf8_lossy(&output.stdout).matches("own\nran").count();
    ensure(flips > 1000 && started > 0, || format!("{flips} flips, {started} of {RUNS} started: {text}"))
}
