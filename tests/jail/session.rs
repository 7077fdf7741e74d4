//! Real work in a jail: a published project is built, tested, changed and committed, offline and with the user's tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use libtest_mimic::Failed;

use crate::needs::{Need, Needing, test, test_with};
use crate::scene::{SECRET, Scene, printed, succeeded};

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test_with("a_published_crate_builds_tests_and_commits_offline", Need::Registry, rust),
        test_with("a_python_environment_is_made_and_used_offline", Need::Program("python3"), python),
        test_with("a_c_project_builds_incrementally", Need::Program("make"), c),
        test("a_day_of_git_leaves_a_clean_repository", git),
    ]
}

/// A published crate with a dependency, in the registry of whoever built this program.
pub fn published_crate() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(real_home()?.join(".cargo")))?;
    let sources = fs::read_dir(home.join("registry/src")).ok()?;
    let found = sources.flatten().flat_map(|source| fs::read_dir(source.path()).into_iter().flatten().flatten());
    found
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("aho-corasick-1.")))
}

fn real_home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from)
}

/// The crate as a repository with one commit; what only its maintainers' build has is taken out.
fn check_out(scene: &Scene, source: &Path) -> Result<(), Failed> {
    let copied = Command::new("cp").args(["-rT", "--no-preserve=all"]).arg(source).arg(scene.workspace()).output()?;
    succeeded("cp", &copied)?;
    let without = |file: &str, dropped: &str, lines: usize| -> Result<(), Failed> {
        let text = fs::read_to_string(scene.path(file))?;
        let all: Vec<&str> = text.lines().collect();
        let at =
            all.iter().position(|line| line.starts_with(dropped)).ok_or_else(|| format!("no {dropped} in {file}"))?;
        let kept = [&all[..at], &all[at + lines..]].concat().join("\n");
        Ok(fs::write(scene.path(file), kept + "\n")?)
    };
    without("Cargo.toml", "[dev-dependencies.doc-comment]", 2)?;
    without("src/lib.rs", "doc_comment::doctest!", 1)?;
    let _ = fs::remove_file(scene.path("Cargo.lock"));
    scene.write(".gitignore", "/target\n/Cargo.lock\n.env\n")?;
    scene.write(".env", format!("TOKEN={SECRET}\n"))?;
    scene.git(&["init", "--quiet", "--initial-branch=main", "."])?;
    scene.git(&["add", "."])?;
    scene.git(&["commit", "--quiet", "-m", "published"])?;
    Ok(())
}

