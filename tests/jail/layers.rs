//! SV-001, SV-002, AU-008: on a host that lacks a layer nothing starts, the message names the layer and what to do, and
//! `jail doctor` reports exactly that layer.

use std::process::{Command, Output};

use libtest_mimic::Failed;

use crate::checks::{ensure, unchanged};
use crate::needs::{Need, Needing, test, test_with};
use crate::scene::{Scene, printed};

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("sv_001_no_user_namespace_as_under_dockers_filter", dockers_filter),
        test_with("sv_001_no_user_namespace_left_by_sysctl", Need::Program("unshare"), no_namespace_left),
        test_with("sv_001_a_chroot_holds_no_jail", Need::Root, in_a_chroot),
        test("sv_002_clone3_is_not_needed", clone3_is_not_needed),
        test("sv_002_pidfd_calls_are_not_needed", pidfd_calls_are_not_needed),
        test("sv_002_landlock_is_absent", landlock_is_absent),
        test("sv_002_landlock_cannot_be_entered", landlock_cannot_be_entered),
        test("sv_002_landlock_takes_no_rules", landlock_takes_no_rules),
        test("sv_002_seccomp_is_absent", seccomp_is_absent),
        test("sv_002_seccomp_filters_are_refused", seccomp_is_refused),
        test("sv_002_mount_setattr_is_absent", mount_setattr_is_absent),
        test("sv_002_open_tree_is_absent", open_tree_is_absent),
        test("sv_002_fsopen_is_absent", fsopen_is_absent),
        test("sv_002_move_mount_is_refused", move_mount_is_refused),
        test("sv_002_openat2_is_absent", openat2_is_absent),
        test("sv_002_pivot_root_is_refused", pivot_root_is_refused),
        test("sv_002_close_range_is_absent", close_range_is_absent),
        test("sv_002_capabilities_cannot_be_dropped", capabilities_cannot_be_dropped),
        test("sv_002_the_host_name_cannot_be_set", host_name_cannot_be_set),
        test("sv_002_inotify_is_absent", inotify_is_absent),
    ]
}

fn without(calls: &[&str], mut command: Command) -> Result<Command, Failed> {
    let mut launcher = Command::new(std::env::current_exe()?);
    launcher.arg("without").args(calls).arg("--").arg(command.get_program()).args(command.get_args());
    launcher.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(directory) = command.get_current_dir() {
        launcher.current_dir(directory);
    }
    command.stdin(std::process::Stdio::null());
    Ok(launcher)
}

/// Nothing starts without these calls, and everybody says that it is this layer.
fn lacks(layer: &str, calls: &[&str], remedy: &str) -> Result<(), Failed> {
    let scene = Scene::new()?;
    let before = Scene::listing(&scene.workspace())?;
    let output = without(calls, try_run(&scene))?.output()?;
    refused(&output, layer, remedy)?;
    unchanged(&before, &Scene::listing(&scene.workspace())?)?;
    reported(&without(calls, scene.jail(&["doctor", "--json"]))?.output()?, layer, remedy)
}

/// A run that leaves a trace if it starts in any way.
fn try_run(scene: &Scene) -> Command {
    let mut command = scene.run_with(&[]);
    command.args(["sh", "-c", "echo ran | tee ran"]);
    command
}

fn refused(output: &Output, layer: &str, remedy: &str) -> Result<(), Failed> {
    let text = String::from_utf8_lossy(&output.stderr);
    ensure(output.status.code() == Some(125), || format!("{}: {}", output.status, printed(output)))?;
    ensure(output.stdout.is_empty(), || format!("something ran: {}", printed(output)))?;
    ensure(text.contains(&format!("missing: {layer}: without it")), || format!("layer not named: {text}"))?;
    ensure(text.contains("hint: ") && text.contains(remedy), || format!("no remedy {remedy:?}: {text}"))
}

fn reported(output: &Output, layer: &str, remedy: &str) -> Result<(), Failed> {
    ensure(output.status.code() == Some(125), || format!("doctor: {}: {}", output.status, printed(output)))?;
    let lines: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)?;
    let missing: Vec<_> = lines.iter().filter(|line| line["state"] == "missing").collect();
    ensure(missing.len() == 1 && missing[0]["layer"] == layer, || format!("missing: {missing:#?}"))?;
    ensure(missing[0]["remedy"].as_str().is_some_and(|text| text.contains(remedy)), || format!("{missing:#?}"))
}

/// A jail stands without these calls.
fn needs_not(calls: &[&str]) -> Result<(), Failed> {
    let scene = Scene::new()?;
    let output = without(calls, try_run(&scene))?.output()?;
    ensure(output.status.success() && output.stdout == b"ran\n", || printed(&output))?;
    let doctor = without(calls, scene.jail(&["doctor"]))?.output()?;
    ensure(doctor.status.success(), || printed(&doctor))
}

fn dockers_filter() -> Result<(), Failed> {
    lacks("user namespace", &["clone3=ENOSYS", "clone-newuser=EPERM", "unshare=EPERM"], "seccomp=unconfined")
}

