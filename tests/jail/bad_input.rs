//! Bad input and a bad environment: a clear message and nothing started, or the jail as promised. Never a looser one, and
//! never a changed workspace.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::checks::{ensure, unchanged};
use crate::needs::{Need, Needing, test, test_with};
use crate::scene::{SECRET, Scene, printed, succeeded};

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("sv_012_a_malformed_policy_of_every_source_starts_nothing", malformed_policies),
        test("sv_012_a_project_policy_that_is_no_file_starts_nothing", odd_project_policies),
        test("sv_013_sizes_that_wrap_start_nothing", sizes_that_wrap),
        test("a_missing_command_is_125", missing_command),
        test("fs_019_a_removed_start_directory_starts_nothing", removed_directory),
        test("fs_019_workspaces_that_are_too_broad_start_nothing", broad_workspaces),
        test("fs_019_a_linked_start_directory_is_the_real_one", linked_directory),
        test("fs_015_a_directory_swapped_for_a_link_shows_nothing", swapped_directory),
        test("an_unreadable_directory_is_no_obstacle", unreadable_directory),
        test("symbolic_links_in_circles_are_no_obstacle", circles),
        test("names_that_are_no_text_pass_unchanged", names_that_are_no_text),
        test("a_secret_a_thousand_directories_deep_is_hidden", deep),
        test("pipes_sockets_and_devices_with_hidden_names_are_blank", odd_files),
        test("odd_git_entries_cannot_be_replaced", odd_git),
        test("a_hundred_thousand_hidden_files_in_one_directory", many_in_one),
        test("a_hundred_thousand_hidden_files_in_many_directories", many_in_many),
        test("a_low_limit_of_open_files_starts_nothing_or_works", few_descriptors),
        test("arguments_that_are_too_long_are_126", long_arguments),
        test("closed_standard_descriptors_are_no_obstacle", closed_descriptors),
        test("odd_home_and_path_are_no_obstacle", odd_environment),
        test("odd_runtime_directories", odd_runtime),
        test_with("few_inotify_watches", Need::Ordinary, few_watches),
        test_with("without_proc_nothing_starts", Need::Program("unshare"), without_proc),
    ]
}

/// The script whose traces say whether anything ran.
const TRACE: &[&str] = &["sh", "-c", "echo ran | tee ran"];

fn run(scene: &Scene, flags: &[&str]) -> Command {
    let mut command = scene.run_with(flags);
    command.args(TRACE);
    command
}

/// Nothing ran, and the message names what is wrong and what to do.
fn refused(output: &Output, names: &[&str]) -> Result<(), Failed> {
    let text = String::from_utf8_lossy(&output.stderr);
    ensure(output.status.code() == Some(125), || format!("{}: {}", output.status, printed(output)))?;
    ensure(output.stdout.is_empty(), || format!("something ran: {}", printed(output)))?;
    ensure(text.starts_with("error: ") || text.contains("\nerror: "), || format!("no message: {text}"))?;
    for name in names {
        ensure(text.contains(name), || format!("{name:?} is not named: {text}"))?;
    }
    Ok(())
}

/// As [`refused`], with a hint, and with the workspace as it was.
fn refuses(scene: &Scene, command: &mut Command, names: &[&str]) -> Result<(), Failed> {
    let before = Scene::listing(&scene.workspace())?;
    let output = command.output()?;
    refused(&output, names)?;
    ensure(String::from_utf8_lossy(&output.stderr).contains("hint: "), || format!("no hint: {}", printed(&output)))?;
    unchanged(&before, &Scene::listing(&scene.workspace())?)
}

fn malformed_policies() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let user = scene.home().join(".config/jail/policy.toml");
    let flag = scene.outside("policy.toml");
    let project = scene.path(".jail.toml");
    for (path, flags) in [(&user, vec![]), (&flag, vec!["--policy", "../../policy.toml"]), (&project, vec![])] {
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        for (text, place) in [
            (&b"[[allow\n"[..], ":1:"),
            (b"[filesystem]\nhidden = [\"x\"]\n", ":2:"),
            (b"[filesystem]\nhide = 7\n", ":2:"),
            (b"[limits]\ntime = \"\"\n", ":2:"),
            (b"\xff\xfe[limits]\n", ":1"),
            (b"[secrets]\nscan = \"maybe\"\n", ":2:"),
        ] {
            fs::write(path, text)?;
            let before = Scene::listing(&scene.workspace())?;
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let output = run(&scene, &flags).output()?;
            refused(&output, &[&format!("{name}{place}")]).map_err(|failed| {
                format!("{path:?} {:?}: {}", text.escape_ascii().to_string(), failed.message().unwrap_or_default())
            })?;
            unchanged(&before, &Scene::listing(&scene.workspace())?)?;
        }
        fs::remove_file(path)?;
    }
    refuses(&scene, &mut run(&scene, &["--policy", "/nonexistent/policy.toml"]), &["/nonexistent/policy.toml"])?;
    // The same scene without the mistakes.
    succeeded("run", &run(&scene, &[]).output()?)
}

