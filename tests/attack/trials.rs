//! The tests: each attack outside, where it must succeed, and confined, where it must not.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use libtest_mimic::{Failed, Trial};
use nix::libc;

use crate::cases::raw::{c, call};
use crate::harness::{confined, confined_command, landlock_abi, lines, needs, only, outside};

type Test = Result<(), Failed>;

const NO_LANDLOCK: &[&str] = &["--no-landlock"];

pub fn all() -> Vec<Trial> {
    let abi = landlock_abi();
    let ok = |group: &str, attempt: &str| {
        outside(&[group]).is_ok_and(|lines| lines.result(attempt).is_ok_and(|r| r == "ok"))
    };
    let mut trials = vec![
        Trial::test("pr_001_no_privilege_is_left", no_privilege_is_left),
        Trial::test("fd_001_descriptors_are_closed", descriptors_are_closed),
        needs(ok("entry", "int80 socket"), "32-bit emulation", "sc_001_foreign_entries_kill", foreign_entries_kill),
        Trial::test("sc_002_x32_numbers_do_not_exist", x32_numbers_do_not_exist),
        needs(ok("uring", "io_uring OP_SOCKET"), "io_uring", "sc_003_io_uring_does_not_exist", io_uring_does_not_exist),
        needs(ok("namespaces", "clone NEWUSER"), "user namespaces", "sc_004_sc_005_no_new_namespace", no_new_namespace),
        Trial::test("sc_010_administration_is_refused", administration_is_refused),
        Trial::test("sc_014_unknown_numbers_do_not_exist", unknown_numbers_do_not_exist),
        Trial::test("sc_015_memfd_programs_stay_confined", memfd_programs_stay_confined),
        Trial::test("sc_017_no_listener", no_listener),
        Trial::test("limits_of_others_cannot_be_set", limits_of_others_cannot_be_set),
        only(ok("scheduling", "prlimit init"), "as root", "init_cannot_be_slowed_down", init_cannot_be_slowed_down),
        needs(
            ok("keys", "keyctl session ring"),
            "key rings",
            "pk_016_host_keys_are_unreadable",
            host_keys_are_unreadable,
        ),
        Trial::test("ip_007_ip_008_other_families_do_not_exist", other_families_do_not_exist),
        only(
            ok("terminal", "TIOCSTI own terminal, byte read back"),
            "with dev.tty.legacy_tiocsti=1 or as root",
            "fd_003_fd_004_terminals_take_no_input",
            terminals_take_no_input,
        ),
        needs(abi >= 2, "Landlock ABI 2", "fs_001_only_granted_paths_are_readable", only_granted_paths_are_readable),
        only(abi >= 3, "from Landlock ABI 3 on", "fs_016_read_is_not_write", read_is_not_write),
        needs(abi >= 2, "Landlock ABI 2", "execution_is_a_right_of_its_own", execution_is_a_right_of_its_own),
        needs(abi >= 2, "Landlock ABI 2", "missing_paths_are_errors_unless_optional", missing_paths_are_errors),
        only(
            abi >= 2 && ok("trace", "ptrace SEIZE parent"),
            "with Landlock and Yama's ptrace_scope at 0, or as root",
            "sc_008_only_own_processes_are_traced",
            only_own_processes_are_traced,
        ),
        only(
            abi >= 5,
            "from Landlock ABI 5 on",
            "terminals_work_only_where_granted",
            terminals_work_only_where_granted,
        ),
        only(
            abi >= 6,
            "from Landlock ABI 6 on",
            "sc_018_only_own_processes_are_signalled",
            only_own_processes_are_signalled,
        ),
        only(abi >= 6, "from Landlock ABI 6 on", "ip_006_foreign_abstract_sockets", foreign_abstract_sockets),
        only(abi >= 9, "from Landlock ABI 9 on", "ip_001_foreign_unix_sockets", foreign_unix_sockets),
    ];
    trials.extend(TOOLS.iter().map(|tool| {
        let available =
            Path::new("/usr/bin").join(tool.0).exists() || Path::new("/usr/local/bin").join(tool.0).exists();
        needs(available, tool.0, &format!("{}_works", tool.0), || works(tool.1, tool.2))
    }));
    trials
}

