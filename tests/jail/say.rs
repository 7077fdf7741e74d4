//! A client that says exactly what it is told: `jail-tests say ADDRESS STEP…` prints what comes back.
//!
//! Steps: `send:TEXT` (with `\r`, `\n`, `\xNN`), `read:N` (so many bytes), `answer` (what comes within a second),
//! `head` (up to an empty line), `tls:NAME:CA` (from here on TLS, with this server name and authority), `end` (to the
//! end of the stream), `shut` (sends no more), `sleep:MS`.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }
}

/// Runs it.
pub fn run(arguments: &[String]) -> ExitCode {
    let mut out = Vec::new();
    let result = say(arguments, &mut out);
    let _ = io::stdout().write_all(&out);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stdout(), "[{error}]");
            ExitCode::FAILURE
        }
    }
}

fn say(arguments: &[String], out: &mut Vec<u8>) -> io::Result<()> {
    let [address, steps @ ..] = arguments else { return Err(io::Error::other("no address")) };
    let mut stream = Stream::Plain(TcpStream::connect(address)?);
    stream.socket().set_read_timeout(Some(Duration::from_secs(30)))?;
    for step in steps {
        let (verb, rest) = step.split_once(':').unwrap_or((step, ""));
        match verb {
            "send" => stream.write(&unescape(rest))?,
            "read" => {
                let mut buffer = vec![0; rest.parse().map_err(io::Error::other)?];
                let mut filled = 0;
                while filled < buffer.len() {
                    match stream.read(&mut buffer[filled..])? {
                        0 => break,
                        read => filled += read,
                    }
                }
                out.extend_from_slice(&buffer[..filled]);
            }
            "head" => {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
                    head.push(byte[0]);
                }
                out.extend_from_slice(&head);
            }
            "answer" => {
                stream.socket().set_read_timeout(Some(Duration::from_secs(1)))?;
                let mut buffer = [0; 65536];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    out.extend_from_slice(&buffer[..read]);
                    stream.socket().set_read_timeout(Some(Duration::from_millis(200)))?;
                }
                stream.socket().set_read_timeout(Some(Duration::from_secs(30)))?;
            }
            "end" => {
                let mut buffer = [0; 65536];
                loop {
                    match stream.read(&mut buffer)? {
                        0 => break,
                        read => out.extend_from_slice(&buffer[..read]),
                    }
                }
            }
            "shut" => stream.socket().shutdown(Shutdown::Write)?,
            "sleep" => std::thread::sleep(Duration::from_millis(rest.parse().map_err(io::Error::other)?)),
            "tls" => stream = tls(stream, rest)?,
            _ => return Err(io::Error::other(format!("no such step: {step}"))),
        }
    }
    Ok(())
}

fn tls(stream: Stream, how: &str) -> io::Result<Stream> {
    let (name, ca) = how.split_once(':').ok_or_else(|| io::Error::other("tls:NAME:CA"))?;
    let Stream::Plain(stream) = stream else { return Err(io::Error::other("TLS already")) };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).map_err(io::Error::other)?).map_err(io::Error::other)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    stream.conn.complete_io(&mut stream.sock)?;
    Ok(Stream::Tls(Box::new(stream)))
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'\\', [b'r', tail @ ..]) => {
                bytes.push(b'\r');
                rest = tail;
            }
            (b'\\', [b'n', tail @ ..]) => {
                bytes.push(b'\n');
                rest = tail;
            }
            (b'\\', [b'x', high, low, tail @ ..]) => {
                let digits = [*high, *low];
                let value = std::str::from_utf8(&digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
                bytes.push(value.unwrap_or(b'?'));
                rest = tail;
            }
            _ => bytes.push(*first),
        }
    }
    bytes
}
