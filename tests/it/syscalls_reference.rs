//! `docs/syscalls.md` is written from the table: `JAIL_UPDATE_DOCS=1 cargo test --test it syscalls_reference`.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use jail::plan::seccomp::{Arch, Rule, Verdict, compile, rows, sections};

const INTRODUCTION: &str = "\
# System calls

<!-- Written from src/plan/seccomp/table by tests/it/syscalls_reference.rs; do not edit. -->

The workload's filter is an allow-list. What is not in it answers `ENOSYS`, as an older kernel would, so that programs
take their own fallback; that holds for every call newer than the table and for the x32 numbers. A call by the entry of another
architecture (`int 0x80` on x86-64, 32-bit ARM) kills the process.

A refusal never kills: `EPERM` where programs expect to be told so, another error where that leads them to their
fallback. Arguments are compared in the half that the kernel reads, so rubbish in the other half changes nothing.

The filter is one binary search. The kernel keeps the answers that depend on the number alone and does not run the filter for them.
";

fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    let count = |wanted: fn(&Rule) -> bool| rows().filter(|row| wanted(&row.rule)).count();
    let _ = writeln!(
        text,
        "\n{} calls: {} allowed, {} by their arguments, {} refused. {} instructions on x86-64, {} on 64-bit ARM.",
        rows().count(),
        count(|rule| matches!(rule, Rule::Always(Verdict::Allow))),
        count(|rule| matches!(rule, Rule::Args { .. })),
        count(|rule| matches!(rule, Rule::Always(Verdict::Refuse(_)))),
        compile(Arch::X86_64).map_or(0, |program| program.instructions().len()),
        compile(Arch::Aarch64).map_or(0, |program| program.instructions().len()),
    );
    let number = |number: Option<u32>| number.map_or_else(|| "–".to_owned(), |number| number.to_string());
    for (title, rows) in sections() {
        let _ = writeln!(text, "\n## {title}\n\n| call | x86-64 | arm64 | verdict | why |\n|---|---|---|---|---|");
        for row in *rows {
            let mut line = |verdict: &str, why: &str| {
                let (x86_64, aarch64) = (number(row.x86_64), number(row.aarch64));
                let _ = writeln!(text, "| `{}` | {x86_64} | {aarch64} | {verdict} | {why} |", row.name);
            };
            match row.rule {
                Rule::Always(verdict) => line(&shown(verdict), row.why),
                Rule::Args { cases, otherwise } => {
                    line("the first that fits:", row.why);
                    for case in cases {
                        let _ = writeln!(text, "| | | | {} | {} |", shown(case.verdict), case.why);
                    }
                    let _ = writeln!(text, "| | | | {} | everything else |", shown(otherwise));
                }
            }
        }
    }
    text
}

fn shown(verdict: Verdict) -> String {
    match verdict {
        Verdict::Allow => "allow".to_owned(),
        Verdict::Refuse(refusal) => format!("`{}`", refusal.name()),
    }
}

#[test]
fn the_reference_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/syscalls.md");
    if std::env::var_os("JAIL_UPDATE_DOCS").is_some() {
        fs::write(&path, reference()).expect("docs/syscalls.md is writable");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == reference(), "docs/syscalls.md differs; run with JAIL_UPDATE_DOCS=1");
}
