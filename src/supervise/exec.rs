//! The client's side of `jail exec`: it relays its own standard descriptors to the command's in the jail.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::control::{Answer, Client, Request};
use super::pipes::Pipes;
use super::signals::{Asked, Signals};
use super::terminal::relay::{InnerEnds, Relay};
use super::terminal::stdio;
use crate::error::{Error, Result};
use crate::launch::message::{Ending, Stdio};
use crate::launch::start::explain;
use crate::sys::{readiness, tty};

/// What to run.
#[derive(Debug)]
pub struct Exec {
    /// The command and its arguments.
    pub command: Vec<Vec<u8>>,
    /// Where it starts, as a path inside; empty for the session's start directory.
    pub directory: Vec<u8>,
}

/// Runs a command in the session whose control socket is at `control`, until it ends.
pub fn run(control: &Path, exec: Exec) -> Result<Ending> {
    let client = Client::connect(control)?;
    let plan = stdio::classify();
    let Pipes { kinds, inside, outside } = Pipes::open(&plan)?;
    let term = std::env::var_os("TERM").filter(|_| kinds.contains(&Stdio::Terminal));
    let request = Request::Exec {
        command: exec.command,
        directory: exec.directory,
        term: term.map(|term| term.as_bytes().to_vec()),
        size: terminal_size(&kinds),
        stdio: kinds,
    };
    let ends: Vec<_> = inside.iter().flatten().map(AsFd::as_fd).collect();
    client.send(&request, &ends)?;
    drop(ends);
    drop(inside);
    let master = match client.receive()? {
        (Answer::Running, descriptors) => descriptors.into_iter().next(),
        (Answer::Failed(failure), _) => return Err(explain(&failure)),
        (other, _) => return Err(Error::setup(format!("the session answered out of turn: {other:?}"))),
    };
    let [stdin, stdout, stderr] = outside;
    let inner = InnerEnds { pty: master, stdin, stdout, stderr };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::setup(format!("cannot start the event loop: {error}")))?;
    runtime.block_on(serve(&client, &plan, inner))
}

/// Rows and columns of the first standard descriptor that is a terminal.
fn terminal_size(kinds: &[Stdio; 3]) -> Option<(u16, u16)> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let ends = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let terminal = kinds.iter().position(|kind| *kind == Stdio::Terminal)?;
    let size = tty::window_size(ends[terminal]).ok()?;
    Some((size.ws_row, size.ws_col))
}

async fn serve(client: &Client, plan: &stdio::StdioPlan, inner: InnerEnds) -> Result<Ending> {
    let failed = |error: std::io::Error| Error::setup(format!("cannot watch a descriptor: {error}"));
    let mut signals = Signals::listen()?;
    let mut relay = Relay::new(plan, inner)?;
    let answers = client.as_fd().try_clone_to_owned().and_then(readiness::readable).map_err(failed)?;
    let mut silent = false;
    let ending = loop {
        tokio::select! {
            ready = answers.readable() => {
                drop(ready.map_err(failed)?);
                match client.receive()? {
                    (Answer::Ended(ending), _) => break ending,
                    (Answer::Failed(failure), _) => return Err(explain(&failure)),
                    _ => {}
                }
            }
            asked = signals.next() => match asked {
                Asked::Resized => relay.resize(),
                Asked::Continued => relay.resumed(),
                // The command is not this process's child: ending the client ends the relay, and a terminal hangs up.
                Asked::Forward(signal) => break Ending::Signaled(signal as i32),
                Asked::Stop => { let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP); }
            },
            () = relay.run(), if !silent => silent = true,
        }
    };
    relay.drain().await;
    Ok(ending)
}
