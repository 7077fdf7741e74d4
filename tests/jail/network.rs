//! NT: the network namespace. Every connection out arrives at the proxy's listeners with the place it was going to, what
//! is not TCP or a question is refused at once, and loopback is the jail's own.

use std::net::SocketAddr;

use jail::launch::network::Redirection;
use libtest_mimic::Failed;

use crate::canary::{ANSWER, Canaries};
use crate::needs::{Need, Needing, test, test_with};
use crate::proxied::{self, RESOLVER};
use crate::scene::{Scene, succeeded};
use crate::tries::{Tries, has, lacks, same};

type Test = Result<(), Failed>;

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![
        test("nt_001_nt_013_every_connection_arrives_with_its_destination", every_connection_arrives),
        test("nt_001_by_translation_every_connection_arrives_too", by_translation),
        test("nt_001_without_nftables_the_named_ports_arrive", without_nftables),
        test_with("nt_013_without_ipv6_the_rest_is_the_same", Need::Program("unshare"), without_ipv6),
        test("nt_001_doctor_tells_that_nftables_is_absent", doctor_tells),
        test("nt_002_what_is_not_tcp_is_refused_at_once", not_tcp),
        test("nt_004_loopback_is_the_jails_own", own_loopback),
        test("nt_015_the_first_instruction_is_redirected", first_instruction),
        test_with("dn_005_questions_to_any_resolver_arrive", Need::Program("python3"), any_resolver),
        test_with("nt_the_jail_cannot_change_its_network", Need::Program("python3"), cannot_be_changed),
        test_with("nt_many_connections_keep_their_destinations", Need::Program("python3"), many_connections),
        test("nt_two_jails_have_a_network_each", two_jails),
    ]
}

/// In a namespace of its own the test may switch IPv6 off.
fn without_ipv6() -> Test {
    let scene = Scene::bare()?;
    let set_up = |first: &str| -> Result<String, Failed> {
        let script = format!("{first} && exec \"$0\" set-up");
        let mut command = scene.host("unshare");
        command.args(["-Urn", "sh", "-c", &script]).arg(std::env::current_exe()?);
        Ok(String::from_utf8_lossy(&command.output()?.stdout).trim().to_owned())
    };
    same("control", &set_up("true")?, "Nftables 2 2 2")?;
    same("without", &set_up("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")?, "Nftables 1 1 1")
}

/// A machine without nftables holds a jail; `jail doctor` says what is less, and what to do.
fn doctor_tells() -> Test {
    let scene = Scene::bare()?;
    let program = std::env::current_exe()?;
    let ask = |missing: &[&str]| -> Result<serde_json::Value, Failed> {
        let mut command = scene.host(&program);
        command.arg("without").args(missing).args(["--", env!("CARGO_BIN_EXE_jail"), "doctor", "--json"]);
        let output = command.output()?;
        succeeded("doctor", &output)?;
        let lines: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)?;
        Ok(lines.into_iter().find(|line| line["layer"] == "network").unwrap_or_default())
    };
    let with = ask(&[])?;
    same("with nftables", &format!("{} {}", with["state"], with["remedy"]), "\"ok\" null")?;
    let without = ask(NO_NFTABLES)?;
    same("without nftables", without["state"].as_str().unwrap_or_default(), "partial")?;
    has("remedy", without["remedy"].as_str().unwrap_or_default(), "modprobe -a nft_chain_nat nft_nat")
}

/// The kernel lets a process without privilege make no netfilter socket where there is no nf_tables.
const NO_NFTABLES: &[&str] = &["netfilter=EPROTONOSUPPORT"];

/// Addresses of every kind: public, private, link-local, metadata, of this very range, mapped.
const ADDRESSES: &[&str] = &[
    "1.1.1.1:443",
    "93.184.216.34:80",
    "8.8.8.8:22",
    "10.0.2.2:5432",
    "172.17.0.1:2375",
    "192.168.1.1:65535",
    "100.64.0.1:1",
    "169.254.169.254:80",
    "198.18.1.7:443",
    "198.19.255.255:443",
    "240.0.0.1:443",
    "[2606:4700::1111]:443",
    "[2001:db8::1]:22",
    "[fd00:ec2::254]:80",
    "[fd00:18:1::7]:443",
    "[64:ff9b::808:808]:3128",
    "[2002:7f00:1::]:8080",
];

