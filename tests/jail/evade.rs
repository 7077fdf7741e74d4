//! What one run leaves in the workspace to mislead the supervisor after it, or the next run.

use std::fs;
use std::process::{Child, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use crate::needs::{Needing, test};
use crate::scene::{SECRET, Scene, printed, succeeded};
use crate::tries::{has, lacks};

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("fs_006_a_directory_closed_by_an_earlier_run_hides_its_secrets", closed_earlier),
        test("fs_013_a_git_configuration_that_is_a_link_to_a_pipe_does_not_stop_the_supervisor", linked_pipe),
        test("fs_013_a_git_configuration_that_is_a_link_to_a_device_is_not_read", linked_device),
        test("ps_006_a_repository_that_cannot_be_judged_does_not_suppress_the_report", report_suppressed),
    ]
}

fn closed_earlier() -> Result<(), Failed> {
    for mode in ["000", "300", "400"] {
        let scene = Scene::new()?;
        scene.write("config/.env", SECRET)?;
        scene.write("config/deep/id_rsa", SECRET)?;
        scene.inside_ok(&format!("mv config hid; chmod {mode} hid"))?;
        let open = "chmod 755 hid; cat hid/.env hid/deep/id_rsa";
        let output = scene.inside(open)?;
        lacks("inside", &String::from_utf8_lossy(&output.stdout), SECRET)?;
        has("outside", &scene.outside_ok(open)?, SECRET)?;
    }
    Ok(())
}

/// What the jail printed, or an error when it does not end in time.
fn bounded(scene: &Scene, script: &str) -> Result<Output, Failed> {
    let mut child =
        scene.jail(&["run", "--", "sh", "-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        if start.elapsed() > Duration::from_secs(15) {
            end(&mut child);
            return Err("the supervisor does not end".into());
        }
        sleep(Duration::from_millis(10));
    }
    Ok(child.wait_with_output()?)
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn reported(scene: &Scene, script: &str) -> Result<(), Failed> {
    let output = bounded(scene, script)?;
    succeeded(script, &output)?;
    has("the report", &printed(&output), "Makefile: created")
}

fn linked_pipe() -> Result<(), Failed> {
    let scene = Scene::new()?;
    reported(
        &scene,
        "git init -q x && rm x/.git/config && mkfifo pipe && ln -s ../../pipe x/.git/config && echo all: > Makefile",
    )?;
    if !std::os::unix::fs::FileTypeExt::is_fifo(&fs::metadata(scene.path("x/.git/config"))?.file_type()) {
        return Err("the link does not lead to a pipe".into());
    }
    // It is still there when the next run looks.
    succeeded("the next run", &bounded(&scene, "true")?)
}

fn linked_device() -> Result<(), Failed> {
    let scene = Scene::new()?;
    // /dev/zero has no end: it would take the memory of a supervisor that reads it.
    reported(&scene, "git init -q x && ln -sf /dev/zero x/.git/config && echo all: > Makefile")?;
    succeeded("the next run", &bounded(&scene, "true")?)
}

fn report_suppressed() -> Result<(), Failed> {
    for spoil in [
        "printf '[core]\\n\\thooksPath = ..\\n' > x/.git/config",
        "mkdir -p x/.git/modules/1/2/3/4/5/6/7/8/9/10/11/12",
        "head -c 2000000 /dev/zero | tr '\\0' '#' > x/.git/config",
    ] {
        let scene = Scene::new()?;
        reported(&scene, &format!("git init -q x && {spoil} && echo all: > Makefile"))?;
    }
    Ok(())
}
