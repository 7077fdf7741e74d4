//! `jail exec`: another command in a running jail, under the same confinement.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use crate::error::Result;
use crate::supervise::exec::{self, Exec};
use crate::supervise::session::Sessions;

/// Run another command in a running jail
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Its name in `jail ps`, or an unambiguous beginning of it
    session: String,
    /// Where the command starts, as a path inside; the session's start directory if not given
    #[arg(long, value_name = "DIR")]
    directory: Option<OsString>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs it; the exit status is the command's own.
pub fn run(args: Args) -> Result<ExitCode> {
    let sessions = Sessions::open()?;
    let info = sessions.find(&args.session)?;
    let request = Exec {
        command: args.command.iter().map(|word| word.as_bytes().to_vec()).collect(),
        directory: args.directory.map(|directory| directory.as_bytes().to_vec()).unwrap_or_default(),
    };
    let ending = exec::run(&sessions.control(&info.session), request)?;
    Ok(ending.leave())
}
