//! PK: /proc, /sys, devices, key rings and what they tell about the host.

use std::fs;

use libtest_mimic::Failed;

use crate::needs::{Need, Needing, test, test_with};
use crate::running::Running;
use crate::scene::{SECRET, Scene, printed, succeeded};
use crate::tries::{Tries, has, lacks, same};

type Test = Result<(), Failed>;

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test_with("pk_001_root_opens_no_sysctl", Need::Root, root_opens_no_sysctl),
        test("pk_001_pk_003_nothing_in_proc_and_sys_is_writable", nothing_is_writable),
        test_with("pk_003_root_opens_no_knob_in_sys", Need::Root, root_opens_no_knob),
        test("pk_004_no_cgroup_is_visible", no_cgroup_is_visible),
        test("pk_005_pk_009_init_tells_nothing", init_tells_nothing),
        test("pk_005_init_holds_no_token", init_holds_no_token),
        test("pk_006_no_way_to_the_host_through_proc", no_way_through_proc),
        test("pk_006_no_other_process_is_visible", no_other_process_is_visible),
        test("pk_007_the_program_cannot_be_overwritten", program_cannot_be_overwritten),
        test("pk_005_each_host_entry_of_proc_is_covered", host_entries_are_covered),
        test("pk_005_host_entries_of_proc_are_empty", host_entries_are_empty),
        test("pk_016_host_keys_are_unreadable", host_keys_are_unreadable),
        test("pk_017_mountinfo_names_granted_paths_only", mountinfo_names_granted_paths),
        test("pk_018_the_host_is_not_named", host_is_not_named),
        test("pk_020_no_tracing", no_tracing),
        test("pk_012_pk_021_only_harmless_devices", only_harmless_devices),
    ]
}

/// Every file that `proc` tries to open for writing.
const WRITE: &str = "open for writing";

fn root_opens_no_sysctl() -> Test {
    let scene = Scene::new()?;
    let control = Tries::from(scene.attack_outside(&["proc"])?);
    let paths = ["kernel/core_pattern", "kernel/randomize_va_space", "kernel/modprobe", "fs/suid_dumpable"];
    for path in paths {
        // What the kernel was built without cannot be opened anywhere.
        if std::path::Path::new("/proc/sys").join(path).exists() {
            control.expect(&[&format!("{WRITE} /proc/sys/{path}")], &["ok"])?;
        }
    }
    control.expect(&[&format!("{WRITE} /etc/shadow"), &format!("{WRITE} /etc/passwd")], &["ok"])?;
    Tries::from(scene.attack(&[], &["proc"])?).expect_none(WRITE)
}

fn nothing_is_writable() -> Test {
    let scene = Scene::new()?;
    let own = scene.path("own").display().to_string();
    fs::create_dir(&own)?;
    fs::write(scene.path("own/file"), "")?;
    let places = ["/proc", "/sys", "/etc", "/usr/lib/os-release", "/dev", own.as_str()];
    let inside = Tries::from(scene.attack(&[], &[&["writable"], &places[..]].concat())?);
    for place in ["/proc", "/sys", "/etc"] {
        let tried: u64 = inside.value(&format!("files tried in {place}"))?.parse()?;
        if tried < 5 {
            return Err(format!("only {tried} files were tried in {place}").into());
        }
    }
    // The control: a file of the workspace and the harmless devices are.
    let mut opened: Vec<&str> = inside.succeeded().filter_map(|name| name.strip_prefix("opened ")).collect();
    opened.retain(|path| !path.starts_with("/dev/pts/"));
    opened.sort_unstable();
    let file = format!("{own}/file");
    let mut wanted = vec!["/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero", file.as_str()];
    wanted.sort_unstable();
    same("opened for writing", &format!("{opened:?}"), &format!("{wanted:?}"))
}

