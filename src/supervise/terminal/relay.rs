//! Ties the host's descriptors to the jail's, and hands the terminal over and back.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::termios::{LocalFlags, SetArg, tcsetattr};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::filter::Charset;
use super::outer::{Handle, Outer, THREADS, inner_modes};
use super::pump;
use super::stdio::{Keyboard, OuterEnds, StdioKind, StdioPlan};
use crate::error::{Error, Result};
use crate::sys::tty;

/// Each thread has a buffer on the heap and next to nothing on its stack.
const STACK: usize = 128 << 10;
/// Size asked for the pipes, in bytes; the kernel may refuse it to a user with many pipes.
const PIPE: i32 = 256 << 10;

/// How long to wait for the threads that carry input, which normally end at once.
const INPUT_LIMIT: Duration = Duration::from_millis(200);

/// The supervisor's sides of the workload's streams.
#[derive(Debug, Default)]
pub struct InnerEnds {
    /// Master of the workload's pty.
    pub pty: Option<OwnedFd>,
    /// Writing end of the pipe that is the workload's standard input.
    pub stdin: Option<OwnedFd>,
    /// Reading end for standard output (and standard error when they are merged).
    pub stdout: Option<OwnedFd>,
    /// Reading end for standard error.
    pub stderr: Option<OwnedFd>,
}

/// What the threads have in common.
#[derive(Debug)]
pub(super) struct Shared {
    suspended: AtomicBool,
    /// Closing it ends the threads that carry input.
    cancel: Mutex<Option<OwnedFd>>,
}

