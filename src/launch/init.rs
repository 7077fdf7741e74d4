//! PID 1 of the jail: builds it, starts the workload, reaps, and cleans up.
//!
//! It keeps its capabilities inside the user namespace, because masks have to be renewed during the run, holds no
//! secret, is not dumpable, and never executes anything itself. When the supervisor is gone, its end of the channel
//! reads as closed: init removes what it left on the host and exits, and the kernel kills everything else.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Gid, Pid, Uid, setgroups, sethostname, setresgid, setresuid, setsid};

use super::confine::Confinement;
use super::guards::Guards;
use super::holders::Holders;
use super::masks::{Masks, base_of};
use super::message::{Channel, Connectable, Covered, Ending, Failure, FromInit, Ready, Stdio, Step, ToInit};
use super::network::{self, Listeners, Network};
use super::placeholders;
use super::rootfs::{self, Prepared};
use super::shares::Shares;
use super::workload::{self, Command, Ends};
use crate::plan::Plan;
use crate::sys::ctty;
use crate::sys::process::{self, Change};

/// What init gets beside the plan.
#[derive(Debug)]
pub struct Setup {
    /// The channel to the supervisor.
    pub channel: Channel,
    /// Where the supervisor asks for sockets of the jail's network, when ports are published.
    pub sockets: Option<Channel>,
    /// Where the supervisor asks which program holds a socket, when there is a way out.
    pub holders: Option<Channel>,
    /// Trees that root's supervisor prepared.
    pub prepared: Prepared,
    /// The workload's standard descriptors.
    pub stdio: [Stdio; 3],
    /// The workload's ends of the pipes, where `stdio` says pipe.
    pub ends: Ends,
    /// Limits, Landlock and seccomp of every command in the jail.
    pub confinement: Confinement,
    /// The directory on the host that holds this session's own, which is removed at the end.
    pub sessions: OwnedFd,
}

impl Setup {
    /// The numbers of all descriptors in here: init closes every other.
    pub fn descriptors(&self) -> Vec<i32> {
        let Self { channel, sockets, holders, prepared, stdio: _, ends, confinement: _, sessions } = self;
        let mut all = vec![channel.as_raw_fd(), sessions.as_raw_fd()];
        all.extend(sockets.iter().chain(holders).map(AsRawFd::as_raw_fd));
        all.extend(prepared.values().map(AsRawFd::as_raw_fd));
        all.extend(ends.iter().flatten().map(AsRawFd::as_raw_fd));
        all
    }
}

/// Runs init; never returns.
pub fn main(plan: &Plan, setup: Setup) -> ! {
    let mut init = Init {
        plan,
        environment: plan.environment.clone(),
        guards: Guards::default(),
        sockets: None,
        holders: None,
        running: None,
        spawned: Vec::new(),
    };
    let status = match init.run(setup) {
        Ok(()) => 0,
        Err(()) => 1,
    };
    std::process::exit(status)
}

struct Init<'a> {
    plan: &'a Plan,
    /// Of every command: the plan's, and the placeholders.
    environment: Vec<(OsString, OsString)>,
    guards: Guards,
    /// Where sockets of the jail's network are asked for, until nobody asks any more.
    sockets: Option<Channel>,
    /// Likewise for who holds a socket.
    holders: Option<Holders>,
    running: Option<Pid>,
    /// Commands of `jail exec`, each with its terminal as far as it has one.
    spawned: Vec<(Pid, u32, Option<OwnedFd>)>,
}

/// A jail that stands.
struct Standing {
    root: OwnedFd,
    workspace: OwnedFd,
    masks: Masks,
    terminal: Option<Terminal>,
    /// Until the supervisor has it: nothing inside may hold what the supervisor accepts on.
    network: Option<Network>,
}

impl Standing {
    /// Says that the jail stands, and hands over what the supervisor is to hold.
    fn report(&mut self, channel: &Channel) -> nix::Result<()> {
        let Some(Network { redirection, listeners }) = self.network.take() else { return Err(Errno::EALREADY) };
        // Without it init takes its mounts down itself, and the end waits for that.
        let mounts = namespace_of_mounts().ok();
        let ready = Ready {
            redirection,
            mounts: mounts.is_some(),
            terminal: self.terminal.is_some(),
            tcp: listeners.tcp.len(),
            dns_udp: listeners.dns_udp.len(),
            dns_tcp: listeners.dns_tcp.len(),
            diag: listeners.diag.is_some(),
        };
        let mut descriptors: Vec<_> = mounts.iter().map(AsFd::as_fd).collect();
        descriptors.extend(self.terminal.iter().map(|terminal| terminal.master.as_fd()));
        let Listeners { tcp, dns_udp, dns_tcp, diag } = &listeners;
        descriptors.extend([tcp, dns_udp, dns_tcp].into_iter().flatten().chain(diag).map(AsFd::as_fd));
        channel.send(&FromInit::Ready(ready), &descriptors)
    }

