//! PR: what the workload may do as whom, and what the caller's environment brings along.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use libtest_mimic::Failed;

use crate::needs::{Need, Needing, test, test_with};
use crate::running::Running;
use crate::scene::{SECRET, Scene, printed, succeeded};
use crate::tries::{Tries, has, lacks, same};

type Test = Result<(), Failed>;

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("pr_001_no_privilege_is_left_anywhere", no_privilege_is_left),
        test("pr_001_setuid_programs_give_nothing", setuid_programs_give_nothing),
        test_with("pr_001_pr_009_own_setuid_and_capability_files_give_nothing", Need::Root, marked_files_give_nothing),
        test("pr_001_no_set_user_id_file_is_left", no_set_user_id_file_is_left),
        test("pr_003_the_host_user_is_never_root", host_user_is_never_root),
        test_with("pr_003_root_writes_no_system_file", Need::Root, root_writes_no_system_file),
        test_with("pr_004_roots_groups_are_dropped", Need::Root, groups_are_dropped),
        test("pr_004_groups_reach_nothing", groups_reach_nothing),
        test("pr_006_the_environment_is_an_allowlist", environment_is_an_allowlist),
        test("pr_006_a_preloaded_library_stays_outside", preloaded_library_stays_outside),
        test("pr_007_no_helper_is_looked_up", no_helper_is_looked_up),
        test("pr_010_no_core_is_written", no_core_is_written),
        test("pr_010_the_supervisor_shows_its_memory_to_nobody", supervisor_is_not_dumpable),
        test("pr_011_a_jail_in_a_jail_is_a_clear_error", nested_jail_is_a_clear_error),
        test("sv_015_no_switch_turns_it_off", no_switch_turns_it_off),
        test("sv_020_programs_of_the_user_stay", programs_of_the_user_stay),
    ]
}

fn tries(output: &std::process::Output) -> Result<Tries, Failed> {
    succeeded("attack", output)?;
    let lines: Result<Vec<serde_json::Value>, _> =
        String::from_utf8_lossy(&output.stdout).lines().map(serde_json::from_str).collect();
    Ok(lines?.into())
}

fn check_status(status: &Tries) -> Test {
    for place in ["here", "daemon"] {
        same(place, &status.value(&format!("NoNewPrivs {place}"))?, "1")?;
        same(place, &status.value(&format!("Seccomp {place}"))?, "2")?;
        for set in ["Inh", "Prm", "Eff", "Bnd", "Amb"] {
            same(set, &status.value(&format!("Cap{set} {place}"))?, "0000000000000000")?;
        }
    }
    // SECBIT_NOROOT, NO_SETUID_FIXUP, KEEP_CAPS_LOCKED, NO_CAP_AMBIENT_RAISE with their locks.
    same("secure bits", &status.value("secure bits")?, "239")?;
    status.expect(&["raise core limit", "capset everything"], &["EPERM"])?;
    let limit = status.line("core limit")?;
    same("core limit", &format!("{} {}", limit["soft"], limit["hard"]), "0 0")
}