fn odd_project_policies() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let path = scene.path(".jail.toml");
    let refuse = |what: &str| {
        let output = run(&scene, &[]).output()?;
        refused(&output, &[".jail.toml", "hint: "])
            .map_err(|failed| Failed::from(format!("{what}: {}", failed.message().unwrap_or_default())))
    };
    fs::create_dir(&path)?;
    refuse("directory")?;
    fs::remove_dir(&path)?;
    for target in ["/etc/passwd", "/nonexistent", ".jail.toml"] {
        symlink(target, &path)?;
        refuse(target)?;
        fs::remove_file(&path)?;
    }
    mkfifo(&path, Mode::S_IRWXU)?;
    refuse("FIFO")?;
    fs::remove_file(&path)?;
    fs::File::create(&path)?.set_len(3 << 30)?;
    refuse("3 GiB")?;
    ensure(!scene.path("ran").exists(), || "it ran".to_owned())
}

fn sizes_that_wrap() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let policy = scene.outside("policy.toml");
    for line in [
        "memory = \"18446744073709551616\"",
        "memory = \"16777216TiB\"",
        "memory = -1",
        "processes = -1",
        "processes = 0",
        "processes = 18446744073709551616",
        "cpu = -1.0",
        "cpu = nan",
        "cpu = inf",
        "time = \"0\"",
        "time = \"99999999999999999999h\"",
    ] {
        fs::write(&policy, format!("[limits]\n{line}\n"))?;
        let output = run(&scene, &["--policy", &policy.to_string_lossy()]).output()?;
        refused(&output, &["policy.toml:2:"])
            .map_err(|failed| format!("{line}: {}", failed.message().unwrap_or_default()))?;
    }
    ensure(!scene.path("ran").exists(), || "it ran".to_owned())
}

fn missing_command() -> Result<(), Failed> {
    let scene = Scene::new()?;
    for arguments in [&["run"][..], &["run", "--"]] {
        refused(&scene.jail(arguments).output()?, &["<COMMAND>"])?;
    }
    Ok(())
}

fn removed_directory() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let mut command = scene.host("sh");
    command.args(["-c", "mkdir gone && cd gone && rmdir ../gone && exec \"$0\" run -- true"]);
    refuses(&scene, command.arg(env!("CARGO_BIN_EXE_jail")), &["current directory"])
}

fn broad_workspaces() -> Result<(), Failed> {
    let scene = Scene::new()?;
    fs::write(scene.path("file"), "x")?;
    symlink("/", scene.path("root"))?;
    let parent = scene.home().parent().unwrap_or(Path::new("/")).to_owned();
    let file = scene.path("file");
    for place in
        [Path::new("/"), &scene.home(), Path::new("/tmp"), &parent, &scene.path("root"), Path::new("/proc"), &file]
    {
        let name = place.to_string_lossy();
        refuses(&scene, &mut run(&scene, &["--workspace", &name]), &["workspace"])?;
        if place.is_dir() {
            let mut command = scene.jail(&["--quiet", "run", "--", "true"]);
            refuses(&scene, command.current_dir(place), &["workspace"])?;
        }
    }
    refuses(&scene, &mut run(&scene, &["--workspace", "/nonexistent"]), &["/nonexistent"])
}

fn linked_directory() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let link = scene.home().join("link");
    symlink(scene.workspace(), &link)?;
    let mut command = scene.run_with(&[]);
    // PWD lies: it says what the user sees, and could say anything.
    let output = command.args(["sh", "-c", "pwd -P; cat .env"]).current_dir(&link).env("PWD", "/").output()?;
    succeeded("run", &output)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure(text.starts_with(&*scene.workspace().to_string_lossy()) && !text.contains(SECRET), || text.clone())
}

