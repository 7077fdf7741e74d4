//! Directories that are shown beside the workspace: what is secret or executed by the host there is treated the same.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use libtest_mimic::Failed;

use crate::needs::{Needing, test};
use crate::scene::{SECRET, Scene, printed};

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("fs_001_secrets_in_a_named_directory_are_hidden", secrets_in_named_directory),
        test("fs_004_a_secret_that_appears_in_a_named_directory_is_hidden", appears_in_named_directory),
        test("ps_006_a_second_writable_repository_is_protected", second_repository),
        test("ps_011_absent_settings_in_an_agents_state_cannot_be_created", absent_settings),
    ]
}

fn secrets_in_named_directory() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let other = scene.outside("other");
    fs::create_dir_all(other.join("deep"))?;
    fs::write(other.join("deep/.env"), SECRET)?;
    fs::write(other.join("plain"), "plain\n")?;
    let script = format!("cat {0}/plain {0}/deep/.env", other.display());
    if !scene.outside_ok(&script)?.contains(SECRET) {
        return Err("the positive control did not read the secret".into());
    }
    for flag in ["--read", "--write"] {
        let output = scene.inside_with(&[flag, &other.display().to_string()], &script)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !text.starts_with("plain\n") || text.contains(SECRET) {
            return Err(format!("{flag}: {}", printed(&output)).into());
        }
    }
    Ok(())
}

fn appears_in_named_directory() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let other = scene.outside("other");
    fs::create_dir_all(&other)?;
    let script = format!(
        "touch started; while [ ! -e stop ]; do sleep 0.02; done; sleep 0.3; cat {}/id_rsa; echo",
        other.display()
    );
    let mut command = scene.run_with(&["--read", &other.display().to_string()]);
    let child = command.args(["sh", "-c", &script]).stdout(std::process::Stdio::piped()).spawn()?;
    while !scene.path("started").exists() {
        sleep(Duration::from_millis(5));
    }
    // Whole at once: a file that is hidden between its creation and the first write shows as empty.
    fs::write(scene.outside("new"), SECRET)?;
    fs::rename(scene.outside("new"), other.join("id_rsa"))?;
    scene.write("stop", "")?;
    let output = child.wait_with_output()?;
    if output.stdout.len() < SECRET.len() || String::from_utf8_lossy(&output.stdout).contains(SECRET) {
        return Err(printed(&output).into());
    }
    Ok(())
}

fn second_repository() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let other = Scene::new()?;
    let path = other.workspace().display().to_string();
    let script = format!(
        "cd {path} && echo three >> notes.txt && git commit --quiet -am third && \
         ! echo '[core]' >> .git/config && ! touch .git/hooks/pre-commit && ! mkdir .claude/commands && git log --format=%s"
    );
    let before = fs::read(other.path(".git/config"))?;
    let output = scene.inside_with(&["--write", &path], &script)?;
    if !output.status.success() || output.stdout != b"third\nsecond\nfirst\n" {
        return Err(printed(&output).into());
    }
    if fs::read(other.path(".git/config"))? != before || other.path(".claude").exists() {
        return Err("the second repository was changed or littered".into());
    }
    Ok(())
}

fn absent_settings() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let state = scene.home().join(".claude");
    fs::create_dir_all(state.join("projects"))?;
    // The profile is chosen by the command's name.
    let agent = scene.home().join(".local/bin/claude");
    fs::create_dir_all(scene.home().join(".local/bin"))?;
    fs::write(
        &agent,
        "#!/bin/sh\necho '{\"hooks\":1}' > ~/.claude/settings.json; echo x > ~/.claude/projects/state\n",
    )?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&agent, mode)?;
    let output = scene.run_with(&[]).arg(&agent).output()?;
    if !state.join("projects/state").exists() {
        return Err(format!("the agent could not write its own state: {}", printed(&output)).into());
    }
    if state.join("settings.json").exists() {
        return Err(format!("settings.json was created: {}", printed(&output)).into());
    }
    Ok(())
}
