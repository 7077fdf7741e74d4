//! The prctl(2) operations that `nix` and `caps` do not offer.

#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;

/// Removes every capability the kernel knows from the bounding set, also those newer than this program.
///
/// # Errors
///
/// `EPERM` without CAP_SETPCAP.
pub fn drop_bounding_set() -> Result<(), Errno> {
    for capability in 0..64 {
        match prctl(libc::PR_CAPBSET_DROP, capability) {
            Ok(_) => {}
            // The number after the last capability.
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Whether the bounding set still has a capability.
///
/// # Errors
///
/// The kernel's error.
pub fn has_bounding_set() -> Result<bool, Errno> {
    for capability in 0..64 {
        match prctl(libc::PR_CAPBSET_READ, capability) {
            Ok(0) => {}
            Ok(_) => return Ok(true),
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(false)
}

/// Sets the secure bits (`SECBIT_*` in `linux/securebits.h`).
///
/// # Errors
///
/// `EPERM` without CAP_SETPCAP or where a bit is locked.
pub fn set_securebits(bits: libc::c_ulong) -> Result<(), Errno> {
    prctl(libc::PR_SET_SECUREBITS, bits).map(drop)
}

/// The secure bits of this thread.
///
/// # Errors
///
/// The kernel's error.
pub fn securebits() -> Result<libc::c_ulong, Errno> {
    prctl(libc::PR_GET_SECUREBITS, 0).map(|bits| libc::c_ulong::from(bits.unsigned_abs()))
}

/// The seccomp mode of this thread: 0 none, 2 filter.
///
/// # Errors
///
/// The kernel's error.
pub fn seccomp_mode() -> Result<i32, Errno> {
    prctl(libc::PR_GET_SECCOMP, 0)
}

fn prctl(option: libc::c_int, argument: libc::c_ulong) -> Result<i32, Errno> {
    const NONE: libc::c_ulong = 0;
    // SAFETY: the options used in this file take integers only and touch no memory of this process.
    Errno::result(unsafe { libc::prctl(option, argument, NONE, NONE, NONE) })
}
