//! Where a run may go, from policy files and flags to the answers of `jail explain` and `jail plan`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use jail::cli::reach::{self, Target};
use jail::config::check::Ground;
use jail::config::profiles::{BUILTIN, Kind};
use jail::config::trust::TrustStore;
use jail::config::{Flags, GrantState};
use jail::plan::network::NetworkPlan;
use jail::policy::decide::Layer;
use jail::policy::egress::EgressPolicy;
use jail::policy::host::Host;
use jail::policy::reason::Reason;

use crate::config::{World, refused};

fn reason(egress: &EgressPolicy, host: &str, port: u16) -> Reason {
    egress.decide(&Host::parse(host).unwrap(), port, Layer::Tls).reason
}

fn reaches(egress: &EgressPolicy, host: &str, port: u16) -> bool {
    // Plain HTTP: an address is no server name, so TLS to one needs more than the usual rule.
    egress.decide(&Host::parse(host).unwrap(), port, Layer::Http { method: "GET" }).allows()
}

#[test]
fn px_001_nothing_is_reached_unless_a_policy_says_so() {
    for text in ["", "# nothing\n", "[limits]\nconnections = 5\n", "[[deny]]\nhost = \"a.example.com\"\n"] {
        let egress = World::new().user(text).loaded().policy.egress;
        assert!(egress.allow.is_empty(), "{text}");
        for host in ["a.example.com", "b.example.com", "index.crates.io", "registry.npmjs.org", "8.8.8.8"] {
            assert!(!reaches(&egress, host, 443), "{host} with {text:?}");
        }
    }
    for text in ["allow = []\n", "ask = []\ndeny = []\n"] {
        assert!(World::new().user(text).loaded().policy.egress.allow.is_empty(), "{text}");
    }
    for text in ["alow = []\n", "[[alow]]\nhost = \"a.example.com\"\n", "[[allow]]\nhosts = \"a.example.com\"\n"] {
        World::new().user(text).load().unwrap_err();
    }
}

#[test]
fn registries_come_with_a_tool_chain_that_is_named() {
    let cases = [
        ("rust", &["index.crates.io", "static.crates.io"][..], &["crates.io", "a.static.crates.io"][..]),
        ("node", &["registry.npmjs.org", "registry.yarnpkg.com"], &["npmjs.org", "www.npmjs.com"]),
        ("python", &["pypi.org", "files.pythonhosted.org"], &["upload.pypi.org", "test.pypi.org", "pythonhosted.org"]),
        ("go", &["proxy.golang.org", "sum.golang.org"], &["golang.org", "storage.googleapis.com", "github.com"]),
        ("java", &["repo1.maven.org", "repo.maven.apache.org", "plugins.gradle.org"], &["central.sonatype.com"]),
    ];
    for (name, hosts, others) in cases {
        let mut by_flag = World::new();
        by_flag.flags.profiles = vec![name.to_owned()];
        let by_file = World::new().user(&format!("extends = [{name:?}]\n"));
        let by_administrator = World::new().system(&format!("extends = [{name:?}]\n"));
        let by_own = World::new().user("extends = [\"mine\"]\n");
        by_own.write(&by_own.own_config().join("profiles/mine.toml"), format!("extends = [{name:?}]\n"));
        let nobody = World::new().loaded().policy.egress;
        for world in [by_flag, by_file, by_administrator, by_own] {
            let policy = world.loaded().policy;
            for host in hosts {
                assert!(reaches(&policy.egress, host, 443), "{name} does not reach {host}");
                assert_eq!(reason(&policy.egress, host, 80), Reason::PortNotAllowed);
                assert!(!reaches(&nobody, host, 443), "{host} is reached by everyone");
            }
            for host in others {
                assert!(!reaches(&policy.egress, host, 443), "{name} reaches {host}");
            }
            assert!(
                policy.egress.allow.iter().all(|rule| rule.source.to_string().starts_with(&format!("profile {name}:")))
            );
        }
    }
}

#[test]
fn a_project_opens_no_registry_by_itself() {
    let world = World::new().project("extends = [\"rust\"]\n");
    let loaded = world.loaded();
    assert!(loaded.policy.egress.allow.is_empty());
    let asked: Vec<_> = loaded.pending.iter().map(|grant| (grant.key, &*grant.value, grant.state)).collect();
    assert_eq!(asked, [("extends", "rust", GrantState::Pending)]);
    TrustStore::load(&world.own_state()).unwrap().record(&world.workspace(), &loaded.project.unwrap().sha256).unwrap();
    let loaded = world.loaded();
    assert!(reaches(&loaded.policy.egress, "index.crates.io", 443) && loaded.pending.is_empty());
    // Where the user named it already, nothing is asked.
    let world = World::new().user("extends = [\"rust\"]\n").project("extends = [\"rust\"]\n");
    assert!(world.loaded().pending.is_empty());
}

