//! Watches the workspace from the host: a mask falls off when the file below it is replaced, and secrets appear late.
//!
//! Directories above masked files are watched before the workload starts, all others afterwards in slices. Every
//! directory is listed after its watch is in place, so nothing that happened in between is missed. When the kernel drops
//! events, everything is looked at again. Where the user's watches run out, directories are listed but not watched, and
//! [`Watcher::limited`] says so: call [`Watcher::rescan`] from time to time, or stop the run.

pub mod guards;
mod nodes;

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use nix::sys::stat::{FileStat, fstat, fstatat};

use crate::error::{Error, Result};
use crate::secrets::Reason;
use crate::secrets::matcher::Verdict;
use crate::secrets::names::Unless;
use crate::sys::dirent::{Buffer, FileType};
use crate::tree::open::beneath;
use crate::tree::{Query, TreeFacts, escape, open_root, public, target_is_public};
use nodes::{Nodes, ROOT};

/// Something the supervisor has to act on. Paths are relative to the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Another file took the place of a masked one: its mask is gone.
    Replaced {
        /// Where.
        path: PathBuf,
    },
    /// A name that is to be hidden, or another name of a hidden file, is new.
    Appeared {
        /// Where.
        path: PathBuf,
        /// What it is.
        kind: FileType,
        /// Why it is hidden.
        reason: Reason,
    },
    /// A masked path does not exist any more.
    Vanished {
        /// Where it was.
        path: PathBuf,
    },
}

/// What a masked file looked like; the change time because inode numbers are used again at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    ino: u64,
    ctime: (i64, i64),
}

impl Seen {
    fn new(stat: &FileStat) -> Self {
        Self { ino: stat.st_ino, ctime: (stat.st_ctime, stat.st_ctime_nsec) }
    }
}

/// A directory that waits to be watched and listed.
#[derive(Debug)]
struct Waiting {
    parent: i32,
    name: Box<[u8]>,
    revealed: bool,
    /// It appeared during the run: what lies in it may still be written, so its content says nothing.
    fresh: bool,
}

/// How an entry came to attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Listed for the first time, or again.
    Listed,
    /// Listed in a directory that is new itself.
    Fresh,
    /// The kernel told of it.
    Told,
}

/// The watcher. Its descriptor becomes readable when [`Watcher::read`] has something to do.
#[derive(Debug)]
pub struct Watcher {
    inotify: Inotify,
    root: std::fs::File,
    query: Query,
    nodes: Nodes,
    waiting: Vec<Waiting>,
    /// Masked entries by their directory and name.
    masked: BTreeMap<(i32, Box<[u8]>), Seen>,
    /// Directories that left their place and were not seen to arrive elsewhere yet, by cookie.
    leaving: Vec<(u32, i32, Box<[u8]>)>,
    events: Vec<Event>,
    buffer: Buffer,
    limited: bool,
    /// A look at everything is under way; what it does not reach is gone.
    sweeping: bool,
    /// Events were lost during that look: it is done once more.
    lost: bool,
    /// Events wait in the queue.
    unread: bool,
}

/// What is told of every directory; of those that hold something hidden, removals too.
const EVENTS: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_ONLYDIR)
    .union(AddWatchFlags::from_bits_retain(nix::libc::IN_MASK_ADD));

/// New directories that are looked at at once, before the next slice.
const AT_ONCE: usize = 64;

/// Batches of events, each of about a hundred, that are read before something else gets its turn.
const BATCHES: usize = 16;

/// Directories that may have left their place and not arrived elsewhere.
const LEAVING: usize = 4096;

