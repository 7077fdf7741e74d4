//! The `jail` binary.

use std::ffi::OsStr;
use std::io;
use std::process::ExitCode;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::time::uptime;

fn main() -> ExitCode {
    if let Some(level) = std::env::var_os("JAIL_LOG") {
        trace(&level);
    }
    jail::cli::main(std::env::args_os())
}

/// Says on standard error what the supervisor does, for `JAIL_LOG=debug`. Nothing is set up without the variable, and
/// init, which has no standard error, reports through its channel alone.
fn trace(level: &OsStr) {
    let level = level.to_str().and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::OFF);
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_timer(uptime())
        .with_writer(io::stderr)
        .log_internal_errors(false)
        .init();
}
