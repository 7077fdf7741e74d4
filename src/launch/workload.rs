//! Starts a command in the jail: session, descriptors, confinement, execve. Runs in init and in its fresh child.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, Pid, chdir, execve, getpid, pipe2, read, setpgid, setsid, tcsetpgrp, write};

use super::confine::{self, Confinement};
use super::init::open_terminal_pair;
use super::message::{Failure, Spawn, Stdio, Step};
use crate::escape::escape;
use crate::sys::{ctty, process, tty};

/// The workload's ends of pipes, for stdin, stdout and stderr.
pub type Ends = [Option<OwnedFd>; 3];

/// What to execute.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    /// The command and its arguments.
    pub words: &'a [OsString],
    /// Its whole environment.
    pub environment: &'a [(OsString, OsString)],
    /// Where it starts.
    pub directory: &'a Path,
}

/// Forks and executes a command; returns once it runs or says why it does not.
///
/// `own_session`: it becomes a session leader of its own (`jail exec`). Otherwise it is a process group in init's
/// session: a parent in the same session keeps the group from being orphaned, which is what lets Ctrl-Z stop it.
pub fn start(
    command: &Command<'_>,
    stdio: &[Stdio; 3],
    ends: Ends,
    terminal: Option<BorrowedFd<'_>>,
    own_session: bool,
    confinement: &Confinement,
    mask: &SigSet,
) -> Result<Pid, Failure> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| Step::Exec.failed("pipe2", errno))?;
    let forked = process::fork_single_threaded().map_err(|errno| Step::Exec.failed("fork", errno))?;
    match forked {
        ForkResult::Child => {
            drop(reader);
            let failure = match become_command(command, stdio, &ends, terminal, own_session, confinement, mask, &writer)
            {
                Ok(never) => match never {},
                Err(failure) => failure,
            };
            if let Ok(text) = serde_json::to_vec(&failure) {
                let _ = write(&writer, &text);
            }
            std::process::exit(127)
        }
        ForkResult::Parent { child } => {
            drop(writer);
            drop(ends);
            let mut text = vec![0; 16 * 1024];
            let length = loop {
                match read(&reader, &mut text) {
                    Err(Errno::EINTR) => {}
                    other => break other.unwrap_or(0),
                }
            };
            if length == 0 {
                return Ok(child);
            }
            let _ = nix::sys::wait::waitpid(child, None);
            Err(serde_json::from_slice(&text[..length])
                .unwrap_or_else(|_| Step::Exec.failed("report of the child", Errno::EBADMSG)))
        }
    }
}

/// Starts a further command for `jail exec`; returns its terminal's master and peer if it has one.
pub fn spawn(
    spawn: &Spawn,
    descriptors: Vec<OwnedFd>,
    environment: &[(OsString, OsString)],
    confinement: &Confinement,
    mask: &SigSet,
) -> Result<(Pid, Option<(OwnedFd, OwnedFd)>), Failure> {
    let words: Vec<OsString> = spawn.command.iter().map(|word| OsString::from_vec(word.clone())).collect();
    let mut environment = environment.to_vec();
    if let Some(term) = &spawn.term {
        environment.retain(|(name, _)| name != "TERM");
        environment.push(("TERM".into(), OsString::from_vec(term.clone())));
    }
    let mut descriptors = descriptors.into_iter();
    let ends = spawn.stdio.map(|kind| if kind == Stdio::Pipe { descriptors.next() } else { None });
    let pair = if spawn.stdio.contains(&Stdio::Terminal) { Some(open_terminal_pair()?) } else { None };
    if let (Some((master, _)), Some((ws_row, ws_col))) = (&pair, spawn.size) {
        let size = nix::pty::Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
        tty::set_window_size(master, &size).map_err(|error| Failure {
            step: Step::Terminal,
            detail: format!("TIOCSWINSZ: {error}"),
            errno: error.raw_os_error().unwrap_or(0),
        })?;
    }
    let directory = OsStr::from_bytes(&spawn.directory);
    let command = Command { words: &words, environment: &environment, directory: Path::new(directory) };
    let peer = pair.as_ref().map(|(_, peer)| peer.as_fd());
    let pid = start(&command, &spawn.stdio, ends, peer, true, confinement, mask)?;
    Ok((pid, pair))
}

enum Never {}

