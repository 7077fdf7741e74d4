//! Host names and patterns: what they cover, and what is no host.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use jail::policy::host::{Host, HostPattern};

fn host(text: &str) -> Host {
    Host::parse(text).unwrap()
}

#[test]
fn host_patterns_cover_what_they_say() {
    let cases: [(&str, &[&str], &[&str]); 7] = [
        (
            "api.example.com",
            &["api.example.com", "API.Example.COM", "api.example.com."],
            &["example.com", "x.api.example.com", "api.example.com.evil.org"],
        ),
        ("*.example.com", &["a.example.com"], &["example.com", "a.b.example.com", "aexample.com"]),
        ("**.example.com", &["a.example.com", "a.b.example.com"], &["example.com", "aexample.com"]),
        (
            ".example.com",
            &["example.com", "a.example.com", "a.b.example.com"],
            &["aexample.com", "example.com.evil.org"],
        ),
        (
            "backboard.railway.{app,com}",
            &["backboard.railway.app", "backboard.railway.com"],
            &["backboard.railway.org", "railway.app"],
        ),
        ("bücher.example.com", &["xn--bcher-kva.example.com", "BÜCHER.example.com"], &["bucher.example.com"]),
        ("{a,b}.{c,d}.example.com", &["a.c.example.com", "b.d.example.com"], &["a.b.example.com"]),
    ];
    for (pattern, covered, not) in cases {
        let pattern = HostPattern::parse(pattern).unwrap();
        for name in covered {
            assert!(pattern.matches(&host(name)), "{pattern} should cover {name}");
        }
        for name in not {
            assert!(!pattern.matches(&host(name)), "{pattern} should not cover {name}");
        }
    }
    assert!(HostPattern::parse("192.0.2.7").unwrap().matches(&host("192.0.2.7")));
    assert!(HostPattern::parse("[2001:db8::1]").unwrap().matches(&host("[2001:db8:0:0::1]")));
    assert!(!HostPattern::parse_for_deny(".com").unwrap().matches(&host("192.0.2.7")));
}

#[test]
fn what_parsers_read_differently_is_no_host() {
    let both = [
        "",
        "a\0.example.com",
        "a b.example.com",
        "a%2eexample.com",
        "user@example.com",
        "a\\example.com",
        "a/b",
        "a?b",
        "a#b",
        "a..example.com",
        "-a.example.com",
        "a-.example.com",
        "a:443",
        "a.example.com:443",
        "::1",
        "[::1",
        "[::1]x",
        "[fe80::1%eth0]",
        "127.1",
        "0x7f.0.0.1",
        "017700000001",
        "2130706433",
        "1.2.3.4.5",
        "1.2.3.256",
        "01.2.3.4",
        "a.0x1",
        "a\u{200b}.example.com\t",
        "xn--a.example.com",
        "a,b.example.com",
        "a}.example.com",
        "e\u{301}\u{0}.example.com",
        "a.example.com\n",
    ];
    for text in both {
        assert!(Host::parse(text).is_err(), "host {text:?} accepted as {:?}", Host::parse(text));
        assert!(HostPattern::parse(text).is_err(), "pattern {text:?} accepted");
    }
    for text in [
        "*",
        "**",
        "a*.example.com",
        "a.*.example.com",
        "*.*.example.com",
        "***.example.com",
        "*example.com",
        "{a.example.com",
        "{a,{b}}.example.com",
        "{,a}.example.com",
        "{a,a}.example.com",
        "a.example.com.",
        ".",
        "*.",
        "..example.com",
        "*.192.0.2.7",
        ".[::1]",
    ] {
        assert!(HostPattern::parse(text).is_err(), "pattern {text:?} accepted");
        assert!(HostPattern::parse_for_deny(text).is_err(), "deny pattern {text:?} accepted");
    }
    assert!(HostPattern::parse(&format!("{}.example.com", "a".repeat(64))).is_err());
    assert!(HostPattern::parse(&format!("{}.com", vec!["a"; 130].join("."))).is_err());
    let many = format!("{{{}}}.example.com", (0..65).map(|n| format!("a{n}")).collect::<Vec<_>>().join(","));
    assert!(HostPattern::parse(&many).is_err());
}

