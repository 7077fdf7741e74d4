//! The command line: what was typed, one file per subcommand.

pub mod credentials;
pub mod doctor;
pub mod exec;
pub mod explain;
pub mod generate;
pub mod init;
pub mod plan;
pub mod prepare;
pub mod profile;
pub mod ps;
pub mod reach;
pub mod report;
pub mod roots;
pub mod run;
pub mod schema;
pub mod trust;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::Places;
use crate::error::{Error, Result};
use report::Report;

/// Run a coding agent inside namespaces, Landlock and seccomp
#[derive(Debug, Parser)]
#[command(name = "jail", version, disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Args {
    /// Say only what went wrong
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a command in a jail around the workspace
    Run(run::Args),
    /// Show what a run would do, without starting anything
    Plan(plan::Args),
    /// Say how a path would appear inside or whether a host may be reached, by which rule, and what would change it
    Explain(explain::Args),
    /// Say what this machine can enforce, and what to do about the rest
    Doctor(doctor::Args),
    /// Run another command in a running jail
    Exec(exec::Args),
    /// List running jails
    Ps(ps::Args),
    /// End a running jail and everything in it
    Kill(ps::KillArgs),
    /// Write your policy for a workspace, with the tool chains found in it
    Init(init::InitArgs),
    /// Show what a project's policy asks for, and grant it
    Trust(trust::TrustArgs),
    /// List profiles, or show one
    Profile(profile::ProfileArgs),
    /// Print the JSON schema of policy files
    Schema(schema::SchemaArgs),
    /// Print a completion script
    Completions(generate::CompletionsArgs),
    /// Print the manual page, or that of one subcommand
    Man(generate::ManArgs),
}

/// Parses the arguments, does what they say, and returns the exit status.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            // env(1) and container tools use 125 for their own mistakes, so that 2 stays the command's.
            return if error.use_stderr() { ExitCode::from(125) } else { ExitCode::SUCCESS };
        }
    };
    let report = Report::new(args.quiet);
    match dispatch(args.command, report) {
        Ok(code) => code,
        Err(error) => {
            report.error(&error);
            ExitCode::from(error.kind().exit_code())
        }
    }
}

fn dispatch(command: Command, report: Report) -> Result<ExitCode> {
    match command {
        Command::Run(args) => run::run(args, report),
        Command::Plan(args) => plan::run(args, report),
        Command::Explain(args) => explain::run(args, report),
        Command::Doctor(args) => doctor::run(&args),
        Command::Exec(args) => exec::run(args),
        Command::Ps(args) => ps::run(&args),
        Command::Kill(args) => ps::kill(&args),
        Command::Init(args) => init::run(&args, &Places::detect()?, &mut std::io::stdout()).map(done),
        Command::Trust(args) => {
            let stdin = std::io::stdin();
            // Only a person at a terminal can agree; anything else has to say --yes.
            let mut input = stdin.is_terminal().then(|| stdin.lock());
            let input = input.as_mut().map(|input| input as &mut dyn std::io::BufRead);
            trust::run(&args, &Places::detect()?, input, &mut std::io::stdout()).map(done)
        }
        Command::Profile(args) => profile::run(&args, &Places::detect()?, &mut std::io::stdout()).map(done),
        Command::Schema(args) => schema::run(&args, &mut std::io::stdout()).map(done),
        Command::Completions(args) => generate::completions(&args),
        Command::Man(args) => generate::man(&args),
    }
}

fn done(_: ()) -> ExitCode {
    ExitCode::SUCCESS
}

/// Writes data to standard output.
fn print(data: &[u8]) -> Result<()> {
    put_bytes(&mut std::io::stdout().lock(), data)
}

/// Writes text to standard output, or where a test wants it.
fn put(out: &mut dyn Write, text: &str) -> Result<()> {
    put_bytes(out, text.as_bytes())
}

/// A reader that has seen enough (`| head`) is no error.
fn put_bytes(out: &mut dyn Write, data: &[u8]) -> Result<()> {
    match out.write_all(data).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::setup(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// The whole command line, for the manual page, completions and the reference.
pub fn command() -> clap::Command {
    Args::command()
}
