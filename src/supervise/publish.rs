//! Servers inside that the host may reach (`[[publish]]`): listens on the host's loopback, and connects each client to
//! the same port of the jail's loopback.
//!
//! The sockets toward the jail come from init, which makes them in its network namespace: nothing else reaches it. The
//! direction is the clients' alone, so nothing inside reaches anything of the host by it. It runs on a thread of its
//! own: no client can hold up what hides secrets.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Notify, Semaphore};

use crate::error::{Error, Result};
use crate::launch::message::{Channel, Connectable};
use crate::plan::network::NetworkPlan;

/// Clients at once; further ones wait to be accepted.
const CLIENTS: usize = 512;
/// Pause after accepting failed.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes on their way in each direction of a connection.
const BUFFER: usize = 16 * 1024;

/// Listeners on the host, each with the port inside.
#[derive(Debug, Default)]
pub struct Published(Vec<(TcpListener, u16)>);

impl Published {
    /// Listens on 127.0.0.1 and, where the host has it, on ::1.
    ///
    /// # Errors
    /// A port is taken, or may not be listened on.
    pub fn listen(plan: &NetworkPlan) -> Result<Self> {
        let mut listeners = Vec::new();
        for publish in &plan.publish {
            for address in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
                let address = SocketAddr::new(address, publish.host_port);
                match TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
                {
                    Ok(listener) => listeners.push((listener, publish.port)),
                    Err(error) if address.is_ipv6() && without_ipv6(&error) => {}
                    Err(error) => {
                        return Err(Error::setup(format!("cannot publish on {address}: {error}")).hint(format!(
                            "choose another port of the host: --publish HOST_PORT:{}, or `host_port` in [[publish]]",
                            publish.port
                        )));
                    }
                }
            }
        }
        Ok(Self(listeners))
    }

    /// Both ends of the channel on which init is asked for sockets, ours first; `None` when nothing is published.
    pub fn channel(&self) -> Result<Option<(Channel, Channel)>> {
        let pair = (!self.0.is_empty()).then(Channel::pair).transpose();
        pair.map_err(|errno| Error::setup(format!("cannot open a socket: {}", errno.desc())))
    }

    /// Serves clients until the result is dropped; `sockets` is the channel on which init makes sockets.
    pub fn serve(self, sockets: Channel) -> Result<Serving> {
        let failed = |error: io::Error| Error::setup(format!("cannot serve published ports: {error}"));
        let stop = Arc::new(Notify::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("publish".to_owned());
        thread.spawn(move || runtime.block_on(self.run(sockets, &stopped))).map_err(failed)?;
        Ok(Serving(stop))
    }

    async fn run(self, sockets: Channel, stop: &Notify) {
        let sockets = Arc::new(sockets);
        let clients = Arc::new(Semaphore::new(CLIENTS));
        for (listener, port) in self.0 {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { continue };
            let (sockets, clients) = (Arc::clone(&sockets), Arc::clone(&clients));
            tokio::spawn(async move {
                while let Ok(place) = Arc::clone(&clients).acquire_owned().await {
                    match listener.accept().await {
                        Ok((client, _)) => {
                            let sockets = Arc::clone(&sockets);
                            tokio::spawn(async move {
                                if let Err(error) = pass(client, &sockets, port).await {
                                    tracing::debug!(port, %error, "published connection");
                                }
                                drop(place);
                            });
                        }
                        // Out of descriptors: some are closed when a client leaves.
                        Err(_) => tokio::time::sleep(PAUSE).await,
                    }
                }
            });
        }
        stop.notified().await;
    }
}

/// Clients being served on a thread; dropped, all connections are closed.
#[derive(Debug)]
pub struct Serving(Arc<Notify>);

impl Drop for Serving {
    fn drop(&mut self) {
        // Not waited for: the thread may be waiting for an init that nobody knows about.
        self.0.notify_one();
    }
}

fn without_ipv6(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT)
}

/// Connects a client to a port of the jail's loopback and carries bytes both ways until both have ended.
async fn pass(mut client: TcpStream, sockets: &Channel, port: u16) -> io::Result<()> {
    let mut server = connect(sockets, port).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await.map(drop)
}

/// A server may listen on either family's loopback: `localhost` is both.
async fn connect(sockets: &Channel, port: u16) -> io::Result<TcpStream> {
    let mut refused = io::Error::from(ErrorKind::ConnectionRefused);
    for connectable in Connectable::request(sockets)? {
        let Connectable { socket, address } = connectable;
        let socket = TcpSocket::from_std_stream(socket.into());
        match socket.connect(SocketAddr::new(address, port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}
