//! The loops that carry bytes, each in a thread of its own.
//!
//! Threads and blocking calls, because the descriptors are shared with other processes: making them non-blocking
//! would change them for the user's shell too, and a regular file cannot be waited for at all. A thread that waits
//! for a slow reader holds back its own stream and nothing else.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::termios::{LocalFlags, OutputFlags, SpecialCharacterIndices, Termios, tcgetattr};
use nix::unistd::Whence;

use super::filter::{Charset, Filter};
use super::io::{ready, write_all};
use super::outer::Handle;
use super::relay::Shared;
use super::stdio::Keyboard;
use crate::sys::tty;

const BUFFER: usize = 64 << 10;
/// How often a background job looks whether it is in the foreground again.
const BACKGROUND: Duration = Duration::from_millis(250);
/// How often the modes of the workload's terminal are compared.
const FOLLOW: Duration = Duration::from_millis(50);

/// What ended a wait.
#[derive(PartialEq, Eq)]
enum Woken {
    /// The descriptor is ready, or has failed.
    Ready,
    /// The time is over.
    Late,
    /// The relay ends.
    Cancelled,
    /// The other side has gone.
    Gone,
}

/// Waits for `fd`, for the end (`cancel` hangs up) and for the loss of `reader`.
fn wait(
    fd: Option<(BorrowedFd<'_>, PollFlags)>,
    cancel: BorrowedFd<'_>,
    reader: Option<BorrowedFd<'_>>,
    limit: Option<Duration>,
) -> Woken {
    let timeout = limit.map_or(PollTimeout::NONE, |limit| PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX));
    // A descriptor without events still reports errors and hang-ups.
    let mut fds = vec![PollFd::new(cancel, PollFlags::empty())];
    fds.extend(fd.map(|(fd, events)| PollFd::new(fd, events)));
    fds.extend(reader.map(|fd| PollFd::new(fd, PollFlags::empty())));
    loop {
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => continue,
            Ok(0) => return Woken::Late,
            _ => {}
        }
        let fired = |index: usize| fds.get(index).is_some_and(|fd| fd.any().unwrap_or(true));
        return if fired(0) {
            Woken::Cancelled
        } else if reader.is_some() && fired(fds.len() - 1) {
            Woken::Gone
        } else {
            Woken::Ready
        };
    }
}

