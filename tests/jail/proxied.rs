//! A jail whose connections arrive here: `jail-tests proxied REPORT [FLAG…] -- COMMAND` stands where the policy proxy
//! stands. It tells every client where its connection was going, answers every question, and writes what arrived.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Parser;
use jail::cli::prepare::{PolicyArgs, prepare};
use jail::cli::report::Report;
use jail::launch::cgroup::Cgroup;
use jail::launch::confine::{Capabilities, Confinement};
use jail::launch::init::Setup;
use jail::launch::message::{Channel, Ending, FromInit, Stdio, ToInit};
use jail::launch::network::{self, Listeners, Network, Redirection};
use jail::launch::shares::Shares;
use jail::launch::{idmap, start};
use jail::plan::Mount;
use jail::plan::network::{DNS_PORT, Egress, NetworkPlan, PROXY_PORT, PROXY_V4, PROXY_V6};
use jail::supervise::session::Sessions;
use jail::sys::net;
use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::scene::{Scene, printed};

/// What a question gets as answer.
pub const RESOLVER: &str = "RESOLVER_ANSWER";

#[derive(Debug, Parser)]
struct Args {
    report: String,
    #[arg(long)]
    ports: Vec<u16>,
    #[command(flatten)]
    policy: PolicyArgs,
    #[arg(required = true, last = true)]
    command: Vec<std::ffi::OsString>,
}

/// What a run in such a jail left.
#[derive(Debug)]
pub struct Proxied {
    /// How connections came here.
    pub redirection: Redirection,
    /// Every connection and question, sorted: `tcp ADDRESS`, `dns-udp` or `dns-tcp ADDRESS`.
    pub arrived: Vec<String>,
    /// What the command printed.
    pub stdout: String,
}

/// Runs a command inside, on a host without some calls (see `without.rs`). It must succeed.
pub fn inside(scene: &Scene, missing: &[&str], flags: &[&str], words: &[&str]) -> Result<Proxied, Failed> {
    let program = std::env::current_exe()?.display().to_string();
    let report = scene.outside("report.json");
    let mut command = scene.host(&program);
    if !missing.is_empty() {
        command.arg("without").args(missing).args(["--", &program]);
    }
    command.arg("proxied").arg(&report).args(["--read", &program]).args(flags).arg("--").args(words);
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{words:?}: {}\n{}", output.status, printed(&output)).into());
    }
    let report: Value = serde_json::from_slice(&std::fs::read(report)?)?;
    let mut arrived: Vec<String> = serde_json::from_value(report["arrived"].clone())?;
    arrived.sort();
    Ok(Proxied {
        redirection: serde_json::from_value(report["redirection"].clone())?,
        arrived,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
    })
}

/// Runs the attack programs inside; one JSON line for each try, and what arrived.
pub fn attack(
    scene: &Scene,
    missing: &[&str],
    flags: &[&str],
    arguments: &[&str],
) -> Result<(Vec<Value>, Proxied), Failed> {
    let program = std::env::current_exe()?.display().to_string();
    let proxied = inside(scene, missing, flags, &[&[program.as_str(), "try"], arguments].concat())?;
    let lines = proxied.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    Ok((lines, proxied))
}

/// The helper program itself.
pub fn run(arguments: &[String]) -> ExitCode {
    match stand(arguments) {
        Ok(code) => code,
        Err(failed) => {
            eprintln!("proxied: {}", failed.message().unwrap_or("failed"));
            ExitCode::from(99)
        }
    }
}

/// Sets the namespace up that this process is in, and says what came of it.
pub fn set_up() -> ExitCode {
    match network::set_up(&NetworkPlan::for_policy(&jail::policy::egress::EgressPolicy::default())) {
        Ok(Network { redirection, listeners }) => {
            let Listeners { tcp, dns_udp, dns_tcp, .. } = listeners;
            say(&format!("{redirection:?} {} {} {}", tcp.len(), dns_udp.len(), dns_tcp.len()))
        }
        Err(failure) => say(&failure.to_string()),
    }
}