fn value(lines: &crate::harness::Lines, attempt: &str) -> Result<String, Failed> {
    Ok(lines.line(attempt)?["value"].as_str().unwrap_or_default().to_owned())
}

fn equal(what: &str, got: &str, want: &str) -> Test {
    if got == want { Ok(()) } else { Err(format!("{what}: {got:?}, expected {want:?}").into()) }
}

fn no_privilege_is_left() -> Test {
    let control = outside(&["status"])?;
    equal("control", &value(&control, "NoNewPrivs here")?, "0")?;
    equal("control", &value(&control, "Seccomp here")?, "0")?;
    let inside = confined(&[], &["status"])?;
    let held = caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SETPCAP)?;
    for place in ["here", "daemon"] {
        equal(place, &value(&inside, &format!("NoNewPrivs {place}"))?, "1")?;
        equal(place, &value(&inside, &format!("Seccomp {place}"))?, "2")?;
        let sets: &[&str] = if held { &["Inh", "Prm", "Eff", "Bnd", "Amb"] } else { &["Inh", "Prm", "Eff", "Amb"] };
        for set in sets {
            equal(set, &value(&inside, &format!("Cap{set} {place}"))?, "0000000000000000")?;
        }
    }
    inside.expect(&["raise core limit", "capset everything"], &["EPERM"])?;
    if held {
        // The control: root takes its capabilities back as long as the secure bits and the bounding set let it.
        control.expect(&["setuid 0"], &["ok"])?;
        equal("secure bits", &inside.line("secure bits")?["value"].to_string(), "239")?;
    }
    let limit = inside.line("core limit")?;
    if limit["soft"] != 0 || limit["hard"] != 0 {
        return Err(format!("core limit {limit}").into());
    }
    Ok(())
}

/// The descriptors that name this file in a listing.
fn count(lines: &crate::harness::Lines, target: &str) -> usize {
    (0..1024).filter(|fd| lines.line(&format!("descriptor {fd}")).is_ok_and(|line| line["target"] == target)).count()
}

fn descriptors_are_closed() -> Test {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("leaked");
    fs::write(&path, "secret")?;
    let target = path.display().to_string();
    let inherit = |options: Option<&[&str]>| {
        let file = fs::File::open(&path)?;
        let fd = file.as_raw_fd();
        let program = fs::read_link("/proc/self/exe")?.display().to_string();
        let mut command = match options {
            None => std::process::Command::new(&program),
            Some(options) => confined_command(options, &[&program]),
        };
        command.args(["try", "descriptors"]);
        // Two more names for the same file, one of them far up.
        leak(&mut command, fd);
        let lines = lines(command)?;
        drop(file);
        Ok::<_, Failed>(count(&lines, &target))
    };
    equal("control", &inherit(None)?.to_string(), "2")?;
    equal("confined", &inherit(Some(&[]))?.to_string(), "0")?;
    equal("one kept", &inherit(Some(&["--keep", "50"]))?.to_string(), "1")
}

fn leak(command: &mut std::process::Command, fd: i32) {
    // SAFETY: between fork and exec only dup2(2) is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            for copy in [50, 300] {
                if libc::dup2(fd, copy) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
}

fn foreign_entries_kill() -> Test {
    let inside = confined(NO_LANDLOCK, &["entry"])?;
    for name in ["getpid", "socket", "socketcall", "open", "mount", "ptrace", "connect"] {
        inside.expect(&[&format!("int80 {name}")], &["SIGSYS"])?;
    }
    Ok(())
}