/// Carries the workload's output until it ends or nobody wants it any more.
///
/// By copying, which packs small writes together: splice(2) would use up one of the sixteen places in a pipe for each,
/// and a caller that reads only after the end would wait forever for a few lines.
pub(super) fn output(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match nix::unistd::read(from, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => write_all(to.as_fd(), &buffer[..count])?,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                ready(from.as_fd(), PollFlags::POLLIN, None);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Carries input to the workload's pipe until it ends, the workload closes it, or the relay ends.
///
/// By copying: splice(2) would put pages of the user's file into a pipe that the jail holds.
pub(super) fn input(from: &OwnedFd, to: &OwnedFd, cancel: BorrowedFd<'_>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut unsent = 0;
    let result = feed(from, to, cancel, &mut buffer, &mut unsent);
    // A file goes back to where the workload stopped reading, for whoever reads it next.
    let file = fstat(from).is_ok_and(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG);
    let unread = unsent + tty::bytes_waiting(to).unwrap_or(0);
    if file && unread > 0 {
        nix::unistd::lseek(from, -i64::try_from(unread).unwrap_or(0), Whence::SeekCur)?;
    }
    result
}

fn feed(from: &OwnedFd, to: &OwnedFd, cancel: BorrowedFd<'_>, buffer: &mut [u8], unsent: &mut usize) -> io::Result<()> {
    loop {
        if wait(Some((from.as_fd(), PollFlags::POLLIN)), cancel, Some(to.as_fd()), None) != Woken::Ready {
            return Ok(());
        }
        let count = match nix::unistd::read(from, buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(Errno::EINTR | Errno::EAGAIN) => continue,
            Err(error) => return Err(error.into()),
        };
        *unsent = count;
        while *unsent > 0 {
            match nix::unistd::write(to, &buffer[count - *unsent..count]) {
                Ok(written) => *unsent -= written,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    if wait(Some((to.as_fd(), PollFlags::POLLOUT)), cancel, None, None) != Woken::Ready {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Carries the output of the workload's pty through the filter to the terminal.
pub(super) fn screen(
    shared: &Shared,
    master: &Arc<OwnedFd>,
    to: Option<&OwnedFd>,
    outer: Option<&Handle>,
    keyboard: Keyboard,
    charset: Charset,
) -> io::Result<()> {
    let mut filter = Filter::new(charset);
    let mut noted = filter.modes().clone();
    let (mut buffer, mut scratch, mut lines) = (vec![0; BUFFER], Vec::new(), Vec::new());
    let mut returns = Returns::default();
    loop {
        let count = match nix::unistd::read(master, &mut buffer) {
            // EIO: the last descriptor of the other side is closed.
            Ok(0) | Err(Errno::EIO) => break,
            Ok(count) => count,
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => {
                ready(master.as_fd(), PollFlags::POLLIN, None);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let shown = filter.run(&buffer[..count], &mut scratch);
        if let Some(outer) = outer {
            if keyboard != Keyboard::Raw {
                // A program switches to raw mode and then asks its questions; be raw before the answers come.
                follow(shared, master, outer, keyboard);
            }
            if *filter.modes() != noted {
                noted = filter.modes().clone();
                outer.note(&noted);
            }
        }
        let Some(to) = to else { continue };
        if outer.is_some_and(|outer| !outer.is_raw() && both_end_lines(master, outer)) {
            lines.clear();
            returns.strip(shown, &mut lines);
            write_all(to.as_fd(), &lines)?;
        } else {
            write_all(to.as_fd(), returns.take())?;
            write_all(to.as_fd(), shown)?;
        }
    }
    let mut rest = returns.take().to_vec();
    filter.flush(&mut rest);
    to.map_or(Ok(()), |to| write_all(to.as_fd(), &rest))
}

/// Whether both terminals put a carriage return before each new line: the user's is not raw, because other programs
/// write to it too or because this one is in the background.
fn both_end_lines(master: &OwnedFd, outer: &Handle) -> bool {
    let ends = |modes: &Termios| modes.output_flags.contains(OutputFlags::OPOST | OutputFlags::ONLCR);
    tcgetattr(master).is_ok_and(|modes| ends(&modes)) && outer.line_modes().is_ok_and(|modes| ends(&modes))
}

/// Takes away the carriage returns that the workload's terminal put before new lines, and only those.
#[derive(Debug, Default)]
struct Returns {
    /// A carriage return was the last byte; what follows decides.
    held: bool,
}

impl Returns {
    fn strip(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for &byte in bytes {
            if self.held && byte != b'\n' {
                out.push(b'\r');
            }
            self.held = byte == b'\r';
            if !self.held {
                out.push(byte);
            }
        }
    }

    /// What is held back.
    fn take(&mut self) -> &'static [u8] {
        if std::mem::take(&mut self.held) { b"\r" } else { b"" }
    }
}

/// Makes the terminal raw while the workload's own terminal is. Returns whether keys may be read now.
fn follow(shared: &Shared, master: &OwnedFd, outer: &Handle, keyboard: Keyboard) -> bool {
    let Keyboard::Follow { lines } = keyboard else { return false };
    if shared.is_suspended() || !outer.in_foreground() {
        return false;
    }
    let Ok(inner) = tcgetattr(master) else { return false };
    // With whole lines the echo inside is off anyway.
    let wanted =
        !inner.local_flags.contains(LocalFlags::ICANON) || (!lines && !inner.local_flags.contains(LocalFlags::ECHO));
    if !wanted {
        outer.cook();
        return lines && outer.is_canonical();
    }
    outer.is_raw() || (outer.is_canonical() && outer.enter().unwrap_or(false))
}

/// Carries keys from the terminal to the workload's pty.
pub(super) fn keys(
    shared: &Shared,
    from: &OwnedFd,
    master: &Arc<OwnedFd>,
    outer: &Handle,
    keyboard: Keyboard,
    cancel: BorrowedFd<'_>,
) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let allowed = || match keyboard {
        Keyboard::Raw => !shared.is_suspended() && outer.enter().unwrap_or(false),
        _ => follow(shared, master, outer, keyboard),
    };
    loop {
        let (events, limit) = match (allowed(), keyboard) {
            (true, Keyboard::Raw) => (Some((from.as_fd(), PollFlags::POLLIN)), None),
            (true, _) => (Some((from.as_fd(), PollFlags::POLLIN)), Some(FOLLOW)),
            (false, Keyboard::Raw) => (None, Some(BACKGROUND)),
            (false, _) => (None, Some(FOLLOW)),
        };
        match wait(events, cancel, None, limit) {
            Woken::Cancelled => return Ok(()),
            Woken::Late | Woken::Gone => continue,
            Woken::Ready => {}
        }
        // Meanwhile a stop may have come, or another program may have taken the keys.
        if !allowed() {
            continue;
        }
        match nix::unistd::read(from, &mut buffer) {
            Ok(0) if outer.is_raw() => return Ok(()),
            Ok(0) => type_in(master, &end_of_file(master), cancel)?,
            Ok(count) => type_in(master, &buffer[..count], cancel)?,
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The key that means "end of file" to the workload's terminal.
fn end_of_file(master: &OwnedFd) -> Vec<u8> {
    let modes = tcgetattr(master).ok();
    modes
        .map(|modes| modes.control_chars[SpecialCharacterIndices::VEOF as usize])
        .filter(|key| *key != 0)
        .into_iter()
        .collect()
}

/// Writes to the pty, whose descriptor is non-blocking, as far as the workload takes it.
fn type_in(master: &Arc<OwnedFd>, bytes: &[u8], cancel: BorrowedFd<'_>) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match nix::unistd::write(master, rest) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                if wait(Some((master.as_fd(), PollFlags::POLLOUT)), cancel, None, None) == Woken::Cancelled {
                    return Ok(());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
