//! Which socket is at the other end of a connection (sock_diag(7)): asked of the kernel, one socket at a time.
//!
//! A socket of this kind answers for the network namespace it was made in, whoever asks.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Where `idiag_state` and `idiag_inode` stand in `struct inet_diag_msg`.
const STATE: usize = HEADER + 1;
const INODE: usize = HEADER + 68;

/// The protocol of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A socket that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its inode: what `/proc/PID/fd` shows as `socket:[INODE]`. 0 once nobody has it open.
    pub inode: u32,
    /// Whether it waits for connections (`TCP_LISTEN`).
    pub listens: bool,
}

/// Opens a socket for questions about the current network namespace.
pub fn open() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Netlink, SockType::Datagram, flags, SockProtocol::NetlinkSockDiag)
}

/// The socket with these addresses, `local` being its own.
///
/// # Errors
/// There is none (ENOENT, which is also the answer of a kernel without this interface).
pub fn find(asked: &OwnedFd, protocol: Protocol, local: SocketAddr, remote: SocketAddr) -> nix::Result<Found> {
    const TCP_LISTEN: u8 = 10;
    let kernel = NetlinkAddr::new(0, 0);
    sendto(asked.as_raw_fd(), &request(protocol, local, remote), &kernel, MsgFlags::empty())?;
    let mut answer = [0; 512];
    // The kernel answers inside sendto(2).
    let length = recv(asked.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT)?;
    let answer = answer.get(..length).unwrap_or_default();
    let kind = answer.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes);
    let word = |at: usize| answer.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_ne_bytes);
    match (kind, answer.get(STATE), word(INODE)) {
        (Some(SOCK_DIAG_BY_FAMILY), Some(state), Some(inode)) => Ok(Found { inode, listens: *state == TCP_LISTEN }),
        (Some(NLMSG_ERROR), ..) => {
            let errno = word(HEADER).map_or(0, |errno| errno.cast_signed().saturating_neg());
            Err(Errno::from_raw(errno))
        }
        _ => Err(Errno::EBADMSG),
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
fn request(protocol: Protocol, local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    // "src and dst are swapped for historical reasons" (net/ipv4/udp_diag.c).
    let (source, destination) = match protocol {
        Protocol::Tcp => (local, remote),
        Protocol::Udp => (remote, local),
    };
    let protocol = match protocol {
        Protocol::Tcp => libc::IPPROTO_TCP,
        Protocol::Udp => libc::IPPROTO_UDP,
    };
    let family = if source.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut bytes = Vec::with_capacity(72);
    bytes.extend_from_slice(&72_u32.to_ne_bytes());
    bytes.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    // Family, protocol, nothing beside the message itself, padding; every state.
    bytes.extend_from_slice(&[family as u8, protocol as u8, 0, 0]);
    bytes.extend_from_slice(&u32::MAX.to_ne_bytes());
    bytes.extend_from_slice(&source.port().to_be_bytes());
    bytes.extend_from_slice(&destination.port().to_be_bytes());
    for address in [source.ip(), destination.ip()] {
        let mut octets = [0; 16];
        match address {
            IpAddr::V4(address) => octets[..4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => octets = address.octets(),
        }
        bytes.extend_from_slice(&octets);
    }
    // Any interface, and no cookie to compare.
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[0xff; 8]);
    bytes
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd;

    use super::*;

    fn inode(socket: impl AsFd) -> u32 {
        let inode = nix::sys::stat::fstat(socket.as_fd()).unwrap().st_ino;
        inode.try_into().unwrap()
    }

    #[test]
    fn the_socket_of_a_client_is_found_by_its_addresses() {
        let asked = open().unwrap();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (_server, peer) = listener.accept().unwrap();
            let found = find(&asked, Protocol::Tcp, peer, listener.local_addr().unwrap()).unwrap();
            assert_eq!(found, Found { inode: inode(&client), listens: false });
            let unknown = SocketAddr::new(peer.ip(), 1);
            let found = find(&asked, Protocol::Tcp, listener.local_addr().unwrap(), unknown).unwrap();
            assert_eq!(found, Found { inode: inode(&listener), listens: true });
            assert_eq!(find(&asked, Protocol::Tcp, unknown, unknown), Err(Errno::ENOENT));
            let server = UdpSocket::bind(address).unwrap();
            let client = UdpSocket::bind(address).unwrap();
            client.connect(server.local_addr().unwrap()).unwrap();
            let found = find(&asked, Protocol::Udp, client.local_addr().unwrap(), server.local_addr().unwrap());
            assert_eq!(found.unwrap().inode, inode(&client));
        }
    }
}
