//! SC: system calls that pass by the filter, theft across processes, signals, own filters.

use libtest_mimic::Failed;

use crate::needs::{Needing, test};
use crate::scene::{SECRET, Scene, printed};
use crate::tries::{Tries, has, lacks, same};

type Test = Result<(), Failed>;

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("sc_001_foreign_entries_kill", foreign_entries_kill),
        test("sc_002_x32_numbers_do_not_exist", x32_numbers_do_not_exist),
        test("sc_003_io_uring_does_not_exist", io_uring_does_not_exist),
        test("sc_004_sc_005_no_new_namespace", no_new_namespace),
        test("sc_005_programs_that_need_namespaces_fail", namespace_programs_fail),
        test("sc_007_sc_008_init_cannot_be_touched", init_cannot_be_touched),
        test("sc_007_sc_008_host_processes_cannot_be_touched", host_processes_cannot_be_touched),
        test("sc_009_no_file_handles", no_file_handles),
        test("sc_010_administration_is_refused", administration_is_refused),
        test("sc_014_unknown_numbers_do_not_exist", unknown_numbers_do_not_exist),
        test("sc_015_a_program_in_memory_stays_confined", memory_program_stays_confined),
        test("sc_017_own_filters_blind_nobody", own_filters_blind_nobody),
        test("sc_018_signals_stay_inside", signals_stay_inside),
        test("sc_018_limits_of_init_stay", limits_of_init_stay),
        test("sc_020_landlock_is_complete", landlock_is_complete),
    ]
}

fn inside(scene: &Scene, arguments: &[&str]) -> Result<Tries, Failed> {
    Ok(scene.attack(&[], arguments)?.into())
}

fn outside(scene: &Scene, arguments: &[&str]) -> Result<Tries, Failed> {
    Ok(scene.attack_outside(arguments)?.into())
}

fn foreign_entries_kill() -> Test {
    let scene = Scene::new()?;
    let names = ["getpid", "socket", "socketcall", "open", "mount", "ptrace", "connect"];
    let names = names.map(|name| format!("int80 {name}"));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let control = outside(&scene, &["entry"])?;
    let tries = inside(&scene, &["entry"])?;
    // A kernel without 32-bit emulation kills by itself (SIGSEGV), and another architecture has no such entry.
    if control.result("int80 socket")? == "ok" {
        control.expect(&["int80 getpid", "int80 open"], &["ok"])?;
        return tries.expect(&names, &["SIGSYS"]);
    }
    tries.expect(&names, &["SIGSYS", "SIGSEGV"])
}

fn x32_numbers_do_not_exist() -> Test {
    let scene = Scene::new()?;
    let tries = inside(&scene, &["entry"])?;
    for number in [39, 41, 59, 101, 165].into_iter().chain(512..=547) {
        tries.expect(&[&format!("x32 {number}")], &["ENOSYS"])?;
    }
    Ok(())
}

fn io_uring_does_not_exist() -> Test {
    let scene = Scene::new()?;
    outside(&scene, &["uring"])?.expect(&["io_uring_setup", "io_uring OP_SOCKET"], &["ok"])?;
    let names = ["io_uring_setup", "io_uring_enter", "io_uring_register", "io_uring OP_SOCKET"];
    inside(&scene, &["uring"])?.expect(&names, &["ENOSYS"])
}

const NAMESPACES: [&str; 8] =
    ["NEWUSER", "NEWNS", "NEWPID", "NEWNET", "NEWIPC", "NEWUTS", "NEWCGROUP", "NEWUSER|NEWNET"];

fn no_new_namespace() -> Test {
    let scene = Scene::new()?;
    let control = outside(&scene, &["namespaces"])?;
    control.expect(&["clone3 plain", "clone plain", "clone3 NEWUSER", "unshare NEWUSER"], &["ok"])?;
    let tries = inside(&scene, &["namespaces"])?;
    tries.expect(&["clone plain", "unshare FS|FILES"], &["ok"])?;
    tries.expect(&["clone3 plain"], &["ENOSYS"])?;
    tries.expect(&["unshare NEWTIME"], &["EPERM"])?;
    for namespace in NAMESPACES {
        tries.expect(&[&format!("clone3 {namespace}")], &["ENOSYS"])?;
        let names =
            [format!("clone {namespace}"), format!("clone {namespace} high bits"), format!("unshare {namespace}")];
        tries.expect(&names.each_ref().map(String::as_str), &["EPERM"])?;
    }
    for kind in ["user", "mnt", "net", "pid", "uts", "ipc", "cgroup"] {
        tries.expect(&[&format!("setns /proc/self/ns/{kind}")], &["EPERM"])?;
        tries.expect(&[&format!("setns /proc/1/ns/{kind}")], &["EPERM", "EACCES"])?;
    }
    Ok(())
}

fn namespace_programs_fail() -> Test {
    let scene = Scene::new()?;
    let script = "unshare -Ur cat /proc/self/uid_map";
    has("control", &scene.outside_ok(script)?, " 0 ")?;
    let output = scene.inside(script)?;
    if output.status.success() || !output.stdout.is_empty() {
        return Err(printed(&output).into());
    }
    Ok(())
}

