//! What the host replaces or creates during the run is hidden and protected too.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use crate::needs::{Need, Needing, test, test_with};
use crate::scene::{SECRET, Scene, printed};

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("fs_005_a_secret_that_an_editor_saved_again_is_hidden_again", saved_again),
        test("fs_004_a_secret_that_appears_later_is_hidden", appears_later),
        test("fs_004_a_secret_in_a_directory_that_appears_later_is_hidden", appears_in_new_directory),
        test("secrets_that_appear_as_the_run_ends_do_not_change_how_it_ends", appear_at_the_end),
        test("a_protected_file_that_the_host_replaced_is_protected_again", protected_again),
        test("sv_018_a_flood_of_hidden_names_does_not_stall_the_watcher", flooded),
        test_with(
            "fs_006_a_directory_that_keeps_moving_hides_its_secrets_in_the_end",
            Need::Program("python3"),
            moving,
        ),
        test_with("sv_018_a_flood_of_renames_does_not_uncover_a_secret", Need::Program("python3"), renaming),
        test("a_secret_below_a_covered_directory_is_looked_for_once", below_a_cover),
        test_with("a_secret_that_cannot_be_hidden_ends_the_run_with_125", Need::Program("prlimit"), cannot_be_hidden),
        test("while_the_supervisor_is_stopped_nothing_in_the_jail_goes_on", stopped),
    ]
}

/// The workload renames the directory of a secret without pause while the host saves it again and again.
fn moving() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.write("config/.env", format!("OLD={SECRET}\n"))?;
    let script = "import os, time\n\
                  open('started', 'w').close()\n\
                  while not os.path.exists('enough'):\n    os.rename('config', 'config2'); os.rename('config2', 'config')\n\
                  time.sleep(1)\n\
                  for _ in range(20):\n    print(open('config/.env').read()); time.sleep(0.02)\n";
    for round in 0..5 {
        let _ = fs::remove_file(scene.path("started"));
        let _ = fs::remove_file(scene.path("enough"));
        let mut command = scene.run_with(&[]);
        let child = command.args(["python3", "-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        wait_for(&scene.path("started"))?;
        let mut saved = 0;
        for number in 0..400 {
            fs::write(scene.outside("new"), format!("NEW={SECRET}{number}\n"))?;
            // The directory is away half of the time.
            saved += usize::from(fs::rename(scene.outside("new"), scene.path("config/.env")).is_ok());
            sleep(Duration::from_millis(1));
        }
        scene.write("enough", "")?;
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() || saved == 0 || text.is_empty() || text.contains(SECRET) {
            return Err(format!("round {round}, saved {saved} times: {}", printed(&output)).into());
        }
        if !scene.outside_ok("cat config/.env")?.contains(SECRET) {
            return Err("the positive control did not read the secret".into());
        }
    }
    Ok(())
}

/// A jail that runs a script until the file `stop` appears in the workspace.
struct Running(Child);

impl Running {
    fn start(scene: &Scene, script: &str) -> Result<Self, Failed> {
        let script = format!("touch started; while [ ! -e stop ]; do {script}; sleep 0.01; done");
        let child = scene.run_with(&[]).args(["sh", "-c", &script]).stderr(Stdio::inherit()).spawn()?;
        wait_for(&scene.path("started"))?;
        Ok(Self(child))
    }

    fn stop(mut self, scene: &Scene) -> Result<(), Failed> {
        scene.write("stop", "")?;
        let status = self.0.wait()?;
        if status.success() { Ok(()) } else { Err(format!("{status}").into()) }
    }
}

impl Drop for Running {
    /// A failing test must not leave its jail running.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for(path: &Path) -> Result<(), Failed> {
    let start = Instant::now();
    while !path.exists() {
        if start.elapsed() > Duration::from_secs(20) {
            return Err(format!("{} did not appear", path.display()).into());
        }
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Lets the jail look at a file for a while after the watcher had time; what it read last, and that it is not secret.
fn settle(scene: &Scene, seen: &str) -> Result<String, Failed> {
    sleep(Duration::from_millis(300));
    let _ = fs::remove_file(scene.path(seen));
    wait_for(&scene.path(seen))?;
    sleep(Duration::from_millis(100));
    Ok(String::from_utf8_lossy(&fs::read(scene.path(seen))?).into_owned())
}

const LOOK: &str = "cat FILE > seen.new 2>/dev/null; mv seen.new seen";

fn saved_again() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let running = Running::start(&scene, &LOOK.replace("FILE", ".env"))?;
    for round in 0..5 {
        fs::write(scene.outside("new"), format!("NEW={SECRET}{round}\n"))?;
        fs::rename(scene.outside("new"), scene.path(".env"))?;
        if scene.outside_ok("cat .env")? != format!("NEW={SECRET}{round}\n") {
            return Err("the positive control did not read the new secret".into());
        }
        let seen = settle(&scene, "seen")?;
        if seen.contains(SECRET) || seen.trim() != "" || seen.len() != SECRET.len() + 6 {
            return Err(format!("round {round}: the jail reads {seen:?}").into());
        }
    }
    running.stop(&scene)
}

fn appears_later() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let running = Running::start(&scene, &LOOK.replace("FILE", "config/prod.tfstate .env.local"))?;
    // Whole at once: a file that is hidden between its creation and the first write shows as empty.
    fs::write(scene.outside("new"), format!("LOCAL={SECRET}\n"))?;
    fs::rename(scene.outside("new"), scene.path(".env.local"))?;
    fs::create_dir_all(scene.path("config"))?;
    scene.write("config/prod.tfstate", SECRET)?;
    let seen = settle(&scene, "seen")?;
    if seen.contains(SECRET) || seen.is_empty() {
        return Err(format!("the jail reads {seen:?}").into());
    }
    running.stop(&scene)
}

fn appears_in_new_directory() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let running = Running::start(&scene, &LOOK.replace("FILE", "a/b/c/id_rsa"))?;
    fs::create_dir_all(scene.outside("tree/b/c"))?;
    fs::write(scene.outside("tree/b/c/id_rsa"), SECRET)?;
    fs::rename(scene.outside("tree"), scene.path("a"))?;
    let seen = settle(&scene, "seen")?;
    if seen.contains(SECRET) || seen.is_empty() {
        return Err(format!("the jail reads {seen:?}").into());
    }
    running.stop(&scene)
}