fn root_opens_no_knob() -> Test {
    let scene = Scene::new()?;
    let knobs = ["/sys/kernel/mm/transparent_hugepage/enabled", "/sys/power/state", "/sys/kernel/uevent_helper"];
    let control = Tries::from(scene.attack_outside(&["proc"])?);
    let there: Vec<String> = knobs
        .iter()
        .map(|knob| format!("{WRITE} {knob}"))
        .filter(|name| control.result(name).is_ok_and(|result| result == "ok"))
        .collect();
    if there.is_empty() {
        return Err("the positive control opened no knob".into());
    }
    let inside = Tries::from(scene.attack(&[], &["proc"])?);
    for name in there {
        inside.expect(&[&name], &["ENOENT"])?;
    }
    Ok(())
}

fn no_cgroup_is_visible() -> Test {
    let scene = Scene::new()?;
    let listing = "cat /proc/self/cgroup; ls -A /sys/fs 2>/dev/null; find / -name release_agent -o -name cgroup.procs 2>/dev/null";
    let inside = scene.inside_ok(&format!("{listing}; true"))?;
    let outside = scene.outside_ok("cat /proc/self/cgroup; ls -A /sys/fs; ls /sys/fs/cgroup")?;
    has("control", &outside, "cgroup")?;
    for word in ["release_agent", "cgroup.procs"] {
        lacks("inside", &inside, word)?;
    }
    // Each hierarchy as the namespace shows it: no path upwards, none of the host's groups.
    for line in inside.lines().filter(|line| line.matches(':').count() == 2) {
        let path = line.rsplit(':').next().unwrap_or_default();
        if path != "/" && !path.starts_with("/jail-") {
            return Err(format!("the host's cgroup shows: {line}").into());
        }
    }
    let mount = Tries::from(scene.attack(&[], &["kernel"])?);
    mount.expect(&["mount", "fsopen"], &["EPERM"])
}

fn init_tells_nothing() -> Test {
    let scene = Scene::new()?;
    let own = std::process::id().to_string();
    let secrets = ["read environ of", "read maps of", "read auxv of", "list fd of", "list root of", "open mem of"];
    let links = ["link exe of", "link cwd of", "link root of"];
    // The control: the same of a process that may be looked at, which is the test itself.
    let control = Tries::from(scene.attack_outside(&["proc", &own])?);
    for what in secrets.iter().chain(&links) {
        control.expect(&[&format!("{what} {own}")], &["ok"])?;
    }
    let inside = Tries::from(scene.attack(&[], &["proc", &own])?);
    for what in secrets.iter().chain(&links) {
        for pid in ["1", "parent"] {
            inside.expect(&[&format!("{what} {pid}")], &["EACCES", "EPERM"])?;
        }
        inside.expect(&[&format!("{what} {own}")], &["ENOENT"])?;
    }
    same("the command line of init", inside.bytes("read cmdline of 1")?.trim_end_matches('\0'), "jail: init")?;
    let spaces = Tries::from(scene.attack(&[], &["namespaces"])?);
    for kind in ["user", "mnt", "net", "pid", "uts", "ipc", "cgroup"] {
        spaces.expect(&[&format!("setns /proc/1/ns/{kind}")], &["EACCES", "EPERM"])?;
    }
    Ok(())
}

/// Everything readable about init, searched for what the supervisor was started with.
fn init_holds_no_token() -> Test {
    let scene = Scene::new()?;
    let script = "cat /proc/1/* /proc/1/task/*/* /proc/1/net/* /proc/1/attr/* 2>/dev/null; echo read";
    let mut command = scene.run_with(&[]);
    let output = command.env("CANARY_TOKEN", SECRET).args(["sh", "-c", script, SECRET]).output()?;
    succeeded(script, &output)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    has("control", &text, "read")?;
    has("control", &text, "jail-init")?;
    lacks("about init", &text, SECRET)?;
    lacks("about init", &text, "CANARY_TOKEN")?;
    // The control: a process of the host with the same variable.
    let mut control = scene.host("cat");
    let control = control.env("CANARY_TOKEN", SECRET).arg("/proc/self/environ").output()?;
    has("control", &String::from_utf8_lossy(&control.stdout), SECRET)?;
    let mut running = scene.run_with(&[]);
    running.env("CANARY_TOKEN", SECRET).args(["sh", "-c", "echo ready; sleep 60"]);
    let running = Running::spawn(&scene, running)?;
    // And from the host, with the rights of the same user, init's shows nothing either.
    let init = running.init()?;
    for file in ["environ", "cmdline"] {
        let content = fs::read(format!("/proc/{init}/{file}")).unwrap_or_default();
        lacks(file, &String::from_utf8_lossy(&content), SECRET)?;
    }
    Ok(())
}

