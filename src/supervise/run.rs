//! One run from plan to exit status.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::control;
use super::credentials;
use super::egress::{self, Egress};
use super::harden;
use super::jail::{self, Jail, Turn};
use super::leftovers::Leftovers;
use super::pipes::Pipes;
use super::publish::Published;
use super::session::{self, SessionInfo, Sessions};
use super::signals::Signals;
use super::summary::Summary;
use super::terminal::relay::{InnerEnds, Relay};
use super::terminal::stdio;
use super::watch::{HiddenLater, Watch};
use crate::audit::{self, Event, Recorder, SharedRecorder, append};
use crate::broker::Held;
use crate::error::{Error, ErrorKind, Result};
use crate::guard;
use crate::launch::cgroup::Cgroup;
use crate::launch::confine::{Capabilities, Confinement};
use crate::launch::idmap;
use crate::launch::init::Setup;
use crate::launch::message::{Channel, Ending};
use crate::launch::network::{Listeners, Redirection};
use crate::launch::start::{self, Launched, Starting};
use crate::plan::Plan;
use crate::plan::limits::LimitsPlan;
use crate::plan::network::Egress as Way;
use crate::policy::egress::EgressPolicy;
use crate::policy::{CredentialsPolicy, LimitsPolicy};
use crate::proxy::ledger::Totals;
use crate::proxy::listen::Sockets;
use crate::secrets::substitute::SessionKey;
use crate::sys::release;
use crate::tree::{self, Searched, escape};

/// What a run needs.
#[derive(Debug)]
pub struct Run<'a> {
    /// What will be done.
    pub plan: &'a Plan,
    /// Bounds, for the cgroup and the clock.
    pub limits: &'a LimitsPolicy,
    /// Where requests may go.
    pub egress: &'a EgressPolicy,
    /// Secrets that the workload uses without having them.
    pub credentials: &'a CredentialsPolicy,
    /// Profiles that took part, for the record.
    pub profiles: &'a [String],
    /// The trees that were searched: watched during the run and searched again after it.
    pub roots: &'a [Searched],
    /// Where records are kept.
    pub state: &'a Path,
}

/// Tells the user something while the run goes on.
#[derive(Clone, Copy)]
pub struct Tell<'a> {
    /// What they must know.
    pub warning: &'a dyn Fn(&str),
    /// What they may leave out.
    pub note: &'a dyn Fn(&str),
}

/// How a run ended, and what there is to say about it.
#[derive(Debug)]
pub struct Outcome {
    /// Decides the exit status.
    pub ending: Ending,
    /// For the user.
    pub summary: Summary,
}

/// Runs a plan. Everything on the host that the run made, except its record, is gone when this returns.
pub fn run(run: &Run<'_>, tell: Tell<'_>) -> Result<Outcome> {
    let plan = run.plan;
    let mut sessions = Sessions::open()?;
    // For its sweep: what a killed run left goes with the next one.
    sessions.list()?;
    let launching = launch(run, &sessions)?;
    // Init builds the root meanwhile, and waits for its shares before it touches the workspace.
    let (recorder, directory) = match begin(run, &mut sessions) {
        Ok(begun) => begun,
        Err(error) => {
            launching.starting.abandon();
            return Err(error);
        }
    };
    let record = recorder.path().to_owned();
    let recorder = Arc::new(Mutex::new(recorder));
    let result = launching.serve(run, &directory, &recorder, tell);
    sessions.remove(&plan.session);
    let Served { ending, hidden_later, planted, egress, limits } = match result {
        Ok(served) => served,
        Err(error) => {
            // Best effort: the error itself is what the user has to see.
            let _ = append(&recorder, &Event::SessionEnd { status: i32::from(error.kind().exit_code()) });
            return Err(error);
        }
    };
    tracing::debug!(?ending, "everything in the jail has ended");
    let status = ending.status();
    append(&recorder, &Event::SessionEnd { status })?;
    let summary = Summary {
        session: plan.session.clone(),
        status,
        hidden: plan.masks.len(),
        hidden_later: hidden_later.count,
        hidden_later_paths: hidden_later.first,
        planted,
        egress,
        limits,
        record,
    };
    Ok(Outcome { ending, summary })
}

fn start_event<'a>(run: &Run<'a>) -> Event<'a> {
    Event::SessionStart {
        version: env!("CARGO_PKG_VERSION"),
        command: audit::command(&run.plan.command),
        workspace: run.plan.workspace.display().to_string(),
        profiles: run.profiles,
        hidden: run.plan.masks.iter().map(|mask| escape(&mask.path)).collect(),
    }
}