fn x32_numbers_do_not_exist() -> Test {
    let inside = confined(NO_LANDLOCK, &["entry"])?;
    for number in [39, 41, 59, 101, 165].into_iter().chain(512..=547) {
        inside.expect(&[&format!("x32 {number}")], &["ENOSYS"])?;
    }
    Ok(())
}

fn io_uring_does_not_exist() -> Test {
    let inside = confined(NO_LANDLOCK, &["uring"])?;
    inside.expect(&["io_uring_setup", "io_uring_enter", "io_uring_register", "io_uring OP_SOCKET"], &["ENOSYS"])
}

const NAMESPACES: [&str; 8] =
    ["NEWUSER", "NEWNS", "NEWPID", "NEWNET", "NEWIPC", "NEWUTS", "NEWCGROUP", "NEWUSER|NEWNET"];

fn no_new_namespace() -> Test {
    let control = outside(&["namespaces"])?;
    control.expect(&["clone3 plain", "clone plain", "clone3 NEWUSER", "unshare NEWUSER"], &["ok"])?;
    let inside = confined(NO_LANDLOCK, &["namespaces"])?;
    inside.expect(&["clone plain", "unshare FS|FILES"], &["ok"])?;
    inside.expect(&["clone3 plain"], &["ENOSYS"])?;
    inside.expect(&["unshare NEWTIME"], &["EPERM"])?;
    for namespace in NAMESPACES {
        inside.expect(&[&format!("clone3 {namespace}")], &["ENOSYS"])?;
        for how in ["clone", "unshare"] {
            inside.expect(&[&format!("{how} {namespace}")], &["EPERM"])?;
        }
        inside.expect(&[&format!("clone {namespace} high bits")], &["EPERM"])?;
    }
    for kind in ["user", "mnt", "net", "pid", "uts", "ipc", "cgroup"] {
        inside.expect(&[&format!("setns /proc/self/ns/{kind}")], &["EPERM"])?;
    }
    Ok(())
}

fn administration_is_refused() -> Test {
    let refusals = ["EPERM", "ENOSYS", "EOPNOTSUPP"];
    let control = outside(&["kernel"])?;
    let passed = control.results().filter(|(_, result)| !refusals.contains(result)).count();
    if passed < 15 {
        return Err(format!("control: only {passed} calls got past the door").into());
    }
    let inside = confined(NO_LANDLOCK, &["kernel"])?;
    for (attempt, _) in control.results() {
        let wanted: &[&str] = if attempt == "personality ADDR_NO_RANDOMIZE" { &["ok"] } else { &refusals };
        inside.expect(&[attempt], wanted)?;
    }
    let inside = confined(NO_LANDLOCK, &["handles", "/etc/passwd"])?;
    inside.expect(&["name_to_handle_at /etc/passwd"], &["EOPNOTSUPP"])?;
    inside.expect(&["open_by_handle_at /etc/passwd", "open_by_handle_at pidfs"], &["EPERM"])
}

fn unknown_numbers_do_not_exist() -> Test {
    let inside = confined(NO_LANDLOCK, &["numbers"])?;
    for number in (470..=480).chain([500, 511, 512, 547, 600, 1000, 2000]) {
        inside.expect(&[&number.to_string()], &["ENOSYS"])?;
    }
    // The control: numbers that the table allows reach the kernel, which answers something else.
    let known = ["441", "439", "452"];
    for number in known {
        if inside.result(number)? == "ENOSYS" && outside(&["numbers"])?.result(number)? != "ENOSYS" {
            return Err(format!("{number} is allowed and does not reach the kernel").into());
        }
    }
    Ok(())
}

