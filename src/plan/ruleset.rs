//! The Landlock ruleset that follows from the mounts: the same borders once more, kept by another mechanism.

use super::landlock::{Access as Right, LandlockPlan};
use super::mounts::{Access, Mount};
use crate::error::{Error, Layer, Result};
use crate::policy::WorkspaceMode;

/// Derives the ruleset for a machine with this Landlock ABI. Error when the kernel has none that is usable.
pub fn build(abi: u32, mounts: &[Mount], mode: WorkspaceMode) -> Result<LandlockPlan> {
    let mut ruleset = LandlockPlan::for_abi(abi).ok_or_else(|| {
        Error::setup(format!("this kernel's Landlock is too old or absent (ABI {abi}, 2 is needed)")).hint(
            "Landlock needs Linux 5.19 or later with `landlock` among the boot parameter lsm=; `jail doctor` says more",
        )
        .layer(Layer::Landlock)
    })?;
    ruleset.require("/", Right::Read, "whatever exists in the jail's root may be looked at; nothing outside it");
    ruleset.require("/proc", Right::ReadWrite, "a process writes its own name and out-of-memory score");
    ruleset.require("/dev", Right::Device, "the planned devices and the jail's own terminals");
    for mount in mounts {
        match mount {
            Mount::Directory { .. } | Mount::Symlink { .. } | Mount::File { .. } | Mount::Copy { .. } => {}
            Mount::Private { path, .. } => {
                ruleset.require(path, Right::Full, "private directory");
            }
            // Reading is allowed by the rule for the root, and nothing in them is executed.
            Mount::Bind { path, access: Access::ReadOnly, .. } if path.starts_with("/etc") => {}
            // One rule for all devices: only the planned ones exist.
            Mount::Bind { path, access: Access::Device, .. } if path.starts_with("/dev") => {}
            Mount::Bind { path, access, .. } => {
                let (right, why) = match (access, mode) {
                    (Access::ReadOnly, _) | (Access::Workspace, WorkspaceMode::ReadOnly) => {
                        (Right::ReadExecute, "shown read-only")
                    }
                    (Access::ReadWrite, _) => (Right::Full, "writable by the policy"),
                    (Access::Workspace, WorkspaceMode::Direct) => (Right::Full, "the workspace"),
                    (Access::Device, _) => (Right::Device, "device"),
                };
                ruleset.require(path, right, why);
            }
        }
    }
    Ok(ruleset)
}
