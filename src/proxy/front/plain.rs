//! Requests of plain HTTP: each is read, decided and written anew. One connection to the host is kept between them.

use tokio::time::timeout;

use super::exchange::{self, Asked, Exchanged, Received};
use super::speak::{Passage, Tunnel};
use crate::policy::reason::Reason;
use crate::proxy::bounds;
use crate::proxy::client::Client;
use crate::proxy::dial::{Held, Kept, Upstream};
use crate::proxy::forward;
use crate::proxy::gate::{Clearance, Permit, Refusal, Speech, Wanted};
use crate::proxy::http::head::Progress;
use crate::proxy::http::request::{Forward, Request, RequestError, Scheme, Target};
use crate::proxy::http::response::Exchange;
use crate::proxy::parent::{Parent, Use};
use crate::proxy::refuse;
use crate::proxy::shared::Shared;

/// To whom the requests of a connection go.
#[derive(Debug)]
pub enum Bound {
    /// All to the host that the program connected to.
    Host,
    /// Each to the host it names: the program asks a proxy.
    Any,
}

/// One connection of a program that speaks plain HTTP.
struct Session<'a> {
    shared: &'a Shared,
    client: Client,
    bound: Bound,
    wanted: Wanted,
    /// A connection that stood before the program spoke.
    held: Option<Held>,
    /// The connection of the last request.
    kept: Option<Kept>,
}

/// What comes after a request.
enum Next {
    /// Another one may come.
    Request,
    /// Nothing: the connection has to be closed.
    Close,
    /// It was refused or broken off, and closed.
    Gone,
    /// Bytes in both directions.
    Tunnel(Box<Upstream>),
}

/// Serves a connection whose destination is known.
pub async fn serve(shared: &Shared, client: Client, passage: Passage) -> Option<Tunnel> {
    let wanted = passage.permit().wanted().clone();
    let held = match passage {
        Passage::Held(held) => Some(held),
        Passage::Permit(_) => None,
    };
    Session { shared, client, bound: Bound::Host, wanted, held, kept: None }.run().await
}

/// Serves a connection on which each request names its host. `own` is the proxy's address.
pub async fn serve_any(shared: &Shared, client: Client, own: Wanted) -> Option<Tunnel> {
    Session { shared, client, bound: Bound::Any, wanted: own, held: None, kept: None }.run().await
}

