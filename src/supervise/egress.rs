//! The policy proxy of a run: a thread of its own with an event loop of its own, so that a flood of connections never
//! delays what hides files. It starts while init builds the jail, and the run ends when it cannot go on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::{mpsc, oneshot};

use super::callers;
use crate::audit::SharedRecorder;
use crate::error::{Error, Result};
use crate::launch::message::Channel;
use crate::plan::network::{PROXY_PORT, PROXY_V4, PROXY_V6};
use crate::policy::{LimitsPolicy, egress::EgressPolicy};
use crate::proxy::caller::Callers;
use crate::proxy::gate::Gate;
use crate::proxy::ledger::{Ledger, Notice, Totals};
use crate::proxy::listen::{self, Sockets};
use crate::proxy::parent::Parents;
use crate::proxy::shared::{Limits, Shared};
use crate::proxy::{bounds, resolve::Resolver};

/// A running proxy. Dropping it stops it.
#[derive(Debug)]
pub struct Egress {
    ledger: Arc<Ledger>,
    notices: mpsc::UnboundedReceiver<Notice>,
    sockets: Option<oneshot::Sender<Sockets>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    serving: bool,
}

impl Egress {
    /// Starts the thread. It serves nothing before [`Egress::serve`].
    ///
    /// `descriptors` is how many connections there are descriptors for, `holders` where init is asked who holds a socket.
    pub fn start(
        policy: &EgressPolicy,
        limits: &LimitsPolicy,
        descriptors: usize,
        recorder: SharedRecorder,
        holders: Option<Channel>,
    ) -> Result<Self> {
        let (tell, notices) = mpsc::unbounded_channel();
        let (sockets, given) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let ledger = Arc::new(Ledger::new(recorder, tell));
        let variable = |name: &str| std::env::var(name).ok();
        let parents = Parents::read(variable).map_err(|error| {
            Error::setup(error).hint("name one as http://HOST:PORT, or unset the variable to connect directly")
        })?;
        let (callers, questions) = Callers::new();
        let shared = Shared {
            gate: Gate::new(Arc::new(policy.clone())),
            resolver: Resolver::default(),
            callers,
            ledger: Arc::clone(&ledger),
            parents,
            pipes: Arc::default(),
            names: Mutex::default(),
            limits: Limits {
                connections: usize::try_from(limits.connections()).unwrap_or(usize::MAX).clamp(1, descriptors),
                connect_time: limits.connect_time(),
                idle_time: limits.idle_time(),
            },
            own: vec![(PROXY_V4, PROXY_PORT).into(), (PROXY_V6, PROXY_PORT).into()],
        };
        let thread = std::thread::Builder::new()
            .name("jail-proxy".to_owned())
            .spawn(move || {
                let ledger = Arc::clone(&shared.ledger);
                let run = catch_unwind(AssertUnwindSafe(|| {
                    run(Arc::new(shared), given, stopped, holders.map(|holders| callers::serve(holders, questions)))
                }));
                ledger.tell(Notice::Failed(match run {
                    Ok(Err(error)) => error,
                    // After a stop nobody listens any more.
                    Ok(Ok(())) => Error::setup("the policy proxy has ended; everything in the jail was killed"),
                    Err(_) => Error::setup("the policy proxy failed unexpectedly; everything in the jail was killed"),
                }));
            })
            .map_err(|error| Error::setup(format!("cannot start a thread: {error}")))?;
        Ok(Self { ledger, notices, sockets: Some(sockets), stop: Some(stop), thread: Some(thread), serving: false })
    }

    /// Gives it the sockets that init made.
    pub fn serve(&mut self, sockets: Sockets) {
        if let Some(give) = self.sockets.take() {
            // A thread that is gone says so in `turn`.
            let _ = give.send(sockets);
        }
    }

    /// Whether it accepts connections: not before that may the workload start.
    pub fn is_serving(&self) -> bool {
        self.serving
    }

    /// Waits until it has something to tell: a host that was refused or not reached. An error ends the run. Cancel-safe.
    pub async fn turn(&mut self) -> Result<Option<String>> {
        match self.notices.recv().await {
            Some(Notice::Serving) => {
                self.serving = true;
                Ok(None)
            }
            Some(Notice::Turned(text)) => Ok(Some(text)),
            Some(Notice::Failed(error)) => Err(error),
            None => Err(Error::setup("the policy proxy is gone; everything in the jail was killed")),
        }
    }

    /// Stops it, waits until the ends of all connections are recorded, and sums up.
    pub fn finish(mut self) -> Totals {
        self.stop();
        self.ledger.totals()
    }

    fn stop(&mut self) {
        drop(self.stop.take());
        drop(self.sockets.take());
        if let Some(thread) = self.thread.take() {
            // A panic was told as a failure.
            let _ = thread.join();
            self.ledger.finish();
        }
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Serves until it is told to stop or cannot go on.
fn run(
    shared: Arc<Shared>,
    sockets: oneshot::Receiver<Sockets>,
    stop: oneshot::Receiver<()>,
    callers: Option<impl Future<Output = ()> + Send + 'static>,
) -> Result<()> {
    let failed = |error: std::io::Error| Error::setup(format!("cannot start the policy proxy: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(bounds::RESOLVER_THREADS)
        .build()
        .map_err(failed)?;
    let result = runtime.block_on(async {
        // The jail could not be built.
        let Ok(sockets) = sockets.await else { return Ok(()) };
        listen::start(&shared, sockets).map_err(failed)?;
        callers.into_iter().for_each(|callers| shared.spawn(callers));
        shared.ledger.tell(Notice::Serving);
        tokio::select! {
            _ = stop => {}
            () = shared.ledger.failed() => {}
        }
        Ok(())
    });
    // Not waiting for threads that hang in the host's resolver.
    runtime.shutdown_background();
    result
}

/// Raises the supervisor's own limit as far as it may; returns how many connections its descriptors suffice for.
pub fn raise_descriptor_limit() -> usize {
    let Ok((mut soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return bounds::CONNECTIONS };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        soft = hard;
    }
    // Two for each connection.
    let free = usize::try_from(soft).unwrap_or(usize::MAX).saturating_sub(bounds::SPARE_DESCRIPTORS);
    (free / 2).clamp(1, bounds::CONNECTIONS)
}