fn no_privilege_is_left() -> Test {
    let scene = Scene::new()?;
    let program = std::env::current_exe()?.display().to_string();
    let control = Tries::from(scene.attack_outside(&["status"])?);
    same("control", &control.value("NoNewPrivs here")?, "0")?;
    same("control", &control.value("Seccomp here")?, "0")?;
    check_status(&scene.attack(&[], &["status"])?.into())?;
    let run = |arguments: &[&str]| -> Result<Tries, Failed> {
        tries(&scene.run_with(&["--read", &program]).args(arguments).output()?)
    };
    check_status(&run(&["sh", "-c", &format!("{program} try status")])?)?;
    check_status(&run(&["setsid", "--fork", "--wait", "sh", "-c", &format!("{program} try status")])?)?;
    let running = Running::start(&scene, &["--read", &program], "echo ready; sleep 60")?;
    check_status(&tries(&scene.jail(&["exec", &running.session, &program, "try", "status"]).output()?)?)?;
    let shell = format!("exec {program} try status");
    check_status(&tries(&scene.jail(&["exec", &running.session, "sh", "-c", &shell]).output()?)?)?;
    // The same commands see the same: files, processes, network.
    let look = "cat .env; ls -A ~ / /dev; cat /proc/net/dev; id; hostname; umask; env | grep -v -e ^_= -e ^PWD= -e ^SHLVL= | sort";
    let first = scene.run_with(&["--read", &program]).args(["sh", "-c", look]).output()?;
    let second = scene.jail(&["exec", &running.session, "sh", "-c", look]).output()?;
    let text = |output: &std::process::Output| -> String {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter(|line| !line.starts_with("JAIL_SESSION=")).collect::<Vec<_>>().join("\n")
    };
    same("in exec", &text(&second), &text(&first))
}

fn setuid_programs_give_nothing() -> Test {
    let scene = Scene::new()?;
    let script = "for f in $(find /usr/bin /usr/sbin /bin -perm /6000 -type f 2>/dev/null); do echo found $f; done; \
                  for c in 'sudo -n id' 'su -c id root' 'newgrp root -c id' 'pkexec id' 'ping -c1 -W1 127.0.0.1' \
                  'mount -t tmpfs none /mnt' 'unshare -r id' 'chroot / id' 'newuidmap 1 0 0 1'; do \
                  timeout 5 $c </dev/null 2>/dev/null && echo worked: $c; done; true";
    let control = scene.outside_ok(script)?;
    has("control", &control, "found ")?;
    let inside = scene.inside_ok(script)?;
    lacks("inside", &inside, "worked:")?;
    lacks("inside", &inside, "uid=0")
}

/// Root marks a copy of the attack program set-user-id, another with file capabilities, and shows both.
fn marked_files_give_nothing() -> Test {
    let scene = Scene::new()?;
    let directory = scene.outside("marked");
    fs::create_dir(&directory)?;
    for above in [scene.outside(""), directory.clone()] {
        fs::set_permissions(&above, fs::Permissions::from_mode(0o755))?;
    }
    let program = std::env::current_exe()?;
    let (setuid, capable) = (directory.join("setuid"), directory.join("capable"));
    fs::copy(&program, &setuid)?;
    fs::set_permissions(&setuid, fs::Permissions::from_mode(0o6755))?;
    fs::copy(&program, &capable)?;
    // struct vfs_cap_data, revision 2 with the effective bit: CAP_CHOWN and CAP_DAC_READ_SEARCH.
    let mut data = [0_u32; 5];
    data[0] = 0x0200_0001;
    data[1] = 0b101;
    let bytes: Vec<u8> = data.iter().flat_map(|word| word.to_le_bytes()).collect();
    fs::write(scene.path("bytes"), bytes)?;
    let set = "import os, sys; os.setxattr(sys.argv[1], 'security.capability', open('bytes', 'rb').read())";
    succeeded("setxattr", &scene.host("python3").args(["-c", set]).arg(&capable).output()?)?;
    let ordinary = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let control = |file: &std::path::Path| -> Result<Tries, Failed> {
        tries(&scene.host("setpriv").args(ordinary).arg(file).args(["try", "status"]).current_dir("/").output()?)
    };
    same("control", &control(&setuid)?.value("effective user")?, "0")?;
    lacks("control", &control(&capable)?.value("CapEff here")?, "0000000000000000")?;
    let shown = directory.display().to_string();
    for file in [&setuid, &capable] {
        let inside = tries(&scene.run_with(&["--read", &shown]).arg(file).args(["try", "status"]).output()?)?;
        if inside.value("effective user")? == "0" {
            return Err(format!("{} gives uid 0", file.display()).into());
        }
        check_status(&inside)?;
    }
    Ok(())
}

