//! The descriptor-based mount interface: open_tree(2), move_mount(2), mount_setattr(2), fsopen(2), openat2(2).
//!
//! Trees are cloned, get their flags while nobody can see them, and only then are attached, so there is no moment
//! in which a path is visible with weaker flags than planned (Linux 5.12 and later).

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// Makes a clone of the whole mount tree below the directory, see open_tree(2).
pub const AT_RECURSIVE: u32 = 0x8000;

/// Mount attributes that are added to a tree (linux/mount.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(u64);

impl Attributes {
    /// No writes through this mount.
    pub const READ_ONLY: Self = Self(0x1);
    /// Set-uid and set-gid bits and file capabilities have no effect.
    pub const NO_SUID: Self = Self(0x2);
    /// Device nodes cannot be opened.
    pub const NO_DEV: Self = Self(0x4);
    /// Nothing can be executed.
    pub const NO_EXEC: Self = Self(0x8);

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
const OPEN_TREE_CLONE: u32 = 1;
const OPEN_TREE_CLOEXEC: u32 = libc::O_CLOEXEC as u32;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
const FSOPEN_CLOEXEC: u32 = 1;
const FSMOUNT_CLOEXEC: u32 = 1;
const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;

fn owned(result: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = Errno::result(result)?;
    // SAFETY: the kernel just returned this descriptor to us and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Clones the mount tree at `dir`/`path` into a detached tree that only the returned descriptor refers to.
///
/// An empty `path` clones what `dir` itself refers to. The clone is recursive: submounts come along, because a less
/// privileged mount namespace may not separate them (EINVAL otherwise).
pub fn clone_tree(dir: BorrowedFd<'_>, path: &CStr) -> nix::Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE
        | OPEN_TREE_CLOEXEC
        | AT_RECURSIVE
        | libc::AT_SYMLINK_NOFOLLOW as u32
        | if path.is_empty() { libc::AT_EMPTY_PATH as u32 } else { 0 };
    // SAFETY: `path` is a valid C string for the duration of the call; the call writes no memory of ours.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) })
}

/// Adds attributes to a mount, or to every mount of its tree, and makes it private.
pub fn add_attributes(tree: BorrowedFd<'_>, attributes: Attributes, recursive: bool) -> nix::Result<()> {
    let propagation = u64::from(libc::MS_PRIVATE as u32);
    set_attributes(tree, &MountAttr { attr_set: attributes.0, attr_clr: 0, propagation, userns_fd: 0 }, recursive)
}

/// Translates the owners of a detached tree by the id maps of a user namespace (idmapped mount, real root only).
pub fn idmap(tree: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>) -> nix::Result<()> {
    set_attributes(
        tree,
        &MountAttr {
            attr_set: MOUNT_ATTR_IDMAP,
            attr_clr: 0,
            propagation: 0,
            userns_fd: user_namespace.as_raw_fd() as u64,
        },
        true,
    )
}

fn set_attributes(tree: BorrowedFd<'_>, attr: &MountAttr, recursive: bool) -> nix::Result<()> {
    let flags = libc::AT_EMPTY_PATH as u32 | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the empty path is a static C string and `attr` points to a live, correctly sized structure.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    Errno::result(result).map(drop)
}

/// Attaches a detached tree at `dir`/`path`; an empty path means `dir` itself, which may be a file.
pub fn attach(tree: BorrowedFd<'_>, dir: BorrowedFd<'_>, path: &CStr) -> nix::Result<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | if path.is_empty() { MOVE_MOUNT_T_EMPTY_PATH } else { 0 };
    // SAFETY: both paths are valid C strings for the duration of the call; the call writes no memory of ours.
    let result = unsafe {
        libc::syscall(libc::SYS_move_mount, tree.as_raw_fd(), c"".as_ptr(), dir.as_raw_fd(), path.as_ptr(), flags)
    };
    Errno::result(result).map(drop)
}

/// Makes a new instance of a file system as a detached mount.
///
/// `options` are key and value pairs of the file system, such as `("mode", "755")`; an empty value sets a flag.
pub fn new_filesystem(kind: &CStr, options: &[(&CStr, &CStr)], attributes: Attributes) -> nix::Result<OwnedFd> {
    // SAFETY: `kind` is a valid C string for the duration of the call.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })?;
    let configure = |command: u32, key: *const libc::c_char, value: *const libc::c_char| {
        // SAFETY: `key` and `value` are null or valid C strings for the duration of the call.
        let result = unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key, value, 0) };
        Errno::result(result).map(drop)
    };
    for (key, value) in options {
        if value.is_empty() {
            configure(FSCONFIG_SET_FLAG, key.as_ptr(), std::ptr::null())?;
        } else {
            configure(FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr())?;
        }
    }
    configure(FSCONFIG_CMD_CREATE, std::ptr::null(), std::ptr::null())?;
    // SAFETY: plain integers; the descriptor is ours.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attributes.0) })
}

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

const RESOLVE_NO_SYMLINKS: u64 = 0x04;
const RESOLVE_BENEATH: u64 = 0x08;

/// Opens `path` below `dir`, staying below it and following no symbolic link at all. `flags` are open(2) flags; O_CLOEXEC
/// is added.
pub fn open_beneath(dir: BorrowedFd<'_>, path: &CStr, flags: i32, mode: u32) -> nix::Result<OwnedFd> {
    let how = OpenHow {
        flags: (flags | libc::O_CLOEXEC) as u64,
        mode: u64::from(mode),
        resolve: RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
    };
    loop {
        // SAFETY: `path` is a valid C string and `how` a live, correctly sized structure.
        let result = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir.as_raw_fd(),
                path.as_ptr(),
                std::ptr::from_ref(&how),
                size_of::<OpenHow>(),
            )
        };
        match owned(result) {
            // The kernel could not rule out a racing rename; openat2(2) says to try again.
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            other => return other,
        }
    }
}
