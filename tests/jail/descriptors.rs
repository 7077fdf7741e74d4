//! FD: descriptors that come along, standard streams that are files of the host, and the terminal.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use crate::canary::Canaries;
use crate::needs::{Needing, test};
use crate::running::Running;
use crate::scene::{SECRET, Scene, printed, succeeded};
use crate::tries::{Tries, has, lacks, same};

type Test = Result<(), Failed>;

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("fd_001_nothing_above_two_comes_along", nothing_comes_along),
        test("fd_001_init_keeps_no_descriptor_of_the_caller", init_keeps_nothing),
        test("fd_002_input_is_not_writable_and_not_reopened", input_is_not_reopened),
        test("fd_002_output_is_not_readable_and_not_cut", output_is_not_reopened),
        test("fd_002_a_directory_as_input_leads_nowhere", directory_as_input),
        test("fd_002_a_socket_as_input_and_output_is_a_pipe_inside", socket_as_input),
        test("fd_003_fd_004_fd_005_fd_007_nothing_arrives_in_the_outer_terminal", nothing_is_typed),
        test("fd_007_without_a_terminal_there_is_none", no_controlling_terminal),
        test("fd_007_with_a_terminal_it_is_the_jails_own", own_terminal),
        test("fd_008_a_clipboard_sequence_does_not_reach_the_terminal", clipboard_is_filtered),
        test("fd_011_a_directory_opened_before_is_gone", directory_opened_before),
    ]
}

/// Descriptors of every kind on the numbers 3 to 200 of the command.
fn leak(command: &mut Command, scene: &Scene) -> Result<Vec<OwnedFd>, Failed> {
    let path = scene.outside("leaked");
    fs::write(&path, SECRET)?;
    let open = |path: &std::path::Path, flags: i32| {
        OpenOptions::new().read(true).custom_flags(flags).open(path).map(OwnedFd::from)
    };
    let (one, two) = UnixStream::pair()?;
    let master = nix::pty::posix_openpt(nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_NOCTTY)?;
    let mut kinds: Vec<OwnedFd> = vec![
        open(&path, 0)?,
        open(std::path::Path::new("/"), libc::O_DIRECTORY)?,
        open(&scene.home(), libc::O_PATH | libc::O_DIRECTORY)?,
        one.into(),
        two.into(),
        nix::sys::epoll::Epoll::new(nix::sys::epoll::EpollCreateFlags::empty())?.0,
        nix::sys::memfd::memfd_create(c"leaked", nix::sys::memfd::MFdFlags::empty())?,
    ];
    // SAFETY: the descriptor is duplicated and belongs to nobody else.
    kinds.push(unsafe { OwnedFd::from_raw_fd(libc::dup(master.as_raw_fd())) });
    let numbers: Vec<i32> = kinds.iter().map(AsRawFd::as_raw_fd).collect();
    // SAFETY: between fork and exec only dup2(2) is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            // First far away from every number that is a source, then downwards.
            for (index, number) in numbers.iter().enumerate() {
                if libc::dup2(*number, 300 + index as i32) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            for target in 3..=200 {
                libc::dup2(300 + target % numbers.len() as i32, target);
            }
            Ok(())
        });
    }
    Ok(kinds)
}

fn nothing_comes_along() -> Test {
    let scene = Scene::new()?;
    let program = std::env::current_exe()?;
    let run = |mut command: Command| -> Result<(String, Vec<OwnedFd>), Failed> {
        let kept = leak(&mut command, &scene)?;
        let output = command.args(["try", "descriptors"]).output()?;
        succeeded("descriptors", &output)?;
        Ok((String::from_utf8_lossy(&output.stdout).into_owned(), kept))
    };
    let (control, _kept) = run(scene.host(&program))?;
    if control.lines().count() < 190 {
        return Err(format!("the control has only {} descriptors", control.lines().count()).into());
    }
    let flag = program.display().to_string();
    let mut command = scene.run_with(&["--read", &flag]);
    command.arg(&program);
    let (inside, _kept) = run(command)?;
    let tries: Result<Vec<serde_json::Value>, _> = inside.lines().map(serde_json::from_str).collect();
    let tries = Tries::from(tries?);
    // The fourth is the listing's own.
    same("descriptors", &tries.value("descriptors")?, "4")?;
    has("the fourth", tries.line("descriptor 3")?["target"].as_str().unwrap_or_default(), "/fd")?;
    lacks("descriptors", &inside, "leaked")?;
    // `jail exec` brings none either.
    let running = Running::start(&scene, &["--read", &flag], "echo ready; sleep 60")?;
    let mut command = scene.jail(&["exec", &running.session]);
    command.arg(&program);
    let (inside, _kept) = run(command)?;
    lacks("descriptors of exec", &inside, "leaked")?;
    same("descriptors of exec", &inside.lines().count().to_string(), "5")
}

