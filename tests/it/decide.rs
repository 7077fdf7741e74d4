//! What the rules say about a connection, step by step.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use jail::policy::decide::{Decision, Layer, Verb, Verdict};
use jail::policy::egress::{DEFAULT_PORTS, EgressPolicy, GitAccess, Methods, Ports, Rule, Tunnel};
use jail::policy::host::{Host, HostPattern};
use jail::policy::reason::Reason;
use jail::policy::remedy::remedy;
use jail::policy::{Origin, Source, Sourced};
use proptest::prelude::*;

fn sourced(rule: Rule, line: usize) -> Sourced<Rule> {
    Sourced::new(rule, Source { origin: Origin::User, file: Some("policy.toml".into()), line, column: 1 })
}

/// `HOST[:PORTS] [raw|read]` as a rule of `[[allow]]`.
fn allow(text: &str) -> Rule {
    let (target, kind) = text.split_once(' ').unwrap_or((text, ""));
    let (host, ports) = match target.rsplit_once(':').filter(|(_, ports)| !ports.ends_with(']')) {
        Some((host, ports)) => (host, ports.split(',').map(|port| port.parse().unwrap()).collect()),
        None => (target, BTreeSet::from(DEFAULT_PORTS)),
    };
    let mut rule = Rule::tunnel(HostPattern::parse(host).unwrap(), Ports::Only(ports));
    match kind {
        "raw" => rule.tunnel = Tunnel::Raw,
        "read" => (rule.tunnel, rule.methods) = (Tunnel::No, Methods::safe()),
        _ => {}
    }
    rule
}

/// A rule of `[[deny]]` or `[[ask]]`.
fn refuse(text: &str) -> Rule {
    let (host, ports) = match text.rsplit_once(':').filter(|(_, ports)| !ports.ends_with(']')) {
        Some((host, ports)) => (host, Ports::Only([ports.parse().unwrap()].into())),
        None => (text, Ports::Any),
    };
    let mut rule = Rule::tunnel(HostPattern::parse_for_deny(host).unwrap(), ports);
    rule.tunnel = Tunnel::No;
    rule
}

fn policy(allowed: &[&str], ask: &[&str], deny: &[&str]) -> EgressPolicy {
    let list = |texts: &[&str], make: fn(&str) -> Rule| {
        texts.iter().enumerate().map(|(index, text)| sourced(make(text), index + 1)).collect()
    };
    EgressPolicy { allow: list(allowed, allow), ask: list(ask, refuse), deny: list(deny, refuse) }
}

fn host(text: &str) -> Host {
    Host::parse(text).unwrap()
}

fn decide<'a>(policy: &'a EgressPolicy, text: &str, port: u16, layer: Layer<'_>) -> Decision<'a> {
    policy.decide(&host(text), port, layer)
}

fn address<'a>(policy: &'a EgressPolicy, text: &str, port: u16, address: &str) -> Decision<'a> {
    let host = host(text);
    policy.decide_address(policy.decide(&host, port, Layer::Unknown), &host, port, address.parse().unwrap())
}

const GET: Layer<'static> = Layer::Http { method: "GET" };
const POST: Layer<'static> = Layer::Http { method: "POST" };

#[test]
fn px_001_nothing_is_allowed_by_an_empty_list() {
    for policy in [policy(&[], &[], &[]), policy(&[], &["a.example.com"], &["b.example.com"])] {
        for layer in [Layer::Unknown, Layer::Tls, GET, Layer::Raw] {
            for (name, reason) in [("c.example.com", Reason::HostNotAllowed), ("8.8.8.8", Reason::AddressNotAllowed)] {
                let decision = decide(&policy, name, 443, layer);
                assert_eq!((decision.verdict, decision.reason, decision.rule), (Verdict::Deny, reason, None));
            }
        }
    }
    assert_eq!(policy(&[], &[], &[]), EgressPolicy::default());
}

