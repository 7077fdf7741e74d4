//! Servers on the host's loopback that stand for the Internet: each keeps exactly what arrived, connection by connection.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use libtest_mimic::Failed;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What a server answers when nothing else is asked for.
pub const ANSWER: &str = "ORIGIN_ANSWER";

/// A certificate authority that the programs inside are told to trust.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    /// A new one, whose certificate lies in this file.
    pub fn new(file: &Path) -> Result<Self, Failed> {
        let mut params = CertificateParams::new(Vec::new())?;
        // Another name than its certificates have, or OpenSSL takes those for signed by themselves.
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Strict clients, such as Python from 3.13 on, insist on it.
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        fs::write(file, issuer.pem())?;
        Ok(Self { issuer, file: file.to_owned() })
    }

    /// The file with its certificate.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// A certificate for these names and its key, as PEM.
    pub fn certificate(&self, names: &[&str]) -> Result<(String, String), Failed> {
        let (certificate, key) = self.sign(names)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    fn sign(&self, names: &[&str]) -> Result<(rcgen::Certificate, KeyPair), Failed> {
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.use_authority_key_identifier_extension = true;
        Ok((params.signed_by(&key, &self.issuer)?, key))
    }

    fn config(&self, names: &[&str]) -> Result<Arc<ServerConfig>, Failed> {
        let (certificate, key) = self.sign(names)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        Ok(Arc::new(config))
    }
}

/// One connection, as far as it has come.
#[derive(Debug, Clone, Default)]
pub struct Arrived {
    /// What the client said, decrypted where the server speaks TLS.
    pub bytes: Vec<u8>,
    /// The server name of its TLS hello.
    pub server_name: Option<String>,
}

impl Arrived {
    /// The bytes as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    arrived: Log,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

type Log = Arc<Mutex<Vec<Arrived>>>;

/// Says something on an accepted connection.
type Serve = dyn Fn(TcpStream, Recorder) -> io::Result<()> + Send + Sync;

impl Origin {
    /// Plain HTTP/1.1. `/bytes/N` is N bytes, `/chunked/N` the same in chunks, `/echo` what was sent, anything else
    /// [`ANSWER`].
    pub fn http(address: &str) -> Result<Self, Failed> {
        Self::http_with(address, answer)
    }

    /// Plain HTTP/1.1 with answers of the test's own.
    pub fn http_with(address: &str, answers: impl Answers) -> Result<Self, Failed> {
        Self::start(address, move |stream, log| serve_http(&mut Tee { stream, log }, &answers))
    }

    /// The same over TLS, with a certificate for these names.
    pub fn https(address: &str, authority: &Authority, names: &[&str]) -> Result<Self, Failed> {
        Self::https_with(address, authority, names, answer)
    }

    /// HTTP/1.1 over TLS with answers of the test's own.
    pub fn https_with(
        address: &str,
        authority: &Authority,
        names: &[&str],
        answers: impl Answers,
    ) -> Result<Self, Failed> {
        let config = authority.config(names)?;
        Self::start(address, move |stream, log| {
            let connection = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
            let mut tls = StreamOwned::new(connection, stream);
            tls.conn.complete_io(&mut tls.sock)?;
            log.server_name(tls.conn.server_name());
            let mut tls = Tee { stream: tls, log };
            serve_http(&mut tls, &answers)?;
            tls.stream.conn.send_close_notify();
            tls.flush()
        })
    }

    /// Keeps what comes, says `greeting` first, and sends everything back.
    pub fn raw(address: &str, greeting: &'static [u8]) -> Result<Self, Failed> {
        Self::start(address, move |stream, log| {
            let mut stream = Tee { stream, log };
            stream.write_all(greeting)?;
            let mut buffer = [0; 65536];
            loop {
                match stream.read(&mut buffer)? {
                    0 => return Ok(()),
                    read => stream.write_all(&buffer[..read])?,
                }
            }
        })
    }

    /// Any server: `serve` runs on a thread for each connection.
    pub fn start(
        address: &str,
        serve: impl Fn(TcpStream, Recorder) -> io::Result<()> + Send + Sync + 'static,
    ) -> Result<Self, Failed> {
        let listener = TcpListener::bind(format!("{address}:0"))?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let (arrived, stop) = (Log::default(), Arc::new(AtomicBool::new(false)));
        let serve: Arc<Serve> = Arc::new(serve);
        let thread = std::thread::spawn({
            let (arrived, stop) = (Arc::clone(&arrived), Arc::clone(&stop));
            move || accept(&listener, &arrived, &stop, &serve)
        });
        Ok(Self { address, arrived, stop, thread: Some(thread) })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Every connection so far.
    pub fn connections(&self) -> Vec<Arrived> {
        // What was sent a moment ago is in the socket's queue already.
        sleep(Duration::from_millis(50));
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What came on all connections, one after the other.
    pub fn text(&self) -> String {
        self.connections().iter().map(Arrived::text).collect()
    }

    /// Forgets what arrived.
    pub fn forget(&self) {
        let _ = self.connections();
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, arrived: &Log, stop: &AtomicBool, serve: &Arc<Serve>) {
    while !stop.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            sleep(Duration::from_millis(2));
            continue;
        };
        let index = {
            let mut all = arrived.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(Arrived::default());
            all.len() - 1
        };
        let log = Recorder { log: Arc::clone(arrived), index };
        let serve = Arc::clone(serve);
        // Left alone when the test is over: it ends with its connection.
        std::thread::spawn(move || {
            let _ = stream.set_nonblocking(false);
            let _ = stream.set_nodelay(true);
            let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
            let _ = serve(stream, log);
        });
    }
}

/// Keeps what arrives on one connection.
#[derive(Debug, Clone)]
pub struct Recorder {
    log: Log,
    index: usize,
}

impl Recorder {
    /// Notes bytes.
    pub fn bytes(&self, bytes: &[u8]) {
        self.with(|arrived| arrived.bytes.extend_from_slice(bytes));
    }

