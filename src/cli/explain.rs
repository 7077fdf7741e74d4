//! `jail explain`: how a path would appear inside or whether a host may be reached, by which rule, and what would
//! change it.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::prepare::{PolicyArgs, Prepared, prepare};
use super::reach;
use super::report::Report;
use crate::config::check::{self, Ground};
use crate::config::text::printable;
use crate::error::{Error, Result};
use crate::plan::mounts::{Access, Mount};
use crate::plan::{GuardAction, Plan};
use crate::policy::WorkspaceMode;

/// Say how a path would appear inside or whether a host may be reached, by which rule, and what would change it
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    policy: PolicyArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// A path, a URL, HOST or HOST:PORT; `./NAME` for a file whose name reads like a host
    #[arg(value_name = "PATH|URL|HOST[:PORT]")]
    subject: PathBuf,
    /// The command whose profile counts
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// The answer.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    path: String,
    /// `hidden`, `absent`, `read-only`, `writable`, `private` or `device`.
    verdict: &'static str,
    rule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<String>,
}

/// Prints the answer.
pub fn run(args: Args, report: Report) -> Result<ExitCode> {
    let current =
        std::env::current_dir().map_err(|error| Error::setup(format!("cannot tell the current directory: {error}")))?;
    let command = if args.command.is_empty() { vec!["sh".into()] } else { args.command };
    let prepared = prepare(&args.policy, command, report)?;
    let places = &prepared.places;
    let ground = Ground::new(&places.home, &places.config_home, &places.state_home);
    let egress = &prepared.loaded.policy.egress;
    let target = match args.subject.to_str() {
        Some(text) => reach::Target::parse(text, egress, &current)?,
        None => None,
    };
    if let Some(target) = target {
        let answer = reach::explain(&target, egress, &ground);
        let text = if args.json { encode(&answer)? } else { answer.text() };
        super::print(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let path = resolve(&current.join(&args.subject), &prepared);
    let explanation = explain(&prepared.plan, &path, &ground);
    let text = if args.json {
        encode(&explanation)?
    } else {
        let change = explanation.change.as_ref().map_or_else(String::new, |change| format!("\nhint: {change}"));
        format!("{}: {}\nrule: {}{change}\n", explanation.path, explanation.verdict, printable(&explanation.rule))
    };
    super::print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn encode(answer: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(answer)
        .map_err(|error| Error::setup(format!("cannot encode the answer: {error}")))?;
    Ok(format!("{text}\n"))
}

/// The path without `.` and `..`. Links are followed on the host only inside the workspace, as the jail would.
fn resolve(path: &Path, prepared: &Prepared) -> PathBuf {
    if let Ok(real) = path.canonicalize()
        && real.starts_with(&prepared.plan.workspace)
    {
        return real;
    }
    clean(path)
}

/// The path without `.` and `..`.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            Component::Normal(name) => clean.push(name),
            _ => {}
        }
    }
    clean
}

/// How a path would appear. `ground` says which grants a policy may hold at all: no remedy is named that would be refused.
pub fn explain(plan: &Plan, path: &Path, ground: &Ground) -> Explanation {
    let grant = |key: &str, access: check::Access| {
        Some(match check::not_too_broad(path, access, ground) {
            Ok(()) => format!("{key} = [{:?}] under [filesystem] in your own policy, or --{key}", path.display()),
            Err(fault) => format!("no policy can change that: {}", fault.message),
        })
    };
    let answer = |verdict, rule: String, change: Option<String>| Explanation {
        path: printable(&path.to_string_lossy()),
        verdict,
        rule,
        change,
    };
    if let Some(mask) = plan.masks.iter().find(|mask| path.starts_with(plan.workspace.join(&mask.path))) {
        return answer(
            "hidden",
            mask.why.clone(),
            Some(format!("reveal = [\"{}\"] under [filesystem] in your own policy", mask.path.display())),
        );
    }
    let guard = plan.guards.iter().rev().find(|guard| path.starts_with(plan.workspace.join(&guard.path)));
    if let Some(guard) = guard
        && !matches!(guard.action, GuardAction::Pin)
    {
        return answer(
            "read-only",
            guard.why.clone(),
            Some(format!("unprotect = [\"{}\"] under [filesystem] in your own policy", guard.path.display())),
        );
    }
    let mount = plan.mounts.iter().rev().find(|mount| path.starts_with(mount.path()));
    match mount {
        Some(Mount::Bind { access, why, .. }) => match (access, plan.mode) {
            (Access::Workspace, WorkspaceMode::ReadOnly) => answer(
                "read-only",
                why.clone(),
                Some("mode = \"direct\" under [workspace] in your own policy".to_owned()),
            ),
            (Access::ReadOnly, _) => answer("read-only", why.clone(), grant("write", check::Access::Write)),
            (Access::ReadWrite | Access::Workspace, _) => answer("writable", why.clone(), None),
            (Access::Device, _) => answer("device", why.clone(), None),
        },
        Some(Mount::Private { path: at, .. }) => answer(
            "private",
            format!("{} is an empty directory in memory; the host's is not visible", at.display()),
            grant("read", check::Access::Read),
        ),
        Some(Mount::Symlink { path: at, target }) if path != at => {
            let beyond = path.strip_prefix(at).unwrap_or(Path::new(""));
            explain(plan, &clean(&at.parent().unwrap_or(at).join(target).join(beyond)), ground)
        }
        Some(Mount::Copy { .. }) => answer("read-only", "a copy of the host's file".to_owned(), None),
        Some(Mount::File { .. } | Mount::Symlink { .. }) => answer("read-only", "made for the jail".to_owned(), None),
        Some(Mount::Directory { .. }) | None => {
            answer("absent", "no rule shows it".to_owned(), grant("read", check::Access::Read))
        }
    }
}
