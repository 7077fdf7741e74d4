//! SV, RX, AU: how a run ends, what it may use up, and that what is odd stays readable.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::checks::ensure;
use crate::needs::{Needing, test};
use crate::running::{Running, eventually, lives};
use crate::scene::{SECRET, Scene, printed, succeeded};
use crate::tries::{has, lacks, same};

type Test = Result<(), Failed>;

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("sv_003_a_killed_supervisor_takes_everything_along", killed_supervisor),
        test("sv_003_a_killed_init_ends_the_run_with_an_error", killed_init),
        test("sv_011_daemons_end_with_the_command", daemons_end),
        test("sv_016_every_exit_status_comes_back", every_exit_status),
        test("sv_016_signals_are_forwarded", signals_are_forwarded),
        test("sv_016_much_output_arrives", much_output_arrives),
        test("sv_016_a_closed_output_ends_the_writer", closed_output),
        test("sv_016_the_end_of_input_arrives", end_of_input_arrives),
        test("rx_001_a_fork_bomb_is_bounded", fork_bomb_is_bounded),
        test("rx_001_every_process_is_in_the_cgroup_there_is", every_process_is_in_the_cgroup),
        test("rx_002_memory_is_bounded", memory_is_bounded),
        test("rx_002_private_directories_are_bounded", private_directories_are_bounded),
        test("rx_004_descriptors_are_bounded", descriptors_are_bounded),
        test("rx_003_time_is_bounded", time_is_bounded),
        test("ps_exec_and_kill_reach_a_session", ps_exec_and_kill),
        test("a_client_that_takes_its_time_is_served_and_holds_nobody", slow_client),
        test("au_002_odd_bytes_are_escaped", odd_bytes_are_escaped),
    ]
}

fn killed_supervisor() -> Test {
    let scene = Scene::new()?;
    let before = Scene::listing(&scene.workspace())?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let script = "(setsid sh -c 'while :; do sleep 0.1; done' &) ; sleep 60 & echo ready; sleep 60";
    let mut running = Running::start(&scene, &[], script)?;
    let processes = running.processes();
    let sessions = scene.runtime().join("jail");
    if processes.len() < 4 || fs::read_dir(&sessions)?.count() != 1 {
        return Err(format!("control: {processes:?}").into());
    }
    running.signal(Signal::SIGKILL)?;
    running.wait(Duration::from_secs(1))?;
    eventually("no process of the jail lives", Duration::from_secs(1), || !processes.iter().any(|pid| lives(*pid)))?;
    let after = Scene::listing(&scene.workspace())?;
    same("workspace", &format!("{after:#?}"), &format!("{before:#?}"))?;
    // Root's session directory is not init's to remove, which is an unprivileged user: the next command does.
    if nix::unistd::geteuid().is_root() {
        scene.jail(&["ps"]).output()?;
    }
    same("sessions", &fs::read_dir(&sessions)?.count().to_string(), "0")?;
    same("mounts", &fs::read_to_string("/proc/self/mountinfo")?, &mounts)?;
    // The cgroup was the supervisor's to remove: a later run does, once it is certain that nobody is on the way in.
    let name = format!("jail-{}", running.session);
    eventually("the cgroup is removed", Duration::from_secs(10), || {
        let left = Command::new("find").args(["/sys/fs/cgroup", "-name", &name]).output();
        let _ = scene.inside_ok("sleep 0.3");
        left.is_ok_and(|left| left.stdout.is_empty())
    })
}

/// Where the machine lets this user make a cgroup, all that the jail starts is in it, init too; where not, there is none.
fn every_process_is_in_the_cgroup() -> Test {
    let scene = Scene::new()?;
    let running = Running::start(&scene, &[], "(setsid sleep 60 &); echo ready; sleep 60")?;
    let name = format!("jail-{}", running.session);
    let found = Command::new("find").args(["/sys/fs/cgroup", "-name", &name]).output()?;
    let processes = running.processes();
    ensure(processes.len() >= 3, || format!("control: {processes:?}"))?;
    for directory in String::from_utf8_lossy(&found.stdout).lines() {
        let within = fs::read_to_string(format!("{directory}/cgroup.procs"))?;
        for pid in &processes {
            let inside = within.lines().any(|line| *line == pid.to_string());
            ensure(inside, || format!("{pid} is not in {directory}: {within:?}"))?;
        }
    }
    // None at all is possible only where no place for one can be written to.
    let writable = || Command::new("sh").args(["-c", "test -w /sys/fs/cgroup/pids/cgroup.procs"]).status();
    ensure(!found.stdout.is_empty() || !writable()?.success(), || format!("no cgroup {name}"))
}

