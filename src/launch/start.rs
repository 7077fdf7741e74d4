//! The supervisor's side of the launch: clone into all namespaces, write the id maps, wait until the jail stands.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::cgroup::Cgroup;
use super::init::{self, Setup};
use super::message::{Channel, Failure, FromInit, Ready, Step, ToInit};
use super::network::{Listeners, Redirection};
use super::shares::Shares;
use crate::error::{Error, ErrorKind, Layer, Result};
use crate::escape::escape;
use crate::plan::Plan;
use crate::sys::clone::{ALL_NAMESPACES, Cloned, clone_into};
use crate::sys::process;

/// An init that builds the jail.
#[derive(Debug)]
pub struct Starting {
    /// Init's process id on the host.
    pub pid: Pid,
    /// The channel to init.
    channel: Channel,
}

/// A jail that stands and waits for its workload to be started.
#[derive(Debug)]
pub struct Launched {
    /// Init's process id on the host.
    pub pid: Pid,
    /// The channel to init.
    pub channel: Channel,
    /// The jail's mount namespace: whoever gives it up last takes its mounts down. `None` where init keeps it alone.
    pub mounts: Option<OwnedFd>,
    /// The master of the jail's terminal, when the plan has one.
    pub terminal: Option<OwnedFd>,
    /// What connections out of the jail arrive at; empty when its network is closed.
    pub listeners: Listeners,
    /// How they come there.
    pub redirection: Redirection,
}

/// Clones init, which then builds the jail. Everything not in `setup` is closed inside.
pub fn launch(plan: &Plan, setup: Setup, channel: Channel, cgroup: &Cgroup) -> Result<Starting> {
    // An inherited ignored SIGCHLD would make the kernel reap init behind our back.
    process::default_signal(Signal::SIGCHLD)
        .map_err(|errno| Error::setup(format!("cannot reset SIGCHLD: {}", errno.desc())))?;
    match clone_into(ALL_NAMESPACES, cgroup.descriptor()).map_err(explain_clone)? {
        Cloned::Child => {
            // A panic must not unwind into the supervisor's code, which would clean up after a jail that still stands.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                let entered =
                    cgroup.enter().map_err(|(directory, errno)| Step::Cgroup.failed(escape(&directory), errno));
                let closed = || process::keep_only(&setup.descriptors());
                let prepared =
                    entered.and_then(|()| closed().map_err(|errno| Step::Descriptors.failed("close_range", errno)));
                if let Err(failure) = prepared {
                    let _ = setup.channel.send(&FromInit::Failed(failure), &[]);
                    std::process::exit(1);
                }
                init::main(plan, setup)
            }));
            std::process::exit(1)
        }
        Cloned::Parent { pid, .. } => {
            drop(setup);
            tracing::debug!(pid, cgroup = cgroup.describe(), "cloned init");
            let starting = Starting { pid: Pid::from_raw(pid), channel };
            write_id_maps(plan, pid).map_err(|error| {
                // Init may have gone meanwhile: then why it went is the reason, not that its files are closed.
                let said = starting.channel.receive_now::<FromInit>();
                starting.abandon();
                match said {
                    Ok((FromInit::Failed(failure), _)) => explain(&failure),
                    _ => error,
                }
            })?;
            // Init may have said why it cannot go on, and gone, before it is told anything.
            let _ = starting.channel.send(&ToInit::Mapped, &[]);
            Ok(starting)
        }
    }
}

impl Starting {
    /// Hands init what it needs for placeholders; it waits for that before it protects anything.
    pub fn share(&self, shares: &Shares) {
        // An init that is gone has said why: [`Starting::stands`] hears it.
        let _ = shares.send(&self.channel);
    }

    /// Waits until the jail stands; its shares have been handed over. Otherwise init is gone.
    ///
    /// # Errors
    /// What could not be done.
    pub fn stands(self) -> Result<Launched> {
        match self.channel.receive::<FromInit>() {
            Ok((FromInit::Ready(ready), descriptors)) => {
                tracing::debug!(redirection = ?ready.redirection, "the jail stands");
                Ok(self.take_over(ready, descriptors))
            }
            Ok((FromInit::Failed(failure), _)) => {
                self.abandon();
                Err(explain(&failure))
            }
            Ok(_) => {
                self.abandon();
                Err(Error::setup("init answered out of turn"))
            }
            Err(errno) => {
                let status = self.abandon();
                Err(Error::setup(format!("init ended while setting up the jail ({status}, {})", errno.desc())))
            }
        }
    }