impl Session<'_> {
    async fn run(mut self) -> Option<Tunnel> {
        loop {
            match self.request().await {
                Next::Request => {
                    // A connection that waits holds no buffer.
                    if self.client.bytes.is_empty() {
                        self.client.bytes = Vec::new();
                    }
                    self.client.first(bounds::IDLE_HTTP.min(self.shared.limits.idle_time)).await?;
                }
                Next::Close => {
                    refuse::say(&mut self.client, b"").await;
                    return None;
                }
                Next::Gone => return None,
                Next::Tunnel(upstream) => return Tunnel::new(self.client, *upstream).start(self.shared).await,
            }
        }
    }

    /// Reads a request, decides on it and passes it and its answer on.
    async fn request(&mut self) -> Next {
        let arrived = timeout(bounds::FIRST_WORDS, self.read_head()).await;
        match arrived {
            Ok(true) => {}
            Ok(false) => return Next::Gone,
            Err(_) => {
                let refusal = Refusal::new(&self.wanted, Reason::TooSlow);
                return self.refuse(refusal, Some(408), false).await;
            }
        }
        let buffer = std::mem::take(&mut self.client.bytes);
        let request = match Request::parse(&buffer) {
            Progress::Head(request) => request,
            Progress::Bad(error) => {
                let refusal = bad_request(&self.wanted, &error);
                return self.refuse(refusal, Some(error.status()), false).await;
            }
            Progress::More => return Next::Gone,
        };
        let is_head = request.head.method == b"HEAD";
        let (permit, clearance) = match self.decide(&request) {
            Ok(decided) => decided,
            Err(refusal) => {
                self.shared.refused(&refusal).await;
                return self.told(refusal, None, is_head).await;
            }
        };
        let websocket = request.websocket.is_some() && clearance.is_tunnel();
        let is_safe = matches!(request.head.method, b"GET" | b"HEAD" | b"OPTIONS");
        let exchange = Exchange::new(&request, websocket);
        let asked = Asked { exchange, framing: request.framing, is_head, is_safe };
        self.client.bytes = buffer.get(request.head.len..).unwrap_or_default().to_vec();
        self.exchange(permit, &clearance, asked, (&request, websocket)).await
    }

    /// Reads until a head is whole, or can never be. `false` when the program leaves before.
    async fn read_head(&mut self) -> bool {
        loop {
            if !self.client.bytes.is_empty() && !matches!(Request::parse(&self.client.bytes), Progress::More) {
                return true;
            }
            if !self.client.more().await.unwrap_or(false) {
                return false;
            }
        }
    }

    /// Asks the gate whether the request may go where it says.
    fn decide(&self, request: &Request<'_>) -> Result<(Permit, Clearance), Refusal> {
        let malformed = |detail: &str| Refusal::new(&self.wanted, Reason::BadRequest).detail(detail);
        match (request.target, &self.bound) {
            (Target::Connect, _) => return Err(malformed("CONNECT inside a connection that is established")),
            (Target::Absolute { scheme: Scheme::Https, .. }, _) => {
                return Err(malformed("this proxy does not speak TLS for its clients: use CONNECT"));
            }
            (Target::Absolute { .. }, _) | (_, Bound::Host) => {}
            (_, Bound::Any) => return Err(malformed("this is a proxy, which is asked with a whole URL")),
        }
        // RFC 9110 section 9.3.8: the answer is the request, with the password that the host's proxy is told.
        if request.head.method.eq_ignore_ascii_case(b"TRACE") || request.head.method.eq_ignore_ascii_case(b"TRACK") {
            return Err(malformed("TRACE would show what is added to requests on their way"));
        }
        let authority = request.authority.as_ref().ok_or_else(|| malformed("a request has one Host field"))?;
        let host = self.shared.meant(&authority.host);
        let port = match self.bound {
            // A program that connected to another port than 80 may leave it out all the same.
            Bound::Host => authority.port_or(self.wanted.port),
            Bound::Any => authority.port_or(Scheme::Http.port()),
        };
        let wanted = match self.bound {
            Bound::Host => self.wanted.clone(),
            Bound::Any => Wanted { host: host.clone(), port, ..self.wanted.clone() },
        };
        let permit = self.shared.gate.admit(wanted)?;
        let method = std::str::from_utf8(request.head.method).unwrap_or_default();
        let clearance = self.shared.gate.clear(&permit, Speech::Http { method, host: &host, port })?;
        if !clearance.is_tunnel()
            && let Some(why) = request.does_more_than_its_method()
        {
            return Err(clearance.refusal(&permit, Reason::MethodNotAllowed).detail(why));
        }
        Ok((permit, clearance))
    }

    /// Sends the request and passes on its answer.
    async fn exchange(
        &mut self,
        permit: Permit,
        clearance: &Clearance,
        mut asked: Asked,
        (request, websocket): (&Request<'_>, bool),
    ) -> Next {
        let mut permit = Some(permit);
        loop {
            let purpose = if websocket { Use::WebSocket } else { Use::Plain };
            let (upstream, reused) = match self.upstream(&mut permit, clearance, purpose).await {
                Ok(found) => found,
                Err(refusal) => return self.told(refusal, None, asked.is_head).await,
            };
            upstream.opened().request();
            let mut head = Vec::new();
            let authorization = upstream.parent().and_then(Parent::authorization);
            let extra = authorization.map(|value| ("Proxy-Authorization", value));
            let absolute = upstream.parent().is_some();
            request.write(&Forward { absolute, websocket, close: false, extra: extra.as_slice() }, &mut head);
            match self.pass(upstream, &mut asked, head).await {
                // The host had closed the connection that was kept, before it saw the request.
                Passed::Unanswered if reused && asked.is_safe => {}
                Passed::Unanswered => {
                    let refusal = Refusal::new(&self.wanted, Reason::Unreachable).detail("the host did not answer");
                    return self.refuse(refusal, None, asked.is_head).await;
                }
                Passed::Next(next) => return next,
            }
        }
    }

    /// A connection for the request, and whether it was used before.
    async fn upstream(
        &mut self,
        permit: &mut Option<Permit>,
        clearance: &Clearance,
        purpose: Use,
    ) -> Result<(Upstream, bool), Refusal> {
        if let Some(kept) = self.kept.take().filter(|kept| !kept.is_stale())
            && let Some(upstream) = kept.again(clearance)
            && (purpose == Use::Plain || upstream.parent().is_none())
        {
            return Ok((upstream, true));
        }
        let passage = match (self.held.take(), permit.take()) {
            (Some(held), _) => Passage::Held(held),
            (None, Some(permit)) => Passage::Permit(permit),
            (None, None) => Passage::Permit(self.shared.gate.admit(clearance.wanted(&self.wanted))?),
        };
        Ok((passage.open(self.shared, clearance, purpose).await?, false))
    }

    /// Passes on a request and its answer on this connection.
    async fn pass(&mut self, upstream: Upstream, asked: &mut Asked, head: Vec<u8>) -> Passed {
        let Exchanged { received, all_sent } =
            exchange::pass(self.shared, &mut self.client, &upstream, asked, head).await;
        let (reason, detail) = match received {
            Received::Whole { server, client } => {
                if server && all_sent {
                    self.kept = Some(upstream.keep());
                }
                return Passed::Next(if client && all_sent { Next::Request } else { Next::Close });
            }
            Received::Switched => return Passed::Next(Next::Tunnel(Box::new(upstream))),
            Received::Broken => {
                forward::reset(&self.client.stream);
                forward::reset(upstream.stream());
                return Passed::Next(Next::Gone);
            }
            Received::Nothing if !asked.has_body() => return Passed::Unanswered,
            Received::Nothing => (Reason::Unreachable, "the host did not answer".to_owned()),
            Received::Late => (Reason::TimedOut, "the host did not answer in time".to_owned()),
            Received::Bad(error) => (Reason::Unreachable, error),
        };
        forward::reset(upstream.stream());
        drop(upstream);
        let refusal = Refusal::new(&self.wanted, reason).detail(detail);
        Passed::Next(self.refuse(refusal, None, asked.is_head).await)
    }

    /// Records a refusal and answers with it.
    async fn refuse(&mut self, refusal: Refusal, status: Option<u16>, is_head: bool) -> Next {
        self.shared.refused(&refusal).await;
        self.told(refusal, status, is_head).await
    }

    /// Answers with a refusal that is recorded already.
    async fn told(&mut self, refusal: Refusal, status: Option<u16>, is_head: bool) -> Next {
        refuse::http(&mut self.client, &refusal, status, is_head).await;
        Next::Gone
    }
}

/// How passing on a request ended.
enum Passed {
    /// With this.
    Next(Next),
    /// The host closed the connection without a byte: it can be asked again, if it was not asked freshly.
    Unanswered,
}

/// What a request that cannot be read is refused for.
pub fn bad_request(wanted: &Wanted, error: &RequestError) -> Refusal {
    let reason = match error {
        RequestError::HostMismatch => Reason::HostMismatch,
        RequestError::Authority(_) => Reason::BadHost,
        _ => Reason::BadRequest,
    };
    Refusal::new(wanted, reason).detail(error.to_string())
}
