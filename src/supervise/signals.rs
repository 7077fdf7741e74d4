//! Signals that the supervisor passes on to the workload.

use nix::sys::signal::Signal;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use crate::error::{Error, Result};

/// Streams of the signals that are forwarded, and of those that are acted on.
#[derive(Debug)]
pub struct Signals {
    interrupt: Stream,
    terminate: Stream,
    hangup: Stream,
    quit: Stream,
    user1: Stream,
    user2: Stream,
    stop: Stream,
    resized: Stream,
    continued: Stream,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Pass this one on.
    Forward(Signal),
    /// Stop the workload and then this process (Ctrl-Z where the jail has no terminal of its own).
    Stop,
    /// The outer terminal has another size.
    Resized,
    /// This process was stopped from outside and goes on: the shell has changed the terminal meanwhile.
    Continued,
}

impl Signals {
    /// Starts listening. From here on none of these ends the supervisor by itself.
    pub fn listen() -> Result<Self> {
        let stream = |kind| signal(kind).map_err(|error| Error::setup(format!("cannot handle a signal: {error}")));
        Ok(Self {
            interrupt: stream(SignalKind::interrupt())?,
            terminate: stream(SignalKind::terminate())?,
            hangup: stream(SignalKind::hangup())?,
            quit: stream(SignalKind::quit())?,
            user1: stream(SignalKind::user_defined1())?,
            user2: stream(SignalKind::user_defined2())?,
            stop: stream(SignalKind::from_raw(libc::SIGTSTP))?,
            resized: stream(SignalKind::window_change())?,
            continued: stream(SignalKind::from_raw(libc::SIGCONT))?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Forward(Signal::SIGINT),
            _ = self.terminate.recv() => Asked::Forward(Signal::SIGTERM),
            _ = self.hangup.recv() => Asked::Forward(Signal::SIGHUP),
            _ = self.quit.recv() => Asked::Forward(Signal::SIGQUIT),
            _ = self.user1.recv() => Asked::Forward(Signal::SIGUSR1),
            _ = self.user2.recv() => Asked::Forward(Signal::SIGUSR2),
            _ = self.stop.recv() => Asked::Stop,
            _ = self.resized.recv() => Asked::Resized,
            _ = self.continued.recv() => Asked::Continued,
        }
    }
}

/// A limit on the size of files makes a write of this process fail, with a message, instead of ending it.
pub fn outlive_file_size_limits() {
    // Without it the limit still holds, only without a message.
    let _ = crate::sys::process::ignore_signal(Signal::SIGXFSZ);
}
