//! From what was typed to a plan: shared by `run`, `plan` and `explain`.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::reach;
use super::report::Report;
use super::roots;
use crate::config::text::printable;
use crate::config::{self, GrantState, Loaded, PendingGrant, Places};
use crate::error::{Error, Result};
use crate::escape::escape;
use crate::guard::gitconfig;
use crate::launch::idmap;
use crate::plan::identity::{Identity, UNPRIVILEGED_HOST_ID};
use crate::plan::limits::LimitsPlan;
use crate::plan::mounts::{self, Place};
use crate::plan::network::NetworkPlan;
use crate::plan::seccomp::{SeccompPlan, native_arch};
use crate::plan::{Plan, environment, ruleset};
use crate::policy::Policy;
use crate::probe::{self, Facts};
use crate::supervise::{credentials, session};
use crate::sys;
use crate::tree::{self, Query, Searched, TreeFacts};

/// Flags that choose the policy, shared by the subcommands that make a plan.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PolicyArgs {
    /// Add a profile (may be repeated); the agent's own is chosen by the command's name
    #[arg(long, value_name = "NAME")]
    profile: Vec<String>,
    /// Use this policy file instead of the user's own
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Show a path of the host read-only (may be repeated)
    #[arg(long, value_name = "PATH")]
    read: Vec<PathBuf>,
    /// Make a path of the host writable (may be repeated)
    #[arg(long, value_name = "PATH")]
    write: Vec<PathBuf>,
    /// Allow TLS and plain HTTP to a host, on ports 443 and 80 or the one given (may be repeated)
    #[arg(long, value_name = "HOST[:PORT]")]
    allow: Vec<String>,
    /// Let the host connect to a server inside on this port, at 127.0.0.1 (may be repeated)
    #[arg(long, value_name = "[HOST_PORT:]PORT")]
    publish: Vec<String>,
    /// Load the credentials of this environment
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
    /// Let the command see the workspace but not change it
    #[arg(long)]
    read_only: bool,
    /// The workspace, instead of the repository around the current directory
    #[arg(long, short, value_name = "DIR")]
    workspace: Option<PathBuf>,
}

/// A plan and what it was made from.
#[derive(Debug)]
pub struct Prepared {
    /// What will be done.
    pub plan: Plan,
    /// What is allowed.
    pub loaded: Loaded,
    /// The trees that were searched, the workspace first.
    pub roots: Vec<Searched>,
    /// Where policies and records are kept.
    pub places: Places,
}

/// Reads the policy, passes over the workspace and makes the plan.
pub fn prepare(args: &PolicyArgs, command: Vec<OsString>, report: Report) -> Result<Prepared> {
    probe::proc()?;
    let current = std::env::current_dir().map_err(|error| {
        Error::setup(format!("cannot tell the current directory: {error}"))
            .hint("it may have been removed; change to an existing one")
    })?;
    let places = Places::detect()?;
    let workspace = find_workspace(args, &current, &places.home)?;
    config::check_workspace(&workspace, &places.home)?;
    let flags = config::Flags {
        profiles: args.profile.clone(),
        policy_file: args.policy.as_ref().map(|path| current.join(path)),
        environment: args.environment.clone(),
        allow: args.allow.clone(),
        publish: args.publish.clone(),
        read: args.read.iter().map(|path| current.join(path)).collect(),
        write: args.write.iter().map(|path| current.join(path)).collect(),
        read_only: args.read_only,
    };
    let name = command.first().cloned().unwrap_or_default();
    let loaded = config::load(&places.request(&workspace, &name, &flags))?;
    if let Some(message) = pending(&loaded.pending) {
        // What nobody can grant asks nothing of the user.
        if loaded.pending.iter().any(|grant| grant.state == GrantState::Pending) {
            report.warning(message);
        } else {
            report.note(message);
        }
    }
    for warning in &loaded.warnings {
        report.warning(printable(warning));
    }

    let policy = &loaded.policy;
    tracing::debug!(profiles = ?policy.profiles, workspace = ?workspace, "read the policy");
    let query = Query::new(&workspace, &policy.filesystem, policy.secrets.scan.value)?;
    let facts = tree::pass(&query)?;
    facts.check(false)?;
    tracing::debug!(hidden = facts.hidden.len(), protected = facts.guards.len(), "passed over the workspace");
    for note in &facts.notes {
        report.warning(printable(note));
    }
    let mut roots = vec![Searched { shown: PathBuf::new(), query, facts }];
    let plan = assemble(&places.home, &workspace, &current, &loaded, &mut roots, command)?;
    Ok(Prepared { plan, loaded, roots, places })
}