/// In a user namespace of its own the test may say that none may follow.
fn no_namespace_left() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let before = Scene::listing(&scene.workspace())?;
    let inside = |arguments: &[&str]| -> Result<Output, Failed> {
        let mut command = scene.host("unshare");
        command.args(["-U", "-m", "--map-current-user", "--keep-caps", "sh", "-c"]);
        command.arg("echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" \"$@\"");
        command.arg(env!("CARGO_BIN_EXE_jail")).args(arguments);
        Ok(command.output()?)
    };
    let output = inside(&["--quiet", "run", "--", "sh", "-c", "echo ran | tee ran"])?;
    refused(&output, "user namespace", "sysctl user.max_user_namespaces=")?;
    unchanged(&before, &Scene::listing(&scene.workspace())?)?;
    reported(&inside(&["doctor", "--json"])?, "user namespace", "sysctl user.max_user_namespaces=")
}

/// The kernel makes no user namespace for a process whose root is not its namespace's.
fn in_a_chroot() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let script = "mkdir $HOME/top && mount --rbind / $HOME/top && \
                  exec chroot $HOME/top \"$0\" \"$@\"";
    let inside = |arguments: &[&str]| -> Result<Output, Failed> {
        let _ = std::fs::remove_dir(scene.home().join("top"));
        let mut command = scene.host("unshare");
        command.args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_jail")]).args(arguments);
        Ok(command.output()?)
    };
    let workspace = scene.workspace();
    let workspace = workspace.to_string_lossy();
    let output = inside(&["--quiet", "run", "--workspace", &workspace, "--", "sh", "-c", "echo ran | tee ran"])?;
    refused(&output, "user namespace", "not in a chroot")?;
    ensure(!scene.path("ran").exists(), || "it ran".to_owned())?;
    reported(&inside(&["doctor", "--json"])?, "user namespace", "not in a chroot")
}

fn clone3_is_not_needed() -> Result<(), Failed> {
    needs_not(&["clone3=ENOSYS"])
}

fn pidfd_calls_are_not_needed() -> Result<(), Failed> {
    needs_not(&["pidfd_open=ENOSYS", "pidfd_send_signal=ENOSYS", "setns=EPERM"])
}

fn landlock_is_absent() -> Result<(), Failed> {
    let calls = ["landlock_create_ruleset=ENOSYS", "landlock_add_rule=ENOSYS", "landlock_restrict_self=ENOSYS"];
    lacks("landlock", &calls, "Linux 5.19")
}

fn landlock_cannot_be_entered() -> Result<(), Failed> {
    lacks("landlock", &["landlock_restrict_self=EPERM"], "Linux 5.19")
}

fn landlock_takes_no_rules() -> Result<(), Failed> {
    lacks("landlock", &["landlock_add_rule=EOPNOTSUPP"], "Linux 5.19")
}

fn seccomp_is_absent() -> Result<(), Failed> {
    lacks("seccomp", &["seccomp=ENOSYS"], "CONFIG_SECCOMP_FILTER")
}

fn seccomp_is_refused() -> Result<(), Failed> {
    lacks("seccomp", &["seccomp=EINVAL"], "CONFIG_SECCOMP_FILTER")
}

fn mount_setattr_is_absent() -> Result<(), Failed> {
    lacks("file system", &["mount_setattr=ENOSYS"], "Linux 5.19")
}

fn open_tree_is_absent() -> Result<(), Failed> {
    lacks("file system", &["open_tree=ENOSYS"], "Linux 5.19")
}

fn fsopen_is_absent() -> Result<(), Failed> {
    lacks("file system", &["fsopen=ENOSYS"], "Linux 5.19")
}

fn move_mount_is_refused() -> Result<(), Failed> {
    lacks("file system", &["move_mount=EPERM"], "seccomp=unconfined")
}

fn openat2_is_absent() -> Result<(), Failed> {
    lacks("file system", &["openat2=ENOSYS"], "Linux 5.19")
}

fn pivot_root_is_refused() -> Result<(), Failed> {
    lacks("private root", &["pivot_root=EPERM"], "seccomp=unconfined")
}

fn close_range_is_absent() -> Result<(), Failed> {
    lacks("capabilities", &["close_range=ENOSYS"], "Linux 5.19")
}

fn capabilities_cannot_be_dropped() -> Result<(), Failed> {
    lacks("capabilities", &["capset=EPERM"], "jail doctor")
}

fn host_name_cannot_be_set() -> Result<(), Failed> {
    lacks("network", &["sethostname=EPERM"], "jail doctor")
}

/// The watcher hides what appears during the run: no run without it.
fn inotify_is_absent() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let output = without(&["inotify_init1=EMFILE"], try_run(&scene))?.output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure(output.status.code() == Some(125) && output.stdout.is_empty(), || printed(&output))?;
    ensure(text.contains("inotify") && text.contains("hint: "), || text.into_owned())
}
