//! `jail profile`: the built-in profiles and the user's own.

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::json;

use super::put;
use crate::config::check::Ground;
use crate::config::merge::Merger;
use crate::config::profiles::{self, BUILTIN, Kind, Resolved};
use crate::config::text::printable;
use crate::config::{Places, layer};
use crate::error::{Error, Result};
use crate::policy::Sourced;

/// List profiles, or show one
#[derive(Debug, Args)]
pub struct ProfileArgs {
    #[command(subcommand)]
    action: ProfileAction,
}

#[derive(Debug, Subcommand)]
enum ProfileAction {
    /// List every profile
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show a profile and what it builds on
    Show {
        /// The profile's name
        name: String,
        /// Print the merged policy as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs `jail profile`.
///
/// # Errors
/// An unknown or invalid profile, or a failed write.
pub fn run(args: &ProfileArgs, places: &Places, out: &mut dyn Write) -> Result<()> {
    match &args.action {
        ProfileAction::List { json } => list(*json, places, out),
        ProfileAction::Show { name, json } => show(name, *json, places, out),
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Base => "base",
        Kind::Agent => "agent",
        Kind::Tools => "tools",
        Kind::Place => "place",
    }
}

/// The first comment of a profile says what it is for.
fn summary(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    printable(line.strip_prefix("# ").unwrap_or_default())
}

fn list(as_json: bool, places: &Places, out: &mut dyn Write) -> Result<()> {
    let own_config = places.own_config();
    let mut rows: Vec<(String, &str, String)> = BUILTIN
        .iter()
        .map(|profile| (profile.name.to_owned(), kind_name(profile.kind), summary(profile.text)))
        .collect();
    for name in profiles::user_names(&own_config)? {
        let text = profiles::text(&name, &own_config)?;
        rows.push((name, "yours", summary(text.text())));
    }
    if as_json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(name, kind, summary)| json!({ "name": name, "kind": kind, "summary": summary }))
            .collect();
        return put(out, &format!("{:#}\n", json!(rows)));
    }
    let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or_default();
    for (name, kind, summary) in rows {
        put(out, &format!("{name:width$}  {kind:5}  {summary}\n"))?;
    }
    Ok(())
}

fn show(name: &str, as_json: bool, places: &Places, out: &mut dyn Write) -> Result<()> {
    let own_config = places.own_config();
    let ground = Ground::new(&places.home, &places.config_home, &places.state_home);
    let mut resolved = Resolved::default();
    resolved.add(&Sourced::default_value(name.to_owned()), &own_config, &ground)?;
    let names: Vec<String> = resolved.layers.iter().map(|(name, _)| name.clone()).collect();
    if as_json {
        let mut merger = Merger::new(names);
        resolved.layers.into_iter().for_each(|(_, layer): (_, layer::Layer)| merger.layer(layer));
        let policy = merger.finish();
        let text =
            serde_json::to_string_pretty(&policy).map_err(|error| Error::setup(format!("profile {name}: {error}")))?;
        return put(out, &format!("{text}\n"));
    }
    for (index, name) in names.iter().enumerate() {
        let text = profiles::text(name, &own_config)?;
        let separator = if index == 0 { "" } else { "\n" };
        put(out, &format!("{separator}## {}\n\n{}\n", text.path.display(), text.text().trim_end()))?;
    }
    Ok(())
}
