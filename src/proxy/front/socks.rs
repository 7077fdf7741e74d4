//! SOCKS 4, 4a and 5: the connection stands before the program is told so.

use tokio::time::timeout;

use super::speak::{self, Passage, Tunnel};
use crate::policy::reason::Reason;
use crate::proxy::bounds;
use crate::proxy::client::Client;
use crate::proxy::forward;
use crate::proxy::gate::{Entry, Refusal, Wanted};
use crate::proxy::parent::Use;
use crate::proxy::refuse;
use crate::proxy::shared::Shared;
use crate::proxy::socks::{GREETED, Negotiation, Reply, Request, SocksError, Step};

/// Serves a program that speaks SOCKS; what is left to do is carrying bytes. `own` is the proxy's address.
pub async fn serve(shared: &Shared, mut client: Client, own: Wanted) -> Option<Tunnel> {
    let own = Wanted { entry: Entry::Socks, ..own };
    let mut negotiation = Negotiation::default();
    let refusal = match timeout(bounds::FIRST_WORDS, negotiate(&mut client, &mut negotiation)).await {
        Ok(Some(Ok(request))) => {
            let wanted = Wanted { host: shared.meant(&request.host), port: request.port, ..own };
            let permit = shared.settle(shared.gate.admit(wanted)).await;
            let dialled = match permit {
                Ok(permit) => shared.dial(permit, Use::Tls).await,
                Err(refusal) => Err(refusal),
            };
            match dialled {
                Ok(held) => {
                    let granted = negotiation.reply(Reply::Granted);
                    forward::write_all(&client.stream, &granted, bounds::FIRST_WORDS).await.ok()?;
                    return speak::serve(shared, client, Passage::Held(held)).await;
                }
                Err(refusal) => negotiation.reply(reply(refusal.reason)),
            }
        }
        Ok(Some(Err(error))) => {
            let reason = if matches!(error, SocksError::Host(_)) { Reason::BadHost } else { Reason::BadProtocol };
            shared.refused(&Refusal::new(&own, reason).detail(error.to_string())).await;
            negotiation.refusal(&error)
        }
        Ok(None) => return None,
        Err(_) => {
            shared.refused(&Refusal::new(&own, Reason::TooSlow)).await;
            Vec::new()
        }
    };
    refuse::say(&mut client, &refusal).await;
    None
}

/// Talks until it is clear where the program wants to go; `None` when it leaves before.
async fn negotiate(client: &mut Client, negotiation: &mut Negotiation) -> Option<Result<Request, SocksError>> {
    loop {
        match negotiation.next(&client.bytes) {
            Step::More => {
                if !client.more().await.unwrap_or(false) {
                    return None;
                }
            }
            Step::Greeted(length) => {
                client.used(length);
                forward::write_all(&client.stream, &GREETED, bounds::FIRST_WORDS).await.ok()?;
            }
            Step::Connect(request) => {
                client.used(request.len);
                return Some(Ok(request));
            }
            Step::Bad(error) => return Some(Err(error)),
        }
    }
}

fn reply(reason: Reason) -> Reply {
    match reason {
        Reason::NameNotFound | Reason::Unreachable => Reply::HostUnreachable,
        Reason::TimedOut => Reply::HostUnreachable,
        Reason::LimitReached => Reply::Failure,
        _ => Reply::NotAllowed,
    }
}
