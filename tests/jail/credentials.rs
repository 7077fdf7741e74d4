//! Credentials: inside there are placeholders, and the values are in no process, file, record or message of the jail.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use crate::checks::{ensure, same, wait_for};
use crate::needs::{Needing, test};
use crate::pty::Screen;
use crate::scene::{Scene, printed, succeeded};

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("cr_001_inside_there_are_placeholders_and_no_values", placeholders),
        test("cr_001_no_process_of_the_jail_has_a_value_in_memory", memory),
        test("cr_009_a_source_that_fails_is_named_and_its_value_is_not", failures),
        test("cr_010_a_command_gets_nothing_of_the_jail", isolated),
        test("a_credential_of_another_environment_is_never_read", environments),
        test("production_is_chosen_on_a_terminal", production),
        test("cr_002_a_project_names_no_credential", project),
    ]
}

const VALUES: [&str; 3] = ["envvalue_5Jq1Zx9", "filevalue_8Kw2Yc7", "printed_3Lr6Vt4x"];

/// A scene with a credential from each of three sources, and the policy's file.
fn scene() -> Result<Scene, Failed> {
    let scene = Scene::new()?;
    let value = scene.outside("value");
    fs::write(&value, format!("{}\n", VALUES[1]))?;
    fs::set_permissions(&value, fs::Permissions::from_mode(0o600))?;
    let printed = scene.outside("printed");
    // The policy itself is read before init is cloned, so the value must not stand in it.
    fs::write(&printed, format!("{}\n", VALUES[2]))?;
    let hosts = "hosts = [\"api.example.com\"]\n";
    let policy = [
        format!("[[credential]]\nname = \"one\"\nenv = \"ONE_TOKEN\"\nsource = {{ env = \"HOST_TOKEN\" }}\n{hosts}"),
        format!(
            "[[credential]]\nname = \"two\"\nfile = \"~/.config/two/token\"\ntemplate = \"token = '{{}}'\\n\"\n\
             source = {{ file = {value:?} }}\n{hosts}"
        ),
        format!(
            "[[credential]]\nname = \"three\"\nenv = \"THREE_TOKEN\"\nsource = {{ command = [\"cat\", {printed:?}] }}\n{hosts}"
        ),
        "[environment]\npass = [\"HOST_TOKEN\", \"HOST_*\"]\n".to_owned(),
    ];
    fs::write(scene.outside("policy.toml"), policy.join("\n"))?;
    Ok(scene)
}

fn command(scene: &Scene, flags: &[&str], words: &[&str]) -> Command {
    let policy = scene.outside("policy.toml").display().to_string();
    let mut command = scene.jail(&[&["run", "--policy", &policy], flags, &["--"], words].concat());
    command.env("HOST_TOKEN", VALUES[0]).env("JAIL_LOG", "debug").env("RUST_BACKTRACE", "full");
    command
}

/// The values that are found somewhere.
fn found(text: &[u8]) -> Vec<&'static str> {
    let has = |value: &&str| text.windows(value.len()).any(|window| window == value.as_bytes());
    VALUES.iter().copied().filter(has).collect()
}

fn nothing_in(what: &str, text: &[u8]) -> Result<(), Failed> {
    let found = found(text);
    ensure(found.is_empty(), || format!("{what}: {found:?} in\n{}", String::from_utf8_lossy(text)))
}

/// Everything that was recorded.
fn record(scene: &Scene) -> Result<Vec<u8>, Failed> {
    let mut all = Vec::new();
    for entry in fs::read_dir(scene.outside("state/jail/sessions"))? {
        all.extend(fs::read(entry?.path())?);
    }
    Ok(all)
}