impl Shared {
    pub(super) fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::SeqCst)
    }

    fn stop_input(&self) {
        drop(self.cancel.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// The relay of one workload. Dropping it stops the input and puts the terminal back.
#[derive(Debug)]
pub struct Relay {
    shared: Arc<Shared>,
    outer: Option<Outer>,
    keyboard: Keyboard,
    /// Weak: when the terminal is gone, the last thread closes the master, and the workload gets its hang-up.
    master: std::sync::Weak<OwnedFd>,
    ended: UnboundedReceiver<Ended>,
    outputs: usize,
    inputs: usize,
    losses: Vec<Loss>,
}

/// A stream whose bytes could not be delivered, other than for want of a reader.
#[derive(Debug)]
pub struct Loss {
    /// The stream: `stdin`, `stdout`, `stderr`, `keys` or `screen`.
    pub stream: &'static str,
    /// Why, for example that the disk is full.
    pub error: io::Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Input,
    Output,
}

#[derive(Debug)]
struct Ended(Kind, Option<Loss>);

/// Reports the end of a thread, by whatever way it ends.
struct Report {
    to: UnboundedSender<Ended>,
    kind: Kind,
    loss: Option<Loss>,
}

impl Drop for Report {
    fn drop(&mut self) {
        // The relay may be gone already.
        let _ = self.to.send(Ended(self.kind, self.loss.take()));
    }
}

impl Relay {
    /// Starts relaying between the process's own standard descriptors and the workload's. Afterwards the process's
    /// standard input and output are `/dev/null` (see [`OuterEnds::take`]).
    ///
    /// # Errors
    /// As [`Self::between`].
    pub fn new(plan: &StdioPlan, inner: InnerEnds) -> Result<Self> {
        let failed = |error| Error::setup(format!("cannot relay the standard streams: {error}"));
        let outer = OuterEnds::take().map_err(failed)?;
        Self::between(plan, outer, inner, Charset::of_environment()).map_err(failed)
    }

    /// Starts relaying. The workload's terminal gets the line modes and the size of the user's before this returns.
    ///
    /// # Errors
    /// When the end for the terminal is missing, or the kernel has no descriptor or thread left.
    pub fn between(plan: &StdioPlan, outer: OuterEnds, inner: InnerEnds, charset: Charset) -> io::Result<Self> {
        let (send, ended) = unbounded_channel();
        let (cancelled, cancel) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let cancelled = Arc::new(cancelled);
        let shared = Arc::new(Shared { suspended: AtomicBool::new(false), cancel: Mutex::new(Some(cancel)) });
        let mut relay = Self {
            shared,
            outer: None,
            keyboard: plan.keyboard(),
            master: std::sync::Weak::new(),
            ended,
            outputs: 0,
            inputs: 0,
            losses: Vec::new(),
        };
        let keyboard = outer.keyboard(plan)?;
        let screen = outer.screen(plan)?;
        if let Some(master) = inner.pty {
            relay.start_terminal(master, keyboard, screen, charset, &cancelled, &send)?;
        } else if plan.wants_pty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the workload's terminal is missing"));
        }
        let OuterEnds { stdin, stdout, stderr } = outer;
        if let (StdioKind::Relay, Some(to)) = (plan.each[0], inner.stdin) {
            enlarge(&to);
            nonblocking(&to)?;
            let cancelled = Arc::clone(&cancelled);
            relay.start("stdin", Kind::Input, &send, move || pump::input(&stdin, &to, cancelled.as_fd()))?;
        }
        for (name, stream, from, to) in
            [("stdout", plan.each[1], inner.stdout, stdout), ("stderr", plan.each[2], inner.stderr, stderr)]
        {
            if let (StdioKind::Relay, Some(from)) = (stream, from) {
                enlarge(&from);
                // Copied writes do not fill the pages of a pipe as the originals did: as much has to fit as before,
                // for a caller that reads only after the end.
                enlarge(&to);
                relay.start(name, Kind::Output, &send, move || pump::output(&from, &to))?;
            }
        }
        Ok(relay)
    }

    fn start_terminal(
        &mut self,
        master: OwnedFd,
        keyboard: Option<OwnedFd>,
        screen: Option<OwnedFd>,
        charset: Charset,
        cancelled: &Arc<OwnedFd>,
        send: &UnboundedSender<Ended>,
    ) -> io::Result<()> {
        nonblocking(&master)?;
        let master = Arc::new(master);
        self.master = Arc::downgrade(&master);
        let mode = self.keyboard;
        let guarded = match (&keyboard, &screen) {
            (Some(input), Some(output)) => Some((input.try_clone()?, output.try_clone()?)),
            (None, Some(output)) => Some((output.try_clone()?, output.try_clone()?)),
            _ => None,
        };
        self.outer = guarded.map(|(input, output)| Outer::new(input, output));
        let handle = self.outer.as_ref().map(Outer::handle);
        self.resize();
        if let Some(handle) = &handle {
            if let Ok(modes) = handle.line_modes()
                && modes.local_flags.contains(LocalFlags::ICANON)
            {
                // With whole lines the user's terminal has shown them already.
                let echo = mode != Keyboard::Follow { lines: true };
                tcsetattr(&*master, SetArg::TCSANOW, &inner_modes(&modes, echo))?;
            }
            if mode == Keyboard::Raw {
                handle.enter()?;
            }
        }
        if let (Some(from), Some(outer), false) = (keyboard, handle.clone(), mode == Keyboard::Off) {
            let (shared, master, cancelled) = (Arc::clone(&self.shared), Arc::clone(&master), Arc::clone(cancelled));
            self.start("keys", Kind::Input, send, move || {
                pump::keys(&shared, &from, &master, &outer, mode, cancelled.as_fd())
            })?;
        }
        let shared = Arc::clone(&self.shared);
        self.start("screen", Kind::Output, send, move || {
            let result = pump::screen(&shared, &master, screen.as_ref(), handle.as_ref(), mode, charset);
            if result.is_err() {
                // The terminal is gone. With the keys stopped too, the master closes.
                shared.stop_input();
            }
            result
        })
    }

    fn start(
        &mut self,
        stream: &'static str,
        kind: Kind,
        send: &UnboundedSender<Ended>,
        body: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let report = Report { to: send.clone(), kind, loss: None };
        std::thread::Builder::new().name(format!("{THREADS}{stream}")).stack_size(STACK).spawn(move || {
            let mut report = report;
            if let Err(error) = body() {
                report.loss = Some(Loss { stream, error });
            }
        })?;
        match kind {
            Kind::Input => self.inputs += 1,
            Kind::Output => self.outputs += 1,
        }
        Ok(())
    }

    /// Waits until no output can come any more: the workload and whoever inherited its streams have closed them, or
    /// nobody reads it. Returns at once where there is no output to relay. Can be dropped and called again.
    pub async fn run(&mut self) {
        while self.outputs > 0 && self.next_end().await {}
    }

    /// After the workload has ended (and init has ended everything that held its streams): stops the input, waits
    /// until all output has been written, and puts the terminal back.
    pub async fn drain(&mut self) {
        self.shared.stop_input();
        self.run().await;
        // A thread may be in a read that another reader of the terminal won; it holds nothing that matters.
        let inputs = async { while self.inputs > 0 && self.next_end().await {} };
        let _ = tokio::time::timeout(INPUT_LIMIT, inputs).await;
        if let Some(outer) = &self.outer {
            outer.finish();
        }
    }

    /// Streams that ended by an error other than a reader or a terminal that went away.
    pub fn losses(&self) -> &[Loss] {
        &self.losses
    }

    async fn next_end(&mut self) -> bool {
        let Some(Ended(kind, loss)) = self.ended.recv().await else { return false };
        match kind {
            Kind::Input => self.inputs = self.inputs.saturating_sub(1),
            Kind::Output => self.outputs = self.outputs.saturating_sub(1),
        }
        let gone = [Errno::EPIPE, Errno::EIO, Errno::ECONNRESET].map(|errno| Some(errno as i32));
        self.losses.extend(loss.filter(|loss| !gone.contains(&loss.error.raw_os_error())));
        true
    }

    /// Gives the workload's terminal the size of the user's (on SIGWINCH).
    pub fn resize(&self) {
        if let (Some(outer), Some(master)) = (&self.outer, self.master.upgrade())
            && let Ok(size) = outer.handle().size()
        {
            // A terminal that is being closed has no size.
            let _ = tty::set_window_size(&*master, &size);
        }
    }

    /// The workload has stopped (Ctrl-Z): gives the terminal back and stops this process group as well. Returns when
    /// it was continued and the terminal is ready again; the caller then continues the workload.
    ///
    /// # Errors
    /// When the process cannot stop itself; the terminal is ready all the same.
    pub fn suspend(&mut self) -> io::Result<()> {
        self.shared.suspended.store(true, Ordering::SeqCst);
        let handle = self.handle();
        if let Some(handle) = &handle {
            handle.suspend();
        }
        let stopped = tty::stop_own_group();
        self.resumed();
        stopped
    }

    /// Takes the terminal back after a stop (on SIGCONT): raw mode if it is ours, modes of the screen, size.
    pub fn resumed(&mut self) {
        if let Some(handle) = self.handle()
            && handle.resume().unwrap_or(false)
            && self.keyboard == Keyboard::Raw
        {
            // Where this fails, the thread for the keys tries again.
            let _ = handle.enter();
        }
        self.resize();
        self.shared.suspended.store(false, Ordering::SeqCst);
    }

    fn handle(&self) -> Option<Handle> {
        self.outer.as_ref().map(Outer::handle)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop_input();
    }
}

/// Makes a pipe larger, if it is one and is smaller: fewer switches between processes. The kernel may refuse.
fn enlarge(pipe: &OwnedFd) {
    if fcntl(pipe, FcntlArg::F_GETPIPE_SZ).is_ok_and(|size| size < PIPE) {
        let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(PIPE));
    }
}

/// Only for descriptors of our own, never for those shared with the user's other processes.
fn nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
