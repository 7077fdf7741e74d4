//! What a project asks for, the user's agreement, and the policy that `jail init` writes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use clap::Parser;
use jail::cli::{init::InitArgs, trust::TrustArgs};
use jail::config::GrantState;
use jail::config::trust::TrustStore;
use jail::policy::ScanMode;

use crate::config::{World, refused};

#[derive(Parser)]
struct Trust {
    #[command(flatten)]
    args: TrustArgs,
}

#[derive(Parser)]
struct Init {
    #[command(flatten)]
    args: InitArgs,
}

const GREEDY: &str = "extends = [\"ci\"]\n[filesystem]\nread = [\"~/r\"]\nwrite = [\"~/w\"]\nreveal = [\"x.pem\"]\nunprotect = [\".git\"]\n\
    hide = [\"h\"]\n[secrets]\nscan = \"off\"\n[environment]\npass = [\"EXTRA\", \"TERM\"]\nset = { A = \"b\" }\n[limits]\nprocesses = 100000\n\
    [[allow]]\nhost = \"a.example.com\"\n[[allow]]\nhost = \"b.example.com\"\nresolve = [\"127.0.0.1\"]\n";

#[test]
fn what_a_project_grants_waits_for_agreement_or_is_never_given() {
    let world = World::new().project(GREEDY);
    let loaded = world.loaded();
    let list = |state| {
        loaded
            .pending
            .iter()
            .filter(|grant| grant.state == state)
            .map(|grant| format!("{}={}", grant.key, grant.value))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let write = world.home().join("w").display().to_string();
    let read = world.home().join("r").display().to_string();
    assert_eq!(
        list(GrantState::Pending),
        format!(
            "extends=ci filesystem.read={read} filesystem.write={write} environment.pass=EXTRA environment.set=A=b limits.processes=100000 allow=a.example.com (reading over plain HTTP)"
        )
    );
    assert_eq!(
        list(GrantState::Never),
        "filesystem.reveal=x.pem filesystem.unprotect=.git allow=b.example.com (reading over plain HTTP) secrets.scan=off"
    );
    let bare = World::new().loaded().policy;
    assert_eq!(loaded.policy.profiles, bare.profiles);
    assert_eq!(loaded.policy.limits, bare.limits);
    assert_eq!(loaded.policy.egress, bare.egress);
    assert_eq!(loaded.policy.environment, bare.environment);
    assert_eq!(loaded.policy.secrets, bare.secrets);
    assert_eq!(loaded.policy.filesystem.hide.len(), 1);
}

#[test]
fn agreement_gives_what_was_shown_until_the_file_changes() {
    let world = World::new().project(GREEDY);
    let places = world.places();
    let workspace = world.workspace();
    let trust = |options: &[&str], input: Option<&str>| {
        let args = Trust::parse_from(
            ["trust"].iter().chain(options).map(|s| s.to_string()).chain([workspace.display().to_string()]),
        )
        .args;
        let mut out = Vec::new();
        let mut input = input.map(str::as_bytes);
        let result = jail::cli::trust::run(
            &args,
            &places,
            input.as_mut().map(|input| input as &mut dyn std::io::BufRead),
            &mut out,
        );
        (result.map_err(|error| error.to_string()), String::from_utf8(out).unwrap())
    };
    assert!(trust(&[], None).0.unwrap_err().contains("there is no terminal to ask on"));
    assert!(trust(&[], Some("n\n")).0.unwrap_err().contains("not trusted"));
    assert!(trust(&[], Some("")).0.unwrap_err().contains("not trusted"));
    assert!(!world.loaded().project.unwrap().trusted);

    let (result, out) = trust(&[], Some("y\n"));
    result.unwrap();
    assert!(
        out.contains("filesystem.write") && out.contains("asks for what no project is given") && out.contains("[y/N]"),
        "{out}"
    );
    let loaded = world.loaded();
    assert!(loaded.project.unwrap().trusted);
    assert!(loaded.pending.iter().all(|grant| grant.state == GrantState::Never) && loaded.pending.len() == 4);
    let policy = loaded.policy;
    assert!(policy.profiles.contains(&"ci".to_owned()));
    assert_eq!(policy.filesystem.write.len(), 1);
    assert_eq!(policy.limits.processes.unwrap().value, 100_000);
    assert!(policy.environment.passes("EXTRA"));
    assert_eq!(policy.egress.allow.len(), 1);
    assert!(policy.filesystem.reveal.is_empty() && policy.filesystem.unprotect.is_empty());
    assert_eq!(policy.secrets.scan.value, ScanMode::Names);

    world.write(&world.project_file(), format!("{GREEDY}# changed\n"));
    assert!(!world.loaded().project.unwrap().trusted);
    world.write(&world.project_file(), GREEDY);
    assert!(world.loaded().project.unwrap().trusted);
    assert!(trust(&["--revoke"], None).1.contains("no longer trusted"));
    assert!(!world.loaded().project.unwrap().trusted);
    trust(&["--yes"], None).0.unwrap();
    assert!(world.loaded().project.unwrap().trusted);

    world.write(&world.own_state().join("trust.json"), "{");
    assert!(refused(&world).starts_with("ROOT/home/.local/state/jail/trust.json: "));
}

#[test]
fn agreement_in_one_workspace_does_not_count_in_another() {
    let world = World::new().project(GREEDY);
    let other = World::new().project(GREEDY);
    let hash = world.loaded().project.unwrap().sha256;
    TrustStore::load(&world.own_state()).unwrap().record(&other.workspace(), &hash).unwrap();
    assert!(!world.loaded().project.unwrap().trusted);
}

#[test]
fn init_writes_outside_the_workspace_and_never_over_a_policy() {
    let world = World::new();
    world.write(&world.workspace().join("Cargo.toml"), "").write(&world.workspace().join("package.json"), "");
    let init = |options: &[&str]| {
        let args = Init::parse_from(
            ["init"].iter().chain(options).map(|s| s.to_string()).chain([world.workspace().display().to_string()]),
        )
        .args;
        let mut out = Vec::new();
        let result = jail::cli::init::run(&args, &world.places(), &mut out);
        (result.map_err(|error| error.to_string()), String::from_utf8(out).unwrap())
    };
    let (_, printed) = init(&["--print"]);
    assert!(printed.contains("extends = [\"rust\", \"node\"]"), "{printed}");
    assert!(!world.workspace_file().exists());
    init(&[]).0.unwrap();
    assert_eq!(std::fs::read_to_string(world.workspace_file()).unwrap(), printed);
    assert_eq!(world.loaded().policy.egress.allow.len(), 3, "their registries");
    world.write(&world.workspace_file(), "# mine\n");
    assert!(init(&[]).0.unwrap_err().ends_with("exists already"));
    assert_eq!(std::fs::read_to_string(world.workspace_file()).unwrap(), "# mine\n");
    init(&["--force"]).0.unwrap();
    assert_eq!(std::fs::read_to_string(world.workspace_file()).unwrap(), printed);
    assert_eq!(std::fs::read_dir(world.workspace()).unwrap().count(), 2);
}

#[test]
fn a_workspace_s_name_cannot_write_into_the_policy_init_makes() {
    let world = World::new();
    let odd = world.home().join("src/a\n[[allow]]\nhost=\"evil.example.com\"");
    std::fs::create_dir_all(&odd).unwrap();
    let args = Init::parse_from(["init".into(), odd.into_os_string()]).args;
    jail::cli::init::run(&args, &world.places(), &mut Vec::new()).unwrap();
    let file = std::fs::read_dir(world.own_config().join("workspaces")).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(file).unwrap();
    assert!(!text.contains("\n[[allow]]"), "{text}");
}
