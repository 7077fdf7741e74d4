//! Terminal requests that have no safe wrapper: window size, bytes waiting, and stopping like any job.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::libc;
use nix::pty::Winsize;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::unistd::Pid;

mod request {
    nix::ioctl_read_bad!(get_size, nix::libc::TIOCGWINSZ, nix::pty::Winsize);
    nix::ioctl_write_ptr_bad!(set_size, nix::libc::TIOCSWINSZ, nix::pty::Winsize);
    nix::ioctl_read_bad!(waiting, nix::libc::FIONREAD, nix::libc::c_int);
}

/// The window size of a terminal, in cells (ioctl_tty(2), `TIOCGWINSZ`).
pub fn window_size(terminal: impl AsFd) -> io::Result<Winsize> {
    let mut size = Winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open for the call, and the kernel writes one `winsize`, which `size` is.
    unsafe { request::get_size(terminal.as_fd().as_raw_fd(), &mut size) }?;
    Ok(size)
}

/// Sets the window size; on the master of a pty this signals its foreground process group when the size differs.
pub fn set_window_size(terminal: impl AsFd, size: &Winsize) -> io::Result<()> {
    // SAFETY: the descriptor is open for the call, and the kernel reads one `winsize`, which `size` points to.
    unsafe { request::set_size(terminal.as_fd().as_raw_fd(), size) }?;
    Ok(())
}

/// How many bytes wait in a pipe, seen from either end.
pub fn bytes_waiting(pipe: impl AsFd) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: the descriptor is open for the call, and the kernel writes one `int`, which `count` is.
    unsafe { request::waiting(pipe.as_fd().as_raw_fd(), &mut count) }?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Stops the caller's process group as Ctrl-Z would, and returns when it is continued.
///
/// Returns at once in an orphaned process group, which the kernel does not stop: nobody could continue it.
pub fn stop_own_group() -> io::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: `SIG_DFL` runs no code of ours.
    let old = unsafe { sigaction(Signal::SIGTSTP, &default) }?;
    let sent = kill(Pid::from_raw(0), Signal::SIGTSTP);
    // Another thread may be the one that takes the signal; do not go on before it has.
    std::thread::sleep(std::time::Duration::from_millis(20));
    // SAFETY: this puts back the handler that was installed before.
    unsafe { sigaction(Signal::SIGTSTP, &old) }?;
    Ok(sent?)
}
