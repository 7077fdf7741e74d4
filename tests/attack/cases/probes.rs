//! What /proc, /sys and /dev give away, which descriptors came along, and how the process is confined.

use std::fs::{self, OpenOptions};
use std::io::Read;

use nix::libc;

use super::raw::{Line, call, in_child, wait};

pub fn descriptors(_: &[String]) {
    // The directory's own descriptor is listed too; it is the one that is gone afterwards.
    let listed: Vec<_> = fs::read_dir("/proc/self/fd").map(|entries| entries.flatten().collect()).unwrap_or_default();
    let mut count = 0;
    for entry in listed {
        if let Ok(target) = fs::read_link(entry.path()) {
            count += 1;
            let name = entry.file_name().to_string_lossy().into_owned();
            Line::new("FD-001", format!("descriptor {name}")).with("target", target.display().to_string()).result("ok");
        }
    }
    Line::new("FD-001", "descriptors").with("value", count).result("ok");
}

const WRITABLE: &[(&str, &str)] = &[
    ("PK-001", "/proc/sys/kernel/core_pattern"),
    ("PK-001", "/proc/sys/kernel/randomize_va_space"),
    ("PK-001", "/proc/sys/kernel/modprobe"),
    ("PK-001", "/proc/sys/fs/suid_dumpable"),
    ("PK-001", "/proc/sys/vm/overcommit_memory"),
    ("PK-001", "/proc/sysrq-trigger"),
    ("PK-003", "/sys/kernel/mm/transparent_hugepage/enabled"),
    ("PK-003", "/sys/kernel/uevent_helper"),
    ("PK-003", "/sys/power/state"),
    ("PR-003", "/etc/shadow"),
    ("PR-003", "/etc/passwd"),
];

/// Opens for writing without writing; reads of others what only they should know.
pub fn proc(pids: &[String]) {
    for (case, path) in WRITABLE {
        Line::new(case, format!("open for writing {path}")).io(OpenOptions::new().write(true).open(path));
    }
    let parent = std::os::unix::process::parent_id().to_string();
    let mut targets = vec![("1", "1"), ("parent", parent.as_str())];
    targets.extend(pids.iter().map(|pid| (pid.as_str(), pid.as_str())));
    for (name, pid) in targets {
        for file in ["environ", "cmdline", "maps", "auxv"] {
            Line::new("PK-005", format!("read {file} of {name}")).bytes(read_some(&format!("/proc/{pid}/{file}")));
        }
        for link in ["exe", "cwd", "root"] {
            let target =
                fs::read_link(format!("/proc/{pid}/{link}")).map(|path| path.display().to_string().into_bytes());
            Line::new("PK-006", format!("link {link} of {name}")).bytes(target);
        }
        Line::new("PK-006", format!("list root of {name}")).io(fs::read_dir(format!("/proc/{pid}/root/")));
        Line::new("PK-005", format!("list fd of {name}")).io(fs::read_dir(format!("/proc/{pid}/fd")));
        Line::new("PK-009", format!("open mem of {name}"))
            .io(OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem")));
        Line::new("PK-007", format!("open exe of {name} for writing"))
            .io(OpenOptions::new().write(true).open(format!("/proc/{pid}/exe")));
    }
    let visible = fs::read_dir("/proc").map_or(0, |entries| {
        entries.flatten().filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok()).count()
    });
    Line::new("PK-006", "visible processes").with("value", visible).result("ok");
    Line::new("PK-020", "open tracing").io(OpenOptions::new().read(true).open("/sys/kernel/tracing/trace"));
}

fn read_some(path: &str) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(4096).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub fn devices(_: &[String]) {
    for device in [
        "null",
        "zero",
        "full",
        "random",
        "urandom",
        "tty",
        "ptmx",
        "kvm",
        "vsock",
        "vhost-vsock",
        "fuse",
        "net/tun",
        "mem",
        "kmsg",
        "port",
        "loop-control",
        "userfaultfd",
        "dri/card0",
        "nvidia0",
        "input/event0",
        "video0",
        "vda",
        "sda",
        "tty1",
        "console",
        "uinput",
        "btrfs-control",
        "mapper/control",
    ] {
        let path = format!("/dev/{device}");
        Line::new("PK-021", format!("open {path}")).io(OpenOptions::new().read(true).write(true).open(path));
    }
}

/// The lines of /proc/self/status that matter, here, in a daemon's grandchild, and the core limit.
pub fn status(_: &[String]) {
    print_status("here");
    // SAFETY: this program has one thread, so the children may do anything.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let _ = nix::unistd::setsid();
        // SAFETY: as above.
        let grandchild = unsafe { libc::fork() };
        if grandchild == 0 {
            print_status("daemon");
        } else if grandchild > 0 {
            wait(grandchild);
        }
        // SAFETY: ends the copy of this process without running what the original will run.
        unsafe { libc::_exit(0) };
    }
    if child > 0 {
        wait(child);
    }
    let mut limit = [0_u64; 2];
    let outcome = call(libc::SYS_prlimit64, &[0, libc::RLIMIT_CORE as usize, 0, &raw mut limit as usize]);
    Line::new("PR-010", "core limit").with("soft", limit[0]).with("hard", limit[1]).outcome(outcome);
    in_child(Line::new("PR-010", "raise core limit"), || {
        let wanted = [u64::MAX, u64::MAX];
        call(libc::SYS_prlimit64, &[0, libc::RLIMIT_CORE as usize, &raw const wanted as usize, 0])
    });
    let dumpable = call(libc::SYS_prctl, &[libc::PR_GET_DUMPABLE as usize, 0, 0, 0, 0]);
    Line::new("PR-010", "dumpable").outcome(dumpable);
    Line::new("PR-001", "effective user").outcome(call(libc::SYS_geteuid, &[]));
    let bits = call(libc::SYS_prctl, &[libc::PR_GET_SECUREBITS as usize, 0, 0, 0, 0]);
    Line::new("PR-001", "secure bits").outcome(bits);
    let header = [0x2008_0522_u32, 0];
    let all = [u32::MAX; 6];
    in_child(Line::new("PR-001", "capset everything"), || {
        call(libc::SYS_capset, &[&raw const header as usize, &raw const all as usize])
    });
    in_child(Line::new("PR-001", "setuid 0"), || call(libc::SYS_setuid, &[0]));
}

fn print_status(place: &str) {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(":\t") else { continue };
        if key.starts_with("Cap") || ["NoNewPrivs", "Seccomp", "Seccomp_filters", "Groups"].contains(&key) {
            Line::new("PR-001", format!("{key} {place}")).with("value", value.trim()).result("ok");
        }
    }
}