#[test]
fn deny_beats_ask_beats_allow() {
    let all = policy(&[".example.com"], &["*.example.com"], &["a.example.com"]);
    let cases = [
        ("a.example.com", Verdict::Deny, Reason::DeniedByRule, Verb::Deny),
        ("b.example.com", Verdict::Ask, Reason::AskUnanswered, Verb::Ask),
        ("example.com", Verdict::Allow, Reason::Allowed, Verb::Allow),
        ("b.c.example.com", Verdict::Allow, Reason::Allowed, Verb::Allow),
    ];
    for (name, verdict, reason, verb) in cases {
        for layer in [Layer::Unknown, Layer::Tls, GET, POST] {
            let decision = decide(&all, name, 443, layer);
            assert_eq!((decision.verdict, decision.reason), (verdict, reason), "{name} {layer:?}");
            assert_eq!(decision.rule.unwrap().verb, verb, "{name}");
            assert_eq!(decision.allows(), verdict == Verdict::Allow);
        }
    }
    // Whatever the order of the lists' rules.
    let swapped = policy(&["b.example.com", "a.example.com"], &[], &["b.example.com"]);
    assert_eq!(decide(&swapped, "b.example.com", 443, Layer::Tls).verdict, Verdict::Deny);
    assert_eq!(decide(&swapped, "a.example.com", 443, Layer::Tls).verdict, Verdict::Allow);
}

/// No server name is an address, so what cannot be compared is not said to be allowed.
#[test]
fn tls_to_an_address_needs_a_rule_for_any_bytes() {
    let address = Host::parse("192.0.2.7").unwrap();
    let named = policy(&["192.0.2.7"], &[], &[]);
    let decision = named.decide(&address, 443, Layer::Tls);
    assert_eq!((decision.verdict, decision.reason), (Verdict::Deny, Reason::SniMissing));
    assert!(named.decide(&address, 443, POST).allows());
    let proposed = remedy(decision.reason, &address, 443, Layer::Tls).unwrap();
    assert_eq!(proposed.rule, "[[allow]]\nhost = \"192.0.2.7\"\nports = [443]\ntunnel = \"raw\"\n");
}

#[test]
fn nt_010_only_the_ports_of_the_rule() {
    let policy = policy(&["a.example.com", "b.example.com:8443,22"], &[], &["a.example.com:80", "b.example.com:22"]);
    for (name, port, verdict, reason) in [
        ("a.example.com", 443, Verdict::Allow, Reason::Allowed),
        ("a.example.com", 80, Verdict::Deny, Reason::DeniedByRule),
        ("a.example.com", 22, Verdict::Deny, Reason::PortNotAllowed),
        ("a.example.com", 0, Verdict::Deny, Reason::PortNotAllowed),
        ("a.example.com", 65535, Verdict::Deny, Reason::PortNotAllowed),
        ("b.example.com", 8443, Verdict::Allow, Reason::Allowed),
        ("b.example.com", 443, Verdict::Deny, Reason::PortNotAllowed),
        ("b.example.com", 22, Verdict::Deny, Reason::DeniedByRule),
        ("c.example.com", 443, Verdict::Deny, Reason::HostNotAllowed),
    ] {
        let decision = decide(&policy, name, port, Layer::Unknown);
        assert_eq!((decision.verdict, decision.reason), (verdict, reason), "{name}:{port}");
    }
    // The rule that comes closest is named.
    assert_eq!(decide(&policy, "b.example.com", 443, Layer::Tls).rule.unwrap().index, 1);
}

#[test]
fn px_011_a_rule_s_kind_says_which_bytes_pass() {
    let policy = policy(&["named.example.com", "raw.example.com:22 raw", "read.example.com read"], &[], &[]);
    let cases = [
        ("named.example.com", 443, Layer::Tls, Reason::Allowed),
        ("named.example.com", 80, POST, Reason::Allowed),
        ("named.example.com", 443, GET, Reason::Allowed),
        ("named.example.com", 443, Layer::Raw, Reason::NotTls),
        ("raw.example.com", 22, Layer::Raw, Reason::Allowed),
        ("raw.example.com", 22, Layer::Tls, Reason::Allowed),
        ("raw.example.com", 22, POST, Reason::Allowed),
        ("read.example.com", 80, GET, Reason::Allowed),
        ("read.example.com", 80, Layer::Http { method: "HEAD" }, Reason::Allowed),
        ("read.example.com", 80, Layer::Http { method: "OPTIONS" }, Reason::Allowed),
        ("read.example.com", 80, POST, Reason::MethodNotAllowed),
        ("read.example.com", 80, Layer::Http { method: "get" }, Reason::MethodNotAllowed),
        ("read.example.com", 443, Layer::Tls, Reason::NeedsInspection),
        ("read.example.com", 443, Layer::Raw, Reason::NotTls),
        ("read.example.com", 443, Layer::Unknown, Reason::Allowed),
    ];
    for (name, port, layer, reason) in cases {
        let decision = decide(&policy, name, port, layer);
        assert_eq!(decision.reason, reason, "{name}:{port} {layer:?}");
        assert_eq!(decision.allows(), reason == Reason::Allowed);
    }
    for (name, port, raw) in [("raw.example.com", 22, true), ("named.example.com", 443, false)] {
        assert_eq!(decide(&policy, name, port, Layer::Unknown).is_raw(), raw, "{name}");
    }
}

