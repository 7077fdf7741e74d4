//! Two loops that cost nothing but system calls, for `benches/compare.py`: `inside getpid COUNT` and
//! `inside open FILE COUNT` print nanoseconds per round.
#![allow(clippy::print_stdout, missing_docs)]

use std::fs::File;
use std::hint::black_box;
use std::time::Instant;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let nanoseconds = match words[..] {
        ["getpid", count] => rounds(count, || {
            black_box(std::process::id());
        }),
        ["open", file, count] => rounds(count, || drop(black_box(File::open(file)))),
        _ => rounds("1000000", || {
            black_box(std::process::id());
        }),
    };
    println!("{nanoseconds:.1}");
}

fn rounds(count: &str, mut round: impl FnMut()) -> f64 {
    let count: u32 = count.parse().unwrap_or(1);
    let start = Instant::now();
    for _ in 0..count {
        round();
    }
    start.elapsed().as_nanos() as f64 / f64::from(count)
}
