//! Opening what lies beneath a directory, never through a symbolic link.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, fstat};
use zeroize::Zeroizing;

/// Set once openat2(2) was refused (kernels before 5.6, some container filters): paths are then opened by component.
static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

/// Longest part of a path given to one call; PATH_MAX is 4096 with the NUL.
const LONGEST: usize = 4000;

/// Opens `path`, relative to `root`, following no symbolic link in any component; the empty path is `root` itself.
///
/// `flags` are open(2)'s; `O_CLOEXEC` and `O_NOFOLLOW` are added. Paths may be longer than `PATH_MAX`.
///
/// # Errors
/// What openat2(2) returns: `ELOOP` where a component is a symbolic link, `EXDEV` for a path that leads upwards.
pub fn beneath(root: BorrowedFd<'_>, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
    let path = path.as_os_str().as_bytes();
    if path.is_empty() {
        return openat(root, c".", flags | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY, Mode::empty());
    }
    if path.len() <= LONGEST {
        return step(root, path, flags);
    }
    let mut at: Option<OwnedFd> = None;
    let mut rest = path;
    while rest.len() > LONGEST {
        let cut = rest[..LONGEST].iter().rposition(|&b| b == b'/').ok_or(Errno::ENAMETOOLONG)?;
        let base = at.as_ref().map_or(root, |fd| fd.as_fd());
        at = Some(step(base, &rest[..cut], OFlag::O_PATH | OFlag::O_DIRECTORY)?);
        rest = &rest[cut + 1..];
    }
    step(at.as_ref().map_or(root, |fd| fd.as_fd()), rest, flags)
}

fn step(root: BorrowedFd<'_>, path: &[u8], flags: OFlag) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    if !NO_OPENAT2.load(Ordering::Relaxed) {
        let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        loop {
            match openat2(root, path, how) {
                // A rename elsewhere raced with the lookup; the kernel asks to try again.
                Err(Errno::EAGAIN) => {}
                Err(Errno::ENOSYS | Errno::EPERM) => {
                    NO_OPENAT2.store(true, Ordering::Relaxed);
                    break;
                }
                other => return other,
            }
        }
    }
    by_component(root, path, flags)
}

fn by_component(root: BorrowedFd<'_>, path: &[u8], flags: OFlag) -> Result<OwnedFd, Errno> {
    let mut parts = path.split(|&b| b == b'/').filter(|part| !part.is_empty() && *part != b".").peekable();
    let mut at: Option<OwnedFd> = None;
    while let Some(part) = parts.next() {
        if part == b".." {
            return Err(Errno::EXDEV);
        }
        let base = at.as_ref().map_or(root, |fd| fd.as_fd());
        if parts.peek().is_none() {
            return openat(base, part, flags, Mode::empty());
        }
        let between = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        at = Some(openat(base, part, between, Mode::empty())?);
    }
    Err(Errno::ENOENT)
}

/// Reads a small regular file beneath `root`, at most `limit` bytes and one more.
///
/// # Errors
/// What openat2(2) and read(2) return; `EINVAL` where it is not a regular file, `EBUSY` where it grows.
pub fn read_beneath(root: BorrowedFd<'_>, path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, Errno> {
    read_all(beneath(root, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?, limit)
}

/// Reads the regular file that a path leads to, through links, at most `limit` bytes and one more. Whatever else lies
/// there is not opened: a device acts on that, and a pipe waits.
///
/// # Errors
/// What open(2) and read(2) return; `EINVAL` where it is not a regular file, `EBUSY` where it grows.
pub fn read_through_links(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, Errno> {
    let found = nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    if fstat(&found)?.st_mode & nix::libc::S_IFMT != nix::libc::S_IFREG {
        return Err(Errno::EINVAL);
    }
    let link = format!("/proc/self/fd/{}", found.as_raw_fd());
    read_all(nix::fcntl::open(link.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?, limit)
}

/// Reads the entry `name` of `dir` if it is a regular file, at most `limit` bytes and one more.
///
/// # Errors
/// What openat(2) and read(2) return; `EINVAL` where it is not a regular file, `EBUSY` where it grows.
pub fn read_at(dir: BorrowedFd<'_>, name: &CStr, limit: usize) -> Result<Zeroizing<Vec<u8>>, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    read_all(openat(dir, name, flags, Mode::empty())?, limit)
}

/// Reads into one buffer that is wiped when it is dropped: a fork may follow, and what is looked at may be a secret.
fn read_all(fd: OwnedFd, limit: usize) -> Result<Zeroizing<Vec<u8>>, Errno> {
    let stat = fstat(&fd)?;
    if stat.st_mode & nix::libc::S_IFMT != nix::libc::S_IFREG {
        return Err(Errno::EINVAL);
    }
    // One more than the size shows that the file grew; it may not make the buffer move.
    let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX).min(limit).saturating_add(1);
    let mut content = Zeroizing::new(vec![0; size]);
    let mut length = 0;
    while length < size {
        match nix::unistd::read(&fd, &mut content[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    if length == size && size <= limit {
        return Err(Errno::EBUSY);
    }
    content.truncate(length);
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_openat2_links_and_parents_are_refused_too() {
        let dir = tempfile::TempDir::new().expect("temporary directory");
        std::fs::create_dir_all(dir.path().join("a/b")).expect("directories");
        std::fs::write(dir.path().join("a/b/c"), "x").expect("file");
        std::os::unix::fs::symlink("a", dir.path().join("link")).expect("link");
        std::os::unix::fs::symlink("b/c", dir.path().join("a/last")).expect("link");
        let root = std::fs::File::open(dir.path()).expect("root");
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let open = |path: &str| by_component(root.as_fd(), path.as_bytes(), flags).map(drop);
        assert_eq!(open("a/b/c"), Ok(()));
        assert_eq!(open("a//./b"), Ok(()));
        assert_eq!(open("a/last"), Err(Errno::ELOOP));
        assert_eq!(open("link/b/c"), Err(Errno::ENOTDIR));
        assert_eq!(open("a/../a/b/c"), Err(Errno::EXDEV));
        assert_eq!(open("a/missing"), Err(Errno::ENOENT));
    }
}