#[test]
fn rules_that_look_inside_allow_nothing_and_deny_everything() {
    let inspecting: [fn(&mut Rule); 2] =
        [|rule| rule.paths.push("/a/**".into()), |rule| rule.git = Some(GitAccess::Fetch)];
    for inspect in inspecting {
        let mut policy = policy(&["a.example.com", "b.example.com"], &[], &["b.example.com"]);
        inspect(&mut policy.allow[0].value);
        inspect(&mut policy.deny[0].value);
        for layer in [Layer::Unknown, Layer::Tls, GET] {
            assert_eq!(decide(&policy, "a.example.com", 443, layer).reason, Reason::NeedsInspection);
            assert_eq!(decide(&policy, "b.example.com", 443, layer).reason, Reason::DeniedByRule);
        }
    }
}

#[test]
fn several_rules_that_allow_add_up() {
    let policy = policy(&["a.example.com read", ".example.com", "a.example.com:443 raw"], &[], &[]);
    assert_eq!(decide(&policy, "a.example.com", 443, Layer::Tls).rule.unwrap().index, 2);
    assert_eq!(decide(&policy, "a.example.com", 80, POST).rule.unwrap().index, 1);
    assert!(decide(&policy, "a.example.com", 443, Layer::Unknown).is_raw());
    assert!(!decide(&policy, "a.example.com", 80, Layer::Unknown).is_raw());
    assert_eq!(decide(&policy, "a.example.com", 443, Layer::Tls).rule.unwrap().source().line, 3);
}

#[test]
fn dn_001_names_are_looked_up_only_where_a_rule_may_allow_them() {
    let policy = policy(
        &["a.example.com:22 raw", "*.b.example.com", "d.example.com"],
        &["d.example.com"],
        &["x.b.example.com", "a.example.com:443"],
    );
    for (name, allowed) in [
        ("a.example.com", true),
        ("y.b.example.com", true),
        ("x.b.example.com", false),
        ("secret.y.b.example.com", false),
        ("b.example.com", false),
        ("d.example.com", false),
        ("secret.a.example.com", false),
        ("evil.test", false),
    ] {
        assert_eq!(policy.decide_name(&host(name)).allows(), allowed, "{name}");
    }
}

#[test]
fn nt_004_addresses_need_a_rule_with_exactly_that_address() {
    let policy = policy(&["127.0.0.1:5432 raw", ".example.com", "[2001:db8::1]"], &[], &["[2001:db8::1]:80"]);
    for (text, port, reason) in [
        ("127.0.0.1", 5432, Reason::Allowed),
        ("[::ffff:127.0.0.1]", 5432, Reason::Allowed),
        ("127.0.0.1", 22, Reason::PortNotAllowed),
        ("127.0.0.2", 5432, Reason::AddressNotAllowed),
        ("10.0.0.1", 443, Reason::AddressNotAllowed),
        ("[::1]", 5432, Reason::AddressNotAllowed),
        ("[2001:db8:0::1]", 443, Reason::Allowed),
        ("[2001:db8::1]", 80, Reason::DeniedByRule),
        ("[2001:db8::2]", 443, Reason::AddressNotAllowed),
    ] {
        assert_eq!(
            decide(&policy, text, port, Layer::Raw).reason.code().replace("not_tls", "allowed"),
            reason.code(),
            "{text}:{port}"
        );
    }
    // The exact rule also lifts the guard for that address, and for nothing else.
    assert!(address(&policy, "127.0.0.1", 5432, "127.0.0.1").allows());
    assert!(address(&policy, "127.0.0.1", 5432, "::ffff:127.0.0.1").allows());
    assert_eq!(address(&policy, "127.0.0.1", 5432, "127.0.0.2").reason, Reason::AddressNotPublic);
}

