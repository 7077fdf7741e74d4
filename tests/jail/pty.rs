//! A terminal for a test: it types, reads what is shown, resizes, and compares the modes before and after.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A user's terminal with a program in its foreground, which leads a session of its own as a login shell does.
pub struct Screen {
    master: File,
    /// The program's side, to look at its modes and its unread input.
    user: OwnedFd,
    before: Termios,
    shown: Arc<(Mutex<Shown>, Condvar)>,
    cursor: usize,
    child: Child,
}

#[derive(Default)]
struct Shown {
    bytes: Vec<u8>,
    closed: bool,
}

impl Screen {
    /// Starts a command on a new terminal of 24 lines and 80 columns.
    pub fn start(command: &Command) -> Result<Self, Failed> {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(Some(&size), None)?;
        for fd in [&master, &slave] {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        }
        let before = tcgetattr(&slave)?;
        // setsid(1) makes its standard input the controlling terminal.
        let mut started = Command::new("setsid");
        started.arg("--ctty").arg(command.get_program()).args(command.get_args()).env_clear();
        if let Some(directory) = command.get_current_dir() {
            started.current_dir(directory);
        }
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                started.env(name, value);
            }
        }
        let end = || slave.try_clone().map(Stdio::from);
        let child = started.stdin(end()?).stdout(end()?).stderr(end()?).spawn()?;
        let master = File::from(master);
        let shown = Arc::new((Mutex::new(Shown::default()), Condvar::new()));
        read_into(master.try_clone()?, Arc::clone(&shown));
        Ok(Self { master, user: slave, before, shown, cursor: 0, child })
    }

    /// Types.
    pub fn keys(&mut self, keys: &str) -> Result<(), Failed> {
        Ok(self.master.write_all(keys.as_bytes())?)
    }

    /// Waits until a text is shown behind what was waited for before; what came in between.
    pub fn expect(&mut self, text: &str) -> Result<String, Failed> {
        let start = Instant::now();
        let (lock, changed) = &*self.shown;
        let mut shown = lock.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let rest = &shown.bytes[self.cursor..];
            if let Some(at) = rest.windows(text.len()).position(|window| window == text.as_bytes()) {
                let between = String::from_utf8_lossy(&rest[..at]).into_owned();
                self.cursor += at + text.len();
                return Ok(between);
            }
            if shown.closed || start.elapsed() > PATIENCE {
                return Err(format!("{text:?} is not in {:?}", String::from_utf8_lossy(rest)).into());
            }
            (shown, _) =
                changed.wait_timeout(shown, Duration::from_millis(200)).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Everything shown so far.
    pub fn shown(&self) -> String {
        let shown = self.shown.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&shown.bytes).into_owned()
    }

    /// Gives the terminal another size; the kernel tells its foreground group.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<(), Failed> {
        nix::ioctl_write_ptr_bad!(set_size, nix::libc::TIOCSWINSZ, Winsize);
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the descriptor is open for the call, and the kernel reads one `winsize`, which `size` is.
        unsafe { set_size(std::os::fd::AsRawFd::as_raw_fd(&self.master), &raw const size) }?;
        Ok(())
    }

    /// The modes of the terminal are those it had before the command.
    pub fn is_as_before(&self) -> Result<bool, Failed> {
        Ok(comparable(&tcgetattr(&self.user)?) == comparable(&self.before))
    }

    /// Waits for the end of the command.
    pub fn wait(&mut self) -> Result<ExitStatus, Failed> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > PATIENCE {
                return Err(format!("does not end; shown: {:?}", self.shown()).into());
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end, and for this status (128 plus the signal), the modes from before, and no unread input:
    /// the next thing a shell would read is what the user types.
    pub fn ends_well(&mut self, status: i32) -> Result<(), Failed> {
        let ended = self.wait()?;
        if ended.code().or(ended.signal().map(|signal| 128 + signal)) != Some(status) {
            return Err(format!("{ended}, shown: {:?}", self.shown()).into());
        }
        if !self.is_as_before()? {
            return Err(format!("modes changed from {:?} to {:?}", self.before, tcgetattr(&self.user)?).into());
        }
        let unread = self.unread()?;
        if !unread.is_empty() {
            return Err(format!("typed for the shell: {:?}", String::from_utf8_lossy(&unread)).into());
        }
        Ok(())
    }

    /// Input that nobody has read.
    fn unread(&self) -> Result<Vec<u8>, Failed> {
        let now = tcgetattr(&self.user)?;
        let mut raw = now.clone();
        cfmakeraw(&mut raw);
        tcsetattr(self.user.as_fd(), SetArg::TCSANOW, &raw)?;
        let mut reader = File::from(nix::fcntl::open(
            &nix::unistd::ttyname(&self.user)?,
            OFlag::O_RDONLY | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC,
            nix::sys::stat::Mode::empty(),
        )?);
        let mut buffer = vec![0; 4096];
        let count = match reader.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error.into()),
        };
        buffer.truncate(count);
        tcsetattr(self.user.as_fd(), SetArg::TCSANOW, &now)?;
        Ok(buffer)
    }

    /// The program in the terminal.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A thread that collects what the terminal shows and answers what a terminal answers.
fn read_into(mut master: File, shown: Arc<(Mutex<Shown>, Condvar)>) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 8192];
        loop {
            let count = master.read(&mut buffer).unwrap_or(0);
            let (lock, changed) = &*shown;
            let mut shown = lock.lock().unwrap_or_else(PoisonError::into_inner);
            shown.bytes.extend_from_slice(&buffer[..count]);
            shown.closed = count == 0;
            changed.notify_all();
            for (question, answer) in QUESTIONS {
                if buffer[..count].windows(question.len()).any(|window| window == *question) {
                    let _ = master.write_all(answer);
                }
            }
            if shown.closed {
                return;
            }
        }
    });
}

/// Status, cursor position, attributes, title: the last is an attack, because the workload chose the title.
const QUESTIONS: &[(&[u8], &[u8])] = &[
    (b"\x1b[5n", b"\x1b[0n"),
    (b"\x1b[6n", b"\x1b[1;1R"),
    (b"\x1b[c", b"\x1b[?62c"),
    (b"\x1b[21t", b"\x1b]lrm -rf x\r\x1b\\"),
    (b"\x1b]52;c;?\x07", b"\x1b]52;c;c3RvbGVu\x07"),
];

fn comparable(modes: &Termios) -> (u32, u32, u32, u32, Vec<u8>) {
    (
        modes.input_flags.bits(),
        modes.output_flags.bits(),
        modes.control_flags.bits(),
        modes.local_flags.bits(),
        modes.control_chars.to_vec(),
    )
}
