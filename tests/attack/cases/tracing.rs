//! Other processes: tracing, memory, descriptors, signals; own filters; programs without a file.

use std::io::Write;
use std::os::fd::FromRawFd;

use nix::libc;

use super::raw::{Line, Outcome, c, call, in_child, with_sleeper};

const PTRACE_SEIZE: usize = 0x4206;

fn targets(pids: &[String]) -> Vec<(String, i32)> {
    let parent = i32::try_from(std::os::unix::process::parent_id()).unwrap_or(0);
    let mut targets = vec![("parent".to_owned(), parent), ("init".to_owned(), 1)];
    targets.extend(pids.iter().filter_map(|pid| Some((format!("pid {pid}"), pid.parse().ok()?))));
    targets
}

pub fn trace(pids: &[String]) {
    with_sleeper(|child| touch("child", child));
    for (name, pid) in targets(pids) {
        touch(&name, pid);
    }
    in_child(Line::new("SC-008", "ptrace TRACEME"), || {
        call(libc::SYS_ptrace, &[libc::PTRACE_TRACEME as usize, 0, 0, 0])
    });
}

fn touch(name: &str, pid: i32) {
    let pid = pid as usize;
    let own = std::process::id() as usize;
    in_child(Line::new("SC-008", format!("ptrace SEIZE {name}")), || {
        call(libc::SYS_ptrace, &[PTRACE_SEIZE, pid, 0, 0])
    });
    Line::new("SC-008", format!("process_vm_readv {name}")).outcome(read_memory(pid));
    Line::new("SC-008", format!("kcmp {name}")).outcome(call(libc::SYS_kcmp, &[own, pid, 1, 0, 0]));
    let line = Line::new("SC-007", format!("pidfd_getfd {name}"));
    let pidfd = call(libc::SYS_pidfd_open, &[pid, 0]);
    match pidfd {
        Ok(pidfd) => {
            line.outcome(call(libc::SYS_pidfd_getfd, &[pidfd as usize, 0, 0]));
            Line::new("SC-007", format!("pidfd_send_signal {name}"))
                .outcome(call(libc::SYS_pidfd_send_signal, &[pidfd as usize, 0, 0, 0]));
        }
        Err(errno) => line.with("step", "pidfd_open").outcome(Err(errno)),
    }
}

/// Reads one byte where this program has its own code. EFAULT from another program means that access was granted.
fn read_memory(pid: usize) -> Outcome {
    let mut byte = 0_u8;
    let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let remote = libc::iovec { iov_base: read_memory as fn(usize) -> Outcome as *mut libc::c_void, iov_len: 1 };
    call(libc::SYS_process_vm_readv, &[pid, &raw const local as usize, 1, &raw const remote as usize, 1, 0])
}

pub fn signals(pids: &[String]) {
    Line::new("SC-018", "kill everyone").outcome(call(libc::SYS_kill, &[usize::MAX, 0]));
    for (name, pid) in targets(pids) {
        let pid = pid as usize;
        Line::new("SC-018", format!("kill {name}")).outcome(call(libc::SYS_kill, &[pid, 0]));
        Line::new("SC-018", format!("tgkill {name}")).outcome(call(libc::SYS_tgkill, &[pid, pid, 0]));
    }
    with_sleeper(|child| Line::new("SC-018", "kill child").outcome(call(libc::SYS_kill, &[child as usize, 0])));
}

