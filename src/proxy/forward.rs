//! Carries bytes between two sockets: small messages through one buffer that all connections share, bulk by splice(2).
//!
//! A connection that waits holds no buffer. What the receiver does not take at once is kept, and nothing more is read
//! from the sender until it is gone.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::sleep_until;

use super::bounds;
use super::pipes::{Pipe, Pipes};

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends the buffer of this thread.
fn with_buffer<T>(use_it: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.is_empty() {
            buffer.resize(bounds::BUFFER, 0);
        }
        use_it(buffer)
    })
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both sides said that they send no more, and everything has arrived.
    Closed,
    /// One side broke off; the other was told so.
    Broken,
    /// Nothing passed for too long.
    Idle,
}

/// How many bytes have passed, readable while they do.
#[derive(Debug, Default)]
pub struct Tally {
    up: AtomicU64,
    down: AtomicU64,
}

impl Tally {
    /// From the jail, into the jail.
    pub fn get(&self) -> (u64, u64) {
        (self.up.load(Relaxed), self.down.load(Relaxed))
    }

    /// Counts bytes from the jail.
    pub fn add_up(&self, bytes: u64) {
        self.up.fetch_add(bytes, Relaxed);
    }

    /// Counts bytes into the jail.
    pub fn add_down(&self, bytes: u64) {
        self.down.fetch_add(bytes, Relaxed);
    }
}

/// How long nothing may pass.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// While both sides may send.
    pub open: Duration,
    /// While one side may.
    pub half_closed: Duration,
}

/// Carries bytes both ways until both sides are done. The sockets are closed after that: the last end is not told otherwise.
pub async fn both_ways(
    client: &TcpStream,
    server: &TcpStream,
    pipes: &Arc<Pipes>,
    patience: Patience,
    tally: &Tally,
) -> End {
    let (mut up, mut down) = (Way::new(None), Way::new(None));
    let mut clock = pin!(sleep_until((Instant::now() + patience.open).into()));
    let mut seen = (0, 0);
    let mut since = Instant::now();
    let end = poll_fn(|context| {
        loop {
            // The last end need not be told: both sockets are closed right after it.
            up.keep_open = down.state == State::Done;
            let upwards = up.carry(context, client, server, pipes);
            down.keep_open = up.state == State::Done;
            let downwards = down.carry(context, server, client, pipes);
            let moved = (up.moved, down.moved);
            if moved != seen {
                tally.add_up(moved.0.saturating_sub(seen.0));
                tally.add_down(moved.1.saturating_sub(seen.1));
                seen = moved;
                since = Instant::now();
            }
            if up.state == State::Cut || down.state == State::Cut {
                return Poll::Ready(End::Broken);
            }
            if upwards.is_ready() && downwards.is_ready() {
                let whole = up.state == State::Done && down.state == State::Done;
                return Poll::Ready(if whole { End::Closed } else { End::Broken });
            }
            let half = upwards.is_ready() || downwards.is_ready();
            let due = since + if half { patience.half_closed } else { patience.open };
            // The clock is set again when it rings, not with every byte, and when it would ring too late.
            if half && clock.deadline().into_std() > due {
                clock.as_mut().reset(due.into());
            }
            ready!(clock.as_mut().poll(context));
            if Instant::now() >= due {
                return Poll::Ready(End::Idle);
            }
            clock.as_mut().reset(due.into());
        }
    })
    .await;
    // What was cut off must not look complete to whoever still listens. Who got everything keeps it.
    if down.state != State::Done {
        reset(client);
    }
    if up.state != State::Done {
        reset(server);
    }
    end
}

/// Whose fault it is that not everything was carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It ended before its time, broke off or was silent for too long.
    Sender,
    /// It took no more.
    Receiver,
}

/// Carries exactly so many bytes one way.
pub async fn exactly(
    from: &TcpStream,
    to: &TcpStream,
    pipes: &Arc<Pipes>,
    bytes: u64,
    patience: Duration,
) -> Result<(), Fault> {
    one_way(Way::new(Some(bytes)), from, to, pipes, patience).await.map(drop)
}