/// Hosts that answer DNS over HTTPS: with one of them a jail would resolve whatever it likes.
const DOH: &[&str] = &[
    "dns.google",
    "8.8.8.8",
    "1.1.1.1",
    "one.one.one.one",
    "cloudflare-dns.com",
    "mozilla.cloudflare-dns.com",
    "chrome.cloudflare-dns.com",
    "dns.quad9.net",
    "doh.opendns.com",
    "dns.nextdns.io",
    "dns.adguard-dns.com",
    "doh.cleanbrowsing.org",
    "dns.alidns.com",
    "doh.pub",
];

#[test]
fn dn_005_no_profile_reaches_a_resolver() {
    for profile in BUILTIN {
        let mut world = World::new();
        world.command = if profile.kind == Kind::Agent { profile.name.into() } else { "true".into() };
        world.flags.profiles = vec![profile.name.into()];
        let egress = world.loaded().policy.egress;
        for host in DOH {
            assert!(!reaches(&egress, host, 443) && !reaches(&egress, host, 853), "{} reaches {host}", profile.name);
        }
    }
}

#[test]
fn nt_010_a_flag_names_a_host_and_perhaps_a_port() {
    let allowed = |text: &str| {
        let mut world = World::new();
        world.flags = Flags { allow: vec![text.into()], ..Flags::default() };
        world.load().map(|loaded| loaded.policy.egress)
    };
    for (text, host, ports) in [
        ("a.example.com", "a.example.com", &[443, 80][..]),
        ("A.Example.COM", "a.example.com", &[443, 80]),
        ("a.example.com:8443", "a.example.com", &[8443]),
        ("*.example.com:22", "x.example.com", &[22]),
        ("192.0.2.7:5432", "192.0.2.7", &[5432]),
        ("10.0.0.5", "10.0.0.5", &[443, 80]),
        ("[2001:db8::1]", "[2001:db8::1]", &[443, 80]),
        ("[2001:db8::1]:8443", "[2001:db8::1]", &[8443]),
    ] {
        let egress = allowed(text).unwrap();
        for port in [443, 80, 22, 8443, 5432] {
            assert_eq!(reaches(&egress, host, port), ports.contains(&port), "{text}: {host}:{port}");
        }
        assert_eq!(egress.allow[0].source.to_string(), "--allow");
    }
    for text in [
        "",
        ":443",
        "a.example.com:",
        "a.example.com:0",
        "a.example.com:65536",
        "a.example.com:+443",
        "a.example.com:00443",
        "a.example.com:443:443",
        "a.example.com: 443",
        "a.example.com:https",
        "https://a.example.com",
        "a.example.com/x",
        "user@a.example.com",
        "2001:db8::1",
        "[2001:db8::1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "*",
        "*.com",
        ".github.io",
        "169.254.169.254",
        "[fd00:ec2::254]:80",
        "0.0.0.0",
        "224.0.0.1",
        "::ffff:127.0.0.1",
        "10.0.0.0/8",
    ] {
        let error = allowed(text).unwrap_err().to_string();
        assert!(error.starts_with("--allow: "), "{text:?}: {error}");
    }
}

#[test]
fn nt_004_a_project_never_opens_the_user_s_own_networks() {
    let inward = "[[allow]]\nhost = \"10.0.0.5\"\ntunnel = true\n\
        [[allow]]\nhost = \"127.0.0.1\"\nports = [5432]\ntunnel = \"raw\"\n\
        [[allow]]\nhost = \"{a.example.com,192.168.1.1}\"\ntunnel = true\n\
        [[allow]]\nhost = \"db.example.com\"\nresolve = [\"10.0.0.7\"]\ntunnel = true\n\
        [[allow]]\nhost = \"imds.example.com\"\nresolve = [\"169.254.169.254\"]\ntunnel = true\n\
        [[allow]]\nhost = \"b.example.com\"\nports = [22]\ntunnel = \"raw\"\n";
    let world = World::new().project(inward);
    let loaded = world.loaded();
    assert!(loaded.policy.egress.allow.is_empty());
    TrustStore::load(&world.own_state()).unwrap().record(&world.workspace(), &loaded.project.unwrap().sha256).unwrap();
    let loaded = world.loaded();
    let granted: Vec<String> = loaded.policy.egress.allow.iter().map(|rule| rule.value.to_string()).collect();
    assert_eq!(granted, ["b.example.com:22 (any bytes)"]);
    assert_eq!(loaded.pending.iter().filter(|grant| grant.state == GrantState::Never).count(), 5);
    // The user's own file may.
    assert_eq!(World::new().user(inward).loaded().policy.egress.allow.len(), 6);
}