/// A set-user-id file in the workspace would run with the rights of the workspace's owner for everybody outside.
fn no_set_user_id_file_is_left() -> Test {
    let scene = Scene::new()?;
    let marked = |directory: &str| -> Result<usize, Failed> {
        let files = fs::read_dir(scene.path(directory))?.flatten();
        Ok(files.filter(|file| file.metadata().is_ok_and(|found| found.mode() & 0o4000 != 0)).count())
    };
    for directory in ["outside", "inside"] {
        fs::create_dir(scene.path(directory))?;
    }
    let control = Tries::from(scene.attack_outside(&["set-user-id", "outside"])?);
    let verbs: Vec<&str> = control.succeeded().collect();
    if verbs.len() < 6 || marked("outside")? != verbs.len() {
        return Err(format!("control: {verbs:?}, {} files", marked("outside")?).into());
    }
    let inside = Tries::from(scene.attack(&[], &["set-user-id", "inside"])?);
    for verb in verbs {
        inside.expect(&[verb], if verb == "openat2" { &["ENOSYS"] } else { &["EPERM"] })?;
    }
    same("set-user-id files", &marked("inside")?.to_string(), "0")?;
    // Other modes are as free as ever.
    scene.inside_ok("touch own && chmod 755 own && chmod g+s . && chmod u+x own && install -m 700 own other")?;
    Ok(())
}

fn host_user_is_never_root() -> Test {
    let scene = Scene::new()?;
    let running = Running::start(&scene, &[], "echo ready; sleep 60")?;
    let processes = running.processes();
    if processes.len() < 2 {
        return Err(format!("only {processes:?}").into());
    }
    let own = nix::unistd::geteuid().as_raw();
    for pid in processes {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        for key in ["Uid:", "Gid:"] {
            let line = status.lines().find(|line| line.starts_with(key)).ok_or("no line")?;
            for id in line.split_whitespace().skip(1) {
                if id == "0" || (own != 0 && key == "Uid:" && id != own.to_string()) {
                    return Err(format!("process {pid} of the jail: {line}").into());
                }
            }
        }
        same(
            "host root's user namespace",
            &(fs::read_link(format!("/proc/{pid}/ns/user")).ok() == fs::read_link("/proc/self/ns/user").ok())
                .to_string(),
            "false",
        )?;
    }
    // And no id inside is mapped to root outside.
    let map = scene.inside_ok("cat /proc/self/uid_map /proc/self/gid_map")?;
    for line in map.lines() {
        let outside: Vec<&str> = line.split_whitespace().collect();
        if outside.get(1) == Some(&"0") || outside.get(2) != Some(&"1") {
            return Err(format!("the map has {line}").into());
        }
    }
    Ok(())
}

fn root_writes_no_system_file() -> Test {
    let scene = Scene::new()?;
    let script = "for f in /etc/shadow /etc/passwd /root/x /etc/cron.d/x /usr/bin/x /boot/x /var/spool/cron/x /dev/x; do \
                  (echo x >> $f) 2>/dev/null && echo wrote $f; cat /etc/shadow 2>/dev/null; done; ls -A /root 2>/dev/null; true";
    let before: Vec<_> = ["/etc/shadow", "/etc/passwd"].iter().map(|path| fs::read(path).ok()).collect();
    let inside = scene.inside_ok(script)?;
    lacks("inside", &inside, "wrote")?;
    lacks("inside", &inside, "root:")?;
    let after: Vec<_> = ["/etc/shadow", "/etc/passwd"].iter().map(|path| fs::read(path).ok()).collect();
    if before != after { Err("a system file changed".into()) } else { Ok(()) }
}

