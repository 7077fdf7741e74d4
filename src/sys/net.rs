//! Listeners, and where a redirected connection was going.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, getsockname, getsockopt, listen, setsockopt,
    socket, sockopt,
};

/// Opens a socket of this kind, bound to an address; an IPv6 one takes IPv6 alone. Close-on-exec, non-blocking.
pub fn bound(kind: SockType, address: SocketAddr) -> nix::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    if family == AddressFamily::Inet6 {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}

/// Opens a TCP socket that listens on an address, with a queue of `backlog` connections.
pub fn listener(address: SocketAddr, backlog: i32) -> nix::Result<OwnedFd> {
    let socket = bound(SockType::Stream, address)?;
    listen(&socket, Backlog::new(backlog)?)?;
    Ok(socket)
}

/// Where the client of an accepted TCP connection was connecting to: before nftables changed it, else the socket's own
/// address, which without nftables is the same.
///
/// # Errors
/// The connection is no longer there (ENOTCONN, EINVAL), or `socket` is not of TCP.
pub fn original_destination(socket: impl AsFd) -> io::Result<SocketAddr> {
    let socket = socket.as_fd();
    let own = own_address(socket)?;
    let original = match own.ip() {
        IpAddr::V4(_) => getsockopt(&socket, sockopt::OriginalDst).map(|found| {
            let address = Ipv4Addr::from(u32::from_be(found.sin_addr.s_addr));
            SocketAddrV4::new(address, u16::from_be(found.sin_port)).into()
        }),
        IpAddr::V6(_) => getsockopt(&socket, sockopt::Ip6tOriginalDst).map(|found| {
            let address = Ipv6Addr::from(found.sin6_addr.s6_addr);
            SocketAddrV6::new(address, u16::from_be(found.sin6_port), 0, 0).into()
        }),
    };
    match original {
        // Nothing translates addresses in this namespace, or it did not touch this connection.
        Err(Errno::ENOENT | Errno::ENOPROTOOPT | Errno::EOPNOTSUPP) => Ok(own),
        other => Ok(other?),
    }
}

fn own_address(socket: impl AsFd) -> io::Result<SocketAddr> {
    let address: SockaddrStorage = getsockname(socket.as_fd().as_raw_fd())?;
    if let Some(address) = address.as_sockaddr_in() {
        return Ok(SocketAddrV4::from(*address).into());
    }
    match address.as_sockaddr_in6() {
        Some(address) => Ok(SocketAddrV6::new(address.ip(), address.port(), 0, 0).into()),
        None => Err(Errno::EAFNOSUPPORT.into()),
    }
}
