//! Watches what is protected: like a mask, a read-only bind falls off when the host replaces what it covers, as
//! `git config` does with `.git/config`.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use crate::error::{Error, Result};

/// Tells when something takes the place of a protected path.
#[derive(Debug)]
pub struct GuardWatcher {
    inotify: Inotify,
    /// Protected paths by their directory's watch, each as it stands in the plan.
    watched: HashMap<WatchDescriptor, Vec<PathBuf>>,
}

impl GuardWatcher {
    /// Watches the directories of the paths; relative ones are in the workspace.
    ///
    /// # Errors
    /// Inotify cannot be had, or the user's watches do not suffice.
    pub fn new<'p>(workspace: &Path, paths: impl Iterator<Item = &'p Path>) -> Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).map_err(|errno| {
            Error::setup(format!("cannot watch protected paths: inotify_init1: {}", errno.desc())).hint(super::HINT)
        })?;
        let mut watcher = Self { inotify, watched: HashMap::new() };
        for path in paths {
            watcher.add(workspace, path)?;
        }
        Ok(watcher)
    }

    fn add(&mut self, workspace: &Path, path: &Path) -> Result<()> {
        let absolute = workspace.join(path);
        let Some(parent) = absolute.parent() else { return Ok(()) };
        let events = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_ONLYDIR;
        match self.inotify.add_watch(parent, events) {
            Ok(descriptor) => self.watched.entry(descriptor).or_default().push(path.to_owned()),
            // A directory that is not there, or that nobody may enter, holds nothing to replace.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => {}
            Err(errno) => {
                return Err(Error::setup(format!(
                    "cannot watch {}: inotify_add_watch: {}",
                    parent.display(),
                    errno.desc()
                ))
                .hint(super::HINT));
            }
        }
        Ok(())
    }

    /// The protected paths that were replaced since the last call; all of them when the kernel lost count.
    ///
    /// # Errors
    /// The queue cannot be read.
    pub fn read(&mut self) -> Result<Vec<PathBuf>> {
        let mut replaced = Vec::new();
        loop {
            let batch = match self.inotify.read_events() {
                Ok(batch) => batch,
                Err(Errno::EAGAIN) => return Ok(replaced),
                Err(Errno::EINTR) => continue,
                Err(errno) => {
                    return Err(Error::setup(format!("cannot read inotify events: {}", errno.desc())));
                }
            };
            for event in batch {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    replaced.extend(self.watched.values().flatten().cloned());
                    continue;
                }
                let (Some(paths), Some(name)) = (self.watched.get(&event.wd), &event.name) else { continue };
                replaced.extend(paths.iter().filter(|path| path.file_name() == Some(name)).cloned());
            }
        }
    }
}

impl AsFd for GuardWatcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
