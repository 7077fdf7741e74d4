//! Passing on the body of an HTTP message: what was read goes first, bulk goes without being looked at, and chunks are
//! written anew.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::proxy::bounds;
use crate::proxy::forward::{self, Fault};
use crate::proxy::http::body::{self, Body, Framing};
use crate::proxy::pipes::Pipes;

/// One direction of an exchange.
#[derive(Debug)]
pub struct Relay<'a> {
    /// Who sends.
    pub from: &'a TcpStream,
    /// Who receives.
    pub to: &'a TcpStream,
    /// For bulk.
    pub pipes: &'a Arc<Pipes>,
    /// How long nothing may come.
    pub patience: Duration,
}

impl Relay<'_> {
    /// Writes `out`, which holds the head of the message, and then the body. `read` holds what was read behind the head;
    /// afterwards, what came behind the body. Returns how many bytes were written.
    pub async fn pass(
        &self,
        mut out: Vec<u8>,
        read: &mut Vec<u8>,
        framing: Framing,
        delivered: Framing,
    ) -> Result<u64, Fault> {
        let mut body = Body::new(framing);
        let chunked = delivered == Framing::Chunked;
        let mut written = 0_u64;
        loop {
            let mut used = 0_usize;
            loop {
                let rest = read.get(used..).unwrap_or_default();
                let piece = body.next(rest).map_err(|_| Fault::Sender)?;
                let payload = rest.get(piece.skip..).and_then(|rest| rest.get(..piece.payload)).unwrap_or_default();
                if chunked {
                    body::write_chunk(payload, &mut out);
                } else {
                    out.extend_from_slice(payload);
                }
                used = used.saturating_add(piece.skip).saturating_add(piece.payload);
                if piece.done || piece.skip == 0 && piece.payload == 0 {
                    break;
                }
            }
            read.drain(..used.min(read.len()));
            let done = body.is_done();
            if done && chunked {
                out.extend_from_slice(body::LAST_CHUNK);
            }
            if !out.is_empty() && (done || out.len() >= bounds::GATHER || read.is_empty()) {
                self.write(&out).await?;
                written = written.saturating_add(out.len() as u64);
                out.clear();
            }
            if done {
                return Ok(written);
            }
            // Nothing that was read is left: the rest can go from socket to socket.
            let unread = body.unread();
            if read.is_empty() && unread >= bounds::UNSEEN {
                if framing == Framing::UntilClose && !chunked {
                    let moved = forward::until_end(self.from, self.to, self.pipes, self.patience).await?;
                    return Ok(written.saturating_add(moved));
                }
                if framing != Framing::UntilClose {
                    if chunked {
                        body::write_chunk_head(unread, &mut out);
                        self.write(&out).await?;
                        out.clear();
                    }
                    forward::exactly(self.from, self.to, self.pipes, unread, self.patience).await?;
                    body.passed(unread);
                    written = written.saturating_add(unread);
                    if chunked {
                        out.extend_from_slice(b"\r\n");
                    }
                    continue;
                }
            }
            let more = timeout(self.patience, forward::read_more(self.from, read)).await;
            if more.map_err(|_| Fault::Sender)?.map_err(|_| Fault::Sender)? == 0 {
                body.closed().map_err(|_| Fault::Sender)?;
                if chunked {
                    self.write(body::LAST_CHUNK).await?;
                }
                return Ok(written);
            }
        }
    }

    async fn write(&self, bytes: &[u8]) -> Result<(), Fault> {
        forward::write_all(self.to, bytes, self.patience).await.map_err(|_| Fault::Receiver)
    }
}