fn placeholders() -> Result<(), Failed> {
    let scene = scene()?;
    let script = "env; cat ~/.config/two/token; cat /proc/*/environ /proc/*/cmdline /proc/*/task/*/environ; \
                  grep -ra value_ / --include=token 2>&1; find / -xdev -name '*token*' -type f -exec cat {} +; true";
    let output = command(&scene, &["--json"], &["sh", "-c", script]).output()?;
    succeeded("jail", &output)?;
    nothing_in("inside", &output.stdout)?;
    nothing_in("standard error", &output.stderr)?;
    let record = record(&scene)?;
    nothing_in("the record", &record)?;
    ensure(String::from_utf8_lossy(&record).contains("\"event\":\"credential\",\"name\":\"three\""), || {
        "the record does not tell that a credential was loaded".to_owned()
    })?;
    // What stands there instead has the shape of the value, and is not the same the next time.
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    let of = |name: &str| {
        let prefix = format!("{name}=");
        shown.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
    };
    same(&of("ONE_TOKEN").map(|value| value.len()), &Some(VALUES[0].len()))?;
    same(&of("THREE_TOKEN").map(|value| value.len()), &Some(VALUES[2].len()))?;
    // `pass` names the variable that holds the value.
    same(&of("HOST_TOKEN"), &None)?;
    let file = shown.lines().find(|line| line.starts_with("token = '")).unwrap_or_default();
    same(&file.len(), &format!("token = '{}'", VALUES[1]).len())?;
    let again = command(&scene, &[], &["sh", "-c", "env"]).output()?;
    ensure(!String::from_utf8_lossy(&again.stdout).contains(&of("ONE_TOKEN").unwrap_or_default()), || {
        "two sessions have the same placeholder".to_owned()
    })?;
    // Outside, everything is there for the taking.
    let control = scene.host("sh").args(["-c", "env"]).env("HOST_TOKEN", VALUES[0]).output()?;
    same(&found(&control.stdout), &vec![VALUES[0]])?;
    same(&found(&fs::read(scene.outside("value"))?), &vec![VALUES[1]])
}

fn memory() -> Result<(), Failed> {
    let scene = scene()?;
    let ready = scene.path("ready");
    let script = format!("cat /proc/1/mem /proc/1/environ >/dev/null 2>&1 && echo READ; touch {ready:?}; sleep 60");
    let child = command(&scene, &[], &["sh", "-c", &script]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let checked = wait_for(&ready).and_then(|()| look_at_memory(child.id()));
    let _ = nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(child.id())?),
        nix::sys::signal::Signal::SIGTERM,
    );
    let output = child.wait_with_output()?;
    checked?;
    ensure(!String::from_utf8_lossy(&output.stdout).contains("READ"), || printed(&output))
}

/// Init and the workload hold no value; the supervisor does, which shows that looking finds them.
fn look_at_memory(supervisor: u32) -> Result<(), Failed> {
    let inits = children(supervisor)?;
    same(&inits.len(), &1)?;
    let workload = children(inits[0])?;
    ensure(!workload.is_empty(), || "the workload does not run".to_owned())?;
    if !nix::unistd::geteuid().is_root() {
        // Who started it cannot look: neither can what runs inside.
        for pid in [supervisor, inits[0]] {
            let refused = fs::File::open(format!("/proc/{pid}/mem")).map_err(|error| error.kind());
            same(&refused.map(drop), &Err(std::io::ErrorKind::PermissionDenied))?;
        }
        return Ok(());
    }
    let mut held = found_in_memory(supervisor)?;
    held.sort_unstable();
    same(&held, &VALUES.to_vec())?;
    for pid in inits.iter().chain(&workload) {
        same(&found_in_memory(*pid)?, &Vec::new())?;
    }
    Ok(())
}

fn children(pid: u32) -> Result<Vec<u32>, Failed> {
    let mut all = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("children"))?;
        all.extend(text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    Ok(all)
}

fn found_in_memory(pid: u32) -> Result<Vec<&'static str>, Failed> {
    let memory = fs::File::open(format!("/proc/{pid}/mem"))?;
    let mut values = Vec::new();
    for line in fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
        let Some((range, rest)) = line.split_once(' ') else { continue };
        let Some((start, end)) = range.split_once('-') else { continue };
        let (start, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        // What was loaded is in memory that can be written.
        if !rest.starts_with("rw") || end - start > 256 << 20 {
            continue;
        }
        let mut bytes = vec![0; usize::try_from(end - start)?];
        if memory.read_exact_at(&mut bytes, start).is_ok() {
            values.extend(found(&bytes));
        }
    }
    values.sort_unstable();
    values.dedup();
    Ok(values)
}

/// The run of a policy that must not start: exit status 125, and the command does not run.
fn refused(scene: &Scene, policy: &str, flags: &[&str], message: &str) -> Result<(), Failed> {
    fs::write(scene.outside("policy.toml"), policy)?;
    let marker = scene.path("ran");
    let output = command(scene, flags, &["touch", &marker.display().to_string()]).output()?;
    same(&output.status.code(), &Some(125))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure(said.contains(message), || format!("{message:?} is not in {said}"))?;
    ensure(said.contains("hint: "), || format!("no hint in {said}"))?;
    ensure(!marker.exists(), || "the command ran all the same".to_owned())?;
    nothing_in("standard error", &output.stderr)?;
    nothing_in("the record", &record(scene).unwrap_or_default())
}

