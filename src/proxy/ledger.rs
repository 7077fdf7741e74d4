//! What was let through and what was not: recorded as it happens, told once for each host, counted for the summary.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use super::bounds;
use super::caller::{Caller, Program};
use super::forward::Tally;
use super::gate::{Entry, Refusal, Wanted};
use crate::audit::{self, Egress, Event, SharedRecorder};
use crate::error::Error;
use crate::policy::address::classify;
use crate::policy::decide::Layer;
use crate::policy::host::Host;
use crate::policy::reason::Reason;
use crate::policy::remedy::remedy;

/// The port that a name is most likely asked for.
const HTTPS: u16 = 443;

/// What the proxy tells the supervisor.
#[derive(Debug)]
pub enum Notice {
    /// It accepts connections.
    Serving,
    /// A host was refused, or could not be reached, for the first time.
    Turned(String),
    /// It cannot go on: the run has to end.
    Failed(Error),
}

/// What was let through and refused in a run, for its end.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Totals {
    /// Connections that were let through.
    pub allowed: u64,
    /// Bytes out of the jail.
    pub bytes_up: u64,
    /// Bytes into the jail.
    pub bytes_down: u64,
    /// Connections and requests that were refused, and names, each of these once however often it was looked up.
    pub denied: u64,
    /// The first hosts that were refused.
    pub denied_hosts: Vec<TurnedHost>,
    /// Connections that were allowed and did not come about.
    pub failed: u64,
    /// The first hosts that could not be reached.
    pub failed_hosts: Vec<TurnedHost>,
    /// There were more hosts of either kind than are named.
    pub more_hosts: bool,
}

/// A host that was refused, or could not be reached.
#[derive(Debug, Clone, Serialize)]
pub struct TurnedHost {
    /// Its name or address.
    pub host: String,
    /// The port; absent where only the name was asked for.
    pub port: Option<u16>,
    /// Why.
    pub reason: Reason,
    /// How often.
    pub count: u64,
    /// Some of the programs that wanted to go there, as far as they are known.
    pub programs: Vec<String>,
    /// What would allow it, if anything sensible would.
    pub remedy: Option<String>,
}

/// Keeps the record of one run. Everything in the proxy shares it.
#[derive(Debug)]
pub struct Ledger {
    recorder: SharedRecorder,
    notices: UnboundedSender<Notice>,
    halt: Notify,
    next: AtomicU64,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    allowed: u64,
    bytes: (u64, u64),
    denied: u64,
    failed: u64,
    hosts: BTreeMap<(Host, Option<u16>, Reason), Turned>,
    more_hosts: bool,
    /// Hosts that were refused (`false`) or failed (`true`).
    told: HashSet<(Host, bool)>,
    throttle: Throttle,
    turns: Turns,
}

/// What is remembered of a host that was refused or not reached.
#[derive(Debug, Default)]
struct Turned {
    count: u64,
    programs: Vec<String>,
}

/// Who may open a connection when: each writes two lines that are never left out, so a flood of them has to be slow.
#[derive(Debug, Default)]
struct Turns {
    /// When the next one would be due at the lasting rate, counted from [`Turns::BURST`] before the start.
    due: Duration,
}

/// A bucket of refusals that may be recorded one by one.
#[derive(Debug)]
struct Throttle {
    room: u32,
    filled: Instant,
    /// Refusals that were only counted since the last line.
    unwritten: u64,
}

impl Ledger {
    /// A ledger that writes to this record and tells this supervisor.
    pub fn new(recorder: SharedRecorder, notices: UnboundedSender<Notice>) -> Self {
        let throttle = Throttle { room: bounds::REFUSALS, filled: Instant::now(), unwritten: 0 };
        let state = State {
            allowed: 0,
            bytes: (0, 0),
            denied: 0,
            failed: 0,
            hosts: BTreeMap::new(),
            more_hosts: false,
            told: HashSet::new(),
            throttle,
            turns: Turns::default(),
        };
        let (halt, next) = (Notify::new(), AtomicU64::new(1));
        Self { recorder, notices, halt, next, started: Instant::now(), state: Mutex::new(state) }
    }

    /// How long the next connection out has to wait, so that the record grows slowly whatever the jail does.
    pub fn turn(&self) -> Duration {
        self.state().turns.next(self.started.elapsed())
    }

    /// Tells the supervisor.
    pub fn tell(&self, notice: Notice) {
        // Nobody listens any more when the run is ending.
        let _ = self.notices.send(notice);
    }

    /// Says that the run has to end, and stops the proxy at once.
    pub fn fail(&self, error: Error) {
        self.tell(Notice::Failed(error));
        self.halt.notify_one();
    }

    /// Waits until the proxy has to stop.
    pub async fn failed(&self) {
        self.halt.notified().await;
    }