fn init_cannot_be_touched() -> Test {
    let scene = Scene::new()?;
    let tries = inside(&scene, &["trace"])?;
    // The control: the own child.
    tries.expect(&["ptrace SEIZE child", "process_vm_readv child", "kcmp child", "ptrace TRACEME"], &["ok"])?;
    for target in ["parent", "init"] {
        for verb in ["ptrace SEIZE", "process_vm_readv", "kcmp", "pidfd_getfd"] {
            tries.expect(&[&format!("{verb} {target}")], &["EPERM", "EACCES"])?;
        }
    }
    Ok(())
}

fn host_processes_cannot_be_touched() -> Test {
    let scene = Scene::new()?;
    let mut sleeper = scene.host("sleep").arg("60").spawn()?;
    let result = (|| {
        let pid = sleeper.id().to_string();
        let verbs = ["ptrace SEIZE", "process_vm_readv", "kcmp", "pidfd_getfd"];
        let names = verbs.map(|verb| format!("{verb} pid {pid}"));
        let names = names.each_ref().map(String::as_str);
        let control = outside(&scene, &["trace", &pid])?;
        control.expect(&names[..1], &["ok"])?;
        control.expect(&names[2..], &["ok"])?;
        inside(&scene, &["trace", &pid])?.expect(&names, &["ESRCH", "EPERM"])?;
        let names = [format!("kill pid {pid}"), format!("tgkill pid {pid}")];
        let names = names.each_ref().map(String::as_str);
        outside(&scene, &["signals", &pid])?.expect(&names, &["ok"])?;
        inside(&scene, &["signals", &pid])?.expect(&names, &["ESRCH", "EPERM"])
    })();
    sleeper.kill()?;
    sleeper.wait()?;
    result
}

fn no_file_handles() -> Test {
    let scene = Scene::new()?;
    let path = scene.path("notes.txt").display().to_string();
    outside(&scene, &["handles", &path])?.expect(&[&format!("name_to_handle_at {path}")], &["ok"])?;
    let tries = inside(&scene, &["handles", &path, "/"])?;
    tries.expect(&[&format!("name_to_handle_at {path}"), "name_to_handle_at /"], &["EOPNOTSUPP"])?;
    tries.expect(&[&format!("open_by_handle_at {path}"), "open_by_handle_at /", "open_by_handle_at pidfs"], &["EPERM"])
}

fn administration_is_refused() -> Test {
    let scene = Scene::new()?;
    let refusals = ["EPERM", "ENOSYS", "EOPNOTSUPP"];
    let control = scene.attack_outside(&["kernel"])?;
    let passed = control.iter().filter(|line| !refusals.contains(&line["result"].as_str().unwrap_or_default())).count();
    if passed < 15 {
        return Err(format!("control: only {passed} calls got past the door").into());
    }
    let tries = inside(&scene, &["kernel"])?;
    for line in &control {
        let name = line["try"].as_str().unwrap_or_default();
        let wanted: &[&str] = if name == "personality ADDR_NO_RANDOMIZE" { &["ok"] } else { &refusals };
        tries.expect(&[name], wanted)?;
    }
    Ok(())
}

fn unknown_numbers_do_not_exist() -> Test {
    let scene = Scene::new()?;
    let tries = inside(&scene, &["numbers"])?;
    for number in (470..=480).chain([500, 511, 512, 547, 600, 1000, 2000]) {
        tries.expect(&[&number.to_string()], &["ENOSYS"])?;
    }
    // The control: what the table allows reaches the kernel, which answers something else.
    let control = outside(&scene, &["numbers"])?;
    for number in ["439", "441", "452"] {
        if control.result(number)? != "ENOSYS" && tries.result(number)? == "ENOSYS" {
            return Err(format!("{number} is allowed and does not reach the kernel").into());
        }
    }
    Ok(())
}

fn memory_program_stays_confined() -> Test {
    let scene = Scene::new()?;
    let control = outside(&scene, &["memfd"])?;
    control.expect(&["execveat of a memfd"], &["executed"])?;
    same("control", &control.value("NoNewPrivs here")?, "0")?;
    let tries = inside(&scene, &["memfd"])?;
    tries.expect(&["memfd_create"], &["ok"])?;
    tries.expect(&["memfd_secret"], &["ENOSYS"])?;
    if tries.result("execveat of a memfd")? == "executed" {
        for (what, want) in [("NoNewPrivs here", "1"), ("Seccomp here", "2"), ("CapEff here", "0000000000000000")] {
            same(what, &tries.value(what)?, want)?;
        }
    }
    // A copy of a program in the workspace or in /tmp runs, and sees no more than any other.
    let secret = scene.outside("canary");
    std::fs::write(&secret, SECRET)?;
    let script = format!(
        "for d in . /tmp /dev/shm; do cp /bin/cat $d/own; $d/own {0} .env; rm $d/own; done; true",
        secret.display()
    );
    has("control", &scene.outside_ok(&script)?, SECRET)?;
    lacks("inside", &scene.inside_ok(&script)?, SECRET)
}

