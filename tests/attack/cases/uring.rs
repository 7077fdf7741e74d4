//! io_uring: operations that no filter sees.

use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::libc;

use super::raw::{Line, Outcome, call};

/// `struct io_uring_params` (linux/io_uring.h) as words.
type Params = [u32; 30];

// Words of the parameters: sq_off starts at 10, cq_off at 20.
const SQ_TAIL: usize = 11;
const SQ_MASK: usize = 12;
const SQ_ARRAY: usize = 16;
const CQ_HEAD: usize = 20;
const CQ_TAIL: usize = 21;
const CQ_MASK: usize = 22;
const CQ_CQES: usize = 25;

const RING: usize = 8192;
const OFF_SQES: i64 = 0x1000_0000;
const OP_SOCKET: u8 = 45;
const ENTER_GETEVENTS: usize = 1;

pub fn uring(_: &[String]) {
    let mut params: Params = [0; 30];
    let ring = call(libc::SYS_io_uring_setup, &[4, &raw mut params as usize]);
    Line::new("SC-003", "io_uring_setup").outcome(ring);
    Line::new("SC-003", "io_uring_enter").outcome(call(libc::SYS_io_uring_enter, &[usize::MAX, 0, 0, 0, 0, 0]));
    Line::new("SC-003", "io_uring_register").outcome(call(libc::SYS_io_uring_register, &[usize::MAX, 0, 0, 0]));
    let outcome = ring.and_then(|ring| socket(ring, &params));
    Line::new("SC-003", "io_uring OP_SOCKET").outcome(outcome);
}

/// Makes an AF_UNIX socket through the ring.
fn socket(ring: i64, params: &Params) -> Outcome {
    let map = |length, offset| {
        // SAFETY: a new mapping of the ring's descriptor; the kernel checks the length.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                ring as i32,
                offset,
            )
        };
        if at == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(at.cast::<u8>()) }
    };
    // With IORING_FEAT_SINGLE_MMAP (5.4) one mapping holds both rings; four entries need less than its two pages.
    let length = (params[CQ_CQES] as usize + 16 * 8).min(RING);
    let rings = map(length, 0)?;
    let entries = map(4 * 64, OFF_SQES)?;
    // SAFETY: offsets and masks are the kernel's for these mappings; the ring is used by this thread and the kernel only.
    unsafe {
        let word = |offset: usize| rings.add(params[offset] as usize).cast::<u32>();
        entries.write(OP_SOCKET);
        entries.add(4).cast::<i32>().write(libc::AF_UNIX); // fd: the family
        entries.add(8).cast::<u64>().write(libc::SOCK_STREAM as u64); // off: the type
        let tail = AtomicU32::from_ptr(word(SQ_TAIL));
        let at = tail.load(Ordering::Acquire);
        word(SQ_ARRAY).add((at & *word(SQ_MASK)) as usize).write(0);
        tail.store(at + 1, Ordering::Release);
        call(libc::SYS_io_uring_enter, &[ring as usize, 1, 1, ENTER_GETEVENTS, 0, 0])?;
        let head = *word(CQ_HEAD);
        if AtomicU32::from_ptr(word(CQ_TAIL)).load(Ordering::Acquire) == head {
            return Err(Errno::EAGAIN);
        }
        let result =
            rings.add(params[CQ_CQES] as usize + 16 * (head & *word(CQ_MASK)) as usize + 8).cast::<i32>().read();
        if result < 0 { Err(Errno::from_raw(-result)) } else { Ok(i64::from(result)) }
    }
}