fn killed_init() -> Test {
    let scene = Scene::new()?;
    let before = Scene::listing(&scene.workspace())?;
    let mut command = scene.run_with(&[]);
    let errors = scene.outside("errors");
    command.args(["sh", "-c", "sleep 60 & echo ready; sleep 60"]).stderr(fs::File::create(&errors)?);
    let mut running = Running::spawn(&scene, command)?;
    let processes = running.processes();
    kill(Pid::from_raw(running.init()?), Signal::SIGKILL)?;
    let status = running.wait(Duration::from_secs(3))?;
    same("status", &format!("{:?}", status.code()), "Some(125)")?;
    has("message", &fs::read_to_string(&errors)?, "init is gone")?;
    eventually("no process of the jail lives", Duration::from_secs(1), || !processes.iter().any(|pid| lives(*pid)))?;
    same("workspace", &format!("{:#?}", Scene::listing(&scene.workspace())?), &format!("{before:#?}"))?;
    same("sessions", &fs::read_dir(scene.runtime().join("jail"))?.count().to_string(), "0")
}

fn daemons_end() -> Test {
    let scene = Scene::new()?;
    // A daemon in every style, then the command itself ends.
    let script = "(setsid sh -c 'trap \"\" TERM HUP INT; while :; do echo x >> beat; sleep 0.05; done' >/dev/null 2>&1 &)\n\
                  python3 -c 'import os, time\nif os.fork() == 0:\n os.setsid()\n if os.fork() == 0:\n  while True:\n   open(\"beat\", \"a\").write(\"y\"); time.sleep(0.05)\n os._exit(0)\n' >/dev/null 2>&1\n\
                  sleep 0.3; exit 7";
    let start = Instant::now();
    let output = scene.inside(script)?;
    same("status", &format!("{:?}", output.status.code()), "Some(7)")?;
    if start.elapsed() > Duration::from_secs(5) {
        return Err("the daemons kept the run alive".into());
    }
    let beat = fs::read_to_string(scene.path("beat"))?;
    if !beat.contains('x') || !beat.contains('y') {
        return Err(format!("control: the daemons did not run: {beat:?}").into());
    }
    std::thread::sleep(Duration::from_millis(300));
    same("beats after the end", &fs::read_to_string(scene.path("beat"))?, &beat)
}

fn every_exit_status() -> Test {
    let scene = Scene::new()?;
    for status in (0..=255).step_by(9).chain([2, 124, 126, 127, 128, 130, 254]) {
        let output = scene.inside(&format!("exit {status}"))?;
        same("status", &format!("{:?}", output.status.code()), &format!("Some({status})"))?;
    }
    for signal in [1, 2, 3, 13, 10, 11] {
        let output = scene.inside(&format!("kill -{signal} $$; sleep 5"))?;
        same("signal", &format!("{:?}", output.status.signal()), &format!("Some({signal})"))?;
    }
    Ok(())
}

fn signals_are_forwarded() -> Test {
    let scene = Scene::new()?;
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGQUIT] {
        let name = signal.as_str().trim_start_matches("SIG");
        let script = format!("trap 'echo got {name}; exit 42' {name}; echo ready; while :; do sleep 0.05; done");
        let mut running = Running::start(&scene, &[], &script)?;
        running.signal(signal)?;
        same("workload", &running.line()?, &format!("got {name}"))?;
        same("status", &format!("{:?}", running.wait(Duration::from_secs(3))?.code()), "Some(42)")?;
    }
    // Without a handler the signal ends the workload, and the supervisor dies of it too.
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut running = Running::start(&scene, &[], "echo ready; exec sleep 60")?;
        running.signal(signal)?;
        same(
            "signal",
            &format!("{:?}", running.wait(Duration::from_secs(3))?.signal()),
            &format!("Some({})", signal as i32),
        )?;
    }
    Ok(())
}