fn session_info(plan: &Plan) -> Result<SessionInfo> {
    let pid = std::process::id();
    Ok(SessionInfo {
        session: plan.session.clone(),
        pid,
        start_ticks: session::start_ticks(pid)
            .ok_or_else(|| Error::setup("cannot read /proc/self/stat").hint("jail needs /proc"))?,
        started: audit::now(),
        command: audit::command(&plan.command),
        workspace: plan.workspace.display().to_string(),
    })
}

/// Compares the workspace with the first pass and records what the host will execute.
fn planted(run: &Run<'_>, recorder: &SharedRecorder) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for root in run.roots {
        let after = tree::pass_again(&root.query)?;
        for mut planted in guard::report(&root.facts, &after) {
            planted.path.0 = root.shown.join(&planted.path.0);
            append(recorder, &Event::Planted { path: escape(&planted.path.0), what: planted.what })?;
            lines.push(planted.to_string());
        }
    }
    Ok(lines)
}

/// How a jail ended.
struct Ended {
    ending: Ending,
    hidden_later: HiddenLater,
    channel: Channel,
    /// Connections that asked for the end of the run: closed when everything is gone.
    killers: Vec<OwnedFd>,
    /// The jail's mounts, as far as init does not keep them alone.
    mounts: Option<OwnedFd>,
    egress: Egress,
}

/// What a run that was served left to say.
struct Served {
    ending: Ending,
    hidden_later: HiddenLater,
    planted: Vec<String>,
    egress: Totals,
    limits: String,
}

/// Opens the record and makes the session's directory.
fn begin(run: &Run<'_>, sessions: &mut Sessions) -> Result<(Recorder, PathBuf)> {
    let mut recorder = Recorder::create(run.state, &run.plan.session)?;
    recorder.append(&start_event(run))?;
    tracing::debug!(session = run.plan.session, record = ?recorder.path(), "session started");
    let directory = sessions.create(&session_info(run.plan)?)?;
    Ok((recorder, directory))
}

/// A run whose init builds the jail.
struct Launching {
    starting: Starting,
    cgroup: Cgroup,
    stdio: stdio::StdioPlan,
    outside: [Option<OwnedFd>; 3],
    published: Published,
    sockets: Option<Channel>,
    holders: Option<Channel>,
}

fn launch(run: &Run<'_>, sessions: &Sessions) -> Result<Launching> {
    let plan = run.plan;
    let cgroup = Cgroup::create(&plan.session, run.limits);
    let stdio = stdio::classify();
    let Pipes { kinds, inside, outside } = Pipes::open(&stdio)?;
    let seccomp = plan.seccomp.compile().map_err(Error::setup)?;
    let channel = || Channel::pair().map_err(|errno| Error::setup(format!("cannot open a socket: {}", errno.desc())));
    let (ours, theirs) = channel()?;
    let (holders, setup_holders) = (plan.network.egress != Way::Closed).then(channel).transpose()?.unzip();
    // Before anything stands: a port that is taken ends the run here.
    let published = Published::listen(&plan.network)?;
    let (sockets, setup_sockets) = published.channel()?.unzip();
    let setup = Setup {
        channel: theirs,
        sockets: setup_sockets,
        holders: setup_holders,
        prepared: idmap::prepare(plan)?,
        stdio: kinds,
        ends: inside,
        confinement: Confinement {
            limits: LimitsPlan::new(run.limits, cgroup.memory),
            capabilities: Capabilities::Held,
            keep_fds: Vec::new(),
            landlock: Some(plan.landlock.clone()),
            seccomp,
        },
        sessions: sessions.directory()?,
    };
    let starting = start::launch(plan, setup, ours, &cgroup)?;
    Ok(Launching { starting, cgroup, stdio, outside, published, sockets, holders })
}

