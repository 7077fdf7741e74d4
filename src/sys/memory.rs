//! Memory that holds a secret: mlock(2) keeps it out of swap.

/// Keeps the pages of these bytes in memory. Best effort: an ordinary user may lock a few megabytes (RLIMIT_MEMLOCK), and
/// the kernel unlocks them with the process.
pub fn keep_out_of_swap(bytes: &[u8]) {
    // SAFETY: the range is a live slice of this process; locking changes nothing in it.
    let _ = unsafe { libc::mlock(bytes.as_ptr().cast(), bytes.len()) };
}
