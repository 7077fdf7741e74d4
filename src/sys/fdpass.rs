//! Messages with descriptors over a Unix socket (SCM_RIGHTS, unix(7)).

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recv, recvmsg, sendmsg};

/// Most descriptors in one message: the kernel's own limit (`SCM_MAX_FD`).
pub const MAX_DESCRIPTORS: usize = 253;
/// Longest message in bytes.
pub const MAX_MESSAGE: usize = 128 * 1024;

/// Sends one message with its descriptors. A peer that is gone is EPIPE, never a signal; what the receiver would cut is
/// EMSGSIZE here already.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> nix::Result<()> {
    if bytes.len() > MAX_MESSAGE {
        return Err(Errno::EMSGSIZE);
    }
    let raw: Vec<i32> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &control[..0] } else { &control[..] };
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(sent) if sent == bytes.len() => return Ok(()),
            Ok(_) => return Err(Errno::EMSGSIZE),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Whether a call waits for a message or answers EAGAIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Wait.
    Yes,
    /// Do not.
    No,
}

/// Receives one message; an empty one means that the peer is gone. Cut messages are EMSGSIZE.
pub fn receive(socket: BorrowedFd<'_>, wait: Wait) -> nix::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let flags = match wait {
        Wait::Yes => MsgFlags::MSG_CMSG_CLOEXEC,
        Wait::No => MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT,
    };
    // Asked for first: a buffer for the longest message would cost more to clear than everything else here.
    let peek = flags | MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC;
    let expected = loop {
        match recv(socket.as_raw_fd(), &mut [], peek) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    if expected > MAX_MESSAGE {
        return Err(Errno::EMSGSIZE);
    }
    let mut bytes = vec![0; expected.max(1)];
    let mut control = nix::cmsg_space!([i32; MAX_DESCRIPTORS]);
    let (length, descriptors, cut) = loop {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let message = match recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        let mut descriptors = Vec::new();
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = part {
                for fd in raw {
                    // SAFETY: the kernel just installed this descriptor for us and nobody else knows its number.
                    descriptors.push(unsafe { OwnedFd::from_raw_fd(fd) });
                }
            }
        }
        let cut = message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC);
        break (message.bytes, descriptors, cut);
    };
    if cut {
        return Err(Errno::EMSGSIZE);
    }
    bytes.truncate(length);
    Ok((bytes, descriptors))
}

/// Takes ownership of a descriptor that a system call just returned as a number.
pub fn adopt(fd: i32) -> OwnedFd {
    // SAFETY: called with the fresh result of accept4(2) only; nobody else knows its number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
