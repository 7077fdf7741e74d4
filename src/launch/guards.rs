//! Protects what the host executes: read-only binds, pins, and placeholders for what does not exist yet.
//!
//! A mount point has to exist, so a placeholder is created in the real workspace. Init removes it when the run ends,
//! also when the supervisor was killed; it carries a time stamp by which it is recognised, and whatever the host put
//! there meanwhile stays.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, UtimensatFlags, fstat, mkdirat, utimensat};
use nix::sys::time::TimeSpec;

use super::lease::{Directory, Lease};
use super::masks::{base_of, on_target, open_target};
use super::message::{Failure, Step};
use super::rootfs::{relative, write_new_file};
use super::shares::Shares;
use super::spares::Spares;
use crate::escape::escape;
use crate::guard::placeholder::{self, DIRECTORY_MODE, FILE_MODE, MARK, is_marked_directory, is_placeholder};
use crate::plan::{Guard, GuardAction, Plan};
use crate::sys::mount::{self, Attributes};

/// What has to be undone when the run ends.
#[derive(Debug, Default)]
pub struct Guards {
    /// Directories that may get placeholders: the supervisor holds them against removal by other jails.
    leases: Vec<Lease>,
    spares: Option<Spares>,
    placed: Vec<Placed>,
    count: u64,
}

#[derive(Debug)]
struct Placed {
    /// Relative to the workspace, or absolute.
    path: PathBuf,
    /// The directory that holds the placeholder, opened before anything was mounted over it.
    parent: OwnedFd,
    directory: Directory,
    name: CString,
    /// `None` for a directory.
    content: Option<String>,
}

impl Guards {
    /// Placeholders may be put into the leased directories; directories are taken from the spares where there are any.
    pub fn new(shares: Shares) -> Self {
        let Shares { leases, spares } = shares;
        Self { leases, spares, placed: Vec::new(), count: 0 }
    }

    /// Applies the plan's guards in order: a pin first, then what lies below it.
    pub fn apply_all(
        &mut self,
        plan: &Plan,
        root: BorrowedFd<'_>,
        workspace: BorrowedFd<'_>,
        store: BorrowedFd<'_>,
    ) -> Result<(), Failure> {
        // What is pinned in a read-only directory is to stay writable, so it is cloned before that is read-only.
        let mut pins = HashMap::new();
        let mut read_only: Vec<&Path> = Vec::new();
        for guard in &plan.guards {
            let above = || read_only.iter().any(|above| guard.path.starts_with(above));
            match guard.action {
                GuardAction::ReadOnly => read_only.push(&guard.path),
                GuardAction::Pin if above() => {
                    let (base, path) = base_of(root, workspace, &guard.path);
                    let tree = open_target(base, path).and_then(|target| mount::clone_tree(target.as_fd(), c""));
                    match tree {
                        Ok(tree) => drop(pins.insert(guard.path.as_path(), tree)),
                        Err(Errno::ENOENT) => {}
                        Err(errno) => return Err(Step::Guard.failed(escape(&guard.path), errno)),
                    }
                }
                _ => {}
            }
        }
        for guard in &plan.guards {
            let (base, path) = base_of(root, workspace, &guard.path);
            let applied = match pins.remove(guard.path.as_path()) {
                Some(tree) => mount::add_attributes(tree.as_fd(), Attributes::default(), true)
                    .and_then(|()| mount::attach(tree.as_fd(), open_target(base, path)?.as_fd(), c"")),
                None => self.apply(guard, base, path, store),
            };
            applied.map_err(|errno| Step::Guard.failed(escape(&guard.path), errno))?;
        }
        Ok(())
    }

    fn apply(&mut self, guard: &Guard, base: BorrowedFd<'_>, path: &Path, store: BorrowedFd<'_>) -> nix::Result<()> {
        match &guard.action {
            GuardAction::ReadOnly => bind_onto_itself(base, path, Attributes::READ_ONLY),
            GuardAction::Pin => bind_onto_itself(base, path, Attributes::default()),
            GuardAction::Cover => match open_target(base, path) {
                Err(Errno::ENOENT) => Ok(()),
                target => self.cover(target?.as_fd(), store, Some("")),
            },
            GuardAction::PlaceholderDirectory => {
                let Some(target) = self.place(guard, base, path, None)? else { return Ok(()) };
                self.cover(target.as_fd(), store, None)
            }
            GuardAction::PlaceholderFile { content } => {
                let Some(target) = self.place(guard, base, path, Some(content))? else { return Ok(()) };
                self.cover(target.as_fd(), store, Some(content))
            }
        }
    }

