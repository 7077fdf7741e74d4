//! The system-call table and what it compiles to, run by an independent interpreter.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use jail::plan::seccomp::{Arch, Half, Refusal, Row, Rule, UNKNOWN, Verdict, compile, rows, verdict};
use seccompiler::sock_filter;

const ARCHES: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];
const I386: u32 = 0x4000_0003;
const ARM: u32 = 0x4000_0028;
const X32: u32 = 0x4000_0000;

const KILL: u32 = 0x8000_0000;

fn action(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Allow => 0x7FFF_0000,
        Verdict::Refuse(refusal) => 0x0005_0000 | u32::from(refusal.errno()),
    }
}

/// `struct seccomp_data` as the kernel lays it out.
fn data(arch: u32, number: u32, args: &[u64; 6]) -> [u8; 64] {
    let mut data = [0; 64];
    data[0..4].copy_from_slice(&number.to_le_bytes());
    data[4..8].copy_from_slice(&arch.to_le_bytes());
    data[8..16].copy_from_slice(&0xDEAD_BEEF_0000_u64.to_le_bytes());
    for (i, arg) in args.iter().enumerate() {
        data[16 + 8 * i..24 + 8 * i].copy_from_slice(&arg.to_le_bytes());
    }
    data
}

/// Classic BPF, as much of it as seccomp(2) allows and the compiler uses. Panics on anything else.
fn run(program: &[sock_filter], data: &[u8; 64]) -> u32 {
    let (mut pc, mut a) = (0_usize, 0_u32);
    loop {
        let op = &program[pc];
        pc += 1;
        let taken = match op.code {
            0x20 => {
                let at = op.k as usize;
                assert!(at.is_multiple_of(4), "unaligned load");
                a = u32::from_le_bytes(data[at..at + 4].try_into().unwrap());
                continue;
            }
            0x54 => {
                a &= op.k;
                continue;
            }
            0x05 => {
                pc += op.k as usize;
                continue;
            }
            0x06 => return op.k,
            0x15 => a == op.k,
            0x25 => a > op.k,
            0x35 => a >= op.k,
            0x45 => a & op.k != 0,
            code => panic!("instruction {code:#x} at {}", pc - 1),
        };
        pc += usize::from(if taken { op.jt } else { op.jf });
    }
}

/// Every combination of interesting values in the arguments that `row` looks at, each also with rubbish in the half
/// that is not tested.
fn interesting(row: &Row) -> Vec<[u64; 6]> {
    let mut all = vec![[0; 6]];
    let Rule::Args { cases, .. } = row.rule else {
        return vec![[0; 6], [u64::MAX; 6]];
    };
    for arg in 0..6_u8 {
        let tests: Vec<_> = cases.iter().flat_map(|case| case.when).filter(|test| test.arg == arg).collect();
        if tests.is_empty() {
            continue;
        }
        let mut values: Vec<u64> = vec![0, 1, u64::MAX, u64::from(u32::MAX), 1 << 32, 1 << 63];
        for test in &tests {
            let shift = if test.half == Half::High { 32 } else { 0 };
            let words = test.values.iter().flat_map(|v| [*v, v ^ 1, v.wrapping_add(1), v | !test.mask]);
            values.extend(words.map(|word| u64::from(word) << shift));
            values.extend((0..32).map(|bit| u64::from((1_u32 << bit) & test.mask) << shift));
        }
        values.extend(values.clone().into_iter().map(|v| v | 0xABCD_EF01_0000_0000));
        values.sort_unstable();
        values.dedup();
        all = all
            .into_iter()
            .flat_map(|args: [u64; 6]| {
                values.iter().map(move |value| {
                    let mut args = args;
                    args[usize::from(arg)] = *value;
                    args
                })
            })
            .collect();
    }
    all
}

#[test]
fn program_means_what_the_table_says() {
    for arch in ARCHES {
        let program = compile(arch).unwrap();
        for number in (0..1024).chain(X32..X32 + 1024).chain([0x7FFF_FFFF, 0x8000_0000, u32::MAX]) {
            let row = rows().find(|row| row.number(arch) == Some(number));
            let cases = row.map_or_else(|| vec![[0; 6], [u64::MAX; 6]], interesting);
            for args in &cases {
                let got = run(program.instructions(), &data(arch.audit(), number, args));
                let want = action(verdict(arch, number, args));
                assert_eq!(got, want, "{arch:?} {number} {:?} {args:x?}", row.map(|row| row.name));
            }
        }
    }
}

#[test]
fn foreign_architectures_are_killed_whatever_the_number() {
    for arch in ARCHES {
        let program = compile(arch).unwrap();
        let other = if arch == Arch::X86_64 { Arch::Aarch64 } else { Arch::X86_64 };
        for foreign in [I386, ARM, other.audit(), 0, u32::MAX] {
            for number in (0..1024).chain([X32, u32::MAX]) {
                assert_eq!(run(program.instructions(), &data(foreign, number, &[0; 6])), KILL);
            }
        }
    }
}