fn say(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

type Arrived = Arc<Mutex<Vec<String>>>;

fn stand(arguments: &[String]) -> Result<ExitCode, Failed> {
    let args = Args::try_parse_from(std::iter::once(&"proxied".to_owned()).chain(arguments))?;
    let mut plan = prepare(&args.policy, args.command, Report::new(true)).map_err(|error| error.to_string())?.plan;
    plan.network = NetworkPlan::for_policy(&jail::policy::egress::EgressPolicy::default());
    if let Egress::Proxied { ports } = &mut plan.network.egress {
        ports.extend(args.ports);
    }
    let resolver = plan.network.resolver_file();
    for mount in &mut plan.mounts {
        if let Mount::File { path, content } = mount
            && path == std::path::Path::new("/etc/resolv.conf")
        {
            content.clone_from(&resolver);
        }
    }
    // They would need the supervisor to clean up after them.
    plan.guards.clear();
    let (ours, theirs) = Channel::pair()?;
    let setup = Setup {
        channel: theirs,
        sockets: None,
        holders: None,
        prepared: idmap::prepare(&plan).map_err(|error| error.to_string())?,
        stdio: [Stdio::Null, Stdio::Pipe, Stdio::Pipe],
        ends: [
            None,
            Some(std::io::stdout().as_fd().try_clone_to_owned()?),
            Some(std::io::stderr().as_fd().try_clone_to_owned()?),
        ],
        confinement: Confinement {
            limits: plan.limits.clone(),
            capabilities: Capabilities::Held,
            keep_fds: Vec::new(),
            landlock: Some(plan.landlock.clone()),
            seccomp: plan.seccomp.compile()?,
        },
        sessions: Sessions::open().and_then(|sessions| sessions.directory()).map_err(|error| error.to_string())?,
    };
    let launched = start::launch(&plan, setup, ours, &Cgroup::default())
        .and_then(|starting| {
            starting.share(&Shares::default());
            starting.stands()
        })
        .map_err(|error| error.to_string())?;
    let arrived = Arrived::default();
    let listeners = launched.listeners;
    for (name, all) in [("tcp", listeners.tcp), ("dns-tcp", listeners.dns_tcp)] {
        for listener in all {
            accept(name, listener, Arc::clone(&arrived));
        }
    }
    for socket in listeners.dns_udp {
        answer(socket, Arc::clone(&arrived));
    }
    launched.channel.send(&ToInit::Go, &[])?;
    let ending = loop {
        match launched.channel.receive::<FromInit>()?.0 {
            FromInit::Ended(ending) => break ending,
            FromInit::Failed(failure) => return Err(failure.to_string().into()),
            _ => {}
        }
    };
    nix::sys::wait::waitpid(launched.pid, None)?;
    let arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let report = json!({ "redirection": launched.redirection, "arrived": arrived });
    File::create(args.report)?.write_all(report.to_string().as_bytes())?;
    Ok(match ending {
        Ending::Exited(0) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn accept(name: &'static str, listener: OwnedFd, arrived: Arrived) {
    std::thread::spawn(move || {
        let listener = TcpListener::from(listener);
        listener.set_nonblocking(false)?;
        loop {
            let (stream, _) = listener.accept()?;
            let arrived = Arc::clone(&arrived);
            std::thread::spawn(move || greet(name, stream, &arrived));
        }
        #[allow(unreachable_code, reason = "gives the closure its type")]
        Ok::<_, std::io::Error>(())
    });
}

/// Tells the client where it was going, and lets it say something.
fn greet(name: &str, mut stream: TcpStream, arrived: &Arrived) -> std::io::Result<()> {
    let own =
        [PROXY_V4.into(), PROXY_V6.into()].map(|own: IpAddr| [PROXY_PORT, DNS_PORT].map(|port| (own, port).into()));
    let to = net::original_destination(&stream, &own.concat())?;
    arrived.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{name} {to}"));
    stream.write_all(format!("to {to}").as_bytes())?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.read(&mut [0; 64]).map(drop)
}

fn answer(socket: OwnedFd, arrived: Arrived) {
    std::thread::spawn(move || {
        let socket = UdpSocket::from(socket);
        socket.set_nonblocking(false)?;
        loop {
            let mut question = [0; 512];
            let datagram = net::receive(&socket, &mut question)?;
            arrived.lock().unwrap_or_else(PoisonError::into_inner).push("dns-udp".to_owned());
            if datagram.length < 12 {
                net::answer(&socket, &datagram, RESOLVER.as_bytes())?;
            } else {
                // A real question: there is no such name.
                (question[2], question[3]) = (question[2] | 0x80, 0x83);
                net::answer(&socket, &datagram, &question[..datagram.length])?;
            }
        }
        #[allow(unreachable_code, reason = "gives the closure its type")]
        Ok::<_, std::io::Error>(())
    });
}