/// A racer on the host exchanges a directory for a link to a private one while jails start.
fn swapped_directory() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let private = scene.home().join("private");
    fs::create_dir_all(private.join(".git"))?;
    fs::write(private.join("file"), SECRET)?;
    fs::write(private.join(".env"), SECRET)?;
    scene.write("sub/file", "public")?;
    scene.write("sub/.env", "TOKEN=1")?;
    scene.write("sub/.claude/settings.json", "{}")?;
    let before = Scene::listing(&private)?;
    ensure(scene.outside_ok("cat ../private/file")? == SECRET, || "no positive control".to_owned())?;
    let stop = AtomicBool::new(false);
    let (sub, aside) = (scene.path("sub"), scene.path("aside"));
    let seen = std::thread::scope(|threads| {
        threads.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = fs::rename(&sub, &aside);
                let _ = symlink(&private, &sub);
                std::thread::sleep(Duration::from_micros(200));
                let _ = fs::remove_file(&sub);
                let _ = fs::rename(&aside, &sub);
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        let seen: Result<Vec<String>, Failed> = (0..30)
            .map(|_| {
                let output = scene
                    .inside("i=0; while [ $i -lt 30 ]; do cat sub/file sub/.env; i=$((i+1)); done 2>/dev/null; true")?;
                // Completed, refused, or stopped because the swapped file could not be hidden again.
                let expected = matches!(output.status.code(), Some(0 | 125)) || output.status.signal() == Some(9);
                ensure(expected, || printed(&output))?;
                Ok(String::from_utf8_lossy(&output.stdout).into_owned())
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        seen
    })?;
    ensure(!seen.iter().any(|text| text.contains(SECRET)), || "a private file was read".to_owned())?;
    ensure(seen.iter().any(|text| text.contains("public")), || "no jail ever started: nothing was shown".to_owned())?;
    unchanged(&before, &Scene::listing(&private)?)
}

fn unreadable_directory() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.write("closed/.env", SECRET)?;
    fs::set_permissions(scene.path("closed"), fs::Permissions::from_mode(0o000))?;
    let output = scene.inside("cat closed/.env; echo ran");
    fs::set_permissions(scene.path("closed"), fs::Permissions::from_mode(0o700))?;
    let output = output?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure(text.ends_with("ran\n") && !text.contains(SECRET), || printed(&output))
}

fn circles() -> Result<(), Failed> {
    let scene = Scene::new()?;
    for (target, link) in [
        ("b", "a"),
        ("a", "b"),
        (".", "self"),
        ("..", "up"),
        ("self/self/up/repo", "far"),
        (".env.local", ".env.prod"),
        (".env.prod", ".env.local"),
    ] {
        symlink(target, scene.path(link))?;
    }
    let before = Scene::listing(&scene.workspace())?;
    let text = scene.inside_ok("cat .env self/.env far/.env 2>/dev/null; echo ran")?;
    ensure(text.ends_with("ran\n") && !text.contains(SECRET), || text.clone())?;
    unchanged(&before, &Scene::listing(&scene.workspace())?)
}

fn names_that_are_no_text() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let odd = |bytes: &'static [u8]| OsStr::from_bytes(bytes).to_owned();
    fs::write(scene.path(odd(b"\xff\xfe.pem")), format!("-----BEGIN PRIVATE KEY-----\n{SECRET}\n"))?;
    fs::create_dir(scene.path(odd(b"d\xff\n")))?;
    fs::write(scene.path(odd(b"d\xff\n/.env")), SECRET)?;
    let before = Scene::listing(&scene.workspace())?;
    let mut command = scene.run_with(&[]);
    command.args(["sh", "-c", "cat d*/.env *.pem | tr -d ' \\n'; printf %s \"$0\" \"$1\""]);
    command.arg(odd(b"arg\xff\x1b")).arg(odd(b"\xc3\x28")).env("LANG", odd(b"\xff"));
    let output = command.output()?;
    succeeded("run", &output)?;
    ensure(output.stdout == b"arg\xff\x1b\xc3\x28", || printed(&output))?;
    unchanged(&before, &Scene::listing(&scene.workspace())?)
}

fn deep() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let script = "i=0; while [ $i -lt 1000 ]; do mkdir d && cd -P d || exit 1; i=$((i+1)); done; echo $0 > .env";
    succeeded("mkdir", &scene.host("sh").args(["-c", script, SECRET]).output()?)?;
    let find = "i=0; while cd -P d 2>/dev/null; do i=$((i+1)); done; echo $i; cat .env";
    ensure(scene.outside_ok(find)?.contains(SECRET), || "no positive control".to_owned())?;
    let text = scene.inside_ok(find)?;
    scene.outside_ok("rm -rf d")?;
    ensure(text.starts_with("1000\n") && !text.contains(SECRET), || text.clone())
}

