//! Credentials of a run: loaded when init was cloned, told to init as placeholders.

use std::path::{Path, PathBuf};

use crate::broker::{self, Ground, Held};
use crate::error::Result;
use crate::launch::message::Placeholder;
use crate::plan::{Access, Mount, Plan};
use crate::policy::CredentialsPolicy;
use crate::secrets::substitute::SessionKey;

/// Loads what the policy says is loaded.
///
/// # Errors
/// A source gives no value.
pub fn load(plan: &Plan, policy: &CredentialsPolicy, key: &SessionKey) -> Result<Vec<Held>> {
    // Most runs have none.
    if policy.loaded().next().is_none() {
        return Ok(Vec::new());
    }
    broker::load(policy, key, &ground(plan))
}

/// What the jail sees of the host.
fn ground(plan: &Plan) -> Ground {
    let mut ground = Ground::default();
    for mount in &plan.mounts {
        match mount {
            Mount::Bind { source, access: Access::ReadWrite | Access::Workspace, .. } => {
                ground.writable.push(source.clone());
            }
            Mount::Bind { source, access: Access::ReadOnly, .. } | Mount::Copy { source, .. } => {
                ground.readable.push(source.clone());
            }
            _ => {}
        }
    }
    // Read-only or not, what others write there is theirs.
    ground.writable.push(plan.workspace.clone());
    ground.hidden = plan.masks.iter().map(|mask| plan.workspace.join(&mask.path)).collect();
    ground
}

/// What init is told of a credential.
pub fn placeholder(held: &Held) -> Placeholder {
    let Held { credential, placeholder, .. } = held;
    Placeholder {
        variable: credential.env.clone().map(|name| (name, placeholder.clone())),
        file: credential.file.as_ref().map(|file| (file.path.clone(), file.content(placeholder))),
    }
}

/// The files that placeholders are written to.
pub fn files(policy: &CredentialsPolicy) -> Vec<PathBuf> {
    policy.loaded().filter_map(|credential| credential.value.file.as_ref()).map(|file| file.path.clone()).collect()
}

/// The directory of the host that would be written to if a placeholder were put at this path.
pub fn taken(mounts: &[Mount], path: &Path) -> Option<PathBuf> {
    mounts.iter().find_map(|mount| match mount {
        Mount::Bind { path: shown, .. } if path.starts_with(shown) => Some(shown.clone()),
        _ => None,
    })
}