    /// Hides what is at a path of the plan's form now.
    fn mask(&mut self, path: &[u8]) -> nix::Result<Covered> {
        let (base, path) = base_of(self.root.as_fd(), self.workspace.as_fd(), Path::new(OsStr::from_bytes(path)));
        self.masks.apply_current(base, path)
    }

    /// Protects what is at a path of the plan's form now.
    fn guard(&self, path: &[u8], pin: bool) -> nix::Result<Covered> {
        Guards::renew(self.root.as_fd(), self.workspace.as_fd(), Path::new(OsStr::from_bytes(path)), pin)
            .map(|()| Covered::Now)
    }
}

struct Terminal {
    master: OwnedFd,
    peer: OwnedFd,
}

impl Init<'_> {
    fn run(&mut self, setup: Setup) -> Result<(), ()> {
        let Setup { channel, sockets, holders, prepared, stdio, ends, confinement, sessions } = setup;
        self.sockets = sockets;
        self.holders = holders.map(Holders::new);
        let original = block_signals().map_err(drop)?;
        // A supervisor that died before this point closed the channel: EPIPE.
        match channel.receive::<ToInit>() {
            Ok((ToInit::Mapped, _)) => {}
            _ => return Err(()),
        }
        let result = self.stand(&channel, prepared, &stdio);
        let outcome = match result {
            Ok(mut standing) => {
                if standing.report(&channel).is_ok() && self.told_to_go(&channel, &mut standing) {
                    self.supervised(&channel, standing, &stdio, ends, &confinement, original)
                } else {
                    self.guards.remove_all(standing.root.as_fd(), standing.workspace.as_fd());
                    Err(())
                }
            }
            Err((failure, root)) => {
                if let Some(root) = root {
                    self.guards.remove_all(root.directory(), root.workspace.as_fd());
                }
                let _ = channel.send(&FromInit::Failed(failure), &[]);
                Err(())
            }
        };
        super::session_files::remove(sessions.as_fd(), &self.plan.session);
        outcome
    }

    /// Waits for the word to start. What the host replaced while the jail was built is hidden before, or nothing starts.
    fn told_to_go(&mut self, channel: &Channel, standing: &mut Standing) -> bool {
        loop {
            let (step, covered, path) = match channel.receive::<ToInit>() {
                Ok((ToInit::Go, _)) => return true,
                Ok((ToInit::Placeholder(placeholder), _)) => {
                    if let Err(failure) = placeholders::put(placeholder, standing.root.as_fd(), &mut self.environment) {
                        let _ = channel.send(&FromInit::Failed(failure), &[]);
                        return false;
                    }
                    continue;
                }
                Ok((ToInit::Mask { path }, _)) => (Step::Mask, standing.mask(&path), path),
                Ok((ToInit::Guard { path, pin }, _)) => (Step::Guard, standing.guard(&path, pin), path),
                _ => return false,
            };
            let covered = match covered {
                Ok(covered) => covered,
                Err(errno) => {
                    let failure = step.failed(String::from_utf8_lossy(&path), errno);
                    let _ = channel.send(&FromInit::Failed(failure), &[]);
                    return false;
                }
            };
            let _ = channel.send(&FromInit::Masked { path, error: None, covered }, &[]);
        }
    }

    /// Builds the jail. On failure also returns the root, so that placeholders can be removed.
    fn stand(
        &mut self,
        channel: &Channel,
        prepared: Prepared,
        stdio: &[Stdio; 3],
    ) -> Result<Standing, (Failure, Option<rootfs::Root>)> {
        let early = |failure| (failure, None);
        self.become_user().map_err(early)?;
        let network = network::set_up(&self.plan.network).map_err(early)?;
        let root = rootfs::build(self.plan, prepared).map_err(early)?;
        let result = (|| {
            rootfs::mount_proc(&root)?;
            let shares = Shares::receive(channel).map_err(|errno| Step::Guard.failed("shares", errno))?;
            self.guards = Guards::new(shares);
            self.guards.apply_all(self.plan, root.directory(), root.workspace.as_fd(), root.masks.as_fd())?;
            let store = root.masks.try_clone().map_err(|_| Step::Mask.failed("dup", Errno::EMFILE))?;
            let mut masks = Masks::new(store);
            masks.apply_all(self.plan, root.directory(), root.workspace.as_fd())?;
            rootfs::enter(&root)?;
            let terminal = if stdio.contains(&Stdio::Terminal) { Some(open_terminal()?) } else { None };
            if let Some(terminal) = &terminal {
                ctty::take(terminal.peer.as_fd()).map_err(|errno| Step::Terminal.failed("TIOCSCTTY", errno))?;
            }
            Ok((masks, terminal))
        })();
        match result {
            Ok((masks, terminal)) => {
                let network = Some(network);
                Ok(Standing { root: root.root, workspace: root.workspace, masks, terminal, network })
            }
            Err(failure) => Err((failure, Some(root))),
        }
    }

    /// Takes the jail's identity, leaves the host's session and hides what /proc would show of this process.
    fn become_user(&self) -> Result<(), Failure> {
        let fail = |what: &'static str| move |errno| Step::Identity.failed(what, errno);
        let identity = &self.plan.identity;
        if Uid::current().as_raw() != identity.inside_uid || Gid::current().as_raw() != identity.inside_gid {
            let (uid, gid) = (Uid::from_raw(identity.inside_uid), Gid::from_raw(identity.inside_gid));
            setgroups(&[]).map_err(fail("setgroups"))?;
            setresgid(gid, gid, gid).map_err(fail("setresgid"))?;
            setresuid(uid, uid, uid).map_err(fail("setresuid"))?;
        }
        process::wipe_arguments_and_environment(b"jail: init").map_err(fail("wipe arguments"))?;
        prctl::set_name(c"jail-init").map_err(fail("PR_SET_NAME"))?;
        prctl::set_dumpable(false).map_err(fail("PR_SET_DUMPABLE"))?;
        // A session of its own: no controlling terminal of the host.
        setsid().map_err(fail("setsid"))?;
        sethostname(&self.plan.hostname).map_err(|errno| Step::Network.failed("sethostname", errno))
    }

    fn supervised(
        &mut self,
        channel: &Channel,
        mut standing: Standing,
        stdio: &[Stdio; 3],
        ends: Ends,
        confinement: &Confinement,
        original: SigSet,
    ) -> Result<(), ()> {
        let command =
            Command { words: &self.plan.command, environment: &self.environment, directory: &self.plan.directory };
        let terminal = standing.terminal.as_ref().map(|terminal| terminal.peer.as_fd());
        let started = workload::start(&command, stdio, ends, terminal, false, confinement, &original);
        let mut peer = None;
        let result = match started {
            Ok(pid) => {
                self.running = Some(pid);
                let _ = channel.send(&FromInit::Started, &[]);
                // The peer stays open until everything has ended: a workload may close the terminal and open /dev/tty
                // later, and a master without any peer reads as gone.
                if let Some(terminal) = standing.terminal.take() {
                    drop(terminal.master);
                    peer = Some(terminal.peer);
                }
                self.watch(channel, &mut standing, confinement, &original)
            }
            Err(failure) => {
                let _ = channel.send(&FromInit::Failed(failure), &[]);
                Err(())
            }
        };
        kill_everything();
        // Now the master sees the end of what was written.
        drop(peer);
        // The supervisor stops watching and serving while the placeholders go.
        if let Ok(Some(ending)) = result {
            let _ = channel.send(&FromInit::Ended(ending), &[]);
        }
        self.guards.remove_all(standing.root.as_fd(), standing.workspace.as_fd());
        if let Ok(Some(_)) = result {
            let _ = channel.send(&FromInit::Cleared, &[]);
        }
        result.map(drop)
    }

    /// Serves until the workload ends (its ending) or the supervisor is gone (`None`).
    fn watch(
        &mut self,
        channel: &Channel,
        standing: &mut Standing,
        confinement: &Confinement,
        original: &SigSet,
    ) -> Result<Option<Ending>, ()> {
        let signals =
            SignalFd::with_flags(&handled_signals(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(drop)?;
        loop {
            if let Some(ending) = self.reap(channel) {
                return Ok(Some(ending));
            }
            // Without a channel its place is taken by one that is looked at anyway.
            let sockets = self.sockets.as_ref().unwrap_or(channel);
            let holders = self.holders.as_ref().map_or(channel, Holders::channel);
            let mut descriptors: Vec<_> = [signals.as_fd(), channel.as_fd(), sockets.as_fd(), holders.as_fd()]
                .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN))
                .into();
            match poll(&mut descriptors, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return Err(()),
            }
            let ready = |number: usize| {
                descriptors.get(number).and_then(PollFd::revents).is_some_and(|events| !events.is_empty())
            };
            let (channel_ready, sockets_ready, holders_ready) = (ready(1), ready(2), ready(3));
            while let Ok(Some(_)) = signals.read_signal() {}
            if channel_ready {
                match channel.receive::<ToInit>() {
                    Ok((ToInit::End, _)) => {
                        kill_everything();
                        return Ok(Some(Ending::Signaled(libc::SIGKILL)));
                    }
                    Ok((message, descriptors)) => {
                        self.obey(channel, standing, message, descriptors, confinement, original);
                    }
                    Err(_) => return Ok(None),
                }
            }
            if sockets_ready {
                self.sockets.take_if(|sockets| Connectable::answer(sockets).is_err());
            }
            if holders_ready {
                self.holders.take_if(|holders| holders.answer().is_err());
            }
        }
    }

    fn obey(
        &mut self,
        channel: &Channel,
        standing: &mut Standing,
        message: ToInit,
        descriptors: Vec<OwnedFd>,
        confinement: &Confinement,
        original: &SigSet,
    ) {
        match message {
            ToInit::Signal(number) => {
                if let (Some(pid), Ok(signal)) = (self.running, Signal::try_from(number)) {
                    // The workload leads its own process group.
                    let _ = kill(Pid::from_raw(-pid.as_raw()), signal);
                }
            }
            ToInit::Continue => {
                let _ = kill(Pid::from_raw(-1), Signal::SIGCONT);
            }
            ToInit::Mask { path } => {
                let covered = standing.mask(&path);
                let _ = channel.send(&answer(path, covered), &[]);
            }
            ToInit::Guard { path, pin } => {
                let covered = standing.guard(&path, pin);
                let _ = channel.send(&answer(path, covered), &[]);
            }
            ToInit::Spawn(spawn) => {
                let id = spawn.id;
                match workload::spawn(&spawn, descriptors, &self.environment, confinement, original) {
                    Ok((pid, terminal)) => {
                        let (master, peer) = terminal.unzip();
                        self.spawned.push((pid, id, peer));
                        let master = master.as_ref().map(AsFd::as_fd);
                        let _ = channel.send(&FromInit::Spawned(id), master.as_slice());
                    }
                    Err(failure) => {
                        let _ = channel.send(&FromInit::SpawnFailed(id, failure), &[]);
                    }
                }
            }
            ToInit::Mapped
            | ToInit::Leases(_)
            | ToInit::Shared(_)
            | ToInit::Placeholder(_)
            | ToInit::Go
            | ToInit::End => {}
        }
    }

    /// Collects every child that changed; returns the workload's ending.
    fn reap(&mut self, channel: &Channel) -> Option<Ending> {
        while let Ok(Some((pid, change))) = process::collect_child(false, true) {
            let running = self.running == Some(pid);
            let ending = match change {
                Change::Exited(status) => Ending::Exited(status),
                Change::Killed(signal) => Ending::Signaled(signal),
                Change::Stopped(signal) => {
                    if running {
                        // The supervisor stops with it and renews no mask meanwhile, so nothing else may go on either.
                        let _ = kill(Pid::from_raw(-1), Signal::SIGSTOP);
                        let _ = channel.send(&FromInit::Stopped(signal), &[]);
                    }
                    continue;
                }
            };
            if running {
                self.running = None;
                return Some(ending);
            }
            if let Some(index) = self.spawned.iter().position(|(spawned, ..)| *spawned == pid) {
                let (_, id, peer) = self.spawned.swap_remove(index);
                drop(peer);
                let _ = channel.send(&FromInit::SpawnEnded(id, ending), &[]);
            }
        }
        None
    }
}

