//! A program that opens many connections at once, and a server for as many: `jail-tests crowd hold|dribble|ask …`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, SockaddrIn};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;

/// Greets with one byte and sends everything back, on one thread. Ends when it is dropped.
pub struct Echo {
    port: u16,
    open: Arc<AtomicUsize>,
    _stop: oneshot::Sender<()>,
}

impl Echo {
    /// Starts it on 127.0.0.1.
    pub fn start() -> Result<Self, Failed> {
        let listener = listener(4096)?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let (stop, stopped) = oneshot::channel::<()>();
        let open = Arc::new(AtomicUsize::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let count = Arc::clone(&open);
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                let accept = async {
                    loop {
                        if let Ok((stream, _)) = listener.accept().await {
                            tokio::spawn(echo(stream, Arc::clone(&count)));
                        }
                    }
                };
                tokio::select! {
                    () = accept => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { port, open, _stop: stop })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// A listener on 127.0.0.1 with a queue of this length.
pub fn listener(backlog: i32) -> Result<TcpListener, Failed> {
    let socket = socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    socket::bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrIn::new(127, 0, 0, 1, 0))?;
    socket::listen(&socket, Backlog::new(backlog)?)?;
    Ok(TcpListener::from(socket))
}

async fn echo(mut stream: tokio::net::TcpStream, open: Arc<AtomicUsize>) {
    open.fetch_add(1, Ordering::Relaxed);
    let mut buffer = [0; 64];
    if stream.write_all(b"!").await.is_ok() {
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            if stream.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
    }
    open.fetch_sub(1, Ordering::Relaxed);
}

/// The program.
#[allow(clippy::print_stdout, reason = "what the test reads")]
pub fn run(arguments: &[String]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["hold", address, count] => count.parse().map(|count| hold(address, count)),
        ["dribble", address, count] => count.parse().map(|count| dribble(address, count)),
        ["ask", domain, count] => count.parse().map(|count| ask(domain, count)),
        _ => return ExitCode::FAILURE,
    };
    match done {
        Ok(Ok(())) => ExitCode::SUCCESS,
        other => {
            println!("{other:?}");
            ExitCode::FAILURE
        }
    }
}

/// Opens connections, says how many were greeted, waits for the file `go`, and lets each send something back.
#[allow(clippy::print_stdout, reason = "what the test reads")]
fn hold(address: &str, count: usize) -> std::io::Result<()> {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    let address = std::net::ToSocketAddrs::to_socket_addrs(address)?.next().ok_or(std::io::ErrorKind::NotFound)?;
    let mut all: Vec<TcpStream> = (0..count).map_while(|_| TcpStream::connect(address).ok()).collect();
    let until = Instant::now() + Duration::from_secs(3);
    let mut byte = [0];
    // In order: whoever comes first is served first.
    let mut greeted = |stream: &mut TcpStream| {
        let patience = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let patience = if count > 1000 { Duration::from_secs(20) } else { patience };
        stream.set_read_timeout(Some(patience)).is_ok() && stream.read_exact(&mut byte).is_ok()
    };
    all.retain_mut(&mut greeted);
    println!("ready\nstood {}", all.len());
    while !Path::new("go").exists() {
        sleep(Duration::from_millis(20));
    }
    let mut echoed = 0;
    for stream in &mut all {
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut answer = [0; 4];
        if stream.write_all(b"ping").is_ok() && stream.read_exact(&mut answer).is_ok() && &answer == b"ping" {
            echoed += 1;
        }
    }
    println!("echoed {echoed}");
    Ok(())
}

/// Opens connections and says a letter of a request on each, now and then, for as long as it is let.
#[allow(clippy::print_stdout, reason = "what the test reads")]
fn dribble(address: &str, count: usize) -> std::io::Result<()> {
    let mut all = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"GET /slow HTTP/1.1\r\nX-Slow: ")?;
        stream.set_nonblocking(true)?;
        all.push(stream);
    }
    let (begun, mut ended, mut told) = (Instant::now(), 0, 0);
    while !all.is_empty() && begun.elapsed() < Duration::from_secs(30) {
        all.retain_mut(|stream| {
            let mut answer = [0; 4096];
            match stream.read(&mut answer) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => stream.write_all(b"x").is_ok(),
                read => {
                    ended += 1;
                    told += usize::from(read.is_ok() && answer.starts_with(b"HTTP/1.1 408 "));
                    false
                }
            }
        });
        sleep(Duration::from_millis(250));
    }
    println!("ended {ended} told {told}");
    Ok(())
}

/// Asks for names that nobody allowed, and for nothing that makes sense, and hears no answer.
#[allow(clippy::print_stdout, reason = "what the test reads")]
fn ask(domain: &str, count: usize) -> std::io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect("198.18.0.1:53")?;
    for number in 0..count {
        let [high, low] = u16::try_from(number % 65536).unwrap_or(0).to_be_bytes();
        let mut question = vec![high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in format!("n{number}.{domain}").split('.') {
            question.push(u8::try_from(label.len()).unwrap_or(0));
            question.extend_from_slice(label.as_bytes());
        }
        question.extend_from_slice(&[0, 0, 1, 0, 1]);
        if number % 10 == 0 {
            question.truncate(20);
        }
        // Who asks faster than the socket takes it loses the question.
        let _ = socket.send(&question);
    }
    println!("asked {count}");
    Ok(())
}
