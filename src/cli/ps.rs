//! `jail ps`: the running jails of this user.

use std::io::Write;
use std::process::ExitCode;

use crate::config::Places;
use crate::config::text::printable;
use crate::error::{Error, Result};
use crate::escape;
use crate::supervise::leftovers;
use crate::supervise::session::Sessions;

/// List running jails
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Lists them.
pub fn run(args: &Args) -> Result<ExitCode> {
    leftovers::sweep(&Places::detect()?.own_state());
    let sessions = Sessions::open()?.list()?;
    let text = if args.json {
        let text = serde_json::to_string_pretty(&sessions)
            .map_err(|error| Error::setup(format!("cannot encode the sessions: {error}")))?;
        format!("{}\n", escape::json(&text))
    } else {
        let mut text = format!("{:<13} {:>7} {:<25} {:<30} COMMAND\n", "SESSION", "PID", "STARTED", "WORKSPACE");
        for info in &sessions {
            text.push_str(&format!(
                "{:<13} {:>7} {:<25} {:<30} {}\n",
                info.session,
                info.pid,
                info.started,
                printable(&info.workspace),
                printable(&info.command.join(" "))
            ));
        }
        text
    };
    super::print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// End a running jail and everything in it
#[derive(Debug, clap::Args)]
pub struct KillArgs {
    /// Its name in `jail ps`, or an unambiguous beginning of it
    session: String,
}

/// Ends it.
pub fn kill(args: &KillArgs) -> Result<ExitCode> {
    use crate::supervise::control::{Answer, Client, Request};
    let sessions = Sessions::open()?;
    let info = sessions.find(&args.session)?;
    let client = Client::connect(&sessions.control(&info.session))?;
    client.send(&Request::Kill, &[])?;
    // The supervisor answers, cleans up and closes the connection: then everything is gone.
    while let Ok((answer, _)) = client.receive() {
        if !matches!(answer, Answer::Killing) {
            break;
        }
    }
    let _ = std::io::stdout().flush();
    Ok(ExitCode::SUCCESS)
}