fn memfd_programs_stay_confined() -> Test {
    let control = outside(&["memfd"])?;
    control.expect(&["execveat of a memfd"], &["executed"])?;
    equal("control", &value(&control, "NoNewPrivs here")?, "0")?;
    let inside = confined(&[], &["memfd"])?;
    inside.expect(&["memfd_create"], &["ok"])?;
    for (what, want) in [("NoNewPrivs here", "1"), ("Seccomp here", "2"), ("CapEff here", "0000000000000000")] {
        equal(what, &value(&inside, what)?, want)?;
    }
    inside.expect(&["memfd_secret"], &["ENOSYS"])
}

fn no_listener() -> Test {
    let listeners = ["seccomp NEW_LISTENER", "seccomp NEW_LISTENER high bits", "seccomp NEW_LISTENER|WAIT_KILLABLE"];
    outside(&["filters"])?.expect(&["seccomp plain", "seccomp NEW_LISTENER"], &["ok"])?;
    let inside = confined(NO_LANDLOCK, &["filters"])?;
    inside.expect(&["seccomp plain", "seccomp LOG"], &["ok"])?;
    inside.expect(&listeners, &["EBUSY"])
}

fn host_keys_are_unreadable() -> Test {
    const NAME: &str = "jail-attack-canary";
    const SECRET: &str = "key-canary-4711";
    let (kind, name, secret) = (c("user"), c(NAME), c(SECRET));
    let ring = -3_i32 as usize; // KEY_SPEC_SESSION_KEYRING
    let at = [kind.as_ptr() as usize, name.as_ptr() as usize, secret.as_ptr() as usize, SECRET.len(), ring];
    let key = call(libc::SYS_add_key, &at).map_err(|errno| format!("add_key: {errno}"))?;
    let tried = (|| {
        outside(&["keys", NAME])?.expect_bytes(&format!("keyctl read {NAME}"), SECRET)?;
        let inside = confined(NO_LANDLOCK, &["keys", NAME])?;
        inside.expect(&["add_key", "request_key", "keyctl session ring", &format!("keyctl read {NAME}")], &["ENOSYS"])
    })();
    let _ = call(libc::SYS_keyctl, &[9, key as usize, ring]); // KEYCTL_UNLINK
    tried
}

fn other_families_do_not_exist() -> Test {
    let control = outside(&["families"])?;
    control.expect(&["socket 1", "socket 2", "socket netlink 0", "socket netlink 15"], &["ok"])?;
    let inside = confined(NO_LANDLOCK, &["families"])?;
    for family in 0..=46 {
        let allowed = [1, 2, 10, 16].contains(&family);
        for note in ["", " high bits"] {
            let attempt = format!("socket {family}{note}");
            let wanted: &[&str] = if allowed { &["ok"] } else { &["EAFNOSUPPORT"] };
            // A machine without IPv6 has no such socket outside either.
            if !(allowed && control.result(&attempt)? != "ok") {
                inside.expect(&[&attempt], wanted)?;
            }
        }
    }
    inside.expect(&["socket netlink 0", "socketpair 1"], &["ok"])?;
    for protocol in 1..=22 {
        inside.expect(&[&format!("socket netlink {protocol}")], &["EPROTONOSUPPORT"])?;
    }
    for version in ["IPv4", "IPv6"] {
        inside.expect(&[&format!("socket {version} raw"), &format!("socket {version} packet")], &["EPERM"])?;
        for protocol in ["SCTP", "MPTCP", "UDPLITE", "L2TP", "DCCP"] {
            inside.expect(&[&format!("socket {version} {protocol}")], &["EPROTONOSUPPORT"])?;
        }
    }
    inside.expect(&["socketpair 2", "socketpair 30", "socketpair 40"], &["EAFNOSUPPORT"])?;
    inside.expect(&["vsock connect CID 1", "vsock connect CID 2", "vsock connect CID 3"], &["EAFNOSUPPORT"])
}

const OWN_TERMINAL: [&str; 2] = ["TIOCSCTTY own terminal", "TIOCGWINSZ own terminal"];

