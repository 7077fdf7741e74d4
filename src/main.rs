//! The `jail` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    jail::cli::main(std::env::args_os())
}