fn failures() -> Result<(), Failed> {
    let scene = scene()?;
    let policy = |source: &str| {
        format!("[[credential]]\nname = \"one\"\nenv = \"ONE\"\nsource = {{ {source} }}\nhosts = [\"a.example.com\"]\n")
    };
    let file = |name: &str, content: &str, mode: u32| -> Result<String, Failed> {
        let path = scene.outside(name);
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(policy(&format!("file = {path:?}")))
    };
    let value = VALUES[1];
    scene.write("inside.txt", value)?;
    let link = scene.path("link");
    std::os::unix::fs::symlink(scene.outside("value"), &link)?;
    let shell = |script: &str| policy(&format!("command = [\"sh\", \"-c\", {script:?}]"));
    let script = scene.write("helper", format!("#!/bin/sh\necho {value}\n"))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    for (policy, message) in [
        (policy("env = \"NOT_THERE\""), "variable NOT_THERE: it is not set"),
        (policy("file = \"/nonexistent/token\""), "No such file"),
        (file("open", value, 0o644)?, "others may read or write it (mode 644)"),
        (file("short", "abc\n", 0o600)?, "it has fewer than 8 letters and digits"),
        (file("empty", "\n", 0o600)?, "it is empty"),
        (file("long", &value.repeat(1000), 0o600)?, "it is longer than 8192 bytes"),
        (file("nul", &format!("{value}\0x"), 0o600)?, "more than one line, or a control character"),
        (policy("file = \"/dev/zero\""), "in "),
        (policy(&format!("file = {:?}", scene.path("inside.txt"))), "which the jail can write to"),
        (policy(&format!("file = {link:?}")), "which the jail can write to"),
        (shell(&format!("echo {value}; echo {value} >&2; exit 3")), "it failed (exit status: 3)"),
        (shell("kill -9 $$"), "it failed (signal: 9"),
        (shell(&format!("yes {value}")), "it prints more than 8192 bytes"),
        (policy("command = [\"sleep\", \"60\"], timeout = \"1s\""), "it did not end within 1 seconds"),
        (
            shell("sleep 60 & exec >&-; sleep 60").replace(" }\n", ", timeout = \"1s\" }\n"),
            "it did not end within 1 seconds",
        ),
        (policy(&format!("command = [{script:?}]")), "which the jail can write to"),
        (policy("command = [\"no-such-program\"]"), "in no directory of PATH"),
        (policy("keyring = \"jail-test-no-such-key\""), "key \"jail-test-no-such-key\" of the kernel's keyring: "),
    ] {
        refused(&scene, &policy, &[], message)?;
    }
    Ok(())
}

fn isolated() -> Result<(), Failed> {
    let scene = scene()?;
    let seen = scene.outside("seen");
    // A program of the workspace, in PATH before all others.
    let planted = scene.write("bin/planted", "#!/bin/sh\necho planted_value_1\n")?;
    fs::set_permissions(&planted, fs::Permissions::from_mode(0o755))?;
    let script = format!(
        "{{ pwd; readlink /proc/self/fd/0; ls -m /proc/$$/fd; tty; env; command -v planted; \
         (: </dev/tty) 2>&1; }} >{seen:?} 2>&1; echo {}",
        VALUES[2]
    );
    let policy = format!(
        "[[credential]]\nname = \"one\"\nenv = \"ONE\"\nsource = {{ command = [\"sh\", \"-c\", {script:?}] }}\n\
         hosts = [\"a.example.com\"]\n"
    );
    fs::write(scene.outside("policy.toml"), policy)?;
    let path = format!("{}:bin:{}", scene.path("bin").display(), std::env::var("PATH")?);
    let output = command(&scene, &[], &["sh", "-c", "echo $ONE"])
        .env("PATH", &path)
        .env("GIT_DIR", scene.path(".git"))
        .stdin(fs::File::open(scene.path("notes.txt"))?)
        .output()?;
    succeeded("jail", &output)?;
    let text = fs::read_to_string(&seen)?;
    let mut lines = text.lines();
    same(&lines.next(), &Some("/"))?;
    same(&lines.next(), &Some("/dev/null"))?;
    // The shell keeps its own from 10 on.
    let descriptors: Vec<&str> = lines.next().unwrap_or_default().split(", ").collect();
    ensure(descriptors.iter().all(|fd| ["0", "1", "2", "10", "11"].contains(fd)), || {
        format!("descriptors {descriptors:?}")
    })?;
    ensure(text.contains("not a tty"), || text.clone())?;
    for absent in ["HOST_TOKEN", "GIT_DIR", "planted", &scene.path("bin").display().to_string(), ":bin:"] {
        ensure(!text.contains(absent), || format!("{absent} in {text}"))?;
    }
    // Whoever asks with the PATH as it was finds the program of the workspace.
    let control = scene.host("sh").args(["-c", "command -v planted"]).env("PATH", &path).output()?;
    same(&String::from_utf8_lossy(&control.stdout).trim().to_owned(), &planted.display().to_string())
}