fn no_way_through_proc() -> Test {
    let scene = Scene::new()?;
    let canary = scene.outside("canary");
    fs::write(&canary, SECRET)?;
    let path = canary.display().to_string();
    let control = Tries::from(scene.attack_outside(&["read", &path])?);
    same("control", control.bytes(&format!("read /proc/self/root{path}"))?, SECRET)?;
    let inside = Tries::from(scene.attack(&[], &["read", &path])?);
    inside.expect(&[&format!("read {path}"), &format!("read /proc/self/root{path}")], &["ENOENT"])?;
    let script = format!(
        "cd /; for p in /proc/self/root/.. /proc/1/root /proc/self/cwd/../../../../.. /proc/thread-self/root \
         /proc/self/task/*/root /proc/*/cwd/../../../../../..; do cat \"$p{path}\" 2>/dev/null; ls -d \"$p{path}\" \
         2>/dev/null; done; ls /proc/self/root/"
    );
    let text = scene.inside_ok(&script)?;
    lacks("inside", &text, SECRET)?;
    lacks("inside", &text, "canary")?;
    has("control", &text, "usr")
}

fn no_other_process_is_visible() -> Test {
    let scene = Scene::new()?;
    let count = |tries: Tries| -> Result<u64, Failed> { Ok(tries.value("visible processes")?.parse()?) };
    let outside = count(scene.attack_outside(&["proc"])?.into())?;
    let inside = count(scene.attack(&[], &["proc"])?.into())?;
    if inside == 2 && outside > 2 { Ok(()) } else { Err(format!("{inside} inside, {outside} outside").into()) }
}

fn program_cannot_be_overwritten() -> Test {
    let scene = Scene::new()?;
    let program = env!("CARGO_BIN_EXE_jail");
    let before = fs::metadata(program)?;
    let inside = Tries::from(scene.attack(&[], &["proc"])?);
    inside.expect_none("open exe of")?;
    // The supervisor's file is not even there, whatever name of it is tried; started as an interpreter, it would be
    // opened by the kernel in the jail's own root.
    let script =
        format!("cp /bin/true {program} 2>&1; printf x >> {program}; printf '#!{program}\\n' > s; chmod +x s; ./s");
    let output = scene.inside(&script)?;
    if output.status.success() {
        return Err(printed(&output).into());
    }
    let after = fs::metadata(program)?;
    same("size", &after.len().to_string(), &before.len().to_string())?;
    if after.modified()? != before.modified()? {
        return Err("the program was changed".into());
    }
    Ok(())
}

/// What /proc says about the host: an empty file or directory must stand there, or nothing.
const HOST_ENTRIES: &[&str] = &[
    "acpi",
    "asound",
    "bus",
    "cmdline",
    "diskstats",
    "driver",
    "dynamic_debug",
    "fs",
    "interrupts",
    "iomem",
    "ioports",
    "irq",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "locks",
    "modules",
    "mtrr",
    "pagetypeinfo",
    "partitions",
    "pressure",
    "sched_debug",
    "schedstat",
    "scsi",
    "slabinfo",
    "softirqs",
    "sysrq-trigger",
    "sysvipc",
    "timer_list",
    "timer_stats",
    "tty",
    "vmallocinfo",
    "vmstat",
    "zoneinfo",
];

