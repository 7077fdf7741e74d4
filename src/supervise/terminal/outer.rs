//! The user's terminal: raw mode while the workload has it, and everything put back afterwards.
//!
//! Put back are the line modes, what programs left switched on ([`Modes::closing`]), and the input queue: answers
//! to a program's questions that are still on their way would otherwise be typed into the user's shell. This happens
//! on drop, on a panic of the main thread or one of the relay, and through [`restore_active`]. Nothing can be done
//! after SIGKILL; `reset` repairs the terminal then.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::pty::Winsize;
use nix::sys::termios::{
    FlushArg, InputFlags, LocalFlags, OutputFlags, SetArg, Termios, cfmakeraw, tcflush, tcgetattr, tcsetattr,
};

use super::io::{ready, write_by};
use super::modes::Modes;
use crate::sys::tty;

/// How long a stuck terminal may hold up the end.
const WRITE_LIMIT: Duration = Duration::from_millis(500);
/// How long answers may take; the wait ends with the answer to the last question, so a live terminal ends it at once.
const SETTLE_LIMIT: Duration = Duration::from_millis(250);
/// A question older than this has been answered.
const ANSWER_AGE: Duration = Duration::from_secs(2);

/// How the names of the threads begin whose panic ends the relay, as one of the main thread does.
pub(super) const THREADS: &str = "jail-";

static ACTIVE: Mutex<Weak<Mutex<Terminal>>> = Mutex::new(Weak::new());
static HOOK: Once = Once::new();

#[derive(Debug)]
struct Terminal {
    input: OwnedFd,
    output: OwnedFd,
    /// The line modes to go back to; `Some` while they are changed.
    saved: Option<Termios>,
    /// Line modes were changed at least once.
    touched: bool,
    modes: Modes,
    asked: Option<Instant>,
    /// Stopped or finished: the modes of the screen are put back already.
    closed: bool,
    /// Put back for good: a thread that comes late must not change it again.
    finished: bool,
}

/// The guard of the user's terminal; dropping it puts everything back.
#[derive(Debug)]
pub struct Outer(Handle);

/// Access to the guarded terminal for the threads that read and write it.
#[derive(Debug, Clone)]
pub struct Handle(Arc<Mutex<Terminal>>);

impl Outer {
    /// Guards a terminal without changing it yet. `input` is for reading, `output` for writing; mostly they are one.
    pub fn new(input: OwnedFd, output: OwnedFd) -> Self {
        let terminal = Arc::new(Mutex::new(Terminal {
            input,
            output,
            saved: None,
            touched: false,
            modes: Modes::default(),
            asked: None,
            closed: false,
            finished: false,
        }));
        *lock(&ACTIVE) = Arc::downgrade(&terminal);
        HOOK.call_once(|| {
            let next = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                let thread = std::thread::current();
                if thread.name().is_some_and(|name| name == "main" || name.starts_with(THREADS)) {
                    restore_active();
                }
                next(info);
            }));
        });
        Self(Handle(terminal))
    }

    /// Access for other threads.
    pub fn handle(&self) -> Handle {
        self.0.clone()
    }

    /// Puts everything back; later calls do nothing.
    pub fn finish(&self) {
        let mut terminal = lock(&self.0.0);
        terminal.finish();
        terminal.finished = true;
    }
}

impl Drop for Outer {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Puts the terminal back if one is guarded: for ways out that run no destructors.
pub fn restore_active() {
    // `try_lock`: the panicking thread may hold either lock itself.
    let Some(terminal) = ACTIVE.try_lock().ok().and_then(|active| active.upgrade()) else { return };
    if let Ok(mut terminal) = terminal.try_lock() {
        terminal.finish();
    }
}

impl Handle {
    /// Changes the line modes to raw, if this process is in the foreground. Returns whether the terminal is raw now.
    pub fn enter(&self) -> io::Result<bool> {
        lock(&self.0).enter()
    }

    /// Puts the line modes back, and nothing else.
    pub fn cook(&self) {
        lock(&self.0).cook();
    }

    /// Whether the terminal is raw by our doing.
    pub fn is_raw(&self) -> bool {
        lock(&self.0).saved.is_some()
    }

    /// Whether this process may read and change the terminal: it is not a background job.
    pub fn in_foreground(&self) -> bool {
        lock(&self.0).in_foreground()
    }

    /// Whether the terminal collects lines: nobody else has it in raw mode.
    pub fn is_canonical(&self) -> bool {
        self.line_modes().is_ok_and(|modes| modes.local_flags.contains(LocalFlags::ICANON))
    }

    /// The line modes.
    pub fn line_modes(&self) -> io::Result<Termios> {
        Ok(tcgetattr(&lock(&self.0).input)?)
    }

    /// The window size.
    pub fn size(&self) -> io::Result<Winsize> {
        tty::window_size(&lock(&self.0).output)
    }

