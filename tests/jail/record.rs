//! The record: nothing runs without one, it says what happened in one line each, and the jail cannot reach it.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::checks::{ensure, same, unchanged};
use crate::needs::{Need, Needing, test, test_with};
use crate::running::{Running, eventually, lives};
use crate::scene::{SECRET, Scene, printed, succeeded};

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("a_run_is_recorded_from_start_to_end", start_and_end),
        test("au_001_the_record_is_not_visible_inside", not_visible),
        test("au_002_one_line_for_each_event_whatever_is_in_it", one_line_each),
        test("au_002_messages_carry_no_escape_sequence", no_escape_sequence),
        test_with("a_full_disk_for_the_record_starts_nothing", Need::Program("unshare"), full_disk),
        test("a_limit_on_file_size_starts_nothing", file_size),
        test("a_state_directory_that_cannot_be_written_starts_nothing", no_state),
        test_with("a_record_that_becomes_unwritable_stops_the_run", Need::Program("prlimit"), becomes_unwritable),
    ]
}

fn directory(scene: &Scene) -> PathBuf {
    scene.outside("state/jail/sessions")
}

/// The events of the scene's only record.
fn events(scene: &Scene) -> Result<Vec<Value>, Failed> {
    let mut files: Vec<_> = fs::read_dir(directory(scene))?.flatten().map(|entry| entry.path()).collect();
    let file = files.pop().ok_or("no record")?;
    ensure(files.is_empty(), || format!("more than one record: {files:?}"))?;
    let text = fs::read_to_string(file)?;
    ensure(text.ends_with('\n'), || "the last line is not complete".to_owned())?;
    text.lines().map(|line| serde_json::from_str(line).map_err(|error| format!("{line}: {error}").into())).collect()
}

fn refuses(scene: &Scene, command: &mut Command, names: &[&str]) -> Result<(), Failed> {
    let before = Scene::listing(&scene.workspace())?;
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure(output.status.code() == Some(125) && output.stdout.is_empty(), || {
        format!("{}: {}", output.status, printed(&output))
    })?;
    for name in names.iter().chain(&["error: ", "hint: "]) {
        ensure(text.contains(name), || format!("{name:?} is not named: {text}"))?;
    }
    unchanged(&before, &Scene::listing(&scene.workspace())?)
}

fn start_and_end() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let output = scene.inside("exit 7")?;
    same(&output.status.code(), &Some(7))?;
    let events = events(&scene)?;
    let kinds: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap_or_default()).collect();
    same(&kinds, &vec!["session-start", "session-end"])?;
    same(&events[0]["command"], &serde_json::json!(["sh", "-c", "exit 7"]))?;
    same(&events[0]["hidden"], &serde_json::json!([".env"]))?;
    same(&events[1]["status"], &serde_json::json!(7))?;
    same(&events[0]["session"], &events[1]["session"])?;
    for (path, mode) in [(directory(&scene), 0o700), (scene.outside("state/jail"), 0o700)] {
        same(&(fs::metadata(path)?.permissions().mode() & 0o777), &mode)?;
    }
    for entry in fs::read_dir(directory(&scene))? {
        same(&(entry?.metadata()?.permissions().mode() & 0o777), &0o600)?;
    }
    Ok(())
}

fn not_visible() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let state = scene.outside("state");
    let script = format!(
        "ls {0} 2>/dev/null; find / -name '*.jsonl' 2>/dev/null; mkdir -p {0}/jail/sessions 2>/dev/null; : > {0}/jail/sessions/x.jsonl; \
         for f in {0}/jail/sessions/*; do echo forged >> $f; done 2>/dev/null; true",
        state.display()
    );
    let output = scene.inside(&script)?;
    ensure(output.stdout.is_empty(), || printed(&output))?;
    let text = scene.outside_ok(&format!("cat {}/jail/sessions/*.jsonl", state.display()))?;
    ensure(text.contains("session-end") && !text.contains("\nforged"), || text.clone())?;
    events(&scene).map(drop)
}

fn one_line_each() -> Result<(), Failed> {
    let scene = Scene::new()?;
    fs::write(
        scene.path("a\n{\"event\":\"forged\"}\x1b[2J\u{9b}2J.pem"),
        format!("-----BEGIN PRIVATE KEY-----\n{SECRET}"),
    )?;
    let long = "x".repeat(100_000);
    let mut command = scene.run_with(&[]);
    command.args(["sh", "-c", "true\n{\"event\":\"forged\"}\n\x1b]0;t\x07\u{9b}31m\u{202e}\u{2028}", &long]);
    command.arg(OsStr::from_bytes(b"\xff\xfe")).args((0..2000).map(|number| number.to_string()));
    let output = command.output()?;
    // The script is nonsense after its first line; what counts is the record.
    ensure(output.status.code().is_some(), || printed(&output))?;
    let events = events(&scene)?;
    same(&events.len(), &2)?;
    let words = events[0]["command"].as_array().ok_or("no command")?;
    ensure(words.len() < 300, || format!("{} words", words.len()))?;
    ensure(words[2].as_str().is_some_and(|word| word.ends_with("\u{9b}31m\u{202e}\u{2028}")), || words[2].to_string())?;
    ensure(words.last().is_some_and(|last| last.to_string().contains("words more")), || "cut silently".to_owned())?;
    for entry in fs::read_dir(directory(&scene))? {
        let text = fs::read_to_string(entry?.path())?;
        ensure(text.len() < 100_000, || format!("{} bytes", text.len()))?;
        let bad = text.chars().find(|c| (c.is_control() && *c != '\n') || matches!(c, '\u{202e}' | '\u{2028}'));
        ensure(bad.is_none(), || format!("{bad:?} in the record"))?;
        ensure(!text.contains(SECRET), || "the secret is in the record".to_owned())?;
    }
    Ok(())
}

