//! `jail run`: the main thing.

use std::ffi::OsString;
use std::process::ExitCode;

use super::credentials;
use super::prepare::{PolicyArgs, command_name, prepare};
use super::reach;
use super::report::{Report, count};
use crate::config::text::printable;
use crate::error::Result;
use crate::supervise;
use crate::supervise::run::{Run, Tell};

/// Run a command in a jail around the workspace
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    policy: PolicyArgs,
    /// Print what would be done, and start nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the summary at the end as one line of JSON on standard error
    #[arg(long)]
    json: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs it; the exit status is the command's own.
pub fn run(args: Args, report: Report) -> Result<ExitCode> {
    supervise::signals::outlive_file_size_limits();
    let prepared = prepare(&args.policy, args.command, report)?;
    if args.dry_run {
        return super::plan::print(&prepared, args.json);
    }
    credentials::confirm(&prepared.loaded.policy.credentials)?;
    if let Some(note) = credentials::left(&prepared.loaded.policy.credentials) {
        report.note(note);
    }
    report.note(format!(
        "{} in {} ({} hidden, {} protected, {})",
        command_name(&prepared.plan.command),
        printable(&prepared.plan.workspace.to_string_lossy()),
        count(prepared.plan.masks.len(), "file", "files"),
        count(prepared.plan.guards.len(), "path", "paths"),
        reach::summary(&prepared.loaded.policy.egress, &prepared.plan.network),
    ));
    let run = Run {
        plan: &prepared.plan,
        limits: &prepared.loaded.policy.limits,
        egress: &prepared.loaded.policy.egress,
        credentials: &prepared.loaded.policy.credentials,
        profiles: &prepared.loaded.policy.profiles,
        roots: &prepared.roots,
        state: &prepared.places.own_state(),
    };
    let tell = Tell { warning: &|message| report.warning(message), note: &|message| report.note(message) };
    let outcome = supervise::run::run(&run, tell)?;
    if args.json {
        report.json(&outcome.summary);
    } else {
        report.note(&outcome.summary);
    }
    Ok(outcome.ending.leave())
}
