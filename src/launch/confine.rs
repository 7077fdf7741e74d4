//! The last steps of the workload before execve(2): everything that takes rights away, in the one order that works.

use std::os::fd::RawFd;
use std::path::PathBuf;

use caps::CapSet;
use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, PathFdError, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags,
};
use nix::errno::Errno;
use nix::sys::prctl as nix_prctl;
use nix::sys::resource::{self, getrlimit, setrlimit};
use nix::sys::stat::{SFlag, fstat};
use thiserror::Error;

use super::message::Step;
use crate::plan::landlock::{Access, LandlockPlan, LandlockScope};
use crate::plan::limits::{LimitsPlan, Resource};
use crate::plan::seccomp;
use crate::sys;

/// What to take away. Made before the fork; nothing here refers to the process that made it.
#[derive(Debug, Clone)]
pub struct Confinement {
    /// Resource limits.
    pub limits: LimitsPlan,
    /// What the process holds when it comes here.
    pub capabilities: Capabilities,
    /// Descriptors above 2 that stay open; they should be close-on-exec.
    pub keep_fds: Vec<RawFd>,
    /// `None` only where the plan says that Landlock is not to be had.
    pub landlock: Option<LandlockPlan>,
    /// The system-call filter.
    pub seccomp: seccomp::Program,
}

/// What the process holds when it comes to [`apply`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capabilities {
    /// Capabilities in its own user namespace: bounding set and secure bits must be emptied and locked too.
    Held,
    /// None, for want of a user namespace: only checked. The bounding set cannot be lowered, and with no_new_privs
    /// nothing can be gained from it.
    Absent,
}

/// What was enforced, as the kernel reported it afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enforced {
    /// The Landlock ABI that is enforced completely.
    pub landlock_abi: Option<u32>,
    /// Rules whose optional path does not exist.
    pub landlock_skipped: Vec<PathBuf>,
    /// Whether the bounding set is empty.
    pub bounding_set_empty: bool,
}

