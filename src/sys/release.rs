//! Leaves the last reference to a descriptor to the kernel's own threads.
//!
//! Closing an inotify instance waits for a grace period of the kernel (`fsnotify_destroy_group`), 10 to 30 ms: more than
//! everything else a short run takes. A descriptor that travels in a Unix socket which nobody holds any more is closed
//! by the collector of such sockets (unix(7), SCM_RIGHTS), since Linux 6.9 on a thread of its own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::fdpass;

/// Holds files until every descriptor of theirs is closed. Dropped after those, it has the kernel close the files.
#[derive(Debug)]
pub struct Holder {
    _receiver: OwnedFd,
    /// Last: only its end, of which nobody else has a reference, wakes the collector, which must find the other closed.
    _sender: OwnedFd,
}

/// Takes a further reference to each descriptor's file. Where it does not work, closing them is merely slow.
pub fn hold(descriptors: &[BorrowedFd<'_>]) -> nix::Result<Holder> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let (sender, receiver) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    // A socket that waits in its own queue keeps itself: closing both ends leaves it to the collector.
    for chunk in descriptors.chunks(fdpass::MAX_DESCRIPTORS - 1) {
        let mut cycle = vec![receiver.as_fd()];
        cycle.extend(chunk);
        fdpass::send(sender.as_fd(), b"-", &cycle)?;
    }
    Ok(Holder { _sender: sender, _receiver: receiver })
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, pipe};

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    /// Whether the last writer is gone, waited for this long.
    fn ended(reader: &PipeReader, wait: PollTimeout) -> bool {
        let mut polled = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, wait).unwrap();
        polled[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
    }

    #[test]
    fn a_held_file_is_closed_after_its_holder_and_not_before() {
        let (reader, writer) = pipe().unwrap();
        let holder = hold(&[writer.as_fd()]).unwrap();
        drop(writer);
        assert!(!ended(&reader, PollTimeout::ZERO));
        drop(holder);
        assert!(ended(&reader, PollTimeout::from(30_000_u16)));
    }
}