    /// Creates the placeholder on the real file system, or takes over the one of another jail. When something else
    /// appeared there meanwhile, that is protected.
    fn place(
        &mut self,
        guard: &Guard,
        base: BorrowedFd<'_>,
        path: &Path,
        content: Option<&str>,
    ) -> nix::Result<Option<OwnedFd>> {
        let (Some(name), parent) = (path.file_name(), path.parent().unwrap_or(Path::new(""))) else {
            return Err(Errno::EINVAL);
        };
        let parent = mount::open_beneath(base, &relative(parent)?, (OFlag::O_PATH | OFlag::O_DIRECTORY).bits(), 0)?;
        let name = c_name(name)?;
        let directory = Directory::of(&fstat(&parent)?);
        let Some(lease) = self.leases.iter().find(|lease| lease.directory == directory) else {
            // Another directory took its place since the supervisor looked.
            return Err(Errno::ESTALE);
        };
        let taken = match (&mut self.spares, content) {
            (Some(spares), None) => spares.take(lease.place(), &name),
            _ => Err(Errno::ENOENT),
        };
        let moved = taken.is_ok();
        let made = match content {
            None => match taken {
                Ok(()) | Err(Errno::EEXIST) => taken,
                Err(_) => mkdirat(parent.as_fd(), name.as_c_str(), Mode::from_bits_truncate(DIRECTORY_MODE)),
            },
            Some(content) => write_new_file(parent.as_fd(), &name, content.as_bytes(), FILE_MODE).map(drop),
        };
        let new = match made {
            Ok(()) => true,
            Err(Errno::EEXIST) if is_placeholder(parent.as_fd(), &name, content) => false,
            Err(Errno::EEXIST) => {
                bind_onto_itself(base, path, Attributes::READ_ONLY)?;
                return Ok(None);
            }
            // A workspace the user cannot write to cannot be written to by the workload either.
            Err(Errno::EACCES | Errno::EROFS | Errno::EPERM) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        // Registered before anything else can fail, so that it is removed in every case.
        let content = content.map(str::to_owned);
        self.placed.push(Placed { path: guard.path.clone(), parent, directory, name, content });
        if let (true, Some(placed)) = (new, self.placed.last()) {
            // A spare keeps its mark, where the file system does not touch a directory that moves.
            let mark = TimeSpec::new(MARK.0, MARK.1);
            if !moved || !is_marked_directory(placed.parent.as_fd(), &placed.name) {
                utimensat(&placed.parent, placed.name.as_c_str(), &mark, &mark, UtimensatFlags::NoFollowSymlink)?;
            }
        }
        open_target(base, path).map(Some)
    }

    /// Puts a read-only file or an empty read-only directory over a mount point.
    fn cover(&mut self, target: BorrowedFd<'_>, store: BorrowedFd<'_>, content: Option<&str>) -> nix::Result<()> {
        let name = CString::new(format!("g{}", self.count)).map_err(|_| Errno::EINVAL)?;
        self.count += 1;
        match content {
            None => mkdirat(store, name.as_c_str(), Mode::from_bits_truncate(0o555))?,
            Some(content) => drop(write_new_file(store, &name, content.as_bytes(), 0o444)?),
        }
        let tree = mount::clone_tree(store, &name)?;
        mount::add_attributes(tree.as_fd(), Attributes::READ_ONLY, false)?;
        mount::attach(tree.as_fd(), target, c"")
    }

    /// Protects a path again that the host replaced: read-only, or pinned. One that is gone needs no protection.
    pub fn renew(root: BorrowedFd<'_>, workspace: BorrowedFd<'_>, path: &Path, pin: bool) -> nix::Result<()> {
        let (base, path) = base_of(root, workspace, path);
        bind_onto_itself(base, path, if pin { Attributes::default() } else { Attributes::READ_ONLY })
    }

    /// Removes the placeholders, where no other jail protects itself with them; the last of them removes those. What the
    /// host put there meanwhile stays. Nothing may run in the jail any more. The shares are given up.
    pub fn remove_all(&mut self, root: BorrowedFd<'_>, workspace: BorrowedFd<'_>) {
        let free: Vec<Directory> =
            self.leases.iter().filter(|lease| lease.alone()).map(|lease| lease.directory).collect();
        // Our own mounts in front of them would make the removal fail with EBUSY. The workspace's go all at once, because
        // the kernel waits for every processor after each call.
        let mut detached = false;
        for placed in self.placed.drain(..).rev().filter(|placed| free.contains(&placed.directory)) {
            if placed.path.is_absolute() {
                let (base, path) = base_of(root, workspace, &placed.path);
                if let Ok(target) = open_target(base, path) {
                    detach(target.as_fd());
                }
            } else if !detached {
                detached = true;
                detach(workspace);
            }
            let lease = self.leases.iter().find(|lease| lease.directory == placed.directory);
            if let (Some(spares), Some(lease), None) = (&mut self.spares, lease, &placed.content)
                && spares.give(lease.place(), &placed.name).is_ok()
            {
                continue;
            }
            // What cannot be removed is in the journal: the supervisor tries once more, and so does the next run.
            let _ = placeholder::remove(placed.parent.as_fd(), &placed.name, placed.content.as_deref(), false);
        }
        self.leases.clear();
    }
}

/// Takes a mount and everything on it out of the namespace. Descriptors keep what they refer to.
fn detach(mount: BorrowedFd<'_>) {
    let through = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&mount));
    let _ = nix::mount::umount2(through.as_str(), nix::mount::MntFlags::MNT_DETACH);
}

/// Binds a path onto itself, with added attributes. A path that is gone needs no protection: it cannot be recreated
/// by accident, and what the workload creates there is reported after the run.
fn bind_onto_itself(base: BorrowedFd<'_>, path: &Path, attributes: Attributes) -> nix::Result<()> {
    on_target(base, path, |target| {
        let tree = mount::clone_tree(target, c"")?;
        mount::add_attributes(tree.as_fd(), attributes, true)?;
        mount::attach(tree.as_fd(), target, c"")
    })
    .map(drop)
}

fn c_name(name: &OsStr) -> nix::Result<CString> {
    CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL)
}