fn odd_files() -> Result<(), Failed> {
    let scene = Scene::bare()?;
    mkfifo(&scene.path(".env"), Mode::S_IRWXU)?;
    mkfifo(&scene.path("server.pem"), Mode::S_IRWXU)?;
    let _socket = std::os::unix::net::UnixListener::bind(scene.path("id_rsa"))?;
    // A reader of a FIFO would wait for ever.
    let text =
        scene.inside_ok("for f in .env server.pem id_rsa; do timeout 5 cat $f || exit 1; stat -c %F $f; done")?;
    ensure(text.lines().count() == 3 && text.lines().all(|line| line.contains("regular")), || text.clone())
}

/// What stands where a repository should be is protected all the same: the host would obey what takes its place.
fn odd_git() -> Result<(), Failed> {
    let scene = Scene::bare()?;
    let git = scene.path(".git");
    let target = scene.outside("nowhere");
    let makers: [(&str, &dyn Fn() -> std::io::Result<()>); 4] = [
        ("FIFO", &|| mkfifo(&git, Mode::S_IRWXU).map_err(Into::into)),
        ("dangling link", &|| symlink(&target, &git)),
        ("garbage", &|| fs::write(&git, [0xff, 0, 0x1b, b'\n'])),
        ("empty", &|| fs::write(&git, "")),
    ];
    for (what, make) in makers {
        make()?;
        let output = scene.inside("rm -f .git 2>/dev/null; mv .git x 2>/dev/null; mkdir .git 2>/dev/null && echo replaced; test -e x && echo moved; true")?;
        ensure(output.status.success() && output.stdout.is_empty(), || format!("{what}: {}", printed(&output)))?;
        ensure(fs::symlink_metadata(&git).is_ok_and(|found| !found.is_dir()), || format!("{what} is gone"))?;
        fs::remove_file(&git)?;
    }
    Ok(())
}

fn fill(scene: &Scene, directories: usize, files: usize) -> Result<(), Failed> {
    for directory in 0..directories {
        let path = scene.path(format!("keys/{directory}"));
        fs::create_dir_all(&path)?;
        for file in 0..files {
            fs::write(path.join(format!("{file}.key")), "x")?;
        }
    }
    Ok(())
}

/// A refusal that says how to hide them, within seconds.
fn too_many(scene: &Scene, remedy: &str) -> Result<(), Failed> {
    let start = Instant::now();
    let output = run(scene, &[]).output()?;
    refused(&output, &["100", "hint: ", remedy])?;
    let spent = start.elapsed();
    ensure(spent < Duration::from_secs(20), || format!("took {spent:?}"))?;
    // And that works.
    let policy = scene.outside("policy.toml");
    fs::write(&policy, "[filesystem]\nhide = [\"keys/\"]\n")?;
    let mut command = scene.run_with(&["--policy", &policy.to_string_lossy()]);
    let output = command.args(["sh", "-c", "ls keys | wc -l"]).output()?;
    succeeded("run", &output)?;
    ensure(output.stdout == b"0\n", || printed(&output))
}

fn many_in_one() -> Result<(), Failed> {
    let scene = Scene::new()?;
    fill(&scene, 1, 100_000)?;
    too_many(&scene, "hide = [")
}

fn many_in_many() -> Result<(), Failed> {
    let scene = Scene::new()?;
    fill(&scene, 125, 800)?;
    let most = fs::read_to_string("/proc/sys/fs/mount-max").ok().and_then(|text| text.trim().parse::<u32>().ok());
    ensure(most.is_none_or(|most| most <= 100_000), || {
        "this machine allows more mounts than the test makes".to_owned()
    })?;
    too_many(&scene, "fs.mount-max")
}

fn few_descriptors() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let before = Scene::listing(&scene.workspace())?;
    let mut worked = 0;
    for number in [4, 5, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 32, 48, 64] {
        let script = format!("ulimit -n {number}; exec \"$0\" --quiet run -- sh -c 'cat .env; echo ran'");
        let output = scene.host("sh").args(["-c", &script, env!("CARGO_BIN_EXE_jail")]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure(!text.contains(SECRET), || format!("{number}: {text}"))?;
        if output.status.success() {
            ensure(text.ends_with("ran\n"), || format!("{number}: {}", printed(&output)))?;
            worked += 1;
        } else {
            refused(&output, &[]).map_err(|failed| format!("{number}: {}", failed.message().unwrap_or_default()))?;
        }
        unchanged(&before, &Scene::listing(&scene.workspace())?)?;
    }
    ensure(worked > 0, || "not even with 64".to_owned())
}