#[test]
fn the_administrator_s_deny_stays() {
    let mut world = World::new()
        .system("[[deny]]\nhost = \".example.com\"\n[limits]\nconnections = 10\n")
        .user("[[allow]]\nhost = \"a.example.com\"\ntunnel = true\n[limits]\nconnections = 5000\n");
    world.flags.allow = vec!["a.example.com:22".into()];
    let policy = world.loaded().policy;
    for port in [443, 22] {
        assert_eq!(reason(&policy.egress, "a.example.com", port), Reason::DeniedByRule);
    }
    assert_eq!(policy.limits.connections(), 10);
}

#[test]
fn a_project_s_limits_only_shrink() {
    let world = World::new().project("[limits]\nconnections = 9000\nconnect_time = \"1m\"\nidle_time = \"1m\"\n");
    let loaded = world.loaded();
    let limits = &loaded.policy.limits;
    assert_eq!((limits.connections(), limits.connect_time().as_secs(), limits.idle_time().as_secs()), (4096, 10, 60));
    assert_eq!(loaded.pending.len(), 2);
}

#[test]
fn the_default_profile_says_the_program_s_own_bounds() {
    let limits = World::new().loaded().policy.limits;
    let own = jail::policy::LimitsPolicy::default();
    assert_eq!(
        (limits.connections(), limits.connect_time(), limits.idle_time()),
        (own.connections(), own.connect_time(), own.idle_time())
    );
    assert!(limits.connections.is_some() && limits.connect_time.is_some() && limits.idle_time.is_some());
}

#[test]
fn dn_002_a_pattern_over_names_of_strangers_is_reported() {
    let rule = |host: &str| format!("[[allow]]\nhost = \"{host}\"\ntunnel = true\n");
    for (host, domain) in [
        (".amazonaws.com", Some("amazonaws.com")),
        ("*.azure.com", Some("azure.com")),
        ("**.github.com", Some("github.com")),
        ("{a.example.com,.atlassian.net}", Some("atlassian.net")),
        (".windows.net", Some("queue.core.windows.net")),
        ("bucket.s3.amazonaws.com", None),
        (".bucket.s3.amazonaws.com", None),
        ("api.github.com", None),
        ("*.api.github.com", None),
        (".example.com", None),
    ] {
        let world = World::new().user(&rule(host));
        let expected: Vec<String> = domain
            .map(|domain| {
                format!(
                    "{}:2: {host:?} covers names below {domain} that anyone can have; allow your own names there instead",
                    world.user_file().display()
                )
            })
            .into_iter()
            .collect();
        assert_eq!(world.loaded().warnings, expected, "{host}");
    }
    // What the public suffix list knows is refused.
    for host in ["*.github.io", ".workers.dev", "**.s3.amazonaws.com", ".ngrok.io", ".co.uk", ".vercel.app"] {
        let world = World::new().user(&rule(host));
        let known = refused(&world).contains("covers the public suffix");
        assert!(known, "{host}");
    }
    let mut world = World::new();
    world.flags.allow = vec![".amazonaws.com".into()];
    assert!(world.loaded().warnings[0].starts_with("--allow: "));
}

#[test]
fn a_rule_that_reads_plain_http_only_is_reported() {
    let world = World::new().user("[[allow]]\nhost = \"a.example.com\"\n");
    assert_eq!(
        world.loaded().warnings,
        [format!(
            "{}:2: without `tunnel = true` the rule for \"a.example.com\" covers plain HTTP only, and TLS is refused",
            world.user_file().display()
        )]
    );
}