fn terminals_take_no_input() -> Test {
    let injected = ["TIOCSTI own terminal, byte read back", "TIOCSTI own terminal high bits, byte read back"];
    let control = outside(&["terminal"])?;
    for attempt in injected {
        equal("control: byte", &control.line(attempt)?["value"].to_string(), &u32::from('x').to_string())?;
    }
    let inside = confined(NO_LANDLOCK, &["terminal"])?;
    inside.expect(&OWN_TERMINAL, &["ok"])?;
    inside.expect(&injected, &["EPERM"])?;
    inside.expect(&["TIOCLINUX", "TIOCLINUX high bits", "TIOCSETD", "TIOCSETD high bits", "TIOCCONS"], &["EPERM"])?;
    inside.expect(&["KDSKBMODE", "KDSKBENT", "VT_ACTIVATE"], &["EPERM"])
}

fn terminals_work_only_where_granted() -> Test {
    confined(&[], &["terminal"])?.expect(&OWN_TERMINAL, &["ok"])?;
    let inside = confined(&[], &["read", "/dev/zero", "/dev/full"])?;
    inside.expect(&["write /dev/zero", "write /dev/full"], &["EACCES"])?;
    confined(&["--device", "/dev/full"], &["devices"])?.expect(&["open /dev/full"], &["ok"])
}

fn only_granted_paths_are_readable() -> Test {
    let directory = tempfile::tempdir()?;
    for (name, text) in [("granted", "may be read"), ("hidden", "canary-0815")] {
        fs::create_dir(directory.path().join(name))?;
        fs::write(directory.path().join(name).join("file"), text)?;
    }
    let granted = directory.path().join("granted").display().to_string();
    let (file, hidden) = (format!("{granted}/file"), directory.path().join("hidden/file").display().to_string());
    let link = format!("{granted}/link");
    std::os::unix::fs::symlink(&hidden, &link)?;
    for options in [None, Some(NO_LANDLOCK)] {
        let control =
            options.map_or_else(|| outside(&["read", &hidden, &link]), |o| confined(o, &["read", &hidden, &link]))?;
        control.expect_bytes(&format!("read {hidden}"), "canary-0815")?;
        control.expect_bytes(&format!("read {link}"), "canary-0815")?;
    }
    let inside = confined(&["--read", &granted], &["read", &file, &hidden, &link])?;
    inside.expect_bytes(&format!("read {file}"), "may be read")?;
    for path in [&hidden, &link] {
        inside.expect(&[&format!("read {path}"), &format!("read /proc/self/root{path}")], &["EACCES"])?;
    }
    Ok(())
}

/// The verbs that Landlock knows. Modes, owners, times and attributes are the read-only mount's matter.
const COVERED: [&str; 17] = [
    "open O_WRONLY",
    "open O_RDWR",
    "open O_APPEND",
    "open O_TMPFILE",
    "open O_TRUNC",
    "open O_RDONLY|O_TRUNC",
    "truncate",
    "reopen /proc/self/fd",
    "mkdir",
    "create",
    "mknodat file",
    "mknodat fifo",
    "symlink",
    "link",
    "renameat2",
    "renameat2 EXCHANGE",
    "unlink",
];

