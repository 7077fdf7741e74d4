//! `jail doctor`: what this machine enforces, layer by layer, found by launching a small jail.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::launch::cgroup::Cgroup;
use crate::launch::confine::{Capabilities, Confinement};
use crate::launch::init::Setup;
use crate::launch::message::{Channel, Ending, FromInit, Stdio, ToInit};
use crate::launch::{idmap, start};
use crate::plan::identity::{Identity, Idmap, UNPRIVILEGED_HOST_ID};
use crate::plan::limits::LimitsPlan;
use crate::plan::mounts::{Access, Mount};
use crate::plan::seccomp::{SeccompPlan, native_arch};
use crate::plan::{Plan, ruleset};
use crate::policy::{LimitsPolicy, Sourced, WorkspaceMode};
use crate::probe::Facts;
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
pub struct Layer {
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

fn table(layers: &[Layer]) -> String {
    let mut text = String::new();
    for layer in layers {
        let state = match layer.state {
            State::Ok => "ok",
            State::Partial => "partial",
            State::Missing => "MISSING",
        };
        text.push_str(&format!("{:<16} {:<8} {}\n", layer.layer, state, layer.detail));
        if let Some(remedy) = &layer.remedy {
            text.push_str(&format!("{:<16} {:<8} hint: {remedy}\n", "", ""));
        }
    }
    text
}

fn examine() -> Vec<Layer> {
    let facts = Facts::detect();
    let mut layers = vec![kernel(), landlock(facts.landlock_abi)];
    layers.extend(trial(facts));
    layers.push(cgroup());
    layers.push(limits());
    if facts.uid == 0 {
        layers.push(idmapped());
    }
    layers
}

fn kernel() -> Layer {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Layer { layer: "kernel", state: State::Ok, detail: release.trim().to_owned(), remedy: None }
}

fn landlock(abi: u32) -> Layer {
    let (state, detail, remedy) = match abi {
        0 | 1 => (
            State::Missing,
            format!("ABI {abi}; 2 is needed"),
            Some("use Linux 5.19 or later and put `landlock` into the boot parameter lsm=".to_owned()),
        ),
        2 => (State::Partial, "ABI 2: truncation is bounded by the read-only mounts alone".to_owned(), None),
        3..6 => (
            State::Partial,
            format!("ABI {abi}: abstract sockets and signals are bounded by the namespaces alone"),
            None,
        ),
        6..9 => (State::Ok, format!("ABI {abi}; host sockets in the file system are hidden by the mounts"), None),
        _ => (State::Ok, format!("ABI {abi}"), None),
    };
    Layer { layer: "landlock", state, detail, remedy }
}

/// Launches a jail that runs this program's `--version`, and reports each step up to the first that fails.
fn trial(facts: Facts) -> Vec<Layer> {
    const STEPS: [(&str, &str); 4] = [
        ("user namespace", "user, mount, pid, net, ipc, uts and cgroup namespaces"),
        ("file system", "private root, masks, read-only binds"),
        ("/proc", "own process table; the host's is not visible"),
        ("confinement", "no capability, no_new_privs, Landlock and seccomp on a real command"),
    ];
    let failed_at = match try_jail(facts) {
        Ok(()) => None,
        Err((step, error)) => Some((step, error)),
    };
    let mut layers = Vec::new();
    for (number, (layer, good)) in STEPS.iter().enumerate() {
        match &failed_at {
            Some((step, error)) if *step == number => {
                layers.push(Layer {
                    layer,
                    state: State::Missing,
                    detail: error.to_string(),
                    remedy: error.hint_text().map(str::to_owned),
                });
            }
            Some((step, _)) if *step < number => {
                layers.push(Layer { layer, state: State::Missing, detail: "not reached".to_owned(), remedy: None });
            }
            _ => layers.push(Layer { layer, state: State::Ok, detail: (*good).to_owned(), remedy: None }),
        }
    }
    layers
}

fn try_jail(facts: Facts) -> std::result::Result<(), (usize, Error)> {
    let plan = trial_plan(facts).map_err(|error| (3, error))?;
    let program = plan.seccomp.compile().map_err(|error| (3, Error::setup(error)))?;
    let (ours, theirs) = Channel::pair().map_err(|errno| (0, Error::setup(errno)))?;
    let sessions = Sessions::open().and_then(|sessions| sessions.directory()).map_err(|error| (1, error))?;
    let setup = Setup {
        channel: theirs,
        prepared: idmap::prepare(&plan).map_err(|error| (1, error))?,
        stdio: [Stdio::Null; 3],
        ends: [None, None, None],
        confinement: Confinement {
            limits: plan.limits.clone(),
            capabilities: Capabilities::Held,
            keep_fds: Vec::new(),
            landlock: Some(plan.landlock.clone()),
            seccomp: program,
        },
        sessions,
        leases: Vec::new(),
    };
    let launched = start::launch(&plan, setup, ours, &Cgroup::default()).map_err(|error| (step_of(&error), error))?;
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
        Ok(FromInit::Ended(Ending::Exited(0))) => Ok(()),
        Ok(FromInit::Failed(failure)) => Err((3, start::explain(&failure))),
        Ok(other) => Err((3, Error::setup(format!("the trial command did not run as expected: {other:?}")))),
        Err(errno) => Err((3, Error::setup(format!("lost the trial jail: {}", errno.desc())))),
    }
}

/// Which layer an error of the launch belongs to.
fn step_of(error: &Error) -> usize {
    let text = error.to_string();
    if text.contains("/proc:") || text.starts_with("cannot mount a fresh /proc") {
        2
    } else if text.starts_with("cannot build") || text.starts_with("cannot enter") {
        1
    } else {
        0
    }
}

fn trial_plan(facts: Facts) -> Result<Plan> {
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
            idmap: idmap::works(&own, 0, 0, UNPRIVILEGED_HOST_ID).then_some(Idmap { disk_uid: 0, disk_gid: 0 }),
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
        home: "/work".into(),
        landlock: ruleset::build(facts.landlock_abi, &mounts, WorkspaceMode::ReadOnly)?,
        mounts,
        masks: Vec::new(),
        guards: Vec::new(),
        environment: Vec::new(),
        seccomp: SeccompPlan::new(native_arch()?),
        limits: LimitsPlan::default(),
        scratch_bytes: 1 << 20,
    })
}

fn cgroup() -> Layer {
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
    Layer {
        layer: "cgroup",
        state: if all { State::Ok } else { State::Partial },
        detail: made.describe(),
        remedy: (!all).then(|| {
            "run jail inside a systemd user session, which delegates a cgroup (systemd-run --user --scope jail run …)"
                .to_owned()
        }),
    }
}

fn limits() -> Layer {
    let read = |name: &str| fs::read_to_string(name).map_or_else(|_| "?".to_owned(), |text| text.trim().to_owned());
    Layer {
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

fn idmapped() -> Layer {
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    if idmap::works(&here, 0, 0, UNPRIVILEGED_HOST_ID) {
        Layer {
            layer: "idmapped mounts",
            state: State::Ok,
            detail: "started by root, the workload is an unprivileged user; files keep their owner".to_owned(),
            remedy: None,
        }
    } else {
        Layer {
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
