//! The control socket of a session: how `jail exec` and `jail kill` reach a running supervisor.
//!
//! It lies in a directory that only this user can enter and that does not exist inside the jail.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, connect, socket};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::launch::message::{Ending, Failure, Stdio};
use crate::sys::fdpass::{self, Wait};

/// What a client asks for.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Run another command; for each standard descriptor its kind, and the jail's ends of the pipes beside it.
    Exec {
        /// The command and its arguments.
        command: Vec<Vec<u8>>,
        /// Where it starts; the workload's start directory when empty.
        directory: Vec<u8>,
        /// TERM of the client's terminal.
        term: Option<Vec<u8>>,
        /// Its rows and columns.
        size: Option<(u16, u16)>,
        /// For stdin, stdout and stderr in turn.
        stdio: [Stdio; 3],
    },
    /// End the run.
    Kill,
}

/// What the supervisor answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// The command runs; its terminal's master is beside, if it has one.
    Running,
    /// It could not be started.
    Failed(Failure),
    /// It has ended.
    Ended(Ending),
    /// The run is being ended.
    Killing,
}

/// Binds the control socket of a session.
pub fn bind(path: &Path) -> Result<OwnedFd> {
    let failed = |errno: nix::errno::Errno| {
        Error::setup(format!("cannot bind {}: {}", path.display(), errno.desc()))
            .hint("set XDG_RUNTIME_DIR to a shorter path if this one is longer than 90 bytes")
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).map_err(failed)?;
    let address = UnixAddr::new(path).map_err(failed)?;
    nix::sys::socket::bind(listener.as_raw_fd(), &address).map_err(failed)?;
    nix::sys::socket::listen(&listener, Backlog::new(16).map_err(failed)?).map_err(failed)?;
    Ok(listener)
}

/// Accepts a waiting client; `None` when there is none.
pub fn accept(listener: &OwnedFd) -> Option<OwnedFd> {
    let fd = nix::sys::socket::accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK).ok()?;
    Some(crate::sys::fdpass::adopt(fd))
}

/// Reads a client's request, which must be there; `None` when it is malformed or the client has left.
pub fn request(client: &OwnedFd) -> Option<(Request, Vec<OwnedFd>)> {
    let (bytes, descriptors) = fdpass::receive(client.as_fd(), Wait::No).ok()?;
    Some((serde_json::from_slice(&bytes).ok()?, descriptors))
}

/// The client's end of a connection.
#[derive(Debug)]
pub struct Client(OwnedFd);

impl Client {
    /// Connects to a session.
    pub fn connect(path: &Path) -> Result<Self> {
        let failed = |errno: nix::errno::Errno| {
            Error::setup(format!("cannot reach the session at {}: {}", path.display(), errno.desc()))
                .hint("see `jail ps` for running sessions")
        };
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).map_err(failed)?;
        let address = UnixAddr::new(path).map_err(failed)?;
        connect(socket.as_raw_fd(), &address).map_err(failed)?;
        Ok(Self(socket))
    }

    /// Sends a request with the descriptors the jail shall get.
    pub fn send(&self, request: &Request, descriptors: &[std::os::fd::BorrowedFd<'_>]) -> Result<()> {
        send(self.0.as_fd(), request, descriptors)
    }

    /// Waits for an answer.
    pub fn receive(&self) -> Result<(Answer, Vec<OwnedFd>)> {
        let (bytes, descriptors) = fdpass::receive(self.0.as_fd(), Wait::Yes)
            .map_err(|errno| Error::setup(format!("lost the session: {}", errno.desc())))?;
        if bytes.is_empty() {
            return Err(Error::setup("the session has ended"));
        }
        let answer = serde_json::from_slice(&bytes)
            .map_err(|error| Error::setup(format!("the session answered nonsense: {error}")))?;
        Ok((answer, descriptors))
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends one message on a control connection.
pub fn send<M: Serialize>(
    socket: std::os::fd::BorrowedFd<'_>,
    message: &M,
    descriptors: &[std::os::fd::BorrowedFd<'_>],
) -> Result<()> {
    let bytes = serde_json::to_vec(message).map_err(|error| Error::setup(format!("cannot encode: {error}")))?;
    fdpass::send(socket, &bytes, descriptors)
        .map_err(|errno| Error::setup(format!("lost the session: {}", errno.desc())))
}
