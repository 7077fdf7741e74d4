//! Recognises what a jail put into a workspace as a mount point, and removes it.
//!
//! A placeholder carries a modification time that nothing else has, and holds nothing but what it was made with. While
//! it is being made it carries the sticky bit already and the time not yet: a jail that was killed in between is
//! cleaned up by its journal, which says that it is one of ours.

use std::ffi::{CStr, CString};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::sys::dirent::Buffer;
use crate::tree::open::beneath;

/// Modification time of every placeholder: Sep 9 2001, 01:46:40.000000042 UTC.
pub const MARK: (i64, i64) = (1_000_000_000, 42);

/// Permission bits of a placeholder directory. The sticky bit says whose it is from the first moment on.
pub const DIRECTORY_MODE: u32 = 0o1755;

/// Permission bits of a placeholder file.
pub const FILE_MODE: u32 = 0o1644;

/// Whether the entry `name` of `dir` is a finished placeholder: marked, and an empty directory or a regular file that
/// holds one of `contents`.
pub fn is_placeholder<'c>(dir: BorrowedFd<'_>, name: &CStr, contents: impl IntoIterator<Item = &'c str>) -> bool {
    let Ok(stat) = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) else { return false };
    if !marked(&stat) {
        return false;
    }
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFDIR => is_empty(dir, name),
        libc::S_IFREG => {
            let limit = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
            let mut content: Option<Vec<u8>> = None;
            contents.into_iter().filter(|wanted| wanted.len() == limit).any(|wanted| {
                content.get_or_insert_with(|| read(dir, name, &stat, limit).unwrap_or_default()) == wanted.as_bytes()
            })
        }
        _ => false,
    }
}

/// Whether the entry `name` of `dir` is a directory with the mark of a placeholder, whatever it holds.
pub fn is_marked_directory(dir: BorrowedFd<'_>, name: &CStr) -> bool {
    fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| marked(&stat) && stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// Whether the path beneath `root` is a finished placeholder with any content that the built-in tables give one.
pub fn is_placeholder_at(root: BorrowedFd<'_>, path: &Path) -> bool {
    let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else { return false };
    let Ok(name) = CString::new(name.as_bytes()) else { return false };
    if parent.as_os_str().is_empty() {
        return is_placeholder(root, &name, super::placeholder_contents());
    }
    beneath(root, parent, OFlag::O_PATH | OFlag::O_DIRECTORY)
        .is_ok_and(|parent| is_placeholder(parent.as_fd(), &name, super::placeholder_contents()))
}

/// Removes the entry `name` of `dir` if it is a placeholder with this content (`None`: a directory).
///
/// `unfinished`: also if its maker was killed before it was marked. Only for what a journal names.
///
/// # Errors
/// ENOENT when it is gone; EEXIST or ENOTEMPTY when something else is there, which stays.
pub fn remove(dir: BorrowedFd<'_>, name: &CStr, content: Option<&str>, unfinished: bool) -> nix::Result<()> {
    let stat = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if !(marked(&stat) || unfinished && stat.st_mode & libc::S_ISVTX != 0) {
        return Err(Errno::EEXIST);
    }
    match (content, stat.st_mode & libc::S_IFMT) {
        // The kernel removes an empty directory only.
        (None, libc::S_IFDIR) => unlinkat(dir, name, UnlinkatFlags::RemoveDir),
        (Some(content), libc::S_IFREG) => {
            let found = read(dir, name, &stat, content.len())?;
            let same = found == content.as_bytes() || unfinished && content.as_bytes().starts_with(&found);
            if same { unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) } else { Err(Errno::EEXIST) }
        }
        _ => Err(Errno::EEXIST),
    }
}

/// Some file systems keep whole seconds only.
fn marked(stat: &FileStat) -> bool {
    stat.st_mtime == MARK.0 && (stat.st_mtime_nsec == MARK.1 || stat.st_mtime_nsec == 0)
}

fn is_empty(dir: BorrowedFd<'_>, name: &CStr) -> bool {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let Ok(fd) = openat(dir, name, flags, Mode::empty()) else { return false };
    let mut empty = true;
    Buffer::default().read(fd.as_fd(), |_| empty = false).is_ok() && empty
}

/// Reads the regular file that `stat` describes: at most `limit` bytes and one more.
fn read(dir: BorrowedFd<'_>, name: &CStr, stat: &FileStat, limit: usize) -> nix::Result<Vec<u8>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let fd = openat(dir, name, flags, Mode::empty())?;
    let opened = fstat(&fd)?;
    if (opened.st_dev, opened.st_ino) != (stat.st_dev, stat.st_ino) {
        return Err(Errno::EEXIST);
    }
    let mut content = Vec::new();
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    std::fs::File::from(fd)
        .take(bound)
        .read_to_end(&mut content)
        .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    Ok(content)
}
