//! Killing supervisor and init at any moment: nothing keeps running, and nothing stays in the workspace.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::checks::{unchanged, wait_for};
use crate::needs::{Needing, test};
use crate::scene::{Scene, succeeded};

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("killed_at_a_random_moment_nothing_lives_and_nothing_stays", random_moments),
        test("two_jails_in_one_workspace_protect_until_the_last_has_ended", two_jails),
        test("a_killed_jail_does_not_uncover_another", killed_beside_another),
        test("a_killed_jails_journal_removes_only_what_still_is_a_placeholder", only_placeholders),
        test("a_killed_jails_journal_follows_no_link", follows_no_link),
    ]
}

/// How long the rest of a killed jail may live.
const GRACE: Duration = Duration::from_secs(2);

/// Runs the soak in a process of its own, which inherits the orphans of what it kills.
/// `JAIL_SOAK` is the number of kills, 40 by default; `scripts/soak-kill.sh` sets it.
fn random_moments() -> Result<(), Failed> {
    let count = std::env::var("JAIL_SOAK").unwrap_or_else(|_| "40".to_owned());
    let output = Command::new(std::env::current_exe()?).args(["soak", &count]).output()?;
    succeeded("soak", &output)
}

/// `jail-tests soak COUNT`.
pub fn soak(arguments: &[String]) -> Result<String, Failed> {
    let count: u64 = arguments.first().and_then(|count| count.parse().ok()).ok_or("soak COUNT")?;
    nix::sys::prctl::set_child_subreaper(true)?;
    let scene = Scene::new()?;
    let before = Scene::listing(&scene.workspace())?;
    let mounts = mounts(&scene)?;
    // A busy machine needs longer to start one: the moments lie on both sides of it.
    let begun = Instant::now();
    succeeded("a run to measure", &quick(&scene).output()?)?;
    let span = u64::try_from(begun.elapsed().as_micros() * 2)?.max(60_000);
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ u64::from(std::process::id()));
    let mut standing = 0;
    for number in 0..count {
        let victim = Victim::ALL[usize::try_from(number)? % Victim::ALL.len()];
        let moment = Duration::from_micros(random.below(span));
        let at = format!("kill {number} ({victim:?} after {moment:?})");
        let mut jail = start(&scene, "sleep 600 & sleep 600")?;
        std::thread::sleep(moment);
        standing += u64::from(init_of(&jail).is_some());
        victim.kill(&jail)?;
        let _ = jail.wait();
        nobody_left().map_err(|errno| format!("{at}: {errno}"))?;
        if !victim.takes_both() {
            same(&before, &scene, &at)?;
        }
        // Both ways to clean up in turn.
        let next = if number % 2 == 0 { scene.jail(&["ps"]) } else { quick(&scene) };
        succeeded(&at, &{ next }.output()?)?;
        same(&before, &scene, &at)?;
        for place in [scene.runtime().join("jail"), scene.outside("state/jail/leftovers")] {
            let left: Vec<_> = fs::read_dir(&place).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
            if !left.is_empty() {
                let text: Vec<_> = left.iter().map(fs::read_to_string).collect();
                return Err(format!("{at}: left {left:?} {text:?}").into());
            }
        }
        unchanged(&mounts, &self::mounts(&scene)?)
            .map_err(|failed| format!("{at}: mounts: {}", failed.message().unwrap_or_default()))?;
    }
    // A soak that only ever killed before anything was there would show nothing.
    if standing * 8 < count {
        return Err(format!("only {standing} of {count} jails had an init when they were killed").into());
    }
    Ok(format!("{count} kills, {standing} of them with an init"))
}

#[derive(Debug, Clone, Copy)]
enum Victim {
    Supervisor,
    Init,
    Both,
    Group,
    InitThenSupervisor,
}

impl Victim {
    const ALL: [Self; 5] = [Self::Supervisor, Self::Init, Self::Both, Self::Group, Self::InitThenSupervisor];

    /// Whether nobody may be left to clean up.
    fn takes_both(self) -> bool {
        matches!(self, Self::Both | Self::Group | Self::InitThenSupervisor)
    }

    fn kill(self, jail: &Child) -> Result<(), Failed> {
        let supervisor = pid(jail)?;
        match (self, init_of(jail)) {
            (Self::Supervisor, _) => kill(supervisor, Signal::SIGKILL)?,
            (Self::Group, _) => kill(Pid::from_raw(-supervisor.as_raw()), Signal::SIGKILL)?,
            (Self::Init, Some(init)) => {
                let _ = kill(init, Signal::SIGKILL);
            }
            (Self::Both, Some(init)) => {
                // Stopped, it cannot clean up before its turn comes.
                kill(supervisor, Signal::SIGSTOP)?;
                let _ = kill(init, Signal::SIGKILL);
                kill(supervisor, Signal::SIGKILL)?;
            }
            (Self::InitThenSupervisor, Some(init)) => {
                let _ = kill(init, Signal::SIGKILL);
                kill(supervisor, Signal::SIGKILL)?;
            }
            (_, None) => kill(supervisor, Signal::SIGKILL)?,
        }
        Ok(())
    }
}

