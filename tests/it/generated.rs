//! Pages that are written from the program: `JAIL_UPDATE_DOCS=1 cargo test --test it` refreshes them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use jail::cli::{Args, generate};

/// Compares a page with what the program says.
fn same(page: &str, current: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    if std::env::var_os("JAIL_UPDATE_DOCS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, current).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == current, "{page} is out of date: run the tests with JAIL_UPDATE_DOCS=1");
}

#[test]
fn the_reference_is_the_program_s_help() {
    same("docs/reference.md", &generate::reference());
}

#[test]
fn the_manual_page_is_the_program_s() {
    same("docs/man/jail.1", &String::from_utf8(generate::manual().unwrap()).unwrap());
}

/// One voice: a short help starts with a capital letter and ends without a period.
fn check(command: &clap::Command) {
    let told = command.get_about().map(ToString::to_string).into_iter();
    let options = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let helps = options.map(|argument| {
        argument.get_help().map_or_else(|| format!("{} has no help", argument.get_id()), ToString::to_string)
    });
    for help in told.chain(helps) {
        let good = help.starts_with(char::is_uppercase) && !help.ends_with('.');
        assert!(good, "{}: {help:?}", command.get_name());
    }
    command.get_subcommands().for_each(check);
}

#[test]
fn help_texts_have_one_voice() {
    let mut command = Args::command();
    command.build();
    check(&command);
}