fn read_is_not_write() -> Test {
    let directory = tempfile::tempdir()?;
    let path = directory.path().display().to_string();
    let file = format!("{path}/file");
    let fresh = || fs::write(format!("{path}/other"), "other").and_then(|()| fs::write(&file, "unchanged"));
    fresh()?;
    outside(&["write-verbs", &file])?.expect(&COVERED, &["ok"])?;
    fresh()?;
    confined(&["--full", &path], &["write-verbs", &file])?.expect(&COVERED, &["ok"])?;
    fresh()?;
    let inside = confined(&["--read", &path], &["write-verbs", &file])?;
    inside.expect(&COVERED, &["EACCES"])?;
    inside.expect(&["renameat2 WHITEOUT"], &["EINVAL"])?;
    inside.expect(&["mknod device", "mknod whiteout", "mknodat device", "mknodat whiteout"], &["EPERM"])?;
    equal("content", &fs::read_to_string(&file)?, "unchanged")?;
    // A link out of a readable directory into a writable one would lend its rights.
    let writable = tempfile::tempdir()?;
    let to = writable.path().display().to_string();
    let link = format!("{to}/link");
    outside(&["links", &file, &link])?.expect_bytes("read after linkat", "unchanged")?;
    let inside = confined(&["--read", &path, "--full", &to], &["links", &file, &link])?;
    for verb in ["linkat", "linkat AT_EMPTY_PATH", "linkat /proc/self/fd"] {
        inside.expect(&[verb], &["EXDEV", "EACCES", "ENOENT", "EPERM"])?;
    }
    Ok(())
}

fn execution_is_a_right_of_its_own() -> Test {
    let directory = tempfile::tempdir()?;
    let path = directory.path().display().to_string();
    let program = format!("{path}/true");
    fs::copy("/bin/true", &program)?;
    let attempt = format!("execute {program}");
    outside(&["execute", &program])?.expect(&[&attempt], &["ok"])?;
    confined(&["--full", &path], &["execute", &program])?.expect(&[&attempt], &["ok"])?;
    for option in ["--read", "--write"] {
        confined(&[option, &path], &["execute", &program])?.expect(&[&attempt], &["EACCES"])?;
    }
    Ok(())
}

fn missing_paths_are_errors() -> Test {
    let missing = "/jail-attack-no-such-path";
    confined(&["--optional", missing], &["status"])?;
    let output = confined_command(&["--full", missing], &["/bin/true"]).output()?;
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() == Some(125) && message.contains(missing) {
        return Ok(());
    }
    Err(format!("{}: {message}", output.status).into())
}

fn only_own_processes_are_traced() -> Test {
    let own =
        ["ptrace SEIZE child", "process_vm_readv child", "kcmp child", "pidfd_send_signal child", "ptrace TRACEME"];
    let foreign = ["ptrace SEIZE parent", "process_vm_readv parent", "kcmp parent"];
    let control = outside(&["trace"])?;
    control.expect(&own, &["ok"])?;
    control.expect(&["ptrace SEIZE parent", "kcmp parent", "pidfd_getfd parent"], &["ok"])?;
    let inside = confined(&[], &["trace"])?;
    inside.expect(&own, &["ok"])?;
    inside.expect(&foreign, &["EPERM"])?;
    inside.expect(&["pidfd_getfd parent", "pidfd_getfd child"], &["EPERM"])
}

fn only_own_processes_are_signalled() -> Test {
    outside(&["signals"])?.expect(&["kill parent", "tgkill parent", "kill child"], &["ok"])?;
    let inside = confined(&[], &["signals"])?;
    inside.expect(&["kill child"], &["ok"])?;
    inside.expect(&["kill parent", "kill init"], &["EPERM"])
}

fn limits_of_others_cannot_be_set() -> Test {
    outside(&["scheduling"])?.expect(&["prlimit read parent", "prlimit parent"], &["ok"])?;
    let inside = confined(NO_LANDLOCK, &["scheduling"])?;
    inside.expect(&["prlimit parent"], &["EPERM"])?;
    inside.expect(&["prlimit read parent", "setpriority own"], &["ok"])
}

fn init_cannot_be_slowed_down() -> Test {
    let verbs = ["prlimit", "setpriority", "sched_setaffinity", "sched_setscheduler", "sched_setparam", "ioprio_set"]
        .map(|verb| format!("{verb} init"));
    let verbs: Vec<&str> = verbs.iter().map(String::as_str).collect();
    outside(&["scheduling"])?.expect(&verbs, &["ok"])?;
    confined(NO_LANDLOCK, &["scheduling"])?.expect(&verbs, &["EPERM"])
}