fn own_filters_blind_nobody() -> Test {
    let scene = Scene::new()?;
    outside(&scene, &["filters"])?.expect(&["seccomp plain", "seccomp NEW_LISTENER"], &["ok"])?;
    let tries = inside(&scene, &["filters"])?;
    tries.expect(&["seccomp plain", "seccomp LOG"], &["ok"])?;
    let listeners = ["seccomp NEW_LISTENER", "seccomp NEW_LISTENER high bits", "seccomp NEW_LISTENER|WAIT_KILLABLE"];
    tries.expect(&listeners, &["EBUSY"])
}

/// The worst that a signal can do: kill everyone, the parent, the process group.
fn signals_stay_inside() -> Test {
    let scene = Scene::new()?;
    let mut sleeper = scene.host("sleep").arg("60").spawn()?;
    let result = (|| {
        let script = "kill -9 -1; kill -9 $PPID; kill -9 1; kill -9 0; echo alive";
        let output =
            scene.inside(&format!("sh -c '{script}' & sh -c 'setsid sh -c \"kill -9 -1\"'; sleep 0.2; echo end"))?;
        // `kill -1` may take the shell itself along, but neither init nor the supervisor: its status comes back.
        use std::os::unix::process::ExitStatusExt;
        if output.status.code().is_none() && output.status.signal() != Some(9) {
            return Err(format!("{} {}", output.status, printed(&output)).into());
        }
        let tries = inside(&scene, &["signals"])?;
        tries.expect(&["kill child"], &["ok"])?;
        tries.expect(&["kill parent", "tgkill parent", "kill init", "tgkill init"], &["EPERM"])?;
        // The descriptor of an own pipe with a foreign owner sends nothing: the id means nobody inside.
        let pid = sleeper.id();
        let script = format!(
            "import fcntl, os, signal, struct\nr, w = os.pipe()\n\
             for pid in ({pid}, -{pid}, 1):\n try:\n  fcntl.fcntl(r, fcntl.F_SETOWN, pid); fcntl.fcntl(r, 10, signal.SIGKILL)\n  \
             fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK); os.write(w, b'x')\n except OSError as e: print(e)\n"
        );
        scene.write("own.py", script)?;
        scene.inside_ok("python3 own.py; true")?;
        if sleeper.try_wait()?.is_some() {
            return Err("the host's process was killed".into());
        }
        Ok(())
    })();
    sleeper.kill()?;
    sleeper.wait()?;
    result
}

fn limits_of_init_stay() -> Test {
    let scene = Scene::new()?;
    let tries = inside(&scene, &["scheduling"])?;
    for target in ["init", "parent"] {
        for verb in ["prlimit", "setpriority", "sched_setaffinity", "sched_setscheduler", "ioprio_set"] {
            if let Ok(result) = tries.result(&format!("{verb} {target}"))
                && result == "ok"
            {
                return Err(format!("{verb} {target} succeeded").into());
            }
        }
    }
    tries.expect(&["setpriority own"], &["ok"])
}

/// What Landlock of this kernel can refuse it does refuse, also where the mounts would not: a read-only rule on a
/// writable place is tried with the workspace in read-only mode.
fn landlock_is_complete() -> Test {
    let scene = Scene::new()?;
    let plan: serde_json::Value =
        serde_json::from_slice(&scene.jail(&["plan", "--json", "--", "true"]).output()?.stdout)?;
    let abi = plan["landlock"]["abi"].as_u64().ok_or("no ABI in the plan")?;

    let kernel = crate::cases::raw::call(libc::SYS_landlock_create_ruleset, &[0, 0, 1]).unwrap_or(0);
    same("ABI", &abi.min(10).to_string(), &kernel.min(10).to_string())?;
    if kernel >= 6 {
        let scopes = plan["landlock"]["scopes"].to_string().to_lowercase();
        has("scopes", &scopes, "signal")?;
        has("scopes", &scopes, "abstract")?;
    }
    let file = scene.write("own/file", "unchanged")?.display().to_string();
    scene.write("own/other", "other")?;
    let control = outside(&scene, &["write-verbs", &file])?;
    control.expect(&["open O_WRONLY", "truncate", "renameat2 EXCHANGE", "unlink"], &["ok"])?;
    scene.write("own/file", "unchanged")?;
    scene.write("own/other", "other")?;
    let tries = Tries::from(scene.attack(&["--read-only"], &["write-verbs", &file])?);
    for verb in ["open O_WRONLY", "open O_TMPFILE", "fchmodat2", "utimensat", "setxattr", "truncate", "mkdir", "unlink"]
    {
        if tries.result(verb)? == "ok" {
            return Err(format!("{verb} succeeded").into());
        }
    }
    same("content", &std::fs::read_to_string(&file)?, "unchanged")
}