    fn take_over(self, ready: Ready, descriptors: Vec<OwnedFd>) -> Launched {
        let Ready { redirection, mounts, terminal, tcp, dns_udp, dns_tcp, diag } = ready;
        let mut descriptors = descriptors.into_iter();
        let mounts = mounts.then(|| descriptors.next()).flatten();
        let terminal = terminal.then(|| descriptors.next()).flatten();
        let mut take = |count: usize| descriptors.by_ref().take(count).collect();
        let (tcp, dns_udp, dns_tcp) = (take(tcp), take(dns_udp), take(dns_tcp));
        let listeners = Listeners { tcp, dns_udp, dns_tcp, diag: diag.then(|| descriptors.next()).flatten() };
        Launched { pid: self.pid, channel: self.channel, mounts, terminal, listeners, redirection }
    }

    /// Tells init to end and reaps it; returns how it ended.
    pub fn abandon(&self) -> String {
        let _ = self.channel.send(&ToInit::End, &[]);
        let _ = nix::sys::socket::shutdown(self.channel.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        match reap(self.pid, PATIENCE) {
            Some(WaitStatus::Exited(_, status)) => format!("exit status {status}"),
            Some(WaitStatus::Signaled(_, signal, _)) => format!("killed by {signal}"),
            _ => "gone".to_owned(),
        }
    }
}

/// How long init may take to leave when it is told to.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Waits for a child that was told to end, and kills it when it does not. One that even then stays is in a call that the
/// kernel does not interrupt: `None`, it ends when that does.
pub fn reap(pid: Pid, patience: Duration) -> Option<WaitStatus> {
    for _ in 0..2 {
        let start = Instant::now();
        while start.elapsed() < patience {
            match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => std::thread::sleep(Duration::from_millis(1)),
                ended => return ended.ok(),
            }
        }
        let _ = kill(pid, Signal::SIGKILL);
    }
    None
}

fn write_id_maps(plan: &Plan, pid: i32) -> Result<()> {
    let identity = &plan.identity;
    let write = |name: &str, content: String| -> Result<()> {
        fs::write(format!("/proc/{pid}/{name}"), content).map_err(|error| explain_map(name, &error))
    };
    // An ordinary user may write the group map only after giving up setgroups(2) (user_namespaces(7)).
    if !nix::unistd::Uid::effective().is_root() {
        write("setgroups", "deny".to_owned())?;
    }
    write("uid_map", format!("{} {} 1", identity.inside_uid, identity.host_uid))?;
    write("gid_map", format!("{} {} 1", identity.inside_gid, identity.host_gid))
}

/// What keeps a promise from being kept when no user namespace can be had, and the remedy.
pub(super) fn explain_clone(errno: Errno) -> Error {
    let error = Error::setup(format!("cannot create the jail's namespaces: {}", errno.desc()));
    let exhausted = matches!(errno, Errno::EAGAIN | Errno::EMFILE | Errno::ENFILE);
    let error = if exhausted { error } else { error.layer(Layer::Namespaces) };
    match errno {
        Errno::EPERM | Errno::EACCES => error.hint(namespace_remedy()),
        Errno::ENOSPC => error.hint("user namespaces are switched off: sysctl user.max_user_namespaces=10000"),
        Errno::ENOSYS | Errno::EINVAL => error.hint("this kernel lacks user namespaces; `jail doctor` says more"),
        Errno::EAGAIN => error.hint("the limit on processes is reached: see `ulimit -u`"),
        Errno::EMFILE | Errno::ENFILE => error.hint(OPEN_FILES),
        _ => error.hint("`jail doctor` says what this machine can enforce"),
    }
}

fn explain_map(name: &str, error: &io::Error) -> Error {
    Error::setup(format!("cannot write {name} of the jail's user namespace: {error}"))
        .layer(Layer::Namespaces)
        .hint(namespace_remedy())
}

/// What to do where Landlock is missing.
pub const LANDLOCK: &str = "Landlock needs Linux 5.19 or later with `landlock` among the boot parameter lsm=; in a container its filter \
     may hide it: --security-opt seccomp=unconfined";

/// What to do where seccomp is missing.
pub const SECCOMP: &str = "jail needs a kernel with CONFIG_SECCOMP_FILTER; a filter around it may refuse more";

/// What to do when descriptors run out.
pub const OPEN_FILES: &str = "the limit on open files is too low: see `ulimit -n`; 64 are enough";

/// The layer that is missing when a step fails with this error; `None` where something else is in the way.
fn missing_layer(step: Step, errno: Errno) -> Option<Layer> {
    match step {
        Step::Identity => Some(Layer::Namespaces),
        Step::Network => Some(Layer::Network),
        Step::Root => Some(Layer::FileSystem),
        Step::Mask | Step::Guard => {
            matches!(errno, Errno::ENOSYS | Errno::EPERM | Errno::EOPNOTSUPP).then_some(Layer::FileSystem)
        }
        Step::Proc => Some(Layer::Proc),
        Step::Pivot => Some(Layer::Root),
        Step::Descriptors | Step::Confine => Some(Layer::Capabilities),
        Step::Landlock => Some(Layer::Landlock),
        Step::Seccomp => Some(Layer::Seccomp),
        Step::Cgroup | Step::Placeholder | Step::Terminal | Step::Directory | Step::Exec => None,
    }
}

