//! Opens connections out: each with a permit of the gate, to an address that the gate has seen.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::bounds;
use super::gate::{Clearance, Permit, Refusal, Slot, Wanted};
use super::ledger::{Ledger, Opened};
use super::parent::{Parent, Use};
use super::resolve::Resolver;
use super::shared::Shared;
use crate::policy::host::Host;
use crate::policy::reason::Reason;

/// A connection out that stands. Nothing can be said on it yet.
#[derive(Debug)]
pub struct Held {
    stream: TcpStream,
    address: SocketAddr,
    early: Vec<u8>,
    parent: Option<Parent>,
    permit: Permit,
    slot: Slot,
}

/// A connection out on which a program may say what was cleared.
#[derive(Debug)]
pub struct Upstream {
    stream: TcpStream,
    early: Vec<u8>,
    parent: Option<Parent>,
    permit: Permit,
    opened: Opened,
    _slot: Slot,
}

/// A connection out between two requests: the next one has to be cleared again.
#[derive(Debug)]
pub struct Kept(Upstream);

/// Opens a connection to a host that the gate let through.
pub async fn dial(shared: &Shared, permit: Permit, purpose: Use) -> Result<Held, Refusal> {
    let Shared { gate, resolver, limits, parents, .. } = shared;
    let slot = gate.enter(&permit)?;
    let Wanted { host, port, .. } = permit.wanted();
    let parent = parents.of(host, *port, purpose).filter(|_| permit.pins().is_empty());
    let dialling = async {
        let Some(parent) = parent else {
            let addresses = resolver.addresses(gate, &permit).await?;
            let addresses: Vec<_> = addresses.into_iter().map(|address| SocketAddr::new(address, *port)).collect();
            let (stream, address) = connect(&addresses).await.map_err(|error| failed(&permit, &error))?;
            return Ok((stream, address, Vec::new(), None));
        };
        let (stream, address) = to_parent(resolver, parent, &permit).await?;
        // Requests of plain HTTP are sent to it as they are.
        if purpose == Use::Plain {
            return Ok((stream, address, Vec::new(), Some(parent.clone())));
        }
        let connected = parent.connect(&stream, host, *port, limits.connect_time).await;
        let unreachable = |why| Refusal::new(permit.wanted(), Reason::Unreachable).detail(why);
        Ok((stream, address, connected.map_err(unreachable)?, None))
    };
    let dialled = timeout(limits.connect_time, dialling).await;
    let late = |_| Err(Refusal::new(permit.wanted(), Reason::TimedOut));
    let (stream, address, early, parent) = dialled.unwrap_or_else(late)?;
    Ok(Held { stream, address, early, parent, permit, slot })
}

/// Connects to the host's own proxy, which is the user's choice and may be anywhere.
async fn to_parent(resolver: &Resolver, parent: &Parent, permit: &Permit) -> Result<(TcpStream, SocketAddr), Refusal> {
    let unreachable = |why: String| {
        Refusal::new(permit.wanted(), Reason::Unreachable).detail(format!("the host's proxy {parent:?}: {why}"))
    };
    let (host, port) = parent.address();
    let addresses = match host {
        Host::Address(address) => vec![*address],
        Host::Name(name) => resolver
            .look_up(name)
            .await
            .map_err(|error| unreachable(error.why.unwrap_or_else(|| error.reason.sentence().to_owned())))?,
    };
    let addresses: Vec<_> =
        addresses.into_iter().take(bounds::ADDRESSES).map(|address| SocketAddr::new(address, port)).collect();
    connect(&addresses).await.map_err(|error| unreachable(error.to_string()))
}

fn failed(permit: &Permit, error: &io::Error) -> Refusal {
    let reason = match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Reason::LimitReached,
        Some(libc::ETIMEDOUT) => Reason::TimedOut,
        _ => Reason::Unreachable,
    };
    Refusal::new(permit.wanted(), reason).detail(error.to_string())
}

/// Connects to the first address that answers; the next one gets its chance when the last is refused, or is slow.
async fn connect(addresses: &[SocketAddr]) -> io::Result<(TcpStream, SocketAddr)> {
    if let [address] = addresses {
        return connect_to(*address).await;
    }
    let mut waiting = addresses.iter().copied();
    let mut trying = JoinSet::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(address) = waiting.next() {
            trying.spawn(connect_to(address));
        }
        let more = waiting.len() > 0;
        tokio::select! {
            tried = trying.join_next() => match tried {
                Some(Ok(Ok(connected))) => return Ok(connected),
                Some(Ok(Err(error))) => last = error,
                Some(Err(error)) => last = io::Error::other(error),
                None => return Err(last),
            },
            () = sleep(bounds::NEXT_ADDRESS), if more => {}
        }
    }
}

async fn connect_to(address: SocketAddr) -> io::Result<(TcpStream, SocketAddr)> {
    let stream = TcpStream::connect(address).await?;
    // Without it small messages would wait for each other.
    stream.set_nodelay(true)?;
    Ok((stream, address))
}

impl Held {
    /// The permit it was opened with.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// Lets a program speak, and records it before it does.
    pub fn open(self, clearance: &Clearance, ledger: &Arc<Ledger>) -> Result<Upstream, Refusal> {
        let Self { stream, address, early, parent, permit, slot } = self;
        if !clearance.fits(&permit) {
            return Err(Refusal::new(permit.wanted(), Reason::HostMismatch));
        }
        let Some(opened) = ledger.open(permit.wanted(), address, clearance.rule()) else {
            return Err(Refusal::new(permit.wanted(), Reason::Unreachable).detail("it cannot be recorded"));
        };
        Ok(Upstream { stream, early, parent, permit, opened, _slot: slot })
    }
}

impl Upstream {
    /// The connection.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// What the host said before it was spoken to; once.
    pub fn take_early(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.early)
    }

    /// The host's proxy that gets the requests.
    pub fn parent(&self) -> Option<&Parent> {
        self.parent.as_ref()
    }

    /// What passes over it is counted here.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Keeps it for another request.
    pub fn keep(self) -> Kept {
        Kept(self)
    }
}

impl Kept {
    /// The permit it was opened with.
    pub fn permit(&self) -> &Permit {
        &self.0.permit
    }

    /// Lets a program say something else on it; `None` when that is for another host.
    pub fn again(self, clearance: &Clearance) -> Option<Upstream> {
        clearance.fits(&self.0.permit).then_some(self.0)
    }

    /// Whether the host has closed it, or said something that nobody asked for: then it must not be used again.
    pub fn is_stale(&self) -> bool {
        let mut byte = [0];
        let peeked = nix::sys::socket::recv(
            std::os::fd::AsRawFd::as_raw_fd(&self.0.stream),
            &mut byte,
            nix::sys::socket::MsgFlags::MSG_PEEK | nix::sys::socket::MsgFlags::MSG_DONTWAIT,
        );
        !matches!(peeked, Err(nix::errno::Errno::EAGAIN))
    }
}
