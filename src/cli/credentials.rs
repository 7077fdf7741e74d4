//! What is said about credentials, and the one question that a person has to answer for: a protected environment.

use std::fmt::Write as _;
use std::io::{IsTerminal, stderr, stdin};

use crate::config::text::printable;
use crate::error::{Error, Result};
use crate::policy::CredentialsPolicy;

/// A protected environment is chosen by a person at a terminal, not by a script, a task or a job.
///
/// # Errors
/// The environment is protected, and there is no terminal.
pub fn confirm(policy: &CredentialsPolicy) -> Result<()> {
    let Some(chosen) = policy.environment.as_ref().filter(|chosen| policy.is_protected(&chosen.value)) else {
        return Ok(());
    };
    if stdin().is_terminal() && stderr().is_terminal() {
        return Ok(());
    }
    let message = format!("environment {:?} is protected, and this is no interactive terminal", chosen.value);
    Err(Error::setup(message).hint(format!(
        "start it by hand; `[credentials.environments.{}] protected = false` in your own policy lifts that",
        chosen.value
    )))
}

/// A note about credentials that are not loaded because no environment was chosen.
pub fn left(policy: &CredentialsPolicy) -> Option<String> {
    if policy.environment.is_some() {
        return None;
    }
    let mut environments: Vec<&str> = policy.left().filter_map(|left| left.value.environment.as_deref()).collect();
    environments.sort_unstable();
    environments.dedup();
    (!environments.is_empty())
        .then(|| format!("no environment is chosen, so no credential of {} is loaded", environments.join(", ")))
}

/// The credentials of a plan, a line each.
pub fn list(policy: &CredentialsPolicy) -> String {
    let mut text = String::new();
    if policy.credentials.is_empty() {
        return text;
    }
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\ncredentials: {}", policy.loaded().count());
    for credential in policy.loaded() {
        let value = &credential.value;
        let mut places: Vec<String> = value.env.iter().cloned().collect();
        places.extend(value.file.iter().map(|file| file.path.display().to_string()));
        let hosts: Vec<String> = value.hosts.iter().map(ToString::to_string).collect();
        let place = if places.is_empty() { "nowhere".to_owned() } else { places.join(" and ") };
        let line = format!("{value}: a placeholder in {place}, for {}", hosts.join(", "));
        let _ =
            writeln!(text, "  {}  ({}, {})", printable(&line), printable(&value.source.to_string()), credential.source);
    }
    for credential in policy.left() {
        let _ = writeln!(text, "  {}: not loaded  ({})", credential.value, credential.source);
    }
    text
}