#[test]
fn x32_and_unknown_numbers_do_not_exist() {
    for arch in ARCHES {
        let newest = rows().filter_map(|row| row.number(arch)).max().unwrap();
        for number in (newest + 1..1024).chain(X32..X32 + 1024) {
            assert_eq!(verdict(arch, number, &[0; 6]), UNKNOWN);
        }
    }
    assert_eq!(UNKNOWN, Verdict::Refuse(Refusal::NoSys));
}

#[test]
fn rows_are_complete_and_sound() {
    let mut names = std::collections::HashSet::new();
    for row in rows() {
        assert!(names.insert(row.name), "{} stands twice", row.name);
        assert!(row.x86_64.is_some() || row.aarch64.is_some(), "{} has no number", row.name);
        assert!(row.why.len() >= 4 && !row.why.ends_with('.'), "{}: say why", row.name);
        // From 424 on both architectures share their numbers.
        for (this, that) in [(row.x86_64, row.aarch64), (row.aarch64, row.x86_64)] {
            if this.is_some_and(|number| number >= 424) {
                assert_eq!(this, that, "{}", row.name);
            }
        }
        let Rule::Args { cases, otherwise } = row.rule else { continue };
        for case in cases {
            assert!(!case.why.is_empty() && !case.when.is_empty(), "{}", row.name);
            for test in case.when {
                assert!(!test.values.is_empty() && test.arg < 6, "{}", row.name);
                assert!(test.values.iter().all(|value| value & !test.mask == 0), "{}: unreachable value", row.name);
            }
        }
        // An allowed remainder with only refusals before it: order cannot matter. Otherwise it must be meant.
        if otherwise != Verdict::Allow {
            assert!(cases.iter().any(|case| case.verdict == Verdict::Allow), "{}", row.name);
        }
    }
}

fn native(name: &str) -> u32 {
    let row = rows().find(|row| row.name == name).unwrap_or_else(|| panic!("no row {name}"));
    row.x86_64.unwrap_or_else(|| panic!("no number for {name}"))
}

/// What must be refused, independent of how the table words it (attacks SC-003 to SC-010, IP-007, IP-008, PK-016).
#[test]
fn dangerous_calls_are_refused() {
    let refused = [
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "clone3",
        "setns",
        "chroot",
        "mount",
        "umount2",
        "pivot_root",
        "open_tree",
        "open_tree_attr",
        "move_mount",
        "fsopen",
        "fsconfig",
        "fsmount",
        "fspick",
        "mount_setattr",
        "statmount",
        "listmount",
        "pidfd_getfd",
        "open_by_handle_at",
        "name_to_handle_at",
        "bpf",
        "perf_event_open",
        "userfaultfd",
        "kexec_load",
        "kexec_file_load",
        "init_module",
        "finit_module",
        "delete_module",
        "iopl",
        "ioperm",
        "swapon",
        "swapoff",
        "reboot",
        "acct",
        "quotactl",
        "quotactl_fd",
        "syslog",
        "lookup_dcookie",
        "vhangup",
        "nfsservctl",
        "uselib",
        "modify_ldt",
        "mbind",
        "move_pages",
        "migrate_pages",
        "settimeofday",
        "clock_settime",
        "adjtimex",
        "clock_adjtime",
        "fanotify_init",
        "fanotify_mark",
        "keyctl",
        "add_key",
        "request_key",
        "memfd_secret",
        "sethostname",
        "setdomainname",
    ];
    for name in refused {
        for args in [[0; 6], [u64::MAX; 6], [1, 2, 3, 4, 5, 6]] {
            assert_ne!(verdict(Arch::X86_64, native(name), &args), Verdict::Allow, "{name}");
        }
    }
}

fn with(arguments: &[(usize, u64)]) -> [u64; 6] {
    let mut args = [0; 6];
    for (i, value) in arguments {
        args[*i] = *value;
    }
    args
}