fn every_connection_arrives() -> Test {
    every_connection_arrives_on(&[], "Nftables")
}

/// A machine where nothing can be handed over as it is: the older means do the same.
fn by_translation() -> Test {
    let missing = &["transparent=EPERM"];
    every_connection_arrives_on(missing, "Translation")?;
    let scene = Scene::bare()?;
    let resolvers = ["198.18.0.1:53", "8.8.8.8:53", "[fd00:18::1]:53", "[2001:4860:4860::8888]:53"];
    let (lines, _) = proxied::attack(&scene, missing, &[], &[&["udp-connected"], &resolvers[..]].concat())?;
    let tries = Tries::from(lines);
    for resolver in resolvers {
        same("answer", tries.bytes(&format!("udp {resolver}"))?, RESOLVER)?;
    }
    Ok(())
}

fn every_connection_arrives_on(missing: &[&str], redirection: &str) -> Test {
    let scene = Scene::bare()?;
    let (lines, proxied) = proxied::attack(&scene, missing, &[], &[&["tcp"], ADDRESSES].concat())?;
    same("redirection", &format!("{:?}", proxied.redirection), redirection)?;
    let tries = Tries::from(lines);
    let mut expected = Vec::new();
    for address in ADDRESSES {
        let address: SocketAddr = address.parse()?;
        same("client", tries.bytes(&format!("tcp {address}"))?, &format!("to {address}"))?;
        expected.push(format!("tcp {address}"));
    }
    expected.sort();
    same("arrived", &format!("{:?}", proxied.arrived), &format!("{expected:?}"))?;
    // Spelled as IPv6 it is the same IPv4 connection; the proxy itself is connected to as it is.
    let odd = ["[::ffff:1.1.1.1]:443", "198.18.0.1:3128", "[fd00:18::1]:3128"];
    let (lines, _) = proxied::attack(&scene, missing, &[], &[&["tcp"], &odd[..]].concat())?;
    let tries = Tries::from(lines);
    same("mapped", tries.bytes("tcp [::ffff:1.1.1.1]:443")?, "to 1.1.1.1:443")?;
    same("proxy", tries.bytes("tcp 198.18.0.1:3128")?, "to 198.18.0.1:3128")?;
    same("proxy", tries.bytes("tcp [fd00:18::1]:3128")?, "to [fd00:18::1]:3128")?;
    // The jail's own addresses are no way to the proxy's other ports, and nobody can be waited for in vain.
    let refused = ["198.18.0.1:1", "198.18.0.2:443", "[fd00:18::1]:1", "[fd00:18::2]:443"];
    let (lines, proxied) = proxied::attack(&scene, missing, &[], &[&["tcp"], &refused[..]].concat())?;
    let tries = Tries::from(lines);
    for address in refused {
        tries.expect(&[&format!("tcp {address}")], &["ECONNREFUSED"])?;
    }
    same("arrived", &format!("{:?}", proxied.arrived), "[]")
}

fn without_nftables() -> Test {
    let scene = Scene::bare()?;
    let named = ["1.1.1.1:443", "10.0.0.1:80", "9.9.9.9:5432", "[2001:db8::1]:443", "[2001:db8::1]:5432"];
    let others = ["1.1.1.1:22", "1.1.1.1:53", "169.254.169.254:8080", "[2001:db8::1]:22"];
    let all = [&["tcp"], &named[..], &others[..]].concat();
    let (lines, proxied) = proxied::attack(&scene, NO_NFTABLES, &["--ports", "5432"], &all)?;
    if !matches!(proxied.redirection, Redirection::Routes { .. }) {
        return Err(format!("{:?}", proxied.redirection).into());
    }
    let tries = Tries::from(lines);
    for address in named {
        let address: SocketAddr = address.parse()?;
        same("client", tries.bytes(&format!("tcp {address}"))?, &format!("to {address}"))?;
    }
    for address in others {
        tries.expect(&[&format!("tcp {address}")], &["ECONNREFUSED"])?;
    }
    same("arrived", &proxied.arrived.len().to_string(), &named.len().to_string())?;
    // Questions go to the jail's own resolver alone.
    let udp = ["198.18.0.1:53", "[fd00:18::1]:53", "8.8.8.8:53", "[2001:db8::1]:53"];
    let (lines, _) = proxied::attack(&scene, NO_NFTABLES, &[], &[&["udp-connected"], &udp[..]].concat())?;
    let tries = Tries::from(lines);
    same("resolver", tries.bytes("udp 198.18.0.1:53")?, RESOLVER)?;
    same("resolver", tries.bytes("udp [fd00:18::1]:53")?, RESOLVER)?;
    tries.expect(&["udp 8.8.8.8:53", "udp [2001:db8::1]:53"], &["ECONNREFUSED"])
}