/// The step that failed. The process must exit.
#[derive(Debug, Error)]
pub enum ConfineError {
    /// setrlimit(2).
    #[error("cannot limit {resource:?}: {errno}")]
    Limit {
        /// What was to be limited.
        resource: Resource,
        /// The kernel's error.
        errno: Errno,
    },
    /// PR_SET_SECUREBITS.
    #[error("cannot lock the secure bits: {0}")]
    SecureBits(Errno),
    /// PR_CAPBSET_DROP.
    #[error("cannot empty the capability bounding set: {0}")]
    BoundingSet(Errno),
    /// capset(2) and PR_CAP_AMBIENT_CLEAR_ALL.
    #[error("cannot clear the {set:?} capabilities: {source}")]
    Clear {
        /// The set.
        set: CapSet,
        /// The error of the call.
        source: caps::errors::CapsError,
    },
    /// Reading back.
    #[error("cannot read the {set:?} capabilities: {source}")]
    Read {
        /// The set.
        set: CapSet,
        /// The error of the call.
        source: caps::errors::CapsError,
    },
    /// A set that still has a capability.
    #[error("the {0:?} capabilities are not empty after they were dropped")]
    Remain(CapSet),
    /// PR_SET_NO_NEW_PRIVS.
    #[error("cannot set no_new_privs: {0}")]
    NoNewPrivs(Errno),
    /// close_range(2).
    #[error("cannot close inherited descriptors: {0}")]
    Close(Errno),
    /// A path of a Landlock rule.
    #[error("cannot open a path for its Landlock rule: {0}")]
    LandlockPath(#[from] PathFdError),
    /// fstat(2) of a path of a Landlock rule.
    #[error("cannot examine {path} for its Landlock rule: {errno}")]
    LandlockStat {
        /// The path.
        path: PathBuf,
        /// The kernel's error.
        errno: Errno,
    },
    /// A plan with an ABI that this program does not know.
    #[error("no Landlock ABI {0}")]
    LandlockAbi(u32),
    /// Landlock's own calls, or a kernel with less than the plan wants.
    #[error("cannot enforce Landlock: {0}")]
    Landlock(#[from] RulesetError),
    /// Landlock took effect in part or not at all.
    #[error("Landlock ABI {abi} is not enforced completely: {status:?}")]
    LandlockStatus {
        /// The ABI that was planned.
        abi: u32,
        /// What the kernel enforces.
        status: RulesetStatus,
    },
    /// seccomp(2).
    #[error("cannot install the system-call filter: {0}")]
    Seccomp(seccompiler::Error),
    /// The filter is not active.
    #[error("the system-call filter is not active after it was installed")]
    SeccompInactive,
}

impl ConfineError {
    /// Which step of the launch this is.
    pub fn step(&self) -> Step {
        match self {
            Self::Limit { .. }
            | Self::SecureBits(_)
            | Self::BoundingSet(_)
            | Self::Clear { .. }
            | Self::Read { .. }
            | Self::Remain(_)
            | Self::NoNewPrivs(_)
            | Self::Close(_) => Step::Confine,
            Self::LandlockPath(_)
            | Self::LandlockStat { .. }
            | Self::LandlockAbi(_)
            | Self::Landlock(_)
            | Self::LandlockStatus { .. } => Step::Landlock,
            Self::Seccomp(_) | Self::SeccompInactive => Step::Seccomp,
        }
    }
}

/// Takes everything away that the workload must not have. Call it in the single-threaded child, directly before execve(2).
///
/// The order: limits first, while the hard ones may be set; secure bits and the bounding set need CAP_SETPCAP, so they go
/// before the capabilities; no_new_privs is what Landlock and seccomp ask for once these are gone; descriptors are
/// closed before Landlock, whose own are close-on-exec; the filter is last because it refuses calls made by the others.
///
/// # Errors
///
/// The step that failed. Part of the rest is then in force, so the process must exit.
pub fn apply(confinement: &Confinement) -> Result<Enforced, ConfineError> {
    limit(&confinement.limits)?;
    let bounding_set_empty = drop_capabilities(confinement.capabilities)?;
    nix_prctl::set_no_new_privs().map_err(ConfineError::NoNewPrivs)?;
    if !nix_prctl::get_no_new_privs().map_err(ConfineError::NoNewPrivs)? {
        return Err(ConfineError::NoNewPrivs(Errno::EPERM));
    }
    sys::close_range::close_all_but(&confinement.keep_fds).map_err(ConfineError::Close)?;
    let landlock_skipped = match &confinement.landlock {
        Some(plan) => restrict(plan)?,
        None => Vec::new(),
    };
    seccompiler::apply_filter(confinement.seccomp.instructions()).map_err(ConfineError::Seccomp)?;
    if sys::prctl::seccomp_mode() != Ok(SECCOMP_MODE_FILTER) {
        return Err(ConfineError::SeccompInactive);
    }
    Ok(Enforced {
        landlock_abi: confinement.landlock.as_ref().map(|plan| plan.abi),
        landlock_skipped,
        bounding_set_empty,
    })
}

const SECCOMP_MODE_FILTER: i32 = 2;

fn limit(plan: &LimitsPlan) -> Result<(), ConfineError> {
    for limit in &plan.rlimits {
        let resource = match limit.resource {
            Resource::Core => resource::Resource::RLIMIT_CORE,
            Resource::Processes => resource::Resource::RLIMIT_NPROC,
            Resource::OpenFiles => resource::Resource::RLIMIT_NOFILE,
            Resource::Data => resource::Resource::RLIMIT_DATA,
        };
        let failed = |errno| ConfineError::Limit { resource: limit.resource, errno };
        let (_, hard) = getrlimit(resource).map_err(failed)?;
        let value = limit.value.min(hard);
        setrlimit(resource, value, value).map_err(failed)?;
    }
    Ok(())
}

/// SECBIT_NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE set, KEEP_CAPS not, all four locked (linux/securebits.h).
const SECURE_BITS: u8 = 0b1110_1111;

/// Empties every capability set and reads them back; returns whether the bounding set is empty.
fn drop_capabilities(held: Capabilities) -> Result<bool, ConfineError> {
    if held == Capabilities::Held {
        sys::prctl::set_securebits(SECURE_BITS.into()).map_err(ConfineError::SecureBits)?;
        sys::prctl::drop_bounding_set().map_err(ConfineError::BoundingSet)?;
    }
    // The permitted set is cleared together with the effective one: capset(2) refuses an effective capability without it.
    const SETS: [CapSet; 4] = [CapSet::Ambient, CapSet::Effective, CapSet::Permitted, CapSet::Inheritable];
    for set in SETS {
        caps::clear(None, set).map_err(|source| ConfineError::Clear { set, source })?;
    }
    for set in SETS {
        let left = caps::read(None, set).map_err(|source| ConfineError::Read { set, source })?;
        if !left.is_empty() {
            return Err(ConfineError::Remain(set));
        }
    }
    let bounding_set_empty = !sys::prctl::has_bounding_set().map_err(ConfineError::BoundingSet)?;
    if held == Capabilities::Held && !bounding_set_empty {
        return Err(ConfineError::Remain(CapSet::Bounding));
    }
    Ok(bounding_set_empty)
}

/// Enters the Landlock domain; returns the optional paths that do not exist.
fn restrict(plan: &LandlockPlan) -> Result<Vec<PathBuf>, ConfineError> {
    let abi = abi(plan.abi)?;
    let mut ruleset =
        Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(AccessFs::from_all(abi))?;
    for scope in &plan.scopes {
        ruleset = ruleset.scope(match scope {
            LandlockScope::AbstractUnixSocket => Scope::AbstractUnixSocket,
            LandlockScope::Signal => Scope::Signal,
        })?;
    }
    let mut ruleset = ruleset.create()?;
    let mut skipped = Vec::new();
    for rule in &plan.rules {
        let path = match PathFd::new(&rule.path) {
            Ok(path) => path,
            Err(PathFdError::OpenCall { source, .. })
                if rule.optional && source.kind() == std::io::ErrorKind::NotFound =>
            {
                skipped.push(rule.path.clone());
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let status = fstat(&path).map_err(|errno| ConfineError::LandlockStat { path: rule.path.clone(), errno })?;
        let directory = SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR;
        // The kernel refuses rights on a file that only a directory can have.
        let usable = if directory { AccessFs::from_all(abi) } else { AccessFs::from_file(abi) };
        let allowed = rights(rule.access) & usable;
        if !allowed.is_empty() {
            ruleset = add(ruleset, path, allowed)?;
        }
    }
    let status = ruleset.restrict_self()?.ruleset;
    if status != RulesetStatus::FullyEnforced {
        return Err(ConfineError::LandlockStatus { abi: plan.abi, status });
    }
    Ok(skipped)
}

fn add(ruleset: RulesetCreated, path: PathFd, allowed: BitFlags<AccessFs>) -> Result<RulesetCreated, RulesetError> {
    ruleset.add_rule(PathBeneath::new(path, allowed).set_compatibility(CompatLevel::HardRequirement))
}

/// The ABIs by name: what a newer one would add is not taken over unseen.
fn abi(number: u32) -> Result<ABI, ConfineError> {
    Ok(match number {
        1 => ABI::V1,
        2 => ABI::V2,
        3 => ABI::V3,
        4 => ABI::V4,
        5 => ABI::V5,
        6 => ABI::V6,
        7 => ABI::V7,
        8 => ABI::V8,
        9 => ABI::V9,
        10 => ABI::V10,
        other => return Err(ConfineError::LandlockAbi(other)),
    })
}

/// The rights of an access class, of every ABI. No class creates device nodes.
fn rights(access: Access) -> BitFlags<AccessFs> {
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let write = make_bitflags!(AccessFs::{
        WriteFile | Truncate | RemoveDir | RemoveFile | MakeDir | MakeReg | MakeSock | MakeFifo | MakeSym | Refer
    });
    match access {
        Access::Read => read,
        Access::ReadExecute => read | AccessFs::Execute,
        Access::ReadWrite => read | write,
        Access::Full => read | write | AccessFs::Execute,
        Access::Device => read | make_bitflags!(AccessFs::{WriteFile | Truncate | IoctlDev}),
        Access::Connect => AccessFs::ResolveUnix.into(),
    }
}
