use jail::supervise::terminal::filter::{Charset, Filter, PENDING_MAX};
use jail::supervise::terminal::table::{
    ANSI_MODES, C0_DROP, C0_PASS, CSI, CsiRule, ESC, OSC, OscRule, PRIVATE_MODES, REFUSED_MODES, STRINGS,
};
use proptest::prelude::*;

/// Filters `input` in one piece, without the end of the stream.
fn filtered(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Filter::new(Charset::Utf8).push(input, &mut out);
    out
}

/// What the end of the stream adds.
fn ending(input: &[u8]) -> Vec<u8> {
    let mut filter = Filter::new(Charset::Utf8);
    filter.push(input, &mut Vec::new());
    let mut out = Vec::new();
    filter.flush(&mut out);
    out.extend_from_slice(&filter.modes().closing());
    out
}

#[track_caller]
fn passes(input: &[u8]) {
    let framed = [b"before", input, b"after"].concat();
    assert_eq!(show(&filtered(&framed)), show(&framed));
}

#[track_caller]
fn dropped(input: &[u8]) {
    becomes(input, b"");
}

#[track_caller]
fn becomes(input: &[u8], output: &[u8]) {
    let framed = [b"before", input, b"after"].concat();
    assert_eq!(show(&filtered(&framed)), show(&[b"before", output, b"after"].concat()), "for {}", show(input));
}

fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// The same through every way to cut the input in two, and byte by byte.
#[track_caller]
fn same_however_cut(input: &[u8]) {
    let whole = filtered(input);
    // Every cut for short inputs; byte by byte below has all cuts of the long ones at once.
    for cut in (0..=input.len()).step_by(1 + input.len() / 200) {
        let mut filter = Filter::new(Charset::Utf8);
        let (mut out, mut scratch) = (Vec::new(), Vec::new());
        for part in [&input[..cut], &input[cut..]] {
            out.extend_from_slice(filter.run(part, &mut scratch));
        }
        assert_eq!(show(&out), show(&whole), "cut at {cut}");
    }
    let mut filter = Filter::new(Charset::Utf8);
    let mut out = Vec::new();
    input.chunks(1).for_each(|byte| filter.push(byte, &mut out));
    assert_eq!(show(&out), show(&whole), "byte by byte");
}

/// Every example of the tables as a sequence, and whether it passes.
fn examples() -> Vec<(Vec<u8>, bool)> {
    let mut all = Vec::new();
    for row in CSI {
        all.push((format!("\x1b[{}", row.example).into_bytes(), row.rule != CsiRule::Drop));
    }
    for row in OSC {
        for end in ["\x07", "\x1b\\"] {
            all.push((format!("\x1b]{}{end}", row.example).into_bytes(), row.rule != OscRule::Drop));
        }
    }
    for row in ESC {
        for last in row.finals {
            all.push(([b"\x1b", row.intermediates, &[*last]].concat(), row.pass));
        }
    }
    for (introducer, _, _) in STRINGS {
        for body in ["q#0;2;0;0;0~-", "$qm", "+q544e", "tmux;x", "Gf=100,t=f;L2V0Yw==", "1000p", "0;1|17/41"] {
            all.push(([b"\x1b", &[*introducer][..], body.as_bytes(), b"\x1b\\"].concat(), false));
        }
    }
    all.extend(C0_PASS.iter().map(|(byte, _)| (vec![*byte], true)));
    all.extend(C0_DROP.iter().map(|(byte, _)| (vec![*byte], false)));
    for last in ['h', 'l'] {
        all.extend(PRIVATE_MODES.iter().map(|mode| (format!("\x1b[?{}{last}", mode.number).into_bytes(), true)));
        all.extend(REFUSED_MODES.iter().map(|(mode, _)| (format!("\x1b[?{mode}{last}").into_bytes(), false)));
        all.extend(ANSI_MODES.iter().map(|mode| (format!("\x1b[{mode}{last}").into_bytes(), true)));
    }
    all
}

#[test]
fn every_row_of_the_tables_does_what_it_says() {
    let all = examples();
    assert!(all.len() > 200, "{} examples", all.len());
    for (example, pass) in all {
        if pass { passes(&example) } else { dropped(&example) }
    }
}

#[test]
fn every_final_byte_of_the_tables_does_what_its_row_says() {
    for row in CSI.iter().filter(|row| row.rule == CsiRule::Pass) {
        for last in row.finals {
            let marker: &[u8] = if row.marker == 0 { b"" } else { &[row.marker] };
            passes(&[b"\x1b[", marker, b"1", row.intermediates, &[*last]].concat());
        }
    }
}