fn not_tcp() -> Test {
    let scene = Scene::bare()?;
    let mut canaries = Canaries::new();
    let control = canaries.udp("127.0.0.1")?;
    let outside = Tries::from(scene.attack_outside(&["udp-connected", &control])?);
    same("control", outside.bytes(&format!("udp {control}"))?, ANSWER)?;
    let refused =
        ["8.8.8.8:443", "8.8.8.8:123", "10.0.2.2:5353", "198.18.0.1:3128", "[2001:db8::1]:443", "[fd00:18::1]:80"];
    let multicast = ["224.0.0.251:5353", "[ff02::fb]:5353", "[ff05::2]:1900", "255.255.255.255:67"];
    let all = [&["udp-connected", control.as_str()], &refused[..], &multicast[..]].concat();
    let (lines, proxied) = proxied::attack(&scene, &[], &[], &all)?;
    let tries = Tries::from(lines);
    for address in refused.iter().chain([&control.as_str()]) {
        tries.expect(&[&format!("udp {address}")], &["ECONNREFUSED"])?;
    }
    for address in multicast {
        tries.expect(&[&format!("udp {address}")], &["EHOSTUNREACH", "ENETUNREACH", "EACCES", "EINVAL"])?;
    }
    same("arrived", &format!("{:?} {:?}", proxied.arrived, canaries.arrived().len()), "[] 1")?;
    let (lines, proxied) = proxied::attack(&scene, &[], &[], &["families"])?;
    let tries = Tries::from(lines);
    for family in ["IPv4", "IPv6"] {
        for protocol in ["SCTP", "MPTCP", "UDPLITE", "L2TP", "DCCP"] {
            tries.expect(&[&format!("socket {family} {protocol}")], &["EPROTONOSUPPORT"])?;
        }
        tries.expect(&[&format!("socket {family} raw")], &["EPERM"])?;
        tries.expect(&[&format!("socket {family} ICMP")], &["EACCES"])?;
    }
    same("arrived", &format!("{:?}", proxied.arrived), "[]")
}

/// Two programs inside talk over loopback on any port; a listener of the host on the same port hears nothing.
fn own_loopback() -> Test {
    let scene = Scene::bare()?;
    let mut canaries = Canaries::new();
    let mut hosts = vec![canaries.tcp("127.0.0.1")?, canaries.tcp("[::1]")?];
    let outside = Tries::from(scene.attack_outside(&["tcp", &hosts[0], &hosts[1]])?);
    for host in &hosts {
        same("control", outside.bytes(&format!("tcp {host}"))?, ANSWER)?;
    }
    same("control", &canaries.arrived().len().to_string(), "2")?;
    let port = |address: &String| address.rsplit(':').next().unwrap_or_default().to_owned();
    hosts.extend([
        format!("127.8.9.1:{}", port(&hosts[0])),
        format!("0.0.0.0:{}", port(&hosts[0])),
        format!("[::ffff:127.0.0.1]:{}", port(&hosts[0])),
        format!("[::]:{}", port(&hosts[1])),
    ]);
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let (lines, proxied) = proxied::attack(&scene, &[], &[], &[&["tcp"], &hosts[..]].concat())?;
    let tries = Tries::from(lines);
    for host in &hosts {
        tries.expect(&[&format!("tcp {host}")], &["ECONNREFUSED"])?;
    }
    // The ports of the listeners among them: only the proxy's own addresses are taken.
    let servers = [hosts[0], hosts[1], "127.0.0.1:3128", "[::1]:3128", "127.0.0.1:8080", "0.0.0.0:3000"];
    let (lines, own) = proxied::attack(&scene, &[], &[], &[&["serve"], &servers[..]].concat())?;
    let tries = Tries::from(lines);
    for server in servers {
        same("own server", tries.bytes(&format!("serve {server}"))?, "served")?;
    }
    let arrived = format!("{:?} {:?} {:?}", proxied.arrived, own.arrived, canaries.arrived());
    same("arrived", &arrived, "[] [] []")
}