#[test]
fn dn_003_a_name_leads_to_public_addresses_only() {
    let policy = policy(&["a.example.com", "{b.example.com,10.0.0.5}"], &[], &["9.9.9.9", "[2606:4700::9]:443"]);
    for (target, reason) in [
        ("8.8.8.8", Reason::Allowed),
        ("::ffff:8.8.8.8", Reason::Allowed),
        ("2606:4700:4700::1111", Reason::Allowed),
        ("127.0.0.1", Reason::AddressNotPublic),
        ("::ffff:127.0.0.1", Reason::AddressNotPublic),
        ("64:ff9b::10.0.0.1", Reason::AddressNotPublic),
        ("192.168.1.1", Reason::AddressNotPublic),
        ("198.18.0.1", Reason::AddressNotPublic),
        ("fe80::1", Reason::AddressNotPublic),
        ("169.254.169.254", Reason::MetadataAddress),
        ("168.63.129.16", Reason::MetadataAddress),
        ("::ffff:169.254.169.254", Reason::MetadataAddress),
        ("9.9.9.9", Reason::DeniedByRule),
        ("::ffff:9.9.9.9", Reason::DeniedByRule),
        ("2606:4700::9", Reason::DeniedByRule),
    ] {
        assert_eq!(address(&policy, "a.example.com", 443, target).reason, reason, "{target}");
    }
    assert!(address(&policy, "a.example.com", 80, "2606:4700::9").allows(), "denied on another port only");
    // A rule that also names an address does not lend it to its names.
    assert_eq!(address(&policy, "b.example.com", 443, "10.0.0.5").reason, Reason::AddressNotPublic);
    assert!(address(&policy, "10.0.0.5", 443, "10.0.0.5").allows());
    // What was refused stays refused, whatever the address.
    assert_eq!(address(&policy, "c.example.com", 443, "8.8.8.8").reason, Reason::HostNotAllowed);
}

#[test]
fn nt_005_metadata_services_only_by_a_pin() {
    let mut policy = policy(&["169.254.169.254:80", ".google.internal:80", "imds.example.com:80"], &[], &[]);
    policy.allow[2].value.resolve = vec!["169.254.169.254".parse().unwrap()];
    assert_eq!(decide(&policy, "169.254.169.254", 80, GET).reason, Reason::MetadataAddress);
    assert_eq!(decide(&policy, "[::ffff:169.254.169.254]", 80, GET).reason, Reason::MetadataAddress);
    assert_eq!(decide(&policy, "[fd00:ec2::254]", 80, GET).reason, Reason::MetadataAddress);
    assert_eq!(address(&policy, "metadata.google.internal", 80, "169.254.169.254").reason, Reason::MetadataAddress);
    assert!(address(&policy, "imds.example.com", 80, "169.254.169.254").allows());
    assert_eq!(address(&policy, "imds.example.com", 80, "169.254.170.2").reason, Reason::AddressNotPublic);
}

#[test]
fn a_pin_lifts_the_guard_for_exactly_its_name_and_addresses() {
    let mut policy = policy(&["db.example.com:5432 raw", ".example.com", "db.example.com:5432"], &[], &["10.0.0.9"]);
    let pins: Vec<IpAddr> = ["10.0.0.7", "10.0.0.9"].map(|pin| pin.parse().unwrap()).into();
    policy.allow[0].value.resolve = pins.clone();
    // A rule with addresses decides, although a later one fits too.
    assert_eq!(decide(&policy, "db.example.com", 5432, Layer::Raw).pins(), pins);
    assert_eq!(decide(&policy, "db.example.com", 5432, Layer::Unknown).pins(), pins);
    assert!(decide(&policy, "db.example.com", 443, Layer::Tls).pins().is_empty(), "pinned on its own ports");
    assert!(decide(&policy, "x.example.com", 443, Layer::Tls).pins().is_empty());
    assert!(address(&policy, "db.example.com", 5432, "10.0.0.7").allows());
    for (name, port, target, reason) in [
        ("db.example.com", 5432, "10.0.0.8", Reason::AddressNotPublic),
        ("db.example.com", 5432, "8.8.8.8", Reason::AddressNotPublic),
        ("db.example.com", 5432, "10.0.0.9", Reason::DeniedByRule),
        ("db.example.com", 443, "10.0.0.7", Reason::AddressNotPublic),
        ("x.example.com", 443, "10.0.0.7", Reason::AddressNotPublic),
    ] {
        assert_eq!(address(&policy, name, port, target).reason, reason, "{name}:{port} at {target}");
    }
}

#[test]
fn reasons_have_codes_and_words() {
    let codes: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    assert_eq!(codes.len(), Reason::ALL.len(), "a code is used twice");
    for reason in Reason::ALL {
        let (code, sentence, hint) = (reason.code(), reason.sentence(), reason.hint());
        assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{code}");
        for text in [sentence, hint] {
            assert!(!text.is_empty() && !text.ends_with('.') && !text.contains('\n'), "{code}: {text}");
            assert!(text.starts_with(|c: char| c.is_lowercase()), "{code}: {text}");
        }
        assert_eq!(serde_json::to_string(&reason).unwrap(), format!("{code:?}"));
    }
}

