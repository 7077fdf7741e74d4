//! clone3(2) with namespaces and a pidfd, falling back to clone(2) where a filter answers ENOSYS (Docker).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// The namespaces of the jail, as one flag set for clone3(2).
pub const ALL_NAMESPACES: u64 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u32 as u64;

/// Only a user namespace, for probes and for id maps.
pub const USER_NAMESPACE: u64 = libc::CLONE_NEWUSER as u32 as u64;

/// Which side of the clone returned.
#[derive(Debug)]
pub enum Cloned {
    /// In the new process.
    Child,
    /// In the caller, with the child's process id and a pidfd for it.
    Parent {
        /// The child's process id in the caller's namespace.
        pid: i32,
        /// A descriptor that refers to exactly this child.
        pidfd: OwnedFd,
    },
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks into new namespaces, optionally straight into a cgroup (v2).
///
/// The caller must be single-threaded: then the child has a consistent copy of everything and ordinary Rust is legal
/// in it. Returns EBUSY otherwise.
pub fn clone_into(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> nix::Result<Cloned> {
    if super::process::thread_count()? != 1 {
        return Err(Errno::EBUSY);
    }
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: namespaces | libc::CLONE_PIDFD as u64,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `args` is a live, correctly sized structure; no stack is given, so the child runs on a copy of this one
    // like after fork(2). The process is single-threaded (checked above), so no lock is held by another thread.
    let result = unsafe { libc::syscall(libc::SYS_clone3, std::ptr::from_mut(&mut args), size_of::<CloneArgs>()) };
    let result = match Errno::result(result) {
        Err(Errno::ENOSYS) if cgroup.is_none() => {
            let flags = namespaces as i64 | i64::from(libc::CLONE_PIDFD) | i64::from(libc::SIGCHLD);
            // SAFETY: as above; with CLONE_PIDFD the third argument of clone(2) is where the pidfd is stored.
            let old = unsafe {
                libc::syscall(
                    libc::SYS_clone,
                    flags,
                    std::ptr::null_mut::<libc::c_void>(),
                    std::ptr::from_mut(&mut pidfd),
                    0,
                    0,
                )
            };
            Errno::result(old)?
        }
        other => other?,
    };
    if result == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: the kernel stored a fresh descriptor for the child.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent { pid: result as i32, pidfd })
}
