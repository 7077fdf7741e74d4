//! A value that a program prints. The program gets nothing of this process and nothing of the workspace: no descriptor, no
//! terminal, no directory, a handful of variables, and no program from a directory that the jail writes to.

use std::ffi::OsString;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use zeroize::Zeroizing;

use super::load::{Failure, Ground, MOST};
use crate::sys::process;

/// Variables that a program gets beside `PATH`, and who needs them.
const VARIABLES: &[(&str, &str)] = &[
    ("HOME", "where a program's own settings and logins are"),
    ("USER", "names of entries in stores"),
    ("LOGNAME", "the same"),
    ("LANG", "names that are not ASCII"),
    ("LC_ALL", "the same"),
    ("XDG_CONFIG_HOME", "where a program's own settings are"),
    ("XDG_DATA_HOME", "where a program's own data are"),
    ("XDG_RUNTIME_DIR", "sockets of agents that unlock stores"),
    ("DBUS_SESSION_BUS_ADDRESS", "the Secret Service"),
    ("DISPLAY", "asking the person to unlock a store"),
    ("WAYLAND_DISPLAY", "the same"),
    ("GNUPGHOME", "pass"),
    ("PASSWORD_STORE_DIR", "pass"),
];

/// How often a program that printed everything is looked at until it has ended.
const PAUSE: Duration = Duration::from_millis(2);

/// A program that was started. It is killed when this is dropped before it has ended.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    time: Duration,
    deadline: Instant,
    ended: bool,
}

impl Running {
    /// Starts a program.
    pub(super) fn start(words: &[String], time: Duration, ground: &Ground) -> Result<Self, Failure> {
        let (name, arguments) = words.split_first().ok_or_else(|| Failure::new("it is empty", "name a program"))?;
        let path = search_path(ground);
        let program = find(name, &path, ground)?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        for (variable, _) in VARIABLES {
            if let Some(value) = std::env::var_os(variable) {
                command.env(variable, value);
            }
        }
        // Entries with a colon do not come out of `split_paths`.
        command.env("PATH", std::env::join_paths(&path).unwrap_or_else(|_| OsString::from("/usr/bin:/bin")));
        process::isolate(&mut command);
        let child = command
            .spawn()
            .map_err(|error| Failure::new(format!("it cannot be started: {error}"), "try it in a shell"))?;
        Ok(Self { child, time, deadline: Instant::now() + time, ended: false })
    }

    /// Waits for what it prints and for its end.
    pub(super) fn finish(mut self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let most = MOST.saturating_add(3);
        let mut value = Zeroizing::new(vec![0; most]);
        let mut length = 0;
        let failed = |error: std::io::Error| Failure::new(format!("its output cannot be read: {error}"), "start again");
        let mut output = self.child.stdout.take().ok_or_else(|| Failure::new("it has no output", "start again"))?;
        loop {
            self.wait_for(&output)?;
            match output.read(value.get_mut(length..).unwrap_or_default()) {
                Ok(0) => break,
                Ok(read) => length = length.saturating_add(read),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
            if length == most {
                let message = format!("it prints more than {MOST} bytes");
                return Err(Failure::new(message, "have it print the value alone"));
            }
        }
        let status = loop {
            match self.child.try_wait().map_err(failed)? {
                Some(status) => break status,
                None if Instant::now() >= self.deadline => return Err(self.late()),
                None => std::thread::sleep(PAUSE),
            }
        };
        self.ended = true;
        if !status.success() {
            // What it said of it may hold the value, so it is not shown.
            return Err(Failure::new(format!("it failed ({status})"), "try it in a shell, in the directory /"));
        }
        value.truncate(length);
        Ok(value)
    }

    fn wait_for(&self, output: &impl AsFd) -> Result<(), Failure> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.late());
            }
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(output.as_fd(), PollFlags::POLLIN)], left) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(Failure::new(format!("poll: {}", errno.desc()), "start again")),
            }
        }
    }

    fn late(&self) -> Failure {
        let message = format!("it did not end within {} seconds", self.time.as_secs());
        Failure::new(message, "it must not ask on the terminal; `timeout` in the source gives it longer")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            // It leads a session of its own, and so a group.
            if let Ok(pid) = i32::try_from(self.child.id()) {
                let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let _ = self.child.wait();
        }
    }
}

/// The user's PATH without directories that the jail writes to, and without relative ones.
fn search_path(ground: &Ground) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
    let usable = |entry: &PathBuf| {
        let real = entry.canonicalize().ok();
        entry.is_absolute() && real.is_some_and(|real| ground.writable_at(&real).is_none())
    };
    std::env::split_paths(&path).filter(usable).collect()
}

/// Where the program is; never where the jail could have put it.
fn find(name: &str, path: &[PathBuf], ground: &Ground) -> Result<PathBuf, Failure> {
    let program = if name.starts_with('/') {
        PathBuf::from(name)
    } else {
        let candidates = path.iter().map(|directory| directory.join(name));
        let found = candidates.into_iter().find(|candidate| is_executable(candidate));
        found.ok_or_else(|| {
            let message = "it is in no directory of PATH that the jail cannot write to";
            Failure::new(message, "write the program's whole path")
        })?
    };
    let real = program
        .canonicalize()
        .map_err(|error| Failure::new(format!("it cannot be started: {error}"), "see that it exists"))?;
    match ground.writable_at(&real) {
        Some(directory) => {
            let message = format!("it lies in {}, which the jail can write to", directory.display());
            Err(Failure::new(message, "use a program from outside"))
        }
        None => Ok(program),
    }
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok()
}