const POLICY: &str = "[[allow]]
host = \"a.example.com\"
tunnel = true
[[allow]]
host = \"db.example.com\"
ports = [5432]
tunnel = \"raw\"
resolve = [\"10.0.0.7\"]
[[allow]]
host = \"read.example.com\"
[[deny]]
host = \".railway.app\"
[[ask]]
host = \"pay.example.com\"
[[allow]]
host = \"build.test\"
tunnel = true
";

fn explained(text: &str) -> Option<String> {
    let world = World::new().user(POLICY);
    let places = world.places();
    let ground = Ground::new(&places.home, &places.config_home, &places.state_home);
    let egress = world.loaded().policy.egress;
    let target = Target::parse(text, &egress, &world.workspace()).map_err(|error| error.to_string());
    let answer = reach::explain(&target.unwrap()?, &egress, &ground).text();
    Some(answer.replace(&world.user_file().display().to_string(), "policy.toml"))
}

#[test]
fn explain_names_the_rule_and_the_shortest_change() {
    let public = "note: what DNS says must be public addresses; `resolve` names others\n";
    let cases = [
        (
            "https://a.example.com/x?token=secret",
            format!("https://a.example.com: allowed\nreason: the policy allows it (allowed)\nrule: policy.toml:2\n{public}"),
        ),
        (
            "db.example.com:5432",
            "db.example.com:5432: allowed\nreason: the policy allows it (allowed)\nrule: policy.toml:5\n\
             note: the name leads to 10.0.0.7, whatever DNS says\n"
                .to_owned(),
        ),
        (
            "other.example.com",
            "other.example.com: refused\nreason: no rule of the policy allows this host (host_not_allowed)\n\
             rule: none; what no rule allows is refused\n\
             hint: --allow other.example.com, or in your own policy:\n\n    \
             [[allow]]\n    host = \"other.example.com\"\n    tunnel = true\n"
                .to_owned(),
        ),
        (
            "ssh://a.example.com",
            "ssh://a.example.com: refused\nreason: the policy allows this host on other ports only (port_not_allowed)\n\
             rule: policy.toml:2\nhint: in your own policy:\n\n    \
             [[allow]]\n    host = \"a.example.com\"\n    ports = [22]\n    tunnel = \"raw\"\n"
                .to_owned(),
        ),
        (
            "a.example.com:8443",
            "a.example.com:8443: refused\nreason: the policy allows this host on other ports only (port_not_allowed)\n\
             rule: policy.toml:2\nhint: --allow a.example.com:8443, or in your own policy:\n\n    \
             [[allow]]\n    host = \"a.example.com\"\n    ports = [8443]\n    tunnel = true\n"
                .to_owned(),
        ),
        (
            "read.example.com",
            "read.example.com: refused\n\
             reason: the rule allows some requests only, and which ones cannot be seen in TLS (needs_inspection)\n\
             rule: policy.toml:10\nhint: --allow read.example.com, or in your own policy:\n\n    \
             [[allow]]\n    host = \"read.example.com\"\n    tunnel = true\n"
                .to_owned(),
        ),
        (
            "http://read.example.com/a",
            format!("http://read.example.com: allowed\nreason: the policy allows it (allowed)\nrule: policy.toml:10\n{public}"),
        ),
        (
            "backboard.railway.app",
            "backboard.railway.app: refused\nreason: a rule of the policy denies it (denied_by_rule)\n\
             rule: policy.toml:12\nnote: no [[allow]] is stronger than that rule\n"
                .to_owned(),
        ),
        (
            "https://pay.example.com/",
            "https://pay.example.com: refused\n\
             reason: the policy wants a person to be asked, which this version cannot do (ask_unanswered)\n\
             rule: policy.toml:14\nnote: no [[allow]] is stronger than that rule\n"
                .to_owned(),
        ),
        (
            "index.crates.io",
            "index.crates.io: refused\nreason: no rule of the policy allows this host (host_not_allowed)\n\
             rule: none; what no rule allows is refused\n\
             hint: --profile rust, or extends = [\"rust\"] in your own policy\n\
             hint: --allow index.crates.io, or in your own policy:\n\n    \
             [[allow]]\n    host = \"index.crates.io\"\n    tunnel = true\n"
                .to_owned(),
        ),
        (
            "10.0.0.5:5432",
            "10.0.0.5:5432: refused\n\
             reason: addresses are allowed only one by one, and no rule names this one (address_not_allowed)\n\
             rule: none; what no rule allows is refused\nnote: the address is one of a private network\n\
             hint: in your own policy:\n\n    \
             [[allow]]\n    host = \"10.0.0.5\"\n    ports = [5432]\n    tunnel = \"raw\"\n"
                .to_owned(),
        ),
        (
            "http://169.254.169.254/latest/meta-data/",
            "http://169.254.169.254: refused\n\
             reason: the address is a cloud's metadata service, which hands out the machine's credentials (metadata_address)\n\
             rule: none; what no rule allows is refused\n\
             note: the address is a cloud's metadata service, which hands out the machine's credentials\n"
                .to_owned(),
        ),
    ];
    for (text, expected) in &cases {
        assert_eq!(&explained(text).unwrap(), expected, "{text}");
    }
}

#[test]
fn what_explain_proposes_allows_it() {
    for text in [
        "https://other.example.com",
        "other.example.com:8443",
        "http://other.example.com",
        "ssh://other.example.com",
        "redis://other.example.com",
        "read.example.com",
        "https://10.0.0.5",
        "[2001:db8::1]:8443",
    ] {
        let before = World::new().user(POLICY);
        let egress = before.loaded().policy.egress;
        let target = Target::parse(text, &egress, &before.workspace()).unwrap().unwrap();
        let answer = explained(text).unwrap();
        assert!(answer.contains(": refused\n"), "{answer}");
        let rule: String =
            answer.lines().filter_map(|line| Some(line.strip_prefix("    ")?.to_owned() + "\n")).collect();
        let places = before.places();
        let ground = Ground::new(&places.home, &places.config_home, &places.state_home);
        let after = World::new().user(&format!("{POLICY}{rule}")).loaded().policy.egress;
        assert!(reach::explain(&target, &after, &ground).text().contains(": allowed\n"), "{text}: {rule}");
        let Some(flag) = answer.split("--allow ").nth(1) else { continue };
        let mut world = World::new().user(POLICY);
        world.flags.allow = vec![flag.split(',').next().unwrap().to_owned()];
        let after = world.loaded().policy.egress;
        assert!(reach::explain(&target, &after, &ground).text().contains(": allowed\n"), "{text}: --allow {flag}");
    }
}

#[test]
fn explain_tells_hosts_from_paths() {
    let world = World::new().user(POLICY);
    world.write(&world.workspace().join("setup.py"), "").write(&world.workspace().join("main.rs"), "");
    let egress = world.loaded().policy.egress;
    let parse = |text: &str| Target::parse(text, &egress, &world.workspace());
    for host in [
        "a.example.com",
        "a.example.com:22",
        "https://localhost:3000/x",
        "localhost",
        "10.0.0.1",
        "[::1]:80",
        "build.test",
        "lib.rs",
        "other.test:443",
        "ws://x.test",
    ] {
        assert!(parse(host).unwrap().is_some(), "{host} is a host");
    }
    for path in [
        "src/main.rs",
        "./a.example.com",
        ".env",
        "/etc/passwd",
        "~/x",
        "main.rs",
        "setup.py",
        "Makefile",
        "a b.txt",
        "missing.txt",
        "other.test",
        "a.example.com/x",
        "",
    ] {
        assert!(parse(path).unwrap().is_none(), "{path} is a path");
    }
    for (text, message) in [
        (
            "https://user@a.example.com",
            "\"https://user@a.example.com\": host \"user@a.example.com\" contains '@'; user information is refused",
        ),
        ("https://a.example.com:0/", "\"https://a.example.com:0/\": \"a.example.com:0\" is not HOST or HOST:PORT"),
        ("https://127.1/", "\"https://127.1/\": host \"127.1\" is not a valid name: an address has four decimal parts"),
        ("gopher://a.example.com", "\"gopher://a.example.com\": the scheme's port is not known"),
        ("https:///x", "\"https:///x\": a host name is empty"),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), message);
    }
}