impl Launching {
    fn serve(self, run: &Run<'_>, directory: &Path, recorder: &SharedRecorder, tell: Tell<'_>) -> Result<Served> {
        let Self { starting, cgroup, stdio, outside, published, sockets, holders } = self;
        let pid = starting.pid;
        let ready = control::bind(&directory.join("control.sock"))
            .and_then(|control| Ok((control, Leftovers::begin(run.state, run.plan)?)));
        let (control, leftovers) = match ready {
            Ok(ready) => ready,
            Err(error) => {
                starting.abandon();
                return Err(error);
            }
        };
        starting.share(leftovers.shares());
        // Swept when init has given up its shares, at the latest when it is gone.
        let mut leftovers = Some(leftovers);
        for publish in &run.plan.network.publish {
            (tell.note)(&format!("port {} inside is at http://127.0.0.1:{}", publish.port, publish.host_port));
        }
        // Init has its copy of this process: from here on secrets may be in memory.
        let held = match hide_memory().and_then(|()| hold(run, recorder)) {
            Ok(held) => held,
            Err(error) => {
                starting.abandon();
                return Err(error);
            }
        };
        let result = give_up(run).and_then(|connections| {
            let _serving = sockets.map(|sockets| published.serve(sockets)).transpose()?;
            stand_by(run, starting, control, recorder, (connections, holders, held), (&stdio, outside), tell)
        });
        let result = result.and_then(|ended| {
            let Ended { ending, hidden_later, channel, killers, mounts, egress } = ended;
            // While init removes its placeholders: nothing runs in the jail any more.
            let egress = egress.finish();
            jail::cleared(&channel)?;
            // While init exits: in the workspace it has done everything.
            let planted = planted(run, recorder)?;
            drop(leftovers.take());
            let limits = cgroup.describe();
            Ok((Served { ending, hidden_later, planted, egress, limits }, killers, mounts))
        });
        // Whatever happened, init must be gone before the cgroup can be removed and before the user is told anything.
        match &result {
            Ok(_) => drop(nix::sys::wait::waitpid(pid, None)),
            // Nobody knows what init is doing.
            Err(_) => drop(start::reap(pid, start::PATIENCE)),
        }
        let (served, killers, mounts) = result?;
        drop(killers);
        // Nobody is left in there: the kernel takes the mounts down by itself, while this process ends.
        let holder = mounts.as_ref().and_then(|mounts| release::hold(&[mounts.as_fd()]).ok());
        drop(mounts);
        drop(holder);
        Ok(served)
    }
}

/// What the relay carries, and its ends out here.
type Stdio<'a> = (&'a stdio::StdioPlan, [Option<OwnedFd>; 3]);

/// The supervisor's memory holds the user's environment, and values of secrets: no core dump, no tracer. Not earlier,
/// because the id maps of a process that is not dumpable belong to root.
fn hide_memory() -> Result<()> {
    nix::sys::prctl::set_dumpable(false)
        .map_err(|errno| Error::setup(format!("cannot set PR_SET_DUMPABLE: {}", errno.desc())))
}

/// Loads the credentials and records that they were.
fn hold(run: &Run<'_>, recorder: &SharedRecorder) -> Result<Vec<Held>> {
    let key =
        SessionKey::random().map_err(|errno| Error::setup(format!("cannot get random bytes: {}", errno.desc())))?;
    let held = credentials::load(run.plan, run.credentials, &key)?;
    for Held { credential, .. } in &held {
        let environment = credential.environment.as_deref();
        append(recorder, &Event::Credential { name: &credential.name, environment })?;
    }
    Ok(held)
}

/// Gives up what the supervisor needs no longer, before its first thread: each one inherits that. Returns how many
/// connections its descriptors suffice for.
fn give_up(run: &Run<'_>) -> Result<usize> {
    descriptors_left()?;
    let connections = egress::raise_descriptor_limit();
    harden::apply(run.plan.landlock.abi, run.plan.seccomp.arch, &[run.state.to_owned()])?;
    Ok(connections)
}

/// Serves a jail as soon as it stands. It ends with the channel, however this returns.
fn stand_by(
    run: &Run<'_>,
    starting: Starting,
    control: OwnedFd,
    recorder: &SharedRecorder,
    (connections, holders, held): (usize, Option<Channel>, Vec<Held>),
    stdio: Stdio<'_>,
    tell: Tell<'_>,
) -> Result<Ended> {
    // While init builds the jail.
    let egress = Egress::start(run.egress, run.limits, connections, Arc::clone(recorder), holders)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::setup(format!("cannot start the event loop: {error}")))?;
    runtime.block_on(serve(run, starting, control, recorder, (egress, &held), stdio, tell))
}

/// Whether there are descriptors for the event loop, whose library panics when one of its own cannot be had.
fn descriptors_left() -> Result<()> {
    const WANTED: usize = 16;
    let failed = |error| Error::setup(format!("cannot open a descriptor: {error}")).hint(start::OPEN_FILES);
    let first = std::fs::File::open("/dev/null").map_err(failed)?;
    let others = (1..WANTED).map(|_| first.try_clone()).collect::<std::io::Result<Vec<_>>>();
    others.map(drop).map_err(failed)
}

