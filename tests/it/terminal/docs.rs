use std::fmt::Write;

use jail::supervise::terminal::table::{
    ANSI_MODES, C0_DROP, C0_PASS, CSI, CsiRule, ESC, OSC, OscRule, PRIVATE_MODES, REFUSED_MODES, STRINGS,
};

fn verdict(pass: bool) -> &'static str {
    if pass { "passes" } else { "dropped" }
}

/// A table; code spans cannot hold a bar inside a table.
fn table(head: &str, rows: impl Iterator<Item = (String, bool, String)>) -> String {
    let mut out = format!("| {head} | | |\n|---|---|---|\n");
    for (code, pass, why) in rows {
        writeln!(out, "| `{}` | {} | {} |", code.replace('|', "\\|"), verdict(pass), why.replace('|', "\\|"))
            .expect("text");
    }
    out
}

fn finals(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{}", char::from(*byte))).collect::<Vec<_>>().join(" ")
}

fn tables() -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    vec![
        table(
            "`CSI`, final bytes",
            CSI.iter().map(|row| {
                let marker = if row.marker == 0 { String::new() } else { char::from(row.marker).to_string() };
                let inter = text(row.intermediates).replace(' ', "SP ");
                let last = finals(row.finals).replace('`', "backtick");
                let numbers = match row.rule {
                    CsiRule::First(list) | CsiRule::QueryFirst(list) => {
                        list.iter().map(u16::to_string).collect::<Vec<_>>().join("/")
                    }
                    _ => "…".to_owned(),
                };
                let question =
                    if matches!(row.rule, CsiRule::Query | CsiRule::QueryFirst(_)) { "question: " } else { "" };
                (format!("{marker}{numbers}{inter}{last}"), row.rule != CsiRule::Drop, format!("{question}{}", row.why))
            }),
        ),
        table(
            "private mode",
            PRIVATE_MODES
                .iter()
                .map(|mode| {
                    let back = if mode.restore { "; put back at the end" } else { "" };
                    (mode.number.to_string(), true, format!("{}{back}", mode.what))
                })
                .chain(REFUSED_MODES.iter().map(|(mode, why)| (mode.to_string(), false, (*why).to_owned()))),
        ),
        table("ANSI mode", ANSI_MODES.iter().map(|mode| (mode.to_string(), true, "put back at the end".to_owned()))),
        table("`OSC`", OSC.iter().map(|row| (row.number.to_string(), row.rule != OscRule::Drop, row.why.to_owned()))),
        table(
            "`ESC`",
            ESC.iter().map(|row| {
                let sets = matches!(row.intermediates, b"(" | b")" | b"*" | b"+");
                let last = if sets { "0 … Z".to_owned() } else { finals(row.finals) };
                (format!("{}{last}", text(row.intermediates).replace(' ', "SP ")), row.pass, row.why.to_owned())
            }),
        ),
        table(
            "string",
            STRINGS
                .iter()
                .map(|(byte, name, why)| (format!("ESC {}", char::from(*byte)), false, format!("{name}: {why}"))),
        ),
        table(
            "control character",
            C0_PASS
                .iter()
                .map(|(byte, what)| (format!("{byte:#04x}"), true, (*what).to_owned()))
                .chain(C0_DROP.iter().map(|(byte, what)| (format!("{byte:#04x}"), false, (*what).to_owned()))),
        ),
    ]
}

#[test]
fn the_documentation_shows_the_tables() {
    let document = include_str!("../../../docs/terminal.md");
    let tables = tables();
    for table in &tables {
        assert!(document.contains(table.as_str()), "docs/terminal.md lacks this table:\n{table}");
    }
    let rows = |text: &str| text.lines().filter(|line| line.starts_with("| ")).count();
    assert_eq!(rows(document), tables.iter().map(|table| rows(table)).sum::<usize>(), "a row without a counterpart");
}