fn init_keeps_nothing() -> Test {
    let scene = Scene::new()?;
    let mut command = scene.run_with(&[]);
    let _kept = leak(&mut command, &scene)?;
    command.args(["sh", "-c", "echo ready; sleep 60"]);
    let running = Running::spawn(&scene, command)?;
    let links = |pid: i32| -> Vec<String> {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        entries.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.display().to_string())).collect()
    };
    let supervisor = links(running.supervisor());
    if nix::unistd::geteuid().is_root() && supervisor.len() < 190 {
        return Err(format!("control: the supervisor has only {} descriptors", supervisor.len()).into());
    }
    let init = running.init()?;
    if !nix::unistd::geteuid().is_root() {
        // Not dumpable: even the same user on the host cannot list them.
        return match fs::read_dir(format!("/proc/{init}/fd")) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
            other => Err(format!("{other:?}").into()),
        };
    }
    let own = links(init);
    if own.is_empty() || own.len() > 60 {
        return Err(format!("init has {own:?}").into());
    }
    let home = scene.home().display().to_string();
    match own
        .iter()
        .find(|link| link.contains("leaked") || **link == home || link.contains("ptmx") || link.contains("epoll"))
    {
        Some(link) => Err(format!("init holds {link}").into()),
        None => Ok(()),
    }
}

/// A file that may be read is standard input, opened for reading and writing as a careless caller does.
fn input_is_not_reopened() -> Test {
    let scene = Scene::new()?;
    let path = scene.outside("input");
    let script = "f=/proc/self/fd/0; head -c 4; for f in /proc/self/fd/0 /dev/stdin; do (echo EVIL >> $f) 2>/dev/null; \
                  (: > $f) 2>/dev/null; done; (echo EVIL >&0) 2>/dev/null; readlink /proc/self/fd/0; true";
    let run = |mut command: Command| -> Result<(String, String), Failed> {
        fs::write(&path, "input of the host\n")?;
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let output = command.args(["-c", script]).stdin(file).output()?;
        Ok((String::from_utf8_lossy(&output.stdout).into_owned(), fs::read_to_string(&path)?))
    };
    let (_, after) = run(scene.host("sh"))?;
    has("control", &after, "EVIL")?;
    let mut inside = scene.run_with(&[]);
    inside.arg("sh");
    let (text, after) = run(inside)?;
    has("inside", &text, "inpu")?;
    has("inside", &text, "pipe:")?;
    same("the file", &after, "input of the host\n")
}

fn output_is_not_reopened() -> Test {
    let scene = Scene::new()?;
    let path = scene.outside("output");
    // Inside, descriptor 3 is a pipe that nobody writes to: reading it gets a moment.
    let script = "exec 3>&1; timeout 1 cat /proc/self/fd/3 >&2; timeout 1 cat /dev/fd/3 >&2; timeout 1 cat <&3 >&2; \
                  (: > /proc/self/fd/3); python3 -c 'import os; os.ftruncate(3, 0)'; echo added; true";
    let run = |mut command: Command| -> Result<(String, String), Failed> {
        fs::write(&path, format!("{SECRET}\n"))?;
        let file = OpenOptions::new().read(true).append(true).open(&path)?;
        let child = command.args(["-c", script]).stdout(file).stderr(Stdio::piped()).stdin(Stdio::null()).spawn()?;
        let output = wait(child, Duration::from_secs(20))?;
        Ok((String::from_utf8_lossy(&output.stderr).into_owned(), fs::read_to_string(&path)?))
    };
    let (errors, after) = run(scene.host("sh"))?;
    has("control", &errors, SECRET)?;
    same("control", &after, "added\n")?;
    let mut inside = scene.run_with(&[]);
    inside.arg("sh");
    let (errors, after) = run(inside)?;
    lacks("inside", &errors, SECRET)?;
    same("the file", &after, &format!("{SECRET}\nadded\n"))
}

