//! Reading and writing descriptors that are shared with other processes: ready or not, blocking or not.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Waits until one of `events` (or an error) is there; false when the deadline came first.
pub(super) fn ready(fd: BorrowedFd<'_>, events: PollFlags, deadline: Option<Instant>) -> bool {
    loop {
        let timeout = deadline.map_or(PollTimeout::NONE, timeout_until);
        match poll(&mut [PollFd::new(fd, events)], timeout) {
            Err(Errno::EINTR) => {}
            Ok(0) => return false,
            _ => return true,
        }
    }
}

/// The time left, rounded up to a millisecond.
fn timeout_until(deadline: Instant) -> PollTimeout {
    let left = deadline.saturating_duration_since(Instant::now());
    PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
}

/// Writes everything, also to a descriptor that somebody else made non-blocking.
pub(super) fn write_all(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    write_by(fd, bytes, None)
}

/// Writes everything before the deadline, in pieces small enough that a slow terminal does not block for long.
pub(super) fn write_by(fd: BorrowedFd<'_>, bytes: &[u8], deadline: Option<Instant>) -> io::Result<()> {
    let piece = if deadline.is_some() { 256 } else { usize::MAX };
    let mut rest = bytes;
    while !rest.is_empty() {
        if deadline.is_some() && !ready(fd, PollFlags::POLLOUT, deadline) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match nix::unistd::write(fd, &rest[..rest.len().min(piece)]) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                ready(fd, PollFlags::POLLOUT, deadline);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
