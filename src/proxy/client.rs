//! The jail's side of a connection: its socket and what was read from it and not used yet.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::caller::Caller;
use super::forward;

/// The jail's side of a connection.
#[derive(Debug)]
pub struct Client {
    /// The socket.
    pub stream: TcpStream,
    /// What was read and not used.
    pub bytes: Vec<u8>,
    /// Which program it is.
    pub caller: Caller,
}

impl Client {
    /// A connection of which nothing was read yet.
    pub fn new(stream: TcpStream, caller: Caller) -> Self {
        Self { stream, bytes: Vec::new(), caller }
    }

    /// Waits for more bytes; `false` at the end.
    pub async fn more(&mut self) -> io::Result<bool> {
        forward::read_more(&self.stream, &mut self.bytes).await.map(|read| read > 0)
    }

    /// The first byte that is not used yet; `None` when none comes in time, or ever.
    pub async fn first(&mut self, patience: Duration) -> Option<u8> {
        if self.bytes.is_empty() {
            timeout(patience, self.more()).await.ok()?.ok()?;
        }
        self.bytes.first().copied()
    }

    /// Drops the first bytes that are not used yet.
    pub fn used(&mut self, count: usize) {
        self.bytes.drain(..count.min(self.bytes.len()));
    }
}
