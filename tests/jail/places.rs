//! Where a jail stands: read-only places, the private home, shared directories of the host, and the start directory.

use std::fs;
use std::os::unix::fs::symlink;

use libtest_mimic::Failed;

use crate::checks::{ensure, same, succeeded, unchanged};
use crate::needs::{Needing, test};
use crate::scene::{SECRET, Scene, printed};

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("fs_016_system_directories_withstand_every_verb", system),
        test("fs_016_a_read_only_path_withstands_every_verb", read_only_path),
        test("fs_016_a_read_only_workspace_withstands_every_verb", read_only_workspace),
        test("fs_016_a_read_only_workspace_shows_no_secret_and_leaves_nothing", read_only_run),
        test("fs_016_a_writable_path_is_writable_and_nothing_beside_it", writable_path),
        test("fs_017_the_home_shows_no_credential_and_not_that_there_is_one", home),
        test("fs_018_shared_directories_are_private", shared),
        test("fs_019_broad_workspaces_are_refused", broad),
        test("fs_019_the_start_directory_decides_and_pwd_does_not", start_directory),
        test("fs_019_a_deleted_directory_refuses_the_start", deleted),
        test("fs_032_tool_chains_of_the_home_cannot_be_changed", tool_chains),
    ]
}

fn system() -> Result<(), Failed> {
    let scene = Scene::new()?;
    for file in ["/usr/bin/env", "/etc/passwd", "/etc/hosts", "/etc/ld.so.cache", "/bin/sh", "/etc/resolv.conf"] {
        let bad = succeeded(&scene.attack(&[], &["write-verbs", file])?);
        ensure(bad.is_empty(), || format!("{file}: {bad:?}"))?;
        ensure(scene.inside_ok(&format!("cat {file} | wc -c"))?.trim() != "0", || format!("{file} is empty"))?;
    }
    let script = "for d in / /usr /usr/bin /etc /bin /lib /dev /proc /proc/sys /sys /var /opt /mnt /srv; do
        mkdir $d/evil-$$ && echo $d; echo x > $d/evil-$$ && echo $d; ln -s x $d/evil-$$ && echo $d; done 2>/dev/null; true";
    same(&scene.inside_ok(script)?.as_str(), &"")?;
    scene.write("control/file", "x")?;
    scene.write("control/other", "x")?;
    let control = succeeded(&scene.attack(&[], &["write-verbs", &scene.path("control/file").display().to_string()])?);
    ensure(control.len() > 15, || format!("positive control: {control:?}"))
}

fn read_only_path() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let shown = scene.home().join("shown");
    fs::create_dir(&shown)?;
    for name in ["file", "other"] {
        fs::write(shown.join(name), "mine")?;
    }
    let (file, directory) = (shown.join("file").display().to_string(), shown.display().to_string());
    ensure(scene.inside(&format!("cat {file}"))?.stdout.is_empty(), || {
        "it is visible without being asked for".to_owned()
    })?;
    same(&scene.inside_with(&["--read", &directory], &format!("cat {file}"))?.stdout, &b"mine".to_vec())?;
    let before = Scene::listing(&shown)?;
    let bad = succeeded(&scene.attack(&["--read", &directory], &["write-verbs", &file])?);
    ensure(bad.is_empty(), || format!("{bad:?}"))?;
    unchanged(&before, &Scene::listing(&shown)?)?;
    let control = succeeded(&scene.attack(&["--write", &directory], &["write-verbs", &file])?);
    ensure(control.len() > 15 && !shown.join("file").exists(), || format!("positive control: {control:?}"))
}

fn read_only_workspace() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.write("d/file", "mine")?;
    scene.write("d/other", "mine")?;
    let before = Scene::listing(&scene.workspace())?;
    let file = scene.path("d/file").display().to_string();
    let bad = succeeded(&scene.attack(&["--read-only"], &["write-verbs", &file])?);
    ensure(bad.is_empty(), || format!("{bad:?}"))?;
    unchanged(&before, &Scene::listing(&scene.workspace())?)?;
    let control = succeeded(&scene.attack(&[], &["write-verbs", &file])?);
    ensure(control.len() > 15, || format!("positive control: {control:?}"))
}

fn read_only_run() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.outside_ok("git init -q sub; mkdir .claude; echo x > .claude/x")?;
    let before = Scene::listing(&scene.workspace())?;
    let script = "cat .env; git status --porcelain; git log --oneline | wc -l; ls -A; echo x > x; echo x > .git/x; echo x > .git/config
        rm -rf .claude sub; echo x > /tmp/x && cat /tmp/x";
    let output = scene.inside_with(&["--read-only"], script)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure(output.status.success() && text.contains("\n2\n") && !text.contains("CANARY"), || printed(&output))?;
    unchanged(&before, &Scene::listing(&scene.workspace())?)
}