    fn server_name(&self, name: Option<&str>) {
        self.with(|arrived| arrived.server_name = name.map(str::to_owned));
    }

    fn with(&self, note: impl FnOnce(&mut Arrived)) {
        // The test may have forgotten it.
        if let Some(arrived) = self.log.lock().unwrap_or_else(PoisonError::into_inner).get_mut(self.index) {
            note(arrived);
        }
    }
}

/// A stream that keeps what is read from it.
#[derive(Debug)]
pub struct Tee<S> {
    /// The stream.
    pub stream: S,
    /// Where it is kept.
    pub log: Recorder,
}

impl<S: Read> Read for Tee<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.log.bytes(&buffer[..read.min(4096)]);
        Ok(read)
    }
}

impl<S: Write> Write for Tee<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A request that arrived.
#[derive(Debug)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The whole head.
    pub head: String,
    /// The body, without its framing.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// What a request is answered with.
pub enum Response {
    /// A status, fields (`Name: value`) and a body.
    Whole(u16, Vec<String>, Vec<u8>),
    /// A body in chunks.
    Chunked(Vec<u8>),
    /// Whatever this says on the connection, which is closed then.
    Own(Box<Speak>),
}

/// Says something on a connection.
pub type Speak = dyn FnOnce(&mut dyn Stream) -> io::Result<()>;

impl Response {
    /// 200 with a body.
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::Whole(200, Vec::new(), body.into())
    }
}

/// Both directions of a connection.
pub trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

/// Answers requests.
pub trait Answers: Fn(&Request) -> Response + Send + Sync + 'static {}

impl<F: Fn(&Request) -> Response + Send + Sync + 'static> Answers for F {}

/// What an origin answers when the test says nothing else.
pub fn answer(request: &Request) -> Response {
    let number = |prefix: &str| request.target.strip_prefix(prefix).and_then(|rest| rest.parse::<usize>().ok());
    match (number("/bytes/"), number("/chunked/"), request.target.as_str()) {
        (Some(length), ..) => Response::ok(vec![b'x'; length]),
        (_, Some(length), _) => Response::Chunked(vec![b'y'; length]),
        (.., "/echo") => Response::ok(request.body.clone()),
        _ => Response::ok(ANSWER),
    }
}

/// Serves requests until the client leaves.
fn serve_http(stream: &mut (impl Read + Write), answers: &impl Answers) -> io::Result<()> {
    let mut read = Vec::new();
    let mut buffer = [0; 65536];
    loop {
        let head = loop {
            if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
                break String::from_utf8_lossy(&read.drain(..end + 4).collect::<Vec<u8>>()).into_owned();
            }
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                more => read.extend_from_slice(&buffer[..more]),
            }
        };
        let mut words = head.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut request = Request { method, target, head, body: Vec::new() };
        if request.field("expect").is_some() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        request.body = if request.field("transfer-encoding").is_some() {
            chunks(stream, &mut read)?
        } else {
            let length = request.field("content-length").and_then(|length| length.parse().ok());
            exactly(stream, &mut read, length.unwrap_or(0))?
        };
        let mut answer = Vec::new();
        match answers(&request) {
            Response::Own(speak) => {
                speak(stream)?;
                return stream.flush();
            }
            Response::Whole(status, fields, body) => {
                let length = body.len();
                write!(answer, "HTTP/1.1 {status} OK\r\nAlt-Svc: h3=\":443\"\r\nContent-Length: {length}\r\n")?;
                for field in fields {
                    write!(answer, "{field}\r\n")?;
                }
                answer.extend_from_slice(b"\r\n");
                if request.method != "HEAD" {
                    answer.extend_from_slice(&body);
                }
            }
            Response::Chunked(body) => {
                answer.extend_from_slice(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                for chunk in body.chunks(1000) {
                    write!(answer, "{:x}\r\n", chunk.len())?;
                    answer.extend_from_slice(chunk);
                    answer.extend_from_slice(b"\r\n");
                }
                answer.extend_from_slice(b"0\r\n\r\n");
            }
        }
        stream.write_all(&answer)?;
        stream.flush()?;
        if request.field("connection").is_some_and(|value| value == "close") {
            return Ok(());
        }
    }
}

fn exactly(stream: &mut impl Read, read: &mut Vec<u8>, length: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 65536];
    while read.len() < length {
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => read.extend_from_slice(&buffer[..more]),
        }
    }
    Ok(read.drain(..length).collect())
}

fn chunks(stream: &mut impl Read, read: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        while !read.windows(2).any(|window| window == b"\r\n") {
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => read.extend_from_slice(&buffer[..more]),
            }
        }
        let end = read.windows(2).position(|window| window == b"\r\n").unwrap_or(0);
        let line: Vec<u8> = read.drain(..end + 2).collect();
        let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).map_err(io::Error::other)?;
        let chunk = exactly(stream, read, size + 2)?;
        body.extend_from_slice(&chunk[..size]);
        if size == 0 {
            return Ok(body);
        }
    }
}
