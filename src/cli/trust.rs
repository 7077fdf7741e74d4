//! `jail trust`: agree to what a project's policy asks for.

use std::ffi::OsStr;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::prepare::repository_around;
use super::put;
use crate::config::text::printable;
use crate::config::trust::TrustStore;
use crate::config::{self, Flags, GrantState, Loaded, PROJECT_FILE, Places, check_workspace};
use crate::error::{Error, Result};
use crate::escape::escape;

/// Show what a project's policy asks for, and grant it
#[derive(Debug, Args)]
pub struct TrustArgs {
    /// The workspace; the repository around the current directory unless given
    path: Option<PathBuf>,
    /// Agree without being asked
    #[arg(long)]
    yes: bool,
    /// Take the agreement back
    #[arg(long, conflicts_with = "yes")]
    revoke: bool,
}

/// Runs `jail trust`. `input` is the terminal, if there is one to ask.
///
/// # Errors
/// An invalid policy, nothing to ask and no `--yes`, or an I/O error.
pub fn run(args: &TrustArgs, places: &Places, input: Option<&mut dyn BufRead>, out: &mut dyn Write) -> Result<()> {
    let workspace = workspace(args.path.as_deref(), places)?;
    let mut store = TrustStore::load(&places.own_state())?;
    if args.revoke {
        let had = store.revoke(&workspace)?;
        let said = if had { "no longer trusted" } else { "was not trusted" };
        return put(out, &format!("{}: {said}\n", printable(&workspace.display().to_string())));
    }
    let flags = Flags::default();
    let loaded = config::load(&places.request(&workspace, OsStr::new(""), &flags))?;
    let Some(project) = &loaded.project else {
        return Err(Error::setup(format!("{}: no {PROJECT_FILE}", escape(&workspace))));
    };
    let file = printable(&project.path.display().to_string());
    let pending = show(&loaded, &file, out)?;
    if project.trusted {
        return put(out, &format!("{file} is trusted already\n"));
    }
    if pending == 0 {
        return put(out, &format!("{file} asks for nothing that needs your agreement\n"));
    }
    if !args.yes && !ask(input, out)? {
        return Err(Error::setup(format!("{file}: not trusted")));
    }
    // The hash is of the bytes that were shown: a file that was changed meanwhile is not trusted.
    store.record(&workspace, &project.sha256)?;
    put(out, &format!("{file} is trusted until it changes\n"))
}

/// The workspace a command is about.
pub(super) fn workspace(path: Option<&Path>, places: &Places) -> Result<PathBuf> {
    let given = path.unwrap_or(Path::new("."));
    let mut workspace = given.canonicalize().map_err(|error| Error::setup(format!("{}: {error}", escape(given))))?;
    if path.is_none() {
        // What `jail run` takes as the workspace from here.
        workspace = repository_around(&workspace, &places.home);
    }
    check_workspace(&workspace, &places.home)?;
    Ok(workspace)
}

fn show(loaded: &Loaded, file: &str, out: &mut dyn Write) -> Result<usize> {
    let sections = [(GrantState::Pending, "asks for"), (GrantState::Never, "asks for what no project is given")];
    for (state, title) in sections {
        let grants: Vec<_> = loaded.pending.iter().filter(|grant| grant.state == state).collect();
        if !grants.is_empty() {
            put(out, &format!("{file} {title}:\n"))?;
        }
        for grant in grants {
            let value = printable(&grant.value);
            put(out, &format!("  {:20} {value}  (line {})\n", grant.key, grant.source.line))?;
        }
    }
    Ok(loaded.pending.iter().filter(|grant| grant.state == GrantState::Pending).count())
}

fn ask(input: Option<&mut dyn BufRead>, out: &mut dyn Write) -> Result<bool> {
    let Some(input) = input else {
        return Err(
            Error::setup("there is no terminal to ask on").hint("look at the list, then run `jail trust --yes`")
        );
    };
    put(out, "Give it that until the file changes? [y/N] ")?;
    let mut answer = String::new();
    input.read_line(&mut answer).map_err(|error| Error::setup(format!("standard input: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
