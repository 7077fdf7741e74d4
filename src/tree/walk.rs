//! The walker: every directory beneath a root, on one thread while the tree is small and on several when it is not.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::fstatat;

use super::open::beneath;
use crate::error::{Error, Result};
use crate::sys::dirent::{Buffer, Entry, FileType};

/// Directories waiting before threads are worth their start.
const PARALLEL_FROM: usize = 64;
/// More threads than this only contend for the directory cache.
const MOST_THREADS: usize = 8;
/// The walker needs no deep stack.
const STACK: usize = 256 * 1024;
/// How often a directory that changes its type while it is opened is looked at again.
const RETRIES: usize = 8;

/// A directory that waits to be read.
#[derive(Debug)]
pub(super) struct Task {
    /// Its path, relative to the root, without a trailing slash; empty for the root.
    pub path: Vec<u8>,
    /// What the visitor said about it when it descended.
    pub flags: u8,
}

/// The directory that is being read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dir<'a> {
    /// An open descriptor of it.
    pub fd: BorrowedFd<'a>,
    /// Its path, relative to the root; empty for the root.
    pub path: &'a [u8],
    /// What the visitor said about it when it descended.
    pub flags: u8,
}

impl Dir<'_> {
    /// The path of an entry.
    pub fn join(&self, name: &[u8]) -> Vec<u8> {
        let mut path = Vec::with_capacity(self.path.len() + 1 + name.len());
        if !self.path.is_empty() {
            path.extend_from_slice(self.path);
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }
}

/// Sees every entry of every directory; one per thread.
pub(super) trait Visitor: Send {
    /// An entry with its type known; `Some(flags)` descends into a directory.
    ///
    /// # Errors
    /// Any error stops the walk.
    fn entry(&mut self, dir: &Dir<'_>, entry: &Entry<'_>) -> Result<Option<u8>>;

    /// All entries of the directory were seen.
    fn leave(&mut self, _dir: &Dir<'_>) {}

    /// A directory could not be opened or read with the rights of this process.
    fn unreadable(&mut self, _path: &[u8], _error: Errno) {}
}

/// Walks everything beneath `root` and returns the visitors, one per thread that took part.
///
/// No thread of the walk is left when it returns, not even one that is still ending: a fork may follow.
///
/// # Errors
/// The first error of a visitor, or a directory that could not be read for another reason than permission.
pub(super) fn walk<V: Visitor>(root: BorrowedFd<'_>, start: Task, make: &(impl Fn() -> V + Sync)) -> Result<Vec<V>> {
    let mut local = Local { visitor: make(), queue: VecDeque::from([start]), buffer: Buffer::default() };
    while let Some(task) = local.queue.pop_back() {
        local.read(root, &task)?;
        if local.queue.len() >= PARALLEL_FROM {
            let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
            if threads > 1 {
                return parallel(root, local, make, threads);
            }
        }
    }
    Ok(vec![local.visitor])
}

struct Local<V> {
    visitor: V,
    queue: VecDeque<Task>,
    buffer: Buffer,
}

impl<V: Visitor> Local<V> {
    fn read(&mut self, root: BorrowedFd<'_>, task: &Task) -> Result<()> {
        let path = Path::new(OsStr::from_bytes(&task.path));
        let mut tries = 0;
        let fd = loop {
            match beneath(root, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
                Ok(fd) => break fd,
                // It was a directory a moment ago. A racing swap must not hide what it holds, so look again.
                Err(Errno::ELOOP | Errno::ENOTDIR) if tries < RETRIES => tries += 1,
                Err(error) => return self.failed(task, error),
            }
        };
        let dir = Dir { fd: fd.as_fd(), path: &task.path, flags: task.flags };
        let (visitor, queue) = (&mut self.visitor, &mut self.queue);
        let mut stopped = Ok(());
        let read = self.buffer.read(fd.as_fd(), |entry| {
            if stopped.is_ok() {
                stopped = with_type(fd.as_fd(), entry, |entry| {
                    if let Some(flags) = visitor.entry(&dir, &entry)? {
                        queue.push_back(Task { path: dir.join(entry.name.to_bytes()), flags });
                    }
                    Ok(())
                });
            }
        });
        stopped?;
        self.visitor.leave(&dir);
        match read {
            Ok(()) => Ok(()),
            Err(error) => self.failed(task, error),
        }
    }