#[test]
fn a_sequence_without_a_row_is_dropped() {
    for marker in ["", "<", "=", ">", "?"] {
        for intermediate in (0x20u8..0x30).map(Some).chain([None]) {
            for last in 0x40u8..0x7f {
                let inter: Vec<u8> = intermediate.into_iter().collect();
                let known = CSI.iter().any(|row| {
                    row.marker == marker.bytes().next().unwrap_or(0)
                        && row.intermediates == inter
                        && row.finals.contains(&last)
                });
                if !known {
                    dropped(&[b"\x1b[", marker.as_bytes(), b"1", &inter, &[last]].concat());
                }
            }
        }
    }
    for code in 0..6000u32 {
        if !OSC.iter().any(|row| row.number == code) {
            dropped(format!("\x1b]{code};x\x1b\\").as_bytes());
        }
    }
    for mode in 0..10_000u16 {
        if !PRIVATE_MODES.iter().any(|row| row.number == mode) {
            dropped(format!("\x1b[?{mode}h").as_bytes());
        }
        if !ANSI_MODES.contains(&mode) {
            dropped(format!("\x1b[{mode}h").as_bytes());
        }
    }
}

#[test]
fn what_would_make_the_terminal_act_for_the_program_is_dropped() {
    // Written out, so that a changed table does not change the test with it.
    for attack in [
        "\x1b]52;c;aGk=\x07",
        "\x1b]52;c;?\x07",
        "\x1b]50;?\x07",
        "\x1b]50;x\x1b\\",
        "\x1b]1337;CopyToClipboard=\x07",
        "\x1b]1337;File=inline=0:aGk=\x07",
        "\x1b]777;notify;a;b\x07",
        "\x1b]99;;hi\x1b\\",
        "\x1b]9;hi\x07",
        "\x1b]5113;ac=send\x1b\\",
        "\x1b]5522;type=read\x1b\\",
        "\x1b]7;file:///tmp\x07",
        "\x1b]133;A\x07",
        "\x1b]633;E;x\x07",
        "\x1b]51;[\"drop\",\"x\"]\x07",
        "\x1b]3;A=b\x07",
        "\x1b]8;;file:///etc/passwd\x07",
        "\x1b[20t",
        "\x1b[21t",
        "\x1b[1t",
        "\x1b[2t",
        "\x1b[3;0;0t",
        "\x1b[8;1;1t",
        "\x1b[9;1t",
        "\x1b[11t",
        "\x1b[>2t",
        "\x05",
        "\x1b[i",
        "\x1b[5i",
        "\x1b[?5i",
        "\x1b[4i",
        "\x1b[?2;1;0S",
        "\x1b[1;1;1;1;5;5*y",
        "\x1b[201~",
        "\x1b[200~",
        "\x1b[1$w",
        "\x1b[x",
        "\x1b[=c",
        "\x1b[62;0\"p",
        "\x1b[12;3]",
        "\x1b[?2l",
        "\x1b[?38h",
        "\x1b[?1001h",
        "\x1b[1;1;1;1;1T",
        "\x1b%@",
        "\x1b G",
        "\x1bZ",
        "\x1bP$qm\x1b\\",
        "\x1bP+q544e\x1b\\",
        "\x1bPtmux;\x1b\x1b[6n\x1b\\",
        "\x1bP1000p\x1b\\",
        "\x1bP0;1|17/41\x1b\\",
        "\x1bPq#0~-\x1b\\",
        "\x1bP0p\x1b\\",
        "\x1b_Gf=100,t=f;L2V0Yw==\x1b\\",
        "\x1b^x\x1b\\",
        "\x1bXx\x1b\\",
        "\x1bktitle\x1b\\",
        "**\x18",
        "\x01",
    ] {
        let out = filtered(attack.as_bytes());
        let harmless: &[&[u8]] = &[b"", b"**", b"\x1b[6n"];
        assert!(harmless.contains(&out.as_slice()), "{} became {}", show(attack.as_bytes()), show(&out));
    }
}

#[test]
fn ordinary_text_is_unchanged() {
    for text in ["", "plain", "tab\tnewline\r\nbell\x07back\x08", "naïve “text” 漢字 😀 é \u{a0}\u{7ff}\u{10ffff}"]
    {
        passes(text.as_bytes());
        same_however_cut(text.as_bytes());
    }
    let long: Vec<u8> = "0123456789 abcdef\n".bytes().cycle().take(200_000).collect();
    let mut filter = Filter::new(Charset::Utf8);
    let mut scratch = Vec::new();
    let out = filter.run(&long, &mut scratch);
    assert!(std::ptr::eq(out, long.as_slice()), "plain text was copied");
}

