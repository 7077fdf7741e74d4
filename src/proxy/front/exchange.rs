//! One request and its answer between two sockets, both at once: a host may answer before it has read everything.

use std::os::fd::AsRawFd;
use std::pin::pin;

use nix::sys::socket::{Shutdown, shutdown};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::body::Relay;
use crate::proxy::client::Client;
use crate::proxy::dial::Upstream;
use crate::proxy::forward::{self, Fault};
use crate::proxy::http::body::Framing;
use crate::proxy::http::head::Progress;
use crate::proxy::http::response::{Exchange, Kind};
use crate::proxy::shared::Shared;

/// A request that the program sent, as far as it is needed while its answer is passed on.
#[derive(Debug)]
pub struct Asked {
    /// Reads the answers.
    pub exchange: Exchange,
    /// Of the request's body.
    pub framing: Framing,
    /// Whether the method is HEAD.
    pub is_head: bool,
    /// Whether the method is one that may be repeated (RFC 9110 section 9.2.1).
    pub is_safe: bool,
}

impl Asked {
    /// Whether bytes of the request follow its head.
    pub fn has_body(&self) -> bool {
        !matches!(self.framing, Framing::None | Framing::Length(0))
    }
}

/// How it ended.
#[derive(Debug)]
pub struct Exchanged {
    /// What came back.
    pub received: Received,
    /// Whether the whole request was taken by the host, and the program can still send.
    pub all_sent: bool,
}

/// What came back.
#[derive(Debug)]
pub enum Received {
    /// A whole answer, and who of the two would go on.
    Whole {
        /// The host takes another request.
        server: bool,
        /// The program may send one.
        client: bool,
    },
    /// A change of protocol.
    Switched,
    /// Not a byte.
    Nothing,
    /// Nothing for too long.
    Late,
    /// No answer in HTTP.
    Bad(String),
    /// One side broke off in the middle.
    Broken,
}

/// Sends a request, of which `head` is the head, and passes on the answer.
pub async fn pass(
    shared: &Shared,
    client: &mut Client,
    upstream: &Upstream,
    asked: &mut Asked,
    head: Vec<u8>,
) -> Exchanged {
    let has_body = asked.has_body();
    let framing = asked.framing;
    let Client { stream: client, bytes: ahead, .. } = client;
    let (server, tally) = (upstream.stream(), upstream.opened().tally());
    let patience = shared.limits.idle_time;
    let up = Relay { from: client, to: server, pipes: &shared.pipes, patience };
    let mut sending = pin!(async {
        let sent = up.pass(head, ahead, framing, framing).await;
        sent.inspect(|sent| tally.add_up(*sent))
    });
    let mut sent = None;
    if !has_body {
        if sending.as_mut().await.is_err() {
            return Exchanged { received: Received::Nothing, all_sent: false };
        }
        sent = Some(true);
    }
    let mut receiving = pin!(receive(shared, server, client, &mut asked.exchange, upstream));
    let mut leaving = pin!(left(client));
    let mut gone = false;
    let received = loop {
        tokio::select! {
            biased;
            done = &mut sending, if sent.is_none() => {
                sent = Some(done.is_ok());
                // A host that stops reading may still answer. A program that broke off waits for no answer.
                if done == Err(Fault::Sender) {
                    break Received::Broken;
                }
            }
            received = &mut receiving => break received,
            () = &mut leaving, if sent == Some(true) && !gone => {
                gone = true;
                // The host is told what it would be told without the proxy, and may still answer.
                let _ = shutdown(server.as_raw_fd(), Shutdown::Write);
            }
        }
    };
    Exchanged { received, all_sent: sent == Some(true) && !gone }
}

/// Passes on the answers to one request.
async fn receive(
    shared: &Shared,
    server: &TcpStream,
    client: &TcpStream,
    exchange: &mut Exchange,
    upstream: &Upstream,
) -> Received {
    let tally = upstream.opened().tally();
    let patience = shared.limits.idle_time;
    let mut read = Vec::new();
    let mut out = Vec::new();
    loop {
        let parsed = if read.is_empty() { Progress::More } else { exchange.parse(&read) };
        let response = match parsed {
            Progress::Head(response) => response,
            Progress::Bad(error) => return Received::Bad(error.to_string()),
            Progress::More => match timeout(patience, forward::read_more(server, &mut read)).await {
                Ok(Ok(more)) if more > 0 => continue,
                Err(_) => return Received::Late,
                Ok(_) if read.is_empty() => return Received::Nothing,
                Ok(_) => return Received::Bad("the host broke off in the head of its answer".to_owned()),
            },
        };
        let (server_keeps, client_keeps) = (response.server_keeps_alive(), exchange.keeps_alive(&response));
        exchange.write(&response, false, &mut out);
        let (kind, length) = (response.kind, response.head.len);
        read.drain(..length.min(read.len()));
        let Kind::Final(framing) = kind else {
            let switched = kind != Kind::Interim;
            if switched {
                out.append(&mut read);
            }
            if forward::write_all(client, &out, patience).await.is_err() {
                return Received::Broken;
            }
            tally.add_down(out.len() as u64);
            out.clear();
            if switched {
                return Received::Switched;
            }
            continue;
        };
        let delivered = exchange.delivered(framing);
        let down = Relay { from: server, to: client, pipes: &shared.pipes, patience };
        return match down.pass(out, &mut read, framing, delivered).await {
            Ok(passed) => {
                tally.add_down(passed);
                // What came behind the answer is an answer to nothing.
                Received::Whole { server: server_keeps && read.is_empty(), client: client_keeps }
            }
            Err(_) => Received::Broken,
        };
    }
}

/// Waits until the program sends no more.
async fn left(client: &TcpStream) {
    match client.peek(&mut [0]).await {
        Ok(0) | Err(_) => {}
        // It sends its next request ahead.
        Ok(_) => std::future::pending().await,
    }
}