/// A credential of `environment` whose command leaves a mark.
fn marked(scene: &Scene, environment: &str) -> String {
    let mark = scene.outside(environment);
    let script = format!("touch {mark:?}; echo {environment}_value_123");
    format!(
        "[[credential]]\nname = \"api\"\nenvironment = \"{environment}\"\nenv = \"API\"\n\
         source = {{ command = [\"sh\", \"-c\", {script:?}] }}\nhosts = [\"a.example.com\"]\n"
    )
}

fn take(path: &Path) -> bool {
    fs::remove_file(path).is_ok()
}

fn environments() -> Result<(), Failed> {
    let scene = scene()?;
    let [staging, production] = ["staging", "production"].map(|name| scene.outside(name));
    let policy = [marked(&scene, "staging"), marked(&scene, "production")].concat();
    fs::write(scene.outside("policy.toml"), &policy)?;
    let run = |flags: &[&str]| command(&scene, flags, &["sh", "-c", "echo $API"]).output();
    let length = |output: &Output| output.stdout.trim_ascii().len();
    let output = run(&["--environment", "staging"])?;
    succeeded("jail", &output)?;
    same(&(take(&staging), take(&production), length(&output)), &(true, false, "staging_value_123".len()))?;
    let output = run(&[])?;
    succeeded("jail", &output)?;
    same(&(take(&staging), take(&production), length(&output)), &(false, false, 0))?;
    refused(&scene, &policy, &["--environment", "stagign"], "no credential is for environment \"stagign\"")?;
    // Where it is not protected, it is loaded: that shows that the mark would be seen.
    fs::write(
        scene.outside("policy.toml"),
        format!("{policy}[credentials.environments.production]\nprotected = false\n"),
    )?;
    succeeded("jail", &run(&["--environment", "production"])?)?;
    same(&(take(&staging), take(&production)), &(false, true))
}

fn production() -> Result<(), Failed> {
    let scene = scene()?;
    let mark = scene.outside("production");
    let policy = marked(&scene, "production");
    refused(&scene, &policy, &["--environment", "production"], "this is no interactive terminal")?;
    let chosen = format!("[credentials]\nenvironment = \"production\"\n{policy}");
    refused(&scene, &chosen, &[], "is protected, and no policy chooses it")?;
    let other = format!("[credentials.environments.live]\nprotected = true\n{}", marked(&scene, "live"));
    refused(&scene, &other, &["--environment", "live"], "this is no interactive terminal")?;
    same(&(take(&mark), take(&scene.outside("live"))), &(false, false))?;
    fs::write(scene.outside("policy.toml"), &policy)?;
    let mut screen = Screen::start(&command(&scene, &["--environment", "production"], &["true"]))?;
    let started = Instant::now();
    while !mark.exists() && started.elapsed() < Duration::from_secs(20) {
        sleep(Duration::from_millis(10));
    }
    screen.wait()?;
    ensure(take(&mark), || "on a terminal it was not loaded either".to_owned())
}

fn project() -> Result<(), Failed> {
    let scene = scene()?;
    let mark = scene.outside("staging");
    fs::write(scene.outside("policy.toml"), "")?;
    let own = format!("[credentials]\nenvironment = \"staging\"\n{}", marked(&scene, "staging"));
    scene.write(".jail.toml", &own)?;
    let output = command(&scene, &[], &["sh", "-c", "echo \"[$API]\""]).output()?;
    succeeded("jail", &output)?;
    same(&String::from_utf8_lossy(&output.stdout).trim().to_owned(), &"[]".to_owned())?;
    same(&take(&mark), &false)?;
    // The same text in the user's policy.
    fs::write(scene.outside("policy.toml"), &own)?;
    succeeded("jail", &command(&scene, &[], &["true"]).output()?)?;
    same(&take(&mark), &true)
}
