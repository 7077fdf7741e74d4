//! Accepts connections from the jail.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use super::bounds;
use super::client::Client;
use super::dns::{PORT, serve as dns};
use super::front::speak::Tunnel;
use super::front::{explicit, transparent};
use super::shared::Shared;
use crate::error::Error;
use crate::sys::net;

/// Sockets that init made in the jail's network namespace.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Listeners for connections.
    pub tcp: Vec<OwnedFd>,
    /// Sockets for questions by UDP.
    pub dns_udp: Vec<OwnedFd>,
    /// Listeners for questions by TCP.
    pub dns_tcp: Vec<OwnedFd>,
    /// For questions to the kernel about sockets.
    pub diag: Option<OwnedFd>,
}

/// Starts to serve on the sockets. Needs a running tokio; returns as soon as connections are accepted.
pub fn start(shared: &Arc<Shared>, sockets: Sockets) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(shared.limits.connections));
    if let (Some(diag), Some(own)) = (sockets.diag, shared.own.first()) {
        shared.callers.start(diag, *own, (own.ip(), PORT).into());
    }
    for socket in sockets.tcp {
        shared.spawn(accept(Arc::clone(shared), listener(socket)?, Arc::clone(&room)));
    }
    for socket in sockets.dns_udp {
        let socket = std::net::UdpSocket::from(socket);
        socket.set_nonblocking(true)?;
        shared.spawn(dns::datagrams(Arc::clone(shared), UdpSocket::from_std(socket)?));
    }
    for socket in sockets.dns_tcp {
        shared.spawn(dns::streams(Arc::clone(shared), listener(socket)?));
    }
    Ok(())
}

fn listener(socket: OwnedFd) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Accepts for ever. At the bound, and without descriptors, it pauses: the kernel keeps the next ones waiting.
async fn accept(shared: Arc<Shared>, listener: TcpListener, room: Arc<Semaphore>) {
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => shared.spawn(connection(Arc::clone(&shared), (stream, from), place)),
            // The program has left, or there are no descriptors.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) if is_lost(&error) => return shared.ledger.fail(lost(&error)),
            Err(_) => sleep(bounds::ACCEPT_PAUSE).await,
        }
    }
}

/// Whether nobody will ever be accepted on the listener again, so that waiting is of no use.
pub fn is_lost(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EBADF | libc::ENOTSOCK))
}

/// What is said of it.
pub fn lost(error: &io::Error) -> Error {
    Error::setup(format!("the policy proxy cannot accept connections: {error}; everything in the jail was killed"))
}

async fn connection(shared: Arc<Shared>, (stream, from): (TcpStream, SocketAddr), place: OwnedSemaphorePermit) {
    // Without one it has left.
    let Ok(original) = net::original_destination(&stream, &shared.own) else { return };
    let held = shared.hold(original.ip());
    // What comes before the carrying is many times larger than what the carrying needs, and is gone by then.
    let caller = shared.callers.of_connection(from, original);
    let tunnel = Box::pin(front(&shared, Client::new(stream, caller), original)).await;
    if let Some(tunnel) = &tunnel {
        tunnel.carry(&shared).await;
    }
    drop((held, place));
}

async fn front(shared: &Shared, client: Client, original: SocketAddr) -> Option<Tunnel> {
    if shared.own.contains(&original) {
        explicit::serve(shared, client, original).await
    } else {
        transparent::serve(shared, client, original).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_waits_is_small() {
        fn size<F>(_: impl Fn(Arc<Shared>, (TcpStream, SocketAddr), OwnedSemaphorePermit) -> F) -> usize {
            size_of::<F>()
        }
        // Ten thousand of them, with what tokio keeps of their sockets, fit into a few tens of megabytes.
        assert!(size(connection) <= 1400, "{}", size(connection));
    }
}
