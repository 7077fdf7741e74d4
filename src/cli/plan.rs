//! `jail plan`: what would be mounted, hidden, protected and passed; nothing is started.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use super::credentials;
use super::prepare::{PolicyArgs, Prepared, prepare};
use super::reach;
use super::report::Report;
use crate::config::text::printable;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::plan::mounts::{Access, Mount};
use crate::policy::CredentialsPolicy;
use crate::policy::egress::EgressPolicy;
use crate::tree::escape;

/// Show what a run would do, without starting anything
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    policy: PolicyArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Prints the plan.
pub fn run(args: Args, report: Report) -> Result<ExitCode> {
    let command = if args.command.is_empty() { vec!["sh".into()] } else { args.command };
    let prepared = prepare(&args.policy, command, report)?;
    print(&prepared, args.json)
}

/// The plan, and the rules that the proxy will follow.
#[derive(serde::Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    egress: &'a EgressPolicy,
    credentials: &'a CredentialsPolicy,
}

/// Prints a prepared plan.
pub fn print(prepared: &Prepared, json: bool) -> Result<ExitCode> {
    let text = if json {
        let policy = &prepared.loaded.policy;
        let whole = Whole { plan: &prepared.plan, egress: &policy.egress, credentials: &policy.credentials };
        let text = serde_json::to_string_pretty(&whole)
            .map_err(|error| Error::setup(format!("cannot encode the plan: {error}")))?;
        format!("{text}\n")
    } else {
        describe(prepared)
    };
    super::print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn describe(prepared: &Prepared) -> String {
    let plan = &prepared.plan;
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "command    {}", printable(&join(&plan.command)));
    let _ = writeln!(
        text,
        "workspace  {} ({})",
        printable(&plan.workspace.to_string_lossy()),
        match plan.mode {
            crate::policy::WorkspaceMode::Direct => "read and write",
            crate::policy::WorkspaceMode::ReadOnly => "read only",
        }
    );
    let _ = writeln!(
        text,
        "user       {}:{} inside, {}:{} on the host",
        plan.identity.inside_uid, plan.identity.inside_gid, plan.identity.host_uid, plan.identity.host_gid
    );
    let _ = writeln!(text, "profiles   {}", prepared.loaded.policy.profiles.join(", "));
    let _ = writeln!(text, "landlock   ABI {}, {} rules", plan.landlock.abi, plan.landlock.rules.len());
    let _ = writeln!(
        text,
        "seccomp    {} calls allowed, {} decided by arguments, {} refused, all others unknown",
        plan.seccomp.allowed,
        plan.seccomp.by_argument.len(),
        plan.seccomp.refused.len()
    );
    let egress = &prepared.loaded.policy.egress;
    let _ = writeln!(text, "network    {}", plan.network.describe());
    for publish in &plan.network.publish {
        let _ = writeln!(text, "published  127.0.0.1:{} to port {} inside", publish.host_port, publish.port);
    }
    let _ = writeln!(text, "\nvisible:");
    for mount in &plan.mounts {
        let (access, why) = match mount {
            Mount::Bind { access: Access::ReadOnly, why, .. } => ("read", why.as_str()),
            Mount::Bind { access: Access::ReadWrite | Access::Workspace, why, .. } => ("write", why.as_str()),
            Mount::Bind { access: Access::Device, why, .. } => ("device", why.as_str()),
            Mount::Copy { .. } => ("read", "a copy of the host's file"),
            Mount::Private { .. } => ("private", "empty at the start, gone at the end"),
            _ => continue,
        };
        let _ = writeln!(text, "  {access:<8} {}  ({})", escape(mount.path()), printable(why));
    }
    let _ = writeln!(text, "\nhidden in the workspace: {}", plan.masks.len());
    for mask in &plan.masks {
        let _ = writeln!(text, "  {}  ({})", escape(&mask.path), printable(&mask.why));
    }
    let _ = writeln!(text, "\nprotected in the workspace: {}", plan.guards.len());
    for guard in &plan.guards {
        let _ = writeln!(text, "  {:<12} {}  ({})", guard.action.name(), escape(&guard.path), printable(&guard.why));
    }
    text.push_str(&reach::list(egress, &plan.network));
    text.push_str(&credentials::list(&prepared.loaded.policy.credentials));
    let _ = writeln!(text, "\nvariables:");
    for (name, value) in &plan.environment {
        let _ = writeln!(text, "  {}={}", escape(Path::new(name)), escape(Path::new(value)));
    }
    text
}

fn join(words: &[OsString]) -> String {
    words.iter().map(|word| escape(Path::new(word))).collect::<Vec<_>>().join(" ")
}