fn groups_are_dropped() -> Test {
    let scene = Scene::new()?;
    let with_groups = |command: &[&str]| -> Result<String, Failed> {
        let output = scene.host("setpriv").args(["--groups", "6,44444"]).args(command).output()?;
        succeeded("setpriv", &output)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.starts_with("Groups:")).ok_or("no groups")?;
        Ok(line.trim_start_matches("Groups:").trim().to_owned())
    };
    same("control", &with_groups(&["cat", "/proc/self/status"])?, "6 44444")?;
    let jail = env!("CARGO_BIN_EXE_jail");
    same("inside", &with_groups(&[jail, "--quiet", "run", "--", "cat", "/proc/self/status"])?, "")?;
    // A file that only the group may read, shown by the policy.
    let file = scene.outside("group-file");
    fs::write(&file, SECRET)?;
    std::os::unix::fs::chown(&file, Some(12_345), Some(44_444))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o040))?;
    let shown = file.display().to_string();
    let control = ["--groups", "44444", "--reuid", "65534", "cat", &shown];
    fs::set_permissions(scene.outside(""), fs::Permissions::from_mode(0o755))?;
    let control = scene.host("setpriv").args(control).current_dir("/").output()?;
    same("control", &String::from_utf8_lossy(&control.stdout), SECRET)?;
    let inside = scene
        .host("setpriv")
        .args(["--groups", "44444", jail, "--quiet", "run", "--read", &shown, "--", "cat", &shown])
        .output()?;
    lacks("inside", &printed(&inside), SECRET)
}

fn groups_reach_nothing() -> Test {
    let scene = Scene::new()?;
    // What membership in docker, kvm, disk, lxd, libvirt or shadow opens is not there.
    let script = "ls /dev/kvm /dev/sd* /dev/vd* /dev/dm-* /dev/mapper /run/docker.sock /run/libvirt /etc/shadow /etc/gshadow \
                  /var/lib/lxd /var/log/syslog /var/log/journal /var/snap 2>/dev/null; true";
    same("inside", &scene.inside_ok(script)?, "")?;
    has("control", &scene.outside_ok(script)?, "/etc/shadow")
}

/// Variables that run code, lead to services, or hold secrets; the caller has them all.
const SCRUBBED: &[&str] = &[
    "LD_LIBRARY_PATH",
    "LD_AUDIT",
    "LD_DEBUG_OUTPUT",
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "MALLOC_CHECK_",
    "PYTHONSTARTUP",
    "PYTHONPATH",
    "NODE_OPTIONS",
    "NODE_PATH",
    "BASH_ENV",
    "ENV",
    "PROMPT_COMMAND",
    "PERL5OPT",
    "PERL5LIB",
    "RUBYOPT",
    "JAVA_TOOL_OPTIONS",
    "RUSTC_WRAPPER",
    "CARGO_REGISTRY_TOKEN",
    "GIT_SSH_COMMAND",
    "GIT_DIR",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_PARAMETERS",
    "GIT_ASKPASS",
    "SSH_ASKPASS",
    "SSH_AUTH_SOCK",
    "HTTP_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "no_proxy",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_PROFILE",
    "GITHUB_TOKEN",
    "GH_TOKEN",
    "NPM_TOKEN",
    "RAILWAY_TOKEN",
    "OPENAI_API_KEY",
    "DATABASE_URL",
    "KUBECONFIG",
    "DOCKER_HOST",
    "DBUS_SESSION_BUS_ADDRESS",
    "LC_SECRET_TOKEN",
    "JAIL_DISABLE",
    "JAIL_CONTROL",
    "BASH_FUNC_ls%%",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "MAIL",
    "OLDPWD",
];