async fn serve(
    run: &Run<'_>,
    starting: Starting,
    control: OwnedFd,
    recorder: &SharedRecorder,
    (mut egress, held): (Egress, &[Held]),
    (stdio, [stdin, stdout, stderr]): Stdio<'_>,
    tell: Tell<'_>,
) -> Result<Ended> {
    let mut signals = Signals::listen()?;
    // Before the workload starts: what is replaced from now on is seen. While init builds the jail.
    let mut watch = Watch::new(run.plan, run.roots)?;
    let Launched { channel, mounts, terminal, listeners, redirection, .. } = starting.stands()?;
    let Listeners { tcp, dns_udp, dns_tcp, diag } = listeners;
    egress.serve(Sockets { tcp, dns_udp, dns_tcp, diag });
    if let Redirection::Routes { why } = &redirection {
        (tell.warning)(&format!("no nftables here ({why}): {}; `jail doctor` says more", redirection.describe()));
    }
    watch.stands()?;
    let mut jail = Jail::new(run.plan, channel, control, Arc::clone(recorder))?;
    for held in held {
        jail.placeholder(credentials::placeholder(held))?;
    }
    watch.renew(&jail)?;
    let mut warned = false;
    // A program that draws on the terminal is not written over: everything is said at the end.
    let draws = terminal.is_some();
    let mut relay = Relay::new(stdio, InnerEnds { pty: terminal, stdin, stdout, stderr })?;
    let deadline = run.limits.time.as_ref().map(|limit| limit.value);
    let clock = tokio::time::sleep(deadline.unwrap_or(Duration::MAX));
    tokio::pin!(clock);
    // Why the run was stopped, as an exit status.
    let mut stopped = None;
    let mut silent = false;
    // What lets the workload run, said behind everything that is to be hidden before, and when there is a way out.
    let mut word: Option<fn(&Jail<'_>) -> Result<()>> = Some(|jail| jail.go());
    let ending = loop {
        if word.is_some()
            && egress.is_serving()
            && watch.is_settled(&jail)
            && let Some(say) = word.take()
        {
            say(&jail)?;
        }
        tokio::select! {
            // Init's answers first: what waits to be hidden waits for them.
            biased;
            turn = jail.turn(&mut signals) => match turn? {
                Turn::Served | Turn::Started => watch.renew(&jail)?,
                Turn::MaskMissed => {
                    watch.doubt();
                    watch.renew(&jail)?;
                }
                Turn::MaskFailed(path, error) => {
                    (tell.warning)(&format!("cannot hide {path}: {error}; the run is stopped"));
                    stopped = Some(ErrorKind::Setup.exit_code());
                    jail.end()?;
                }
                Turn::Resized => relay.resize(),
                Turn::Continued => relay.resumed(),
                Turn::Stopped => {
                    relay.suspend().map_err(|error| Error::setup(format!("cannot stop: {error}")))?;
                    relay.resumed();
                    // What the host replaced meanwhile is hidden before anything in the jail goes on.
                    watch.catch_up()?;
                    watch.renew(&jail)?;
                    word = Some(|jail| jail.resume());
                }
                Turn::Ended(ending) => break ending,
            },
            looked = watch.turn() => {
                looked?;
                watch.renew(&jail)?;
                if watch.limited() && !warned {
                    warned = true;
                    (tell.warning)("no inotify watch is left: new secrets are hidden with a delay of two seconds; raise fs.inotify.max_user_watches");
                }
            }
            told = egress.turn() => match told? {
                Some(text) if !draws => (tell.note)(&text),
                _ => {}
            },
            () = relay.run(), if !silent => silent = true,
            () = &mut clock, if stopped.is_none() => {
                // timeout(1) uses the same status.
                stopped = Some(124);
                (tell.warning)("the time limit is reached; the run is stopped");
                jail.end()?;
            }
        }
    };
    relay.drain().await;
    for loss in relay.losses() {
        (tell.warning)(&format!("{} is incomplete: {}", loss.stream, loss.error));
    }
    let ending = stopped.map_or(ending, |status| Ending::Exited(status.into()));
    let (channel, killers) = jail.into_rest();
    Ok(Ended { ending, hidden_later: std::mem::take(&mut watch.hidden), channel, killers, mounts, egress })
}