fn much_output_arrives() -> Test {
    let scene = Scene::new()?;
    let mut command = scene.run_with(&[]);
    let mut child = command.args(["head", "-c", "100000000", "/dev/zero"]).stdout(Stdio::piped()).spawn()?;
    let mut stdout = child.stdout.take().ok_or("no output")?;
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    loop {
        let length = stdout.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        total += length;
    }
    same("bytes", &total.to_string(), "100000000")?;
    same("status", &format!("{:?}", child.wait()?.code()), "Some(0)")
}

fn closed_output() -> Test {
    let scene = Scene::new()?;
    let run = |mut command: Command| -> Result<Option<i32>, Failed> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut stdout = child.stdout.take().ok_or("no output")?;
        stdout.read_exact(&mut [0; 4])?;
        drop(stdout);
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status.signal().or(status.code()));
            }
            if start.elapsed() > Duration::from_secs(10) {
                child.kill()?;
                child.wait()?;
                return Err("the writer goes on".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let mut inside = scene.run_with(&[]);
    inside.arg("yes");
    // Rust programs start others with SIGPIPE at its default again, so `yes` dies of it outside, too.
    same("signal", &format!("{:?}", run(inside)?), &format!("{:?}", run(scene.host("yes"))?))
}

fn end_of_input_arrives() -> Test {
    let scene = Scene::new()?;
    let output = crate::scene::with_input(scene.run_with(&[]).args(["sh", "-c", "cat; echo end"]), b"input\n")?;
    same("output", &String::from_utf8_lossy(&output.stdout), "input\nend\n")?;
    let output = scene.run_with(&[]).args(["sh", "-c", "cat; echo end"]).output()?;
    same("output", &String::from_utf8_lossy(&output.stdout), "end\n")
}

/// A policy file of the user's with limits.
fn limits(scene: &Scene, text: &str) -> Result<String, Failed> {
    let path = scene.outside("policy.toml");
    fs::write(&path, format!("[limits]\n{text}\n"))?;
    Ok(path.display().to_string())
}

fn fork_bomb_is_bounded() -> Test {
    let scene = Scene::new()?;
    let policy = limits(&scene, "processes = 40")?;
    // At most 400 in the control, and each ends by itself.
    let script = "import os, time\nn = 0\nfor _ in range(400):\n try:\n  if os.fork() == 0: time.sleep(8); os._exit(0)\n  n += 1\n \
                  except OSError as e: error = e.errno\nprint('ready' if n < 400 else 'all', flush=True)\nprint(n, flush=True)\ntime.sleep(20)\n";
    scene.write("bomb.py", script)?;
    let control = scene.outside_ok("timeout 5 python3 bomb.py; true")?;
    has("control", &control, "all\n400")?;
    let mut command = scene.run_with(&["--policy", &policy]);
    command.args(["python3", "bomb.py"]);
    let mut running = Running::spawn(&scene, command)?;
    let count: u32 = running.line()?.parse()?;
    if count > 40 {
        return Err(format!("{count} processes with a limit of 40").into());
    }
    // Meanwhile the host and the supervisor do as ever.
    let start = Instant::now();
    succeeded("true", &scene.host("true").output()?)?;
    succeeded("ps", &scene.jail(&["ps"]).output()?)?;
    if start.elapsed() > Duration::from_secs(2) {
        return Err("the host is slow".into());
    }
    let processes = running.processes();
    succeeded("kill", &scene.jail(&["kill", &running.session]).output()?)?;
    eventually("all are gone", Duration::from_secs(2), || !processes.iter().any(|pid| lives(*pid)))
}

fn memory_is_bounded() -> Test {
    let scene = Scene::new()?;
    let policy = limits(&scene, "memory = \"96MiB\"")?;
    let script = "python3 -c 'b = bytearray(300 << 20); print(\"got it\")'; echo still";
    has("control", &scene.outside_ok(script)?, "got it")?;
    let output = scene.inside_with(&["--policy", &policy], script)?;
    let text = printed(&output);
    lacks("inside", &text, "got it")?;
    // The one process is refused or killed; the shell beside it goes on where only that one was killed.
    if output.status.code() != Some(0) && output.status.signal() != Some(9) {
        return Err(text.into());
    }
    let small = scene.inside_with(&["--policy", &policy], "python3 -c 'b = bytearray(20 << 20); print(\"got it\")'")?;
    has("control", &printed(&small), "got it")
}

fn private_directories_are_bounded() -> Test {
    let scene = Scene::new()?;
    let policy = limits(&scene, "memory = \"96MiB\"")?;
    let script = "for d in /tmp /var/tmp /dev/shm /run ~; do head -c 60000000 /dev/zero > $d/fill 2>/dev/null || echo full; done; \
                  cat /tmp/fill /var/tmp/fill /dev/shm/fill /run/fill ~/fill 2>/dev/null | wc -c";
    let output = scene.inside_with(&["--policy", &policy], script)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let total: u64 = text.lines().last().unwrap_or_default().trim().parse().unwrap_or(0);
    has("inside", &text, "full")?;
    if total > 48 << 20 { Err(format!("{total} bytes in private directories").into()) } else { Ok(()) }
}

fn descriptors_are_bounded() -> Test {
    let scene = Scene::new()?;
    let policy = limits(&scene, "open_files = 100")?;
    let script = "import os, resource, time\nn = 0\ntry:\n while n < 5000: os.dup(0); n += 1\nexcept OSError as e: print('errno', e.errno)\n\
                  print('ready', flush=True); print(n, flush=True)\ntry: resource.setrlimit(resource.RLIMIT_NOFILE, (5000, 5000)); print('raised', flush=True)\n\
                  except (ValueError, OSError): print('refused', flush=True)\ntime.sleep(20)\n";
    let mut command = scene.run_with(&["--policy", &policy]);
    command.args(["python3", "-c", script]);
    let mut running = Running::spawn(&scene, command)?;
    let count: u32 = running.line()?.parse()?;
    if count > 100 {
        return Err(format!("{count} descriptors with a limit of 100").into());
    }
    same("raising the limit", &running.line()?, "refused")?;
    let other = scene.jail(&["exec", &running.session, "echo", "works"]).output()?;
    same("exec meanwhile", &String::from_utf8_lossy(&other.stdout), "works\n")
}

fn time_is_bounded() -> Test {
    let scene = Scene::new()?;
    let policy = limits(&scene, "time = \"1s\"")?;
    let start = Instant::now();
    let output = scene.inside_with(&["--policy", &policy], "trap '' TERM; echo started; sleep 60; echo end")?;
    same("status", &format!("{:?}", output.status.code()), "Some(124)")?;
    same("output", &String::from_utf8_lossy(&output.stdout), "started\n")?;
    has("message", &String::from_utf8_lossy(&output.stderr), "time limit")?;
    if start.elapsed() > Duration::from_secs(5) { Err("the limit came late".into()) } else { Ok(()) }
}

/// A client that connects and says nothing for longer than anybody would wait for it.
fn slow_client() -> Test {
    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, socket};
    use std::os::fd::AsRawFd;
    let scene = Scene::new()?;
    let mut running = Running::start(&scene, &[], "echo ready; exec sleep 60")?;
    let path = scene.runtime().join("jail").join(&running.session).join("control.sock");
    let client = || -> Result<std::os::fd::OwnedFd, Failed> {
        let client = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
        connect(client.as_raw_fd(), &UnixAddr::new(&path)?)?;
        Ok(client)
    };
    // More than may be open without a word: each closes an older one, and none ends the run.
    let crowd = (0..40).map(|_| client()).collect::<Result<Vec<_>, _>>()?;
    let slow = client()?;
    let other = scene.jail(&["exec", &running.session, "echo", "works"]).output()?;
    same("exec meanwhile", &String::from_utf8_lossy(&other.stdout), "works\n")?;
    drop(crowd);
    std::thread::sleep(Duration::from_secs(1));
    send(slow.as_raw_fd(), b"\"Kill\"", MsgFlags::MSG_NOSIGNAL)?;
    let status = running.wait(Duration::from_secs(20))?;
    same("the end it asked for", &format!("{:?}", status.signal()), "Some(9)")
}