/// Carries everything one way until the sender ends; how many bytes that were.
pub async fn until_end(from: &TcpStream, to: &TcpStream, pipes: &Arc<Pipes>, patience: Duration) -> Result<u64, Fault> {
    one_way(Way::new(None), from, to, pipes, patience).await
}

async fn one_way(
    mut way: Way,
    from: &TcpStream,
    to: &TcpStream,
    pipes: &Arc<Pipes>,
    patience: Duration,
) -> Result<u64, Fault> {
    way.keep_open = true;
    let mut clock = pin!(sleep_until((Instant::now() + patience).into()));
    let mut seen = 0;
    let mut since = Instant::now();
    poll_fn(|context| {
        loop {
            if way.carry(context, from, to, pipes).is_ready() {
                let whole = way.state == State::Done && way.left_to_carry.is_none_or(|left| left == 0);
                let fault = if way.state == State::Refused { Fault::Receiver } else { Fault::Sender };
                return Poll::Ready(if whole { Ok(way.moved) } else { Err(fault) });
            }
            if way.moved != seen {
                seen = way.moved;
                since = Instant::now();
            }
            ready!(clock.as_mut().poll(context));
            if Instant::now() >= since + patience {
                return Poll::Ready(Err(if way.holds_something() { Fault::Receiver } else { Fault::Sender }));
            }
            clock.as_mut().reset((since + patience).into());
        }
    })
    .await
}

/// Lets the peer see that a connection was broken off, when it is closed.
pub fn reset(stream: &TcpStream) {
    // Without it the peer sees an ordinary end, which is all that can be done.
    let _ = stream.set_zero_linger();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// More may come.
    Open,
    /// The sender has ended; what was read is on its way.
    Ending,
    /// Everything has arrived.
    Done,
    /// The receiver takes no more.
    Refused,
    /// The sender broke off.
    Cut,
}

/// One way between two sockets.
#[derive(Debug)]
struct Way {
    /// What was read and not yet taken, and how much of it was.
    kept: Vec<u8>,
    taken: usize,
    pipe: Option<Pipe>,
    /// Bytes in large pieces, halved by each small one.
    burst: usize,
    moved: u64,
    left_to_carry: Option<u64>,
    /// The receiver is not told when the sender ends.
    keep_open: bool,
    state: State,
}

impl Way {
    fn new(left_to_carry: Option<u64>) -> Self {
        Self {
            kept: Vec::new(),
            taken: 0,
            pipe: None,
            burst: 0,
            moved: 0,
            left_to_carry,
            keep_open: false,
            state: State::Open,
        }
    }

    /// Carries what can be carried now. Ready when there will never be more; the state says why.
    fn carry(&mut self, context: &mut Context<'_>, from: &TcpStream, to: &TcpStream, pipes: &Arc<Pipes>) -> Poll<()> {
        while matches!(self.state, State::Open | State::Ending) {
            if self.holds_something() {
                if ready!(to.poll_write_ready(context)).is_err() || self.give(to).is_err() {
                    self.refused();
                }
            } else if self.left_to_carry == Some(0) {
                self.state = State::Done;
            } else if self.state == State::Ending {
                self.state = State::Done;
                if !self.keep_open {
                    // It fails where the receiver is gone, which reading from it tells.
                    let _ = shutdown(to.as_raw_fd(), Shutdown::Write);
                }
            } else {
                match from.poll_read_ready(context) {
                    Poll::Pending => {
                        // An idle connection holds no pipe.
                        self.pipe = None;
                        return Poll::Pending;
                    }
                    Poll::Ready(Err(_)) => self.state = State::Cut,
                    Poll::Ready(Ok(())) => {
                        if self.take(from, to, pipes).is_err() {
                            self.state = State::Cut;
                        }
                    }
                }
            }
        }
        Poll::Ready(())
    }

    fn holds_something(&self) -> bool {
        !self.kept.is_empty() || self.pipe.as_ref().is_some_and(|pipe| pipe.held() > 0)
    }

    fn refused(&mut self) {
        self.state = State::Refused;
        self.kept = Vec::new();
        self.pipe = None;
    }

