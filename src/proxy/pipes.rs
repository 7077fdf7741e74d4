//! Pipes through which splice(2) carries bulk data from socket to socket without copying it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;

use super::bounds;

/// A bounded supply of pipes.
#[derive(Debug, Default)]
pub struct Pipes(Mutex<Supply>);

#[derive(Debug, Default)]
struct Supply {
    idle: Vec<Ends>,
    in_use: usize,
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipes {
    /// An empty pipe; `None` when all are in use or the process has no descriptors left.
    pub fn take(self: &Arc<Self>) -> Option<Pipe> {
        let mut supply = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if supply.in_use >= bounds::PIPES {
            return None;
        }
        let ends = supply.idle.pop().map_or_else(Ends::open, Some)?;
        supply.in_use += 1;
        Some(Pipe { ends: Some(ends), held: 0, supply: Arc::clone(self) })
    }

    fn put_back(&self, ends: Option<Ends>) {
        let mut supply = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        supply.in_use = supply.in_use.saturating_sub(1);
        if supply.idle.len() < bounds::KEPT_PIPES {
            supply.idle.extend(ends);
        }
    }
}

impl Ends {
    fn open() -> Option<Self> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).ok()?;
        // A smaller one works too.
        let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(i32::try_from(bounds::PIPE).unwrap_or(i32::MAX)));
        Some(Self { read, write })
    }
}

/// A pipe in use. One that still holds bytes is never used again.
#[derive(Debug)]
pub struct Pipe {
    ends: Option<Ends>,
    held: usize,
    supply: Arc<Pipes>,
}

impl Pipe {
    /// How many bytes are on their way.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Moves bytes from a socket into the pipe, which must be empty; 0 at the end of the stream.
    pub fn fill(&mut self, from: impl AsFd, most: usize) -> io::Result<usize> {
        let Some(ends) = &self.ends else { return Err(io::ErrorKind::NotConnected.into()) };
        let moved = splice(from, None, &ends.write, None, most.min(bounds::PIPE), FLAGS)?;
        self.held = self.held.saturating_add(moved);
        Ok(moved)
    }

    /// Moves bytes from the pipe to a socket.
    pub fn drain(&mut self, to: impl AsFd) -> io::Result<usize> {
        let Some(ends) = &self.ends else { return Err(io::ErrorKind::NotConnected.into()) };
        let moved = splice(&ends.read, None, to, None, self.held, FLAGS)?;
        self.held = self.held.saturating_sub(moved);
        Ok(moved)
    }
}

/// `SPLICE_F_MORE` is not among them: it would hold back the end of a message.
const FLAGS: SpliceFFlags = SpliceFFlags::SPLICE_F_MOVE.union(SpliceFFlags::SPLICE_F_NONBLOCK);

impl Drop for Pipe {
    fn drop(&mut self) {
        let ends = self.ends.take().filter(|_| self.held == 0);
        self.supply.put_back(ends);
    }
}
