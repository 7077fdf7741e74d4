//! What a program says once it is clear where it wants to go: TLS, plain HTTP, or anything where a rule says so.

use tokio::time::timeout;

use super::plain;
use crate::policy::reason::Reason;
use crate::proxy::bounds;
use crate::proxy::client::Client;
use crate::proxy::dial::{Held, Upstream};
use crate::proxy::forward::{self, Patience};
use crate::proxy::gate::{self, Clearance, Permit, Refusal, Speech};
use crate::proxy::hello::{self, Progress};
use crate::proxy::http::head::is_token_byte;
use crate::proxy::parent::Use;
use crate::proxy::refuse;
use crate::proxy::shared::Shared;

/// How far a connection out has come.
#[derive(Debug)]
pub enum Passage {
    /// It may be opened.
    Permit(Permit),
    /// It stands: the program waited for that before it speaks.
    Held(Held),
}

impl Passage {
    /// The permit.
    pub fn permit(&self) -> &Permit {
        match self {
            Self::Permit(permit) => permit,
            Self::Held(held) => held.permit(),
        }
    }

    /// Opens the connection, if it is not, for what was cleared.
    pub async fn open(self, shared: &Shared, clearance: &Clearance, purpose: Use) -> Result<Upstream, Refusal> {
        let held = match self {
            Self::Permit(permit) => shared.dial(permit, purpose).await?,
            Self::Held(held) => held,
        };
        shared.settle(held.open(clearance, &shared.ledger)).await
    }
}

/// Two sockets between which bytes are carried from now on.
#[derive(Debug)]
pub struct Tunnel {
    client: Client,
    upstream: Upstream,
}

impl Tunnel {
    /// A tunnel.
    pub fn new(client: Client, upstream: Upstream) -> Self {
        Self { client, upstream }
    }

    /// Passes on what was already read on both sides. `None` when one does not take it.
    pub async fn start(mut self, shared: &Shared) -> Option<Self> {
        let first = std::mem::take(&mut self.client.bytes);
        if forward::write_all(self.upstream.stream(), &first, shared.limits.connect_time).await.is_err() {
            forward::reset(&self.client.stream);
            return None;
        }
        self.upstream.opened().tally().add_up(first.len() as u64);
        let early = self.upstream.take_early();
        if forward::write_all(&self.client.stream, &early, shared.limits.connect_time).await.is_err() {
            forward::reset(self.upstream.stream());
            return None;
        }
        self.upstream.opened().tally().add_down(early.len() as u64);
        Some(self)
    }

    /// Carries bytes until both sides are done.
    pub async fn carry(&self, shared: &Shared) {
        let idle = shared.limits.idle_time;
        let patience = Patience { open: idle, half_closed: idle.min(bounds::IDLE_HALF_CLOSED) };
        let tally = self.upstream.opened().tally();
        forward::both_ways(&self.client.stream, self.upstream.stream(), &shared.pipes, patience, tally).await;
    }
}

/// Serves a connection whose destination is known; what is left to do is carrying bytes.
pub async fn serve(shared: &Shared, mut client: Client, passage: Passage) -> Option<Tunnel> {
    if passage.permit().is_raw() {
        let clearance = shared.gate.clear(passage.permit(), Speech::Raw);
        return match open(shared, passage, clearance, Use::Raw).await {
            Ok(upstream) => Tunnel::new(client, upstream).start(shared).await,
            Err(_) => {
                forward::reset(&client.stream);
                None
            }
        };
    }
    match client.first(bounds::FIRST_WORDS).await {
        Some(refuse::TLS) => tls(shared, client, passage).await,
        Some(byte) if is_token_byte(byte) => plain::serve(shared, client, passage).await,
        Some(_) => {
            shared.refused(&Refusal::new(passage.permit().wanted(), Reason::NotTls)).await;
            forward::reset(&client.stream);
            None
        }
        // It left, or said nothing.
        None => None,
    }
}

async fn tls(shared: &Shared, mut client: Client, passage: Passage) -> Option<Tunnel> {
    let wanted = passage.permit().wanted();
    let hello = match timeout(bounds::FIRST_WORDS, read_hello(&mut client)).await {
        Ok(Progress::Hello(hello)) => hello,
        // It left in the middle of it.
        Ok(Progress::More) => return None,
        Ok(Progress::Bad(error)) => {
            let refusal = gate::bad_hello(wanted, &error);
            shared.refused(&refusal).await;
            refuse::tls(client, &refusal).await;
            return None;
        }
        Err(_) => {
            let refusal = Refusal::new(wanted, Reason::TooSlow);
            shared.refused(&refusal).await;
            forward::reset(&client.stream);
            return None;
        }
    };
    let clearance = shared.gate.clear(passage.permit(), Speech::Tls(&hello));
    match open(shared, passage, clearance, Use::Tls).await {
        Ok(upstream) => Tunnel::new(client, upstream).start(shared).await,
        Err(refusal) => {
            refuse::tls(client, &refusal).await;
            None
        }
    }
}

/// Opens the connection if it was cleared. What stands in the way is recorded.
async fn open(
    shared: &Shared,
    passage: Passage,
    clearance: Result<Clearance, Refusal>,
    purpose: Use,
) -> Result<Upstream, Refusal> {
    let clearance = shared.settle(clearance).await?;
    passage.open(shared, &clearance, purpose).await
}

/// Reads until the hello is whole; `More` when the program leaves before.
async fn read_hello(client: &mut Client) -> Progress {
    loop {
        match hello::parse(&client.bytes) {
            Progress::More => {}
            done => return done,
        }
        if !client.bytes.is_empty() && client.bytes.len() >= hello::MAX_LEN || !client.more().await.unwrap_or(false) {
            return Progress::More;
        }
    }
}
