//! `jail completions` and `jail man`: generated from the same definition that parses the command line.

use std::io::Write as _;
use std::process::ExitCode;

use clap_complete::Shell;

use crate::error::{Error, Result};

/// Print a completion script
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// For which shell
    shell: Shell,
}

/// Prints the script.
pub fn completions(args: &CompletionsArgs) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "jail", &mut script);
    super::print(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// The manual page in roff, with a section for each subcommand.
pub fn manual() -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| Error::setup(format!("cannot render the manual page: {error}"));
    let mut root = super::command();
    root.build();
    let mut page = Vec::new();
    clap_mangen::Man::new(root.clone()).render(&mut page).map_err(failed)?;
    for command in root.get_subcommands() {
        sections(command, &mut page).map_err(failed)?;
    }
    Ok(page)
}

/// A subcommand's part of the manual page, and those of its own subcommands.
fn sections(command: &clap::Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
    let man = clap_mangen::Man::new(command.clone());
    let mut part = Vec::new();
    man.render_synopsis_section(&mut part)?;
    man.render_description_section(&mut part)?;
    man.render_options_section(&mut part)?;
    writeln!(page, ".SH \"{}\"", name.to_uppercase())?;
    page.extend(String::from_utf8_lossy(&part).replace(".SH ", ".SS ").into_bytes());
    command.get_subcommands().try_for_each(|child| sections(child, page))
}

/// Print the manual page, or that of one subcommand
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// The subcommand, such as `run` or `profile show`
    #[arg(value_name = "COMMAND")]
    names: Vec<String>,
}

/// Prints the manual page.
pub fn man(args: &ManArgs) -> Result<ExitCode> {
    super::print(&if args.names.is_empty() { manual()? } else { manual_of(&args.names)? })?;
    Ok(ExitCode::SUCCESS)
}

/// The manual page of one subcommand in roff, with a section for each of its own.
///
/// # Errors
/// There is no such subcommand.
pub fn manual_of(names: &[String]) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| Error::setup(format!("cannot render the manual page: {error}"));
    let mut root = super::command();
    root.build();
    let mut command = &root;
    for name in names {
        command = command.find_subcommand(name).ok_or_else(|| {
            Error::setup(format!("there is no subcommand {}", crate::config::text::printable(&names.join(" "))))
                .hint("`jail --help` lists them")
        })?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page).map_err(failed)?;
    command.get_subcommands().try_for_each(|child| sections(child, &mut page)).map_err(failed)?;
    Ok(page)
}

/// Every subcommand's help, as Markdown: `docs/reference.md`.
pub fn reference() -> String {
    let mut text = String::from(
        "# Command line\n\nWritten from the program by tests/it/generated.rs; `jail man` prints it as a manual page.\n",
    );
    let mut root = super::command().term_width(100);
    root.build();
    describe(&mut root, "jail", &mut text);
    text
}

fn describe(command: &mut clap::Command, name: &str, text: &mut String) {
    let help = command.render_long_help().to_string();
    text.push_str(&format!("\n## `{name}`\n\n```text\n{}\n```\n", help.trim_end()));
    let children: Vec<String> = command.get_subcommands().map(|child| child.get_name().to_owned()).collect();
    for child in children {
        if let Some(child_command) = command.find_subcommand_mut(&child) {
            describe(child_command, &format!("{name} {child}"), text);
        }
    }
}