/// Names below three domains, so that patterns and hosts meet often.
fn name() -> impl Strategy<Value = String> {
    let label = prop_oneof![Just("a"), Just("b"), Just("xn--bcher-kva")];
    (prop::collection::vec(label, 0..3), prop_oneof![Just("example.com"), Just("test.example.com"), Just("b-c.org")])
        .prop_map(|(labels, base)| labels.iter().map(|label| format!("{label}.")).collect::<String>() + base)
}

fn pattern() -> impl Strategy<Value = String> {
    (prop_oneof![Just(""), Just("*."), Just("**."), Just(".")], name())
        .prop_map(|(prefix, name)| prefix.to_owned() + &name)
}

/// Other ways to write a name: in capitals, with a final dot, in its own script.
fn spellings(name: &str) -> Vec<String> {
    let capital: String =
        name.char_indices().map(|(at, c)| if at % 2 == 0 { c.to_ascii_uppercase() } else { c }).collect();
    let mut all = vec![name.to_uppercase(), format!("{name}."), capital.clone(), format!("{capital}.")];
    if name.contains("xn--bcher-kva") {
        all.push(name.replace("xn--bcher-kva", "bücher"));
        all.push(name.replace("xn--bcher-kva", "BÜCHER"));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn px_005_spellings_of_one_name_decide_the_same(
        name in name(),
        allowed in prop::collection::vec(pattern(), 0..4),
        denied in prop::collection::vec(pattern(), 0..3),
        port in prop_oneof![Just(443u16), Just(80), Just(22)],
    ) {
        let texts = |list: &[String]| list.to_vec();
        let plain = policy(
            &texts(&allowed).iter().map(String::as_str).collect::<Vec<_>>(),
            &[],
            &denied.iter().map(String::as_str).collect::<Vec<_>>(),
        );
        let expected = decide(&plain, &name, port, Layer::Tls);
        for spelling in spellings(&name) {
            let decision = decide(&plain, &spelling, port, Layer::Tls);
            prop_assert_eq!((decision.verdict, decision.reason), (expected.verdict, expected.reason), "{}", spelling);
        }
        // The same with the rules written in capitals.
        let loud = |list: &[String]| list.iter().map(|text| text.to_uppercase()).collect::<Vec<_>>();
        let (allowed, denied) = (loud(&allowed), loud(&denied));
        let other = policy(
            &allowed.iter().map(String::as_str).collect::<Vec<_>>(),
            &[],
            &denied.iter().map(String::as_str).collect::<Vec<_>>(),
        );
        let decision = decide(&other, &name, port, Layer::Tls);
        prop_assert_eq!((decision.verdict, decision.reason), (expected.verdict, expected.reason));
    }

    #[test]
    fn one_more_deny_or_ask_never_opens_and_one_more_allow_never_closes(
        name in name(),
        allowed in prop::collection::vec(pattern(), 0..4),
        denied in prop::collection::vec(pattern(), 0..3),
        more in pattern(),
        port in prop_oneof![Just(443u16), Just(80), Just(22)],
    ) {
        let strs = |list: &[String]| list.to_vec();
        let build = |allowed: &[String], ask: &[String], denied: &[String]| {
            let refs = |list: &[String]| list.iter().map(|text| text.to_owned()).collect::<Vec<_>>();
            let (a, b, c) = (refs(allowed), refs(ask), refs(denied));
            policy(
                &a.iter().map(String::as_str).collect::<Vec<_>>(),
                &b.iter().map(String::as_str).collect::<Vec<_>>(),
                &c.iter().map(String::as_str).collect::<Vec<_>>(),
            )
        };
        let answer = |policy: &EgressPolicy| decide(policy, &name, port, Layer::Tls).allows();
        let before = answer(&build(&allowed, &[], &denied));
        let mut longer = strs(&denied);
        longer.push(more.clone());
        prop_assert!(before || !answer(&build(&allowed, &[], &longer)));
        prop_assert!(before || !answer(&build(&allowed, std::slice::from_ref(&more), &denied)));
        let mut wider = strs(&allowed);
        wider.push(more.clone());
        prop_assert!(!before || answer(&build(&wider, &[], &denied)));
    }
}
