//! NT: `[[publish]]`: the host reaches a server inside, by the named port alone, and nothing inside reaches the host by it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use libtest_mimic::Failed;

use crate::canary::{ANSWER, Canaries};
use crate::checks::ensure;
use crate::needs::{Need, Needing, test, test_with};
use crate::running::Running;
use crate::scene::{Scene, printed};
use crate::tries::{Tries, has, lacks, same};

type Test = Result<(), Failed>;

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    let python = Need::Program("python3");
    vec![
        test_with("nt_published_the_host_reaches_the_named_port_alone", python, named_port_alone),
        test_with("nt_published_a_server_on_ipv6_alone_is_reached", python, ipv6_alone),
        test_with("nt_published_bytes_arrive_whole_and_ends_are_passed_on", python, bytes_arrive_whole),
        test_with("nt_published_many_clients_at_once", python, many_clients),
        test("nt_published_a_taken_port_ends_the_run_before_it_begins", taken_port),
        test("nt_published_by_a_project_waits_for_agreement", project_waits),
    ]
}

/// An echo server inside; says `ready` when it listens. It answers once the client has ended its side.
const SERVER: &str = r#"
import socket, sys, threading
def echo(c):
    parts = []
    while True:
        part = c.recv(65536)
        if not part: break
        parts.append(part)
    c.sendall(b"inside:" + b"".join(parts)); c.close()
def serve(family, host, port):
    s = socket.socket(family); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host, port)); s.listen(512)
    def loop():
        while True: threading.Thread(target=echo, args=(s.accept()[0],), daemon=True).start()
    threading.Thread(target=loop, daemon=True).start()
for word in sys.argv[1:]:
    host, _, port = word.rpartition(":")
    serve(socket.AF_INET6 if ":" in host else socket.AF_INET, host, int(port))
print("ready", flush=True)
threading.Event().wait(60)
"#;

/// A port of the host's loopback that nobody listens on, in both families.
fn free_port() -> Result<u16, Failed> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn server(scene: &Scene, publish: &[String], servers: &[&str]) -> Result<Running, Failed> {
    let flags: Vec<&str> = publish.iter().flat_map(|publish| ["--publish", publish]).collect();
    let mut command = scene.run_with(&flags);
    command.args(["python3", "-c", SERVER]).args(servers);
    Running::spawn(scene, command)
}

/// Says something and reads everything.
fn ask(address: &str, words: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut writer = stream.try_clone()?;
    let words = words.to_owned();
    let writing = std::thread::spawn(move || writer.write_all(&words).and_then(|()| writer.shutdown(Shutdown::Write)));
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let _ = writing.join();
    Ok(answer)
}

fn named_port_alone() -> Test {
    let scene = Scene::new()?;
    let (port, other) = (free_port()?, free_port()?);
    let mut canaries = Canaries::new();
    let host = canaries.tcp("127.0.0.1")?;
    let unnamed = format!("127.0.0.1:{other}");
    let running = server(&scene, &[format!("{port}:3000")], &["127.0.0.1:3000", &unnamed])?;
    for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        same(&address, &String::from_utf8_lossy(&ask(&address, b"hello")?), "inside:hello")?;
    }
    // Loopback proper: what another machine could connect to is not listened on.
    let beside = ask(&format!("127.0.0.2:{port}"), b"x").err().and_then(|error| error.raw_os_error());
    same("not loopback's own", &format!("{beside:?}"), &format!("{:?}", Some(nix::libc::ECONNREFUSED)))?;
    // The server beside it is there, for those inside alone.
    let inside = scene.jail(&["exec", &running.session, "python3", "-c"]);
    let connect = |mut command: std::process::Command, address: &str| -> Result<String, Failed> {
        let (host, port) = address.rsplit_once(':').ok_or("no port")?;
        let script = format!(
            "import socket\ntry:\n s = socket.create_connection(('{host}', {port}), 5); s.send(b'x'); s.shutdown(1)\n print(s.recv(100).decode())\n\
             except OSError as e: print(e)"
        );
        Ok(String::from_utf8_lossy(&command.arg(script).output()?.stdout).trim().to_owned())
    };
    same("control", &connect(inside, &unnamed)?, "inside:x")?;
    let refused = ask(&unnamed, b"x").err().and_then(|error| error.raw_os_error());
    same("unnamed", &format!("{refused:?}"), &format!("{:?}", Some(nix::libc::ECONNREFUSED)))?;
    // Nothing inside reaches the host: neither another listener there nor the published port itself.
    same("control", Tries::from(scene.attack_outside(&["tcp", &host])?).bytes(&format!("tcp {host}"))?, ANSWER)?;
    canaries.arrived();
    for address in [&host, &format!("127.0.0.1:{port}")] {
        let inside = scene.jail(&["exec", &running.session, "python3", "-c"]);
        has("inside", &connect(inside, address)?, "refused")?;
    }
    let flag = format!("{}:3001", free_port()?);
    let lines = scene.attack(&["--publish", &flag], &["tcp", &host, &format!("127.0.0.1:{port}")])?;
    Tries::from(lines).expect_none("tcp")?;
    same("arrived", &format!("{:?}", canaries.arrived()), "[]")?;
    // With the jail its port goes.
    drop(running);
    ensure(ask(&format!("127.0.0.1:{port}"), b"x").is_err(), || "the port outlives the jail".to_owned())
}

