//! The journal of what a run puts into the workspace, so that the next one can remove it if nobody else is left to.
//!
//! Init removes the placeholders when the run ends, also when the supervisor was killed. When both were killed, their
//! shares in the directories (see [`Lease`]) are gone and the journal is still there: whoever comes next and gets the
//! directory alone removes what still is a placeholder.
//!
//! `STATE/leftovers/SESSION.json` is written before the launch; `STATE/leftovers/DEV-INO.lock` is what the shares lock.
//! `STATE/spare` holds empty directories for the next run's placeholders (see [`Spares`]).

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use serde::{Deserialize, Serialize};

use super::session;
use crate::error::{Error, Result};
use crate::guard::placeholder;
use crate::launch::lease::{Directory, Lease};
use crate::launch::shares::Shares;
use crate::launch::spares::Spares;
use crate::plan::{GuardAction, Plan};
use crate::tree::open::beneath;

/// How long another jail may take to remove its placeholders.
const PATIENCE: Duration = Duration::from_secs(5);

/// A run's shares and its journal.
#[derive(Debug)]
pub struct Leftovers {
    place: PathBuf,
    shares: Shares,
}

/// What a run is about to put into one directory. Paths are bytes.
#[derive(Debug, Serialize, Deserialize)]
struct Planned {
    /// An absolute path without symbolic links.
    base: Vec<u8>,
    /// The directory, relative to `base`.
    relative: Vec<u8>,
    dev: u64,
    ino: u64,
    entries: Vec<Entry>,
    /// The directory, opened: while planning only.
    #[serde(skip)]
    opened: Option<OwnedFd>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    name: Vec<u8>,
    /// `None` for a directory.
    content: Option<String>,
}

impl Planned {
    fn directory(&self) -> Directory {
        Directory { dev: self.dev, ino: self.ino }
    }

    /// Opens the directory if it still is the same one.
    fn open(&self) -> Option<OwnedFd> {
        let fd =
            open_directory(Path::new(OsStr::from_bytes(&self.base)), Path::new(OsStr::from_bytes(&self.relative)))?;
        (Directory::of(&fstat(&fd).ok()?) == self.directory()).then_some(fd)
    }

    /// Removes what still is a placeholder. The caller has the directory alone.
    fn clean(&self) {
        let Some(fd) = self.open() else { return };
        for entry in &self.entries {
            if let Ok(name) = CString::new(entry.name.as_slice()) {
                let _ = placeholder::remove(fd.as_fd(), &name, entry.content.as_deref(), true);
            }
        }
    }
}

impl Leftovers {
    /// Removes what killed runs left, takes a share in every directory that this plan puts something into, and writes
    /// the journal.
    ///
    /// # Errors
    /// The state directory cannot be written; another jail does not give a directory free.
    pub fn begin(state: &Path, plan: &Plan) -> Result<Self> {
        let place = state.join("leftovers");
        match DirBuilder::new().mode(0o700).create(&place) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(unwritable(&place, &error)),
            _ => sweep(state),
        }
        let mut planned = planned(plan);
        let mut leases = Vec::with_capacity(planned.len());
        for one in &mut planned {
            let Some(opened) = one.opened.take() else { continue };
            leases.push(share(&place, one.directory(), opened)?);
        }
        let journal = place.join(format!("{}.json", plan.session));
        if !planned.is_empty() {
            let text = serde_json::to_vec(&planned)
                .map_err(|error| Error::setup(format!("cannot encode the journal: {error}")))?;
            // Complete or not there: until it has its name, that says who is writing.
            let pid = std::process::id();
            let ticks = session::start_ticks(pid).unwrap_or_default();
            let writing = place.join(format!("{}.{pid}.{ticks}.new", plan.session));
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&writing)
                .and_then(|mut file| file.write_all(&text))
                .and_then(|()| fs::rename(&writing, &journal))
                .map_err(|error| {
                    let _ = fs::remove_file(&writing);
                    unwritable(&journal, &error)
                })?;
        }
        // Root's init may not write to root's state.
        let spares = match leases.is_empty() || nix::unistd::Uid::effective().is_root() {
            true => None,
            false => Spares::open(&state.join("spare"), &plan.session),
        };
        Ok(Self { place, shares: Shares { leases, spares } })
    }

    /// What init gets of it.
    pub fn shares(&self) -> &Shares {
        &self.shares
    }
}

impl Drop for Leftovers {
    /// Gives up the shares. Init is gone: what it could not remove, and the journal, are removed here, unless another
    /// jail still stands on it.
    fn drop(&mut self) {
        self.shares.leases.clear();
        sweep_place(&self.place);
    }
}

/// Removes what killed runs left in any workspace that no living jail uses.
pub fn sweep(state: &Path) {
    sweep_place(&state.join("leftovers"));
}