fn writable_path() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let (mine, beside) = (scene.home().join("mine"), scene.home().join("beside"));
    for directory in [&mine, &beside] {
        fs::create_dir(directory)?;
        fs::write(directory.join("file"), "before")?;
        fs::write(directory.join(".env"), SECRET)?;
    }
    let script = format!(
        "echo after > {0}/file; echo new > {0}/new; echo evil > {1}/file; echo evil > {0}/../beside/new; cat {0}/.env {1}/.env",
        mine.display(),
        beside.display()
    );
    let output = scene.inside_with(&["--write", &mine.display().to_string()], &script)?;
    ensure(!printed(&output).contains("CANARY"), || printed(&output))?;
    same(&fs::read_to_string(mine.join("file"))?.as_str(), &"after\n")?;
    same(&fs::read_to_string(mine.join("new"))?.as_str(), &"new\n")?;
    same(&fs::read_to_string(beside.join("file"))?.as_str(), &"before")?;
    ensure(!beside.join("new").exists(), || "beside was written".to_owned())
}

const CREDENTIALS: &[&str] = &[
    ".ssh/id_rsa",
    ".ssh/config",
    ".aws/credentials",
    ".config/gcloud/credentials.db",
    ".kube/config",
    ".docker/config.json",
    ".npmrc",
    ".netrc",
    ".gnupg/private-keys-v1.d/x.key",
    ".config/gh/hosts.yml",
    ".git-credentials",
    ".cargo/credentials.toml",
    ".pypirc",
    ".railway/config.json",
    ".cursor/mcp.json",
    ".claude/.credentials.json",
    ".claude.json",
    ".codex/auth.json",
    ".bash_history",
    ".zsh_history",
    ".mozilla/firefox/x/logins.json",
    ".config/google-chrome/Default/Login Data",
    ".local/share/keyrings/login.keyring",
    ".azure/accessTokens.json",
    ".terraform.d/credentials.tfrc.json",
    ".password-store/x.gpg",
    ".vault-token",
    ".pgpass",
    ".my.cnf",
    ".config/op/config",
    "Documents/taxes",
    "other-repo/.env",
];

fn home() -> Result<(), Failed> {
    let scene = Scene::new()?;
    for name in CREDENTIALS {
        let path = scene.home().join(name);
        fs::create_dir_all(path.parent().ok_or("no parent")?)?;
        fs::write(path, SECRET)?;
    }
    let paths: Vec<String> = CREDENTIALS.iter().map(|name| scene.home().join(name).display().to_string()).collect();
    let mut arguments = vec!["read"];
    arguments.extend(paths.iter().map(String::as_str));
    let control = format!("{:?}", scene.attack_outside(&arguments)?);
    ensure(control.matches(SECRET).count() >= CREDENTIALS.len(), || "positive control".to_owned())?;
    for line in scene.attack(&[], &arguments)? {
        let about = line["try"].as_str().unwrap_or_default();
        // Not there at all, rather than there and closed; nothing says that there is one.
        ensure(line["result"] == "ENOENT", || format!("{about}: {line}"))?;
    }
    let listed = scene.inside_ok(
        "ls -A ~; find / -xdev -name '*.key' -path '*home*' 2>/dev/null; ls /home /root 2>/dev/null; true",
    )?;
    ensure(!listed.contains(".ssh") && !listed.contains("Documents") && !listed.contains("other-repo"), || {
        listed.clone()
    })
}

fn shared() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let name = format!("jail-test-{}", std::process::id());
    let places = ["/tmp", "/var/tmp", "/dev/shm"];
    let script: String =
        places.map(|place| format!("cat {place}/{name}; ls -A {place} | wc -l; echo in > {place}/{name}-in;")).concat();
    for place in places {
        fs::write(format!("{place}/{name}"), SECRET)?;
    }
    let seen = scene.inside(&script);
    let outside = scene.outside_ok(&script);
    let reached: Vec<_> =
        places.iter().filter(|place| fs::read(format!("{place}/{name}-in")).is_ok_and(|c| c == b"in\n")).collect();
    let control = reached.len();
    for place in places {
        let _ = fs::remove_file(format!("{place}/{name}"));
        let _ = fs::remove_file(format!("{place}/{name}-in"));
    }
    let seen = String::from_utf8_lossy(&seen?.stdout).into_owned();
    ensure(outside?.matches(SECRET).count() == 3 && control == 3, || "positive control".to_owned())?;
    ensure(!seen.contains("CANARY"), || seen.clone())?;
    // Written by the jail, they are not on the host.
    scene.inside_ok(&script.replace("cat", "true"))?;
    let left: Vec<_> = places.iter().filter(|place| fs::exists(format!("{place}/{name}-in")).unwrap_or(true)).collect();
    ensure(left.is_empty(), || format!("the jail wrote to the host's {left:?}"))?;
    let run = scene.inside_ok(
        "ls -A /run /var/run/; ls /tmp/.X11-unix /run/user /run/docker.sock /run/dbus /run/systemd 2>&1; true",
    )?;
    ensure(!run.contains("user\n") && run.matches("No such file").count() == 5, || run.clone())
}

