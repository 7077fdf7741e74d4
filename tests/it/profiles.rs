//! The built-in profiles: each loads, and none gives more than it says.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Parser;
use jail::cli::profile::ProfileArgs;
use jail::config::profiles::{BUILTIN, Builtin, Kind};
use jail::policy::egress::{Methods, Ports, Tunnel};
use jail::policy::environment::{is_dangerous, looks_secret};
use jail::policy::host::Host;
use jail::policy::{Origin, Policy};

use crate::config::World;

fn of_kind(kind: Kind) -> impl Iterator<Item = &'static Builtin> {
    BUILTIN.iter().filter(move |profile| profile.kind == kind)
}

fn policy(command: &str, profiles: &[&str]) -> (PathBuf, Policy) {
    let mut world = World::new();
    world.command = command.into();
    world.flags.profiles = profiles.iter().map(|name| (*name).to_owned()).collect();
    (world.home(), world.loaded().policy)
}

/// Files and directories in a home that hold logins or keys.
const SECRETS: &[&str] = &[
    ".ssh",
    ".aws/credentials",
    ".gnupg",
    ".netrc",
    ".git-credentials",
    ".gitconfig",
    ".config/git",
    ".config/gh",
    ".config/hub",
    ".config/glab-cli",
    ".docker/config.json",
    ".kube",
    ".config/gcloud",
    ".azure",
    ".cargo/credentials.toml",
    ".cargo/credentials",
    ".cargo/config.toml",
    ".npmrc",
    ".yarnrc",
    ".yarnrc.yml",
    ".config/pnpm/rc",
    ".bunfig.toml",
    ".pypirc",
    ".config/pip",
    ".config/uv",
    ".config/pypoetry",
    ".m2/settings.xml",
    ".m2/settings-security.xml",
    ".gradle/gradle.properties",
    ".gradle/init.d",
    ".ivy2/.credentials",
    ".sbt/credentials",
    ".conan2/.conan.db",
    ".conan2/credentials.json",
    ".config/go/env",
    ".terraform.d/credentials.tfrc.json",
    ".config/op",
    ".password-store",
    ".local/share/keyrings",
    ".mozilla",
    ".config/google-chrome",
    ".config/chromium",
    ".bash_history",
    ".zsh_history",
    ".bashrc",
    ".profile",
    ".config/systemd",
    ".config/autostart",
    ".railway",
    ".config/hcloud",
    ".fly",
    ".vault-token",
    ".pgpass",
    ".my.cnf",
    ".config/rclone",
    ".gem/credentials",
    ".config/containers/auth.json",
    ".config/jail",
    ".local/state/jail",
    ".local/share/fonts/x",
    ".config/Code",
    ".vscode-server",
    ".continuum",
    ".npm/_logs",
    ".config/op/config",
];

#[test]
fn no_profile_shows_a_secret() {
    for profile in BUILTIN {
        let command = if profile.kind == Kind::Agent { profile.name } else { "true" };
        let extra: &[&str] = if profile.kind == Kind::Agent { &[] } else { &[profile.name] };
        let (home, policy) = policy(command, extra);
        let granted: Vec<&PathBuf> =
            policy.filesystem.read.iter().chain(&policy.filesystem.write).map(|entry| &entry.value).collect();
        for secret in SECRETS {
            let secret = home.join(secret);
            for path in &granted {
                assert!(!secret.starts_with(path), "{}: {} shows {}", profile.name, path.display(), secret.display());
                assert!(!path.starts_with(&secret), "{}: {} is in {}", profile.name, path.display(), secret.display());
            }
        }
        for entry in &policy.environment.pass {
            let name = entry.value.trim_end_matches('*');
            assert!(!looks_secret(name) && !is_dangerous(name), "{} passes {}", profile.name, entry.value);
        }
    }
}