/// One line about what the project's policy asks for and does not get.
fn pending(grants: &[PendingGrant]) -> Option<String> {
    let first = grants.first()?;
    let more = if grants.len() > 1 { format!(" and {} more", grants.len() - 1) } else { String::new() };
    let remedy = if grants.iter().any(|grant| grant.state == GrantState::Pending) {
        "; `jail trust` shows and grants what may be granted"
    } else {
        "; a project's policy never grants that"
    };
    Some(printable(&format!("{}: {} = {:?}{more} has no effect{remedy}", first.source, first.key, first.value)))
}

const WORKSPACE_HINT: &str = "--workspace names the directory the command works in";

/// The workspace: what `--workspace` names, else the repository around the current directory.
fn find_workspace(args: &PolicyArgs, current: &Path, home: &Path) -> Result<PathBuf> {
    if let Some(given) = &args.workspace {
        let real = std::fs::canonicalize(current.join(given)).map_err(|error| {
            Error::setup(format!("cannot use the workspace {}: {error}", escape(given))).hint(WORKSPACE_HINT)
        })?;
        if !real.is_dir() {
            return Err(
                Error::setup(format!("the workspace {} is not a directory", escape(&real))).hint(WORKSPACE_HINT)
            );
        }
        return Ok(real);
    }
    Ok(repository_around(current, home))
}

/// The nearest directory upwards that holds `.git`, else this one. The home directory and what lies above it are never
/// searched.
pub(super) fn repository_around(current: &Path, home: &Path) -> PathBuf {
    let owner = |path: &Path| path.symlink_metadata().map(|found| found.uid()).ok();
    let own = owner(current);
    let found = current
        .ancestors()
        .take_while(|directory| *directory != home && *directory != Path::new("/"))
        // Another user's repository around the current directory is not what the caller works in.
        .take_while(|directory| owner(directory) == own)
        .find(|directory| directory.join(".git").symlink_metadata().is_ok());
    found.unwrap_or(current).to_owned()
}

fn assemble(
    home: &Path,
    workspace: &Path,
    current: &Path,
    loaded: &Loaded,
    roots: &mut Vec<Searched>,
    command: Vec<OsString>,
) -> Result<Plan> {
    let tree = &roots[0].facts;
    let policy = &loaded.policy;
    let facts = Facts::detect();
    let session = session::new_name()?;
    let hostname = "jail".to_owned();
    let identity = identity(facts, workspace)?;
    let directory = if current.starts_with(workspace) { current } else { workspace };
    let mut network = NetworkPlan::for_policy(&policy.egress);
    network.publish = policy.publish.iter().map(|publish| publish.value).collect();
    let brief = brief(workspace, tree.hidden.len(), &reach::brief(&policy.egress, &network));
    let place = Place {
        workspace,
        home,
        hostname: &hostname,
        resolver: network.resolver_file(),
        brief: &brief,
        git_files: git_files(home, tree),
        held_files: credentials::files(&policy.credentials),
        external_git: tree.external_git.as_ref().map(|git| git.common.as_path()),
    };
    let mounts = mounts::build(policy, &identity, &place)?;
    for file in credentials::files(&policy.credentials) {
        if let Some(shown) = credentials::taken(&mounts, &file) {
            let message = format!("a placeholder cannot be put at {}: {} is the host's", escape(&file), escape(&shown));
            return Err(Error::setup(message)
                .hint("name a file of the private home that the policy does not show, or use `env`"));
        }
    }
    let environment = environment::build(&policy.environment, host_variables(policy), home, &session, &mounts);
    let mode = policy.workspace.mode.value;
    let named = roots::search_named(policy, &mounts, workspace)?;
    let guards = [
        roots::guards(Path::new(""), tree),
        roots::named_guards(&named, &mounts),
        roots::socket_guards(policy, &mounts, &named)?,
        roots::absent_guards(policy, &mounts),
    ]
    .concat();
    let mut masks = roots::masks(Path::new(""), tree);
    masks.extend(named.iter().flat_map(|root| roots::masks(&root.shown, &root.facts)));
    roots.extend(named);
    let external = roots[0].facts.external_git.iter().map(|git| (git.common.clone(), git.identity));
    let identity_of = |root: &Searched| Some((root.shown.clone(), *root.facts.identities.get(Path::new(""))?));
    let mut searched: Vec<_> = roots.iter().filter_map(identity_of).chain(external).collect();
    if let Some((path, _)) = searched.first_mut().filter(|(path, _)| path.as_os_str().is_empty()) {
        *path = workspace.to_owned();
    }
    Ok(Plan {
        searched,
        session,
        command,
        workspace: workspace.to_owned(),
        directory: directory.to_owned(),
        mode,
        identity,
        hostname,
        home: home.to_owned(),
        masks,
        guards,
        network,
        landlock: ruleset::build(facts.landlock_abi, &mounts, mode)?,
        seccomp: SeccompPlan::new(native_arch()?),
        // The launch adds what no cgroup bounds.
        limits: LimitsPlan::new(&policy.limits, false),
        environment,
        mounts,
        scratch_bytes: scratch_bytes(policy.limits.memory.as_ref().map(|limit| limit.value)),
    })
}