#[test]
fn a_plan_and_the_line_at_the_start_say_where_it_may_go() {
    let world = World::new().user(POLICY);
    let egress = world.loaded().policy.egress;
    let open = NetworkPlan::for_policy(&egress);
    let list = reach::list(&egress, &open).replace(&world.user_file().display().to_string(), "policy.toml");
    assert_eq!(
        list,
        "\nreachable: 4\n  allow    a.example.com  (policy.toml:2)\n  \
         allow    db.example.com:5432 (any bytes) at 10.0.0.7  (policy.toml:5)\n  \
         allow    read.example.com (reading over plain HTTP)  (policy.toml:10)\n  \
         allow    build.test  (policy.toml:16)\n  \
         ask      pay.example.com  (policy.toml:14)\n  deny     .railway.app  (policy.toml:12)\n"
    );
    assert_eq!(reach::summary(&egress, &open), "reaches a.example.com and 3 more");
    assert_eq!(
        reach::brief(&egress, &open),
        "These hosts can be reached, and no others: a.example.com, db.example.com:5432 (any bytes), \
         read.example.com (reading over plain HTTP), build.test."
    );
    let nothing = EgressPolicy::default();
    assert_eq!(reach::summary(&nothing, &open), "reaches no host");
    assert_eq!(reach::brief(&nothing, &open), "No host can be reached: every connection out is refused.");
    let closed = NetworkPlan::closed();
    assert_eq!(reach::summary(&egress, &closed), "no network");
    assert_eq!(reach::list(&egress, &closed), "");
    assert_eq!(reach::brief(&egress, &closed), "There is no network: every connection is refused.");
}