fn answer(path: Vec<u8>, covered: nix::Result<Covered>) -> FromInit {
    let error = covered.err().map(|errno| errno.desc().to_owned());
    FromInit::Masked { path, error, covered: covered.unwrap_or(Covered::Missed) }
}

/// This process's mount namespace (namespaces(7)), once the jail's own /proc is in view.
fn namespace_of_mounts() -> nix::Result<OwnedFd> {
    use nix::fcntl::{OFlag, open};
    open("/proc/self/ns/mnt", OFlag::O_RDONLY | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty())
}

/// Opens a pty in the jail's own devpts.
fn open_terminal() -> Result<Terminal, Failure> {
    use nix::fcntl::{OFlag, open};
    let master =
        open("/dev/pts/ptmx", OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty())
            .map_err(|errno| Step::Terminal.failed("/dev/pts/ptmx", errno))?;
    let peer = ctty::peer(master.as_fd()).map_err(|errno| Step::Terminal.failed("TIOCGPTPEER", errno))?;
    Ok(Terminal { master, peer })
}

/// A further terminal for `jail exec`.
pub(super) fn open_terminal_pair() -> Result<(OwnedFd, OwnedFd), Failure> {
    open_terminal().map(|Terminal { master, peer }| (master, peer))
}

fn handled_signals() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    set
}

/// Blocks every signal: as PID 1 init ignores those without a handler, and it wants none. Returns the mask to restore
/// in the workload.
fn block_signals() -> nix::Result<SigSet> {
    let mut original = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut original))?;
    Ok(original)
}

/// Kills and reaps every other process of the jail.
fn kill_everything() {
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    while process::collect_child(true, false).is_ok() {}
}