/// The variables of the host that may enter. The values of all others are not touched: no copy of them is to be in the
/// memory that init gets.
fn host_variables(policy: &Policy) -> impl Iterator<Item = (OsString, OsString)> {
    let wanted = |name: &OsString| {
        let text = name.to_str().unwrap_or_default();
        text == "PATH" || policy.environment.passes(text) && !policy.credentials.withheld(text)
    };
    let names: Vec<OsString> = sys::environment::names().into_iter().filter(wanted).collect();
    names.into_iter().filter_map(|name| std::env::var_os(&name).map(|value| (name, value)))
}

fn identity(facts: Facts, workspace: &Path) -> Result<Identity> {
    let works = match workspace.metadata() {
        Ok(found) if facts.uid == 0 => idmap::works(workspace, found.uid(), found.gid(), UNPRIVILEGED_HOST_ID)?,
        _ => false,
    };
    Identity::decide(facts.uid, facts.gid, workspace, works)
}

/// Private directories may take half of the memory the jail may use, or a quarter of the machine's.
fn scratch_bytes(memory: Option<u64>) -> u64 {
    memory.map_or_else(
        || {
            let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
                let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
                line.trim().trim_end_matches(" kB").parse::<u64>().ok()
            });
            total.unwrap_or(4 << 20) * 1024 / 4
        },
        |limit| limit / 2,
    )
}

/// git's files of the private home: who commits, and what it must not take for the user's files.
fn git_files(home: &Path, tree: &TreeFacts) -> Vec<(&'static str, String)> {
    let mut files = Vec::new();
    files.extend(git_identity(home).map(|text| (".gitconfig", text)));
    // The user's own patterns first, so that `git status` shows the same inside as outside.
    let mut ignore = std::fs::read_to_string(home.join(".config/git/ignore")).unwrap_or_default();
    if !ignore.is_empty() && !ignore.ends_with('\n') {
        ignore.push('\n');
    }
    for (name, mut text, lines) in [
        (".config/git/ignore", ignore, &tree.git_ignore),
        (".config/git/attributes", String::new(), &tree.git_attributes),
    ] {
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        if !text.is_empty() {
            files.push((name, text));
        }
    }
    files
}

/// Name and address for commits, as git's configuration file of the private home. The user's own file may hold
/// credentials and programs to run, so only these two values are taken from it.
fn git_identity(home: &Path) -> Option<String> {
    let mut values = Vec::new();
    for file in [home.join(".config/git/config"), home.join(".gitconfig")] {
        if let Ok(text) = std::fs::read(&file) {
            // A file git could not read gives no identity, which git then says itself.
            values.extend(gitconfig::parse(&text).unwrap_or_default());
        }
    }
    let mut text = String::from("[user]\n");
    for name in ["name", "email"] {
        let last = values.iter().rev().find(|variable| variable.section == "user" && variable.name == name);
        if let Some(variable) = last {
            let value = String::from_utf8_lossy(&variable.value).replace(['\\', '"', '\n', '\0'], "");
            text.push_str(&format!("\t{name} = \"{value}\"\n"));
        }
    }
    (text.len() > 7).then_some(text)
}

/// What an agent should know, in ten lines, so that it stops instead of searching for another way.
fn brief(workspace: &Path, hidden: usize, network: &str) -> String {
    format!(
        "# You run inside a jail\n\n\
         - You may read and write {} and your private home and temporary directories.\n\
         - {hidden} files are hidden: they look blank. Do not fill them in, and do not look for another copy.\n\
         - A file you make with such a name (`.env`, `*.pem`) goes blank too, and nothing in here can change, rename or\n  \
           remove it before the run has ended. Use another name, like `.env.example`.\n\
         - Git hooks, git configuration, agent and editor configuration are read-only.\n\
         - {network}\n\
         - You cannot become another user, mount file systems or see processes outside.\n\
         - A refusal is a decision, not an error to work around: stop and ask the person who started you.\n\
         - They can change what is allowed with `jail init` and `jail explain PATH|HOST`, outside.\n",
        workspace.display()
    )
}

/// The command's name for messages.
pub fn command_name(command: &[OsString]) -> String {
    let name = command.first().map(OsString::as_os_str).unwrap_or(OsStr::new(""));
    printable(&Path::new(name).file_name().unwrap_or(name).to_string_lossy())
}