#[test]
fn nt_006_addresses_have_one_spelling() {
    for text in
        ["0", "127.1", "2130706433", "0x7f000001", "017700000001", "0x7f.1", "0300.0250.0.1", "127.0.0.1.", "[::1]."]
    {
        assert!(Host::parse(text).is_err(), "{text:?}: {:?}", Host::parse(text));
    }
    for text in ["①②⑦.⓪.⓪.①", "127。0。0。1", "１２７.0.0.1", "１２７.１", "127．0．0．1", "127｡0｡0｡1", "٣.0.0.1"]
    {
        assert!(Host::parse(text).is_err(), "{text:?}: {:?}", Host::parse(text));
    }
    assert_eq!(host("127.0.0.1").to_string(), "127.0.0.1");
    assert_eq!(host("0.0.0.0").to_string(), "0.0.0.0");
    assert_eq!(host("[::FFFF:127.0.0.1]"), host("127.0.0.1"), "what is dialled is the same");
}

#[test]
fn px_004_characters_that_stand_for_others_or_for_none_are_refused() {
    for text in [
        "ａｐｉ.example.com",
        "api。example.com",
        "api｡example.com",
        "api．example.com",
        "ex\u{200b}ample.com",
        "ex\u{2060}ample.com",
        "ex\u{ad}ample.com",
        "\u{feff}example.com",
        "ex\u{200d}ample.com",
        "℀.example.com",
        "ﬁle.example.com",
        "\u{202e}example.com",
        "example。com",
        "bücher。example.com",
    ] {
        assert!(Host::parse(text).is_err(), "{text:?}: {:?}", Host::parse(text));
        assert!(HostPattern::parse(text).is_err(), "pattern {text:?} accepted");
    }
}

#[test]
fn px_005_equivalent_spellings_are_one_name() {
    let names = ["bücher.example.com", "BÜCHER.example.com", "bu\u{308}cher.Example.com.", "xn--bcher-kva.example.com"];
    for text in names {
        assert_eq!(host(text), host("XN--BCHER-KVA.EXAMPLE.COM"), "{text}");
    }
    assert_eq!(host("EXAMPLE.com."), host("example.com"));
    assert_ne!(host("straße.example.com"), host("strasse.example.com"));
}

#[test]
fn names_on_the_wire_are_ascii() {
    assert_eq!(Host::from_wire(b"API.example.com.").unwrap(), host("api.example.com"));
    for bytes in
        [&b"b\xc3\xbccher.example.com"[..], b"\xff", b"\xef\xbb\xbfexample.com", b"", b"*.example.com", b"a\0b"]
    {
        assert!(Host::from_wire(bytes).is_err(), "{bytes:?}");
    }
    assert!(Host::from_wire(vec![b'a'; 100_000].as_slice()).unwrap_err().to_string().len() < 200);
}

#[test]
fn patterns_over_public_suffixes_are_for_denials_only() {
    for text in [
        "*.com",
        ".com",
        "**.co.uk",
        "*.github.io",
        ".github.io",
        "{*.example.com,*.org}",
        "*.s3.amazonaws.com",
        ".internal",
        "com",
        "*.xn--p1ai",
    ] {
        assert!(HostPattern::parse(text).is_err(), "{text} accepted");
        assert!(HostPattern::parse_for_deny(text).is_ok(), "{text} refused for a denial");
    }
    for text in ["*.example.com", "me.github.io", ".corp.internal", "localhost", "*.cursor.sh", "api.test"] {
        assert!(HostPattern::parse(text).is_ok(), "{text} refused");
    }
}