/// Sets limits, priority and processors of others to what they are already. The kernel asks for the same uid only.
pub fn scheduling(pids: &[String]) {
    for (name, pid) in targets(pids) {
        let pid = pid as usize;
        let line = |verb: &str| Line::new("SC-018", format!("{verb} {name}"));
        let mut limit = [0_u64; 2];
        let limit = limit.as_mut_ptr() as usize;
        let files = libc::RLIMIT_NOFILE as usize;
        let read = call(libc::SYS_prlimit64, &[pid, files, 0, limit]);
        line("prlimit read").outcome(read);
        if read.is_ok() {
            line("prlimit").outcome(call(libc::SYS_prlimit64, &[pid, files, limit, 0]));
        }
        // The raw call answers 20 minus the nice value.
        if let Ok(priority) = call(libc::SYS_getpriority, &[0, pid]) {
            line("setpriority").outcome(call(libc::SYS_setpriority, &[0, pid, (20 - priority) as usize]));
        }
        let mut mask = [0_u64; 128];
        if let Ok(length) = call(libc::SYS_sched_getaffinity, &[pid, size_of_val(&mask), mask.as_mut_ptr() as usize]) {
            line("sched_setaffinity")
                .outcome(call(libc::SYS_sched_setaffinity, &[pid, length as usize, mask.as_ptr() as usize]));
        }
        if let Ok(priority) = call(libc::SYS_ioprio_get, &[1, pid]) {
            line("ioprio_set").outcome(call(libc::SYS_ioprio_set, &[1, pid, priority as usize]));
        }
        let parameter = 0_i32;
        if call(libc::SYS_sched_getscheduler, &[pid]) == Ok(0) {
            let at = [pid, 0, &raw const parameter as usize];
            line("sched_setscheduler").outcome(call(libc::SYS_sched_setscheduler, &at));
            line("sched_setparam").outcome(call(libc::SYS_sched_setparam, &[pid, &raw const parameter as usize]));
        }
    }
    Line::new("SC-018", "setpriority own").outcome(call(libc::SYS_setpriority, &[0, 0, 0]));
}

pub fn filters(_: &[String]) {
    let tries = [("plain", 0), ("LOG", 2), ("NEW_LISTENER", 8), ("NEW_LISTENER|WAIT_KILLABLE", 8 | 0x20)];
    for (name, flags) in tries {
        for high in [0, 1 << 35] {
            let line = Line::new("SC-017", format!("seccomp {name}{}", if high == 0 { "" } else { " high bits" }));
            in_child(line, || install(flags | high));
        }
    }
}

/// Installs a filter that allows everything.
fn install(flags: usize) -> Outcome {
    let allow = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
    let program = libc::sock_fprog { len: 1, filter: (&raw const allow).cast_mut() };
    call(libc::SYS_prctl, &[libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0, 0])?;
    call(libc::SYS_seccomp, &[libc::SECCOMP_SET_MODE_FILTER as usize, flags, &raw const program as usize])
}

/// Copies this program into a memfd and runs it from there: `try status`.
pub fn memfd(_: &[String]) {
    let line = Line::new("SC-015", "memfd_create");
    let name = c("attack");
    let fd = match call(libc::SYS_memfd_create, &[name.as_ptr() as usize, 0]) {
        Ok(fd) => fd as i32,
        Err(errno) => return line.outcome(Err(errno)),
    };
    let copy = || -> std::io::Result<()> {
        let program = std::fs::read("/proc/self/exe")?;
        // SAFETY: the descriptor was just made and stays open: the file is never dropped.
        let mut file = std::mem::ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(fd) });
        file.write_all(&program)
    };
    match copy() {
        Ok(()) => line.outcome(Ok(0)),
        Err(error) => return line.with("step", "copy").io::<()>(Err(error)),
    }
    in_child(Line::new("SC-015", "execveat of a memfd"), || {
        let arguments = ["attack", "try", "status"].map(c);
        let argv = [arguments[0].as_ptr(), arguments[1].as_ptr(), arguments[2].as_ptr(), std::ptr::null()];
        let envp: [*const libc::c_char; 1] = [std::ptr::null()];
        let empty = c("");
        call(
            libc::SYS_execveat,
            &[
                fd as usize,
                empty.as_ptr() as usize,
                argv.as_ptr() as usize,
                envp.as_ptr() as usize,
                libc::AT_EMPTY_PATH as usize,
            ],
        )
    });
    Line::new("SC-015", "memfd_secret").outcome(call(libc::SYS_memfd_secret, &[0]));
}