#[test]
fn captures_of_real_programs_are_unchanged() {
    let region = "\x1b7\x1b[r\x1b8";
    // The last column: what they leave changed, which the end of the stream puts back.
    let captures: [(&str, &[u8], &str); 6] = [
        ("less", include_bytes!("captures/less.bin"), "\x1b[m"),
        ("vim", include_bytes!("captures/vim.bin"), region),
        ("vim-tiny", include_bytes!("captures/vim-tiny.bin"), region),
        ("tmux", include_bytes!("captures/tmux.bin"), region),
        ("bash", include_bytes!("captures/bash.bin"), ""),
        ("linux-console-vim", include_bytes!("captures/linux-console-vim.bin"), region),
    ];
    for (name, capture, left) in captures {
        // Vim asks for terminfo entries by DCS and tries a sequence that no terminal knows.
        let expected = without(&without(capture, b"\x1bP", b"\x1b\\"), b"\x1b[0%", b"m");
        assert!(capture.len() > 100, "{name} is empty");
        let out = filtered(capture);
        let differ = out.iter().zip(&expected).position(|(a, b)| a != b).unwrap_or(out.len().min(expected.len()));
        assert_eq!(show(&out[differ..]), show(&expected[differ..]), "{name} from byte {differ}");
        same_however_cut(capture);
        assert_eq!(show(&ending(capture)), show(left.as_bytes()), "{name}");
    }
}

/// The bytes without every stretch from `start` to the next `end`.
fn without(bytes: &[u8], start: &[u8], end: &[u8]) -> Vec<u8> {
    let find = |hay: &[u8], needle: &[u8]| hay.windows(needle.len()).position(|window| window == needle);
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(at) = find(rest, start) {
        out.extend_from_slice(&rest[..at]);
        let after = find(&rest[at..], end).map_or(rest.len(), |length| at + length + end.len());
        rest = &rest[after..];
    }
    out.extend_from_slice(rest);
    out
}

#[test]
fn eight_bit_controls_are_neutralised() {
    for byte in 0x80u8..0xa0 {
        becomes(&[byte, b'5', b'i'], "\u{fffd}5i".as_bytes());
        becomes(&[0xc2, byte, b'5', b'i'], "\u{fffd}5i".as_bytes());
        // An overlong form of the same number.
        becomes(&[0xe0, 0x82, byte], "\u{fffd}\u{fffd}\u{fffd}".as_bytes());
        same_however_cut(&[b'a', 0xc2, byte, b'b', 0xe2, byte, b'c', 0xf0, 0x9f, byte]);
    }
    // As continuation bytes they are text.
    passes("\u{6c9b}\u{25db}\u{2580}".as_bytes());
    for invalid in [&b"\xff"[..], b"\xc0\x9b", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xc3"] {
        let out = filtered(&[invalid, b"x"].concat());
        assert_eq!(String::from_utf8(out).expect("valid UTF-8"), String::from_utf8_lossy(&[invalid, b"x"].concat()));
    }
}

#[test]
fn a_terminal_of_one_byte_per_character_gets_no_controls_either() {
    let mut out = Vec::new();
    Filter::new(Charset::EightBit).push(b"caf\xe9 \x9b5i \xe6\xb2\x9b \x1b]2;t\x9b\xe9\x07", &mut out);
    assert_eq!(show(&out), show(b"caf\xe9 ?5i \xe6\xb2? \x1b]2;t\xe9\x07"));
    for (locale, charset) in [
        ("", Charset::Utf8),
        ("C", Charset::Utf8),
        ("C.UTF-8", Charset::Utf8),
        ("de_DE.utf8", Charset::Utf8),
        ("de_DE.UTF-8@x", Charset::Utf8),
        ("de_DE.ISO-8859-1", Charset::EightBit),
        ("de_DE@euro", Charset::EightBit),
        ("ru_RU.KOI8-R", Charset::EightBit),
    ] {
        assert_eq!(Charset::of_locale(locale), charset, "{locale}");
    }
}

#[test]
fn titles_lose_controls_and_are_short() {
    becomes("\x1b]2;a\u{9b}b\u{85}c\x07".as_bytes(), b"\x1b]2;abc\x07");
    dropped(b"\x1b]2;a\nb\x07");
    let title = |n: usize| format!("\x1b]0;{}\x07", "é".repeat(n)).into_bytes();
    becomes(&title(300), &title(255));
    passes(&title(255));
}