fn wait(child: std::process::Child, patience: Duration) -> Result<std::process::Output, Failed> {
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        if receiver.recv_timeout(patience).is_err() {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    });
    let output = child.wait_with_output()?;
    let _ = sender.send(());
    let _ = thread.join();
    Ok(output)
}

fn directory_as_input() -> Test {
    let scene = Scene::new()?;
    fs::write(scene.outside("canary"), SECRET)?;
    let script = "cat /proc/self/fd/0/canary /dev/stdin/canary 2>/dev/null; ls /proc/self/fd/0/ 2>/dev/null; \
                  cd -P /proc/self/fd/0 2>/dev/null && cat canary; cd / ; cat /proc/self/fd/0/../home/repo/.env 2>/dev/null; echo end";
    let run = |mut command: Command| -> Result<String, Failed> {
        let output = command.args(["-c", script]).stdin(File::open(scene.outside(""))?).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    has("control", &run(scene.host("sh"))?, SECRET)?;
    let mut inside = scene.run_with(&[]);
    inside.arg("sh");
    let text = run(inside)?;
    lacks("inside", &text, SECRET)?;
    lacks("inside", &text, "canary")?;
    has("inside", &text, "end")
}

/// A connected socket of the host as standard streams: data passes, but inside nothing is a socket that could send
/// elsewhere, pass descriptors or tell its peer.
fn socket_as_input() -> Test {
    let scene = Scene::new()?;
    let mut canaries = Canaries::new();
    let [_, target] = canaries.unix(&scene.outside(""), "elsewhere")?;
    let script = format!(
        "import socket, os\nfor fd in (0, 1, 2):\n try:\n  s = socket.socket(fileno=os.dup(fd)); s.sendto(b'x', '{target}'); print('socket')\n \
         except OSError as e: pass\nprint('end')\n"
    );
    scene.write("send.py", script)?;
    let run = |mut command: Command| -> Result<String, Failed> {
        let (own, given) = UnixStream::pair()?;
        let (own_datagram, _keep) = UnixDatagram::pair()?;
        let output = command
            .args(["send.py"])
            .stdin(Stdio::from(OwnedFd::from(own_datagram)))
            .stdout(Stdio::from(OwnedFd::from(given)))
            .output()?;
        drop(command);
        let mut text = String::new();
        own.set_read_timeout(Some(Duration::from_secs(2)))?;
        let _ = (&own).read_to_string(&mut text);
        succeeded("send.py", &output)?;
        Ok(text)
    };
    let datagram_control = {
        let mut command = scene.host("python3");
        let socket = UnixDatagram::unbound()?;
        command.arg("send.py").stdin(Stdio::from(OwnedFd::from(socket))).output()?
    };
    has("control", &String::from_utf8_lossy(&datagram_control.stdout), "socket")?;
    same("control", &canaries.arrived().len().to_string(), "1")?;
    let mut inside = scene.run_with(&[]);
    inside.arg("python3");
    let text = run(inside)?;
    same("inside", &text, "end\n")?;
    same("arrived", &format!("{:?}", canaries.arrived()), "[]")
}

/// A command on a new outer terminal: what it showed, and what was typed into it, left there for the next reader.
fn on_terminal(mut command: Command, patience: Duration) -> Result<(String, String), Failed> {
    let pty = nix::pty::openpty(None, None)?;
    let slave = pty.slave.as_raw_fd();
    // SAFETY: between fork and exec only setsid(2) and ioctl(2) are called, which are async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            if libc::setsid() < 0 || libc::ioctl(slave, libc::TIOCSCTTY, 0) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let end = || pty.slave.try_clone().map(Stdio::from);
    let mut child = command.stdin(end()?).stdout(end()?).stderr(end()?).spawn()?;
    drop(command);
    let mut master = File::from(pty.master.try_clone()?);
    nix::fcntl::fcntl(&master, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    let mut shown = Vec::new();
    let mut buffer = [0; 4096];
    let start = Instant::now();
    loop {
        let ended = child.try_wait()?.is_some();
        match master.read(&mut buffer) {
            Ok(length) if length > 0 => shown.extend_from_slice(&buffer[..length]),
            _ if ended => break,
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
        if start.elapsed() > patience {
            child.kill()?;
            child.wait()?;
            return Err(format!("hangs after {:?}", String::from_utf8_lossy(&shown)).into());
        }
    }
    // What waits in the outer terminal's input, read as the shell would after the command.
    let mut settings = nix::sys::termios::tcgetattr(&pty.slave)?;
    settings.local_flags.remove(nix::sys::termios::LocalFlags::ICANON | nix::sys::termios::LocalFlags::ECHO);
    nix::sys::termios::tcsetattr(&pty.slave, nix::sys::termios::SetArg::TCSANOW, &settings)?;
    nix::fcntl::fcntl(&pty.slave, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    let mut typed = Vec::new();
    let mut slave = File::from(pty.slave);
    while let Ok(length) = slave.read(&mut buffer) {
        if length == 0 {
            break;
        }
        typed.extend_from_slice(&buffer[..length]);
    }
    Ok((String::from_utf8_lossy(&shown).into_owned(), String::from_utf8_lossy(&typed).into_owned()))
}

/// Types into every terminal that can be found, by every request.
const TYPE: &str = "import fcntl, glob, os, sys\n\
    others = ['/dev/console', '/dev/tty1'] + glob.glob('/dev/pts/*') if sys.argv[1:] == ['all'] else []\n\
    for name in [0, 1, 2, '/dev/tty'] + others:\n\
    \x20try:\n\
    \x20 fd = name if isinstance(name, int) else os.open(name, os.O_RDWR)\n\
    \x20except OSError: continue\n\
    \x20for request in (0x5412, 0x100005412):\n\
    \x20 for byte in b'EVIL':\n\
    \x20  try: fcntl.ioctl(fd, request & 0xffffffff, bytes([byte]))\n\
    \x20  except (OSError, OverflowError): pass\n\
    \x20for request in (0x541C, 0x5423, 0x541D, 0x4B45, 0x5606):\n\
    \x20 try: fcntl.ioctl(fd, request, b'\\2\\0\\0\\0\\0\\0\\0\\0'); print('accepted', hex(request))\n\
    \x20 except OSError: pass\n\
    print('end')\n";

fn nothing_is_typed() -> Test {
    let scene = Scene::new()?;
    scene.write("type.py", TYPE)?;
    let patience = Duration::from_secs(30);
    let legacy = fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti").is_ok_and(|value| value.trim() == "1");
    let mut control = scene.host("python3");
    // Only into its own terminal: this machine's user has others.
    control.arg("type.py");
    let (_, typed) = on_terminal(control, patience)?;
    if legacy || nix::unistd::geteuid().is_root() {
        has("control", &typed, "EVIL")?;
    }
    for stdin in [false, true] {
        let mut inside = scene.run_with(&[]);
        if stdin {
            inside.args(["sh", "-c", "python3 type.py all </dev/null"]);
        } else {
            inside.args(["python3", "type.py", "all"]);
        }
        let (shown, typed) = on_terminal(inside, patience)?;
        has("shown", &shown, "end")?;
        lacks("shown", &shown, "accepted")?;
        same("typed into the outer terminal", &typed, "")?;
    }
    // The same by `jail exec`.
    let running = Running::start(&scene, &[], "echo ready; sleep 60")?;
    let (shown, typed) = on_terminal(scene.jail(&["exec", &running.session, "python3", "type.py"]), patience)?;
    has("shown", &shown, "end")?;
    same("typed into the outer terminal", &typed, "")
}

fn no_controlling_terminal() -> Test {
    let scene = Scene::new()?;
    // The supervisor has a controlling terminal, but no standard stream is one.
    let script = "import os\ntry: os.open('/dev/tty', os.O_RDWR); print('opened')\nexcept OSError as e: print(e.errno)\n\
                  print(sorted(os.listdir('/dev/pts')))\n";
    scene.write("tty.py", script)?;
    let on = |command: &str| -> Result<String, Failed> {
        let mut shell = scene.host("sh");
        shell.args(["-c", &format!("{command} </dev/null >out 2>err; cat out")]);
        Ok(on_terminal(shell, Duration::from_secs(20))?.0)
    };
    has("control", &on("python3 tty.py")?, "opened")?;
    let shown = on(&format!("{} --quiet run -- python3 tty.py", env!("CARGO_BIN_EXE_jail")))?;
    has("errno", &shown, &libc::ENXIO.to_string())?;
    has("terminals", &shown, "['ptmx']")
}

fn own_terminal() -> Test {
    let scene = Scene::new()?;
    let mut inside = scene.run_with(&[]);
    inside.args(["sh", "-c", "tty; readlink /proc/self/fd/0; ls /dev/pts; stty raw </dev/tty && stty sane </dev/tty; echo to-tty >/dev/tty; echo end"]);
    let (shown, typed) = on_terminal(inside, Duration::from_secs(20))?;
    has("shown", &shown, "/dev/pts/0")?;
    has("shown", &shown, "to-tty")?;
    lacks("shown", &shown, "/dev/pts/1")?;
    same("typed", &typed, "")?;
    // The outer terminal's modes are what they were, also when the supervisor is killed while they are changed.
    let mut shell = scene.host("sh");
    let jail = env!("CARGO_BIN_EXE_jail");
    shell.args(["-c", &format!("stty -g; {jail} --quiet run -- sh -c 'stty raw -echo'; stty -g")]);
    let (shown, _) = on_terminal(shell, Duration::from_secs(20))?;
    let modes: Vec<&str> = shown.lines().map(str::trim).filter(|line| line.matches(':').count() > 20).collect();
    match modes[..] {
        [before, after] => same("modes", after, before),
        _ => Err(format!("{shown:?}").into()),
    }
}

fn clipboard_is_filtered() -> Test {
    let scene = Scene::new()?;
    let script = "printf 'before\\033]52;c;RVZJTA==\\007\\033[21t\\033[c\\033P$q\"p\\033\\\\after'";
    let mut control = scene.host("sh");
    control.args(["-c", script]);
    let (shown, _) = on_terminal(control, Duration::from_secs(20))?;
    has("control", &shown, "]52;c;")?;
    let mut inside = scene.run_with(&[]);
    inside.args(["sh", "-c", script]);
    let (shown, typed) = on_terminal(inside, Duration::from_secs(20))?;
    has("shown", &shown, "before")?;
    has("shown", &shown, "after")?;
    for sequence in ["]52;", "[21t", "$q"] {
        lacks("shown", &shown, sequence)?;
    }
    same("typed", &typed, "")
}

fn directory_opened_before() -> Test {
    let scene = Scene::new()?;
    let canary = scene.outside("canary");
    fs::write(&canary, SECRET)?;
    let script = "import os\nfor fd in range(3, 256):\n for path in ('canary', '../canary', 'home/repo/.env'):\n  \
                  try: print(os.read(os.open(path, os.O_RDONLY, dir_fd=fd), 99)); os.open(path, os.O_WRONLY, dir_fd=fd); print('writable')\n  \
                  except OSError: pass\nprint('end')\n";
    scene.write("walk.py", script)?;
    let directory =
        OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(scene.outside(""))?;
    let number = directory.as_raw_fd();
    let run = |mut command: Command| -> Result<String, Failed> {
        // SAFETY: between fork and exec only dup2(2) is called, which is async-signal-safe.
        unsafe {
            command.pre_exec(
                move || if libc::dup2(number, 77) < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) },
            );
        }
        let output = command.arg("walk.py").output()?;
        if !output.status.success() {
            return Err(printed(&output).into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let control = run(scene.host("python3"))?;
    has("control", &control, SECRET)?;
    has("control", &control, "writable")?;
    let mut inside = scene.run_with(&[]);
    inside.arg("python3");
    same("inside", &run(inside)?, "end\n")
}
