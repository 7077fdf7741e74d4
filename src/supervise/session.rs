//! Sessions of this user: their directory on the host, which ones are alive, and sweeping what a crash left.

use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::launch::session_files;

/// What `jail ps` shows of a session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionInfo {
    /// Its name.
    pub session: String,
    /// The supervisor's process id.
    pub pid: u32,
    /// The supervisor's start time in clock ticks since boot: with the id it names exactly one process.
    pub start_ticks: u64,
    /// RFC 3339, UTC.
    pub started: String,
    /// The command as typed.
    pub command: Vec<String>,
    /// The workspace.
    pub workspace: String,
}

/// The directory that holds all sessions of this user, opened and checked to be private.
#[derive(Debug)]
pub struct Sessions {
    path: PathBuf,
    directory: OwnedFd,
    /// It lies among everybody's files and is removed when the last session has ended.
    temporary: bool,
}

impl Drop for Sessions {
    fn drop(&mut self) {
        if self.temporary {
            // It fails where a session is left.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// A new name for a session: 12 hexadecimal digits.
pub fn new_name() -> Result<String> {
    let mut bytes = [0; 6];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| Error::setup(format!("cannot read /dev/urandom: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Sessions {
    /// Opens the place for sessions and makes it if needed: `$XDG_RUNTIME_DIR/jail`, else `/run/user/UID/jail`, else
    /// `jail-UID` in `/dev/shm` or `/tmp`. Memory first: nothing of a session has to outlive the machine's restart, and
    /// disks are slow to make and remove directories.
    ///
    /// Error when it is not a directory of this user that nobody else can enter.
    pub fn open() -> Result<Self> {
        let uid = Uid::effective().as_raw();
        let own = |path: &PathBuf| {
            path.is_absolute() && fs::metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == uid)
        };
        let memory = fs::metadata("/dev/shm").is_ok_and(|found| found.is_dir() && found.mode() & 0o1007 == 0o1007);
        let base = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(own);
        let base = base.or_else(|| Some(PathBuf::from(format!("/run/user/{uid}"))).filter(own));
        let temporary = base.is_none();
        let path = match base {
            Some(base) => base.join("jail"),
            None => Path::new(if memory { "/dev/shm" } else { "/tmp" }).join(format!("jail-{uid}")),
        };
        let directory = private(&path)?;
        Ok(Self { path, directory, temporary })
    }

    /// The directory's descriptor, which init keeps to clean up.
    pub fn directory(&self) -> Result<OwnedFd> {
        self.directory.try_clone().map_err(|error| Error::setup(format!("cannot duplicate a descriptor: {error}")))
    }

    /// Makes a session's directory with its description; the control socket is bound in it later.
    ///
    /// It gets its name when it is complete. Until then the name says whose it is, so that nothing of a supervisor that
    /// was killed in between stays.
    pub fn create(&mut self, info: &SessionInfo) -> Result<PathBuf> {
        let path = self.path.join(&info.session);
        let making = format!("{MAKING}{}.{}.{}", info.session, info.pid, info.start_ticks);
        let failed = |error: &dyn std::fmt::Display| {
            Error::setup(format!("cannot create the session {}: {error}", path.display()))
                .hint("make room there, or set XDG_RUNTIME_DIR")
        };
        let directory = self.path.join(&making);
        let make = || DirBuilder::new().mode(0o700).create(&directory);
        match make() {
            // The last session of others took it along.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.directory = private(&self.path)?;
                make().map_err(|error| failed(&error))?;
            }
            made => made.map_err(|error| failed(&error))?,
        }
        let text = serde_json::to_vec(info).map_err(|error| failed(&error))?;
        let written = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(directory.join("session.json"))
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| fs::rename(&directory, &path));
        if let Err(error) = written {
            self.remove(&making);
            return Err(failed(&error));
        }
        Ok(path)
    }

    /// Removes a session's directory.
    pub fn remove(&self, session: &str) {
        session_files::remove(self.directory.as_fd(), session);
    }

    /// The sessions whose supervisor is alive, oldest first; what dead ones left is removed.
    pub fn list(&self) -> Result<Vec<SessionInfo>> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::setup(format!("cannot read {}: {error}", self.path.display()))),
            Ok(entries) => Some(entries),
        };
        let mut alive = Vec::new();
        for entry in entries.into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some((pid, ticks)) = being_made(&name) {
                if start_ticks(pid) != Some(ticks) {
                    self.remove(&name);
                }
                continue;
            }
            match read_info(&entry.path()) {
                Some(info) if is_alive(&info) => alive.push(info),
                _ => self.remove(&name),
            }
        }
        alive.sort_by(|a, b| a.started.cmp(&b.started));
        Ok(alive)
    }

    /// Finds a live session by its name or an unambiguous beginning of it.
    pub fn find(&self, name: &str) -> Result<SessionInfo> {
        let mut matching: Vec<_> = self.list()?.into_iter().filter(|info| info.session.starts_with(name)).collect();
        match (matching.pop(), matching.is_empty()) {
            (Some(info), true) => Ok(info),
            (Some(_), false) => Err(Error::setup(format!("session {name} is ambiguous")).hint("type more of it")),
            (None, _) => Err(Error::setup(format!("there is no running session {name}")).hint("see `jail ps`")),
        }
    }

    /// The path of a session's control socket.
    pub fn control(&self, session: &str) -> PathBuf {
        self.path.join(session).join("control.sock")
    }
}

/// Opens the directory of all sessions, and checks that nobody else can enter it.
fn private(path: &Path) -> Result<OwnedFd> {
    let failed = |what: &str| {
        Error::setup(format!("cannot use the session directory {}: {what}", path.display()))
            .hint("it has to be a directory that only you can enter; remove what is there, or set XDG_RUNTIME_DIR")
    };
    let directory = made(path).map_err(|error| failed(&error.to_string()))?;
    let found = directory.metadata().map_err(|error| failed(&error.to_string()))?;
    if found.uid() != Uid::effective().as_raw() || found.mode() & 0o077 != 0 {
        return Err(failed("it belongs to somebody else or others may enter it")
            .hint(format!("remove it, or run: chmod 700 {}", path.display())));
    }
    Ok(directory.into())
}

/// Opens the directory, which is made where it is missing. It may go in between, with the last session of others.
fn made(path: &Path) -> std::io::Result<File> {
    const TRIES: usize = 100;
    let mut tries = 0;
    loop {
        tries += 1;
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        // Not through a link that somebody else put into a shared directory.
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        match fs::OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && tries < TRIES => {}
            opened => return opened,
        }
    }
}

fn read_info(directory: &Path) -> Option<SessionInfo> {
    serde_json::from_slice(&fs::read(directory.join("session.json")).ok()?).ok()
}

/// How the name of an incomplete session begins; name, process id and start time of its maker follow.
const MAKING: &str = ".making.";

/// The maker of an incomplete session: process id and start time.
fn being_made(name: &str) -> Option<(u32, u64)> {
    let mut parts = name.strip_prefix(MAKING)?.split('.').skip(1);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn is_alive(info: &SessionInfo) -> bool {
    start_ticks(info.pid).is_some_and(|ticks| ticks == info.start_ticks)
}

/// Start time of a process, field 22 of proc_pid_stat(5); `None` when there is no such process.
pub fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.get(stat.rfind(')')? + 2..)?.split(' ').nth(19)?.parse().ok()
}