/// Each argument rule through the compiled program, with rubbish in the half of the argument the kernel ignores.
#[test]
fn argument_rules_hold_against_rubbish_in_the_upper_half() {
    use Refusal::{AfNoSupport, Busy, Inval, Perm, ProtoNoSupport};
    let program = compile(Arch::X86_64).unwrap();
    let namespaces = [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];
    let mut cases: Vec<(&str, [u64; 6], Option<Refusal>)> = vec![
        // pthread_create, posix_spawn and fork of glibc.
        ("clone", with(&[(0, 0x3D_0F00)]), None),
        ("clone", with(&[(0, 0x4111)]), None),
        ("clone", with(&[(0, 0x120_0011)]), None),
        ("unshare", with(&[(0, 0x200)]), None),
        ("unshare", with(&[(0, 0x80)]), Some(Perm)), // CLONE_NEWTIME
        ("ioctl", with(&[(1, 0x5401)]), None),       // TCGETS
        ("ioctl", with(&[(1, 0x5413)]), None),       // TIOCGWINSZ
        ("ioctl", with(&[(1, 0x540E)]), None),       // TIOCSCTTY
        ("ioctl", with(&[(1, 0x5412)]), Some(Perm)),
        ("ioctl", with(&[(1, 0x541C)]), Some(Perm)),
        ("ioctl", with(&[(1, 0x4B47)]), Some(Perm)), // KDSKBENT
        ("ioctl", with(&[(1, 0x5606)]), Some(Perm)), // VT_ACTIVATE
        ("socket", with(&[(0, 1), (1, 1)]), None),
        ("socket", with(&[(0, 2), (1, 0x8_0801)]), None),
        ("socket", with(&[(0, 10), (1, 2), (2, 17)]), None),
        ("socket", with(&[(0, 16), (1, 3), (2, 0)]), None),
        ("socket", with(&[(0, 16), (1, 3), (2, 9)]), Some(ProtoNoSupport)), // audit
        ("socket", with(&[(0, 2), (1, 3), (2, 1)]), Some(Perm)),            // raw ICMP
        ("socket", with(&[(0, 2), (1, 10)]), Some(Perm)),                   // SOCK_PACKET becomes AF_PACKET
        ("socket", with(&[(0, 2), (1, 1), (2, 262)]), Some(ProtoNoSupport)),
        ("socketpair", with(&[(0, 1), (1, 1)]), None),
        ("socketpair", with(&[(0, 40), (1, 1)]), Some(AfNoSupport)),
        ("prctl", with(&[(0, 15)]), None),
        ("prctl", with(&[(0, 35)]), Some(Perm)),
        ("personality", with(&[(0, 0xFFFF_FFFF)]), None),
        ("personality", with(&[(0, 0x4_0000)]), None),
        ("personality", with(&[(0, 0x40_0000)]), Some(Perm)), // READ_IMPLIES_EXEC
        ("mknod", with(&[(1, 0o010_644)]), None),
        ("mknod", with(&[(1, 0o020_644)]), Some(Perm)),
        ("mknodat", with(&[(2, 0o060_644)]), Some(Perm)),
        ("renameat2", with(&[(4, 2)]), None),
        ("renameat2", with(&[(4, 4)]), Some(Inval)),
        ("prlimit64", with(&[(0, 0), (1, 7), (2, 0x7FFF_0000)]), None),
        ("prlimit64", with(&[(0, 1), (1, 7), (2, 0x7FFF_0000)]), Some(Perm)),
        ("seccomp", with(&[(0, 1), (1, 1)]), None),
        ("seccomp", with(&[(0, 1), (1, 0x18)]), Some(Busy)),
    ];
    for flag in namespaces {
        cases.push(("clone", with(&[(0, flag | 17)]), Some(Perm)));
        cases.push(("unshare", with(&[(0, flag)]), Some(Perm)));
    }
    // Reading another's limits needs a null pointer, all 64 bits of it.
    let read = with(&[(0, 1), (1, 7)]);
    assert_eq!(verdict(Arch::X86_64, native("prlimit64"), &read), Verdict::Allow);
    assert_ne!(verdict(Arch::X86_64, native("prlimit64"), &with(&[(0, 1), (2, 1 << 32)])), Verdict::Allow);
    for family in 0..64 {
        if ![1, 2, 10, 16].contains(&family) {
            cases.push(("socket", with(&[(0, family), (1, 1)]), Some(AfNoSupport)));
        }
    }
    for (name, args, refusal) in cases {
        let want = action(refusal.map_or(Verdict::Allow, Verdict::Refuse));
        let rubbish = args.map(|arg| arg | 0x5A5A_5A5A_0000_0000);
        assert_eq!(
            run(program.instructions(), &data(Arch::X86_64.audit(), native(name), &args)),
            want,
            "{name} {args:x?}"
        );
        // unshare(2) takes all 64 bits, so there rubbish is a flag of its own and refused.
        let want = if name == "unshare" { action(Verdict::Refuse(Perm)) } else { want };
        assert_eq!(
            run(program.instructions(), &data(Arch::X86_64.audit(), native(name), &rubbish)),
            want,
            "{name} {rubbish:x?}"
        );
    }
}

/// The kernel charges every start by the instruction; see `docs/syscalls.md`.
#[test]
fn programs_stay_short() {
    for arch in ARCHES {
        let length = compile(arch).unwrap().instructions().len();
        assert!(length <= 360, "{arch:?}: {length} instructions");
    }
}