    /// Whether there is room for a line about a refusal.
    pub fn has_room(&self) -> bool {
        self.state().throttle.room > 0
    }

    /// Records a refusal. In a flood the rest is counted and written as a sum, but for the first of each host: who floods
    /// with one host does not hide another.
    pub fn refused(&self, refusal: &Refusal) {
        let Wanted { entry, host, port, caller } = &refusal.wanted;
        let port = Some(*port).filter(|_| *entry != Entry::Dns);
        let unwritten = {
            let mut state = self.state();
            // Programs ask for the names of addresses without being told to.
            let by_itself = port.is_none() && host.name().is_some_and(|name| name.ends_with(".arpa"));
            let mut is_new = false;
            if !by_itself {
                is_new = state.count(host, port, refusal.reason, caller.program());
                self.tell_once(&mut state, port, refusal);
            }
            match state.throttle.take(is_new) {
                Some(unwritten) => unwritten,
                None => return,
            }
        };
        let more = (unwritten > 0).then_some(unwritten);
        self.write(&Event::Egress(Egress {
            entry: Some(entry_name(*entry)),
            program: caller.program().map(|program| program.name.as_str()),
            pid: caller.program().map(|program| program.pid),
            host: Some(&host.to_string()),
            port,
            verdict: if refusal.reason.is_failure() { "allow" } else { "deny" },
            reason: refusal.reason.code(),
            rule: refusal.rule.as_deref(),
            detail: refusal.detail.as_deref(),
            more_refused: more,
            ..Egress::default()
        }));
    }

    /// Records that a connection is about to carry its first byte. `None` when it cannot be recorded: then it must not.
    pub fn open(self: &Arc<Self>, wanted: &Wanted, address: SocketAddr, rule: Arc<str>) -> Option<Opened> {
        let opened = Opened {
            ledger: Arc::clone(self),
            id: self.next.fetch_add(1, Relaxed),
            entry: wanted.entry,
            caller: wanted.caller.clone(),
            host: wanted.host.to_string(),
            port: wanted.port,
            address,
            rule,
            started: Instant::now(),
            tally: Tally::default(),
            requests: AtomicU64::new(0),
        };
        if !self.write(&Event::EgressOpen(opened.line())) {
            return None;
        }
        let mut state = self.state();
        state.allowed = state.allowed.saturating_add(1);
        drop(state);
        Some(opened)
    }

    /// What happened so far.
    pub fn totals(&self) -> Totals {
        let state = self.state();
        let hosts = state.hosts.iter().map(|((host, port, reason), Turned { count, programs })| TurnedHost {
            host: host.to_string(),
            port: *port,
            reason: *reason,
            count: *count,
            programs: programs.clone(),
            remedy: proposed(*reason, host, *port),
        });
        let mut hosts: Vec<TurnedHost> = hosts.collect();
        hosts.sort_by_key(|host| std::cmp::Reverse(host.count));
        let (failed_hosts, denied_hosts) = hosts.into_iter().partition(|host| host.reason.is_failure());
        Totals {
            allowed: state.allowed,
            bytes_up: state.bytes.0,
            bytes_down: state.bytes.1,
            denied: state.denied,
            denied_hosts,
            failed: state.failed,
            failed_hosts,
            more_hosts: state.more_hosts,
        }
    }

    /// Writes what a flood left uncounted in the record.
    pub fn finish(&self) {
        let unwritten = std::mem::take(&mut self.state().throttle.unwritten);
        if unwritten > 0 {
            self.write(&Event::Egress(Egress {
                verdict: "deny",
                reason: Reason::LimitReached.code(),
                more_refused: Some(unwritten),
                ..Egress::default()
            }));
        }
    }

    fn tell_once(&self, state: &mut State, port: Option<u16>, refusal: &Refusal) {
        let Refusal { wanted: Wanted { host, caller, .. }, reason, rule, detail } = refusal;
        let failed = reason.is_failure();
        if state.told.len() >= bounds::TOLD_HOSTS || !state.told.insert((host.clone(), failed)) {
            return;
        }
        let at = port.map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
        // Of a failure the policy is not the cause, and what the system said is.
        let (what, more) = if failed { ("not reached", detail) } else { ("refused", rule) };
        let program = caller.program().map_or_else(String::new, |program| format!("{program}: "));
        let mut text = format!("{program}{what} {at}: {}", reason.sentence());
        if let Some(more) = more {
            text.push_str(&format!(" ({more})"));
        }
        if state.told.len() == bounds::TOLD_HOSTS {
            text.push_str("; further hosts are shown at the end only");
        }
        self.tell(Notice::Turned(text));
    }