fn broad() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let mut refused = vec![(scene.home(), vec![]), ("/".into(), vec![]), ("/tmp".into(), vec![])];
    for workspace in ["/", "/tmp", "/usr", "/etc", "/proc", "/dev/shm", "..", "../.."] {
        refused.push((scene.workspace(), vec!["--workspace", workspace]));
    }
    symlink("..", scene.path("up"))?;
    refused.push((scene.workspace(), vec!["--workspace", "up"]));
    for (directory, flags) in refused {
        let mut command = scene.run_with(&flags);
        let output = command.args(["sh", "-c", "echo ran"]).current_dir(&directory).output()?;
        ensure(output.status.code() == Some(125) && output.stdout.is_empty(), || {
            format!("{directory:?} {flags:?}: {}", printed(&output))
        })?;
    }
    // The home as a link, and the home's own repository: neither widens the workspace.
    symlink(scene.home(), scene.outside("link"))?;
    scene.outside_ok("git init -q ..; mkdir ../plain")?;
    let output = scene.run_with(&[]).args(["sh", "-c", "echo ran"]).current_dir(scene.outside("link")).output()?;
    ensure(output.status.code() == Some(125), || printed(&output))?;
    let output =
        scene.run_with(&[]).args(["sh", "-c", "pwd; ls .."]).current_dir(scene.home().join("plain")).output()?;
    same(
        &String::from_utf8_lossy(&output.stdout).into_owned(),
        &format!("{}\nplain\n", scene.home().join("plain").display()),
    )
}

fn start_directory() -> Result<(), Failed> {
    let scene = Scene::new()?;
    scene.write("sub/deep/x", "x")?;
    symlink("home/repo/sub", scene.outside("link"))?;
    let place = |directory: &std::path::Path, pwd: &str, flags: &[&str]| -> Result<String, Failed> {
        let mut command = scene.run_with(flags);
        command.args([
            "sh",
            "-c",
            "/bin/pwd; cat .env ../.env ../../.env 2>/dev/null | tr -d ' \\n'; touch made && rm made && echo writable",
        ]);
        let output = command.current_dir(directory).env("PWD", pwd).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let sub = scene.path("sub").display().to_string();
    same(&place(&scene.path("sub/deep"), "/", &[])?, &format!("{sub}/deep\nwritable\n"))?;
    same(&place(&scene.outside("link"), "/etc", &[])?, &format!("{sub}\nwritable\n"))?;
    // From elsewhere the named workspace is the place.
    let workspace = scene.workspace().display().to_string();
    same(&place(&scene.outside(""), &sub, &["--workspace", &workspace])?, &format!("{workspace}\nwritable\n"))?;
    let link = scene.outside("link").display().to_string();
    same(&place(std::path::Path::new("/"), "/", &["--workspace", &link])?, &format!("{sub}\nwritable\n"))
}

fn deleted() -> Result<(), Failed> {
    let scene = Scene::new()?;
    let jail = scene.jail(&[]).get_program().to_string_lossy().into_owned();
    let script = format!("mkdir gone; cd gone; rmdir ../gone; {jail} run -- sh -c 'echo ran'");
    let output = scene.host("sh").args(["-c", &script]).output()?;
    ensure(output.status.code() == Some(125) && output.stdout.is_empty(), || printed(&output))
}

fn tool_chains() -> Result<(), Failed> {
    let scene = Scene::new()?;
    for name in [
        ".cargo/bin/tool",
        ".local/bin/tool",
        ".npm/_cacache/x",
        ".cache/pip/x",
        ".gradle/init.d/x",
        ".m2/settings.xml",
    ] {
        let path = scene.home().join(name);
        fs::create_dir_all(path.parent().ok_or("no parent")?)?;
        fs::write(path, "mine")?;
    }
    let before = Scene::listing(&scene.home())?;
    let script = "cd; for f in .cargo/bin/tool .cargo/bin/evil .local/bin/tool .local/bin/evil .npm/_cacache/x .cache/pip/x .gradle/init.d/x \
        .m2/settings.xml .cargo/config.toml; do mkdir -p ${f%/*}; echo evil > $f; rm -f $f; echo evil > $f; done 2>/dev/null; true";
    scene.inside_ok(script)?;
    unchanged(&before, &Scene::listing(&scene.home())?)?;
    scene.outside_ok(script)?;
    ensure(Scene::listing(&scene.home())? != before, || "positive control".to_owned())
}
