//! The schema and the reference say what the program does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use jail::policy::reason::Reason;

use crate::config::World;

fn file(name: &str) -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    (path, text)
}

#[test]
fn the_schema_in_the_documentation_is_the_program_s() {
    let (path, stored) = file("docs/schema/policy.schema.json");
    let current = jail::cli::schema::text().unwrap();
    if std::env::var_os("JAIL_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &current).unwrap();
        return;
    }
    assert!(stored == current, "{} is out of date: run the tests with JAIL_UPDATE_DOCS=1", path.display());
}

/// Every key of the schema with the table it is in.
fn keys() -> Vec<(String, String)> {
    let schema: serde_json::Value = serde_json::from_str(&jail::cli::schema::text().unwrap()).unwrap();
    let mut keys = Vec::new();
    let mut tables = vec![("top".to_owned(), schema.clone())];
    for (name, table) in schema["$defs"].as_object().unwrap() {
        tables.push((name.clone(), table.clone()));
    }
    for (name, table) in tables {
        for key in table["properties"].as_object().into_iter().flatten().map(|(key, _)| key) {
            keys.push((name.clone(), key.clone()));
        }
    }
    keys
}

#[test]
fn every_key_is_documented() {
    let (_, text) = file("docs/policy.md");
    let keys = keys();
    assert!(keys.len() > 40, "{keys:?}");
    for (table, key) in keys {
        let defined = text.lines().any(|line| {
            let line = line.trim_start();
            line.starts_with(&format!("`{key}`"))
                || line.starts_with(&format!("## [{key}]"))
                || line.contains(&format!("[[{key}]]"))
        });
        let in_prose = table.starts_with("Credential") || table == "Graphql";
        assert!(defined || (in_prose && text.contains(&format!("`{key}`"))), "{table}.{key} is not in docs/policy.md");
    }
}

#[test]
fn every_key_has_a_description_in_the_schema() {
    let schema: serde_json::Value = serde_json::from_str(&jail::cli::schema::text().unwrap()).unwrap();
    let tables = schema["$defs"].as_object().unwrap().values().chain([&schema]);
    for (key, value) in tables.filter_map(|table| table["properties"].as_object()).flatten() {
        assert!(value["description"].as_str().is_some_and(|text| !text.is_empty()), "{key}");
    }
}

#[test]
fn every_example_in_the_reference_is_accepted() {
    let (_, text) = file("docs/policy.md");
    let examples: Vec<&str> = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 8);
    for example in examples {
        if let Err(error) = World::new().user(example).load() {
            panic!("{error}\nin:\n{example}");
        }
    }
}

#[test]
fn the_example_of_an_error_is_the_program_s() {
    let (_, text) = file("docs/policy.md");
    let error = World::new().user("# \n\n[filesystem]\nwirte = [\"~/data\"]\n").load().unwrap_err();
    let message = error.to_string();
    let lines: Vec<&str> = message.lines().collect();
    assert!(text.contains(lines[2]) && text.contains(&format!("    {}\n", lines[3])), "{message}");
    assert!(text.contains(&format!("hint: {}", error.hint_text().unwrap())));
}

#[test]
fn the_schema_command_prints_the_schema() {
    let mut out = Vec::new();
    jail::cli::schema::run(&jail::cli::schema::SchemaArgs {}, &mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), jail::cli::schema::text().unwrap());
}

#[test]
fn every_reason_is_documented() {
    let (_, page) = file("docs/network.md");
    let rows: Vec<String> =
        Reason::ALL.iter().map(|reason| format!("| `{}` | {} |\n", reason.code(), reason.sentence())).collect();
    assert!(page.contains(&rows.concat()), "the table of reasons should be:\n{}", rows.concat());
}
