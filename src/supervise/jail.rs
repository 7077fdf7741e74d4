//! The supervisor's loop: one task that serves init, the terminal, signals, the watcher and the control socket.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::task::Poll;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use tokio::io::unix::AsyncFd;

use super::control::{self, Answer, Request};
use super::signals::{Asked, Signals};
use crate::audit::{self, Event, SharedRecorder};
use crate::error::{Error, Result};
use crate::launch::message::{Channel, Covered, Ending, FromInit, Placeholder, Spawn, Step, ToInit};
use crate::launch::start::explain;
use crate::plan::Plan;
use crate::sys::readiness;

/// Masks that may be under way. Init's answers repeat the path, at most four bytes of text for each of its bytes, and the
/// longest path that can be mounted on has 4096; the smallest buffer in use holds 200 KiB.
const UNDER_WAY: usize = 8;

/// Connections that may be open without having asked for anything; one more closes the oldest.
const SILENT: usize = 16;

/// What the loop serves.
#[derive(Debug)]
pub struct Jail<'a> {
    plan: &'a Plan,
    channel: Channel,
    /// The same socket, for waiting.
    channel_ready: AsyncFd<OwnedFd>,
    control: AsyncFd<OwnedFd>,
    recorder: SharedRecorder,
    /// Masks and guards that init has not answered yet.
    asked: std::cell::Cell<usize>,
    clients: HashMap<u32, OwnedFd>,
    next_client: u32,
    /// Connections that asked for nothing yet, the oldest first.
    silent: Vec<AsyncFd<OwnedFd>>,
    /// Connections that asked for the end of the run.
    killers: Vec<OwnedFd>,
}

/// What happened in one turn of the loop.
#[derive(Debug)]
pub enum Turn {
    /// Nothing the caller has to act on.
    Served,
    /// The workload runs.
    Started,
    /// The workload was stopped; the caller stops too and then calls [`Jail::resume`].
    Stopped,
    /// The outer terminal has another size.
    Resized,
    /// This process was stopped from outside and goes on.
    Continued,
    /// What was to be hidden was not there any more.
    MaskMissed,
    /// A mask could not be renewed.
    MaskFailed(String, String),
    /// The run is over.
    Ended(Ending),
}

impl<'a> Jail<'a> {
    /// Takes over the channel and the control socket. Needs a running tokio.
    pub fn new(plan: &'a Plan, channel: Channel, control: OwnedFd, recorder: SharedRecorder) -> Result<Self> {
        let failed = |error: std::io::Error| Error::setup(format!("cannot watch a descriptor: {error}"));
        Ok(Self {
            plan,
            channel_ready: channel.as_fd().try_clone_to_owned().and_then(readiness::readable).map_err(failed)?,
            channel,
            control: readiness::readable(control).map_err(failed)?,
            recorder,
            asked: std::cell::Cell::new(0),
            clients: HashMap::new(),
            next_client: 1,
            silent: Vec::new(),
            killers: Vec::new(),
        })
    }

    /// Puts what stands for a credential into place, before the workload starts.
    pub fn placeholder(&self, placeholder: Placeholder) -> Result<()> {
        self.tell(&ToInit::Placeholder(placeholder))
    }

    /// Starts the workload.
    pub fn go(&self) -> Result<()> {
        self.tell(&ToInit::Go)
    }

    /// Continues a stopped workload.
    pub fn resume(&self) -> Result<()> {
        self.tell(&ToInit::Continue)
    }

    /// Kills everything in the jail; an ending follows.
    pub fn end(&self) -> Result<()> {
        self.tell(&ToInit::End)
    }

    /// Has a path hidden that was replaced or appeared.
    pub fn mask(&self, path: &[u8]) -> Result<()> {
        self.asked.set(self.asked.get() + 1);
        self.tell(&ToInit::Mask { path: path.to_owned() })
    }

    /// Has a path protected again that the host replaced.
    pub fn guard(&self, path: &[u8], pin: bool) -> Result<()> {
        self.asked.set(self.asked.get() + 1);
        self.tell(&ToInit::Guard { path: path.to_owned(), pin })
    }

    /// Whether init may be asked for one more mask. Both ends of the channel wait when it is full, so more than its
    /// buffers hold may never be under way: the supervisor would wait for init and init for the supervisor.
    pub fn has_room(&self) -> bool {
        self.asked.get() < UNDER_WAY
    }

    /// Whether init answered everything it was asked for.
    pub fn has_answered(&self) -> bool {
        self.asked.get() == 0
    }

    /// The channel and the connections that asked for the end of the run: those are closed when everything is gone.
    pub fn into_rest(self) -> (Channel, Vec<OwnedFd>) {
        (self.channel, self.killers)
    }

    fn tell(&self, message: &ToInit) -> Result<()> {
        match self.channel.send(message, &[]) {
            // Init ends when the workload does; its last message waits, and says how. If there is none, reading says so.
            Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            Err(errno) => Err(lost(errno)),
        }
    }

    /// Waits for one thing to happen and serves it. Cancel-safe: it only ever waits for readiness.
    pub async fn turn(&mut self, signals: &mut Signals) -> Result<Turn> {
        tokio::select! {
            ready = self.channel_ready.readable() => {
                let mut ready = ready.map_err(|error| Error::setup(format!("cannot poll: {error}")))?;
                let message = self.channel.receive_now::<FromInit>();
                // Only an empty channel clears the readiness: it is reported once, however many messages wait.
                if matches!(message, Err(Errno::EAGAIN)) {
                    ready.clear_ready();
                    return Ok(Turn::Served);
                }
                drop(ready);
                self.hear(message)
            }
            asked = signals.next() => self.pass_on(asked),
            ready = self.control.readable() => {
                let mut ready = ready.map_err(|error| Error::setup(format!("cannot poll: {error}")))?;
                ready.clear_ready();
                drop(ready);
                while let Some(client) = control::accept(self.control.get_ref()) {
                    self.silent.push(readiness::readable(client).map_err(|error| {
                        Error::setup(format!("cannot watch a descriptor: {error}"))
                    })?);
                }
                let most = self.silent.len().saturating_sub(SILENT);
                self.silent.drain(..most);
                Ok(Turn::Served)
            }
            index = spoken(&self.silent) => {
                let client = self.silent.remove(index).into_inner();
                self.serve(client).map(|()| Turn::Served)
            }
        }
    }

