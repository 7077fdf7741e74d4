//! A jail around a repository: the main thing works, and leaves nothing behind.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use libtest_mimic::Failed;

use crate::needs::{Needing, test};
use crate::running::Running;
use crate::scene::{SECRET, Scene, printed, with_input};

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("a_command_runs_and_its_status_comes_back", status_comes_back),
        test("a_signal_that_killed_the_command_is_raised_again", signals_come_back),
        test("a_real_time_signal_ends_the_run_too", real_time_signal),
        test("the_workspace_is_writable_and_the_files_keep_their_owner", workspace_is_writable),
        test("a_secret_is_blank_with_the_same_size_and_time", secret_is_blank),
        test("git_works_inside_and_stays_clean", git_works),
        test("nothing_is_left_behind", nothing_is_left_behind),
        test("standard_input_and_output_pass_unchanged", streams_pass),
        test("a_command_that_does_not_exist_is_127", missing_command),
        test("a_command_that_cannot_be_executed_is_126", not_executable),
    ]
}

fn status_comes_back() -> Result<(), Failed> {
    let scene = Scene::new()?;
    for status in [0, 1, 7, 125, 255] {
        let output = scene.inside(&format!("exit {status}"))?;
        if output.status.code() != Some(status) {
            return Err(format!("{status}: {} {}", output.status, printed(&output)).into());
        }
    }
    Ok(())
}

fn signals_come_back() -> Result<(), Failed> {
    let scene = Scene::new()?;
    for signal in [9, 15, 6] {
        let output = scene.inside(&format!("kill -{signal} $$"))?;
        if output.status.signal() != Some(signal) {
            return Err(format!("{signal}: {} {}", output.status, printed(&output)).into());
        }
    }
    Ok(())
}

/// These signals have no name in most libraries, and init must see the end all the same.
fn real_time_signal() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let script = "echo ready; sh -c 'kill -34 $$'; while [ ! -e go ]; do sleep 0.01; done; kill -40 $$";
    let mut running = Running::start(&scene, &[], script)?;
    scene.write("go", "")?;
    let status = running.wait(Duration::from_secs(20))?;
    if status.code() == Some(128 + 40) { Ok(()) } else { Err(format!("{status}").into()) }
}

fn workspace_is_writable() -> Result<(), Failed> {
    use std::os::unix::fs::MetadataExt;
    let scene = Scene::new()?;
    scene.inside_ok("echo three >> notes.txt && mkdir -p src && echo x > src/new")?;
    assert_eq(&fs::read_to_string(scene.path("notes.txt"))?, "one\ntwo\nthree\n")?;
    let (workspace, new) = (fs::metadata(scene.workspace())?, fs::metadata(scene.path("src/new"))?);
    if (workspace.uid(), workspace.gid()) != (new.uid(), new.gid()) {
        return Err(format!("the new file belongs to {}:{}", new.uid(), new.gid()).into());
    }
    Ok(())
}

fn secret_is_blank() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let script = "cat .env; stat -c '%s %Y %F' .env";
    let outside = scene.outside_ok(script)?;
    if !outside.contains(SECRET) {
        return Err("the positive control did not read the secret".into());
    }
    let inside = scene.inside_ok(script)?;
    if inside.contains(SECRET) || !inside.starts_with(|first: char| first.is_whitespace()) {
        return Err(format!("inside: {inside:?}").into());
    }
    assert_eq(inside.trim(), outside.lines().last().unwrap_or_default())
}

fn git_works() -> Result<(), Failed> {
    let scene = Scene::new()?;
    assert_eq(&scene.inside_ok("git status --porcelain")?, "")?;
    scene.inside_ok(
        "echo x > new && git add new && git commit --quiet -m third && git log -1 --format='%an %s' > log",
    )?;
    assert_eq(&fs::read_to_string(scene.path("log"))?, "Ann third\n")?;
    assert_eq(&scene.git(&["log", "--format=%s"])?, "third\nsecond\nfirst\n")
}

fn nothing_is_left_behind() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let before = Scene::listing(&scene.workspace())?;
    scene.inside_ok("ls -la . .claude .git >/dev/null")?;
    let after = Scene::listing(&scene.workspace())?;
    if before != after {
        return Err(format!("before {before:#?}\nafter {after:#?}").into());
    }
    let sessions: Vec<_> = fs::read_dir(scene.runtime().join("jail"))?.collect();
    if !sessions.is_empty() {
        return Err(format!("left: {sessions:?}").into());
    }
    Ok(())
}

fn streams_pass() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let data: Vec<u8> = (0..1_000_000_u32).flat_map(|number| number.to_le_bytes()).collect();
    let mut command = scene.run_with(&[]);
    command.args(["sh", "-c", "cat; echo problem >&2"]);
    let output = with_input(&mut command, &data)?;
    if output.stdout != data || output.stderr != b"problem\n" {
        return Err(format!("{} of {} bytes came back", output.stdout.len(), data.len()).into());
    }
    Ok(())
}

fn missing_command() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let output = scene.run_with(&[]).arg("no-such-command").output()?;
    if output.status.code() != Some(127) || !String::from_utf8_lossy(&output.stderr).contains("no-such-command") {
        return Err(printed(&output).into());
    }
    Ok(())
}

fn not_executable() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let output = scene.run_with(&[]).arg("./notes.txt").output()?;
    if output.status.code() != Some(126) {
        return Err(format!("{} {}", output.status, printed(&output)).into());
    }
    Ok(())
}

fn assert_eq(actual: &str, expected: &str) -> Result<(), Failed> {
    if actual == expected { Ok(()) } else { Err(format!("{actual:?}, expected {expected:?}").into()) }
}