fn first_instruction() -> Test {
    let scene = Scene::bare()?;
    for _ in 0..30 {
        let (lines, proxied) = proxied::attack(&scene, &[], &[], &["tcp", "203.0.113.9:443", "[2001:db8::9]:443"])?;
        let tries = Tries::from(lines);
        same("client", tries.bytes("tcp 203.0.113.9:443")?, "to 203.0.113.9:443")?;
        same("client", tries.bytes("tcp [2001:db8::9]:443")?, "to [2001:db8::9]:443")?;
        same("arrived", &proxied.arrived.len().to_string(), "2")?;
    }
    Ok(())
}

fn any_resolver() -> Test {
    let scene = Scene::bare()?;
    let resolvers = ["198.18.0.1:53", "8.8.8.8:53", "10.0.0.53:53", "[fd00:18::1]:53", "[2001:4860:4860::8888]:53"];
    // Connected sockets take an answer from the address they asked alone.
    let (lines, proxied) = proxied::attack(&scene, &[], &[], &[&["udp-connected"], &resolvers[..]].concat())?;
    let tries = Tries::from(lines);
    for resolver in resolvers {
        same("answer", tries.bytes(&format!("udp {resolver}"))?, RESOLVER)?;
    }
    same("arrived", &proxied.arrived.len().to_string(), &resolvers.len().to_string())?;
    let (lines, proxied) =
        proxied::attack(&scene, &[], &[], &["tcp", "8.8.4.4:53", "[2001:4860:4860::8888]:53", "127.0.0.53:53"])?;
    let tries = Tries::from(lines);
    same("answer", tries.bytes("tcp 8.8.4.4:53")?, "to 8.8.4.4:53")?;
    same("answer", tries.bytes("tcp [2001:4860:4860::8888]:53")?, "to [2001:4860:4860::8888]:53")?;
    tries.expect(&["tcp 127.0.0.53:53"], &["ECONNREFUSED"])?;
    has("arrived", &format!("{:?}", proxied.arrived), "dns-tcp 8.8.4.4:53")?;
    // glibc reads resolv.conf: a name is asked for here, in both families.
    let words =
        ["python3", "-c", "import socket\ntry: socket.getaddrinfo('canary.example', 443)\nexcept OSError: pass"];
    let proxied = proxied::inside(&scene, &[], &[], &words)?;
    has("arrived", &format!("{:?}", proxied.arrived), "dns-udp")?;
    let proxied = proxied::inside(&scene, &[], &[], &["sh", "-c", "cat /etc/resolv.conf; getent hosts localhost"])?;
    has("resolv.conf", &proxied.stdout, "nameserver 198.18.0.1\n")?;
    has("hosts", &proxied.stdout, "localhost")?;
    lacks("resolv.conf", &proxied.stdout, "search")
}

/// Everything that would undo the redirection, or take its place. The same script is the control where the process may.
const CHANGES: &str = r#"
import errno, fcntl, socket, struct
def attempt(name, f):
    try:
        f(); print(name, "ok")
    except OSError as e:
        print(name, errno.errorcode[e.errno])