    fn pass_on(&mut self, asked: Asked) -> Result<Turn> {
        match asked {
            Asked::Forward(signal) => self.tell(&ToInit::Signal(signal as i32)).map(|()| Turn::Served),
            Asked::Stop => {
                self.tell(&ToInit::Signal(Signal::SIGSTOP as i32))?;
                Ok(Turn::Served)
            }
            Asked::Resized => Ok(Turn::Resized),
            Asked::Continued => Ok(Turn::Continued),
        }
    }

    fn hear(&mut self, message: nix::Result<(FromInit, Vec<OwnedFd>)>) -> Result<Turn> {
        let (message, descriptors) = message.map_err(gone)?;
        match message {
            FromInit::Failed(failure) => Err(explain(&failure)),
            FromInit::Started => {
                tracing::debug!("the workload runs");
                Ok(Turn::Started)
            }
            FromInit::Stopped(_) => Ok(Turn::Stopped),
            FromInit::Ended(ending) => Ok(Turn::Ended(ending)),
            FromInit::Ready(_) | FromInit::Cleared => Err(Error::setup("init answered out of turn")),
            FromInit::Masked { path, error, covered } => {
                self.asked.set(self.asked.get().saturating_sub(1));
                match covered {
                    _ if error.is_some() => {}
                    Covered::Missed => return Ok(Turn::MaskMissed),
                    // Nothing happened that the record should tell.
                    Covered::Already => return Ok(Turn::Served),
                    Covered::Now => {}
                }
                let path = String::from_utf8_lossy(&path).into_owned();
                tracing::debug!(path, error, "covered again");
                audit::append(&self.recorder, &Event::Masked { path: path.clone(), error: error.as_deref() })?;
                Ok(error.map_or(Turn::Served, |error| Turn::MaskFailed(path, error)))
            }
            FromInit::Spawned(id) => {
                let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
                self.answer(id, &Answer::Running, &descriptors);
                Ok(Turn::Served)
            }
            FromInit::SpawnFailed(id, failure) => {
                self.answer(id, &Answer::Failed(failure), &[]);
                self.clients.remove(&id);
                Ok(Turn::Served)
            }
            FromInit::SpawnEnded(id, ending) => {
                self.answer(id, &Answer::Ended(ending), &[]);
                self.clients.remove(&id);
                Ok(Turn::Served)
            }
        }
    }

    fn answer(&self, id: u32, answer: &Answer, descriptors: &[std::os::fd::BorrowedFd<'_>]) {
        if let Some(client) = self.clients.get(&id) {
            // A client that left is no reason to end the run.
            let _ = control::send(client.as_fd(), answer, descriptors);
        }
    }

    /// Reads the one request of a client that has something to say, and drops one that left.
    fn serve(&mut self, client: OwnedFd) -> Result<()> {
        let Some((request, descriptors)) = control::request(&client) else { return Ok(()) };
        match request {
            Request::Kill => {
                let _ = control::send(client.as_fd(), &Answer::Killing, &[]);
                self.killers.push(client);
                self.end()
            }
            Request::Exec { command, directory, term, size, stdio } => {
                let id = self.next_client;
                self.next_client += 1;
                let words: Vec<&OsStr> = command.iter().map(|word| OsStr::from_bytes(word)).collect();
                let shown = audit::command(&words);
                audit::append(&self.recorder, &Event::Exec { command: shown })?;
                let directory = if directory.is_empty() {
                    self.plan.directory.as_os_str().as_bytes().to_owned()
                } else {
                    directory
                };
                let spawn = ToInit::Spawn(Spawn { id, command, directory, term, size, stdio });
                let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
                self.clients.insert(id, client);
                match self.channel.send(&spawn, &descriptors) {
                    Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
                    // The path of the start directory made it too long: the client's loss, not the run's.
                    Err(errno @ Errno::EMSGSIZE) => {
                        self.answer(id, &Answer::Failed(Step::Exec.failed("the command line", errno)), &[]);
                        self.clients.remove(&id);
                        Ok(())
                    }
                    Err(errno) => Err(lost(errno)),
                }
            }
        }
    }
}

/// Waits until one of the connections has something to read or is closed; its index.
async fn spoken(silent: &[AsyncFd<OwnedFd>]) -> usize {
    std::future::poll_fn(|context| {
        let ready = silent.iter().position(|client| client.poll_read_ready(context).is_ready());
        ready.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// Waits until init has removed what it put into the workspace: its last word, after the ending.
pub fn cleared(channel: &Channel) -> Result<()> {
    loop {
        // Nobody waits for other messages any more.
        if let FromInit::Cleared = channel.receive::<FromInit>().map_err(gone)?.0 {
            return Ok(());
        }
    }
}

fn gone(errno: Errno) -> Error {
    Error::setup(format!("the jail's init is gone ({}); everything in the jail was killed", errno.desc()))
}

fn lost(errno: Errno) -> Error {
    Error::setup(format!("lost the jail's init: {}", errno.desc()))
}