/// A shell script in the jail with the user's own home, where the tool chain is.
fn at_home(scene: &Scene, script: &str) -> Result<Output, Failed> {
    let mut command = scene.run_with(&[]);
    command.args(["sh", "-ec", script]);
    command.env("HOME", real_home().ok_or("no HOME")?).env("XDG_CONFIG_HOME", scene.outside("config"));
    for name in ["CARGO_HOME", "RUSTUP_HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    Ok(command.output()?)
}

fn rust() -> Result<(), Failed> {
    let scene = Scene::bare()?;
    check_out(&scene, &published_crate().ok_or("no published crate")?)?;
    let built = at_home(&scene, "cargo build --offline --quiet && git status --porcelain && ls target/debug")?;
    succeeded("cargo build", &built)?;
    if !String::from_utf8_lossy(&built.stdout).starts_with("build\n") {
        return Err(format!("the tree is not clean: {}", printed(&built)).into());
    }
    // A new test finds a mistake, is put right, and goes into a commit.
    let test = r#"printf '#[cfg(test)]\n#[test]\nfn reviewed() {\n    assert_eq!(AhoCorasick::new(["a"]).unwrap().patterns_len(), 2);\n}\n'"#;
    let broken = at_home(&scene, &format!("{test} >> src/lib.rs; cargo test --offline --quiet --lib reviewed"))?;
    if broken.status.success()
        || !String::from_utf8_lossy(&broken.stdout).contains("test result: FAILED. 0 passed; 1 failed")
    {
        return Err(format!("the mistake was not found: {}", printed(&broken)).into());
    }
    let script = "sed -i 's/patterns_len(), 2)/patterns_len(), 1)/' src/lib.rs; \
                  cargo test --offline --quiet --lib -- reviewed packed::api; \
                  git -c user.name=Ann -c user.email=ann@example.com commit --quiet -am reviewed; \
                  git status --porcelain; echo done";
    let mended = at_home(&scene, script)?;
    succeeded("cargo test", &mended)?;
    let shown = String::from_utf8_lossy(&mended.stdout);
    if !shown.contains("test result: ok") || !shown.ends_with("done\n") {
        return Err(printed(&mended).into());
    }
    // What was built inside is taken up outside: nothing is built twice, and the history is there.
    if scene.git(&["log", "--format=%s"])? != "reviewed\npublished\n" {
        return Err("the commit is not there".into());
    }
    scene.git(&["fsck", "--strict"])?;
    Ok(())
}

fn python() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.write("pkg/greeting.py", "def hello(name):\n    return 'hello ' + name\n")?;
    scene.write(
        "pkg/test_greeting.py",
        "import unittest, greeting\nclass T(unittest.TestCase):\n    def test(self):\n        \
         self.assertEqual(greeting.hello('ann'), 'hello ann')\n",
    )?;
    let script = "python3 -m venv --copies venv && . venv/bin/activate && pip --version && \
                  pip install --no-index --quiet no-such-package-anywhere 2>&1 | grep -c 'No matching' && \
                  cd pkg && python -m unittest -q && python -c 'import sys, greeting; print(sys.prefix)'";
    let shown = scene.inside_ok(script)?;
    if !shown.contains("pip ") || !shown.trim_end().ends_with("/repo/venv") {
        return Err(format!("inside: {shown}").into());
    }
    // The environment works outside as well: it was made at its own path.
    let outside = scene.outside_ok("venv/bin/python -c 'import sys; print(sys.prefix)'")?;
    if !outside.trim_end().ends_with("/repo/venv") {
        return Err(format!("outside: {outside}").into());
    }
    Ok(())
}

fn c() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.write(
        "main.c",
        "#include <stdio.h>\nint add(int, int);\nint main(void) { printf(\"%d\\n\", add(40, 2)); }\n",
    )?;
    scene.write("add.c", "int add(int a, int b) { return a + b; }\n")?;
    scene.write("Makefile", "prog: main.o add.o\n\t$(CC) -o $@ $^\ntest: prog\n\t./prog | grep -x 42\n")?;
    scene.inside_ok("make -j2 prog && make test")?;
    // Built outside, nothing is left to do inside, and the other way round: times and owners are the same.
    let again = scene.outside_ok("make prog; touch add.c; make prog")?;
    if !again.contains("'prog' is up to date") || !again.contains("-o add.o") {
        return Err(format!("outside: {again}").into());
    }
    let inside = scene.inside_ok("make prog; ./prog")?;
    if !inside.contains("'prog' is up to date") || !inside.ends_with("42\n") {
        return Err(format!("inside: {inside}").into());
    }
    Ok(())
}

fn git() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.git(&["clone", "--quiet", "--bare", ".", "../origin.git"])?;
    scene.inside_ok(
        "set -e
         git switch --quiet -c feature; echo a > a; git add a; git commit --quiet -m a
         echo b >> notes.txt; git stash --quiet; git stash pop --quiet; git commit --quiet -am b
         git switch --quiet main; echo m > m; git add m; git commit --quiet -m m
         git switch --quiet feature; git rebase --quiet main
         git switch --quiet main; git merge --quiet --ff-only feature
         git tag v1; git branch -d feature; git revert --no-edit HEAD >/dev/null; git reset --quiet --hard v1
         git log --oneline --graph >/dev/null; git blame notes.txt >/dev/null; git gc --quiet; git status --porcelain",
    )?;
    if scene.git(&["log", "--format=%s"])? != "b\na\nm\nsecond\nfirst\n"
        || !scene.git(&["status", "--porcelain"])?.is_empty()
    {
        return Err(format!("history: {}", scene.git(&["log", "--format=%s"])?).into());
    }
    scene.git(&["fsck", "--strict"])?;
    if !fs::read_to_string(scene.path(".env"))?.contains(SECRET) {
        return Err("the secret was changed".into());
    }
    Ok(())
}