fn ipv6_alone() -> Test {
    let scene = Scene::new()?;
    let port = free_port()?;
    let _running = server(&scene, &[format!("{port}:3000")], &["::1:3000"])?;
    same("answer", &String::from_utf8_lossy(&ask(&format!("127.0.0.1:{port}"), b"six")?), "inside:six")
}

fn bytes_arrive_whole() -> Test {
    let scene = Scene::new()?;
    let port = free_port()?;
    let _running = server(&scene, &[format!("{port}:3000")], &["127.0.0.1:3000"])?;
    let sent: Vec<u8> = (0..4_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let answer = ask(&format!("127.0.0.1:{port}"), &sent)?;
    ensure(answer.strip_prefix(b"inside:") == Some(&sent[..]), || format!("{} bytes differ", answer.len()))
}

fn many_clients() -> Test {
    let scene = Scene::new()?;
    let port = free_port()?;
    let _running = server(&scene, &[format!("{port}:3000")], &["127.0.0.1:3000"])?;
    let clients: Vec<_> = (0..100)
        .map(|number| {
            std::thread::spawn(move || ask(&format!("127.0.0.1:{port}"), format!("client {number}").as_bytes()))
        })
        .collect();
    for (number, client) in clients.into_iter().enumerate() {
        let answer = client.join().map_err(|_| "a client panicked")??;
        same("answer", &String::from_utf8_lossy(&answer), &format!("inside:client {number}"))?;
    }
    Ok(())
}

fn taken_port() -> Test {
    let scene = Scene::new()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let output = scene.inside_with(&["--publish", &port], "echo ran | tee ran")?;
    ensure(output.status.code() == Some(125) && output.stdout.is_empty(), || printed(&output))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    has("message", &text, &format!("cannot publish on 127.0.0.1:{port}"))?;
    has("hint", &text, "--publish HOST_PORT:")?;
    let output = scene.jail(&["run", "--publish", &port, "--", "true"]).output()?;
    lacks("before it is", &String::from_utf8_lossy(&output.stderr), "inside is at")?;
    ensure(!scene.path("ran").exists(), || "it ran".to_owned())
}

fn project_waits() -> Test {
    let scene = Scene::new()?;
    let port = free_port()?;
    scene.write(".jail.toml", format!("[[publish]]\nport = {port}\n"))?;
    let listening = || TcpListener::bind(("127.0.0.1", port)).is_err();
    let during = |scene: &Scene| -> Result<bool, Failed> {
        let _running = Running::start(scene, &[], "echo ready; sleep 60")?;
        Ok(listening())
    };
    ensure(!during(&scene)?, || "published without agreement".to_owned())?;
    let trust = scene.jail(&["trust", "--yes"]).output()?;
    ensure(trust.status.success(), || printed(&trust))?;
    has("trust", &String::from_utf8_lossy(&trust.stdout), "publish")?;
    ensure(during(&scene)?, || "control: not published after agreement".to_owned())
}
