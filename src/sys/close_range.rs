//! close_range(2): closing descriptors without knowing them.

#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;

/// Closes every descriptor from `first` to `last`, both included; those that are not open are skipped.
///
/// Whatever owned one of them must not be used afterwards: this is for a process about to execute another program.
///
/// # Errors
///
/// The kernel's error; `ENOSYS` before Linux 5.9.
pub fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: the call takes integers only and touches no memory of this process.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    Errno::result(result).map(drop)
}
