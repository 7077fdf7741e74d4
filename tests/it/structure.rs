//! The structure that `docs/design.md` describes is the structure of `src`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// No file is longer, generated pages and data apart.
const MOST_LINES: usize = 620;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a directory with its text.
fn sources(directory: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut waiting = vec![root().join(directory)];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    assert!(files.len() > 1, "{directory}: {files:?}");
    files
}

/// The module below `src` that a file belongs to; `None` for the three at the top.
fn module(path: &Path) -> Option<String> {
    let name = path.iter().nth(1)?.to_str()?.trim_end_matches(".rs").to_owned();
    (!matches!(name.as_str(), "lib" | "main" | "error" | "escape")).then_some(name)
}

/// The lines of a file without comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// Modules named by `crate::NAME` and `use crate::{NAME, …}`.
fn used(text: &str) -> BTreeSet<String> {
    let text: String = code(text).flat_map(|line| [line, "\n"]).collect();
    let mut names = BTreeSet::new();
    for rest in text.split("crate::").skip(1) {
        let group = rest.strip_prefix('{').map_or(rest, |rest| rest.split_once(';').map_or(rest, |(group, _)| group));
        let parts: Vec<&str> = if rest.starts_with('{') { group.split(',').collect() } else { vec![rest] };
        for part in parts {
            let word = |c: char| c.is_alphanumeric() || c == '_';
            let name: String = part.trim_start().chars().take_while(|c| word(*c)).collect();
            names.insert(name);
        }
    }
    names
}

/// The table of allowed dependencies in `docs/design.md`.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(root().join("docs/design.md")).unwrap();
    let table = text.split("<!-- dependencies: begin -->").nth(1).unwrap();
    let table = table.split("<!-- dependencies: end -->").next().unwrap();
    let names = |cell: &str| -> BTreeSet<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').collect();
        (names(cells[1]).pop_first().unwrap(), names(cells[2]))
    })
    .collect()
}

#[test]
fn modules_use_what_the_design_allows() {
    let allowed = allowed();
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        let Some(module) = module(&path) else { continue };
        let may = allowed.get(&module).unwrap_or_else(|| panic!("docs/design.md lacks the module {module}"));
        for name in used(&text) {
            if name == module || name == "error" || name == "escape" || !allowed.contains_key(&name) {
                continue;
            }
            if !may.contains(&name) {
                wrong.push(format!("{}: {module} may not use {name}", path.display()));
            }
            seen.entry(module.clone()).or_default().insert(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (module, may) in &allowed {
        let unused: Vec<_> = may.difference(seen.entry(module.clone()).or_default()).collect();
        assert!(unused.is_empty(), "docs/design.md: {module} does not use {unused:?}");
    }
}

#[test]
fn the_scan_sees_every_way_to_name_a_module() {
    let text = "use crate::one::A;\n// crate::comment\nuse crate::{two::B, three};\nlet x = crate::four::f();\n";
    assert_eq!(used(text).into_iter().collect::<Vec<_>>(), ["four", "one", "three", "two"]);
}

#[test]
fn unsafe_code_lies_in_sys_only() {
    let marks = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "allow(unsafe_code)"];
    let mut found = 0;
    for (path, text) in sources("src") {
        let has = code(&text).any(|line| marks.iter().any(|mark| line.contains(mark)));
        if path.starts_with("src/sys") {
            found += usize::from(has);
        } else {
            assert!(!has, "{}", path.display());
        }
    }
    assert!(found > 5, "the scan sees the unsafe code of src/sys");
}

#[test]
fn an_event_loop_is_started_by_the_supervisor_only() {
    let starts: Vec<PathBuf> = sources("src")
        .into_iter()
        // A module's own tests may run what they test.
        .map(|(path, text)| (path, text.split("#[cfg(test)]").next().unwrap_or_default().to_owned()))
        .filter(|(_, text)| code(text).any(|line| line.contains("tokio::runtime") || line.contains("tokio::main")))
        .map(|(path, _)| path)
        .collect();
    assert!(!starts.is_empty());
    assert!(starts.iter().all(|path| path.starts_with("src/supervise")), "{starts:?}");
}

#[test]
fn files_have_a_size_that_can_be_read() {
    for directory in ["src", "tests", "benches"] {
        for (path, text) in sources(directory) {
            let lines = text.lines().count();
            assert!(lines <= MOST_LINES, "{}: {lines} lines", path.display());
        }
    }
}

/// Names of tests: functions with `#[test]`, and what the harnesses register.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for directory in ["tests", "src"] {
        for (path, text) in sources(directory) {
            let lines: Vec<&str> = code(&text).map(str::trim).collect();
            for (index, line) in lines.iter().enumerate() {
                let function = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next());
                let marked =
                    lines[..index].iter().rev().take_while(|above| above.starts_with("#[")).any(|a| *a == "#[test]");
                if let (Some(function), true) = (function, marked) {
                    names.insert(function.to_owned());
                }
            }
            if path.starts_with("tests/jail") || path.starts_with("tests/attack") {
                names.extend(text.split('"').skip(1).step_by(2).map(str::to_owned));
            }
        }
    }
    assert!(names.len() > 200);
    names
}

#[test]
fn every_promise_names_its_tests() {
    let text = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let tests = tests();
    let promises: Vec<&str> = text.split("\n### ").skip(1).collect();
    assert_eq!(promises.len(), 8, "a heading for each promise");
    for promise in promises {
        let (heading, rest) = promise.split_once('\n').unwrap();
        let shown = rest.split("Shown by: ").nth(1).unwrap_or_else(|| panic!("{heading}: no test is named"));
        let shown = shown.split("\n\n").next().unwrap();
        let named: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "{heading}: no test is named");
        for name in named {
            assert!(tests.contains(name), "{heading}: there is no test {name}");
        }
        assert!(rest.contains("Limits:"), "{heading}: no limits");
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    let pages = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.chain(["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(|name| root().join(name)));
    for page in pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(&page).unwrap();
        let linked = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        // Pages are also named as code: `docs/design.md`.
        let named = text.split('`').filter(|word| word.starts_with("docs/") && !word.contains([' ', '*', '\n']));
        for target in linked.filter(|target| !target.is_empty() && !target.contains("://")) {
            assert!(page.parent().unwrap().join(target).exists(), "{}: {target}", page.display());
        }
        for target in named {
            assert!(root().join(target).exists(), "{}: {target}", page.display());
        }
    }
}
