//! Plays an older or restricted host: `jail-tests without CALL=ERRNO… -- COMMAND` answers the calls with the error, and
//! executes the command.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use libtest_mimic::Failed;
use nix::errno::Errno;
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// What can be taken away. `clone-newuser` is clone(2) with that flag, as Docker's filter refuses it; `netfilter` is
/// socket(2) for that netlink protocol; `transparent` is setsockopt(2) for that option of ip(7).
const CALLS: &[(&str, i64)] = &[
    ("capset", libc::SYS_capset),
    ("clone-newuser", libc::SYS_clone),
    ("clone3", libc::SYS_clone3),
    ("close_range", libc::SYS_close_range),
    ("fsopen", libc::SYS_fsopen),
    ("inotify_init1", libc::SYS_inotify_init1),
    ("landlock_add_rule", libc::SYS_landlock_add_rule),
    ("landlock_create_ruleset", libc::SYS_landlock_create_ruleset),
    ("landlock_restrict_self", libc::SYS_landlock_restrict_self),
    ("mount_setattr", libc::SYS_mount_setattr),
    ("move_mount", libc::SYS_move_mount),
    ("netfilter", libc::SYS_socket),
    ("open_tree", libc::SYS_open_tree),
    ("openat2", libc::SYS_openat2),
    ("pidfd_open", libc::SYS_pidfd_open),
    ("pidfd_send_signal", libc::SYS_pidfd_send_signal),
    ("pivot_root", libc::SYS_pivot_root),
    ("seccomp", libc::SYS_seccomp),
    ("sethostname", libc::SYS_sethostname),
    ("setns", libc::SYS_setns),
    ("transparent", libc::SYS_setsockopt),
    ("unshare", libc::SYS_unshare),
];

/// Runs it; returns only when something is wrong.
pub fn run(arguments: &[String]) -> ExitCode {
    match become_command(arguments) {
        Ok(never) => match never {},
        Err(failed) => {
            eprintln!("without: {}", failed.message().unwrap_or("failed"));
            ExitCode::from(99)
        }
    }
}

fn become_command(arguments: &[String]) -> Result<std::convert::Infallible, Failed> {
    let end = arguments.iter().position(|word| word == "--").ok_or("no --")?;
    let mut by_errno: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for word in &arguments[..end] {
        let (call, errno) = word.split_once('=').ok_or("CALL=ERRNO")?;
        let errno = match errno {
            "ENOSYS" => Errno::ENOSYS,
            "EPERM" => Errno::EPERM,
            "EINVAL" => Errno::EINVAL,
            "EMFILE" => Errno::EMFILE,
            "EPROTONOSUPPORT" => Errno::EPROTONOSUPPORT,
            "EOPNOTSUPP" => Errno::EOPNOTSUPP,
            other => return Err(format!("no error {other}").into()),
        };
        by_errno.entry(errno as u32).or_default().push(call);
    }
    // seccomp itself goes last: the others are installed with it.
    let mut filters: Vec<_> = by_errno.into_iter().collect();
    filters.sort_by_key(|(_, calls)| calls.contains(&"seccomp"));
    for (errno, calls) in filters {
        let mut rules = BTreeMap::new();
        for call in calls {
            let (_, number) = CALLS.iter().find(|(name, _)| *name == call).ok_or_else(|| format!("no call {call}"))?;
            let conditions = match call {
                "clone-newuser" => vec![new_user_namespace()?],
                "netfilter" => vec![has(0, libc::AF_NETLINK, 2, libc::NETLINK_NETFILTER)?],
                "transparent" => vec![has(1, libc::SOL_IP, 2, libc::IP_TRANSPARENT)?],
                _ => Vec::new(),
            };
            rules.insert(*number, conditions);
        }
        let architecture: TargetArch = std::env::consts::ARCH.try_into()?;
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno), architecture)?;
        let program: seccompiler::BpfProgram = filter.try_into()?;
        seccompiler::apply_filter(&program)?;
    }
    let command = arguments.get(end + 1..).ok_or("no command")?;
    let (program, rest) = command.split_first().ok_or("no command")?;
    Err(Command::new(program).args(rest).exec().into())
}

/// Two arguments have these values.
fn has(first: u8, value: i32, second: u8, other: i32) -> Result<SeccompRule, Failed> {
    let is = |argument, value: i32| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, u64::from(value.cast_unsigned()))
    };
    Ok(SeccompRule::new(vec![is(first, value)?, is(second, other)?])?)
}

fn new_user_namespace() -> Result<SeccompRule, Failed> {
    let flag = u64::from(libc::CLONE_NEWUSER.cast_unsigned());
    let condition = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), flag)?;
    Ok(SeccompRule::new(vec![condition])?)
}