#[test]
fn only_agents_write_and_only_agents_and_tool_chains_reach_hosts() {
    for profile in BUILTIN.iter().filter(|profile| profile.kind != Kind::Agent) {
        let (_, policy) = policy("true", &[profile.name]);
        assert!(policy.filesystem.write.is_empty(), "{}", profile.name);
        assert!(profile.kind == Kind::Tools || policy.egress.allow.is_empty(), "{}", profile.name);
        assert!(policy.egress.ask.is_empty() && policy.egress.deny.is_empty(), "{}", profile.name);
        for rule in policy.egress.allow.iter().map(|rule| &rule.value) {
            assert_eq!((rule.tunnel, &rule.ports), (Tunnel::Named, &Ports::Only([443].into())), "{}", profile.name);
            assert!(rule.host.hosting().is_none() && rule.resolve.is_empty(), "{}: {}", profile.name, rule.host);
        }
    }
}

/// For each agent: words that mark its own places, hosts it may reach, and hosts that it may not.
fn agents() -> BTreeMap<&'static str, (&'static [&'static str], &'static [&'static str])> {
    BTreeMap::from([
        ("aider", (&["aider"][..], &[][..])),
        ("amp", (&["amp"], &["ampcode.com", "api.ampcode.com"])),
        ("claude", (&["claude"], &["api.anthropic.com", "platform.claude.com", "claude.ai", "claude.com"])),
        ("codex", (&["codex"], &["api.openai.com", "chatgpt.com", "auth.openai.com"])),
        (
            "copilot",
            (
                &["copilot"],
                &[
                    "api.githubcopilot.com",
                    "api.individual.githubcopilot.com",
                    "copilot-proxy.githubusercontent.com",
                    "api.github.com",
                ],
            ),
        ),
        ("crush", (&["crush", ".config/agents"], &["catwalk.charm.sh", "catwalk.charm.land"])),
        ("cursor-agent", (&["cursor"], &["api2.cursor.sh", "agent.api5.cursor.sh", "cursor.com"])),
        (
            "gemini",
            (
                &["gemini"],
                &[
                    "generativelanguage.googleapis.com",
                    "cloudcode-pa.googleapis.com",
                    "oauth2.googleapis.com",
                    "accounts.google.com",
                ],
            ),
        ),
        ("goose", (&["goose"], &[])),
        ("opencode", (&["opencode"], &["models.dev", "models.opencode.ai", "opencode.ai"])),
        (
            "qwen",
            (&["qwen"], &["chat.qwen.ai", "portal.qwen.ai", "dashscope.aliyuncs.com", "dashscope-intl.aliyuncs.com"]),
        ),
    ])
}

const NEVER: &[&str] = &[
    "example.com",
    "github.com.evil.org",
    "github.com",
    "raw.githubusercontent.com",
    "registry.npmjs.org",
    "gist.github.com",
    "uploads.github.com",
    "statsig.anthropic.com",
    "sentry.io",
    "api.railway.app",
    "backboard.railway.app",
    "storage.googleapis.com",
    "play.googleapis.com",
    "www.googleapis.com",
    "s3.amazonaws.com",
    "gist.githubusercontent.com",
    "files.chatgpt.com",
];

#[test]
fn an_agent_s_profile_adds_its_own_places_and_hosts_and_nothing_else() {
    let agents = agents();
    assert_eq!(
        of_kind(Kind::Agent).map(|profile| profile.name).collect::<Vec<_>>(),
        agents.keys().copied().collect::<Vec<_>>()
    );
    let (_, base) = policy("true", &[]);
    for (name, (words, hosts)) in agents {
        let (home, policy) = policy(name, &[]);
        let own = |origin: &Origin| *origin == Origin::Profile(name.to_owned());
        assert!(policy.profiles.contains(&name.to_owned()), "{name} was not chosen");
        for entry in
            policy.filesystem.read.iter().chain(&policy.filesystem.write).filter(|entry| own(&entry.source.origin))
        {
            let place = entry
                .value
                .strip_prefix(&home)
                .unwrap_or_else(|_| panic!("{name}: {} is outside of the home", entry.value.display()));
            let place = place.to_str().unwrap();
            let marked = place.split('/').any(|part| words.iter().any(|word| part.contains(word)))
                || words.iter().any(|word| place.starts_with(word));
            assert!(marked, "{name}: {place} is not its own");
        }
        let others = |list: &[jail::policy::Sourced<PathBuf>]| {
            list.iter()
                .filter(|entry| !own(&entry.source.origin))
                .map(|entry| entry.value.strip_prefix(&home).unwrap_or(&entry.value).to_owned())
                .collect::<Vec<_>>()
        };
        assert!(others(&policy.filesystem.write).is_empty());
        assert_eq!(
            others(&policy.filesystem.read).len(),
            base.filesystem.read.len(),
            "{name} changes what is readable"
        );
        assert_eq!(policy.workspace.mode.value, base.workspace.mode.value);
        assert_eq!(policy.secrets.scan.value, base.secrets.scan.value);
        assert_eq!(policy.limits, base.limits, "{name} changes the limits");
        assert_eq!(policy.environment.pass, base.environment.pass, "{name} passes more variables");
        assert!(
            policy
                .environment
                .set
                .keys()
                .all(|key| !is_dangerous(key) && !looks_secret(key) && key != "PATH" && key != "HOME")
        );
        assert!(
            policy.filesystem.reveal.is_empty()
                && policy.filesystem.unprotect.is_empty()
                && policy.filesystem.cache.is_empty()
        );

        let reaches =
            |host: &str| policy.egress.allow.iter().any(|rule| rule.value.host.matches(&Host::parse(host).unwrap()));
        for host in hosts {
            assert!(reaches(host), "{name} does not reach {host}");
        }
        assert!(hosts.is_empty() == policy.egress.allow.is_empty(), "{name}");
        for host in NEVER {
            assert!(!reaches(host), "{name} reaches {host}");
        }
        for rule in policy.egress.allow.iter().map(|rule| &rule.value) {
            assert!(rule.resolve.is_empty() && rule.ca.is_none(), "{name}");
            assert!(rule.ports.contains(443) && !rule.ports.contains(80) && !rule.ports.contains(22), "{name}");
            assert_eq!((rule.tunnel, &rule.methods), (Tunnel::Named, &Methods::Any), "{name}: {}", rule.host);
            assert!(!rule.inspects(), "{name}: {} is not enforced yet", rule.host);
            // Where everyone has a place, only what the agent cannot do without.
            let everyone_s = ["github.com", "api.github.com", "raw.githubusercontent.com", "gist.github.com"]
                .iter()
                .any(|host| rule.host.matches(&Host::parse(host).unwrap()));
            assert!(
                !everyone_s || (name, rule.host.as_str()) == ("copilot", "api.github.com"),
                "{name}: {}",
                rule.host
            );
        }
    }
}

#[test]
fn what_the_host_runs_stays_read_only_in_an_agent_s_state() {
    for (name, places) in [
        (
            "claude",
            &[".claude/settings.json", ".claude/hooks", ".claude/commands", ".claude/plugins", ".claude/skills"][..],
        ),
        ("codex", &[".codex/config.toml", ".codex/AGENTS.md"]),
        (
            "cursor-agent",
            &[".cursor/mcp.json", ".cursor/hooks.json", ".cursor/extensions", ".local/share/cursor-agent"],
        ),
        ("gemini", &[".gemini/settings.json", ".gemini/extensions", ".gemini/.env"]),
        ("qwen", &[".qwen/settings.json", ".qwen/extensions"]),
        ("copilot", &[".copilot/mcp-config.json", ".copilot/hooks"]),
        ("goose", &[".config/goose/config.yaml"]),
        ("opencode", &[".config/opencode"]),
        ("crush", &[".config/crush"]),
        ("amp", &[".config/amp"]),
    ] {
        let (home, policy) = policy(name, &[]);
        for place in places {
            let place = home.join(place);
            let covering = |list: &[jail::policy::Sourced<PathBuf>]| {
                list.iter()
                    .filter(|entry| place.starts_with(&entry.value))
                    .map(|entry| entry.value.components().count())
                    .max()
                    .unwrap_or(0)
            };
            assert!(
                covering(&policy.filesystem.read) > covering(&policy.filesystem.write),
                "{name}: {} is writable",
                place.display()
            );
        }
    }
}

#[test]
fn every_entry_says_why_it_is_there() {
    for profile in BUILTIN {
        let mut explained = false;
        for (number, line) in profile.text.lines().enumerate() {
            let line = line.trim();
            assert!(line.chars().count() <= 150, "{}:{}: long", profile.name, number + 1);
            // A comment speaks for the lines that follow it, up to the next blank line.
            explained = !line.is_empty() && (explained || line.contains('#'));
            assert!(!line.starts_with('"') || explained, "{}:{}: {line} has no comment", profile.name, number + 1);
        }
        assert!(profile.text.starts_with("# "), "{}", profile.name);
    }
}

/// The default profile takes what stands before the rules of a tool chain's profile.
#[test]
fn a_tool_chain_s_rules_stand_at_the_end_of_its_profile() {
    for profile in of_kind(Kind::Tools) {
        let (before, rules) = profile.text.split_once("\n[[allow]]").unwrap_or((profile.text, ""));
        let tables =
            |text: &str| text.lines().filter(|line| line.starts_with('[')).map(str::to_owned).collect::<Vec<_>>();
        assert!(tables(rules).iter().all(|table| table == "[[allow]]"), "{}: {:?}", profile.name, tables(rules));
        assert!(!tables(before).iter().any(|table| table.starts_with("[[")), "{}", profile.name);
    }
}

#[test]
fn the_tool_chains_are_found_without_configuration() {
    let (home, policy) = policy("true", &[]);
    for place in [".cargo/bin", ".rustup", ".nvm", ".pyenv", "go/bin", ".sdkman/candidates", ".local/bin"] {
        assert!(policy.filesystem.read.iter().any(|entry| entry.value == home.join(place)), "{place}");
    }
    for name in ["PATH", "TERM", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "SHELL", "EDITOR", "COLORTERM"] {
        assert!(policy.environment.passes(name), "{name}");
    }
    assert_eq!(policy.limits.processes.unwrap().value, 4096);
}

#[derive(Parser)]
struct Profile {
    #[command(flatten)]
    args: ProfileArgs,
}

fn profile(world: &World, args: &[&str]) -> Result<String, String> {
    let args = Profile::parse_from([&["profile"], args].concat()).args;
    let mut out = Vec::new();
    jail::cli::profile::run(&args, &world.places(), &mut out)
        .map_err(|error| format!("{error} ({})", error.hint_text().unwrap_or_default()))?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn profiles_are_listed_and_shown() {
    let world = World::new();
    world.write(&world.own_config().join("profiles/mine.toml"), "# Mine.\nextends = [\"ci\"]\n");
    let list = profile(&world, &["list"]).unwrap();
    assert_eq!(list.lines().count(), BUILTIN.len() + 1);
    assert!(list.lines().last().unwrap().split_whitespace().eq(["mine", "yours", "Mine."]), "{list}");
    let json: serde_json::Value = serde_json::from_str(&profile(&world, &["list", "--json"]).unwrap()).unwrap();
    assert_eq!(json.as_array().unwrap().len(), BUILTIN.len() + 1);

    let shown = profile(&world, &["show", "mine"]).unwrap();
    assert!(shown.starts_with("## profiles/ci.toml\n") && shown.trim_end().ends_with("extends = [\"ci\"]"), "{shown}");
    let json: serde_json::Value =
        serde_json::from_str(&profile(&world, &["show", "claude", "--json"]).unwrap()).unwrap();
    assert_eq!(json["profiles"], serde_json::json!(["claude"]));
    assert_eq!(json["egress"]["allow"][0]["value"]["host"], "api.anthropic.com");
    assert_eq!(
        profile(&world, &["show", "cluade"]).unwrap_err(),
        "unknown profile \"cluade\" (did you mean \"claude\"?)"
    );
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles").read_dir().unwrap().count() == BUILTIN.len());
}
