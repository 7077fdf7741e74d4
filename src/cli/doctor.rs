//! `jail doctor`: what this machine enforces, layer by layer, found by launching a small jail.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use crate::error::{Error, Layer, Result};
use crate::launch::cgroup::Cgroup;
use crate::launch::confine::{Capabilities, Confinement};
use crate::launch::init::Setup;
use crate::launch::message::{Channel, Ending, FromInit, Stdio, ToInit};
use crate::launch::network::Redirection;
use crate::launch::shares::Shares;
use crate::launch::{idmap, start};
use crate::plan::identity::{Identity, Idmap, UNPRIVILEGED_HOST_ID};
use crate::plan::limits::LimitsPlan;
use crate::plan::mounts::{Access, Mount};
use crate::plan::network::NetworkPlan;
use crate::plan::seccomp::{SeccompPlan, native_arch};
use crate::plan::{Plan, ruleset};
use crate::policy::egress::EgressPolicy;
use crate::policy::{LimitsPolicy, Sourced, WorkspaceMode};
use crate::probe::{self, Facts};
use crate::supervise::session::{self, Sessions};

/// Say what this machine can enforce, and what to do about the rest
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print an AppArmor profile that lets this program use user namespaces, and nothing else
    #[arg(long)]
    apparmor_profile: bool,
}

/// One line of the report.
#[derive(Debug, Serialize)]
pub struct Line {
    layer: &'static str,
    state: State,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

/// How a layer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Enforced.
    Ok,
    /// Enforced by another layer, or in part; the detail says which.
    Partial,
    /// Missing, and `jail run` refuses to start without it.
    Missing,
    /// Comes after one that is missing, so it could not be tried.
    NotTried,
}