/// Many entries say nothing on this machine; that each is covered, or root's alone, does not depend on that. `locks` shows
/// only what this pid namespace holds.
fn host_entries_are_covered() -> Test {
    let scene = Scene::new()?;
    let script = "own=$(stat -c %d /proc); for name; do [ -e /proc/$name ] || continue; \
                  if [ $(stat -c %d /proc/$name) = $own ] && { [ -r /proc/$name ] || [ -w /proc/$name ]; }; \
                  then echo $name open; else echo $name closed; fi; done";
    let entries: Vec<&str> = HOST_ENTRIES.iter().copied().filter(|name| *name != "locks").collect();
    let run = |mut command: std::process::Command| -> Result<String, Failed> {
        let output = command.args(["-c", script, "sh"]).args(&entries).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let mut inside = scene.run_with(&[]);
    inside.arg("sh");
    let (inside, outside) = (run(inside)?, run(scene.host("sh"))?);
    same("open entries", &inside.lines().filter(|line| line.ends_with(" open")).collect::<Vec<_>>().join(" "), "")?;
    let control = outside.lines().filter(|line| line.ends_with(" open")).count();
    if control < 10 || inside.lines().count() < 10 {
        return Err(format!("control: {control} entries outside, inside:\n{inside}").into());
    }
    Ok(())
}

fn host_entries_are_empty() -> Test {
    let scene = Scene::new()?;
    let script = "for name; do p=/proc/$name; if [ -d $p ]; then n=$(ls -A $p | wc -l); elif [ -e $p ]; then \
                  n=$(head -c 64 $p 2>/dev/null | wc -c); else n=0; fi; echo $name $n; done";
    let mut inside = scene.run_with(&[]);
    let inside = inside.args(["sh", "-c", script, "sh"]).args(HOST_ENTRIES).output()?;
    let outside = scene.host("sh").args(["-c", script, "sh"]).args(HOST_ENTRIES).output()?;
    let counts = |output: &std::process::Output| -> Vec<(String, u64)> {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let pair = |line: &str| line.split_once(' ').map(|(name, n)| (name.to_owned(), n.trim().parse().unwrap_or(0)));
        text.lines().filter_map(pair).collect()
    };
    let told = counts(&outside).iter().filter(|(_, count)| *count > 0).count();
    if told < 10 {
        return Err(format!("control: only {told} entries say something outside\n{}", printed(&outside)).into());
    }
    same("entries", &counts(&inside).len().to_string(), &HOST_ENTRIES.len().to_string())?;
    let telling: Vec<_> = counts(&inside).into_iter().filter(|(_, count)| *count > 0).collect();
    if telling.is_empty() { Ok(()) } else { Err(format!("these say something: {telling:?}").into()) }
}

fn host_keys_are_unreadable() -> Test {
    use std::os::unix::process::CommandExt;
    let scene = Scene::new()?;
    let program = std::env::current_exe()?;
    let with_key = |mut command: std::process::Command| -> Result<Tries, Failed> {
        // SAFETY: between fork and exec only two system calls are made, with pointers to static strings.
        unsafe {
            command.pre_exec(|| {
                const JOIN_SESSION_KEYRING: usize = 1;
                const SESSION: isize = -3;
                if libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, 0) < 0
                    || libc::syscall(
                        libc::SYS_add_key,
                        c"user".as_ptr(),
                        c"canary".as_ptr(),
                        c"CANARY_KEY".as_ptr(),
                        10,
                        SESSION,
                    ) < 0
                {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let output = command.output()?;
        succeeded("keys", &output)?;
        let lines: Result<Vec<serde_json::Value>, _> =
            String::from_utf8_lossy(&output.stdout).lines().map(serde_json::from_str).collect();
        Ok(lines?.into())
    };
    let mut outside = scene.host(&program);
    outside.args(["try", "keys", "canary"]);
    same("control", with_key(outside)?.bytes("keyctl read canary")?, "CANARY_KEY")?;
    let flag = program.display().to_string();
    let mut inside = scene.run_with(&["--read", &flag]);
    inside.arg(&program).args(["try", "keys", "canary"]);
    let inside = with_key(inside)?;
    inside.expect(&["keyctl read canary", "add_key", "request_key", "keyctl session ring"], &["EPERM", "ENOSYS"])
}

fn mountinfo_names_granted_paths() -> Test {
    let scene = Scene::new()?;
    let script = "cat /proc/self/mountinfo /proc/self/mounts /proc/self/mountstats";
    let inside = scene.inside_ok(script)?;
    has("control", &inside, &scene.workspace().display().to_string())?;
    // What a line names is in the jail: the private runtime directory, the record and the old root are not.
    for path in [scene.runtime(), scene.outside("state")] {
        lacks("inside", &inside, &path.display().to_string())?;
    }
    // Every mount point but those of the workspace and the system is the jail's own.
    for line in scene.inside_ok("cat /proc/self/mountinfo")?.lines() {
        let point = line.split(' ').nth(4).unwrap_or_default();
        let own = [
            "/usr",
            "/bin",
            "/sbin",
            "/lib",
            "/opt",
            "/nix",
            "/gnu",
            "/etc",
            "/dev",
            "/proc",
            "/sys/devices/system/cpu",
        ];
        let private = ["/tmp", "/var/tmp", "/run"].contains(&point);
        let home = scene.home().display().to_string();
        if point != "/" && !private && !own.iter().any(|own| point.starts_with(own)) && !point.starts_with(&home) {
            return Err(format!("a mount of the host: {line}").into());
        }
    }
    // The calls that list mounts by number are refused.
    Tries::from(scene.attack(&[], &["kernel"])?).expect(&["statmount", "listmount"], &["EPERM", "ENOSYS"])
}

fn host_is_not_named() -> Test {
    let scene = Scene::new()?;
    same("host name", scene.inside_ok("uname -n")?.trim(), "jail")?;
    same("machine-id", scene.inside_ok("cat /etc/machine-id")?.trim(), &"0".repeat(32))?;
    let host = fs::read_to_string("/proc/sys/kernel/hostname")?;
    let files = scene.inside_ok("cat /etc/hostname /etc/hosts /etc/resolv.conf /proc/sys/kernel/hostname")?;
    if !host.trim().is_empty() && host.trim() != "jail" && host.trim() != "localhost" {
        for line in files.lines().filter(|line| !line.starts_with('#')) {
            if line.split_whitespace().any(|word| word == host.trim()) {
                return Err(format!("the host's name: {line}").into());
            }
        }
    }
    let users = scene.inside_ok("cut -d: -f1 /etc/passwd | sort | tr '\\n' ' '")?;
    same("users", users.trim(), "agent nobody root")?;
    let outside = scene.outside_ok("cut -d: -f1 /etc/passwd | sort | tr '\\n' ' '")?;
    if outside.split_whitespace().count() <= 3 {
        return Err(format!("the control knows only {outside}").into());
    }
    // No interface but loopback, so no address of the host's and no hardware address.
    let interfaces = scene.inside_ok("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '")?;
    same("interfaces", interfaces.trim(), "lo")
}

fn no_tracing() -> Test {
    let scene = Scene::new()?;
    let inside = Tries::from(scene.attack(&[], &["kernel"])?);
    inside.expect(&["perf_event_open", "bpf", "mount", "fsopen"], &["EPERM", "ENOSYS"])?;
    Tries::from(scene.attack(&[], &["proc"])?).expect(&["open tracing"], &["ENOENT"])?;
    if nix::unistd::geteuid().is_root() {
        let control = Tries::from(scene.attack_outside(&["kernel"])?);
        control.expect(&["perf_event_open"], &["ok", "ENOENT"])?;
    }
    Ok(())
}

fn only_harmless_devices() -> Test {
    let scene = Scene::new()?;
    let listed = scene.inside_ok("cd /dev && ls | sort | tr '\\n' ' '")?;
    same("/dev", listed.trim(), "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero")?;
    let blocks = scene.inside_ok("find / -type b 2>/dev/null | head")?;
    same("block devices", &blocks, "")?;
    let inside = Tries::from(scene.attack(&[], &["devices"])?);
    let mut opened: Vec<&str> = inside.succeeded().collect();
    opened.sort_unstable();
    let harmless = [
        "open /dev/full",
        "open /dev/null",
        "open /dev/ptmx",
        "open /dev/random",
        "open /dev/urandom",
        "open /dev/zero",
    ];
    same("opened", &format!("{opened:?}"), &format!("{harmless:?}"))?;
    let control = Tries::from(scene.attack_outside(&["devices"])?);
    let known = control.succeeded().count();
    if nix::unistd::geteuid().is_root() && known <= harmless.len() {
        return Err(format!("the control opened only {known}").into());
    }
    // And none can be made.
    Tries::from(scene.attack(&[], &["write-verbs", &scene.write("own", "x")?.display().to_string()])?)
        .expect(&["mknodat device"], &["EPERM"])
}
