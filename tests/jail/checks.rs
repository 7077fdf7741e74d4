//! What several files of tests check in the same way.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::Value;

/// Fails with a message unless the condition holds.
pub fn ensure(condition: bool, message: impl FnOnce() -> String) -> Result<(), Failed> {
    if condition { Ok(()) } else { Err(message().into()) }
}

/// Fails with both unless they are equal.
pub fn same<T: PartialEq + std::fmt::Debug>(actual: &T, expected: &T) -> Result<(), Failed> {
    ensure(actual == expected, || format!("{actual:#?}\nexpected {expected:#?}"))
}

/// Fails unless two listings of a directory are equal, with the lines that differ.
pub fn unchanged(before: &[String], after: &[String]) -> Result<(), Failed> {
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        let lines = these.iter().filter(|line| !those.contains(line));
        lines.map(|line| line.chars().take(120).collect()).collect()
    };
    let (gone, new) = (only(before, after), only(after, before));
    ensure(gone.is_empty() && new.is_empty(), || format!("gone: {gone:#?}\nnew: {new:#?}"))
}

/// The lines of an attack program as what was tried and what came of it.
pub fn results(lines: &[Value]) -> BTreeMap<String, String> {
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    lines.iter().map(|line| (text(line, "try"), text(line, "result"))).collect()
}

/// What was tried with success.
pub fn succeeded(lines: &[Value]) -> Vec<String> {
    results(lines).into_iter().filter(|(_, result)| result == "ok").map(|(verb, _)| verb).collect()
}

/// Waits until a file exists.
pub fn wait_for(path: &Path) -> Result<(), Failed> {
    let start = Instant::now();
    while !path.exists() {
        ensure(start.elapsed() < Duration::from_secs(20), || format!("{} did not appear", path.display()))?;
        sleep(Duration::from_millis(2));
    }
    Ok(())
}
