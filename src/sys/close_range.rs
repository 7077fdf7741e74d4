//! close_range(2): closing descriptors without knowing them.

#![allow(unsafe_code)]

use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::libc;

/// Closes every descriptor above 2 except `keep`.
///
/// Whatever owned one of them must not be used afterwards: this is for a process about to execute another program, and for
/// init right after the clone.
///
/// # Errors
///
/// The kernel's error; `ENOSYS` before Linux 5.9.
pub fn close_all_but(keep: &[RawFd]) -> Result<(), Errno> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).filter(|fd| *fd > 2).collect();
    keep.sort_unstable();
    keep.dedup();
    let mut first = 3;
    for fd in keep {
        if first < fd {
            close_range(first, fd - 1)?;
        }
        first = fd + 1;
    }
    close_range(first, u32::MAX)
}

/// Has every descriptor from `first` on closed when another program is executed.
///
/// # Errors
///
/// The kernel's error; `EINVAL` before Linux 5.11.
pub fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    // SAFETY: the call takes integers only and touches no memory of this process.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Errno::result(result).map(drop)
}

/// Closes every descriptor from `first` to `last`, both included; those that are not open are skipped.
fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: the call takes integers only and touches no memory of this process.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    Errno::result(result).map(drop)
}