#[test]
fn links_go_to_the_web_only() {
    for uri in ["http://a/", "https://a/b?c#d", "HTTPS://a/", "mailto:a@b", ""] {
        passes(format!("\x1b]8;;{uri}\x1b\\").as_bytes());
        passes(format!("\x1b]8;id=a-1:x=y;{uri}\x07").as_bytes());
    }
    for uri in [
        "file:///etc/passwd",
        "vscode://x",
        "javascript:x",
        "data:x",
        "ssh://x",
        "x",
        "//a",
        "https://a b",
        "https://é",
    ] {
        dropped(format!("\x1b]8;;{uri}\x1b\\").as_bytes());
    }
    assert_eq!(show(&ending(b"\x1b]8;;https://a/\x07text")), show(b"\x1b]8;;\x1b\\"));
    assert_eq!(show(&ending(b"\x1b]8;;https://a/\x07text\x1b]8;;\x07")), "");
}

#[test]
fn values_that_do_not_fit_are_dropped() {
    for bad in [
        "\x1b]52\x07",
        "\x1b]052;c;aGk=\x07",
        "\x1b]00052;c;aGk=\x07",
        "\x1b];x\x07",
        "\x1b]x\x07",
        "\x1b]2\x07",
        "\x1b]l;x\x07",
        "\x1b]9;done\x07",
        "\x1b]9;4;1;1000\x07",
        "\x1b]9;4;1;50;x\x07",
        "\x1b]9;1;50\x07",
        "\x1b]10;?;?;?\x07",
        "\x1b]4;1\x07",
        "\x1b]4;?;?\x07",
        "\x1b]11;a\u{e9}\x07",
        "\x1b]104;x\x07",
        "\x1b]110;1\x07",
        "\x1b[100000b",
        "\x1b[1;99999999999999999999H",
        "\x1b[1;2;3;4;5T",
        "\x1b[1 2m",
        "\x1b[1?2h",
        "\x1b[?h",
        "\x1b[8;10;10t",
        "\x1b[1n",
        "\x1b[?15n",
        "\x1b[1c",
    ] {
        dropped(bad.as_bytes());
    }
    for good in
        ["\x1b[9999;9999H", "\x1b[65535b", "\x1b[38:2::1:2:3m", "\x1b]4;1;?;2;?\x07", "\x1b]104\x07", "\x1b]9;4;3\x07"]
    {
        passes(good.as_bytes());
    }
    becomes(b"\x1b[?25;2;1049;38h", b"\x1b[?25;1049h");
}

#[test]
fn a_sequence_inside_another_does_not_slip_through() {
    dropped(b"\x1bPtmux;\x1b\x1b]52;c;aGk=\x07\x1b\\");
    dropped(b"\x1b]0;a\x1b]52;c;aGk=\x07");
    becomes(b"\x1b[1\x1b[5i\x1b[2\x1b[m", b"\x1b[m");
    becomes(b"\x1b]0;a\x1b[31m", b"\x1b[31m");
    becomes(b"\x1b[3\x181m", b"1m");
    becomes(b"\x1b]52;c;\x1aaGk=", b"aGk=");
    becomes(b"\x1b[3\n1m", b"\n\x1b[31m");
    becomes(b"\x1b[5\xc2\x9bi", "\u{fffd}i".as_bytes());
    // The palette command of the Linux console has no end; text after it stays.
    dropped(b"\x1b]P0ffffff");
    dropped(b"\x1b]R");
    becomes(b"\x1b]P0fftext", b"text");
}

#[test]
fn a_long_or_unfinished_sequence_costs_little_and_does_not_reach_the_terminal() {
    for start in ["\x1b]0;", "\x1b]52;c;", "\x1bP", "\x1b_G", "\x1b["] {
        let mut filter = Filter::new(Charset::Utf8);
        let mut out = Vec::new();
        filter.push(start.as_bytes(), &mut out);
        for _ in 0..1000 {
            filter.push(&[b'1'; 10_000], &mut out);
        }
        assert_eq!(show(&out), "", "{start:?}");
        filter.push(b"\x1b\\text", &mut out);
        assert_eq!(show(&out), "text", "{start:?}");
    }
    let fits = format!("\x1b]8;;https://a/{}\x07", "x".repeat(PENDING_MAX - 20)).into_bytes();
    passes(&fits);
    dropped(format!("\x1b]8;;https://a/{}\x07", "x".repeat(PENDING_MAX)).as_bytes());
    for unfinished in ["\x1b", "\x1b[", "\x1b[?", "\x1b]0;x", "\x1b]0;x\x1b", "\x1bPx", "\x1b_x", "\x1b(", "\x1b]P12"] {
        assert_eq!(show(&filtered(unfinished.as_bytes())), "");
        assert_eq!(show(&ending(unfinished.as_bytes())), "");
    }
    assert_eq!(ending(b"\xe2\x82"), "\u{fffd}".as_bytes());
}

