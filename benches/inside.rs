//! Two loops that cost nothing but system calls, for `benches/compare.py`: `inside getpid COUNT` and
//! `inside open FILE COUNT` print nanoseconds per round, by the clock and of the processor.
#![allow(clippy::print_stdout, missing_docs)]

use std::fs::File;
use std::hint::black_box;
use std::time::Instant;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (clock, processor) = match words[..] {
        ["getpid", count] => rounds(count, || {
            black_box(std::process::id());
        }),
        ["open", file, count] => rounds(count, || drop(black_box(File::open(file)))),
        _ => rounds("1000000", || {
            black_box(std::process::id());
        }),
    };
    println!("{clock:.1} {processor:.1}");
}

fn rounds(count: &str, mut round: impl FnMut()) -> (f64, f64) {
    let count: u32 = count.parse().unwrap_or(1);
    let (start, used) = (Instant::now(), processor_time());
    for _ in 0..count {
        round();
    }
    let (clock, processor) = (start.elapsed().as_nanos() as f64, processor_time() - used);
    (clock / f64::from(count), processor / f64::from(count))
}

/// Nanoseconds this thread has run: what else the machine does is not in it.
fn processor_time() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0.0)
}
