//! The kernel's keyrings: keyctl(2). Looking for a key and reading it, nothing else.

use std::ffi::CStr;

use nix::errno::Errno;

/// Keyrings that are searched, in this order: what the session has, then what the user has (keyrings(7)).
const KEYRINGS: [libc::c_long; 3] = [
    -3, // KEY_SPEC_SESSION_KEYRING
    -4, // KEY_SPEC_USER_KEYRING
    -5, // KEY_SPEC_USER_SESSION_KEYRING
];
const SEARCH: libc::c_long = 10; // KEYCTL_SEARCH
const READ: libc::c_long = 11; // KEYCTL_READ

/// Reads the payload of the key of type `user` with this description into `buffer`; its length, which may be more than
/// the buffer takes: then nothing of use was read.
///
/// # Errors
/// ENOKEY: there is none. EACCES: it may not be read. ENOSYS: the kernel has no keyrings, or a filter hides them.
pub fn read_user_key(description: &CStr, buffer: &mut [u8]) -> nix::Result<usize> {
    let mut last = Errno::ENOKEY;
    for keyring in KEYRINGS {
        // SAFETY: both strings are valid and end in NUL; the kernel only reads them.
        let found = unsafe {
            libc::syscall(libc::SYS_keyctl, SEARCH, keyring, c"user".as_ptr(), description.as_ptr(), 0 as libc::c_long)
        };
        let key = match Errno::result(found) {
            Ok(key) => key,
            Err(errno) => {
                // A keyring that does not exist says no more than one that has no such key.
                if errno != Errno::ENOKEY {
                    last = errno;
                }
                continue;
            }
        };
        // SAFETY: the kernel writes at most as many bytes as the buffer has.
        let read =
            unsafe { libc::syscall(libc::SYS_keyctl, READ, key, buffer.as_mut_ptr(), buffer.len(), 0 as libc::c_long) };
        return Errno::result(read).map(|length| usize::try_from(length).unwrap_or(0));
    }
    Err(last)
}
