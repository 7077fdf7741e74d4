//! Secrets by content: what is found, what is left alone, and the documentation of the table.
//!
//! Values are put together when the test runs, so that no scanner takes this file for one that holds secrets.

use jail::secrets::detect::row::{Group, Row, Verify};
use jail::secrets::detect::{Detectors, Settings, table};
use jail::secrets::finding::Form;

use crate::names::check_page;

fn detectors() -> Detectors {
    Detectors::new(Settings::default()).expect("the table")
}

/// The rules that find something in the content.
fn rules(detectors: &Detectors, path: &str, content: &str) -> Vec<String> {
    detectors.scan(path.as_bytes(), content.as_bytes()).iter().map(|found| found.rule.to_string()).collect()
}

const UUID: &str = "3d2c42fb-91a7-4e0c-8b5d-6f1e9ac07d24";
const HEX40: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b";
const MIXED: &str = "q7Zt2LmX0vBn5RkYw8Hc3JdPs6FgTaQ1uE9iO4xNbVrKlM5jD2hGfWyC8zS3pA7tR6vUeXo";

#[test]
fn secrets_are_found_in_any_text_around_them() {
    let detectors = detectors();
    let m = |len: usize| &MIXED[..len];
    for (rule, content) in [
        ("railway-token", format!("# RAILWAY_TOKEN={UUID}\nFROM scratch\n")),
        (
            "railway-request",
            format!("curl https://backboard.railway.app/graphql/v2 -H 'Authorization: Bearer {UUID}'\n"),
        ),
        ("aws-access-key", format!("key = \"{}{}\"", "AKIA", "Q3EG7VZ2LMNOXY5T")),
        ("stripe-key", format!("{{\"source\": [\"stripe.api_key = \\\"{}{}\\\"\"]}}", "sk_live_", m(24))),
        ("anthropic-key", format!("a;b=\"{}api03-{}AA\";c", "sk-ant-", m(64))),
        ("gitlab-personal", format!("url\t{}{}", "glpat-", m(20))),
        ("slack-token", format!("{}482915730264-739156284015-{}", "xoxb-", m(24))),
        ("sendgrid-key", format!("'{}{}.{}'", "SG.", m(22), m(43))),
        ("supabase-token", format!("{}{HEX40}", "sbp_")),
        ("vault-token", format!("VAULT={}{}", "hvs.", m(24))),
        ("url-password", format!("DATABASE_URL=postgres://app:{}@db.internal:5432/app", m(12))),
        ("netrc", format!("machine api.internal login me password {}", m(14))),
        ("password", format!("db_password: \"{}\"", m(12))),
        ("api-key", format!("export WEATHER_API_KEY={}", m(24))),
        ("authorization-bearer", format!("Authorization: Bearer {}", m(40))),
    ] {
        assert!(rules(&detectors, "notes.txt", &content).contains(&rule.to_owned()), "{rule}: {content}");
    }
}

#[test]
fn what_only_looks_like_a_secret_is_left_alone() {
    let detectors = detectors();
    for content in [
        format!("volumeId: \"{UUID}\""),
        format!("RAILWAY_PROJECT_ID={UUID}"),
        format!("commit {HEX40}"),
        format!("integrity sha512-{MIXED}=="),
        format!("key = {}{}", "AKIA", "IOSFODNN7EXAMPLE"),
        "password = \"changeme\"\npassword: ${DB_PASSWORD}\ntoken = next_token(stream, 12)\n".to_owned(),
        "api_key = \"<your-api-key-1>\"\nsecret = os.environ[\"SECRET_1\"]\n".to_owned(),
        "postgres://user:${PASSWORD}@host/db\n".to_owned(),
        format!("{}{}", "ghp_", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
    ] {
        assert_eq!(rules(&detectors, "notes.txt", &content), [""; 0], "{content}");
    }
}

#[test]
fn spans_are_sorted_and_apart_and_the_version_follows_the_settings() {
    let detectors = detectors();
    let line = format!("password = \"{}\" {}{HEX40} ", &MIXED[..12], "sbp_");
    let found = detectors.scan(b"x", line.repeat(50).as_bytes());
    assert_eq!(found.len(), 100);
    assert!(found.windows(2).all(|pair| pair[0].span.end <= pair[1].span.start));
    let other = Detectors::new(Settings { known_public: vec![[1; 32]], ..Settings::default() }).expect("the table");
    assert_ne!(detectors.version(), other.version());
    assert_eq!(detectors.version(), self::detectors().version());
}

#[test]
fn utf_16_is_searched_in_both_orders_with_spans_of_the_file() {
    let detectors = detectors();
    let value = format!("{}{HEX40}", "sbp_");
    let text = format!("# settings of the deployment\nkey = {value}\n");
    let unit = |big: bool| move |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
    for (big, mark) in [(false, true), (true, true), (false, false), (true, false)] {
        let marked = if mark { format!("\u{feff}{text}") } else { text.clone() };
        let content: Vec<u8> = marked.encode_utf16().flat_map(unit(big)).collect();
        let found = detectors.scan(b"settings.txt", &content);
        assert_eq!(found.len(), 1, "{big} {mark}");
        let wanted: Vec<u8> = value.encode_utf16().flat_map(unit(big)).collect();
        assert_eq!(content[found[0].span.clone()], wanted);
        assert_eq!(found[0].form, if big { Form::Utf16Be } else { Form::Utf16Le });
    }
}

fn documented() -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let rows: Vec<Row> = table::rows().collect();
    assert!(rows.len() >= 120);
    for group in Group::ALL {
        let _ = write!(text, "### {}\n\n| detector | what it is | verified |\n|---|---|---|\n", group.title());
        for row in rows.iter().filter(|row| row.group == group) {
            let verified = match row.verify {
                Verify::None => "",
                Verify::Crc32Base62 => "checksum (CRC-32)",
                Verify::Jwt => "header and payload",
                Verify::Base64(_) => "length of the decoded key",
                Verify::Bech32 => "checksum (Bech32)",
                Verify::BasicAuth => "decodes to a login",
            };
            let _ = writeln!(text, "| `{}` | {} | {verified} |", row.id, row.what);
        }
        text.push('\n');
    }
    text
}

#[test]
fn the_documentation_shows_the_detectors() {
    check_page("docs/secrets.md", "detectors", &documented());
}