fn ps_exec_and_kill() -> Test {
    let scene = Scene::new()?;
    let mut running = Running::start(&scene, &[], "echo ready; sleep 60")?;
    let listed = scene.jail(&["ps"]).output()?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    has("ps", &text, &running.session)?;
    has("ps", &text, "sleep 60")?;
    // Status, signals, input and output of another command, by an abbreviated name.
    let exec = |arguments: &[&str]| -> Command {
        let mut command = scene.jail(&["exec", &running.session[..6]]);
        command.args(arguments);
        command
    };
    same("status", &format!("{:?}", exec(&["sh", "-c", "exit 9"]).output()?.status.code()), "Some(9)")?;
    same("signal", &format!("{:?}", exec(&["sh", "-c", "kill -TERM $$"]).output()?.status.signal()), "Some(15)")?;
    let output = crate::scene::with_input(&mut exec(&["cat"]), b"through")?;
    same("output", &String::from_utf8_lossy(&output.stdout), "through")?;
    same("missing", &format!("{:?}", exec(&["no-such-command"]).output()?.status.code()), "Some(127)")?;
    let missing = scene.jail(&["exec", "zzzz", "true"]).output()?;
    has("message", &String::from_utf8_lossy(&missing.stderr), "no running session")?;
    let outside = scene
        .jail(&["exec", "--directory", &scene.runtime().display().to_string(), &running.session, "true"])
        .output()?;
    if outside.status.success() {
        return Err("exec started outside the jail".into());
    }
    let processes = running.processes();
    succeeded("kill", &scene.jail(&["kill", &running.session]).output()?)?;
    // When `jail kill` has returned, everything is gone already.
    if let Some(pid) = processes.iter().find(|pid| lives(**pid)) {
        return Err(format!("process {pid} lives after kill").into());
    }
    same("status", &format!("{:?}", running.wait(Duration::from_secs(1))?.signal()), "Some(9)")?;
    same("ps", &String::from_utf8_lossy(&scene.jail(&["ps", "--json"]).output()?.stdout), "[]\n")
}

