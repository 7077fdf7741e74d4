//! Programs that try to get out: `try GROUP [ARGUMENT…]` makes the raw calls and prints one JSON line for each.
//!
//! The same program runs inside a jail and, as positive control, outside. It judges nothing: a line says what was tried
//! (`case` and `try`) and what came of it (`result`: `ok`, an errno or a signal; `value` and `bytes` where there are any).
//! Nothing here harms the machine even where it succeeds with every privilege.

#![allow(clippy::print_stdout, dead_code, reason = "an attack program prints; each test binary uses part of it")]

mod entry;
mod files;
mod kernel;
mod namespaces;
mod probes;
pub mod raw;
mod sockets;
mod terminal;
mod tracing;
mod uring;

use std::process::ExitCode;

type Group = (&'static str, &'static str, fn(&[String]));

const GROUPS: &[Group] = &[
    ("entry", "SC-001 SC-002: calls by the 32-bit and x32 entries", entry::foreign),
    ("numbers", "SC-014: numbers newer than the filter", entry::numbers),
    ("uring", "SC-003: io_uring, and a socket made through it", uring::uring),
    ("namespaces", "SC-004 SC-005 SC-007: clone3, clone, unshare, setns", namespaces::namespaces),
    (
        "trace",
        "SC-007 SC-008: ptrace, process_vm, kcmp, pidfd_getfd on a child, the parent, init and [PID…]",
        tracing::trace,
    ),
    ("signals", "SC-018: signal everyone, the parent, init and [PID…] (signal 0)", tracing::signals),
    ("scheduling", "SC-018: limits and scheduling of the parent, init and [PID…], unchanged", tracing::scheduling),
    ("filters", "SC-017: own filters and a listener", tracing::filters),
    ("memfd", "SC-015: a program from a memfd, which prints its status", tracing::memfd),
    ("handles", "SC-009: PATH by file handle", kernel::handles),
    ("kernel", "SC-010: administration of the kernel, with harmless arguments", kernel::administration),
    ("keys", "PK-016: key rings; looks for the user key [NAME]", kernel::keys),
    ("families", "IP-007 IP-008: every socket family and netlink protocol", sockets::families),
    ("unix", "IP-001 IP-004: connect to and send to the Unix socket PATH", sockets::unix),
    ("abstract", "IP-006: connect to and send to the abstract socket NAME", sockets::abstract_),
    ("tcp", "NT: connect to ADDRESS:PORT and read", sockets::tcp),
    ("udp", "NT: send to ADDRESS:PORT and read", sockets::udp),
    ("udp-connected", "NT: the same with a connected socket, which hears of refusals", sockets::udp_connected),
    ("serve", "NT: listen on ADDRESS:PORT in one process and connect from another", sockets::serve),
    ("terminal", "FD-003 FD-004 FD-005: terminal requests on an own terminal and on descriptor 0", terminal::terminal),
    ("write-verbs", "FS-016 FS-011: every way to change FILE and its directory", files::write_verbs),
    ("links", "FS-009: link SOURCE to DESTINATION in every way, then read that", files::links),
    ("set-user-id", "PR-001: leave a set-user-id file in DIRECTORY in every way", files::set_user_id),
    ("writable", "PK-001 PK-003: open every file below each PATH for writing", files::writable),
    ("read", "FS-001: read each PATH", files::read),
    ("execute", "execute each PATH", files::execute),
    ("descriptors", "FD-001: open descriptors", probes::descriptors),
    ("proc", "PK-001 PK-003 PK-005 PK-006 PK-009: /proc and /sys of init, the parent and [PID…]", probes::proc),
    ("devices", "PK-021: devices", probes::devices),
    ("status", "PR-001 PR-010: no_new_privs, capabilities, filter, core limit; here and in a daemon", probes::status),
];

/// Runs one group; the arguments are what follows `try`.
pub fn run(arguments: &[String]) -> ExitCode {
    let group = arguments.first().and_then(|name| GROUPS.iter().find(|group| group.0 == name));
    if let Some((_, _, group)) = group {
        group(&arguments[1..]);
        return ExitCode::SUCCESS;
    }
    for (name, about, _) in GROUPS {
        println!("{name:12} {about}");
    }
    ExitCode::from(2)
}
