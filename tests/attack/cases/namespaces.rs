//! New namespaces, and other processes' ones.

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;

use super::raw::{Line, Outcome, call, in_child, wait};

const FLAGS: &[(&str, i32)] = &[
    ("NEWUSER", libc::CLONE_NEWUSER),
    ("NEWNS", libc::CLONE_NEWNS),
    ("NEWPID", libc::CLONE_NEWPID),
    ("NEWNET", libc::CLONE_NEWNET),
    ("NEWIPC", libc::CLONE_NEWIPC),
    ("NEWUTS", libc::CLONE_NEWUTS),
    ("NEWCGROUP", libc::CLONE_NEWCGROUP),
    ("NEWUSER|NEWNET", libc::CLONE_NEWUSER | libc::CLONE_NEWNET),
];

/// `struct clone_args` (linux/sched.h), version 1.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

pub fn namespaces(_: &[String]) {
    // Without namespaces: what every thread library and shell does has to work.
    in_child(Line::new("SC-004", "clone3 plain"), || clone3(0));
    in_child(Line::new("SC-004", "clone plain"), || clone(0));
    in_child(Line::new("SC-004", "unshare FS|FILES"), || {
        call(libc::SYS_unshare, &[(libc::CLONE_FS | libc::CLONE_FILES) as usize])
    });
    in_child(Line::new("SC-005", "unshare NEWTIME"), || call(libc::SYS_unshare, &[0x80]));
    for (name, flags) in FLAGS {
        in_child(Line::new("SC-004", format!("clone3 {name}")), || clone3(*flags as u64));
        in_child(Line::new("SC-005", format!("clone {name}")), || clone(*flags as usize));
        in_child(Line::new("SC-005", format!("clone {name} high bits")), || clone(*flags as usize | 1 << 40));
        in_child(Line::new("SC-005", format!("unshare {name}")), || call(libc::SYS_unshare, &[*flags as usize]));
    }
    for owner in ["self", "1"] {
        for kind in ["user", "mnt", "net", "pid", "uts", "ipc", "cgroup"] {
            let path = format!("/proc/{owner}/ns/{kind}");
            let line = Line::new("SC-007", format!("setns {path}"));
            match File::open(&path) {
                Ok(file) => in_child(line, || call(libc::SYS_setns, &[file.as_raw_fd() as usize, 0])),
                Err(error) => line.with("step", "open").io::<()>(Err(error)),
            }
        }
    }
}

fn clone3(flags: u64) -> Outcome {
    let args = CloneArgs { flags, exit_signal: libc::SIGCHLD as u64, ..CloneArgs::default() };
    forked(call(libc::SYS_clone3, &[&raw const args as usize, size_of::<CloneArgs>()]))
}

fn clone(flags: usize) -> Outcome {
    forked(call(libc::SYS_clone, &[flags | libc::SIGCHLD as usize]))
}

/// The child of a clone leaves at once.
fn forked(outcome: Outcome) -> Outcome {
    match outcome? {
        0 => {
            // SAFETY: ends the child without touching what it shares.
            unsafe { libc::_exit(0) }
        }
        child => {
            let child = i32::try_from(child).map_err(|_| Errno::EOVERFLOW)?;
            wait(child);
            Ok(0)
        }
    }
}