#[test]
fn what_a_program_left_changed_is_put_back() {
    for (left, back) in [
        ("\x1b[?1049h", "\x1b[?1049l"),
        ("\x1b[?2004h\x1b[?1004h", "\x1b[?1004l\x1b[?2004l"),
        ("\x1b[?1000;1002;1006h", "\x1b[?1000l\x1b[?1002l\x1b[?1006l"),
        ("\x1b[?25l", "\x1b[?25h"),
        ("\x1b[?7l", "\x1b[?7h"),
        ("\x1b[1;31m", "\x1b[m"),
        ("\x1b[5;10r", "\x1b7\x1b[r\x1b8"),
        ("\x1b[4h\x1b[20h", "\x1b[4l\x1b[20l"),
        ("\x1b=\x1b(0\x0e", "\x1b>\x1b(B\x0f"),
        ("\x1b[>1u\x1b[>3u", "\x1b[<2u"),
        ("\x1b[>1u\x1b[<u", ""),
        ("\x1b[>1u\x1b[?1049h\x1b[>1u", "\x1b[<1u\x1b[?1049l\x1b[<1u"),
        ("\x1b[=5u", "\x1b[=0;1u"),
        ("\x1b[>4;2m", "\x1b[>4m"),
        ("\x1b[4 q", "\x1b[0 q"),
        ("\x1b]10;red\x07\x1b]4;1;red\x07", "\x1b]104\x1b\\\x1b]110\x1b\\"),
        ("\x1b]12;red\x07\x1b]112\x07", ""),
        ("\x1b]9;4;1;5\x07", "\x1b]9;4;0\x1b\\"),
        ("\x1b[?1049h\x1b[1m\x1b[?25l\x1bc", ""),
        ("text \x1b[31mred\x1b[0m\r\n", ""),
    ] {
        assert_eq!(show(&ending(left.as_bytes())), show(back.as_bytes()), "after {}", show(left.as_bytes()));
    }
}

#[test]
fn questions_are_counted() {
    let asked = |input: &[u8]| {
        let mut filter = Filter::new(Charset::Utf8);
        filter.push(input, &mut Vec::new());
        filter.modes().queries()
    };
    assert_eq!(asked(b"\x1b[c\x1b[>c\x1b[6n\x1b]11;?\x07\x1b[?u\x1b[18t\x1b[?2026$p"), 7);
    assert_eq!(asked(b"text\x1b[m\x1b]11;red\x07\x1b[21t\x1b[22;0t\x05"), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever the bytes and however cut: the same output, valid UTF-8, no forbidden byte, and filtering what came
    /// out once more changes nothing (so the output holds complete, permitted sequences only).
    #[test]
    fn output_is_safe_and_independent_of_cuts(
        parts in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..8),
                proptest::sample::select(examples()).prop_map(|(bytes, _)| bytes),
                proptest::sample::select(vec![
                    &b"\x1b"[..], b"\x1b[", b"\x1b]", b"\x1bP", b"\x9b", b"\xc2\x9d", b"\x1b\\", b"\x07", b"52;c;aGk=", b"?", b"1;2", b"h", b"\xe2\x82",
                ]).prop_map(<[u8]>::to_vec),
            ],
            0..12,
        ),
        cuts in proptest::collection::vec(1usize..9, 0..60),
    ) {
        let input = parts.concat();
        let whole = filtered(&input);
        let mut filter = Filter::new(Charset::Utf8);
        let (mut out, mut scratch, mut at) = (Vec::new(), Vec::new(), 0);
        for cut in cuts {
            let end = (at + cut).min(input.len());
            out.extend_from_slice(filter.run(&input[at..end], &mut scratch));
            at = end;
        }
        out.extend_from_slice(filter.run(&input[at..], &mut scratch));
        prop_assert_eq!(show(&out), show(&whole));
        prop_assert!(std::str::from_utf8(&whole).is_ok());
        prop_assert!(!whole.iter().any(|b| C0_DROP.iter().any(|(drop, _)| drop == b)));
        prop_assert_eq!(show(&filtered(&whole)), show(&whole));
    }
}
