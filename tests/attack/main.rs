//! The last steps before execve, tried by attack programs: outside as positive control, and confined.
//!
//! No jail is needed: a confined process has no namespace of its own here, only what `launch::confine` takes away.
//!
//! `attack try GROUP [ARGUMENT…]` runs one group; `attack confined [OPTION…] -- COMMAND…` confines itself and executes.

mod cases;
mod confined;
mod harness;
mod trials;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("try") => cases::run(&arguments[1..]),
        Some("confined") => confined::run(&arguments[1..]),
        _ => libtest_mimic::run(&libtest_mimic::Arguments::from_args(), trials::all()).exit_code(),
    }
}
