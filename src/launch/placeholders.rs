//! Puts what stands for a credential into place, in init, before the workload runs.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod};

use super::message::{Failure, Placeholder, Step};
use super::rootfs::{relative, write_all};
use crate::escape::escape;
use crate::sys::mount;

/// Adds the variable to the environment and fills the file, which the plan made empty in the private home.
pub fn put(
    placeholder: Placeholder,
    root: BorrowedFd<'_>,
    environment: &mut Vec<(OsString, OsString)>,
) -> Result<(), Failure> {
    let Placeholder { variable, file } = placeholder;
    if let Some((name, value)) = variable {
        environment.retain(|(known, _)| known.to_str() != Some(&name));
        environment.push((name.into(), value.into()));
    }
    if let Some((path, content)) = file {
        let failed = |errno: Errno| Step::Placeholder.failed(escape(&path), errno);
        let flags = (OFlag::O_WRONLY | OFlag::O_TRUNC | OFlag::O_NOFOLLOW).bits();
        let opened = relative(&path).and_then(|path| mount::open_beneath(root, &path, flags, 0)).map_err(failed)?;
        write_all(&opened, content.as_bytes()).map_err(failed)?;
        // As tools keep such a file, and some insist on it.
        fchmod(opened.as_fd(), Mode::from_bits_truncate(0o600)).map_err(failed)?;
    }
    Ok(())
}