fn no_escape_sequence() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let odd = scene.path("d\x1b]52;c;eA==\x07\u{9b}2J");
    fs::create_dir(&odd)?;
    fs::write(odd.join(".jail.toml"), "x = [\n\x1b[2J")?;
    let workspace = odd.to_string_lossy();
    for flags in
        [&["--workspace", &*workspace][..], &["--policy", &*workspace], &["--workspace", "/nonexistent/\x1b[2J"]]
    {
        let output = scene.run_with(flags).arg("true").output()?;
        ensure(output.status.code() == Some(125), || printed(&output))?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure(!text.contains(['\x1b', '\x07', '\u{9b}']), || format!("{text:?}"))?;
    }
    fs::write(odd.join(".jail.toml"), "")?;
    let output = scene.jail(&["run", "--workspace", &workspace, "--", "true"]).output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure(output.status.success() && !text.contains(['\x1b', '\x07', '\u{9b}']), || format!("{text:?}"))
}

/// `jail` in namespaces of the test's own, after a script.
fn prepared(scene: &Scene, script: &str) -> Command {
    let mut command = scene.host("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.args(["-U", "--map-current-user", "--keep-caps"]);
    }
    command.args(["-m", "sh", "-c", &format!("{script}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_jail")]);
    command.args(["--quiet", "run", "--", "sh", "-c", "echo ran | tee ran"]);
    command
}

fn full_disk() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let script = "mkdir -p $XDG_STATE_HOME && mount -t tmpfs -o size=16k none $XDG_STATE_HOME && \
                  head -c 100000 /dev/zero > $XDG_STATE_HOME/fill 2>/dev/null";
    refuses(&scene, &mut prepared(&scene, script), &["record", ".jsonl", "No space left"])?;
    // The same with room.
    let output = prepared(&scene, "mkdir -p $XDG_STATE_HOME && mount -t tmpfs none $XDG_STATE_HOME").output()?;
    succeeded("run", &output)?;
    let script = "mount -t tmpfs -o size=4k,mode=700 none $XDG_RUNTIME_DIR && mkdir -m 700 $XDG_RUNTIME_DIR/jail && \
                  head -c 100000 /dev/zero > $XDG_RUNTIME_DIR/fill 2>/dev/null";
    fs::remove_file(scene.path("ran"))?;
    refuses(&scene, &mut prepared(&scene, script), &["session", "No space left"])
}

fn file_size() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let mut command = scene.host("sh");
    command.args(["-c", "ulimit -f 0; exec \"$0\" --quiet run -- sh -c 'echo ran'", env!("CARGO_BIN_EXE_jail")]);
    refuses(&scene, &mut command, &["record", ".jsonl", "File too large"])
}

fn no_state() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let file = scene.outside("file");
    fs::write(&file, "x")?;
    for place in [file, PathBuf::from("/proc/nowhere")] {
        let mut command = scene.run_with(&[]);
        command.args(["sh", "-c", "echo ran | tee ran"]).env("XDG_STATE_HOME", &place);
        refuses(&scene, &mut command, &["record", &place.to_string_lossy()])?;
    }
    // The journal of what is put into the workspace is kept there too.
    fs::create_dir_all(scene.outside("state/jail"))?;
    fs::write(scene.outside("state/jail/leftovers"), "x")?;
    let mut command = scene.run_with(&[]);
    refuses(&scene, command.args(["sh", "-c", "echo ran | tee ran"]), &["journal", "state/jail/leftovers"])
}

fn becomes_unwritable() -> Result<(), Failed> {
    let scene = Scene::new()?;
    // A pipe: the limit on file size would cut the message too.
    let (mut messages, writer) = std::io::pipe()?;
    let mut command = scene.run_with(&[]);
    command.args(["sh", "-c", "sleep 600 & echo ready; while :; do date > alive; sleep 0.01; done"]);
    command.stderr(writer);
    let mut running = Running::spawn(&scene, command)?;
    let processes = running.processes();
    let limit = format!("--pid={}", running.supervisor());
    let output: Output = Command::new("prlimit").args([&limit, "--fsize=1"]).output()?;
    succeeded("prlimit", &output)?;
    // Something to record: a secret that appears and is hidden.
    fs::write(scene.path(".env.late"), SECRET)?;
    let status = running.wait(Duration::from_secs(10))?;
    let mut text = String::new();
    messages.read_to_string(&mut text)?;
    same(&status.code(), &Some(125))?;
    ensure(text.contains("error: cannot write the record") && text.contains("hint: "), || text.clone())?;
    eventually("everything in the jail is gone", Duration::from_secs(2), || !processes.iter().any(|pid| lives(*pid)))?;
    ensure(processes.len() >= 3, || format!("only {processes:?}"))?;
    ensure(!scene.path(".claude").exists(), || "placeholders are left".to_owned())
}