/// Bytes that steer a terminal, break lines, reorder text, or are no text.
const ODD: &[u8] = b"odd\x1b]0;title\x07\x1b[2J\r\n{\"event\":\"fake\"}\xc2\x9b31m\xe2\x80\xae\xff\xfe";

fn odd_bytes_are_escaped() -> Test {
    let scene = Scene::new()?;
    let odd = OsStr::from_bytes(ODD);
    let clean = |what: &str, bytes: &[u8]| -> Test {
        let text = std::str::from_utf8(bytes).map_err(|error| format!("{what}: {error}"))?;
        let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        match text.lines().find(|line| line.contains(bad) || line.starts_with("{\"event\"")) {
            Some(line) => Err(format!("{what}: {line:?}").into()),
            None => has(what, text, "odd"),
        }
    };
    // A file of that name that is hidden, one that is protected, and the command's own words.
    fs::write(
        scene.workspace().join(OsStr::from_bytes(&[ODD, b".pem"].concat())),
        format!("-----BEGIN PRIVATE KEY-----\n{SECRET}\n"),
    )?;
    let mut command = scene.run_with(&[]);
    command.args(["sh", "-c", "echo ready; sleep 60", "sh"]).arg(odd);
    let running = Running::spawn(&scene, command)?;
    clean("ps", &scene.jail(&["ps"]).output()?.stdout)?;
    clean("ps --json", &scene.jail(&["ps", "--json"]).output()?.stdout)?;
    let exec = scene.jail(&["exec", &running.session, "echo"]).arg(odd).output()?;
    same("exec", &format!("{:?}", exec.stdout), &format!("{:?}", [ODD, b"\n"].concat()))?;
    let record = scene.outside("state").join("jail/sessions").join(format!("{}.jsonl", running.session));
    let record = fs::read(&record).map_err(|error| format!("{}: {error}", record.display()))?;
    clean("record", &record)?;
    for line in String::from_utf8_lossy(&record).lines() {
        let event: serde_json::Value = serde_json::from_str(line)?;
        lacks("event", &event["event"].to_string(), "fake")?;
    }
    drop(running);
    // Messages: a command, a directory, a flag's path and a start directory of that name.
    let missing = scene.run_with(&[]).arg(odd).output()?;
    clean("missing command", &missing.stderr)?;
    let mut flag = scene.jail(&["run", "--read"]);
    clean("missing path", &flag.arg(odd).args(["--", "true"]).output()?.stderr)?;
    let mut workspace = scene.jail(&["run", "--workspace"]);
    clean("missing workspace", &workspace.arg(odd).args(["--", "true"]).output()?.stderr)?;
    let mut policy = scene.jail(&["run", "--policy"]);
    clean("missing policy", &policy.arg(odd).args(["--", "true"]).output()?.stderr)?;
    let loud = scene.jail(&["run", "--", "sh", "-c", "true"]).arg(odd).output()?;
    let mut plan = scene.jail(&["plan", "--", "true"]);
    clean("plan", &plan.arg(odd).output()?.stdout)?;
    succeeded("loud", &loud)
}