#[allow(clippy::too_many_arguments)]
fn become_command(
    command: &Command<'_>,
    stdio: &[Stdio; 3],
    ends: &Ends,
    terminal: Option<BorrowedFd<'_>>,
    own_session: bool,
    confinement: &Confinement,
    mask: &SigSet,
    report: &OwnedFd,
) -> Result<Never, Failure> {
    if own_session {
        setsid().map_err(|errno| Step::Terminal.failed("setsid", errno))?;
        if let Some(terminal) = terminal {
            ctty::take(terminal).map_err(|errno| Step::Terminal.failed("TIOCSCTTY", errno))?;
        }
    } else {
        setpgid(Pid::from_raw(0), Pid::from_raw(0)).map_err(|errno| Step::Terminal.failed("setpgid", errno))?;
        if let Some(terminal) = terminal {
            // Every signal is still blocked, SIGTTOU among them, so a background group may do this.
            tcsetpgrp(terminal, getpid()).map_err(|errno| Step::Terminal.failed("tcsetpgrp", errno))?;
        }
    }
    for (number, kind) in stdio.iter().enumerate() {
        let null;
        let source = match (kind, &ends[number], terminal) {
            (Stdio::Terminal, _, Some(terminal)) => terminal,
            (Stdio::Pipe, Some(end), _) => end.as_fd(),
            _ => {
                null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
                    .map_err(|errno| Step::Terminal.failed("/dev/null", errno))?;
                null.as_fd()
            }
        };
        duplicate_onto(source, number as i32)?;
    }
    chdir(command.directory).map_err(|errno| Step::Directory.failed(escape(command.directory), errno))?;
    check_inside(command.directory)?;
    reset_signals(mask)?;
    let program = find(command)?;
    let words = c_strings(command.words.iter().map(|word| word.as_bytes().to_vec()))?;
    let environment =
        c_strings(command.environment.iter().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat()))?;
    let mut confinement = confinement.clone();
    confinement.keep_fds.push(report.as_raw_fd());
    confine::apply(&confinement).map_err(|error| Failure {
        step: error.step(),
        detail: error.to_string(),
        errno: 0,
    })?;
    let mut last = Errno::ENOENT;
    for candidate in &program {
        match execve(candidate, &words, &environment) {
            Ok(_) => {}
            // Like execvp(3): keep looking, but remember that something was there.
            Err(errno @ (Errno::ENOENT | Errno::ENOTDIR)) => {
                if last == Errno::ENOENT {
                    last = errno;
                }
            }
            Err(Errno::ENOEXEC) => last = exec_with_shell(candidate, &words, &environment),
            Err(errno) => last = errno,
        }
    }
    let name = command.words.first().map(|word| escape(Path::new(word))).unwrap_or_default();
    Err(Step::Exec.failed(name, last))
}

/// A script without `#!` is run by the shell, as execvp(3) does.
fn exec_with_shell(script: &CString, words: &[CString], environment: &[CString]) -> Errno {
    let mut shell = vec![c"/bin/sh".to_owned(), script.clone()];
    shell.extend(words.iter().skip(1).cloned());
    match execve(c"/bin/sh", &shell, environment) {
        Ok(never) => match never {},
        Err(errno) => errno,
    }
}

fn duplicate_onto(source: BorrowedFd<'_>, number: i32) -> Result<(), Failure> {
    let failed = |errno| Step::Terminal.failed("dup2", errno);
    match number {
        0 => nix::unistd::dup2_stdin(source).map_err(failed),
        1 => nix::unistd::dup2_stdout(source).map_err(failed),
        _ => nix::unistd::dup2_stderr(source).map_err(failed),
    }
}

/// The kernel's answer must be the planned path: a working directory outside the root would show as "(unreachable)".
fn check_inside(planned: &Path) -> Result<(), Failure> {
    let actual = nix::unistd::getcwd().map_err(|errno| Step::Directory.failed("getcwd", errno))?;
    if actual.is_absolute() && (actual == planned || std::fs::canonicalize(planned).is_ok_and(|real| real == actual)) {
        return Ok(());
    }
    Err(Step::Directory.failed(format!("{} is not inside", escape(&actual)), Errno::EXDEV))
}

fn reset_signals(mask: &SigSet) -> Result<(), Failure> {
    let failed = |errno| Step::Exec.failed("signal mask", errno);
    // Rust ignores SIGPIPE and the supervisor SIGXFSZ; the workload must get the ordinary behaviour.
    for signal in [Signal::SIGPIPE, Signal::SIGXFSZ] {
        process::default_signal(signal).map_err(failed)?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(mask), None).map_err(failed)
}

/// Paths to try, in order: the word itself when it has a slash, else each entry of the jail's PATH.
fn find(command: &Command<'_>) -> Result<Vec<CString>, Failure> {
    let Some(name) = command.words.first() else {
        return Err(Step::Exec.failed("no command", Errno::ENOENT));
    };
    if name.as_bytes().contains(&b'/') {
        return c_strings(std::iter::once(name.as_bytes().to_vec()));
    }
    let path = command.environment.iter().find(|(key, _)| key == "PATH").map(|(_, value)| value.clone());
    let path = path.unwrap_or_else(|| "/usr/bin:/bin".into());
    c_strings(std::env::split_paths(&path).map(|entry| entry.join(name).into_os_string().into_vec()))
}

fn c_strings(words: impl Iterator<Item = Vec<u8>>) -> Result<Vec<CString>, Failure> {
    words
        .map(CString::new)
        .collect::<Result<_, _>>()
        .map_err(|_| Step::Exec.failed("an argument contains a NUL byte", Errno::EINVAL))
}