    fn failed(&mut self, task: &Task, error: Errno) -> Result<()> {
        match error {
            Errno::ENOENT => Ok(()),
            Errno::EACCES | Errno::EPERM | Errno::ELOOP | Errno::ENOTDIR | Errno::ESTALE => {
                self.visitor.unreadable(&task.path, error);
                Ok(())
            }
            _ => Err(Error::setup(format!("cannot read the directory {}: {error}", super::escape_bytes(&task.path)))),
        }
    }
}

/// Gives the entry on with its type, asking the file system where the directory does not record it.
fn with_type(dir: BorrowedFd<'_>, entry: Entry<'_>, give: impl FnOnce(Entry<'_>) -> Result<()>) -> Result<()> {
    if entry.kind != FileType::Unknown {
        return give(entry);
    }
    match fstatat(dir, entry.name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => give(Entry { kind: FileType::from_mode(stat.st_mode), ..entry }),
        Err(_) => Ok(()),
    }
}

struct Shared {
    queue: Mutex<Vec<Task>>,
    wake: Condvar,
    /// Threads waiting for work; the walk is over when all wait and the queue is empty.
    waiting: AtomicUsize,
    threads: usize,
    over: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Task>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.wake.notify_all();
    }

    /// Takes a share of the queue, or waits for one; `false` when the walk is over.
    fn take(&self, into: &mut VecDeque<Task>) -> bool {
        let mut queue = self.lock();
        loop {
            if self.over.load(Ordering::Acquire) {
                return false;
            }
            if !queue.is_empty() {
                let share = queue.len().div_ceil(2).min(256);
                let from = queue.len() - share;
                into.extend(queue.drain(from..));
                return true;
            }
            if self.waiting.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
                self.end();
                return false;
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            self.waiting.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Gives the older half, which holds the larger subtrees, to threads that wait.
    fn share(&self, from: &mut VecDeque<Task>) {
        if from.len() > 1 && self.waiting.load(Ordering::Relaxed) > 0 {
            let half = from.len() / 2;
            self.lock().extend(from.drain(..half));
            self.wake.notify_all();
        }
    }
}

/// Ends the walk for the others also when a thread leaves by panic, or they would wait for it for ever.
struct EndOnDrop<'a>(&'a Shared);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        let _queue = self.0.lock();
        self.0.end();
    }
}

fn parallel<V: Visitor>(
    root: BorrowedFd<'_>,
    mut first: Local<V>,
    make: &(impl Fn() -> V + Sync),
    threads: usize,
) -> Result<Vec<V>> {
    let tasks_before = task_count();
    let shared = Shared {
        queue: Mutex::new(first.queue.drain(..).collect()),
        wake: Condvar::new(),
        waiting: AtomicUsize::new(0),
        threads,
        over: AtomicBool::new(false),
    };
    let work = |mut local: Local<V>| -> Result<V> {
        let _end = EndOnDrop(&shared);
        while shared.take(&mut local.queue) {
            while let Some(task) = local.queue.pop_back() {
                local.read(root, &task)?;
                shared.share(&mut local.queue);
            }
        }
        Ok(local.visitor)
    };
    let result = thread::scope(|scope| {
        let mut handles = Vec::with_capacity(threads - 1);
        for _ in 1..threads {
            let local = || Local { visitor: make(), queue: VecDeque::new(), buffer: Buffer::default() };
            let work = &work;
            match thread::Builder::new().stack_size(STACK).spawn_scoped(scope, move || work(local())) {
                Ok(handle) => handles.push(handle),
                Err(error) => {
                    drop(EndOnDrop(&shared));
                    return Err(Error::setup(format!("cannot start a thread to read the workspace: {error}")));
                }
            }
        }
        let mut visitors = vec![work(first)];
        for handle in handles {
            visitors.push(handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        visitors.into_iter().collect()
    });
    wait_for_tasks(tasks_before);
    result
}

/// The number of threads of this process as the kernel counts them.
fn task_count() -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    Some(std::fs::metadata("/proc/self/task").ok()?.nlink())
}

/// A joined thread may still be leaving the kernel's thread group, and unshare(2) and a fork count it: wait until it is gone.
fn wait_for_tasks(before: Option<u64>) {
    let deadline = Instant::now() + Duration::from_millis(20);
    while before.is_some() && task_count() > before && Instant::now() < deadline {
        thread::yield_now();
    }
}

/// The bytes as a path.
pub(super) fn to_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}
