//! What the three standard descriptors are, and what the workload gets in their place.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::libc;
use nix::sys::stat::{FileStat, SFlag, fstat, major, minor};
use serde::Serialize;

/// What stands behind a standard descriptor of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StdioKind {
    /// A terminal: the workload gets the jail's own pty.
    Terminal,
    /// `/dev/null`, or closed: the workload gets the jail's own `/dev/null`.
    Null,
    /// A file, pipe, socket or device: the workload gets a pipe.
    Relay,
}

/// What the workload gets as its three standard descriptors; plain data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StdioPlan {
    /// Descriptors 0, 1 and 2.
    pub each: [StdioKind; 3],
    /// Descriptors 1 and 2 are the same file or pipe (`2>&1`): one pipe for both keeps the order of what is written.
    pub merged: bool,
}

/// How keys reach the workload's pty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keyboard {
    /// The terminal is raw all the time.
    Raw,
    /// The terminal is shared, with other members of a pipeline: it becomes raw only while the workload has its own
    /// terminal in raw mode. Otherwise whole lines are passed on (`lines`), or nothing is read.
    Follow {
        /// Standard input is the terminal.
        lines: bool,
    },
    /// The terminal shows messages only.
    Off,
}

impl StdioPlan {
    /// Whether the workload needs a pty.
    pub fn wants_pty(&self) -> bool {
        self.each.contains(&StdioKind::Terminal)
    }

    /// How keys reach the workload.
    pub fn keyboard(&self) -> Keyboard {
        match self.each {
            [StdioKind::Terminal, StdioKind::Terminal, _] => Keyboard::Raw,
            [StdioKind::Terminal, ..] => Keyboard::Follow { lines: true },
            [_, StdioKind::Terminal, _] => Keyboard::Follow { lines: false },
            _ => Keyboard::Off,
        }
    }
}

/// Classifies the process's own standard descriptors.
pub fn classify() -> StdioPlan {
    classify_these(io::stdin().as_fd(), io::stdout().as_fd(), io::stderr().as_fd())
}

/// Classifies three descriptors.
pub fn classify_these(stdin: BorrowedFd<'_>, stdout: BorrowedFd<'_>, stderr: BorrowedFd<'_>) -> StdioPlan {
    let merged = match (fstat(stdout), fstat(stderr)) {
        (Ok(out), Ok(err)) => {
            one(stdout) == StdioKind::Relay
                && (out.st_dev, out.st_ino, out.st_rdev) == (err.st_dev, err.st_ino, err.st_rdev)
        }
        _ => false,
    };
    StdioPlan { each: [one(stdin), one(stdout), one(stderr)], merged }
}

fn one(fd: BorrowedFd<'_>) -> StdioKind {
    match fstat(fd) {
        Err(_) => StdioKind::Null,
        Ok(stat) if is_null(&stat) => StdioKind::Null,
        Ok(_) if nix::unistd::isatty(fd).unwrap_or(false) => StdioKind::Terminal,
        Ok(_) => StdioKind::Relay,
    }
}

fn is_null(stat: &FileStat) -> bool {
    let character = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR;
    character && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3)
}

/// The host's sides of the three streams.
#[derive(Debug)]
pub struct OuterEnds {
    /// Where input comes from.
    pub stdin: OwnedFd,
    /// Where output goes.
    pub stdout: OwnedFd,
    /// Where messages go.
    pub stderr: OwnedFd,
}

impl OuterEnds {
    /// Moves the process's standard input and output here and leaves `/dev/null` in their place, so that they close
    /// as soon as the workload closes its own; standard error is only duplicated, for messages at the end.
    pub fn take() -> io::Result<Self> {
        let ends = Self::duplicate()?;
        let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
        nix::unistd::dup2_stdin(&null)?;
        nix::unistd::dup2_stdout(&null)?;
        Ok(ends)
    }

    /// Duplicates the process's three descriptors.
    pub fn duplicate() -> io::Result<Self> {
        Ok(Self {
            stdin: io::stdin().as_fd().try_clone_to_owned()?,
            stdout: io::stdout().as_fd().try_clone_to_owned()?,
            stderr: io::stderr().as_fd().try_clone_to_owned()?,
        })
    }

    /// The terminal to read keys from: standard input, or standard output when that is one open for reading.
    pub(super) fn keyboard(&self, plan: &StdioPlan) -> io::Result<Option<OwnedFd>> {
        terminal(&[(plan.each[0], &self.stdin), (plan.each[1], &self.stdout)], libc::O_WRONLY)
    }

    /// The terminal to show the pty's output on.
    pub(super) fn screen(&self, plan: &StdioPlan) -> io::Result<Option<OwnedFd>> {
        let candidates = [(plan.each[1], &self.stdout), (plan.each[2], &self.stderr), (plan.each[0], &self.stdin)];
        terminal(&candidates, libc::O_RDONLY)
    }
}

/// A duplicate of the first terminal whose access mode is not `useless`, or the controlling terminal.
fn terminal(candidates: &[(StdioKind, &OwnedFd)], useless: libc::c_int) -> io::Result<Option<OwnedFd>> {
    let terminals = || candidates.iter().filter(|(stream, _)| *stream == StdioKind::Terminal).map(|(_, fd)| *fd);
    for fd in terminals() {
        if nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFL)? & libc::O_ACCMODE != useless {
            return fd.try_clone().map(Some);
        }
    }
    if terminals().next().is_none() {
        return Ok(None);
    }
    Ok(std::fs::File::options().read(true).write(true).open("/dev/tty").ok().map(OwnedFd::from))
}