fn environment_is_an_allowlist() -> Test {
    let scene = Scene::new()?;
    let poisoned = |mut command: Command| -> Result<String, Failed> {
        for name in SCRUBBED {
            command.env(name, SECRET);
        }
        // A directory that the resolver would take: jail's own temporary files would go there.
        let output = command.output()?;
        succeeded("env", &output)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let control = poisoned(scene.host("env"))?;
    same("control", &control.matches(SECRET).count().to_string(), &SCRUBBED.len().to_string())?;
    let check = |text: &str| -> Test {
        lacks("environment", text, SECRET)?;
        has("environment", text, "HOME=")?;
        // Everything that is there was put there by the jail or is named in the default profile.
        for line in text.lines() {
            let name = line.split('=').next().unwrap_or_default();
            let known = ["HOME", "PATH", "LANG", "TERM", "USER", "TMPDIR", "JAIL_SESSION", "JAIL_BRIEF"];
            if !known.contains(&name) && !name.starts_with("GIT_CONFIG_") {
                return Err(format!("an unexpected variable: {line}").into());
            }
        }
        Ok(())
    };
    let mut inside = scene.run_with(&[]);
    inside.arg("env");
    check(&poisoned(inside)?)?;
    let running = Running::start(&scene, &[], "echo ready; sleep 60")?;
    check(&poisoned(scene.jail(&["exec", &running.session, "env"]))?)
}

/// A library in the caller's LD_PRELOAD is loaded by `jail` like by every program, and is not in the workload.
fn preloaded_library_stays_outside() -> Test {
    let scene = Scene::new()?;
    let loaded = fs::read_to_string("/proc/self/maps")?;
    let libc = loaded
        .lines()
        .find_map(|line| line.split_whitespace().nth(5).filter(|path| path.contains("libc.so")))
        .ok_or("no libc")?;
    let copy = scene.outside("libpreload.so");
    fs::copy(libc.replace("libc.so.6", "libm.so.6"), &copy)?;
    let mut control = scene.host("cat");
    let control = control.env("LD_PRELOAD", &copy).arg("/proc/self/maps").output()?;
    has("control", &String::from_utf8_lossy(&control.stdout), "libpreload")?;
    let mut inside = scene.run_with(&[]);
    let inside = inside.env("LD_PRELOAD", &copy).args(["sh", "-c", "cat /proc/self/maps; env"]).output()?;
    succeeded("maps", &inside)?;
    let text = String::from_utf8_lossy(&inside.stdout).into_owned();
    has("inside", &text, "libc.so")?;
    lacks("inside", &text, "libpreload")?;
    lacks("inside", &text, "LD_PRELOAD")
}

fn no_helper_is_looked_up() -> Test {
    let scene = Scene::new()?;
    let marker = scene.outside("called");
    let directory = scene.path("bin");
    fs::create_dir(&directory)?;
    for name in [
        "bwrap",
        "nft",
        "ip",
        "newuidmap",
        "newgidmap",
        "git",
        "slirp4netns",
        "pasta",
        "socat",
        "mount",
        "sh",
        "id",
        "unshare",
        "iptables",
        "apparmor_parser",
    ] {
        let path = directory.join(name);
        fs::write(&path, format!("#!/bin/bash\necho {name} >> {}\nexit 1\n", marker.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    let path = format!("{}:/usr/bin:/bin", directory.display());
    let mut control = scene.host("git");
    let _ = control.env("PATH", &path).status()?;
    has("control", &fs::read_to_string(&marker)?, "git")?;
    fs::remove_file(&marker)?;
    for arguments in [&["run", "--", "/bin/true"][..], &["doctor"], &["plan", "--", "true"], &["ps"]] {
        let output = scene.jail(arguments).env("PATH", &path).output()?;
        if marker.exists() {
            return Err(format!("{arguments:?} called {}{}", fs::read_to_string(&marker)?, printed(&output)).into());
        }
    }
    Ok(())
}

fn no_core_is_written() -> Test {
    let scene = Scene::new()?;
    let output = scene.inside("ulimit -c unlimited 2>/dev/null; ulimit -c; ulimit -H -c; (kill -SEGV $$)")?;
    same("limits", &String::from_utf8_lossy(&output.stdout), "0\n0\n")?;
    let left = scene.outside_ok("find . -name 'core*' -not -path './.git/*'")?;
    same("cores", &left, "")
}

fn supervisor_is_not_dumpable() -> Test {
    let scene = Scene::new()?;
    let running = Running::start(&scene, &[], "echo ready; sleep 60")?;
    // The owner of these entries is root when the process is not dumpable (proc_pid(5)).
    for pid in [running.supervisor(), running.init()?] {
        let owner = fs::metadata(format!("/proc/{pid}/mem"))?.uid();
        same("owner", &owner.to_string(), "0")?;
    }
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let own = fs::metadata("/proc/self/mem")?.uid();
    same("control", &own.to_string(), &nix::unistd::geteuid().to_string())?;
    match fs::read(format!("/proc/{}/environ", running.supervisor())) {
        Err(_) => Ok(()),
        Ok(_) => Err("the environment of the supervisor can be read".into()),
    }
}

fn nested_jail_is_a_clear_error() -> Test {
    let scene = Scene::new()?;
    let jail = env!("CARGO_BIN_EXE_jail");
    for wider in [&["--write", "/"][..], &["--read", "/etc"], &[]] {
        let mut command = scene.run_with(&["--read", jail]);
        command.args([jail, "run"]).args(wider).args(["--", "sh", "-c", "echo RAN; cat .env"]);
        let output = command.stdin(Stdio::null()).output()?;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        same("status", &format!("{:?}", output.status.code()), "Some(125)")?;
        same("output", &String::from_utf8_lossy(&output.stdout), "")?;
        has("message", &errors, "error:")?;
        lacks("message", &errors, "panicked")?;
    }
    Ok(())
}

fn no_switch_turns_it_off() -> Test {
    let scene = Scene::new()?;
    let jail = env!("CARGO_BIN_EXE_jail");
    let look = "grep -E 'Seccomp:|NoNewPrivs:' /proc/self/status; cat .env";
    // From inside: variables, files of the project, the command's own words.
    let mut command = scene.run_with(&["--read", jail]);
    command.env("JAIL_DISABLE", "1").env("JAIL_MODE", "off");
    let script = format!(
        "export JAIL_DISABLE=1 NO_SANDBOX=1; printf '[workspace]\\nmode = \"off\"\\n' > .jail.toml 2>/dev/null; \
                          {jail} --no-sandbox run -- true; {jail} kill $JAIL_SESSION; {jail} trust; {look}"
    );
    let output = command.args(["sh", "-c", &script]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    has("inside", &text, "Seccomp:\t2")?;
    has("inside", &text, "NoNewPrivs:\t1")?;
    lacks("inside", &text, SECRET)?;
    // A command that looks like an option of jail's is the workload's.
    let output = scene.run_with(&[]).args(["sh", "-c", look, "--read", "/", "--policy", "/dev/null"]).output()?;
    has("inside", &printed(&output), "Seccomp:\t2")?;
    let help = scene.jail(&["run", "--help"]).output()?;
    for word in ["no-sandbox", "disable", "unsafe", "dangerous", "unconfined"] {
        lacks("help", &String::from_utf8_lossy(&help.stdout).to_lowercase(), word)?;
    }
    Ok(())
}

fn programs_of_the_user_stay() -> Test {
    let scene = Scene::new()?;
    let directories = [".local/bin", ".cargo/bin", "bin", ".npm-global/bin", ".config/autostart"];
    for directory in directories {
        fs::create_dir_all(scene.home().join(directory))?;
        fs::write(scene.home().join(directory).join("tool"), "original")?;
    }
    let before = Scene::listing(&scene.home())?;
    let script = format!(
        "cd; for d in {}; do mkdir -p $d; echo evil > $d/tool; echo evil > $d/git; chmod +x $d/git; done; \
         echo evil >> ~/.bashrc; echo evil >> ~/.profile; true",
        directories.join(" ")
    );
    scene.inside_ok(&script)?;
    let after = Scene::listing(&scene.home())?;
    if before == after { Ok(()) } else { Err("the home directory was changed".into()) }
}
