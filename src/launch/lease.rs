//! A share in a directory that holds placeholders: as long as anyone has one, nobody removes placeholders there.
//!
//! A mount disappears from every namespace when the host's file below it is removed. Two jails in one workspace stand on
//! the same placeholders, so the first to end must leave them to the second. The share is a lock (flock(2)) on a file
//! outside the workspace, which the workload can neither see nor hold. Supervisor and init have it together: it ends
//! when both are gone, however they went.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::stat::FileStat;
use serde::{Deserialize, Serialize};

/// Which directory: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Directory {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

impl Directory {
    /// The directory that was looked at.
    pub fn of(stat: &FileStat) -> Self {
        Self { dev: stat.st_dev, ino: stat.st_ino }
    }
}

/// A share in one directory.
#[derive(Debug)]
pub struct Lease {
    /// In which.
    pub directory: Directory,
    /// The locked file.
    file: File,
    /// The directory as the host sees it.
    place: OwnedFd,
}

impl Lease {
    /// A lease over a file that is locked already, shared; `place` is the directory.
    pub fn new(directory: Directory, file: File, place: OwnedFd) -> Self {
        Self { directory, file, place }
    }

    /// The directory as the host sees it, not as it is mounted inside.
    pub fn place(&self) -> BorrowedFd<'_> {
        self.place.as_fd()
    }

    /// The lock and the directory, for another process: a share lasts until both have given it up.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.file.as_fd(), self.place.as_fd()]
    }

    /// Turns the share into an exclusive one if nobody else has one. If not, this one is lost: the kernel gives up the
    /// old lock before it tries for the new. So this is only for the end.
    pub fn alone(&self) -> bool {
        self.file.try_lock().is_ok()
    }
}
