//! Which program inside holds a socket: init looks through `/proc` for it, because nobody else may.
//!
//! What is found is for the record. It is the program's own doing, and nothing is decided by it.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, OFlag, openat, readlinkat};
use nix::sys::stat::Mode;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::message::Channel;
use crate::sys::dirent::Buffer;

/// Sockets that are asked about at once, at most.
pub const MOST: usize = 32;

/// So much time of a processor init takes to look; it has masks to renew.
const PATIENCE: Duration = Duration::from_millis(2);

/// Processes that held a socket lately, which are looked at first.
const RECENT: usize = 8;

/// The longest name that is told, in bytes.
const NAME: usize = 64;

/// Asks which processes hold these sockets, by their inodes.
#[derive(Debug, Serialize, Deserialize)]
struct WantHolders(Vec<u32>);

/// The answer, in the same order.
#[derive(Debug, Serialize, Deserialize)]
struct Held(Vec<Option<Holder>>);

/// A process that holds a socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its number inside.
    pub pid: i32,
    /// The file name of its executable; any text.
    pub name: String,
}

/// Asks init about at most [`MOST`] sockets.
pub fn ask(channel: &Channel, inodes: &[u32]) -> nix::Result<()> {
    channel.send(&WantHolders(inodes.to_vec()), &[])
}

/// Takes init's answer; EAGAIN when it is not there yet.
pub fn answer(channel: &Channel) -> nix::Result<Vec<Option<Holder>>> {
    channel.receive_now::<Held>().map(|(Held(holders), _)| holders)
}

/// Init's side.
#[derive(Debug)]
pub struct Holders {
    channel: Channel,
    buffer: Buffer,
    recent: Vec<i32>,
}

impl Holders {
    /// Answers on this channel.
    pub fn new(channel: Channel) -> Self {
        Self { channel, buffer: Buffer::default(), recent: Vec::new() }
    }

    /// The channel.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Reads one question and answers it.
    ///
    /// # Errors
    /// The other end is gone.
    pub fn answer(&mut self) -> nix::Result<()> {
        let (WantHolders(inodes), _) = self.channel.receive::<WantHolders>()?;
        let found = self.find(inodes.get(..MOST).unwrap_or(&inodes));
        self.channel.send(&Held(found), &[])
    }

    fn find(&mut self, inodes: &[u32]) -> Vec<Option<Holder>> {
        let mut search = Search {
            links: inodes.iter().map(|inode| format!("socket:[{inode}]").into_bytes()).collect(),
            found: vec![None; inodes.len()],
            left: inodes.len(),
            begun: spent(),
        };
        let recent = std::mem::take(&mut self.recent);
        for pid in &recent {
            search.process(*pid, &mut self.buffer);
        }
        if !search.is_over()
            && let Ok(proc) = openat(AT_FDCWD, "/proc", OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        {
            let mut pids = numbers(&proc, &mut self.buffer);
            // The newest have the highest numbers.
            pids.sort_unstable_by_key(|pid| std::cmp::Reverse(*pid));
            for pid in pids.into_iter().filter(|pid| *pid > 1 && !recent.contains(pid)) {
                search.process(pid, &mut self.buffer);
            }
        }
        for pid in search.found.iter().flatten().map(|holder| holder.pid).chain(recent) {
            if self.recent.len() < RECENT && !self.recent.contains(&pid) {
                self.recent.push(pid);
            }
        }
        search.found
    }
}

/// How much time of a processor this thread has used. Where that cannot be told nothing is looked for.
fn spent() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::MAX, Duration::from)
}

/// Entries of a directory that are numbers.
fn numbers(directory: &OwnedFd, buffer: &mut Buffer) -> Vec<i32> {
    let mut all = Vec::new();
    let number = |name: &CStr| name.to_str().ok().and_then(|name| name.parse::<i32>().ok());
    // What was read before an error counts.
    let _ = buffer.read(directory.as_fd(), |entry| all.extend(number(entry.name)));
    all
}

struct Search {
    /// How the links of the sockets read.
    links: Vec<Vec<u8>>,
    found: Vec<Option<Holder>>,
    left: usize,
    begun: Duration,
}

impl Search {
    fn is_over(&self) -> bool {
        self.left == 0 || spent().saturating_sub(self.begun) >= PATIENCE
    }

    /// Looks at what a process has open.
    fn process(&mut self, pid: i32, buffer: &mut Buffer) {
        let path = format!("/proc/{pid}/fd");
        if self.is_over() {
            return;
        }
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let Ok(directory) = openat(AT_FDCWD, path.as_str(), flags, Mode::empty()) else { return };
        // Sockets of a connection are opened late.
        for (count, number) in numbers(&directory, buffer).into_iter().rev().enumerate() {
            if self.left == 0 || count % 32 == 31 && self.is_over() {
                return;
            }
            let Ok(link) = readlinkat(&directory, number.to_string().as_str()) else { continue };
            let mut holder = None;
            // One socket may be asked about several times.
            let places = self.links.iter().zip(&mut self.found).filter(|(wanted, _)| *wanted == link.as_bytes());
            for (_, place) in places.filter(|(_, place)| place.is_none()) {
                *place = Some(holder.get_or_insert_with(|| Holder { pid, name: name(pid) }).clone());
                self.left = self.left.saturating_sub(1);
            }
        }
    }
}

/// The file name of a process's executable, as it was called by: `python3` for `python3.12`. A process may call itself
/// anything, so what it says counts only as the beginning of that name.
fn name(pid: i32) -> String {
    /// Longer ones are cut (proc_pid_comm(5)).
    const LONGEST: usize = 15;
    let executable = readlinkat(AT_FDCWD, format!("/proc/{pid}/exe").as_str()).ok();
    let file = executable.as_deref().and_then(|path| Path::new(path).file_name()).map(OsStr::as_bytes);
    let own = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    let own = own.strip_suffix(b"\n").unwrap_or(&own);
    let called = |file: &&[u8]| own.is_empty() || own.len() == LONGEST || !file.starts_with(own);
    let bytes = file.filter(called).unwrap_or(own);
    String::from_utf8_lossy(bytes.get(..NAME).unwrap_or(bytes)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_holds_a_socket_is_found() {
        let (ours, theirs) = Channel::pair().unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let inode = u32::try_from(nix::sys::stat::fstat(&socket).unwrap().st_ino).unwrap();
        let mut holders = Holders::new(theirs);
        for _ in 0..2 {
            ask(&ours, &[inode, 1, inode]).unwrap();
            holders.answer().unwrap();
            let found = answer(&ours).unwrap();
            let holder = found[0].as_ref().unwrap();
            assert_eq!(holder.pid, std::process::id().cast_signed());
            let own = std::env::current_exe().unwrap();
            assert!(own.file_name().unwrap().to_str().unwrap().starts_with(&holder.name), "{holder:?}");
            assert_eq!((found[1].as_ref(), found[2].as_ref()), (None, Some(holder)));
        }
        drop(ours);
        assert!(holders.answer().is_err());
    }
}
