//! Entries to the kernel that a filter for one architecture does not see, and numbers it does not know.

#[cfg(target_arch = "x86_64")]
use nix::libc;

use super::raw::{Line, call, in_child};

/// i386 calls by `int 0x80`, and x32 numbers.
#[cfg(target_arch = "x86_64")]
pub fn foreign(_: &[String]) {
    let low = low_memory();
    let path = low;
    let sockaddr = low + 64;
    let socketcall_args = low + 128;
    let i386: &[(&str, u32, [u32; 3])] = &[
        ("getpid", 20, [0; 3]),
        ("socket", 359, [libc::AF_UNIX as u32, libc::SOCK_STREAM as u32, 0]),
        ("socketcall", 102, [1, socketcall_args, 0]),
        ("open", 5, [path, 0, 0]),
        ("mount", 21, [path, path, path]),
        ("ptrace", 26, [0, 0, 0]),
        ("connect", 362, [u32::MAX, sockaddr, 110]),
    ];
    for (name, number, args) in i386 {
        in_child(Line::new("SC-001", format!("int80 {name}")), || int80(*number, *args));
    }
    for number in [39, 41, 59, 101, 165].into_iter().chain(512..=547) {
        in_child(Line::new("SC-002", format!("x32 {number}")), || call(0x4000_0000 + number, &[0, 0, 0]));
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub fn foreign(_: &[String]) {
    Line::new("SC-001", "int80").result("unsupported");
}

/// A page below 4 GiB, as i386 pointers need: "/" at 0 and the arguments of socket(2) for socketcall(2) at 128.
#[cfg(target_arch = "x86_64")]
fn low_memory() -> u32 {
    // SAFETY: a fresh anonymous page; both writes lie inside it.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
        let page = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if page == libc::MAP_FAILED {
            return 0;
        }
        page.cast::<u8>().write(b'/');
        page.byte_add(128).cast::<[u32; 3]>().write([libc::AF_UNIX as u32, libc::SOCK_STREAM as u32, 0]);
        page as usize as u32
    }
}

#[cfg(target_arch = "x86_64")]
fn int80(number: u32, [a, b, c]: [u32; 3]) -> super::raw::Outcome {
    let result: i32;
    // SAFETY: the 32-bit entry; pointers lie in the page of `low_memory`. LLVM keeps rbx, so it is exchanged around the call.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {a}",
            "int 0x80",
            "xchg rbx, {a}",
            a = inout(reg) u64::from(a) => _,
            inlateout("eax") number as i32 => result,
            in("ecx") b,
            in("edx") c,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    if result < 0 { Err(nix::errno::Errno::from_raw(-result)) } else { Ok(i64::from(result)) }
}

/// Every number from the newest that older filters know.
pub fn numbers(_: &[String]) {
    for number in (424..=480).chain([500, 511, 512, 547, 600, 1000, 2000]) {
        in_child(Line::new("SC-014", format!("{number}")), || call(number, &[usize::MAX, 0, 0]));
    }
}
