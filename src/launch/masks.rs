//! Puts stand-ins over hidden files. Runs in init, at the launch and again when the host replaced a file.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, fstat, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::ftruncate;

use super::message::{Covered, Failure, Step};
use super::rootfs::{relative, write_all, write_new_file};
use crate::escape::escape;
use crate::plan::{Plan, StandIn};
use crate::sys::mount::{self, Attributes};

/// Stand-ins up to this size hold blanks. Larger ones, and all when the masks' tmpfs is full, are holes, which read as
/// zeros and cost no memory.
const BLANK_LIMIT: u64 = 64 * 1024;

/// The tmpfs with the stand-ins, and how many it holds.
#[derive(Debug)]
pub struct Masks {
    store: OwnedFd,
    count: u64,
}

impl Masks {
    /// Takes over the masks' tmpfs.
    pub fn new(store: OwnedFd) -> Self {
        Self { store, count: 0 }
    }

    /// Applies all masks of the plan: first every stand-in is written, then they are put in place.
    pub fn apply_all(&mut self, plan: &Plan, root: BorrowedFd<'_>, workspace: BorrowedFd<'_>) -> Result<(), Failure> {
        for mask in &plan.masks {
            let (base, path) = base_of(root, workspace, &mask.path);
            self.apply(base, path, mask.stand_in).map_err(|errno| {
                let mut failure = Step::Mask.failed(escape(&mask.path), errno);
                if errno == Errno::ENOSPC {
                    failure.detail = format!(
                        "{}: the kernel's limit of mounts is reached with {} hidden files",
                        escape(&mask.path),
                        plan.masks.len()
                    );
                }
                failure
            })?;
        }
        Ok(())
    }

    /// Puts one stand-in over a path below `base`. A path that is gone needs no mask.
    pub fn apply(&mut self, base: BorrowedFd<'_>, path: &Path, stand_in: StandIn) -> nix::Result<()> {
        on_target(base, path, |target| self.cover(target, stand_in)).map(drop)
    }

    /// Masks a path that appeared or was replaced after the launch: looks at what is there now.
    pub fn apply_current(&mut self, base: BorrowedFd<'_>, path: &Path) -> nix::Result<Covered> {
        let own = fstat(&self.store)?.st_dev;
        let mut covered = Covered::Now;
        let there = on_target(base, path, |target| {
            let stat = fstat(target)?;
            // Only masks and covers lie on this device.
            covered = if stat.st_dev == own { Covered::Already } else { Covered::Now };
            match stat.st_mode & libc::S_IFMT {
                _ if covered == Covered::Already => Ok(()),
                // A link shows only what is visible inside; its target is masked by its own path.
                libc::S_IFLNK => {
                    covered = Covered::Already;
                    Ok(())
                }
                libc::S_IFDIR => self.cover(target, StandIn::Directory),
                _ => self.cover(target, stand_in_for(&stat)),
            }
        });
        match there {
            Ok(true) => Ok(covered),
            // The host made it in a directory that is covered as a whole.
            Ok(false) if nearest_above(base, path)? == Some(own) => Ok(Covered::Already),
            // A directory above that became a link: the file has another path by now, and is found there.
            Ok(false) | Err(Errno::ELOOP) => Ok(Covered::Missed),
            Err(errno) => Err(errno),
        }
    }

    fn cover(&mut self, target: BorrowedFd<'_>, stand_in: StandIn) -> nix::Result<()> {
        let name = CString::new(format!("m{}", self.count)).map_err(|_| Errno::EINVAL)?;
        self.count += 1;
        match stand_in {
            StandIn::Directory => mkdirat(self.store.as_fd(), name.as_c_str(), Mode::from_bits_truncate(0o555))?,
            StandIn::File { size, mtime: (seconds, nanoseconds), mode } => {
                let mode = (mode & 0o777) | 0o400;
                let file = write_new_file(self.store.as_fd(), &name, b"", mode)?;
                let filled = if size <= BLANK_LIMIT { write_all(&file, &blanks(size)) } else { Err(Errno::ENOSPC) };
                match filled {
                    Ok(()) => {}
                    Err(Errno::ENOSPC) => {
                        ftruncate(&file, 0)?;
                        ftruncate(&file, i64::try_from(size).map_err(|_| Errno::EFBIG)?)?;
                    }
                    Err(errno) => return Err(errno),
                }
                let time = TimeSpec::new(seconds, nanoseconds);
                futimens(&file, &time, &time)?;
            }
        }
        let tree = mount::clone_tree(self.store.as_fd(), &name)?;
        mount::add_attributes(tree.as_fd(), Attributes::READ_ONLY, false)?;
        mount::attach(tree.as_fd(), target, c"")
    }
}

/// The device of the nearest directory above a path that is there, below `base`.
fn nearest_above(base: BorrowedFd<'_>, path: &Path) -> nix::Result<Option<u64>> {
    for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
        match open_target(base, above) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
            opened => return Ok(Some(fstat(opened?)?.st_dev)),
        }
    }
    Ok(None)
}

