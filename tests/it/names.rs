//! Which names are hidden, and the documentation of it.

use std::path::Path;

use jail::policy::{FilesystemPolicy, Origin, ScanMode, Source, Sourced};
use jail::secrets::names::{COPY_ENDINGS, EXAMPLE_WORDS, Group, Unless};
use jail::secrets::{Matcher, ROWS, Reason, matcher::Verdict};

pub fn sourced(values: &[&str]) -> Vec<Sourced<String>> {
    let source = |line| Source { origin: Origin::User, file: Some("/policy.toml".into()), line, column: 1 };
    values.iter().enumerate().map(|(index, value)| Sourced::new((*value).to_owned(), source(index + 1))).collect()
}

pub fn filesystem(hide: &[&str], reveal: &[&str]) -> FilesystemPolicy {
    FilesystemPolicy { hide: sourced(hide), reveal: sourced(reveal), ..FilesystemPolicy::default() }
}

fn matcher(hide: &[&str], reveal: &[&str]) -> Matcher {
    Matcher::compile(&filesystem(hide, reveal), ScanMode::Names).expect("globs")
}

/// The row or glob that hides a path, the content aside.
fn reason(matcher: &Matcher, path: &[u8], directory: bool) -> Option<String> {
    use std::os::unix::ffi::OsStrExt;
    match matcher.path_verdict(Path::new(std::ffi::OsStr::from_bytes(path)), directory) {
        Verdict::Hidden(Reason::Table(id), _) => Some(id.to_owned()),
        Verdict::Hidden(Reason::Glob(glob), _) => Some(glob.value.clone()),
        Verdict::Hidden(..) => Some("other".to_owned()),
        Verdict::Visible | Verdict::Revealed => None,
    }
}

#[test]
fn secret_names_are_hidden_in_every_spelling() {
    let matcher = matcher(&[], &[]);
    let hidden: &[(&str, &str)] = &[
        (".env", "dotenv"),
        (".env.local", "dotenv"),
        (".env.production.local", "dotenv"),
        (".envrc", "dotenv"),
        (".ENV", "dotenv"),
        (".Env.Local", "dotenv"),
        (".env.", "dotenv"),
        (".env ", "dotenv"),
        (".e\u{200c}nv", "dotenv"),
        (".env~", "dotenv"),
        (".env.bak", "dotenv"),
        (".#.env", "dotenv-suffix"),
        ("#.env#", "dotenv"),
        (".env.swp", "dotenv"),
        ("a/b/.env", "dotenv"),
        ("production.env", "dotenv-suffix"),
        ("production.env.bak~", "dotenv-suffix"),
        ("id_rsa", "id-rsa"),
        ("id_rsa.old", "id-rsa"),
        (".id_rsa.swp", "id-rsa"),
        ("ID_ED25519", "id-ed25519"),
        ("server.pem", "pem"),
        ("server.PEM.1", "pem"),
        ("server.\u{212a}ey", "key"),
        ("terraform.tfstate", "tfstate"),
        ("terraform.tfstate.1699999999.backup", "tfstate"),
        ("prod.auto.tfvars.json", "auto-tfvars-json"),
        ("my-service-account-prod.json", "gcp-service-account"),
        ("home/.docker/config.json", "docker"),
        ("x/.Cargo/credentials.toml", "cargo-credentials-toml"),
        ("secrets.yaml", "secrets-yaml"),
        (".git-credentials", "git-credentials"),
        (".aws/config", "aws-dir"),
    ];
    for (path, id) in hidden {
        assert_eq!(reason(&matcher, path.as_bytes(), false).as_deref(), Some(*id), "{path:?}");
    }
    assert_eq!(reason(&matcher, b"\xff/.env", false).as_deref(), Some("dotenv"));
    assert_eq!(reason(&matcher, b"\xff.PEM", false).as_deref(), Some("pem"));
}

#[test]
fn other_names_stay_visible() {
    let matcher = matcher(&[], &[]);
    for path in [
        ".env.example",
        ".env.local.sample",
        "example.env",
        ".env.example.bak",
        "env",
        "src/environment.rs",
        "id_rsa.pub",
        "config.json",
        "credentials",
        "package.json",
        "README.md~",
        "Cargo.toml.orig",
        "keys.rs",
        "a.keynote",
        "...",
        "~",
        ".#",
    ] {
        assert_eq!(reason(&matcher, path.as_bytes(), false), None, "{path:?}");
    }
    assert_eq!(reason(&matcher, b".env.d", true), None, "a directory is hidden by its own rows only");
}

