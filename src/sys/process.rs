//! Process facilities: fork(2), waitid(2), the thread count, and wiping what /proc/PID shows of this process.

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{ForkResult, Pid, fork};

/// Forks; the caller must be single-threaded (EBUSY otherwise), so that ordinary Rust is legal in the child.
pub fn fork_single_threaded() -> nix::Result<ForkResult> {
    if thread_count()? != 1 {
        return Err(Errno::EBUSY);
    }
    // SAFETY: there is no other thread, so no lock can be held across the fork.
    unsafe { fork() }
}

/// Has a program start with nothing of this process: no descriptor beside the standard ones, no terminal, a session of its
/// own; it is killed when this process dies.
pub fn isolate(command: &mut Command) {
    let prepare = || {
        nix::unistd::setsid()?;
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // Only marked: the standard library reports by one of them that the program cannot be executed.
        super::close_range::close_on_exec_from(3)?;
        Ok(())
    };
    // SAFETY: the closure makes three system calls; it takes no lock and does not allocate.
    unsafe { command.pre_exec(prepare) };
}

/// The number of threads of this process, read from /proc/self/stat.
pub fn thread_count() -> nix::Result<u64> {
    stat_fields(20).map(|[threads]| threads)
}

/// Fields of /proc/self/stat from `first` on, counted from 1 as in proc_pid_stat(5); only numeric ones after the name.
fn stat_fields<const N: usize>(first: usize) -> nix::Result<[u64; N]> {
    // At once: the kernel makes the whole line for every piece that is read.
    let mut line = [0; 1024];
    let read = fs::File::open("/proc/self/stat")
        .and_then(|mut file| file.read(&mut line))
        .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    let line = line.get(..read).and_then(|line| str::from_utf8(line).ok()).ok_or(Errno::EINVAL)?;
    // The name is in parentheses and may itself contain spaces and parentheses.
    let after_name = line.rfind(')').and_then(|end| line.get(end + 2..)).ok_or(Errno::EINVAL)?;
    let mut fields = after_name.split_ascii_whitespace().skip(first.saturating_sub(3));
    let mut found = [0; N];
    for field in &mut found {
        *field = fields.next().and_then(|text| text.parse().ok()).ok_or(Errno::EINVAL)?;
    }
    Ok(found)
}

/// Overwrites the command line and the environment that /proc/PID/cmdline and /proc/PID/environ show.
///
/// Called in init after the clone: its memory is a copy of the supervisor's, whose environment may hold tokens. The
/// strings are gone afterwards; nothing in this process may read the environment any more.
pub fn wipe_arguments_and_environment(title: &[u8]) -> nix::Result<()> {
    // proc_pid_stat(5): arg_start, arg_end, env_start, env_end are fields 48 to 51.
    let [arg_start, arg_end, env_start, env_end] = stat_fields(48)?.map(|address: u64| address as usize);
    for (start, end) in [(arg_start, arg_end), (env_start, env_end)] {
        if start == 0 || end < start {
            return Err(Errno::EINVAL);
        }
        // SAFETY: the kernel reports this range of our own stack as the argument and environment strings. We are
        // single-threaded, and the only readers (std::env) are not used in this process afterwards.
        unsafe { std::ptr::write_bytes(start as *mut u8, 0, end - start) };
    }
    let length = title.len().min((arg_end - arg_start).saturating_sub(1));
    // SAFETY: `length` bytes fit into the argument area, which was just cleared.
    unsafe { std::ptr::copy_nonoverlapping(title.as_ptr(), arg_start as *mut u8, length) };
    Ok(())
}

/// What became of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It returned this status.
    Exited(i32),
    /// This signal killed it; a number, because real-time signals have no name.
    Killed(i32),
    /// This signal stopped it.
    Stopped(i32),
}

/// Collects one child that ended or, if `stopped`, stopped (waitid(2)). Without `wait`, `None` when there is none yet.
///
/// # Errors
/// ECHILD without any child.
pub fn collect_child(wait: bool, stopped: bool) -> nix::Result<Option<(Pid, Change)>> {
    let flags = libc::WEXITED | if wait { 0 } else { libc::WNOHANG } | if stopped { libc::WSTOPPED } else { 0 };
    loop {
        // SAFETY: an all-zero siginfo_t is a valid value of this plain C structure.
        let mut found: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one siginfo_t, which `found` is.
        match Errno::result(unsafe { libc::waitid(libc::P_ALL, 0, &raw mut found, flags) }) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        // SAFETY: waitid(2) fills these fields, or leaves the zeros where there is no child to report.
        let (pid, status) = unsafe { (found.si_pid(), found.si_status()) };
        if pid == 0 {
            return Ok(None);
        }
        let change = match found.si_code {
            libc::CLD_EXITED => Change::Exited(status),
            libc::CLD_KILLED | libc::CLD_DUMPED => Change::Killed(status),
            _ => Change::Stopped(status),
        };
        return Ok(Some((Pid::from_raw(pid), change)));
    }
}

/// Gives a signal its default action again.
pub fn default_signal(signal: Signal) -> nix::Result<()> {
    let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler function is installed, so nothing can run in signal context.
    unsafe { sigaction(signal, &action) }.map(drop)
}

/// Ignores a signal, so that what would send it only fails.
pub fn ignore_signal(signal: Signal) -> nix::Result<()> {
    let action = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler function is installed, so nothing can run in signal context.
    unsafe { sigaction(signal, &action) }.map(drop)
}

/// Closes every descriptor except the given ones and puts /dev/null on 0, 1 and 2.
///
/// For init right after the clone: it inherits everything the supervisor has open, the host's terminal included.
pub fn keep_only(keep: &[i32]) -> nix::Result<()> {
    let null = nix::fcntl::open("/dev/null", nix::fcntl::OFlag::O_RDWR, nix::sys::stat::Mode::empty())?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    drop(null);
    super::close_range::close_all_but(keep)
}