    fn write(&self, event: &Event<'_>) -> bool {
        match audit::append(&self.recorder, event) {
            Ok(()) => true,
            Err(error) => {
                self.fail(error);
                false
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts a refusal; whether it is the first of its kind among those that are remembered.
    fn count(&mut self, host: &Host, port: Option<u16>, reason: Reason, program: Option<&Program>) -> bool {
        let key = (host.clone(), port, reason);
        let known = self.hosts.get_mut(&key);
        let name = program.map(ToString::to_string);
        // One lookup is several questions: a family each, again with each domain of the search list, and again when the
        // answer is not liked.
        if port.is_none()
            && let Some(known) = known
        {
            known.called(name);
            return false;
        }
        let total = if reason.is_failure() { &mut self.failed } else { &mut self.denied };
        *total = total.saturating_add(1);
        if let Some(known) = known {
            known.count = known.count.saturating_add(1);
            known.called(name);
            return false;
        }
        if self.hosts.len() >= bounds::REMEMBERED_HOSTS {
            self.more_hosts = true;
            return false;
        }
        self.hosts.insert(key, Turned { count: 1, programs: name.into_iter().collect() });
        true
    }
}

impl Turned {
    fn called(&mut self, program: Option<String>) {
        if let Some(program) = program
            && self.programs.len() < bounds::NAMED_PROGRAMS
            && !self.programs.contains(&program)
        {
            self.programs.push(program);
        }
    }
}

impl Turns {
    /// Time that the connections of a burst take at the lasting rate.
    const BURST: Duration = bounds::CONNECTION_PACE.saturating_mul(bounds::CONNECTIONS_IN_A_BURST);

    /// How long the next one has to wait, so long after the start.
    fn next(&mut self, elapsed: Duration) -> Duration {
        let now = elapsed.saturating_add(Self::BURST);
        self.due = self.due.max(elapsed).saturating_add(bounds::CONNECTION_PACE);
        self.due.saturating_sub(now)
    }
}

impl Throttle {
    /// How many were only counted since the last line, if there is room for one now, or it has to be written anyway.
    fn take(&mut self, anyway: bool) -> Option<u64> {
        let passed = self.filled.elapsed().as_secs();
        if passed > 0 {
            let more = u32::try_from(passed).unwrap_or(u32::MAX).saturating_mul(bounds::REFUSALS_PER_SECOND);
            self.room = self.room.saturating_add(more).min(bounds::REFUSALS);
            self.filled = Instant::now();
        }
        match self.room.checked_sub(1) {
            Some(room) => {
                self.room = room;
                Some(std::mem::take(&mut self.unwritten))
            }
            None if anyway => Some(std::mem::take(&mut self.unwritten)),
            None => {
                self.unwritten = self.unwritten.saturating_add(1);
                None
            }
        }
    }
}

/// What would allow it. The program inside chose the host, so no address of this machine or its networks is proposed.
fn proposed(reason: Reason, host: &Host, port: Option<u16>) -> Option<String> {
    match host {
        Host::Address(address) if !classify(*address).is_public() => None,
        _ => remedy(reason, host, port.unwrap_or(HTTPS), Layer::Tls).map(|remedy| remedy.brief()),
    }
}

fn entry_name(entry: Entry) -> &'static str {
    match entry {
        Entry::Transparent => "transparent",
        Entry::Connect => "connect",
        Entry::Forward => "forward",
        Entry::Socks => "socks",
        Entry::Dns => "dns",
    }
}

/// A connection that was let through. Its end is recorded when this is dropped.
#[derive(Debug)]
pub struct Opened {
    ledger: Arc<Ledger>,
    id: u64,
    entry: Entry,
    caller: Caller,
    host: String,
    port: u16,
    address: SocketAddr,
    rule: Arc<str>,
    started: Instant,
    tally: Tally,
    requests: AtomicU64,
}

impl Opened {
    /// What passes is counted here.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Counts a request of plain HTTP.
    pub fn request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    fn line(&self) -> Egress<'_> {
        Egress {
            id: Some(self.id),
            entry: Some(entry_name(self.entry)),
            program: self.caller.program().map(|program| program.name.as_str()),
            pid: self.caller.program().map(|program| program.pid),
            host: Some(&self.host),
            port: Some(self.port),
            address: Some(self.address),
            verdict: "allow",
            reason: Reason::Allowed.code(),
            rule: Some(&self.rule),
            ..Egress::default()
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let (up, down) = self.tally.get();
        let requests = self.requests.load(Relaxed);
        self.ledger.write(&Event::Egress(Egress {
            bytes_up: Some(up),
            bytes_down: Some(down),
            requests: (requests > 0).then_some(requests),
            duration_ms: Some(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)),
            ..self.line()
        }));
        let mut state = self.ledger.state();
        state.bytes.0 = state.bytes.0.saturating_add(up);
        state.bytes.1 = state.bytes.1.saturating_add(down);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::audit::Recorder;

    fn after(refusals: &[(Entry, &str, u16, Reason)]) -> (Totals, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        let recorder = Recorder::create(directory.path(), "0123456789ab").unwrap();
        let (tell, mut notices) = mpsc::unbounded_channel();
        let ledger = Ledger::new(Arc::new(Mutex::new(recorder)), tell);
        for (entry, host, port, reason) in refusals {
            let host = Host::parse(host).unwrap();
            let wanted = Wanted { entry: *entry, host, port: *port, caller: Caller::default() };
            ledger.refused(&Refusal::new(&wanted, *reason).detail("as a test"));
        }
        let mut told = Vec::new();
        while let Ok(Notice::Turned(text)) = notices.try_recv() {
            told.push(text);
        }
        (ledger.totals(), told)
    }

    fn counts(hosts: &[TurnedHost]) -> Vec<(&str, u64, Option<&str>)> {
        hosts.iter().map(|host| (host.host.as_str(), host.count, host.remedy.as_deref())).collect()
    }

    #[test]
    fn a_name_counts_once_however_often_it_is_looked_up() {
        let lookup = (Entry::Dns, "a.example.com", 0, Reason::HostNotAllowed);
        let (totals, told) = after(&[lookup; 4]);
        assert_eq!(totals.denied, 1);
        assert_eq!(counts(&totals.denied_hosts), [("a.example.com", 1, Some("--allow a.example.com"))]);
        assert_eq!(told, ["refused a.example.com: no rule of the policy allows this host"]);
        // Connections count each.
        let connection = (Entry::Connect, "a.example.com", 443, Reason::HostNotAllowed);
        assert_eq!(after(&[lookup, connection, connection]).0.denied, 3);
    }

    #[test]
    fn what_is_allowed_and_not_reached_is_told_and_no_refusal() {
        let failed = (Entry::Transparent, "a.example.com", 443, Reason::NameNotFound);
        let (totals, told) = after(&[failed, failed]);
        assert_eq!((totals.denied, totals.failed), (0, 2));
        assert!(totals.denied_hosts.is_empty());
        assert_eq!(counts(&totals.failed_hosts), [("a.example.com", 2, None)]);
        assert_eq!(told, ["not reached a.example.com:443: the name has no address (as a test)"]);
        // A program that does not say what it wants was not let through.
        let (totals, _) = after(&[(Entry::Transparent, "a.example.com", 443, Reason::TooSlow)]);
        assert_eq!((totals.denied, totals.failed), (1, 0));
    }

    #[test]
    fn what_would_allow_it_names_the_port_and_is_no_rule_that_would_be_refused() {
        for (host, port, reason, remedy) in [
            ("a.example.com", 8443, Reason::NeedsInspection, Some("--allow a.example.com:8443")),
            ("a.example.com", 80, Reason::MethodNotAllowed, Some("--allow a.example.com")),
            (
                "a.example.com",
                22,
                Reason::NotTls,
                Some("[[allow]] with host = \"a.example.com\", ports = [22], tunnel = \"raw\""),
            ),
            (
                "8.8.8.8",
                443,
                Reason::AddressNotAllowed,
                Some("[[allow]] with host = \"8.8.8.8\", ports = [443], tunnel = \"raw\""),
            ),
            ("169.254.169.254", 80, Reason::AddressNotAllowed, None),
            ("127.0.0.1", 443, Reason::AddressNotAllowed, None),
            ("10.0.0.1", 22, Reason::PortNotAllowed, None),
            ("[::1]", 443, Reason::AddressNotAllowed, None),
            ("[fd00:18:1::1]", 443, Reason::AddressNotAllowed, None),
            ("198.18.1.250", 443, Reason::AddressNotAllowed, None),
            ("a.example.com", 443, Reason::DeniedByRule, None),
        ] {
            let (totals, _) = after(&[(Entry::Transparent, host, port, reason)]);
            assert_eq!(counts(&totals.denied_hosts), [(host, 1, remedy)]);
        }
    }

    #[test]
    fn a_flood_of_connections_has_to_wait() {
        let (mut turns, pace) = (Turns::default(), bounds::CONNECTION_PACE);
        let start = Duration::ZERO;
        for _ in 0..bounds::CONNECTIONS_IN_A_BURST {
            assert_eq!(turns.next(start), Duration::ZERO);
        }
        assert_eq!(turns.next(start), pace);
        assert_eq!(turns.next(start), pace * 2);
        // A pause gives room for so many again, and never for more than a burst.
        assert_eq!(turns.next(pace * 3), Duration::ZERO);
        let much_later = Turns::BURST * 5;
        let free = (0..).take_while(|_| turns.next(much_later).is_zero()).count();
        assert_eq!(u32::try_from(free), Ok(bounds::CONNECTIONS_IN_A_BURST));
    }
}