#[test]
fn globs_of_the_policy() {
    let matcher = matcher(
        &["**/*.pem", "secrets/*", "build/", "/top", "data/**/raw", "*.Sec", "[[]x", "deep/.env.example"],
        &["tests/fixtures/", "*.key", "public.pem"],
    );
    for (path, directory, glob) in [
        ("a.pem", false, Some("**/*.pem")),
        ("public.pem", false, Some("**/*.pem")),
        ("tests/fixtures/a.pem", false, Some("**/*.pem")),
        ("tests/fixtures/.env", false, None),
        ("secrets/x", false, Some("secrets/*")),
        ("a/secrets/x", false, None),
        ("secrets/x/y", false, Some("secrets/*")),
        ("a/build", true, Some("build/")),
        ("a/build", false, None),
        ("a/build/x", false, Some("build/")),
        ("top", false, Some("/top")),
        ("a/top", false, None),
        ("data/1/2/raw", false, Some("data/**/raw")),
        ("x.SEC", false, Some("*.Sec")),
        ("[x", false, Some("[[]x")),
        ("private.key", false, None),
        ("a\nb.pem", false, Some("**/*.pem")),
        ("-rf.pem", false, Some("**/*.pem")),
        ("deep/.env.example", false, Some("deep/.env.example")),
    ] {
        assert_eq!(reason(&matcher, path.as_bytes(), directory).as_deref(), glob, "{path:?}");
    }
}

#[test]
fn decomposed_and_composed_names_are_the_same() {
    let matcher = matcher(&["geh\u{e9}im"], &[]);
    assert!(reason(&matcher, "gehe\u{301}im".as_bytes(), false).is_some());
    assert!(reason(&matcher, "GEH\u{c9}IM".as_bytes(), false).is_some());
}

#[test]
fn a_glob_that_cannot_be_enforced_stops_the_start() {
    for glob in ["a[", "../x", "a/../../x", "!x", "~/x", "", "/", "a//b", "{a"] {
        let error = Matcher::compile(&filesystem(&["fine", glob], &[]), ScanMode::Names).expect_err(glob).to_string();
        assert!(error.contains(&format!("{glob:?}")) && error.contains("/policy.toml:2"), "{error}");
        assert!(Matcher::compile(&filesystem(&[], &[glob]), ScanMode::Names).is_err(), "{glob:?}");
    }
}

#[test]
fn without_scanning_only_the_policy_hides() {
    let matcher = Matcher::compile(&filesystem(&["mine"], &[]), ScanMode::Off).expect("globs");
    assert_eq!(reason(&matcher, b".env", false), None);
    assert_eq!(reason(&matcher, b"mine", false).as_deref(), Some("mine"));
}

#[test]
fn every_row_is_reachable_and_named_once() {
    let matcher = matcher(&[], &[]);
    let mut ids = std::collections::BTreeSet::new();
    for row in ROWS {
        assert!(ids.insert(row.id), "{} twice", row.id);
        let (path, directory) = match row.pattern.strip_suffix('/') {
            Some(path) => (path, true),
            None => (row.pattern, false),
        };
        let path = path.replace('*', "x");
        let found = reason(&matcher, path.as_bytes(), directory);
        // A file below a hidden directory is hidden by the directory.
        assert!(found.is_some(), "{} does not hide {path}", row.id);
        if !path.contains('/') {
            let row_found = ROWS.iter().find(|other| Some(other.id) == found.as_deref()).expect("a row");
            assert_eq!(row_found.group, row.group, "{path} is found by {}", row_found.id);
        }
    }
}

/// The table as the documentation shows it.
fn documented() -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let groups = [
        Group::Environment,
        Group::Keys,
        Group::Cloud,
        Group::Registries,
        Group::Infrastructure,
        Group::Services,
        Group::Records,
    ];
    for group in groups {
        let _ = write!(text, "### {}\n\n| name | what it is | visible when |\n|---|---|---|\n", group.title());
        for row in ROWS.iter().filter(|row| row.group == group) {
            let _ = writeln!(text, "| `{}` | {} | {} |", row.pattern, row.what, row.unless.title());
        }
        text.push('\n');
    }
    assert!(ROWS.iter().any(|row| row.unless == Unless::Example));
    let words = |words: &[&str]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let _ = write!(text, "Words that mark an example: {}.\n\n", words(EXAMPLE_WORDS));
    let _ = writeln!(text, "Endings that mark a copy: `~`, a number, {}.", words(COPY_ENDINGS));
    text
}

/// Compares a generated part of a page with the page; `JAIL_UPDATE_DOCS=1` writes it.
pub fn check_page(page: &str, part: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = std::fs::read_to_string(&path).expect(page);
    let (begin, end) = (format!("<!-- {part}: begin -->\n"), format!("<!-- {part}: end -->\n"));
    let start = text.find(&begin).expect("the begin of the part") + begin.len();
    let stop = text.find(&end).expect("the end of the part");
    if std::env::var_os("JAIL_UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{}{generated}{}", &text[..start], &text[stop..])).expect(page);
        return;
    }
    assert!(text[start..stop] == *generated, "{page} does not show the table; run the tests with JAIL_UPDATE_DOCS=1");
}

#[test]
fn the_documentation_shows_the_table() {
    check_page("docs/secrets.md", "generated", &documented());
}