fn protected_again() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let running = Running::start(&scene, "{ echo [core] >> .git/config; } 2>/dev/null || true")?;
    // git writes a new file and renames it over the old one.
    scene.git(&["config", "test.key", "value"])?;
    sleep(Duration::from_millis(300));
    let before = fs::read_to_string(scene.path(".git/config"))?;
    sleep(Duration::from_millis(200));
    let after = fs::read_to_string(scene.path(".git/config"))?;
    if !before.contains("key = value") || before != after {
        return Err(format!("the jail changed .git/config:\n{after}").into());
    }
    running.stop(&scene)
}

/// More messages than the channel between supervisor and init holds, in both directions.
fn flooded() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let flood = "if [ ! -e flooded ]; then mkdir flood; i=0; while [ $i -lt 3000 ]; do : > flood/.env.$i; i=$((i+1)); done; \
                 touch flooded; fi; ";
    let running = Running::start(&scene, &(flood.to_owned() + &LOOK.replace("FILE", ".env")))?;
    wait_for(&scene.path("flooded"))?;
    sleep(Duration::from_secs(2));
    fs::write(scene.outside("new"), format!("NEW={SECRET}\n"))?;
    fs::rename(scene.outside("new"), scene.path(".env"))?;
    if !scene.outside_ok("cat .env")?.contains(SECRET) {
        return Err("the positive control did not read the new secret".into());
    }
    let seen = settle(&scene, "seen")?;
    if seen.contains(SECRET) || seen.is_empty() {
        return Err(format!("the jail reads {seen:?}").into());
    }
    running.stop(&scene)
}

/// The command stops itself and leaves a process behind that goes on looking.
fn stopped() -> Result<(), Failed> {
    use std::os::unix::process::CommandExt;
    let scene = Scene::new()?;
    let look = LOOK.replace("FILE", ".env");
    let script = format!(
        "setsid sh -c 'while [ ! -e stop ]; do {look}; sleep 0.01; done' & \
         while [ ! -e seen ]; do sleep 0.01; done; kill -STOP $$; wait"
    );
    // A process group of its own, or the tests would stop with it.
    let child = scene.run_with(&[]).args(["sh", "-c", &script]).stderr(Stdio::inherit()).process_group(0).spawn()?;
    let running = Running(child);
    let status = format!("/proc/{}/stat", running.0.id());
    let start = Instant::now();
    while !fs::read_to_string(&status)?.contains(") T ") {
        if start.elapsed() > Duration::from_secs(20) {
            return Err("the supervisor did not stop with the command".into());
        }
        sleep(Duration::from_millis(5));
    }
    fs::remove_file(scene.path("seen"))?;
    fs::write(scene.outside("new"), format!("NEW={SECRET}\n"))?;
    fs::rename(scene.outside("new"), scene.path(".env"))?;
    if !scene.outside_ok("cat .env")?.contains(SECRET) {
        return Err("the positive control did not read the new secret".into());
    }
    sleep(Duration::from_millis(500));
    if let Ok(seen) = fs::read_to_string(scene.path("seen")) {
        return Err(format!("with the supervisor stopped the jail goes on and reads {seen:?}").into());
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(running.0.id())?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT)?;
    wait_for(&scene.path("seen"))?;
    let seen = fs::read_to_string(scene.path("seen"))?;
    if seen.contains(SECRET) {
        return Err(format!("after it continued the jail reads {seen:?}").into());
    }
    running.stop(&scene)
}