/// Accepts, reads and answers for as long as the process lives.
fn serve(listener: UnixListener) {
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 64]).and_then(|_| stream.write_all(b"canary"));
        }
    });
}

fn foreign_abstract_sockets() -> Test {
    let name = format!("jail-attack-{}", std::process::id());
    serve(UnixListener::bind_addr(&SocketAddr::from_abstract_name(name.as_bytes())?)?);
    let attempt = format!("connect @{name}");
    outside(&["abstract", &name])?.expect_bytes(&attempt, "canary")?;
    confined(NO_LANDLOCK, &["abstract", &name])?.expect_bytes(&attempt, "canary")?;
    confined(&[], &["abstract", &name])?.expect(&[&attempt], &["EPERM"])?;
    // The listener was alive all the time.
    outside(&["abstract", &name])?.expect_bytes(&attempt, "canary")
}

fn foreign_unix_sockets() -> Test {
    let directory = tempfile::tempdir()?;
    let path = directory.path().display().to_string();
    let socket = format!("{path}/socket");
    serve(UnixListener::bind(&socket)?);
    let attempt = format!("connect {socket}");
    outside(&["unix", &socket])?.expect_bytes(&attempt, "canary")?;
    confined(&["--full", &path], &["unix", &socket])?.expect(&[&attempt], &["EACCES"])
}

/// Programs an agent uses; each must work under the filter: name, command, and what it prints.
const TOOLS: &[(&str, &[&str], &str)] = &[
    ("bash", &["bash", "-c", "(sleep 0 & wait) && echo $(seq 3 | tail -1)"], "3"),
    ("git", &["git", "--version"], "git version"),
    (
        "python3",
        &[
            "python3",
            "-c",
            "import threading,subprocess,asyncio,multiprocessing.pool as p\nt=threading.Thread(target=lambda:None);t.start();t.join()\nprint(subprocess.check_output(['echo','ran']).decode())",
        ],
        "ran",
    ),
    (
        "node",
        &[
            "node",
            "-e",
            "new (require('worker_threads').Worker)('',{eval:true}).on('exit',()=>require('fs').readFile('/etc/passwd',()=>console.log(require('child_process').execSync('echo ran')+'')))",
        ],
        "ran",
    ),
    ("java", &["java", "-version"], "version"),
    ("gdb", &["gdb", "-nx", "-batch", "-ex", "run", "--args", "/bin/echo", "debugged"], "debugged"),
    ("strace", &["strace", "-f", "-o", "/dev/null", "sh", "-c", "echo traced"], "traced"),
    (
        "tmux",
        &["sh", "-c", r#"tmux -L jail-attack-$$ new-session -d "sleep 9" \; display-message -p shown \; kill-server"#],
        "shown",
    ),
    (
        "gcc",
        &[
            "sh",
            "-c",
            "t=$(mktemp) && echo 'int main(void){return 0;}' | gcc -x c - -o $t && $t && echo compiled; rm $t",
        ],
        "compiled",
    ),
    ("vim", &["vim", "-u", "NONE", "-es", "+echo 'edited'", "+qa!"], ""),
    ("less", &["sh", "-c", "echo paged | less -E"], "paged"),
];

fn works(command: &'static [&'static str], output: &str) -> Test {
    let run = |mut command: std::process::Command| -> Result<String, Failed> {
        let result = command.stdin(Stdio::null()).output()?;
        let text = format!("{}{}", String::from_utf8_lossy(&result.stdout), String::from_utf8_lossy(&result.stderr));
        if result.status.success() && text.contains(output) {
            Ok(text)
        } else {
            Err(format!("{}: {text}", result.status).into())
        }
    };
    let mut control = std::process::Command::new(command[0]);
    control.args(&command[1..]);
    run(control).map_err(|failed| format!("control: {}", failed.message().unwrap_or_default()))?;
    run(confined_command(&["--full", "/"], command)).map(drop)
}
