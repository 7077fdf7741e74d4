//! Listeners on the host that stay alive and remember everything that reached them.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use libtest_mimic::Failed;

/// What a stream listener answers.
pub const ANSWER: &str = "CANARY_ANSWER";

/// Listeners that run until they are dropped.
#[derive(Debug)]
pub struct Canaries {
    arrived: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    files: Vec<PathBuf>,
}

impl Canaries {
    /// None yet.
    pub fn new() -> Self {
        Self { arrived: Arc::default(), stop: Arc::default(), threads: Vec::new(), files: Vec::new() }
    }

    /// Everything that arrived since the last call: who heard it.
    pub fn arrived(&self) -> Vec<String> {
        // What was sent a moment ago is in the socket's queue already; the listeners look every 2 ms.
        sleep(Duration::from_millis(50));
        std::mem::take(&mut *self.arrived.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A stream and a datagram socket by path: `NAME.stream` and `NAME.dgram`.
    pub fn unix(&mut self, directory: &Path, name: &str) -> Result<[String; 2], Failed> {
        let stream = directory.join(format!("{name}.stream"));
        let datagram = directory.join(format!("{name}.dgram"));
        self.stream(UnixListener::bind(&stream)?, &stream.display().to_string())?;
        self.datagram(UnixDatagram::bind(&datagram)?, &datagram.display().to_string())?;
        self.files.extend([stream.clone(), datagram.clone()]);
        Ok([stream.display().to_string(), datagram.display().to_string()])
    }

    /// Abstract sockets `NAME.stream` and `NAME.dgram`.
    pub fn abstract_(&mut self, name: &str) -> Result<[String; 2], Failed> {
        let [stream, datagram] = [format!("{name}.stream"), format!("{name}.dgram")];
        self.stream(UnixListener::bind_addr(&SocketAddr::from_abstract_name(&stream)?)?, &stream)?;
        self.datagram(UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&datagram)?)?, &datagram)?;
        Ok([stream, datagram])
    }

    /// A TCP listener on a free port of this address; returns `ADDRESS:PORT`.
    pub fn tcp(&mut self, address: &str) -> Result<String, Failed> {
        let listener = TcpListener::bind(format!("{address}:0"))?;
        let name = listener.local_addr()?.to_string();
        listener.set_nonblocking(true)?;
        let answer = name.clone();
        self.listen(move || {
            let (mut stream, _) = listener.accept().ok()?;
            stream.set_read_timeout(Some(Duration::from_millis(200))).ok()?;
            let _ = stream.write_all(ANSWER.as_bytes());
            let mut text = [0; 64];
            let length = stream.read(&mut text).unwrap_or(0);
            Some(format!("{answer} heard {}", String::from_utf8_lossy(&text[..length])))
        });
        Ok(name)
    }

    /// A UDP socket on a free port of this address; it answers.
    pub fn udp(&mut self, address: &str) -> Result<String, Failed> {
        let socket = UdpSocket::bind(format!("{address}:0"))?;
        let name = socket.local_addr()?.to_string();
        socket.set_nonblocking(true)?;
        let answer = name.clone();
        self.listen(move || {
            let mut text = [0; 64];
            let (length, from) = socket.recv_from(&mut text).ok()?;
            let _ = socket.send_to(ANSWER.as_bytes(), from);
            Some(format!("{answer} heard {}", String::from_utf8_lossy(&text[..length])))
        });
        Ok(name)
    }

    fn stream(&mut self, listener: UnixListener, name: &str) -> Result<(), Failed> {
        listener.set_nonblocking(true)?;
        let answer = name.to_owned();
        self.listen(move || {
            let (mut stream, _) = listener.accept().ok()?;
            let _ = stream.write_all(ANSWER.as_bytes());
            Some(format!("{answer} was connected to"))
        });
        Ok(())
    }

    fn datagram(&mut self, socket: UnixDatagram, name: &str) -> Result<(), Failed> {
        socket.set_nonblocking(true)?;
        let answer = name.to_owned();
        self.listen(move || {
            let mut text = [0; 64];
            let length = socket.recv(&mut text).ok()?;
            Some(format!("{answer} heard {}", String::from_utf8_lossy(&text[..length])))
        });
        Ok(())
    }

    fn listen(&mut self, mut poll: impl FnMut() -> Option<String> + Send + 'static) {
        let (arrived, stop) = (Arc::clone(&self.arrived), Arc::clone(&self.stop));
        self.threads.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match poll() {
                    Some(what) => arrived.lock().unwrap_or_else(PoisonError::into_inner).push(what),
                    None => sleep(Duration::from_millis(2)),
                }
            }
        }));
    }
}

impl Drop for Canaries {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        for file in &self.files {
            let _ = std::fs::remove_file(file);
        }
    }
}
