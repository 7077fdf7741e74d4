//! What the supervisor and init say to each other: one typed message per packet, descriptors beside it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket, socketpair};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::lease::Directory;
use super::network::Redirection;
use super::shares::Kept;
use crate::sys::fdpass::{self, Wait};

/// From the supervisor to init.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToInit {
    /// The id maps are written: capabilities in the user namespace are usable.
    Mapped,
    /// Shares in directories that get placeholders; descriptors: two for each, its lock and the directory.
    Leases(Vec<Directory>),
    /// No more of these. What is known of the spares, when there are any; descriptor: their directory.
    Shared(Option<Kept>),
    /// What stands inside for a secret; before `Go`.
    Placeholder(Placeholder),
    /// The supervisor is ready: start the workload.
    Go,
    /// Deliver a signal to the foreground of the workload.
    Signal(i32),
    /// The workload was stopped and shall continue.
    Continue,
    /// Put a mask over a path that was replaced or appeared (relative to the workspace, as bytes).
    Mask {
        /// Relative to the workspace or absolute.
        path: Vec<u8>,
    },
    /// Protect a path again that the host replaced (relative to the workspace or absolute, as bytes).
    Guard {
        /// Where.
        path: Vec<u8>,
        /// It stays writable and only cannot be renamed or removed.
        pin: bool,
    },
    /// Start another command in the jail (`jail exec`); descriptors: stdin, stdout, stderr where not on a terminal.
    Spawn(Spawn),
    /// Kill everything and leave.
    End,
}

/// What stands inside for the value of a credential. It is no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placeholder {
    /// A variable of every command, with its value.
    pub variable: Option<(String, String)>,
    /// A file of the plan that is still empty, and what it holds.
    pub file: Option<(PathBuf, String)>,
}

/// Another command for a running jail.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spawn {
    /// Chosen by the supervisor; comes back in the answers.
    pub id: u32,
    /// The command and its arguments.
    pub command: Vec<Vec<u8>>,
    /// Where it starts, absolute.
    pub directory: Vec<u8>,
    /// Value of TERM for a terminal.
    pub term: Option<Vec<u8>>,
    /// Rows and columns of a terminal: it has its size before the command runs.
    pub size: Option<(u16, u16)>,
    /// For stdin, stdout and stderr in turn.
    pub stdio: [Stdio; 3],
}

/// What a standard descriptor of the workload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdio {
    /// The jail's own terminal.
    Terminal,
    /// One end of a pipe whose other end the supervisor relays.
    Pipe,
    /// The jail's own /dev/null.
    Null,
}

/// From init to the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromInit {
    /// Setting up failed; init is leaving.
    Failed(Failure),
    /// The jail stands; descriptors: those it counts, in this order.
    Ready(Ready),
    /// The command was executed.
    Started,
    /// The workload was stopped by this signal.
    Stopped(i32),
    /// The workload has ended and everything it left behind was killed.
    Ended(Ending),
    /// After that: init has removed what it put into the workspace and given up its shares. It only exits now.
    Cleared,
    /// A mask was put over a path or it was protected again, or why not.
    Masked {
        /// Relative to the workspace.
        path: Vec<u8>,
        /// Empty when it worked.
        error: Option<String>,
        /// What came of it.
        covered: Covered,
    },
    /// A further command runs; descriptor: its terminal's master, if it has one.
    Spawned(u32),
    /// A further command could not be started.
    SpawnFailed(u32, Failure),
    /// A further command has ended.
    SpawnEnded(u32, Ending),
}

/// What comes with the word that the jail stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// How connections come to the listeners.
    pub redirection: Redirection,
    /// Whether the first descriptor is the jail's mount namespace.
    pub mounts: bool,
    /// Whether the next descriptor is the terminal's master.
    pub terminal: bool,
    /// How many listen for TCP connections to anywhere.
    pub tcp: usize,
    /// How many are the resolver's, for UDP.
    pub dns_udp: usize,
    /// How many are the resolver's, for TCP.
    pub dns_tcp: usize,
    /// Whether the last one is for questions about sockets.
    pub diag: bool,
}

/// What came of hiding a path, or of protecting it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Covered {
    /// It was covered now.
    Now,
    /// It was covered before, itself or with a directory above it.
    Already,
    /// Nothing is there: it is gone, or a directory above it was moved in between.
    Missed,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// It returned this status.
    Exited(i32),
    /// It was killed by this signal.
    Signaled(i32),
}

/// Why something failed inside: which step, on what, with which errno.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{step}: {detail}")]
pub struct Failure {
    /// Which step of the launch.
    pub step: Step,
    /// Path or system call and the error's text.
    pub detail: String,
    /// The error number, 0 if there is none.
    pub errno: i32,
}

