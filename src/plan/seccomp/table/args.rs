//! The rules that look at arguments. The constants are the kernel's; where it takes 32 bits of an argument, only those
//! are compared, so that rubbish in the upper half cannot pass by.

use super::super::{Case, Half, Refusal, Rule, Test, Verdict};

const fn low(arg: u8, mask: u32, values: &'static [u32], among: bool) -> Test {
    Test { arg, half: Half::Low, mask, values, among }
}

/// The low half of `arg` is one of `values`.
const fn is(arg: u8, values: &'static [u32]) -> Test {
    low(arg, u32::MAX, values, true)
}

/// The low half of `arg` is none of `values`.
const fn is_not(arg: u8, values: &'static [u32]) -> Test {
    low(arg, u32::MAX, values, false)
}

/// At least one bit of `bits` is set in the low half of `arg`.
const fn has(arg: u8, bits: u32) -> Test {
    low(arg, bits, &[0], false)
}

/// At least one bit is set in the high half of `arg`.
const fn has_high(arg: u8) -> Test {
    Test { arg, half: Half::High, mask: u32::MAX, values: &[0], among: false }
}

/// The whole of `arg` is zero, as a null pointer is.
const IS_NULL_2: &[Test] = &[is(2, &[0]), Test { arg: 2, half: Half::High, mask: u32::MAX, values: &[0], among: true }];

const fn refuse(when: &'static [Test], refusal: Refusal, why: &'static str) -> Case {
    Case { when, verdict: Verdict::Refuse(refusal), why }
}

const fn allow(when: &'static [Test], why: &'static str) -> Case {
    Case { when, verdict: Verdict::Allow, why }
}

const fn allow_except(cases: &'static [Case]) -> Rule {
    Rule::Args { cases, otherwise: Verdict::Allow }
}

// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. CLONE_NEWTIME is a signal number to clone(2).
const NAMESPACES: u32 = 0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000;

pub(super) const CLONE: Rule = allow_except(&[refuse(
    &[has(0, NAMESPACES)],
    Refusal::Perm,
    "a new namespace: a user namespace would bring every capability back",
)]);

// CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM: everything unshare(2) takes that is not a namespace.
const UNSHARE_HARMLESS: u32 = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | 0x4_0000;

pub(super) const UNSHARE: Rule = allow_except(&[
    refuse(&[has(0, !UNSHARE_HARMLESS)], Refusal::Perm, "a new namespace, or a flag newer than this table"),
    refuse(&[has_high(0)], Refusal::Perm, "a flag newer than this table"),
]);

const AF_UNIX: u32 = 1;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const AF_NETLINK: u32 = 16;
const NETLINK_ROUTE: u32 = 0;
/// The type without SOCK_NONBLOCK and SOCK_CLOEXEC (`SOCK_TYPE_MASK`).
const SOCK_TYPE: u32 = 0xF;
const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
/// Unspecified, ICMP, TCP, UDP, ICMPv6.
const PROTOCOLS: &[u32] = &[0, 1, 6, 17, 58];

pub(super) const SOCKET: Rule = allow_except(&[
    allow(&[is(0, &[AF_UNIX])], "Unix sockets: which one can be reached is the mount view's matter"),
    allow(&[is(0, &[AF_NETLINK]), is(2, &[NETLINK_ROUTE])], "reads addresses and routes: getaddrinfo, Node, Go"),
    refuse(&[is(0, &[AF_NETLINK])], Refusal::ProtoNoSupport, "audit, uevents, netfilter, crypto, connector, …"),
    refuse(
        &[is_not(0, &[AF_INET, AF_INET6])],
        Refusal::AfNoSupport,
        "vsock reaches the host past the network namespace; packet, alg, key, Bluetooth, CAN, … are kernel code to attack",
    ),
    refuse(&[low(1, SOCK_TYPE, &[SOCK_STREAM, SOCK_DGRAM], false)], Refusal::Perm, "raw and packet sockets"),
    refuse(&[is_not(2, PROTOCOLS)], Refusal::ProtoNoSupport, "SCTP, DCCP, MPTCP, L2TP, …: modules loaded on demand"),
]);

pub(super) const SOCKETPAIR: Rule =
    allow_except(&[refuse(&[is_not(0, &[AF_UNIX])], Refusal::AfNoSupport, "only Unix sockets come in pairs")]);

/// TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD, TIOCVHANGUP, TIOCSLCKTRMIOS.
const TERMINAL: &[u32] = &[0x5412, 0x541C, 0x541D, 0x5423, 0x5437, 0x5457];
/// `KD*` (0x4B..) and `VT_*` (0x56..), the requests of the machine's own console.
const CONSOLE: &[u32] = &[0x4B00, 0x5600];