/// Prints the report; exit status 125 when a jail could not start here.
pub fn run(args: &Args) -> Result<ExitCode> {
    if args.apparmor_profile {
        super::print(apparmor_profile()?.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let layers = examine();
    let text = if args.json {
        let text = serde_json::to_string_pretty(&layers)
            .map_err(|error| Error::setup(format!("cannot encode the report: {error}")))?;
        format!("{text}\n")
    } else {
        table(&layers)
    };
    super::print(text.as_bytes())?;
    let missing = layers.iter().any(|layer| layer.state == State::Missing);
    Ok(if missing { ExitCode::from(125) } else { ExitCode::SUCCESS })
}

fn table(layers: &[Line]) -> String {
    let mut text = String::new();
    for layer in layers {
        let state = match layer.state {
            State::Ok => "ok",
            State::Partial => "partial",
            State::Missing => "MISSING",
            State::NotTried => "-",
        };
        text.push_str(&format!("{:<16} {:<8} {}\n", layer.layer, state, layer.detail));
        if let Some(remedy) = &layer.remedy {
            text.push_str(&format!("{:<16} {:<8} hint: {remedy}\n", "", ""));
        }
    }
    text.push_str(&verdict(layers));
    text
}

/// What it comes to, in one line.
fn verdict(layers: &[Line]) -> String {
    let of =
        |state| -> Vec<&str> { layers.iter().filter(|layer| layer.state == state).map(|layer| layer.layer).collect() };
    let (missing, partial) = (of(State::Missing), of(State::Partial));
    match (missing.is_empty(), partial.is_empty()) {
        (false, _) => format!("\n`jail run` refuses to start here: {} missing.\n", missing.join(", ")),
        (true, true) => "\n`jail run` works here, and every layer is enforced.\n".to_owned(),
        (true, false) => format!("\n`jail run` works here; in part only: {}.\n", partial.join(", ")),
    }
}

fn examine() -> Vec<Line> {
    let facts = Facts::detect();
    let mut layers = vec![kernel()];
    layers.extend(trial(facts));
    layers.push(cgroup());
    layers.push(limits());
    if facts.uid == 0 {
        layers.push(idmapped());
    }
    layers
}

fn kernel() -> Line {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Line { layer: "kernel", state: State::Ok, detail: release.trim().to_owned(), remedy: None }
}

fn landlock(abi: u32) -> Line {
    let (state, detail, remedy) = match abi {
        ..=2 => (State::Partial, "ABI 2: truncation is bounded by the read-only mounts alone".to_owned(), None),
        3..6 => (
            State::Partial,
            format!("ABI {abi}: abstract sockets and signals are bounded by the namespaces alone"),
            None,
        ),
        6..9 => (State::Ok, format!("ABI {abi}; host sockets in the file system are hidden by the mounts"), None),
        _ => (State::Ok, format!("ABI {abi}"), None),
    };
    Line { layer: "landlock", state, detail, remedy }
}

/// Launches a jail that runs this program's `--version`, and reports each layer up to the first that is missing.
///
/// Without Landlock the rest is tried all the same: nothing else depends on it.
fn trial(facts: Facts) -> Vec<Line> {
    let mut missing = Vec::new();
    let mut tried = try_jail(facts, true);
    if let Err((Layer::Landlock, error)) = tried {
        missing.push((Layer::Landlock, error));
        tried = try_jail(facts, false);
    }
    let (redirection, end) = match tried {
        Ok(redirection) => (Some(redirection), None),
        Err(end) => (None, Some(end)),
    };
    let last = end.as_ref().map(|(layer, _)| *layer);
    missing.extend(end);
    let mut lines = Vec::new();
    for layer in Layer::ALL {
        let found = missing.iter().find(|(failed, _)| *failed == layer);
        lines.push(match (found, layer) {
            (Some((_, error)), _) => Line {
                layer: layer.name(),
                state: State::Missing,
                detail: error.to_string(),
                remedy: error.hint_text().map(str::to_owned),
            },
            (None, _) if last.is_some_and(|last| last < layer) => Line {
                layer: layer.name(),
                state: State::NotTried,
                detail: "not tried: what it stands on is missing".to_owned(),
                remedy: None,
            },
            (None, Layer::Landlock) => landlock(facts.landlock_abi),
            (None, Layer::Network) => network(redirection.as_ref()),
            (None, _) => Line { layer: layer.name(), state: State::Ok, detail: good(layer).to_owned(), remedy: None },
        });
    }
    lines
}

/// The network of a jail that stands, or that failed later.
fn network(redirection: Option<&Redirection>) -> Line {
    let (state, detail, remedy) = match redirection {
        Some(Redirection::Routes { why }) => (
            State::Partial,
            format!(
                "no nftables ({why}): of the connections out, only those on ports that the policy names are answered"
            ),
            Some(
                "load the kernel's modules: modprobe nft_tproxy, or else modprobe -a nft_chain_nat nft_nat \
                 (CONFIG_NF_TABLES_INET, CONFIG_NFT_TPROXY, CONFIG_NFT_NAT); for a container, on its host"
                    .to_owned(),
            ),
        ),
        _ => (State::Ok, good(Layer::Network).to_owned(), None),
    };
    Line { layer: Layer::Network.name(), state, detail, remedy }
}

/// What a layer that stands does.
fn good(layer: Layer) -> &'static str {
    match layer {
        Layer::Namespaces => "user, mount, pid, net, ipc, uts and cgroup namespaces",
        Layer::Network => "no way out but the policy proxy",
        Layer::FileSystem => "private root, masks, read-only binds",
        Layer::Proc => "own process table; the host's is not visible",
        Layer::Root => "entered; the host's is gone",
        Layer::Capabilities => "none, no_new_privs, no inherited descriptor",
        Layer::Landlock => "enforced on a real command",
        Layer::Seccomp => "enforced on a real command",
    }
}

/// Tries a jail; how its connections are redirected, or which layer is missing and why.
fn try_jail(facts: Facts, landlock: bool) -> std::result::Result<Redirection, (Layer, Error)> {
    // What no layer is to blame for is the last step's: the command did not run.
    let blame = |error: Error| (error.missing_layer().unwrap_or(Layer::Seccomp), error);
    let at = |layer| move |error: Error| (error.missing_layer().unwrap_or(layer), error);
    probe::proc().map_err(at(Layer::Namespaces))?;
    let plan = trial_plan(facts, landlock).map_err(blame)?;
    let program = plan.seccomp.compile().map_err(|error| (Layer::Seccomp, Error::setup(error)))?;
    let (ours, theirs) = Channel::pair().map_err(|errno| (Layer::Namespaces, Error::setup(errno)))?;
    let sessions = Sessions::open().and_then(|sessions| sessions.directory()).map_err(at(Layer::Namespaces))?;
    let setup = Setup {
        channel: theirs,
        sockets: None,
        holders: None,
        prepared: idmap::prepare(&plan).map_err(at(Layer::FileSystem))?,
        stdio: [Stdio::Null; 3],
        ends: [None, None, None],
        confinement: Confinement {
            limits: plan.limits.clone(),
            capabilities: Capabilities::Held,
            keep_fds: Vec::new(),
            landlock: landlock.then(|| plan.landlock.clone()),
            seccomp: program,
        },
        sessions,
    };
    let launched = start::launch(&plan, setup, ours, &Cgroup::default())
        .and_then(|starting| {
            starting.share(&Shares::default());
            starting.stands()
        })
        .map_err(at(Layer::Namespaces))?;
    let answer = launched.channel.send(&ToInit::Go, &[]).and_then(|()| {
        loop {
            match launched.channel.receive::<FromInit>()? {
                (FromInit::Started, _) => {}
                (other, _) => return Ok(other),
            }
        }
    });
    let _ = nix::sys::wait::waitpid(launched.pid, None);
    match answer {
        Ok(FromInit::Ended(Ending::Exited(0))) => Ok(launched.redirection),
        Ok(FromInit::Failed(failure)) => Err(blame(start::explain(&failure))),
        Ok(other) => Err(blame(Error::setup(format!("the trial command did not run as expected: {other:?}")))),
        Err(errno) => Err(blame(Error::setup(format!("lost the trial jail: {}", errno.desc())))),
    }
}

fn trial_plan(facts: Facts, landlock: bool) -> Result<Plan> {
    let own = std::env::current_exe()
        .map_err(|error| Error::setup(format!("cannot find this program's own file: {error}")))?;
    let bind = |path: &str, source: &Path, access, directory| Mount::Bind {
        path: path.into(),
        source: source.to_owned(),
        access,
        directory,
        why: "trial".to_owned(),
    };
    let mut mounts = Vec::new();
    for name in ["/bin", "/lib", "/lib32", "/lib64", "/nix/store", "/sbin", "/usr"] {
        match (fs::symlink_metadata(name), fs::read_link(name)) {
            (Ok(_), Ok(target)) => mounts.push(Mount::Symlink { path: name.into(), target }),
            (Ok(_), Err(_)) => mounts.push(bind(name, Path::new(name), Access::ReadOnly, true)),
            _ => {}
        }
    }
    mounts.push(bind("/dev/null", Path::new("/dev/null"), Access::Device, false));
    mounts.push(Mount::Directory { path: "/dev/pts".into() });
    mounts.push(Mount::Private { path: "/work".into(), mode: 0o700 });
    mounts.push(bind("/jail", &own, Access::ReadWrite, false));
    mounts.sort_by(|a, b| a.path().cmp(b.path()));
    let identity = if facts.uid == 0 {
        Identity {
            inside_uid: 1000,
            inside_gid: 1000,
            host_uid: UNPRIVILEGED_HOST_ID,
            host_gid: UNPRIVILEGED_HOST_ID,
            // This program's own file may lie where only root may go.
            idmap: idmap::works(&own, 0, 0, UNPRIVILEGED_HOST_ID)
                .unwrap_or(false)
                .then_some(Idmap { disk_uid: 0, disk_gid: 0 }),
        }
    } else {
        Identity::decide(facts.uid, facts.gid, Path::new("/"), false)?
    };
    Ok(Plan {
        session: session::new_name()?,
        command: vec!["/jail".into(), "--version".into()],
        workspace: "/work".into(),
        directory: "/work".into(),
        mode: WorkspaceMode::ReadOnly,
        identity,
        hostname: "jail".to_owned(),
        network: NetworkPlan::for_policy(&EgressPolicy::default()),
        home: "/work".into(),
        // Without it the plan needs some ruleset, which is then not applied.
        landlock: ruleset::build(if landlock { facts.landlock_abi } else { 2 }, &mounts, WorkspaceMode::ReadOnly)?,
        mounts,
        searched: Vec::new(),
        masks: Vec::new(),
        guards: Vec::new(),
        environment: Vec::new(),
        seccomp: SeccompPlan::new(native_arch()?),
        limits: LimitsPlan::default(),
        scratch_bytes: 1 << 20,
    })
}

fn cgroup() -> Line {
    let name = session::new_name().unwrap_or_else(|_| "probe".to_owned());
    let some = |value| Some(Sourced::default_value(value));
    let limits = LimitsPolicy {
        memory: some(1 << 30),
        processes: some(1000),
        cpu: Some(Sourced::default_value(1.0)),
        ..LimitsPolicy::default()
    };
    let made = Cgroup::create(&name, &limits);
    let all = made.memory && made.processes && made.cpu;
    Line {
        layer: "cgroup",
        state: if all { State::Ok } else { State::Partial },
        detail: made.describe(),
        remedy: (!all).then(|| {
            "run jail inside a systemd user session, which delegates a cgroup (systemd-run --user --scope jail run …)"
                .to_owned()
        }),
    }
}

fn limits() -> Line {
    let read = |name: &str| fs::read_to_string(name).map_or_else(|_| "?".to_owned(), |text| text.trim().to_owned());
    Line {
        layer: "limits",
        state: State::Ok,
        detail: format!(
            "rlimits; at most {} mounts in a jail, {} watched directories",
            read("/proc/sys/fs/mount-max"),
            read("/proc/sys/fs/inotify/max_user_watches")
        ),
        remedy: None,
    }
}

fn idmapped() -> Line {
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    if idmap::works(&here, 0, 0, UNPRIVILEGED_HOST_ID).unwrap_or(false) {
        Line {
            layer: "idmapped mounts",
            state: State::Ok,
            detail: "started by root, the workload is an unprivileged user; files keep their owner".to_owned(),
            remedy: None,
        }
    } else {
        Line {
            layer: "idmapped mounts",
            state: State::Partial,
            detail: format!("the file system of {} has none", here.display()),
            remedy: Some("start jail as an ordinary user, or give the workspace to one".to_owned()),
        }
    }
}

fn apparmor_profile() -> Result<String> {
    let own = std::env::current_exe()
        .map_err(|error| Error::setup(format!("cannot find this program's own file: {error}")))?;
    Ok(format!(
        "# Lets jail create user namespaces where AppArmor restricts them (Ubuntu 23.10 and later).\n\
         # Put this into /etc/apparmor.d/jail, then: apparmor_parser -r /etc/apparmor.d/jail\n\
         abi <abi/4.0>,\ninclude <tunables/global>\n\n\
         profile jail {} flags=(unconfined) {{\n  userns,\n}}\n",
        own.display()
    ))
}