/// The mounts a jail could leave: at the root, at /proc, and in the scene. Others on this machine come and go.
fn mounts(scene: &Scene) -> Result<Vec<String>, Failed> {
    let base = scene.outside("").to_string_lossy().into_owned();
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    let point = |line: &str| line.split(' ').nth(4).unwrap_or_default().to_owned();
    let ours = |point: &str| point == "/" || point.starts_with("/proc") || point.starts_with(&base);
    Ok(text.lines().filter(|line| ours(&point(line))).map(str::to_owned).collect())
}

/// Waits until every child and inherited orphan is gone.
fn nobody_left() -> Result<(), String> {
    let start = Instant::now();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return Ok(()),
            Ok(WaitStatus::StillAlive) if start.elapsed() < GRACE => std::thread::sleep(Duration::from_millis(1)),
            Ok(WaitStatus::StillAlive) => return Err("a process of the jail still lives".into()),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.to_string()),
        }
    }
}

fn two_jails() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let before = Scene::listing(&scene.workspace())?;
    let masks = || -> Result<serde_json::Value, Failed> {
        let output = scene.jail(&["plan", "--json", "--", "true"]).output()?;
        succeeded("plan", &output)?;
        Ok(serde_json::from_slice::<serde_json::Value>(&output.stdout)?["masks"].clone())
    };
    let alone = masks()?;
    let mut first = start_ready(&scene, "first")?;
    // Nor as something to hide.
    if masks()? != alone || alone.as_array().is_none_or(Vec::is_empty) {
        return Err(format!("a second jail would hide {:?}, alone {alone:?}", masks()?).into());
    }
    let mut second = start_ready(&scene, "second")?;
    let status = scene.outside("second-status");
    // The second sees no placeholders of the first as its own files.
    if !fs::read_to_string(&status).unwrap_or_default().is_empty() {
        return Err(format!("git status inside: {}", fs::read_to_string(&status)?).into());
    }
    end(&scene, &mut first, "first")?;
    if !scene.path(".claude").exists() || !scene.path(".mcp.json").exists() {
        return Err("the first jail's end removed what the second stands on".into());
    }
    // Tries to plant only now.
    let planted = finish(&scene, &mut second, "second")?;
    if planted != "refused\n" {
        return Err(format!("the second jail could plant: {planted}").into());
    }
    same(&before, &scene, "after the last")?;
    nothing_in_state(&scene)
}

fn killed_beside_another() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let before = Scene::listing(&scene.workspace())?;
    for victim in [Victim::Supervisor, Victim::Init, Victim::Both] {
        let mut first = start_ready(&scene, "first")?;
        let mut second = start_ready(&scene, "second")?;
        victim.kill(&first)?;
        let _ = first.wait();
        std::thread::sleep(Duration::from_millis(100));
        succeeded("ps", &scene.jail(&["ps"]).output()?)?;
        if !scene.path(".claude").exists() {
            return Err(format!("{victim:?}: the placeholder is gone while a jail stands on it").into());
        }
        let planted = finish(&scene, &mut second, "second")?;
        if planted != "refused\n" {
            return Err(format!("{victim:?}: the second jail could plant: {planted}").into());
        }
        same(&before, &scene, &format!("{victim:?}"))?;
        nothing_in_state(&scene)?;
    }
    Ok(())
}

fn only_placeholders() -> Result<(), Failed> {
    let scene = Scene::new()?;
    abandon(&scene)?;
    fs::write(scene.path(".claude/settings.json"), "{}")?;
    fs::write(scene.path(".mcp.json"), "{\"mine\": 1}\n")?;
    fs::remove_dir(scene.path(".cursor"))?;
    std::os::unix::fs::symlink("/etc", scene.path(".cursor"))?;
    // The same content, but not the jail's file: another time.
    fs::remove_file(scene.path(".jail.toml"))?;
    fs::write(scene.path(".jail.toml"), "# jail: covered during the run\n")?;
    succeeded("ps", &scene.jail(&["ps"]).output()?)?;
    for (path, stays) in [
        (".claude/settings.json", true),
        (".mcp.json", true),
        (".cursor", true),
        (".jail.toml", true),
        (".codex", false),
        (".gemini", false),
        (".vscode", false),
        (".git/commondir", false),
    ] {
        if fs::symlink_metadata(scene.path(path)).is_ok() != stays {
            return Err(format!("{path}: expected it to {}", if stays { "stay" } else { "be removed" }).into());
        }
    }
    nothing_in_state(&scene)
}