def route(kind, body, flags=0x605):
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    s.send(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
    code = struct.unpack("=i", s.recv(4096)[16:20])[0]
    if code: raise OSError(-code, "")
attempt("read", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close())
attempt("route", lambda: route(24, struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 3, 253, 1, 0) + struct.pack("=HHI", 8, 4, 1)))
attempt("unroute", lambda: route(25, struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 255, 3, 254, 2, 0), 5))
attempt("address", lambda: route(20, struct.pack("=BBBBI", 2, 32, 0, 0, 1) + struct.pack("=HH4s", 8, 2, bytes([9, 9, 9, 9]))))
attempt("link", lambda: route(16, struct.pack("=BxHiII", 0, 0, 1, 0, 1), 5))
attempt("veth", lambda: route(16, struct.pack("=BxHiII", 0, 0, 0, 0, 0) + struct.pack("=HHHH8s", 16, 18, 12, 1, b"dummy\0\0\0")))
attempt("netfilter", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12).close())
attempt("down", lambda: fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sH14x", b"lo", 0)))
attempt("iptables", lambda: socket.socket().setsockopt(0, 64, b"\0" * 96))
attempt("transparent", lambda: socket.socket().setsockopt(0, 19, 1))
attempt("mark", lambda: socket.socket().setsockopt(1, 36, 1))
for family, host in ((socket.AF_INET, "198.18.0.1"), (socket.AF_INET6, "fd00:18::1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    for kind, port in ((socket.SOCK_STREAM, 3128), (socket.SOCK_STREAM, 53), (socket.SOCK_DGRAM, 53)):
        def take():
            s = socket.socket(family, kind)
            s.setsockopt(1, 2, 1)
            s.setsockopt(1, 15, 1)
            if family == socket.AF_INET6: s.setsockopt(41, 26, 1)
            s.bind((host, port))
            if kind == socket.SOCK_STREAM: s.listen()
        attempt(f"take {host} {port} {kind.name}", take)
"#;

fn cannot_be_changed() -> Test {
    let scene = Scene::bare()?;
    let proxied = proxied::inside(&scene, &[], &[], &["python3", "-c", CHANGES])?;
    let refused = |name: &str| has("inside", &proxied.stdout, &format!("{name} E"));
    same("reading", proxied.stdout.lines().next().unwrap_or_default(), "read ok")?;
    for name in ["route", "unroute", "address", "link", "veth", "netfilter", "down", "iptables", "transparent", "mark"]
    {
        refused(name)?;
    }
    for host in ["198.18.0.1", "fd00:18::1", "0.0.0.0", "::"] {
        for what in ["3128 SOCK_STREAM", "53 SOCK_STREAM", "53 SOCK_DGRAM"] {
            refused(&format!("take {host} {what}"))?;
        }
    }
    // The control: in a namespace of its own without all this, the same program may.
    let outside = scene.host("unshare").args(["-Urn", "python3", "-c", CHANGES]).output()?;
    let outside = String::from_utf8_lossy(&outside.stdout).into_owned();
    for name in ["address", "link", "netfilter", "transparent", "mark", "take 0.0.0.0 3128 SOCK_STREAM"] {
        has("control", &outside, &format!("{name} ok"))?;
    }
    // Afterwards everything goes where it went.
    let program = std::env::current_exe()?.display().to_string();
    let script = format!("python3 -c '{CHANGES}' >/dev/null; exec {program} try tcp 1.1.1.1:443");
    let proxied = proxied::inside(&scene, &[], &[], &["sh", "-c", &script])?;
    same("arrived", &format!("{:?}", proxied.arrived), "[\"tcp 1.1.1.1:443\"]")
}

/// One source port serves connections to several places at once, and each is told apart.
fn many_connections() -> Test {
    let scene = Scene::bare()?;
    let script = r#"
import socket
kept = []
for i in range(300):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("198.18.0.2", 40000 + i % 3))
    to = (f"20.0.{i // 200}.{i % 200 + 1}", 443)
    s.connect(to)
    said = s.recv(100).decode()
    assert said == f"to {to[0]}:{to[1]}", said
    assert s.getpeername() == to
    kept.append(s)
print("ok")
"#;
    let proxied = proxied::inside(&scene, &[], &[], &["python3", "-c", script])?;
    same("clients", proxied.stdout.trim(), "ok")?;
    same("arrived", &proxied.arrived.len().to_string(), "300")
}

/// Listeners of the same address in two namespaces; neither hears the other.
fn two_jails() -> Test {
    let (one, other) = (Scene::bare()?, Scene::bare()?);
    let run = |scene: &Scene, address: &'static str| {
        let (lines, proxied) = proxied::attack(scene, &[], &[], &["tcp", address, address, address])?;
        same("client", Tries::from(lines).bytes(&format!("tcp {address}"))?, &format!("to {address}"))?;
        same("arrived", &format!("{:?}", proxied.arrived), &format!("{:?}", vec![format!("tcp {address}"); 3]))
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(|| run(&one, "1.2.3.4:443"));
        let second = scope.spawn(|| run(&other, "5.6.7.8:443"));
        first.join().map_err(|_| "a thread panicked")??;
        second.join().map_err(|_| "a thread panicked")?
    })
}