fn long_arguments() -> Result<(), Failed> {
    let scene = Scene::new()?;
    // The same words with the jail's own around them are just short enough for `jail`; the script adds what is too much.
    let script = "exec sh -c : $(seq 600000)";
    let output = scene.inside(script)?;
    let control = scene.host("sh").args(["-c", script]).output()?;
    ensure(output.status.code() == control.status.code(), || format!("{} {}", control.status, printed(&output)))?;
    let many: Vec<String> = (0..50_000).map(|number| number.to_string()).collect();
    let output = scene.run_with(&[]).args(["sh", "-c", "echo $#", "sh"]).args(&many).output()?;
    ensure(output.stdout == b"50000\n", || printed(&output))
}

fn closed_descriptors() -> Result<(), Failed> {
    let scene = Scene::new()?;
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let _ = fs::remove_file(scene.path("ran"));
        let script = format!("\"$0\" run -- sh -c 'cat .env > seen; echo out; echo err >&2; echo ran > ran' {closed}");
        let output = scene.host("sh").args(["-c", &script, env!("CARGO_BIN_EXE_jail")]).output()?;
        ensure(scene.path("ran").exists(), || format!("{closed}: {}", printed(&output)))?;
        let seen = fs::read_to_string(scene.path("seen"))?;
        ensure(!seen.contains(SECRET), || format!("{closed}: {seen}"))?;
        // No file that the supervisor opened took the place of a closed descriptor.
        for entry in fs::read_dir(scene.outside("state/jail/sessions"))? {
            let text = fs::read_to_string(entry?.path())?;
            for line in text.lines() {
                ensure(line.starts_with('{') && line.ends_with('}'), || format!("{closed}: in the record: {line}"))?;
            }
        }
    }
    Ok(())
}

fn odd_environment() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let cases: [(&str, Option<&str>); 6] = [
        ("HOME", None),
        ("HOME", Some("relative")),
        ("HOME", Some("/nonexistent/home")),
        ("PATH", None),
        ("PATH", Some("")),
        ("XDG_STATE_HOME", Some("relative")),
    ];
    for (name, value) in cases {
        let mut command =
            scene.jail(&["--quiet", "run", "--", "/bin/sh", "-c", "cat .env; ls $HOME/.ssh 2>/dev/null; echo ran"]);
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
        let output = command.output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure(!text.contains(SECRET), || format!("{name}={value:?}: {text}"))?;
        // Works, or says what is wrong.
        if !output.status.success() {
            refused(&output, &["hint: "])
                .map_err(|failed| format!("{name}={value:?}: {}", failed.message().unwrap_or_default()))?;
        }
    }
    Ok(())
}

fn odd_runtime() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let long = scene.outside("x".repeat(100));
    fs::create_dir(&long)?;
    refuses(&scene, run(&scene, &[]).env("XDG_RUNTIME_DIR", &long), &["control.sock"])?;
    let open = scene.outside("open");
    fs::create_dir_all(open.join("jail"))?;
    fs::set_permissions(open.join("jail"), fs::Permissions::from_mode(0o777))?;
    refuses(&scene, run(&scene, &[]).env("XDG_RUNTIME_DIR", &open), &["session directory"])?;
    // A link into somebody's directory is not followed.
    fs::remove_dir(open.join("jail"))?;
    symlink(scene.home(), open.join("jail"))?;
    refuses(&scene, run(&scene, &[]).env("XDG_RUNTIME_DIR", &open), &["session directory"])?;
    for bogus in [PathBuf::from("/nonexistent"), PathBuf::from("relative"), scene.path("notes.txt")] {
        let output = run(&scene, &[]).env("XDG_RUNTIME_DIR", &bogus).output()?;
        ensure(output.stdout == b"ran\n", || format!("{bogus:?}: {}", printed(&output)))?;
    }
    Ok(())
}

/// `jail` in namespaces of the test's own, after a script.
fn prepared(scene: &Scene, script: &str) -> Command {
    let mut command = scene.host("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.args(["-U", "--map-current-user", "--keep-caps"]);
    }
    command.args(["-m", "sh", "-c", &format!("{script}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_jail")]);
    command.args(["--quiet", "run", "--"]).args(TRACE);
    command
}

fn few_watches() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let mut command = prepared(&scene, "echo 0 > /proc/sys/user/max_inotify_instances");
    refuses(&scene, &mut command, &["inotify"])?;
    // Without watches new secrets are found late, and that is said; or nothing starts.
    let output = prepared(&scene, "echo 2 > /proc/sys/user/max_inotify_watches").output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure(text.contains("inotify"), || printed(&output))?;
    ensure(output.status.success() || output.stdout.is_empty(), || printed(&output))
}

fn without_proc() -> Result<(), Failed> {
    let scene = Scene::new()?;
    refuses(&scene, &mut prepared(&scene, "mount -t tmpfs none /proc"), &["/proc"])
}
