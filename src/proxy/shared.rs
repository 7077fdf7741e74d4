//! What every connection of one run uses.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::caller::Callers;
use super::dial;
use super::dns::pool::Pool;
use super::gate::{Gate, Permit, Refusal};
use super::ledger::Ledger;
use super::parent::{Parents, Use};
use super::pipes::Pipes;
use super::resolve::Resolver;
use crate::error::Error;
use crate::policy::host::Host;

/// What the policy says beside its rules.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// How long a connection to a host may take to come about.
    pub connect_time: Duration,
    /// How long a connection may be without a byte.
    pub idle_time: Duration,
}

/// What every connection of one run uses.
#[derive(Debug)]
pub struct Shared {
    /// Decides.
    pub gate: Gate,
    /// Asks for addresses.
    pub resolver: Resolver,
    /// Finds out which program makes a connection.
    pub callers: Callers,
    /// Keeps the record.
    pub ledger: Arc<Ledger>,
    /// Proxies of the host.
    pub parents: Parents,
    /// For bulk.
    pub pipes: Arc<Pipes>,
    /// Bounds.
    pub limits: Limits,
    /// Addresses that stand for names inside.
    pub names: Mutex<Pool>,
    /// Addresses at which programs ask for a proxy; a connection to any other wants to go there.
    pub own: Vec<SocketAddr>,
}

impl Shared {
    /// The addresses that stand for names.
    pub fn names(&self) -> MutexGuard<'_, Pool> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host that an address stands for: the name for which it was given out, else the address itself.
    pub fn host_at(&self, address: IpAddr) -> Host {
        self.names().name_of(address).unwrap_or_else(|| Host::Address(address.to_canonical()))
    }

    /// The same for a connection: as long as the answer is kept, the address stands for no other name.
    pub fn hold(&self, address: IpAddr) -> NameHeld<'_> {
        let host = self.names().hold(address, Instant::now());
        NameHeld { shared: self, address: host.is_some().then_some(address) }
    }

    /// The host that a program means: one that got an address from the responder and names that means the name.
    pub fn meant(&self, host: &Host) -> Host {
        match host {
            Host::Address(address) => self.host_at(*address),
            Host::Name(_) => host.clone(),
        }
    }

    /// Opens a connection that the gate let through, when it is its [turn](Ledger::turn). What comes in between is recorded.
    pub async fn dial(&self, permit: Permit, purpose: Use) -> Result<dial::Held, Refusal> {
        let wait = self.ledger.turn();
        if !wait.is_zero() {
            sleep(wait).await;
        }
        let dialled = dial::dial(self, permit, purpose).await;
        self.settle(dialled).await
    }

    /// Records a refusal, with the name of the program if that can be found out. Before the program is told: one that is
    /// gone is not found.
    pub async fn refused(&self, refusal: &Refusal) {
        refusal.wanted.caller.settled().await;
        self.ledger.refused(refusal);
    }

    /// Records what stands in the way, if something does.
    pub async fn settle<T>(&self, result: Result<T, Refusal>) -> Result<T, Refusal> {
        if let Err(refusal) = &result {
            self.refused(refusal).await;
        }
        result
    }

    /// Starts a task. A panic in it ends the run: what it was about to decide is not known.
    pub fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let alarm = Alarm(Arc::clone(&self.ledger));
        // In a box, because a future that awaits another holds it twice.
        let task = Box::pin(task);
        tokio::spawn(async move {
            let _alarm = alarm;
            task.await;
        });
    }
}

/// Keeps an address for its name.
#[derive(Debug)]
pub struct NameHeld<'a> {
    shared: &'a Shared,
    address: Option<IpAddr>,
}

impl Drop for NameHeld<'_> {
    fn drop(&mut self) {
        if let Some(address) = self.address {
            self.shared.names().release(address, Instant::now());
        }
    }
}

/// Ends the run when it is dropped by a panic.
#[derive(Debug)]
struct Alarm(Arc<Ledger>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(Error::setup("the proxy failed unexpectedly; everything in the jail was killed"));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::audit::Recorder;
    use crate::proxy::ledger::Notice;

    #[tokio::test]
    async fn sv_004_a_panic_in_a_task_ends_the_run() {
        let directory = tempfile::tempdir().unwrap();
        let recorder = Recorder::create(directory.path(), "0123456789ab").unwrap();
        let (tell, mut notices) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            gate: Gate::new(Arc::default()),
            resolver: Resolver::default(),
            callers: Callers::default(),
            ledger: Arc::new(Ledger::new(Arc::new(Mutex::new(recorder)), tell)),
            parents: Parents::default(),
            pipes: Arc::default(),
            names: Mutex::default(),
            limits: Limits { connections: 1, connect_time: Duration::MAX, idle_time: Duration::MAX },
            own: Vec::new(),
        });
        shared.spawn(async {});
        shared.spawn(async { panic!("as a test") });
        // Whoever serves is told to stop, and the supervisor why.
        shared.ledger.failed().await;
        assert!(matches!(notices.recv().await, Some(Notice::Failed(_))));
        assert!(notices.try_recv().is_err());
    }
}
