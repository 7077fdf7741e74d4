//! Answers the jail's questions about names: allowed names get an address of the pool, others a refusal with its reason.
//! Nothing is asked of anybody.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::message::{self, Answer, Kind, Parsed};
use crate::policy::reason::Reason;
use crate::proxy::bounds;
use crate::proxy::gate::{Entry, Refusal, Wanted};
use crate::proxy::listen;
use crate::proxy::shared::Shared;

/// Answers datagrams for ever.
pub async fn datagrams(shared: Arc<Shared>, socket: UdpSocket) {
    let mut buffer = vec![0; message::MAX_QUERY.saturating_add(1)];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => {
                if let Some(answer) = answer(&shared, buffer.get(..length).unwrap_or_default()) {
                    // Who does not take the answer asks again.
                    let _ = socket.try_send_to(&answer, from);
                }
            }
            // An answer that nobody took comes back as an error of the socket.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(_) => sleep(bounds::ACCEPT_PAUSE).await,
        }
    }
}

/// Accepts connections for ever.
pub async fn streams(shared: Arc<Shared>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(bounds::DNS_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let task = Arc::clone(&shared);
                shared.spawn(async move {
                    // A question that does not come in time is not answered.
                    let _ = timeout(bounds::FIRST_WORDS, stream_of_questions(&task, stream)).await;
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
async fn stream_of_questions(shared: &Shared, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let length = usize::from(stream.read_u16().await?);
        if length > message::MAX_QUERY {
            return Ok(());
        }
        let mut question = vec![0; length];
        stream.read_exact(&mut question).await?;
        let Some(answer) = answer(shared, &question) else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await?;
    }
}

/// The answer to one question; `None` where there is none.
fn answer(shared: &Shared, question: &[u8]) -> Option<Vec<u8>> {
    let query = match message::parse(question) {
        Parsed::Query(query) => query,
        Parsed::Reject(answer) => return Some(answer),
        Parsed::Ignore => return None,
    };
    let Some(host) = &query.host else { return Some(query.answer(Answer::Denied(Reason::BadHost.sentence()))) };
    if let Err(refusal) = shared.gate.name(host) {
        shared.ledger.refused(&refusal);
        let text = format!("{}: {}", refusal.reason.code(), refusal.reason.sentence());
        return Some(query.answer(Answer::Denied(&text)));
    }
    let Some(name) = host.name() else { return Some(query.answer(Answer::NoData)) };
    let mut names = shared.names();
    let addresses = names.addresses_of(name, Instant::now());
    drop(names);
    let Some(addresses) = addresses else {
        let wanted = Wanted { entry: Entry::Dns, host: host.clone(), port: 0 };
        shared.ledger.refused(&Refusal::new(&wanted, Reason::LimitReached).detail("too many names are in use"));
        return Some(query.answer(Answer::Failed));
    };
    Some(query.answer(match query.kind {
        Kind::V4 => Answer::Address(IpAddr::V4(addresses.v4)),
        Kind::V6 => Answer::Address(IpAddr::V6(addresses.v6)),
        Kind::Other => Answer::NoData,
        Kind::Meta => Answer::NotImplemented,
    }))
}