    /// Notes what programs changed by the bytes that are about to be shown.
    pub fn note(&self, modes: &Modes) {
        let mut terminal = lock(&self.0);
        // Mouse and focus reports may be on their way after they were switched off, just like answers.
        if terminal.modes.queries() != modes.queries() || terminal.modes.reports() || modes.reports() {
            terminal.asked = Some(Instant::now());
        }
        terminal.modes = modes.clone();
    }

    /// Before a stop: puts everything back, but remembers what the program had switched on.
    pub fn suspend(&self) {
        let mut terminal = lock(&self.0);
        terminal.close();
        terminal.cook();
    }

    /// After a stop: takes the terminal back, as far as this process is in the foreground.
    pub fn resume(&self) -> io::Result<bool> {
        let mut terminal = lock(&self.0);
        let closed = std::mem::take(&mut terminal.closed);
        if !terminal.in_foreground() {
            return Ok(false);
        }
        if closed {
            let opening = terminal.modes.opening();
            terminal.write(&opening);
        }
        Ok(true)
    }
}

impl Terminal {
    fn in_foreground(&self) -> bool {
        match nix::unistd::tcgetpgrp(&self.input) {
            // 0: the group is of another pid namespace, whose shell cannot be asked.
            Ok(group) => group.as_raw() == 0 || group == nix::unistd::getpgrp(),
            // Not our controlling terminal: no job control, so no background.
            Err(Errno::ENOTTY) => true,
            Err(_) => false,
        }
    }

    fn enter(&mut self) -> io::Result<bool> {
        if self.finished || !self.in_foreground() {
            return Ok(false);
        }
        let now = tcgetattr(&self.input)?;
        // After a stop the shell has set its own modes, whatever ours were.
        if self.saved.is_some() && !now.local_flags.contains(LocalFlags::ICANON) {
            return Ok(true);
        }
        let mut raw = now.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&self.input, SetArg::TCSANOW, &raw)?;
        self.saved = Some(now);
        self.touched = true;
        Ok(true)
    }

    fn cook(&mut self) {
        let Some(saved) = self.saved.take() else { return };
        // In the background the terminal belongs to the shell, which has set its own modes.
        if self.in_foreground() {
            // A terminal that is gone cannot be restored.
            let _ = tcsetattr(&self.input, SetArg::TCSANOW, &saved);
        }
    }

    /// Puts back what programs switched on.
    fn close(&mut self) {
        if !std::mem::replace(&mut self.closed, true) && self.in_foreground() {
            let closing = self.modes.closing();
            self.write(&closing);
        }
    }

    fn write(&self, bytes: &[u8]) {
        // A terminal that is gone or stuck does not get them.
        let _ = write_by(self.output.as_fd(), bytes, Some(Instant::now() + WRITE_LIMIT));
    }

    fn finish(&mut self) {
        if self.modes.reports() {
            self.asked = Some(Instant::now());
        }
        self.close();
        self.settle();
        self.cook();
        self.modes = Modes::default();
    }

    /// Throws away what the terminal typed that nobody will read.
    fn settle(&mut self) {
        let asked = self.asked.take().is_some_and(|at| at.elapsed() < ANSWER_AGE);
        if !self.in_foreground() {
            return;
        }
        // One more question, whose answer comes after all the other ones.
        if asked && self.enter().unwrap_or(false) {
            self.write(b"\x1b[5n");
            let deadline = Instant::now() + SETTLE_LIMIT;
            let mut last = Vec::new();
            let mut buffer = [0; 256];
            while ready(self.input.as_fd(), PollFlags::POLLIN, Some(deadline)) {
                match nix::unistd::read(&self.input, &mut buffer) {
                    Ok(count @ 1..) => last.extend_from_slice(&buffer[..count]),
                    Err(Errno::EINTR | Errno::EAGAIN) => {}
                    _ => break,
                }
                if last.windows(4).any(|window| matches!(window, b"\x1b[0n" | b"\x1b[3n")) {
                    break;
                }
                last.drain(..last.len().saturating_sub(3));
            }
        }
        if std::mem::take(&mut self.touched) {
            // A terminal that is gone has no input.
            let _ = tcflush(&self.input, FlushArg::TCIFLUSH);
        }
    }
}

/// Line modes for the workload's pty: the user's own, so that erase and interrupt keys are the same inside.
pub(super) fn inner_modes(outer: &Termios, echo: bool) -> Termios {
    let mut modes = outer.clone();
    modes.local_flags |= LocalFlags::ICANON | LocalFlags::ISIG | LocalFlags::IEXTEN;
    modes.local_flags.set(LocalFlags::ECHO, echo);
    modes.input_flags |= InputFlags::ICRNL;
    modes.output_flags |= OutputFlags::OPOST | OutputFlags::ONLCR;
    modes
}

/// Locks, also after a panic of another thread: the terminal has to be put back all the more.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
