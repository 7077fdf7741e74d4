//! The user's terminal: what the filter lets through, raw mode and back, and the byte pumps.

#![expect(clippy::await_holding_lock, reason = "every test has a runtime and a thread of its own")]

mod docs;
mod filter;
mod jobs;
mod outer;
mod relay;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jail::supervise::terminal::filter::Charset;
use jail::supervise::terminal::relay::{InnerEnds, Relay};
use jail::supervise::terminal::stdio::{OuterEnds, classify_these};
use nix::pty::{OpenptyResult, openpty};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

/// A panic puts the last guarded terminal back, whichever test it belongs to: one test with a terminal at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pty() -> OpenptyResult {
    openpty(None, None).expect("a pty")
}

fn pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    (reader.into(), writer.into())
}

fn null() -> OwnedFd {
    File::options().read(true).write(true).open("/dev/null").expect("/dev/null").into()
}

fn dup(fd: &OwnedFd) -> OwnedFd {
    fd.try_clone().expect("a duplicate")
}

/// Relays between three host descriptors and the ends that their classes ask for. The ends of the workload come back
/// in order: the slave of its pty or its pipe.
fn relay(stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd) -> (Relay, Workload) {
    let plan = classify_these(stdin.as_fd(), stdout.as_fd(), stderr.as_fd());
    let mut inner = InnerEnds::default();
    let mut workload = Workload::default();
    if plan.wants_pty() {
        let OpenptyResult { master, slave } = pty();
        (inner.pty, workload.tty) = (Some(master), Some(slave));
    }
    let (reader, writer) = pipe();
    (inner.stdin, workload.stdin) = (Some(writer), Some(reader));
    let (reader, writer) = pipe();
    (inner.stdout, workload.stdout) = (Some(reader), Some(writer));
    let (reader, writer) = pipe();
    (inner.stderr, workload.stderr) = (Some(reader), Some(writer));
    if plan.merged {
        inner.stderr = None;
        workload.stderr = workload.stdout.as_ref().map(dup);
    }
    let outer = OuterEnds { stdin, stdout, stderr };
    (Relay::between(&plan, outer, inner, Charset::Utf8).expect("a relay"), workload)
}

#[derive(Debug, Default)]
struct Workload {
    tty: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

fn file(fd: &OwnedFd) -> File {
    File::from(dup(fd))
}

fn write(fd: &OwnedFd, bytes: &[u8]) {
    file(fd).write_all(bytes).expect("writable");
}

/// What can be read until `done` says it is enough; fails after five seconds.
#[track_caller]
fn read_until(fd: &OwnedFd, done: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let end = Instant::now() + Duration::from_secs(5);
    let mut got = Vec::new();
    while !done(&got) {
        assert!(Instant::now() < end, "only got {:?}", got.escape_ascii().to_string());
        got.extend(read_waiting(fd, Duration::from_millis(20)));
    }
    got
}

/// What can be read until nothing came for a while.
fn read_waiting(fd: &OwnedFd, patience: Duration) -> Vec<u8> {
    let mut got = Vec::new();
    while readable(fd, patience) {
        let mut buffer = [0; 4096];
        match file(fd).read(&mut buffer) {
            Ok(count @ 1..) => got.extend_from_slice(&buffer[..count]),
            _ => break,
        }
    }
    got
}

fn readable(fd: &OwnedFd, patience: Duration) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let timeout = PollTimeout::try_from(patience).expect("a short time");
    poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout).expect("poll") == 1
}

fn set_raw(tty: &OwnedFd) {
    let mut modes = tcgetattr(tty).expect("modes");
    cfmakeraw(&mut modes);
    tcsetattr(tty, SetArg::TCSANOW, &modes).expect("raw");
}

/// A terminal emulator that answers questions after a while, as one behind a network does.
struct Emulator {
    shown: Arc<Mutex<Vec<u8>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Emulator {
    fn on(master: OwnedFd, delay: Duration) -> Self {
        let shown = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&shown);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = file(&master).read(&mut buffer) {
                let new = &buffer[..count];
                log.lock().expect("log").extend_from_slice(new);
                for (question, answer) in [(&b"\x1b[6n"[..], &b"\x1b[24;80R"[..]), (b"\x1b[5n", b"\x1b[0n")] {
                    for _ in new.windows(4).filter(|window| *window == question) {
                        std::thread::sleep(delay);
                        write(&master, answer);
                    }
                }
            }
        });
        Self { shown, thread: Some(thread) }
    }

    fn shown(&self) -> String {
        self.shown.lock().expect("log").escape_ascii().to_string()
    }

    /// Waits until the last user of the terminal has closed it.
    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the emulator");
        }
    }
}
