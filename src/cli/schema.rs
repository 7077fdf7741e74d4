//! `jail schema`: the JSON schema of a policy file, for editors.

use std::io::Write;

use clap::Args;

use super::put;
use crate::config::document::Document;
use crate::error::{Error, Result};

/// Print the JSON schema of policy files
#[derive(Debug, Args)]
pub struct SchemaArgs {}

/// The schema as JSON text with a final newline; `docs/schema/policy.schema.json` holds the same.
///
/// # Errors
/// The schema cannot be written as JSON.
pub fn text() -> Result<String> {
    let schema = schemars::schema_for!(Document);
    let text = serde_json::to_string_pretty(&schema).map_err(|error| Error::setup(format!("schema: {error}")))?;
    Ok(text + "\n")
}

/// Runs `jail schema`.
///
/// # Errors
/// A failed write.
pub fn run(_: &SchemaArgs, out: &mut dyn Write) -> Result<()> {
    put(out, &text()?)
}
