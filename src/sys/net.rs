//! Listeners, and where a redirected connection or datagram was going.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrStorage, bind,
    getsockname, getsockopt, listen, recvmsg, sendmsg, setsockopt, socket, sockopt,
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

/// Opens a TCP socket that listens on an address, with a queue of `backlog` connections. What is accepted on it does not
/// hold small messages back (`TCP_NODELAY`, tcp(7)), which it inherits.
pub fn listener(address: SocketAddr, backlog: i32) -> nix::Result<OwnedFd> {
    let socket = bound(SockType::Stream, address)?;
    setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
    listen(&socket, Backlog::new(backlog)?)?;
    Ok(socket)
}

/// Lets a socket take what was for other addresses, where nftables hands it over (`IP_TRANSPARENT`, ip(7)). What is
/// accepted on it is so too. Needs CAP_NET_ADMIN in the namespace.
pub fn make_transparent(socket: &impl AsFd) -> nix::Result<()> {
    // A socket of IPv6 takes the option of IPv4 for both.
    setsockopt(socket, sockopt::IpTransparent, &true)
}

/// Lets a UDP socket tell where each datagram was for, see [`receive`].
pub fn tell_destinations(socket: &impl AsFd, six: bool) -> nix::Result<()> {
    match six {
        false => setsockopt(socket, sockopt::Ipv4PacketInfo, &true),
        true => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true),
    }
}

/// A datagram that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// How many bytes it has, without those that the buffer had no room for.
    pub length: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// The address it was for.
    pub to: IpAddr,
}

/// Receives a datagram on a socket that [tells destinations](tell_destinations).
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut control = nix::cmsg_space!(libc::in6_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let socket = socket.as_fd().as_raw_fd();
    let message = recvmsg::<SockaddrStorage>(socket, &mut parts, Some(&mut control), MsgFlags::empty())?;
    let to = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(IpAddr::from(u32::from_be(info.ipi_addr.s_addr).to_be_bytes()))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::from(info.ipi6_addr.s6_addr)),
        _ => None,
    });
    let from = message.address.as_ref().and_then(address);
    match (from, to) {
        (Some(from), Some(to)) => Ok(Datagram { length: message.bytes, from, to }),
        _ => Err(Errno::EAFNOSUPPORT.into()),
    }
}

/// Answers a datagram, from the address it was for.
pub fn answer(socket: impl AsFd, datagram: &Datagram, bytes: &[u8]) -> io::Result<()> {
    let (v4, v6);
    let control = match datagram.to {
        IpAddr::V4(address) => {
            let ipi_spec_dst = libc::in_addr { s_addr: u32::from(address).to_be() };
            v4 = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst, ipi_addr: libc::in_addr { s_addr: 0 } };
            ControlMessage::Ipv4PacketInfo(&v4)
        }
        IpAddr::V6(address) => {
            let ipi6_addr = libc::in6_addr { s6_addr: address.octets() };
            v6 = libc::in6_pktinfo { ipi6_addr, ipi6_ifindex: 0 };
            ControlMessage::Ipv6PacketInfo(&v6)
        }
    };
    let to = SockaddrStorage::from(datagram.from);
    let parts = [IoSlice::new(bytes)];
    sendmsg(socket.as_fd().as_raw_fd(), &parts, &[control], MsgFlags::MSG_NOSIGNAL, Some(&to))?;
    Ok(())
}

/// Where the client of an accepted TCP connection was connecting to: the socket's own address, unless that is one of
/// these, to which it may have been translated.
///
/// # Errors
/// The connection is no longer there (ENOTCONN, EINVAL), or `socket` is not of TCP.
pub fn original_destination(socket: impl AsFd, translated: &[SocketAddr]) -> io::Result<SocketAddr> {
    let socket = socket.as_fd();
    let own = own_address(socket)?;
    if !translated.contains(&own) {
        return Ok(own);
    }
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
    address(&getsockname(socket.as_fd().as_raw_fd())?).ok_or_else(|| Errno::EAFNOSUPPORT.into())
}

fn address(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(address) = address.as_sockaddr_in() {
        return Some(SocketAddrV4::from(*address).into());
    }
    address.as_sockaddr_in6().map(|address| SocketAddrV6::new(address.ip(), address.port(), 0, 0).into())
}
