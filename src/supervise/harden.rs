//! What the supervisor gives up before it reads a byte from the jail: starting programs, writing files, and every system
//! call that the workload may not make either. Whoever takes it over by way of a parser gets no further than that.
//!
//! It keeps removing files, because it may have to clean up after an init that was killed, and what lies in its own
//! directories. Reading stays: the search for secrets after the run needs it.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, make_bitflags,
};

use crate::error::{Error, Layer, Result};
use crate::launch::start;
use crate::plan::seccomp::{self, Arch};

/// Calls that the workload may make and the supervisor does not need.
const NEVER: &[&str] = &["execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd"];

/// Restricts this thread and all that it starts from now on. `own` are directories in which files may be written; those
/// that do not exist are left out.
///
/// # Errors
/// The kernel refuses one of the layers that it has for the workload.
pub fn apply(landlock_abi: u32, arch: Arch, own: &[PathBuf]) -> Result<()> {
    nix::sys::prctl::set_no_new_privs()
        .map_err(|errno| Error::setup(format!("cannot set PR_SET_NO_NEW_PRIVS: {}", errno.desc())))?;
    give_up_writing(landlock_abi, own).map_err(|error| {
        Error::setup(format!("cannot confine the supervisor with Landlock: {error}"))
            .layer(Layer::Landlock)
            .hint(start::LANDLOCK)
    })?;
    let program = seccomp::compile_without(arch, NEVER).map_err(Error::setup)?;
    seccompiler::apply_filter(program.instructions()).map_err(|error| {
        Error::setup(format!("cannot confine the supervisor with seccomp: {error}"))
            .layer(Layer::Seccomp)
            .hint(start::SECCOMP)
    })
}

/// A Landlock domain in which nothing is executed or made, and written only below some directories.
fn give_up_writing(abi: u32, own: &[PathBuf]) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let remove = make_bitflags!(AccessFs::{RemoveDir | RemoveFile});
    // Rights of the least ABI that a jail starts with; truncating came with the next one.
    let truncate = if abi >= 3 { BitFlags::from(AccessFs::Truncate) } else { BitFlags::empty() };
    let write = remove
        | truncate
        | make_bitflags!(AccessFs::{
            WriteFile | MakeChar | MakeDir | MakeReg | MakeSock | MakeFifo | MakeBlock | MakeSym | Refer
        });
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(write | AccessFs::Execute)?
        .create()?
        .add_rule(PathBeneath::new(PathFd::new("/")?, remove))?;
    let devices: [&Path; 2] = [Path::new("/dev/tty"), Path::new("/dev/null")];
    for path in own.iter().map(PathBuf::as_path).chain(devices) {
        let Ok(opened) = PathFd::new(path) else { continue };
        let usable = if path.is_dir() { write } else { write & AccessFs::from_file(ABI::V3) };
        ruleset = ruleset.add_rule(PathBeneath::new(opened, usable))?;
    }
    match ruleset.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Ok(()),
        status => Err(format!("only {status:?}").into()),
    }
}