fn sweep_place(place: &Path) {
    let Ok(listing) = fs::read_dir(place) else { return };
    let mut journals: Vec<(PathBuf, Vec<Planned>)> = Vec::new();
    // Directories by their lock: whether this process has it alone now.
    let mut locks: BTreeMap<String, Option<File>> = BTreeMap::new();
    for entry in listing.flatten() {
        let path = entry.path();
        match path.extension().and_then(OsStr::to_str) {
            Some("lock") => {
                locks.insert(entry.file_name().to_string_lossy().into_owned(), None);
            }
            Some("json") => match fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()) {
                Some(journal) => journals.push((path, journal)),
                // Not written by this program: nothing can be made of it.
                None => drop(fs::remove_file(&path)),
            },
            Some("new") if !being_written(&path) => drop(fs::remove_file(&path)),
            _ => {}
        }
    }
    for planned in journals.iter().flat_map(|(_, journal)| journal) {
        locks.entry(lock_name(planned.directory())).or_default();
    }
    for (name, lock) in &mut locks {
        *lock = alone(&place.join(name));
        if lock.is_some() {
            let here = journals.iter().flat_map(|(_, journal)| journal);
            here.filter(|planned| lock_name(planned.directory()) == *name).for_each(Planned::clean);
        }
    }
    for (path, journal) in &journals {
        if journal.iter().all(|planned| locks.get(&lock_name(planned.directory())).is_some_and(Option::is_some)) {
            let _ = fs::remove_file(path);
        }
    }
    // While the locks are still held: who waits for one sees that it was removed and makes another.
    for (name, _) in locks.iter().filter(|(_, lock)| lock.is_some()) {
        let _ = fs::remove_file(place.join(name));
    }
}

/// What the plan's placeholders are, by directory.
fn planned(plan: &Plan) -> Vec<Planned> {
    let mut all: BTreeMap<Directory, Planned> = BTreeMap::new();
    for guard in &plan.guards {
        let content = match &guard.action {
            GuardAction::PlaceholderDirectory => None,
            GuardAction::PlaceholderFile { content } => Some(content.clone()),
            _ => continue,
        };
        let (Some(name), Some(parent)) = (guard.path.file_name(), guard.path.parent()) else { continue };
        let (base, relative) = match guard.path.is_absolute() {
            true => (parent, Path::new("")),
            false => (plan.workspace.as_path(), parent),
        };
        // A directory that is gone gets no placeholder; init says so.
        let Some(opened) = open_directory(base, relative) else { continue };
        let Ok(stat) = fstat(&opened) else { continue };
        let directory = Directory::of(&stat);
        let planned = all.entry(directory).or_insert_with(|| Planned {
            base: base.as_os_str().as_bytes().to_owned(),
            relative: relative.as_os_str().as_bytes().to_owned(),
            dev: directory.dev,
            ino: directory.ino,
            entries: Vec::new(),
            opened: Some(opened),
        });
        planned.entries.push(Entry { name: name.as_bytes().to_owned(), content });
    }
    all.into_values().collect()
}

fn open_directory(base: &Path, relative: &Path) -> Option<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let base = open(base, flags, Mode::empty()).ok()?;
    if relative.as_os_str().is_empty() {
        return Some(base);
    }
    beneath(base.as_fd(), relative, OFlag::O_PATH | OFlag::O_DIRECTORY).ok()
}

fn lock_name(directory: Directory) -> String {
    format!("{:x}-{:x}.lock", directory.dev, directory.ino)
}

fn open_lock(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// Takes a share in a directory. Whoever removes placeholders there does not take long.
fn share(place: &Path, directory: Directory, opened: OwnedFd) -> Result<Lease> {
    let path = place.join(lock_name(directory));
    let start = Instant::now();
    loop {
        let file = open_lock(&path).map_err(|error| unwritable(&path, &error))?;
        match file.try_lock_shared() {
            // Removed by the one who had it before: a lock that nobody else will find.
            Ok(()) if file.metadata().is_ok_and(|found| found.nlink() == 0) => {}
            Ok(()) => return Ok(Lease::new(directory, file, opened)),
            Err(TryLockError::WouldBlock) if start.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Error::setup(format!("{} stays locked by another jail", path.display()))
                    .hint("`jail ps` lists the running ones; one that is stopped has to continue or be killed"));
            }
            Err(TryLockError::Error(error)) => return Err(unwritable(&path, &error)),
        }
    }
}

/// The lock, if nobody has a share in the directory.
fn alone(path: &Path) -> Option<File> {
    let file = open_lock(path).ok()?;
    file.try_lock().ok()?;
    file.metadata().is_ok_and(|found| found.nlink() > 0).then_some(file)
}

/// Whether the one who is writing a journal lives.
fn being_written(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(OsStr::to_str) else { return false };
    let mut parts = name.split('.').skip(1);
    let mut next = || parts.next()?.parse::<u64>().ok();
    let (Some(pid), Some(ticks)) = (next().and_then(|pid| u32::try_from(pid).ok()), next()) else { return false };
    session::start_ticks(pid) == Some(ticks)
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    Error::setup(format!("cannot keep the journal {}: {error}", path.display()))
        .hint("what a run puts into the workspace is written down before; make room or set XDG_STATE_HOME")
}
