//! Names to addresses, as the host's own programs see them (getaddrinfo(3)): on a few threads, with a deadline, kept for
//! seconds. It is asked only with a permit, so that nothing of a denied name leaves the machine.

use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{OnceCell, Semaphore};

use super::bounds;
use super::gate::{Gate, Permit, Refusal};
use crate::policy::host::Host;
use crate::policy::reason::Reason;

/// Resolves names.
#[derive(Debug)]
pub struct Resolver {
    kept: Mutex<HashMap<String, Kept>>,
    threads: Arc<Semaphore>,
}

/// One name: asked once, however many wait for the answer.
#[derive(Debug, Clone)]
struct Kept {
    answer: Arc<OnceCell<Answer>>,
    asked: Instant,
}

#[derive(Debug, Clone)]
struct Answer {
    addresses: Result<Vec<IpAddr>, Unresolved>,
    until: Instant,
}

/// Why a name has no addresses.
#[derive(Debug, Clone)]
pub struct Unresolved {
    /// In the words of the policy.
    pub reason: Reason,
    /// In those of the host's resolver, which tells a name that is not there from a resolver that is not.
    pub why: Option<String>,
}

impl From<Reason> for Unresolved {
    fn from(reason: Reason) -> Self {
        Self { reason, why: None }
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self { kept: Mutex::default(), threads: Arc::new(Semaphore::new(bounds::RESOLVER_THREADS)) }
    }
}

impl Resolver {
    /// The addresses that may be dialled, in the order to try them. If one of them may not, none may: a name whose
    /// answers lead inside and outside is not what it says.
    pub async fn addresses(&self, gate: &Gate, permit: &Permit) -> Result<Vec<IpAddr>, Refusal> {
        let failed = |Unresolved { reason, why }| Refusal { detail: why, ..Refusal::new(permit.wanted(), reason) };
        let found = match &permit.wanted().host {
            _ if !permit.pins().is_empty() => permit.pins().to_vec(),
            Host::Address(address) => vec![*address],
            Host::Name(name) => self.look_up(name).await.map_err(failed)?,
        };
        for address in &found {
            gate.address(permit, *address)?;
        }
        if found.is_empty() {
            return Err(failed(Reason::NameNotFound.into()));
        }
        Ok(found.into_iter().take(bounds::ADDRESSES).collect())
    }

    /// The addresses of a name that no program inside chose.
    pub async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, Unresolved> {
        let kept = self.kept(name);
        let ask = || async {
            let addresses = self.ask(name).await;
            let keep = if addresses.is_ok() { bounds::KEEP_ADDRESSES } else { bounds::KEEP_FAILURE };
            Answer { addresses, until: Instant::now() + keep }
        };
        kept.answer.get_or_init(ask).await.addresses.clone()
    }

    fn kept(&self, name: &str) -> Kept {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let fresh = |kept: &Kept| kept.answer.get().is_none_or(|answer| answer.until > now);
        if let Some(found) = kept.get(name).filter(|found| fresh(found)) {
            return found.clone();
        }
        if kept.len() >= bounds::KEPT_NAMES {
            kept.retain(|_, kept| fresh(kept));
        }
        if kept.len() >= bounds::KEPT_NAMES
            && let Some(oldest) = kept.iter().min_by_key(|(_, kept)| kept.asked).map(|(name, _)| name.clone())
        {
            kept.remove(&oldest);
        }
        let asked = Kept { answer: Arc::default(), asked: now };
        kept.insert(name.to_owned(), asked.clone());
        asked
    }

    async fn ask(&self, name: &str) -> Result<Vec<IpAddr>, Unresolved> {
        let asking = async {
            // A thread that hangs in the host's resolver keeps its place until it comes back.
            let place = Arc::clone(&self.threads).acquire_owned().await.map_err(|_| Reason::TimedOut)?;
            let name = name.to_owned();
            let asked = tokio::task::spawn_blocking(move || {
                let found = (name.as_str(), 0).to_socket_addrs();
                drop(place);
                found.map(|found| found.map(|address| address.ip()).collect::<Vec<_>>())
            });
            let asked = asked.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            asked.map_err(|error| Unresolved { reason: Reason::NameNotFound, why: Some(error.to_string()) })
        };
        let late = |_| Err(Reason::TimedOut.into());
        let mut addresses = tokio::time::timeout(bounds::RESOLVE, asking).await.unwrap_or_else(late)?;
        let mut seen = Vec::with_capacity(addresses.len());
        addresses.retain(|address| {
            let new = !seen.contains(address);
            seen.push(*address);
            new
        });
        Ok(addresses)
    }
}
