//! A value in a file of the host.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use super::load::{Failure, Ground, MOST};

type Value = Result<Zeroizing<Vec<u8>>, Failure>;

/// Reads a file that is the user's own and nobody else's. Links are followed: what counts is where they lead.
pub(super) fn read(path: &Path, ground: &Ground) -> Value {
    let failed = |error: std::io::Error| Failure::new(error.to_string(), "see that it exists and is yours");
    let real = path.canonicalize().map_err(failed)?;
    // A directory of the jail may hold a link of its making.
    if let Some(directory) = ground.writable_at(&real).or_else(|| ground.writable_at(path)) {
        let message = format!("it lies in {}, which the jail can write to", directory.display());
        return Err(Failure::new(message, "keep it outside, such as in ~/.config"));
    }
    if let Some(directory) = ground.readable_at(&real) {
        let message = format!("it lies in {}, which the jail can read", directory.display());
        return Err(Failure::new(message, "keep it outside of what the policy shows"));
    }
    // Not blocking, so that a pipe in its place does not hold the start.
    let mut options = File::options();
    let file = options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(&real).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() {
        return Err(Failure::new("it is not a regular file", "name a file that holds the value alone"));
    }
    let own = nix::unistd::geteuid().as_raw();
    if found.uid() != own && found.uid() != 0 {
        let message = format!("it belongs to user {}", found.uid());
        return Err(Failure::new(message, "a value is read from your own files only"));
    }
    // What root puts somewhere for others to read, such as a container's secrets, is for root to judge.
    let forbidden = if found.uid() == own { 0o077 } else { 0o022 };
    if found.mode() & forbidden != 0 {
        let message = format!("others may read or write it (mode {:03o})", found.mode() & 0o777);
        return Err(Failure::new(message, format!("chmod 600 {}", path.display())));
    }
    // The whole room at once: a buffer that grows leaves copies behind.
    let most = MOST.saturating_add(3);
    let mut value = Zeroizing::new(Vec::with_capacity(most));
    file.take(most as u64).read_to_end(&mut value).map_err(failed)?;
    Ok(value)
}
