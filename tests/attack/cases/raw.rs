//! Raw calls, children to make them in, and the JSON lines.

use std::ffi::CString;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use serde_json::{Map, Value};

/// What came of a call: its value, or the error.
pub type Outcome = Result<i64, Errno>;

/// One line of output.
pub struct Line(Map<String, Value>);

impl Line {
    /// Case and what is tried.
    pub fn new(case: &str, attempt: impl Into<String>) -> Self {
        let mut map = Map::new();
        map.insert("case".into(), case.into());
        map.insert("try".into(), attempt.into().into());
        Self(map)
    }

    /// Adds a field.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.into(), value.into());
        self
    }

    /// The end: the result of a call.
    pub fn outcome(self, outcome: Outcome) {
        match outcome {
            Ok(value) => self.with("result", "ok").with("value", value).print(),
            Err(errno) => self.with("result", format!("{errno:?}")).print(),
        }
    }

    /// The end: a result in words.
    pub fn result(self, result: impl Into<Value>) {
        self.with("result", result).print();
    }

    /// The end: bytes that were read (at most 64 are shown).
    pub fn bytes(self, bytes: std::io::Result<Vec<u8>>) {
        match bytes {
            Ok(bytes) => {
                let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).into_owned();
                self.with("result", "ok").with("value", bytes.len()).with("bytes", shown).print();
            }
            Err(error) => self.outcome(Err(Errno::from_raw(error.raw_os_error().unwrap_or(0)))),
        }
    }

    /// The end: an input or output operation of the standard library.
    pub fn io<T>(self, result: std::io::Result<T>) {
        self.outcome(result.map(|_| 0).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0))));
    }

    fn print(self) {
        // One write per line: lines of children that share the pipe do not mix.
        let line = format!("{}\n", Value::Object(self.0));
        let _ = std::io::stdout().write_all(line.as_bytes());
        let _ = std::io::stdout().flush();
    }
}

/// Makes a system call.
pub fn call(number: i64, args: &[usize]) -> Outcome {
    let mut all = [0_usize; 6];
    all[..args.len()].copy_from_slice(args);
    // SAFETY: the cases in this directory pass integers, null, or pointers to live memory of the size the call expects;
    // calls that would change this process under the compiler's feet are made in a child that only exits afterwards.
    Errno::result(unsafe { libc::syscall(number, all[0], all[1], all[2], all[3], all[4], all[5]) })
}

/// A path or name as a C string. Its pointer is valid while it lives.
pub fn c(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

/// Makes the call in a child, for calls that may kill or change the process.
pub fn in_child(line: Line, attempt: impl FnOnce() -> Outcome) {
    let mut pipe: [RawFd; 2] = [0; 2];
    // SAFETY: `pipe` has room for the two descriptors.
    if unsafe { libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return line.outcome(Err(Errno::last()));
    }
    // SAFETY: this program has one thread, so the child may do anything.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let text = match attempt() {
            Ok(value) => value.to_string(),
            Err(errno) => format!("{errno:?}"),
        };
        // SAFETY: the descriptor and the bytes are valid; `_exit` skips everything the parent shares.
        unsafe {
            libc::write(pipe[1], text.as_ptr().cast(), text.len());
            libc::_exit(0);
        }
    }
    if child < 0 {
        return line.outcome(Err(Errno::last()));
    }
    // SAFETY: both descriptors are ours and used nowhere else.
    let mut reader = unsafe {
        libc::close(pipe[1]);
        std::fs::File::from_raw_fd(pipe[0])
    };
    let mut text = String::new();
    let _ = reader.read_to_string(&mut text);
    match wait(child) {
        Some(signal) => line.result(signal_name(signal)),
        // The pipe closes on exec.
        None if text.is_empty() => line.result("executed"),
        None => match text.parse() {
            Ok(value) => line.outcome(Ok(value)),
            Err(_) => line.result(text),
        },
    }
}

/// Waits for a child; the signal that ended it, if one did.
pub fn wait(child: i32) -> Option<i32> {
    let mut status = 0;
    // SAFETY: `status` is valid for writing.
    while unsafe { libc::waitpid(child, &raw mut status, libc::__WALL) } < 0 && Errno::last() == Errno::EINTR {}
    libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status))
}

fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |signal| signal.to_string())
}

/// Forks a child that sleeps until it is killed; the callback gets its pid.
pub fn with_sleeper(f: impl FnOnce(i32)) {
    // SAFETY: this program has one thread, so the child may do anything.
    let child = unsafe { libc::fork() };
    if child == 0 {
        loop {
            // SAFETY: takes no pointers.
            unsafe { libc::pause() };
        }
    }
    if child > 0 {
        f(child);
        // SAFETY: takes integers; the child is ours.
        unsafe { libc::kill(child, libc::SIGKILL) };
        wait(child);
    }
}