/// The supervisor still has things to tell when init has ended.
fn appear_at_the_end() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let mut hidden = 0;
    for round in 0..5 {
        let script = format!("for number in $(seq 100); do echo x > .env.{round}.$number; done; exit 7");
        let output = scene.inside_with(&[], &script)?;
        if output.status.code() != Some(7) {
            return Err(printed(&output).into());
        }
        hidden += scene.outside_ok("ls .env.*")?.lines().count();
    }
    if hidden > 0 { Ok(()) } else { Err("no secret appeared".into()) }
}

/// The workload renames directories faster than anybody can look at them, while the host saves one secret and makes another.
fn renaming() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let script = "import os, time\n\
                  for i in range(8):\n\
                  \x20   if os.fork() == 0:\n\
                  \x20       a, b = 'a%d' % i, 'b%d' % i\n\
                  \x20       os.mkdir(a)\n\
                  \x20       while not os.path.exists('stop'):\n\
                  \x20           for _ in range(2000): os.rename(a, b); os.rename(b, a)\n\
                  \x20       os._exit(0)\n\
                  open('started', 'w').close()\n\
                  while not os.path.exists('look'): time.sleep(0.01)\n\
                  print(len(open('.env').read()), len(open('fresh/.env').read()))\n\
                  print(open('.env').read(), open('fresh/.env').read(), flush=True)\n\
                  open('stop', 'w').close()\n";
    let mut command = scene.run_with(&[]);
    let child = command.args(["python3", "-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    wait_for(&scene.path("started"))?;
    sleep(Duration::from_millis(500));
    fs::create_dir(scene.path("fresh"))?;
    for path in [".env", "fresh/.env"] {
        fs::write(scene.outside("new"), format!("NEW={SECRET}\n"))?;
        fs::rename(scene.outside("new"), scene.path(path))?;
    }
    sleep(Duration::from_secs(4));
    scene.write("look", "")?;
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let size = SECRET.len() + 5;
    if !text.starts_with(&format!("{size} {size}\n")) || text.contains(SECRET) {
        return Err(printed(&output).into());
    }
    if !scene.outside_ok("cat .env fresh/.env")?.contains(SECRET) {
        return Err("the positive control did not read the secret".into());
    }
    Ok(())
}

/// The host writes below a directory that is covered inside, where nothing of it can be seen; then in the place of that.
fn below_a_cover() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let running = Running::start(&scene, &LOOK.replace("FILE", ".claude/.env"))?;
    scene.write(".claude/.env", SECRET)?;
    sleep(Duration::from_secs(1));
    let seen = settle(&scene, "seen")?;
    if !seen.is_empty() {
        return Err(format!("behind a cover the jail reads {seen:?}").into());
    }
    fs::rename(scene.path(".claude"), scene.outside("old"))?;
    fs::create_dir(scene.outside("new"))?;
    fs::write(scene.outside("new/.env"), SECRET)?;
    fs::rename(scene.outside("new"), scene.path(".claude"))?;
    if !scene.outside_ok("cat .claude/.env")?.contains(SECRET) {
        return Err("the positive control did not read the secret".into());
    }
    let seen = settle(&scene, "seen")?;
    if seen.contains(SECRET) {
        return Err(format!("the jail reads {seen:?}").into());
    }
    running.stop(&scene)?;
    // Whoever looks for what cannot be found may not look without end, nor write of it.
    let records = scene.outside_ok("cat ../../state/jail/sessions/*.jsonl | wc -l")?;
    if records.trim().parse::<usize>()? > 100 {
        return Err(format!("the record has {records} lines").into());
    }
    Ok(())
}

/// Init has no descriptor left to hide what the host saves.
fn cannot_be_hidden() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let script = "touch started; while [ ! -e stop ]; do sleep 0.01; done";
    let mut command = scene.run_with(&[]);
    let child = command.args(["sh", "-c", script]).stderr(Stdio::piped()).spawn()?;
    let mut running = Running(child);
    wait_for(&scene.path("started"))?;
    let supervisor = running.0.id();
    let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children"))?;
    let init = children.split_whitespace().next().ok_or("no init")?.to_owned();
    scene.outside_ok(&format!("prlimit --pid {init} --nofile=3:3"))?;
    fs::write(scene.outside("new"), format!("NEW={SECRET}\n"))?;
    fs::rename(scene.outside("new"), scene.path(".env"))?;
    let status = running.0.wait()?;
    let mut said = String::new();
    if let Some(mut stderr) = running.0.stderr.take() {
        std::io::Read::read_to_string(&mut stderr, &mut said)?;
    }
    if status.code() != Some(125) || !said.contains("cannot hide .env") {
        return Err(format!("{status}: {said}").into());
    }
    Ok(())
}