    /// Gives the receiver what is held. An error when it takes no more.
    fn give(&mut self, to: &TcpStream) -> io::Result<()> {
        if let Some(rest) = self.kept.get(self.taken..).filter(|rest| !rest.is_empty()) {
            self.taken = self.taken.saturating_add(write_some(to, rest)?);
            if self.taken >= self.kept.len() {
                self.kept = Vec::new();
                self.taken = 0;
            }
        } else if let Some(pipe) = &mut self.pipe {
            match to.try_io(Interest::WRITABLE, || pipe.drain(to)) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes something from the sender. An error when it broke off.
    fn take(&mut self, from: &TcpStream, to: &TcpStream, pipes: &Arc<Pipes>) -> io::Result<()> {
        let most = self.left_to_carry.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        if self.burst >= bounds::BULK && self.pipe.is_none() {
            self.pipe = pipes.take();
        }
        let taken = if let (true, Some(pipe)) = (self.burst >= bounds::BULK, &mut self.pipe) {
            match from.try_io(Interest::READABLE, || pipe.fill(from, most)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                other => other?,
            }
        } else {
            match self.copy(from, to, most)? {
                Some(taken) => taken,
                None => return Ok(()),
            }
        };
        if taken == 0 {
            self.state = State::Ending;
        }
        // Messages are cheaper to copy, however fast they follow one another; bulk has small pieces now and then.
        self.burst = match taken < bounds::LARGE {
            true => self.burst / 2,
            false => self.burst.saturating_add(taken).min(4 * bounds::BULK),
        };
        self.moved = self.moved.saturating_add(taken as u64);
        if let Some(left) = &mut self.left_to_carry {
            *left = left.saturating_sub(taken as u64);
        }
        Ok(())
    }

    /// Reads into the shared buffer and writes from there; `None` when nothing has come.
    fn copy(&mut self, from: &TcpStream, to: &TcpStream, most: usize) -> io::Result<Option<usize>> {
        with_buffer(|buffer| {
            let room = buffer.len().min(most);
            let Some(read) = read_some(from, &mut buffer[..room])? else { return Ok(None) };
            if read == 0 {
                return Ok(Some(0));
            }
            let read_bytes = &buffer[..read];
            match write_some(to, read_bytes) {
                Ok(written) => self.kept.extend_from_slice(read_bytes.get(written..).unwrap_or_default()),
                Err(_) => self.refused(),
            }
            Ok(Some(read))
        })
    }
}

/// Reads what has come; 0 at the end, `None` when nothing has come.
///
/// A read that does not fill the buffer has emptied the socket (epoll(7), "Questions and answers" 9), so tokio need not
/// try again: the readiness is cleared as if it had. The end of a stream stays visible, because it has a state of its own.
fn read_some(from: &TcpStream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let mut read = None;
    let room = buffer.len();
    let result = from.try_io(Interest::READABLE, || {
        let got = recv(from.as_raw_fd(), buffer, MsgFlags::empty())?;
        read = Some(got);
        if got > 0 && got < room { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match result {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(read),
    }
}

/// Waits for more bytes and puts them behind those that are there; 0 at the end.
pub async fn read_more(from: &TcpStream, bytes: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        let read = with_buffer(|buffer| {
            let read = read_some(from, buffer)?;
            bytes.extend_from_slice(&buffer[..read.unwrap_or(0)]);
            Ok::<_, io::Error>(read)
        })?;
        if let Some(read) = read {
            return Ok(read);
        }
        from.readable().await?;
    }
}

/// Writes what the receiver takes now, perhaps nothing.
fn write_some(to: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    let result = to.try_io(Interest::WRITABLE, || {
        written = send(to.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL)?;
        if written < bytes.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match result {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(written),
    }
}

/// Writes everything within a time.
pub async fn write_all(to: &TcpStream, mut bytes: &[u8], patience: Duration) -> io::Result<()> {
    let write = async {
        loop {
            let written = write_some(to, bytes)?;
            bytes = bytes.get(written..).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(());
            }
            to.writable().await?;
        }
    };
    tokio::time::timeout(patience, write).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