impl Watcher {
    /// Watches the directories above everything hidden, and compares what they hold with what the pass found.
    ///
    /// # Errors
    /// Inotify cannot be had, or the user's watches do not even suffice for these directories.
    pub fn new(query: &Query, facts: &TreeFacts) -> Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .map_err(|error| Error::setup(format!("cannot watch the workspace: inotify_init1: {error}")).hint(HINT))?;
        let mut watcher = Self {
            inotify,
            root: open_root(&query.root)?,
            query: query.clone(),
            nodes: Nodes::default(),
            waiting: Vec::new(),
            masked: BTreeMap::new(),
            leaving: Vec::new(),
            events: Vec::new(),
            buffer: Buffer::default(),
            limited: false,
            sweeping: false,
            lost: false,
            unread: false,
        };
        watcher.watch(&Waiting { parent: ROOT, name: Box::default(), revealed: false, fresh: false })?;
        for hidden in &facts.hidden {
            let Some(parent) = watcher.watch_above(&hidden.path)? else {
                watcher.events.push(Event::Vanished { path: hidden.path.clone() });
                continue;
            };
            watcher.attend(parent)?;
            let name = hidden.path.file_name().unwrap_or_default().as_bytes();
            watcher.masked.insert((parent, name.into()), Seen { ino: hidden.ino, ctime: hidden.ctime });
        }
        if watcher.limited {
            return Err(Error::setup("cannot watch the directories that hold hidden files: no inotify watch is left")
                .hint(HINT));
        }
        for directory in watcher.nodes.all() {
            watcher.list(directory, false)?;
        }
        Ok(watcher)
    }

    /// Goes on: reads what is unread, and watches and lists up to `budget` more directories. Returns whether there is more
    /// to do.
    ///
    /// # Errors
    /// The kernel refuses what it may not refuse; a limit that is reached is no error (see [`Watcher::limited`]).
    pub fn step(&mut self, budget: usize) -> Result<bool> {
        if self.unread {
            self.read()?;
        }
        self.advance(budget)?;
        Ok(!self.waiting.is_empty() || self.unread)
    }

    fn advance(&mut self, budget: usize) -> Result<()> {
        for _ in 0..budget {
            let Some(next) = self.waiting.pop() else { break };
            if let Some(directory) = self.watch(&next)? {
                self.list(directory, next.fresh)?;
            }
        }
        if self.waiting.is_empty() && self.sweeping {
            self.sweeping = false;
            let gone = self.nodes.unseen();
            self.forget_all(&gone);
            if self.lost {
                self.lost = false;
                self.rescan();
            }
        }
        Ok(())
    }

    /// Reads what the kernel has to tell and looks at it; not all where somebody makes events faster than they can be
    /// looked at. Returns whether there is more to do for [`Watcher::step`].
    ///
    /// # Errors
    /// The kernel refuses to read a directory or the queue for another reason than that something vanished.
    pub fn read(&mut self) -> Result<bool> {
        self.unread = true;
        for _ in 0..BATCHES {
            let batch = match self.inotify.read_events() {
                Ok(batch) => batch,
                Err(Errno::EAGAIN) => {
                    self.unread = false;
                    break;
                }
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(Error::setup(format!("cannot read inotify events: {error}"))),
            };
            for event in &batch {
                self.told(event)?;
            }
        }
        if self.unread {
            // What is told of something hidden may be far behind in the queue, or lost.
            self.look_at_hidden()?;
        }
        // A directory that moved within the workspace has arrived by now: the kernel queues both halves together.
        if !self.unread || self.leaving.len() > LEAVING {
            for (_, parent, name) in std::mem::take(&mut self.leaving) {
                if let Some(directory) = self.nodes.child(parent, &name) {
                    self.forget(directory);
                }
            }
        }
        for _ in 0..AT_ONCE {
            if !self.waiting.last().is_some_and(|waiting| waiting.fresh) {
                break;
            }
            self.advance(1)?;
        }
        Ok(!self.waiting.is_empty() || self.unread)
    }

    /// Looks at everything that is hidden already, whether it was replaced.
    fn look_at_hidden(&mut self) -> Result<()> {
        let mut directories: Vec<i32> = self.masked.keys().map(|(directory, _)| *directory).collect();
        directories.dedup();
        for directory in directories {
            let path = self.path_of(directory, b"");
            let Ok(fd) = beneath(self.root.as_fd(), &path, OFlag::O_PATH | OFlag::O_DIRECTORY) else { continue };
            for name in self.masked_in(directory) {
                // What is not here may have moved, of which the queue tells.
                if fstatat(fd.as_fd(), &*name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok() {
                    self.look(fd.as_fd(), directory, &name, FileType::Unknown, Cause::Listed)?;
                }
            }
        }
        Ok(())
    }

    /// What happened since the last call, in order.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Believes of nothing any more that it is masked, and looks at every directory again.
    pub fn doubt(&mut self) {
        for seen in self.masked.values_mut() {
            *seen = Seen { ino: 0, ctime: (0, 0) };
        }
        self.rescan();
    }

    /// Looks at every directory again, in slices by [`Watcher::step`].
    pub fn rescan(&mut self) {
        self.waiting.clear();
        self.nodes.begin_sweep();
        self.sweeping = true;
        self.waiting.push(Waiting { parent: ROOT, name: Box::default(), revealed: false, fresh: false });
    }

    /// Whether directories remained without a watch because the user's limit is reached.
    pub fn limited(&self) -> bool {
        self.limited
    }

    /// How many directories are known.
    pub fn directories(&self) -> usize {
        self.nodes.len()
    }

    /// Watches all directories above a path; the nearest, or `None` where one of them is gone.
    fn watch_above(&mut self, path: &Path) -> Result<Option<i32>> {
        let mut at = self.nodes.root();
        let mut revealed = false;
        let above = path.parent().unwrap_or(Path::new(""));
        for part in above.components() {
            let Some(parent) = at else { return Ok(None) };
            let name = part.as_os_str().as_bytes();
            revealed |= self.verdict(parent, name, true, revealed) == Verdict::Revealed;
            at = match self.nodes.child(parent, name) {
                Some(known) => Some(known),
                None => self.watch(&Waiting { parent, name: name.into(), revealed, fresh: false })?,
            };
        }
        Ok(at)
    }

    fn verdict(&self, parent: i32, name: &[u8], directory: bool, revealed: bool) -> Verdict {
        self.query.matcher.verdict(&self.nodes.path(parent), name, directory, revealed)
    }

    /// Watches a directory; `None` where it is gone or may not be read.
    fn watch(&mut self, waiting: &Waiting) -> Result<Option<i32>> {
        let mut path = self.nodes.path(waiting.parent);
        nodes::push(&mut path, &waiting.name);
        let path = Path::new(OsStr::from_bytes(&path));
        let Ok(fd) = beneath(self.root.as_fd(), path, OFlag::O_PATH | OFlag::O_DIRECTORY) else { return Ok(None) };
        let Some(descriptor) = self.add_watch(fd.as_fd(), path, EVENTS)? else { return Ok(None) };
        // The kernel gives a directory it watches already the number it has, so a move only changes the place.
        Ok(Some(self.nodes.insert(descriptor, waiting.parent, &waiting.name, waiting.revealed)))
    }

    /// `None` where the directory is gone or closed, `Some(None)` where no watch is left.
    #[allow(clippy::option_option, reason = "the two have to be told apart")]
    fn add_watch(
        &mut self,
        fd: BorrowedFd<'_>,
        path: &Path,
        events: AddWatchFlags,
    ) -> Result<Option<Option<WatchDescriptor>>> {
        // By descriptor: a path could lead elsewhere by now.
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        match self.inotify.add_watch(link.as_str(), events) {
            Ok(descriptor) => Ok(Some(Some(descriptor))),
            Err(Errno::ENOSPC | Errno::ENOMEM) => {
                self.limited = true;
                Ok(Some(None))
            }
            Err(Errno::EACCES | Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(error) => Err(Error::setup(format!("cannot watch {}: inotify_add_watch: {error}", escape(path)))),
        }
    }

    /// Asks to be told of removals in a directory too.
    fn attend(&mut self, directory: i32) -> Result<()> {
        let path = self.path_of(directory, b"");
        if let Ok(fd) = beneath(self.root.as_fd(), &path, OFlag::O_PATH | OFlag::O_DIRECTORY) {
            self.add_watch(fd.as_fd(), &path, EVENTS | AddWatchFlags::IN_DELETE)?;
        }
        Ok(())
    }

    fn list(&mut self, directory: i32, fresh: bool) -> Result<()> {
        let path = self.nodes.path(directory);
        let path = Path::new(OsStr::from_bytes(&path));
        let Ok(fd) = beneath(self.root.as_fd(), path, OFlag::O_RDONLY | OFlag::O_DIRECTORY) else { return Ok(()) };
        let mut names: Vec<(CString, FileType)> = Vec::new();
        let matcher = &self.query.matcher;
        let revealed = self.nodes.revealed(directory);
        let parent = path.as_os_str().as_bytes();
        let masked = self.masked_in(directory);
        let read = self.buffer.read(fd.as_fd(), |entry| {
            // Only what matters is kept: a directory may hold very many files.
            let name = entry.name.to_bytes();
            let matters = match entry.kind {
                FileType::File | FileType::Other | FileType::Socket => {
                    matcher.verdict(parent, name, false, revealed) != Verdict::Visible
                        || masked.iter().any(|known| **known == *name)
                }
                _ => true,
            };
            if matters {
                names.push((entry.name.to_owned(), entry.kind));
            }
        });
        match read {
            Ok(()) => {}
            Err(Errno::ENOENT) => return Ok(()),
            Err(error) => return Err(Error::setup(format!("cannot read the directory {}: {error}", escape(path)))),
        }
        let cause = if fresh { Cause::Fresh } else { Cause::Listed };
        for name in masked {
            if !names.iter().any(|(known, _)| known.to_bytes() == &*name) {
                self.vanished(directory, &name);
            }
        }
        for (name, kind) in names {
            self.look(fd.as_fd(), directory, name.to_bytes(), kind, cause)?;
        }
        Ok(())
    }

    /// Names of masked entries of a directory.
    fn masked_in(&self, directory: i32) -> Vec<Box<[u8]>> {
        let from = (directory, Box::default());
        let names = self.masked.range(from..).take_while(|((parent, _), _)| *parent == directory);
        names.map(|((_, name), _)| name.clone()).collect()
    }

    fn told(&mut self, event: &InotifyEvent) -> Result<()> {
        let mask = event.mask;
        let directory = event.wd.as_raw();
        if mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            // Begun anew each time, a look at a large tree would never end.
            if self.sweeping {
                self.lost = true;
            } else {
                self.rescan();
            }
            return Ok(());
        }
        if mask.contains(AddWatchFlags::IN_IGNORED) {
            self.forget(directory);
            return Ok(());
        }
        let Some(name) = event.name.as_deref().map(OsStrExt::as_bytes) else { return Ok(()) };
        if !self.nodes.contains(directory) {
            return Ok(());
        }
        let is_directory = mask.contains(AddWatchFlags::IN_ISDIR);
        if mask.intersects(AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_DELETE) {
            if self.masked.contains_key(&(directory, Box::from(name))) {
                self.vanished(directory, name);
            } else if is_directory && mask.contains(AddWatchFlags::IN_MOVED_FROM) {
                self.leaving.push((event.cookie, directory, name.into()));
            }
            return Ok(());
        }
        self.leaving.retain(|(cookie, _, _)| *cookie != event.cookie || event.cookie == 0);
        let path = self.nodes.path(directory);
        let path = Path::new(OsStr::from_bytes(&path));
        let Ok(fd) = beneath(self.root.as_fd(), path, OFlag::O_PATH | OFlag::O_DIRECTORY) else { return Ok(()) };
        let kind = if is_directory { FileType::Directory } else { FileType::Unknown };
        self.look(fd.as_fd(), directory, name, kind, Cause::Told)
    }

    /// Looks at one entry.
    fn look(&mut self, dir: BorrowedFd<'_>, directory: i32, name: &[u8], kind: FileType, cause: Cause) -> Result<()> {
        let key = (directory, Box::from(name));
        let known = self.masked.get(&key).copied();
        let stat = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        let Ok(stat) = stat else {
            if known.is_some() {
                self.vanished(directory, name);
            }
            return Ok(());
        };
        let kind = if kind == FileType::Unknown { FileType::from_mode(stat.st_mode) } else { kind };
        if let Some(seen) = known {
            // A name that is told of is new, even if the file got the number of the old one.
            if cause == Cause::Told || seen != Seen::new(&stat) {
                self.masked.insert(key, Seen::new(&stat));
                let path = self.path_of(directory, name);
                self.events.push(Event::Replaced { path });
            }
            return Ok(());
        }
        let is_directory = kind == FileType::Directory;
        let above = self.nodes.revealed(directory);
        let mut verdict = self.verdict(directory, name, is_directory, above);
        if kind == FileType::Symlink && verdict == Verdict::Visible {
            verdict = self.verdict(directory, name, true, above);
        }
        let revealed = above || verdict == Verdict::Revealed;
        if let Verdict::Hidden(reason, unless) = verdict {
            let says_public = match cause {
                // What is being written may not be complete.
                Cause::Told | Cause::Fresh => matches!(unless, Unless::Venv),
                Cause::Listed => true,
            };
            let public = says_public && CString::new(name).is_ok_and(|name| public(dir, &name, kind, unless));
            if kind == FileType::Symlink {
                return self.link(directory, name, says_public.then_some(unless));
            }
            if !public {
                return self.appeared(key, kind, reason, &stat);
            }
        }
        if is_directory {
            let git = |part: &[u8]| part.eq_ignore_ascii_case(b".git");
            if !git(name) && !self.nodes.path(directory).split(|&b| b == b'/').any(git) {
                let fresh = cause != Cause::Listed;
                let waits = |known: &Waiting| known.fresh && known.parent == directory && *known.name == *name;
                if !fresh || !self.waiting.iter().rev().take(AT_ONCE).any(waits) {
                    self.waiting.push(Waiting { parent: directory, name: name.into(), revealed, fresh });
                }
            }
            return Ok(());
        }
        if stat.st_nlink > 1 && cause != Cause::Listed {
            let of = self
                .masked
                .iter()
                .find(|(_, seen)| seen.ino == stat.st_ino)
                .map(|((parent, name), _)| (*parent, name.clone()));
            if let Some((parent, name)) = of {
                let reason = Reason::HardLink(self.path_of(parent, &name));
                return self.appeared(key, kind, reason, &stat);
            }
        }
        Ok(())
    }

    /// A symbolic link with a hidden name: what it leads to is hidden, where that is in the workspace.
    fn link(&mut self, directory: i32, name: &[u8], unless: Option<Unless>) -> Result<()> {
        let link = self.path_of(directory, name);
        let Ok(resolved) = std::fs::canonicalize(self.query.root.join(&link)) else { return Ok(()) };
        let Ok(target) = resolved.strip_prefix(&self.query.root) else { return Ok(()) };
        let Ok(fd) = beneath(self.root.as_fd(), target, OFlag::O_PATH) else { return Ok(()) };
        let Ok(stat) = fstat(&fd) else { return Ok(()) };
        let kind = FileType::from_mode(stat.st_mode);
        let public = unless.is_some_and(|unless| target_is_public(self.root.as_fd(), target, unless));
        if link.starts_with(target) || public {
            return Ok(());
        }
        let Some(parent) = self.watch_above(target)? else { return Ok(()) };
        let key = (parent, Box::from(target.file_name().unwrap_or_default().as_bytes()));
        if self.masked.contains_key(&key) {
            return Ok(());
        }
        self.appeared(key, kind, Reason::LinkTarget(link), &stat)
    }

    fn appeared(&mut self, key: (i32, Box<[u8]>), kind: FileType, reason: Reason, stat: &FileStat) -> Result<()> {
        let path = self.path_of(key.0, &key.1);
        self.attend(key.0)?;
        self.masked.insert(key, Seen::new(stat));
        self.events.push(Event::Appeared { path, kind, reason });
        Ok(())
    }

    fn vanished(&mut self, directory: i32, name: &[u8]) {
        if self.masked.remove(&(directory, Box::from(name))).is_some() {
            let path = self.path_of(directory, name);
            self.events.push(Event::Vanished { path });
        }
    }

    /// Forgets a directory and all below it.
    fn forget(&mut self, directory: i32) {
        if self.nodes.contains(directory) {
            let below = self.nodes.below(directory);
            self.forget_all(&below);
        }
    }

    fn forget_all(&mut self, directories: &[i32]) {
        for &directory in directories {
            for name in self.masked_in(directory) {
                self.vanished(directory, &name);
            }
        }
        for &directory in directories {
            if let Some(descriptor) = self.nodes.remove(directory) {
                // It fails where the directory is gone, and its watch with it.
                let _ = self.inotify.rm_watch(descriptor);
            }
        }
    }

    fn path_of(&self, directory: i32, name: &[u8]) -> PathBuf {
        let mut path = self.nodes.path(directory);
        nodes::push(&mut path, name);
        PathBuf::from(OsStr::from_bytes(&path))
    }
}

const HINT: &str = "raise fs.inotify.max_user_watches and max_user_instances, or close programs that watch many files";

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
