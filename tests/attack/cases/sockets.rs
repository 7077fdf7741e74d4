//! Socket families, and the ways to reach somebody.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixStream};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;

use super::raw::{Line, Outcome, call};

const PATIENCE: Duration = Duration::from_secs(2);
/// Obsolete: the kernel turns an IPv4 socket of this type into AF_PACKET.
const SOCK_PACKET: i32 = 10;
const TYPES: [i32; 6] =
    [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET, libc::SOCK_RDM, libc::SOCK_DCCP];

/// Every family with every type until one works; netlink by protocol; raw and unusual protocols of IPv4 and IPv6.
pub fn families(_: &[String]) {
    for family in 0..=46 {
        for (note, high) in [("", 0), (" high bits", 1 << 40)] {
            let outcome = any(TYPES.map(|kind| [family | high, kind as usize, 0]).into_iter());
            Line::new("IP-008", format!("socket {family}{note}")).outcome(outcome);
        }
    }
    for protocol in 0..=22 {
        let outcome = socket(libc::AF_NETLINK as usize, libc::SOCK_RAW as usize, protocol);
        Line::new("IP-008", format!("socket netlink {protocol}")).outcome(outcome);
    }
    for (name, family) in [("IPv4", libc::AF_INET), ("IPv6", libc::AF_INET6)] {
        for (kind_name, kind) in [("raw", libc::SOCK_RAW), ("packet", SOCK_PACKET)] {
            let outcome = socket(family as usize, kind as usize, libc::IPPROTO_ICMP as usize);
            Line::new("IP-008", format!("socket {name} {kind_name}")).outcome(outcome);
        }
        let ping = if family == libc::AF_INET { libc::IPPROTO_ICMP } else { libc::IPPROTO_ICMPV6 };
        let outcome = socket(family as usize, libc::SOCK_DGRAM as usize, ping as usize);
        Line::new("NT-002", format!("socket {name} ICMP")).outcome(outcome);
        for (protocol_name, protocol) in [("SCTP", 132), ("MPTCP", 262), ("UDPLITE", 136), ("L2TP", 115), ("DCCP", 33)]
        {
            let outcome = any(TYPES.map(|kind| [family as usize, kind as usize, protocol]).into_iter());
            Line::new("IP-008", format!("socket {name} {protocol_name}")).outcome(outcome);
        }
    }
    for family in [1_usize, 2, 30, 40] {
        let mut pair = [0_i32; 2];
        let outcome = call(libc::SYS_socketpair, &[family, 1, 0, &raw mut pair as usize]);
        Line::new("IP-008", format!("socketpair {family}")).outcome(outcome);
    }
    for cid in [1, 2, 3] {
        Line::new("IP-007", format!("vsock connect CID {cid}")).outcome(vsock(cid));
    }
}

fn socket(family: usize, kind: usize, protocol: usize) -> Outcome {
    let fd = call(libc::SYS_socket, &[family, kind, protocol])?;
    call(libc::SYS_close, &[fd as usize])?;
    Ok(fd)
}

/// The first success, or the first error.
fn any(mut tries: impl Iterator<Item = [usize; 3]>) -> Outcome {
    let mut first = None;
    tries
        .find_map(|[family, kind, protocol]| match socket(family, kind, protocol) {
            Ok(fd) => Some(fd),
            Err(errno) => {
                first.get_or_insert(errno);
                None
            }
        })
        .ok_or(first.unwrap_or(Errno::EINVAL))
}

fn vsock(cid: u32) -> Outcome {
    // SAFETY: all bytes zero is a valid address.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as u16;
    address.svm_cid = cid;
    address.svm_port = 22;
    let nonblocking = libc::SOCK_STREAM | libc::SOCK_NONBLOCK;
    let fd = call(libc::SYS_socket, &[libc::AF_VSOCK as usize, nonblocking as usize, 0])?;
    let size = size_of::<libc::sockaddr_vm>();
    let outcome = call(libc::SYS_connect, &[fd as usize, &raw const address as usize, size]);
    call(libc::SYS_close, &[fd as usize])?;
    outcome
}

pub fn unix(paths: &[String]) {
    for path in paths {
        let reached = UnixStream::connect(path).and_then(greet);
        Line::new("IP-001", format!("connect {path}")).bytes(reached);
        let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to(b"attack", path));
        Line::new("IP-004", format!("send to {path}")).io(sent);
    }
}

pub fn abstract_(names: &[String]) {
    for name in names {
        let address = UnixAddr::from_abstract_name(name.as_bytes());
        let stream =
            address.as_ref().map_err(clone).and_then(|address| UnixStream::connect_addr(address).and_then(greet));
        Line::new("IP-006", format!("connect @{name}")).bytes(stream);
        let sent = address
            .as_ref()
            .map_err(clone)
            .and_then(|address| UnixDatagram::unbound()?.send_to_addr(b"attack", address));
        Line::new("IP-006", format!("send to @{name}")).io(sent);
    }
}

fn clone(error: &std::io::Error) -> std::io::Error {
    error.kind().into()
}

/// Writes a greeting and reads what the listener says.
fn greet(mut stream: UnixStream) -> std::io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"attack\n")?;
    let mut answer = vec![0; 256];
    let length = stream.read(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

pub fn tcp(addresses: &[String]) {
    for address in addresses {
        let line = Line::new("NT", format!("tcp {address}"));
        let Ok(address) = address.parse::<SocketAddr>() else {
            line.result("not an address");
            continue;
        };
        line.bytes(TcpStream::connect_timeout(&address, PATIENCE).and_then(|mut stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"attack\n")?;
            let mut answer = vec![0; 256];
            let length = stream.read(&mut answer)?;
            answer.truncate(length);
            Ok(answer)
        }));
    }
}

pub fn udp(addresses: &[String]) {
    for address in addresses {
        let line = Line::new("NT", format!("udp {address}"));
        let local = if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        line.bytes(UdpSocket::bind(local).and_then(|socket| {
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.send_to(b"attack", address.as_str())?;
            let mut answer = vec![0; 256];
            let length = socket.recv(&mut answer)?;
            answer.truncate(length);
            Ok(answer)
        }));
    }
}

/// A connected socket hears of a refusal and takes answers from the one address only.
pub fn udp_connected(addresses: &[String]) {
    for address in addresses {
        let line = Line::new("NT", format!("udp {address}"));
        let local = if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        line.bytes(UdpSocket::bind(local).and_then(|socket| {
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.connect(address.as_str())?;
            socket.send(b"attack")?;
            let mut answer = vec![0; 256];
            let length = socket.recv(&mut answer)?;
            answer.truncate(length);
            Ok(answer)
        }));
    }
}

/// A server in this process and a client in another.
pub fn serve(addresses: &[String]) {
    for address in addresses {
        let line = Line::new("NT", format!("serve {address}"));
        let program = std::env::current_exe();
        line.bytes(program.and_then(|program| {
            let listener = TcpListener::bind(address.as_str())?;
            let mut client = std::process::Command::new(program)
                .args(["try", "tcp", address])
                .stdout(std::process::Stdio::null())
                .spawn()?;
            let (mut stream, _) = listener.accept()?;
            stream.write_all(b"answer")?;
            let mut heard = [0; 7];
            stream.read_exact(&mut heard)?;
            drop(stream);
            client.wait()?;
            Ok(if &heard == b"attack\n" { b"served".to_vec() } else { heard.to_vec() })
        }));
    }
}