/// The likeliest reason why an unprivileged user namespace is refused here, with its exact remedy.
pub fn namespace_remedy() -> String {
    let sysctl = |name: &str| fs::read_to_string(Path::new("/proc/sys").join(name)).ok();
    let is = |name: &str, value: &str| sysctl(name).is_some_and(|text| text.trim() == value);
    if Path::new(crate::plan::mounts::BRIEF_PATH).exists() {
        "this is the inside of a jail, and a jail cannot be started in a jail; run the command as it is".to_owned()
    } else if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        "AppArmor restricts user namespaces here: put the profile that `jail doctor --apparmor-profile` prints \
         into /etc/apparmor.d/jail and load it with `apparmor_parser -r /etc/apparmor.d/jail`"
            .to_owned()
    } else if is("kernel/unprivileged_userns_clone", "0") {
        "user namespaces are switched off: sysctl kernel.unprivileged_userns_clone=1".to_owned()
    } else if is("user/max_user_namespaces", "0") {
        "user namespaces are switched off: sysctl user.max_user_namespaces=10000".to_owned()
    } else {
        "in a container, start it with a seccomp profile that allows user namespaces \
         (docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined), not in a chroot; \
         `jail doctor` says more"
            .to_owned()
    }
}

/// Turns a failure inside into an error with its exit status and hint.
pub fn explain(failure: &Failure) -> Error {
    let kind = match (failure.step, Errno::from_raw(failure.errno)) {
        (Step::Exec, Errno::ENOENT | Errno::ENOTDIR) => ErrorKind::NotFound,
        (Step::Exec, _) => ErrorKind::NotExecutable,
        _ => ErrorKind::Setup,
    };
    let errno = Errno::from_raw(failure.errno);
    let mut error = Error::new(kind, failure);
    let exhausted = matches!(errno, Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOSPC);
    if let (Some(layer), false) = (missing_layer(failure.step, errno), exhausted) {
        error = error.layer(layer);
    }
    match failure.step {
        Step::Exec if kind == ErrorKind::NotFound => {
            error.hint("the command must be in a directory that is visible inside; `jail plan` lists them")
        }
        Step::Exec if errno == Errno::E2BIG => error.hint("the arguments and the environment are too long together"),
        Step::Exec => error.hint("is it executable, and are its interpreter and libraries visible inside?"),
        Step::Directory => error.hint("the start directory must be inside the workspace"),
        Step::Mask | Step::Guard if errno == Errno::ENOSPC => {
            error.hint("hide their directory instead ([filesystem] hide), or raise sysctl fs.mount-max")
        }
        _ if matches!(errno, Errno::EMFILE | Errno::ENFILE) => error.hint(OPEN_FILES),
        _ if errno == Errno::ENOSYS => error.hint(
            "jail needs Linux 5.19 or later; where the kernel is new enough, a container's filter hides the call: \
             start it with --security-opt seccomp=unconfined",
        ),
        Step::Proc => error.hint(
            "a fresh /proc needs an unmasked one outside: in a container add --security-opt systempaths=unconfined",
        ),
        Step::Pivot if errno == Errno::EPERM => error.hint(
            "pivot_root is refused: in a container add --security-opt seccomp=unconfined; not in a chroot; not where the \
             root is the initial RAM disk",
        ),
        Step::Root | Step::Pivot if matches!(errno, Errno::EPERM | Errno::EACCES) => error.hint(namespace_remedy()),
        Step::Landlock => error.hint(LANDLOCK),
        Step::Seccomp => error.hint(SECCOMP),
        _ => error.hint("`jail doctor` says what this machine can enforce"),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    #[allow(clippy::zombie_processes, reason = "what is tested waits for them")]
    fn a_child_that_does_not_leave_is_killed() {
        let mut command = Command::new("sh");
        let deaf = command.args(["-c", "trap '' TERM HUP; echo; while :; do sleep 1; done"]).stdout(Stdio::piped());
        let mut child = deaf.spawn().expect("child");
        let mut line = [0];
        std::io::Read::read_exact(child.stdout.as_mut().expect("stdout"), &mut line).expect("line");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("pid"));
        let ended = reap(pid, Duration::from_millis(50));
        assert_eq!(ended, Some(WaitStatus::Signaled(pid, Signal::SIGKILL, false)));
        assert_eq!(reap(pid, Duration::from_millis(50)), None, "nothing is left to wait for");

        let child = Command::new("sh").args(["-c", "exit 3"]).spawn().expect("child");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("pid"));
        assert_eq!(reap(pid, PATIENCE), Some(WaitStatus::Exited(pid, 3)));
    }
}