/// The steps of the launch that can fail inside; decides the hint and the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Step {
    /// Entering the cgroups.
    #[error("cannot move the jail into its cgroup")]
    Cgroup,
    /// Becoming the jail's user.
    #[error("cannot take the jail's identity")]
    Identity,
    /// Loopback and host name.
    #[error("cannot set up the network and host name")]
    Network,
    /// Making the new root.
    #[error("cannot build the root file system")]
    Root,
    /// Mounting /proc.
    #[error("cannot mount a fresh /proc")]
    Proc,
    /// Hiding files.
    #[error("cannot hide a file")]
    Mask,
    /// Writing placeholders.
    #[error("cannot put a credential's placeholder in place")]
    Placeholder,
    /// Protecting files.
    #[error("cannot protect a path")]
    Guard,
    /// Entering the new root.
    #[error("cannot enter the new root")]
    Pivot,
    /// The jail's own terminal.
    #[error("cannot open a terminal")]
    Terminal,
    /// Closing what the supervisor has open.
    #[error("cannot close the supervisor's descriptors")]
    Descriptors,
    /// Limits, capabilities, descriptors.
    #[error("cannot confine the command")]
    Confine,
    /// Landlock.
    #[error("cannot confine the command with Landlock")]
    Landlock,
    /// seccomp.
    #[error("cannot confine the command with seccomp")]
    Seccomp,
    /// Changing to the start directory.
    #[error("cannot change to the start directory")]
    Directory,
    /// Executing the command.
    #[error("cannot execute the command")]
    Exec,
}

impl Step {
    /// A failure of this step.
    pub fn failed(self, what: impl std::fmt::Display, errno: Errno) -> Failure {
        Failure { step: self, detail: format!("{what}: {}", errno.desc()), errno: errno as i32 }
    }
}

/// Asks init for sockets of the jail's network namespace, on a channel of their own.
#[derive(Debug, Serialize, Deserialize)]
struct WantSockets;

/// The answer: which of the two families' sockets come with it.
#[derive(Debug, Serialize, Deserialize)]
struct Sockets {
    four: bool,
    six: bool,
}

/// A TCP socket of the jail's network namespace that is not connected yet, and its namespace's loopback address.
#[derive(Debug)]
pub struct Connectable {
    /// Non-blocking.
    pub socket: OwnedFd,
    /// Of the socket's family.
    pub address: IpAddr,
}

impl Connectable {
    /// One socket for each family that the jail has. Waits for init, which answers at once unless it is gone.
    pub fn request(channel: &Channel) -> nix::Result<Vec<Self>> {
        channel.send(&WantSockets, &[])?;
        let (Sockets { four, six }, descriptors) = channel.receive::<Sockets>()?;
        let four = four.then_some(Ipv4Addr::LOCALHOST.into());
        let six = six.then_some(Ipv6Addr::LOCALHOST.into());
        let pairs = descriptors.into_iter().zip(four.into_iter().chain(six));
        Ok(pairs.map(|(socket, address)| Self { socket, address }).collect())
    }

    /// Init's side: reads one request and answers it, with no socket where none can be had.
    ///
    /// # Errors
    /// The other end is gone.
    pub fn answer(channel: &Channel) -> nix::Result<()> {
        channel.receive::<WantSockets>()?;
        let open = |family| socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None);
        let [four, six] = [open(AddressFamily::Inet).ok(), open(AddressFamily::Inet6).ok()];
        let descriptors: Vec<_> = four.iter().chain(&six).map(AsFd::as_fd).collect();
        channel.send(&Sockets { four: four.is_some(), six: six.is_some() }, &descriptors)
    }
}

/// One end of the channel. Packets keep their borders; an end that is gone reads as [`Errno::EPIPE`].
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends.
    pub fn pair() -> nix::Result<(Self, Self)> {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self(a), Self(b)))
    }

    /// Sends a message with descriptors.
    pub fn send<M: Serialize>(&self, message: &M, descriptors: &[BorrowedFd<'_>]) -> nix::Result<()> {
        let bytes = serde_json::to_vec(message).map_err(|_| Errno::EINVAL)?;
        fdpass::send(self.0.as_fd(), &bytes, descriptors)
    }

    /// Waits for a message.
    pub fn receive<M: DeserializeOwned>(&self) -> nix::Result<(M, Vec<OwnedFd>)> {
        self.take(Wait::Yes)
    }

    /// Takes a message that is there already; EAGAIN when there is none.
    pub fn receive_now<M: DeserializeOwned>(&self) -> nix::Result<(M, Vec<OwnedFd>)> {
        self.take(Wait::No)
    }

    fn take<M: DeserializeOwned>(&self, wait: Wait) -> nix::Result<(M, Vec<OwnedFd>)> {
        match fdpass::receive(self.0.as_fd(), wait) {
            // The other end closed with messages unread. The kernel says so once, before what waits here: the ending.
            Err(Errno::ECONNRESET) => Self::decode(fdpass::receive(self.0.as_fd(), wait)?),
            taken => Self::decode(taken?),
        }
    }

    fn decode<M: DeserializeOwned>((bytes, descriptors): (Vec<u8>, Vec<OwnedFd>)) -> nix::Result<(M, Vec<OwnedFd>)> {
        if bytes.is_empty() {
            return Err(Errno::EPIPE);
        }
        let message = serde_json::from_slice(&bytes).map_err(|_| Errno::EBADMSG)?;
        Ok((message, descriptors))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::os::fd::AsRawFd for Channel {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}