pub(super) const IOCTL: Rule = allow_except(&[
    refuse(
        &[is(1, TERMINAL)],
        Refusal::Perm,
        "types into, pastes into, redirects or changes a terminal: TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD, TIOCVHANGUP, \
         TIOCSLCKTRMIOS",
    ),
    refuse(
        &[low(1, 0xFFFF_FF00, CONSOLE, true)],
        Refusal::Perm,
        "keyboard maps and switching of the machine's console",
    ),
]);

const S_IFMT: u32 = 0xF000;
const S_IFCHR: u32 = 0x2000;
const S_IFBLK: u32 = 0x6000;
const DEVICE: &[u32] = &[S_IFCHR, S_IFBLK];

const NO_DEVICE: &str = "devices, and whiteouts of an overlay";

pub(super) const MKNOD: Rule = allow_except(&[
    refuse(&[low(1, S_IFMT, DEVICE, true)], Refusal::Perm, NO_DEVICE),
    refuse(&[has(1, S_ISUID)], Refusal::Perm, NO_SET_USER_ID),
]);

pub(super) const MKNODAT: Rule = allow_except(&[
    refuse(&[low(2, S_IFMT, DEVICE, true)], Refusal::Perm, NO_DEVICE),
    refuse(&[has(2, S_ISUID)], Refusal::Perm, NO_SET_USER_ID),
]);

const S_ISUID: u32 = 0o4000;
const NO_SET_USER_ID: &str = "a set-user-id file: outside the jail it would run with the rights of the workspace's owner, root's when root started it";

// O_CREAT and O_TMPFILE; without them the mode is whatever the register held.
const CREATES: u32 = 0x40 | 0x40_0000;

pub(super) const OPEN: Rule =
    allow_except(&[refuse(&[has(1, CREATES), has(2, S_ISUID)], Refusal::Perm, NO_SET_USER_ID)]);

pub(super) const OPENAT: Rule =
    allow_except(&[refuse(&[has(2, CREATES), has(3, S_ISUID)], Refusal::Perm, NO_SET_USER_ID)]);

/// The second argument is a file's mode.
pub(super) const MODE_1: Rule = allow_except(&[refuse(&[has(1, S_ISUID)], Refusal::Perm, NO_SET_USER_ID)]);

/// The third argument is a file's mode.
pub(super) const MODE_2: Rule = allow_except(&[refuse(&[has(2, S_ISUID)], Refusal::Perm, NO_SET_USER_ID)]);

const RENAME_WHITEOUT: u32 = 4;

pub(super) const RENAMEAT2: Rule = allow_except(&[refuse(
    &[has(4, RENAME_WHITEOUT)],
    Refusal::Inval,
    "leaves a device node behind; answers as a file system without it",
)]);

const PR_SET_MM: u32 = 35;

pub(super) const PRCTL: Rule = allow_except(&[refuse(
    &[is(0, &[PR_SET_MM])],
    Refusal::Perm,
    "PR_SET_MM moves the bounds of the memory map and names another program in /proc/self/exe",
)]);

// PER_LINUX, PER_LINUX32, UNAME26, ADDR_NO_RANDOMIZE in their harmless combinations, and the query.
const PERSONALITIES: &[u32] = &[0, 0x8, 0x2_0000, 0x2_0008, 0x4_0000, 0x4_0008, u32::MAX];

pub(super) const PERSONALITY: Rule = allow_except(&[refuse(
    &[is_not(0, PERSONALITIES)],
    Refusal::Perm,
    "everything but the query, Linux, 32-bit uname, 2.6 uname and unrandomised addresses",
)]);

const SECCOMP_SET_MODE_FILTER: u32 = 1;
const SECCOMP_FILTER_FLAG_NEW_LISTENER: u32 = 8;

pub(super) const SECCOMP: Rule = allow_except(&[refuse(
    &[is(0, &[SECCOMP_SET_MODE_FILTER]), has(1, SECCOMP_FILTER_FLAG_NEW_LISTENER)],
    Refusal::Busy,
    "a listener could answer calls in place of the kernel; as if the one listener of a process were taken",
)]);

// The kernel asks for the same uid and no more, which the jail's init has. (Its scheduling is safe: there the kernel asks
// for init's capabilities too.)
pub(super) const PRLIMIT64: Rule = Rule::Args {
    cases: &[
        allow(&[is(0, &[0])], "the caller's own limits, which only go down"),
        allow(IS_NULL_2, "reading another process's limits"),
    ],
    // Setting another's: the jail's init without descriptors could hide no secret again.
    otherwise: Verdict::Refuse(Refusal::Perm),
};
