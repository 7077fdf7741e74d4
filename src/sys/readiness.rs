//! Waiting for descriptors with tokio. Registering one is unsafe there, because a type could hand out a changing
//! number; an [`OwnedFd`] cannot.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches a descriptor for being readable. Needs a running tokio; the descriptor should be non-blocking.
pub fn readable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` owns its number alone and always returns the same one; the `AsyncFd` owns the `OwnedFd`.
    unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }.map_err(|error| error.into_parts().1)
}
