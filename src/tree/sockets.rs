//! Sockets in directories of the host that the policy shows: whoever listens on them is outside the jail.

use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;

use super::escape;
use super::walk::{Dir, Task, Visitor, to_path, walk};
use crate::error::{Error, Result};
use crate::sys::dirent::{Entry, FileType};

struct Sockets(Vec<PathBuf>);

impl Visitor for Sockets {
    fn entry(&mut self, dir: &Dir<'_>, entry: &Entry<'_>) -> Result<Option<u8>> {
        if entry.kind == FileType::Socket {
            self.0.push(to_path(&dir.join(entry.name.to_bytes())));
        }
        Ok((entry.kind == FileType::Directory).then_some(0))
    }

    fn unreadable(&mut self, _path: &[u8], _error: Errno) {
        // The workload has no more rights than this process, so it finds nothing there either.
    }
}

/// The sockets below a directory, relative to it, sorted.
///
/// # Errors
/// The directory cannot be opened, or one below it not read for another reason than permission.
pub fn sockets(directory: &Path) -> Result<Vec<PathBuf>> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_CLOEXEC)
        .open(directory)
        .map_err(|error| Error::setup(format!("cannot read the directory {}: {error}", escape(directory))))?;
    let start = Task { path: Vec::new(), flags: 0 };
    let mut found: Vec<PathBuf> =
        walk(opened.as_fd(), start, &|| Sockets(Vec::new()))?.into_iter().flat_map(|part| part.0).collect();
    found.sort();
    Ok(found)
}
