//! Programs that connect to a host and know nothing of a proxy.

use std::net::SocketAddr;

use super::speak::{self, Passage, Tunnel};
use crate::proxy::client::Client;
use crate::proxy::gate::{Entry, Wanted};
use crate::proxy::refuse;
use crate::proxy::shared::Shared;

/// Serves a connection to this address; what is left to do is carrying bytes.
pub async fn serve(shared: &Shared, client: Client, original: SocketAddr) -> Option<Tunnel> {
    let wanted = Wanted {
        entry: Entry::Transparent,
        host: shared.host_at(original.ip()),
        port: original.port(),
        caller: client.caller.clone(),
    };
    match shared.gate.admit(wanted) {
        Ok(permit) => speak::serve(shared, client, Passage::Permit(permit)).await,
        Err(refusal) => {
            shared.refused(&refusal).await;
            refuse::in_kind(client, &refusal).await;
            None
        }
    }
}
