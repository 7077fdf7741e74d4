//! Empty directories outside the workspace that become placeholders by a rename, and are taken back by one.
//!
//! A new directory costs a block on disk, which is given back when it is removed; where that is discarded at once the
//! kernel waits for the disk, 0.1 to 4 ms each. A rename costs neither. Only for a user's own jail: root's init may not
//! write to root's state. The two directories are given as the host sees them, since a rename does not cross mounts.

use std::ffi::CString;
use std::fs::DirBuilder;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, open, renameat2};
use nix::sys::stat::Mode;

use super::shares::Kept;
use crate::guard::placeholder::is_marked_directory;
use crate::sys::dirent::{Buffer, FileType};

/// So many are kept.
const KEPT: usize = 32;

/// The directories that are left.
#[derive(Debug)]
pub struct Spares {
    pool: OwnedFd,
    names: Vec<CString>,
    /// Distinguishes the names of those that are given back.
    session: String,
    given: usize,
}

impl Spares {
    /// Opens the directory `pool` and makes it if needed. `None` where that cannot be done: then they are not used.
    pub fn open(pool: &Path, session: &str) -> Option<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = match open(pool, flags, Mode::empty()) {
            Err(Errno::ENOENT) => {
                DirBuilder::new().mode(0o700).create(pool).ok()?;
                open(pool, flags, Mode::empty()).ok()?
            }
            opened => opened.ok()?,
        };
        let mut names = Vec::new();
        Buffer::default()
            .read(fd.as_fd(), |entry| {
                if entry.kind == FileType::Directory {
                    names.push(entry.name.to_owned());
                }
            })
            .ok()?;
        Some(Self::new(fd, names, session.to_owned()))
    }

    /// The directories of these names in `pool`.
    pub fn new(pool: OwnedFd, names: Vec<CString>, session: String) -> Self {
        Self { pool, names, session, given: 0 }
    }

    /// What another process has to know beside the descriptor.
    pub fn kept(&self) -> Kept {
        Kept {
            names: self.names.iter().map(|name| name.to_bytes().to_owned()).collect(),
            session: self.session.clone(),
        }
    }

    /// Moves one to `name` in `directory`, with its mark.
    ///
    /// # Errors
    /// EEXIST when something is there; ENOENT when none is left; others when they cannot be moved there.
    pub fn take(&mut self, directory: BorrowedFd<'_>, name: &CString) -> nix::Result<()> {
        while let Some(spare) = self.names.pop() {
            // A directory loses its mark, its time of change, when something is put into it.
            if !is_marked_directory(self.pool.as_fd(), &spare) {
                continue;
            }
            let moved =
                renameat2(&self.pool, spare.as_c_str(), directory, name.as_c_str(), RenameFlags::RENAME_NOREPLACE);
            match moved {
                Err(Errno::ENOENT) => {}
                Err(Errno::EEXIST) => {
                    self.names.push(spare);
                    return moved;
                }
                // Another file system or mount, or rights that differ: none of them will do.
                Err(_) => {
                    self.names.clear();
                    return moved;
                }
                Ok(()) => return moved,
            }
        }
        Err(Errno::ENOENT)
    }

    /// Takes back what `name` in `directory` is, if it still is a placeholder.
    ///
    /// # Errors
    /// It is something else, which stays; enough are kept; or it cannot be moved here.
    pub fn give(&mut self, directory: BorrowedFd<'_>, name: &CString) -> nix::Result<()> {
        if self.names.len() + self.given >= KEPT {
            return Err(Errno::ENOSPC);
        }
        if !is_marked_directory(directory, name) {
            return Err(Errno::EEXIST);
        }
        let spare = CString::new(format!("{}-{}", self.session, self.given)).map_err(|_| Errno::EINVAL)?;
        let keep = RenameFlags::RENAME_NOREPLACE;
        renameat2(directory, name.as_c_str(), &self.pool, spare.as_c_str(), keep)?;
        self.given += 1;
        // Something that the host put into it has taken its mark.
        if is_marked_directory(self.pool.as_fd(), &spare) {
            return Ok(());
        }
        renameat2(&self.pool, spare.as_c_str(), directory, name.as_c_str(), keep)?;
        Err(Errno::ENOTEMPTY)
    }
}

impl AsFd for Spares {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pool.as_fd()
    }
}