/// What stands in for a file with this metadata.
pub fn stand_in_for(stat: &FileStat) -> StandIn {
    StandIn::File {
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime: (stat.st_mtime, stat.st_mtime_nsec),
        mode: stat.st_mode,
    }
}

/// So often is a path tried again that the host changes at that moment. More in a row is no coincidence.
const TRIES: usize = 100;

/// Mounts something on a path and returns whether anything is there; one that is gone needs nothing, nor one with a file
/// in place of a directory above it. Where the host replaces the file between its opening and the mount, which then fails
/// on the old one (ENOENT), the new one is tried.
pub fn on_target(
    base: BorrowedFd<'_>,
    path: &Path,
    mount: impl FnMut(BorrowedFd<'_>) -> nix::Result<()>,
) -> nix::Result<bool> {
    mount_on(|| open_target(base, path), mount)
}

fn mount_on(
    mut open: impl FnMut() -> nix::Result<OwnedFd>,
    mut mount: impl FnMut(BorrowedFd<'_>) -> nix::Result<()>,
) -> nix::Result<bool> {
    let mut result = Ok(());
    for _ in 0..TRIES {
        match open() {
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(false),
            target => result = mount(target?.as_fd()),
        }
        if result != Err(Errno::ENOENT) {
            break;
        }
    }
    result.map(|()| true)
}

/// Opens a mount point below the workspace without following any link, so that it cannot lead elsewhere.
pub fn open_target(workspace: BorrowedFd<'_>, path: &Path) -> nix::Result<OwnedFd> {
    let path = relative(path)?;
    settled(|| mount::open_beneath(workspace, &path, (OFlag::O_PATH | OFlag::O_NOFOLLOW).bits(), 0))
}

/// Opens again where a mount went away under the kernel's feet. When the host replaces a masked file, the mask is
/// unmounted; a walk that had just stepped onto it then ends on a mount without a parent, which is not beneath anything
/// (EXDEV). The next walk meets what is there now.
fn settled(mut open: impl FnMut() -> nix::Result<OwnedFd>) -> nix::Result<OwnedFd> {
    for _ in 1..TRIES {
        match open() {
            Err(Errno::EXDEV) => {}
            opened => return opened,
        }
    }
    open()
}

/// Blank content: spaces and a final line end, harmless to whatever parses the file.
fn blanks(size: u64) -> Vec<u8> {
    let mut content = vec![b' '; usize::try_from(size).unwrap_or(0)];
    if let Some(last) = content.last_mut() {
        *last = b'\n';
    }
    content
}

/// A path of the plan and the directory it is relative to: absolute ones lie beside the workspace.
pub fn base_of<'f, 'p>(root: BorrowedFd<'f>, workspace: BorrowedFd<'f>, path: &'p Path) -> (BorrowedFd<'f>, &'p Path) {
    match path.strip_prefix("/") {
        Ok(inside) => (root, inside),
        Err(_) => (workspace, path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn something() -> OwnedFd {
        std::fs::File::open("/").expect("root").into()
    }

    #[test]
    fn a_mask_that_goes_while_its_file_is_opened_makes_the_next_try_decide() {
        let mut opened = 0;
        let mut go_away = |times: usize| {
            opened = 0;
            settled(|| {
                opened += 1;
                if opened <= times { Err(Errno::EXDEV) } else { Ok(something()) }
            })
            .map(drop)
        };
        assert_eq!(go_away(0), Ok(()));
        assert_eq!(go_away(3), Ok(()));
        assert_eq!(go_away(usize::MAX), Err(Errno::EXDEV), "without an end it is an error, not a file that is gone");
        assert_eq!(opened, TRIES);
        assert_eq!(settled(|| Err(Errno::ENOENT)).map(drop), Err(Errno::ENOENT));
    }

    #[test]
    fn only_what_is_gone_needs_no_mount() {
        let done = |answer: nix::Result<()>| mount_on(|| Ok(something()), |_| answer);
        assert_eq!(done(Ok(())), Ok(true));
        assert_eq!(done(Err(Errno::ENOENT)), Err(Errno::ENOENT), "replaced again and again");
        assert_eq!(done(Err(Errno::ENOSPC)), Err(Errno::ENOSPC));
        for gone in [Errno::ENOENT, Errno::ENOTDIR] {
            assert_eq!(mount_on(|| Err(gone), |_| Ok(())), Ok(false));
        }
        for wrong in [Errno::EXDEV, Errno::ELOOP, Errno::EACCES, Errno::EMFILE] {
            assert_eq!(mount_on(|| Err(wrong), |_| Ok(())), Err(wrong));
        }
        let mut mounts = 0;
        let second = mount_on(
            || Ok(something()),
            |_| {
                mounts += 1;
                if mounts == 1 { Err(Errno::ENOENT) } else { Ok(()) }
            },
        );
        assert_eq!((second, mounts), (Ok(true), 2));
    }
}