fn follows_no_link() -> Result<(), Failed> {
    let scene = Scene::new()?;
    abandon(&scene)?;
    // Where the journal says `.git` is now a link to a directory that holds the very same placeholder.
    let elsewhere = scene.outside("elsewhere");
    fs::rename(scene.path(".git"), &elsewhere)?;
    std::os::unix::fs::symlink(&elsewhere, scene.path(".git"))?;
    if !elsewhere.join("commondir").exists() {
        return Err("the killed jail left no placeholder in .git".into());
    }
    succeeded("ps", &scene.jail(&["ps"]).output()?)?;
    if !elsewhere.join("commondir").exists() {
        return Err("the journal removed a file through a link".into());
    }
    if scene.path(".claude").exists() {
        return Err("the journal was not worked through".into());
    }
    Ok(())
}

/// A jail of which supervisor and init were killed, with its placeholders left.
fn abandon(scene: &Scene) -> Result<(), Failed> {
    let mut jail = start_ready(scene, "killed")?;
    Victim::Both.kill(&jail)?;
    let _ = jail.wait();
    std::thread::sleep(Duration::from_millis(50));
    if !scene.path(".claude").exists() || !scene.path(".mcp.json").exists() {
        return Err("the killed jail left no placeholders: the test shows nothing".into());
    }
    Ok(())
}

fn start(scene: &Scene, script: &str) -> Result<Child, Failed> {
    let mut command = scene.run_with(&["--write", &scene.outside("talk").to_string_lossy()]);
    command.args(["sh", "-c", script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    fs::create_dir_all(scene.outside("talk"))?;
    fs::set_permissions(scene.outside("talk"), std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    Ok(command.process_group(0).spawn()?)
}

/// A jail that says when it stands, waits for a word, tries to plant, and says what came of it.
fn start_ready(scene: &Scene, name: &str) -> Result<Child, Failed> {
    let talk = scene.outside("talk");
    let talk = talk.display();
    let status = scene.outside(format!("{name}-status"));
    let script = format!(
        "git status --porcelain > {talk}/{name}-status; : > {talk}/{name}-ready; \
         while ! test -e {talk}/{name}-go; do sleep 0.01; done; \
         if mkdir -p .claude/hooks 2>/dev/null || echo x 2>/dev/null > .mcp.json; \
         then echo planted; else echo refused; fi > {talk}/{name}-result"
    );
    for what in ["ready", "go", "result", "status"] {
        let _ = fs::remove_file(scene.outside(format!("talk/{name}-{what}")));
    }
    let jail = start(scene, &script)?;
    wait_for(&scene.outside(format!("talk/{name}-ready")))?;
    fs::copy(scene.outside(format!("talk/{name}-status")), status)?;
    Ok(jail)
}

/// Lets it try, and returns what it says.
fn finish(scene: &Scene, jail: &mut Child, name: &str) -> Result<String, Failed> {
    end(scene, jail, name)?;
    Ok(fs::read_to_string(scene.outside(format!("talk/{name}-result")))?)
}

fn end(scene: &Scene, jail: &mut Child, name: &str) -> Result<(), Failed> {
    fs::write(scene.outside(format!("talk/{name}-go")), "")?;
    let status = jail.wait()?;
    if status.success() { Ok(()) } else { Err(format!("{name}: {status}").into()) }
}

fn quick(scene: &Scene) -> Command {
    let mut command = scene.run_with(&[]);
    command.arg("true");
    command
}

fn pid(jail: &Child) -> Result<Pid, Failed> {
    Ok(Pid::from_raw(i32::try_from(jail.id())?))
}

/// The child of the supervisor that is PID 1 inside, once it is there.
fn init_of(jail: &Child) -> Option<Pid> {
    let text = fs::read_to_string(format!("/proc/{0}/task/{0}/children", jail.id())).ok()?;
    text.split_whitespace().find_map(|word| {
        let status = fs::read_to_string(format!("/proc/{word}/status")).ok()?;
        let inside = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        (inside.split_whitespace().nth(1) == Some("1")).then(|| word.parse().ok().map(Pid::from_raw))?
    })
}

fn same(before: &[String], scene: &Scene, at: &str) -> Result<(), Failed> {
    let after = Scene::listing(&scene.workspace())?;
    unchanged(before, &after).map_err(|failed| format!("{at}: {}", failed.message().unwrap_or_default()).into())
}

fn nothing_in_state(scene: &Scene) -> Result<(), Failed> {
    let left: Vec<_> =
        fs::read_dir(scene.outside("state/jail/leftovers"))?.flatten().map(|entry| entry.path()).collect();
    if left.is_empty() { Ok(()) } else { Err(format!("journal not empty: {left:?}").into()) }
}

/// xorshift64: moments need no better.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
