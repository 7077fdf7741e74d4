//! Answers the jail's questions about names: allowed names get an address of the pool, others a refusal with its reason.
//! Nothing is asked of anybody.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::message::{self, Answer, Kind, Parsed};
use crate::policy::reason::Reason;
use crate::proxy::bounds;
use crate::proxy::caller::Caller;
use crate::proxy::gate::{Refusal, Wanted};
use crate::proxy::listen;
use crate::proxy::shared::Shared;
use crate::sys::net;

/// Answers datagrams for ever.
pub async fn datagrams(shared: Arc<Shared>, socket: UdpSocket) {
    let mut buffer = vec![0; message::MAX_QUERY.saturating_add(1)];
    let socket = Arc::new(socket);
    let own = socket.local_addr().ok();
    loop {
        let received = socket.async_io(Interest::READABLE, || net::receive(&*socket, &mut buffer)).await;
        match received {
            Ok(datagram) => {
                let question = buffer.get(..datagram.length).unwrap_or_default();
                let Some(mut reply) = answer(&shared, question) else { continue };
                if let (Some(refusal), Some(own)) = (&mut reply.refusal, own)
                    && shared.ledger.has_room()
                {
                    let asked = SocketAddr::new(datagram.to, own.port());
                    refusal.wanted.caller = shared.callers.of_datagram(datagram.from, asked);
                }
                match reply.refusal.take() {
                    Some(refusal) if refusal.wanted.caller.is_sought() => {
                        let (task, socket) = (Arc::clone(&shared), Arc::clone(&socket));
                        shared.spawn(async move {
                            task.refused(&refusal).await;
                            say(&socket, &datagram, &reply.bytes);
                        });
                    }
                    refusal => {
                        refusal.iter().for_each(|refusal| shared.ledger.refused(refusal));
                        say(&socket, &datagram, &reply.bytes);
                    }
                }
            }
            // An answer that nobody took comes back as an error of the socket.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(_) => sleep(bounds::ACCEPT_PAUSE).await,
        }
    }
}

/// Sends an answer; who does not take it asks again.
fn say(socket: &UdpSocket, datagram: &net::Datagram, answer: &[u8]) {
    let _ = socket.try_io(Interest::WRITABLE, || net::answer(socket, datagram, answer));
}

/// Accepts connections for ever.
pub async fn streams(shared: Arc<Shared>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(bounds::DNS_CONNECTIONS));
    let own: Vec<SocketAddr> = listener.local_addr().into_iter().collect();
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let caller = net::original_destination(&stream, &own)
                    .map_or_else(|_| Caller::default(), |original| shared.callers.of_connection(from, original));
                let task = Arc::clone(&shared);
                shared.spawn(async move {
                    // A question that does not come in time is not answered.
                    let _ = timeout(bounds::FIRST_WORDS, stream_of_questions(&task, stream, caller)).await;
                    drop(place);
                });
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) if listen::is_lost(&error) => return shared.ledger.fail(listen::lost(&error)),
            Err(_) => sleep(bounds::ACCEPT_PAUSE).await,
        }
    }
}

/// Answers the questions of one connection, each with its length before it (RFC 1035 section 4.2.2).
async fn stream_of_questions(shared: &Shared, mut stream: TcpStream, caller: Caller) -> io::Result<()> {
    loop {
        let length = usize::from(stream.read_u16().await?);
        if length > message::MAX_QUERY {
            return Ok(());
        }
        let mut question = vec![0; length];
        stream.read_exact(&mut question).await?;
        let Some(Reply { bytes, refusal }) = answer(shared, &question) else { return Ok(()) };
        if let Some(mut refusal) = refusal {
            refusal.wanted.caller = caller.clone();
            shared.refused(&refusal).await;
        }
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await?;
    }
}

/// What is answered.
struct Reply {
    bytes: Vec<u8>,
    /// What is recorded of it.
    refusal: Option<Refusal>,
}

impl From<Vec<u8>> for Reply {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, refusal: None }
    }
}

/// The answer to one question; `None` where there is none.
fn answer(shared: &Shared, question: &[u8]) -> Option<Reply> {
    let query = match message::parse(question) {
        Parsed::Query(query) => query,
        Parsed::Reject(answer) => return Some(answer.into()),
        Parsed::Ignore => return None,
    };
    let Some(host) = &query.host else { return Some(query.answer(Answer::Denied(Reason::BadHost.sentence())).into()) };
    if let Err(refusal) = shared.gate.name(host) {
        let text = format!("{}: {}", refusal.reason.code(), refusal.reason.sentence());
        return Some(Reply { bytes: query.answer(Answer::Denied(&text)), refusal: Some(refusal) });
    }
    let Some(name) = host.name() else { return Some(query.answer(Answer::NoData).into()) };
    let mut names = shared.names();
    let addresses = names.addresses_of(name, Instant::now());
    drop(names);
    let Some(addresses) = addresses else {
        let wanted = Wanted::name(host);
        let refusal = Refusal::new(&wanted, Reason::LimitReached).detail("too many names are in use");
        return Some(Reply { bytes: query.answer(Answer::Failed), refusal: Some(refusal) });
    };
    let answer = query.answer(match query.kind {
        Kind::V4 => Answer::Address(IpAddr::V4(addresses.v4)),
        Kind::V6 => Answer::Address(IpAddr::V6(addresses.v6)),
        Kind::Other => Answer::NoData,
        Kind::Meta => Answer::NotImplemented,
    });
    Some(answer.into())
}
