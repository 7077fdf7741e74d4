//! The session's directory on the host: made by the supervisor, removed by init, whichever way the run ends.

use std::ffi::CString;
use std::os::fd::BorrowedFd;

use nix::unistd::{UnlinkatFlags, unlinkat};

/// Names of the files in a session's directory.
pub const FILES: [&str; 2] = ["control.sock", "session.json"];

/// Removes the directory `name` and the session's files in it. What is already gone is fine.
pub fn remove(parent: BorrowedFd<'_>, name: &str) {
    for file in FILES {
        if let Ok(path) = CString::new(format!("{name}/{file}")) {
            let _ = unlinkat(parent, path.as_c_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
    if let Ok(path) = CString::new(name) {
        let _ = unlinkat(parent, path.as_c_str(), UnlinkatFlags::RemoveDir);
    }
}
