//! Which directories may be a workspace.

use std::path::Path;

use crate::error::{Error, Result};

/// Directories that are no workspace themselves; what lies below may be one.
const ROOTS: &[&str] =
    &["/tmp", "/var", "/var/tmp", "/usr", "/etc", "/home", "/root", "/opt", "/run", "/dev", "/proc", "/sys", "/boot"];
/// Directories in which there is no workspace at all.
const LIVE: &[&str] = &["/proc", "/sys", "/dev", "/run"];

/// Refuses a workspace that would put the machine, the home directory or other people's files into the jail.
///
/// # Errors
/// The path does not exist, is not a directory, or is too broad, also through symbolic links.
pub fn check_workspace(path: &Path, home: &Path) -> Result<()> {
    let refuse = |why: String| {
        Error::setup(format!("workspace {}: {why}", path.display())).hint("start in the project's own directory")
    };
    let real = path.canonicalize().map_err(|error| refuse(format!("cannot be resolved: {error}")))?;
    if !real.is_dir() {
        return Err(refuse("is not a directory".into()));
    }
    let real_home = home.canonicalize();
    let homes = [Some(home), real_home.as_deref().ok()];
    for path in [path, &real] {
        if path.parent().is_none() {
            return Err(refuse("is the whole file system".into()));
        }
        for home in homes.into_iter().flatten() {
            if path == home {
                return Err(refuse("is the home directory".into()));
            }
            if home.starts_with(path) {
                return Err(refuse(format!("contains the home directory {}", home.display())));
            }
        }
        if ROOTS.iter().any(|root| path == Path::new(root)) {
            return Err(refuse("is shared by the whole machine".into()));
        }
        if let Some(live) = LIVE.iter().find(|live| path.starts_with(live)) {
            return Err(refuse(format!("is in {live}, where the host's devices, processes and sockets are")));
        }
    }
    Ok(())
}
