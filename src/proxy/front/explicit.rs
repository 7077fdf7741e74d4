//! Programs that ask for a proxy: HTTP with CONNECT or whole URLs, and SOCKS.

use std::net::SocketAddr;

use tokio::time::timeout;

use super::plain;
use super::socks;
use super::speak::{self, Passage, Tunnel};
use crate::policy::host::Host;
use crate::policy::reason::Reason;
use crate::proxy::bounds;
use crate::proxy::client::Client;
use crate::proxy::forward;
use crate::proxy::gate::{Entry, Refusal, Wanted};
use crate::proxy::http::head::{Progress, is_token_byte};
use crate::proxy::http::request::{Request, Target};
use crate::proxy::parent::Use;
use crate::proxy::refuse;
use crate::proxy::shared::Shared;

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// Serves a connection to the proxy's own address; what is left to do is carrying bytes.
pub async fn serve(shared: &Shared, mut client: Client, own: SocketAddr) -> Option<Tunnel> {
    let host = Host::Address(own.ip());
    let own = Wanted { entry: Entry::Forward, host, port: own.port(), caller: client.caller.clone() };
    match client.first(bounds::FIRST_WORDS).await? {
        4 | 5 => socks::serve(shared, client, own).await,
        byte if is_token_byte(byte) => {
            // Whether the head is well-formed is looked at where the request is decided.
            let wants_connect = timeout(bounds::FIRST_WORDS, is_connect(&mut client)).await.unwrap_or(Some(false))?;
            if wants_connect { connect(shared, client, own).await } else { plain::serve_any(shared, client, own).await }
        }
        first => {
            let refusal = Refusal::new(&own, Reason::BadProtocol).detail("a proxy is asked in HTTP or SOCKS");
            shared.refused(&refusal).await;
            if first == refuse::TLS {
                refuse::tls(client, &refusal).await;
            } else {
                forward::reset(&client.stream);
            }
            None
        }
    }
}

/// Whether the request is a CONNECT; `None` when the program leaves before that is clear.
async fn is_connect(client: &mut Client) -> Option<bool> {
    const METHOD: &[u8] = b"CONNECT ";
    loop {
        let start = client.bytes.get(..METHOD.len()).unwrap_or(&client.bytes);
        if !METHOD.starts_with(start) {
            return Some(false);
        }
        if start.len() == METHOD.len() {
            return Some(true);
        }
        if !client.more().await.unwrap_or(false) {
            return None;
        }
    }
}

/// Serves `CONNECT host:port`: the connection stands before the program is told so.
async fn connect(shared: &Shared, mut client: Client, own: Wanted) -> Option<Tunnel> {
    let own = Wanted { entry: Entry::Connect, ..own };
    let read = timeout(bounds::FIRST_WORDS, async {
        loop {
            match Request::parse(&client.bytes) {
                Progress::More => {}
                Progress::Bad(error) => return Err(Some(error)),
                Progress::Head(request) => {
                    let authority = request.authority.filter(|_| request.target == Target::Connect);
                    return Ok((authority, request.head.len));
                }
            }
            if !client.more().await.unwrap_or(false) {
                return Err(None);
            }
        }
    });
    let (wanted, status) = match read.await {
        Ok(Ok((Some(authority), length))) => {
            client.used(length);
            let port = authority.port_or(443);
            (Ok(Wanted { host: shared.meant(&authority.host), port, ..own }), None)
        }
        Ok(Ok((None, _))) => (Err(Refusal::new(&own, Reason::BadRequest)), None),
        Ok(Err(None)) => return None,
        Ok(Err(Some(error))) => (Err(plain::bad_request(&own, &error)), Some(error.status())),
        Err(_) => {
            let refusal = Refusal::new(&own, Reason::TooSlow);
            (Err(refusal), Some(408))
        }
    };
    let permit = shared.settle(wanted.and_then(|wanted| shared.gate.admit(wanted))).await;
    let dialled = match permit {
        Ok(permit) => shared.dial(permit, Use::Tls).await,
        Err(refusal) => Err(refusal),
    };
    match dialled {
        Ok(held) => {
            forward::write_all(&client.stream, ESTABLISHED, bounds::FIRST_WORDS).await.ok()?;
            speak::serve(shared, client, Passage::Held(held)).await
        }
        Err(refusal) => {
            refuse::http(&mut client, &refusal, status, false).await;
            None
        }
    }
}
