//! Policy files: what they say, what is refused and with which words.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use jail::config::{self, Flags, GrantState, Loaded, Places};
use jail::policy::{ScanMode, WorkspaceMode};
use tempfile::TempDir;

/// A home with every place a policy can be.
pub struct World {
    dir: TempDir,
    pub command: String,
    pub flags: Flags,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("jail-config").tempdir().unwrap();
        let world = Self { dir, command: "true".into(), flags: Flags::default() };
        std::fs::create_dir_all(world.workspace()).unwrap();
        world
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    pub fn home(&self) -> PathBuf {
        self.root().join("home")
    }

    pub fn workspace(&self) -> PathBuf {
        self.home().join("src/project")
    }

    pub fn project_file(&self) -> PathBuf {
        self.workspace().join(".jail.toml")
    }

    pub fn own_config(&self) -> PathBuf {
        self.home().join(".config/jail")
    }

    pub fn own_state(&self) -> PathBuf {
        self.home().join(".local/state/jail")
    }

    pub fn user_file(&self) -> PathBuf {
        self.own_config().join("policy.toml")
    }

    pub fn workspace_file(&self) -> PathBuf {
        config::workspace_file(&self.own_config(), &self.workspace())
    }

    pub fn system_file(&self) -> PathBuf {
        self.root().join("etc/jail/policy.toml")
    }

    pub fn write(&self, path: &Path, text: impl AsRef<[u8]>) -> &Self {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    pub fn user(self, text: &str) -> Self {
        self.write(&self.user_file(), text);
        self
    }

    pub fn system(self, text: &str) -> Self {
        self.write(&self.system_file(), text);
        self
    }

    pub fn project(self, text: &str) -> Self {
        self.write(&self.project_file(), text);
        self
    }

    pub fn load(&self) -> jail::error::Result<Loaded> {
        config::load(&self.places().request(&self.workspace(), OsStr::new(&self.command), &self.flags))
    }

    pub fn places(&self) -> Places {
        Places {
            home: self.home(),
            system_file: self.system_file(),
            config_home: self.home().join(".config"),
            state_home: self.home().join(".local/state"),
        }
    }

    #[track_caller]
    pub fn loaded(&self) -> Loaded {
        self.load().unwrap_or_else(|error| panic!("{error}\nhint: {:?}", error.hint_text()))
    }
}

#[test]
fn nothing_but_the_built_in_profile_is_enough() {
    let loaded = World::new().loaded();
    assert_eq!(loaded.policy.profiles, ["rust", "node", "python", "go", "java", "c", "default"]);
    assert!(loaded.files.is_empty() && loaded.pending.is_empty());
}

#[test]
fn later_sources_override_earlier_ones() {
    let mut world = World::new()
        .user("[limits]\nprocesses = 100\nmemory = \"1GiB\"\n[workspace]\nmode = \"read-only\"\n")
        .project("[limits]\nprocesses = 50\n[filesystem]\nhide = [\"*.tfstate\"]\nwrite = [\"~/.evil\"]\n");
    world.write(&world.workspace_file(), "[limits]\nprocesses = 70\n");
    world.flags.read = vec![world.home().join("data")];
    let loaded = world.loaded();
    let policy = &loaded.policy;
    assert_eq!(policy.limits.processes.as_ref().unwrap().value, 70);
    assert_eq!(policy.limits.memory.as_ref().unwrap().value, 1 << 30);
    assert_eq!(policy.limits.memory.as_ref().unwrap().source.to_string(), format!("{}:3", world.user_file().display()));
    assert_eq!(policy.workspace.mode.value, WorkspaceMode::ReadOnly);
    assert_eq!(policy.filesystem.hide[0].value, "*.tfstate");
    assert!(policy.filesystem.write.is_empty());
    assert_eq!(policy.filesystem.read.last().unwrap().source.to_string(), "--read");
    assert_eq!(loaded.pending.len(), 1);
    assert_eq!(loaded.pending[0].key, "filesystem.write");
    assert_eq!(loaded.files, [world.user_file(), world.workspace_file(), world.project_file()]);
}

#[test]
fn what_the_administrator_forbids_stays_forbidden() {
    let world = World::new()
        .system(
            "[workspace]\nmode = \"read-only\"\n[secrets]\nscan = \"names\"\n[limits]\nmemory = \"1GiB\"\n\
             [filesystem]\nhide = [\"a.txt\"]\nprotect = [\"Makefile\"]\n[environment]\nremove = [\"LANG\", \"MY_SECRETS_*\"]\n\
             [[deny]]\nhost = \"a.example.com\"\n",
        )
        .user(
            "[workspace]\nmode = \"direct\"\n[secrets]\nscan = \"off\"\n[limits]\nmemory = \"2GiB\"\n\
             [filesystem]\nreveal = [\"a.txt\"]\nunprotect = [\"Makefile\"]\n[environment]\npass = [\"LANG\", \"MY_*\"]\n\
             [[allow]]\nhost = \"a.example.com\"\n",
        );
    let policy = world.loaded().policy;
    assert_eq!(policy.workspace.mode.value, WorkspaceMode::ReadOnly);
    assert_eq!(policy.secrets.scan.value, ScanMode::Names);
    assert_eq!(policy.limits.memory.unwrap().value, 1 << 30);
    assert!(policy.filesystem.reveal.is_empty() && policy.filesystem.unprotect.is_empty());
    assert!(!policy.environment.passes("LANG"));
    assert!(!policy.environment.passes("MY_SECRETS_A"));
    assert!(policy.environment.passes("MY_OTHER"));
    assert!(policy.environment.passes("LC_ALL"));
    assert_eq!(policy.egress.deny.len(), 1);
}

#[track_caller]
pub fn refused(world: &World) -> String {
    world.load().map(|_| ()).expect_err("accepted").to_string().replace(&world.root().display().to_string(), "ROOT")
}

#[test]
fn a_project_file_that_is_not_a_plain_file_is_refused() {
    let world = World::new();
    let file = world.project_file();
    let elsewhere = world.root().join("elsewhere.toml");
    world.write(&elsewhere, "");
    std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
    assert_eq!(refused(&world), "ROOT/home/src/project/.jail.toml: is a symbolic link");
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(world.root().join("missing"), &file).unwrap();
    assert_eq!(refused(&world), "ROOT/home/src/project/.jail.toml: is a symbolic link");
    std::fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    assert_eq!(refused(&world), "ROOT/home/src/project/.jail.toml: is not a regular file");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert_eq!(refused(&world), "ROOT/home/src/project/.jail.toml: is not a regular file");
    std::fs::remove_dir(&file).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(&file).unwrap();
    assert!(refused(&world).starts_with("ROOT/home/src/project/.jail.toml: cannot be opened: "));
}

#[test]
fn a_file_that_is_not_short_utf8_is_refused() {
    let world = World::new();
    let file = world.project_file();
    for (bytes, message) in [
        (b"\xef\xbb\xbf[limits]\n".to_vec(), ".jail.toml:1:1: the file starts with a byte order mark"),
        (b"# ok\n\n# \xff\n".to_vec(), ".jail.toml:3: not UTF-8"),
        (vec![b'#'; (1 << 20) + 1], ".jail.toml: is larger than 1 MiB"),
    ] {
        world.write(&file, bytes);
        assert_eq!(refused(&world), format!("ROOT/home/src/project/{message}"));
    }
    world.write(&file, vec![b'#'; 1 << 20]);
    world.loaded();
}

#[test]
fn a_sparse_file_without_end_is_not_read_to_its_end() {
    let world = World::new();
    let file = std::fs::File::create(world.project_file()).unwrap();
    file.set_len(100 << 30).unwrap();
    assert_eq!(refused(&world), "ROOT/home/src/project/.jail.toml: is larger than 1 MiB");
}

#[test]
fn a_policy_that_everyone_may_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new().user("");
    std::fs::set_permissions(world.user_file(), std::fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(refused(&world), "ROOT/home/.config/jail/policy.toml: everyone may write this file");
}

#[test]
fn profiles_build_on_each_other_but_not_in_circles() {
    let profile = |world: &World, name: &str, text: &str| {
        world.write(&world.own_config().join(format!("profiles/{name}.toml")), text);
    };
    let world = World::new().user("extends = [\"mine\"]\n");
    profile(&world, "mine", "extends = [\"base\"]\n[limits]\nprocesses = 7\n");
    profile(&world, "base", "[limits]\nprocesses = 5\nopen_files = 50\n");
    let loaded = world.loaded();
    assert_eq!(loaded.policy.profiles[loaded.policy.profiles.len() - 2..], ["base", "mine"]);
    assert_eq!(loaded.policy.limits.processes.unwrap().value, 7);
    assert_eq!(loaded.policy.limits.open_files.unwrap().value, 50);
    assert_eq!(loaded.files.len(), 3);

    profile(&world, "base", "extends = [\"other\"]\n");
    profile(&world, "other", "# 1\nextends = [\n  \"base\",\n]\n");
    assert_eq!(
        refused(&world),
        "ROOT/home/.config/jail/profiles/other.toml:3:3: profile \"base\" builds on itself: base → other → base"
    );
    profile(&world, "base", "extends = [\"bsae\"]\n");
    assert_eq!(refused(&world), "ROOT/home/.config/jail/profiles/base.toml:1:12: unknown profile \"bsae\"");
    profile(&world, "base", "");
    profile(&world, "rust", "");
    assert_eq!(
        refused(&world),
        "ROOT/home/.config/jail/profiles/rust.toml: \"rust\" is the name of a built-in profile"
    );
}

#[test]
fn flags_are_checked_like_files() {
    let mut world = World::new();
    world.flags.profiles = vec!["cii".into()];
    assert_eq!(refused(&world), "unknown profile \"cii\"");
    world.flags = Flags { write: vec!["/".into()], ..Flags::default() };
    assert_eq!(refused(&world), "--write: path \"/\" is the whole file system");
    world.flags = Flags { read: vec![world.home()], ..Flags::default() };
    assert_eq!(refused(&world), "--read: path \"ROOT/home\" is the whole home directory");
    world.flags = Flags { allow: vec!["*.com".into()], ..Flags::default() };
    assert!(refused(&world).starts_with("--allow: host pattern \"*.com\" covers the public suffix"));
    world.flags = Flags { allow: vec!["a.example.com:0".into()], ..Flags::default() };
    assert_eq!(refused(&world), "--allow: \"a.example.com:0\" is not HOST or HOST:PORT");
    world.flags = Flags { environment: Some("staging".into()), ..Flags::default() };
    assert_eq!(refused(&world), "--environment: no credential is for environment \"staging\"");
    world.flags = Flags { policy_file: Some(world.root().join("none.toml")), ..Flags::default() };
    assert_eq!(refused(&world), "ROOT/none.toml: no such policy file");
    world.flags =
        Flags { allow: vec!["a.example.com:8443".into(), "[2001:db8::1]".into()], read_only: true, ..Flags::default() };
    let policy = world.loaded().policy;
    assert!(policy.egress.allow[0].value.ports.contains(8443) && !policy.egress.allow[0].value.ports.contains(443));
    assert_eq!(policy.workspace.mode.value, WorkspaceMode::ReadOnly);
}

#[test]
fn published_ports_are_checked_and_the_strongest_source_has_the_hosts_port() {
    let mut world = World::new().user("[[publish]]\nport = 3000\n[[publish]]\nport = 8080\nhost_port = 80\n");
    let published = |world: &World| {
        let publish = world.loaded().policy.publish;
        publish.iter().map(|entry| entry.value.to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(published(&world), "3000 80:8080");
    world.flags = Flags { publish: vec!["3000:5173".into(), "9229".into()], ..Flags::default() };
    assert_eq!(published(&world), "80:8080 3000:5173 9229");
    for text in ["0", "65536", "3000:", ":3000", "127.0.0.1:3000", "3000:3000:3000", "+3000", "http"] {
        world.flags = Flags { publish: vec![text.into()], ..Flags::default() };
        assert!(refused(&world).contains("is not PORT or HOST_PORT:PORT"), "{text}: {}", refused(&world));
    }
    let refusals = [
        ("[[publish]]\nport = 0\n", "0 is not between 1 and 65535"),
        ("[[publish]]\nport = 1\nhost_port = 65536\n", "65536 is not between 1 and 65535"),
        ("[[publish]]\nport = 1\n[[publish]]\nport = 2\nhost_port = 1\n", "the host's port 1 is given twice"),
        ("[[publish]]\nhost_port = 1\n", "missing key \"port\""),
        ("[[publish]]\nport = 1\naddress = \"0.0.0.0\"\n", "unknown key \"address\""),
    ];
    for (text, message) in refusals {
        let world = World::new().user(text);
        assert!(refused(&world).contains(message), "{text}: {}", refused(&world));
    }
}

#[test]
fn a_project_publishes_nothing_without_agreement() {
    let loaded =
        World::new().user("[[publish]]\nport = 1\n").project("[[publish]]\nport = 1\n[[publish]]\nport = 2\n").loaded();
    assert_eq!(loaded.policy.publish.len(), 1);
    let pending: Vec<_> = loaded.pending.iter().map(|grant| (grant.key, grant.value.as_str(), grant.state)).collect();
    assert_eq!(pending, [("publish", "2", GrantState::Pending)]);
    // Nor does it lead the host's port elsewhere.
    let loaded =
        World::new().user("[[publish]]\nport = 1\n").project("[[publish]]\nport = 2\nhost_port = 1\n").loaded();
    assert_eq!(loaded.policy.publish[0].value.to_string(), "1");
    assert_eq!(loaded.pending[0].value, "1:2");
}

#[test]
fn a_policy_flag_takes_the_place_of_the_user_s_files_only() {
    let mut world = World::new()
        .system("[limits]\nprocesses = 100\n")
        .user("[limits]\nopen_files = 77\n")
        .project("[filesystem]\nhide = [\"from-project\"]\n");
    world.write(&world.workspace_file(), "[filesystem]\nhide = [\"from-workspace\"]\n");
    let file = world.root().join("other.toml");
    world.write(&file, "[limits]\nprocesses = 200\nopen_files = 55\n");
    world.flags.policy_file = Some(file);
    let policy = world.loaded().policy;
    assert_eq!(policy.limits.processes.unwrap().value, 100);
    assert_eq!(policy.limits.open_files.unwrap().value, 55);
    assert_eq!(policy.filesystem.hide.iter().map(|glob| glob.value.as_str()).collect::<Vec<_>>(), ["from-project"]);
}

#[test]
fn a_path_is_judged_by_where_it_leads() {
    let world = World::new().user("[filesystem]\nwrite = [\"~/link\"]\n");
    let link = world.home().join("link");
    for (target, why) in [
        (
            world.home(),
            "path \"ROOT/home/link\" leads to \"ROOT/home\": path \"ROOT/home\" is the whole home directory",
        ),
        ("/etc".into(), "path \"ROOT/home/link\" leads to \"/etc\": path \"/etc\" is too broad"),
        (
            world.own_config(),
            "path \"ROOT/home/link\" leads to \"ROOT/home/.config/jail\": path \"ROOT/home/.config/jail\" gives access to ROOT/home/.config/jail, where jail keeps policies and records",
        ),
        (
            world.workspace(),
            "path \"ROOT/home/link\" leads to \"ROOT/home/src/project\": it overlaps the workspace \"ROOT/home/src/project\"",
        ),
    ] {
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert_eq!(refused(&world), format!("ROOT/home/.config/jail/policy.toml:2: {why}"));
        std::fs::remove_file(&link).unwrap();
    }
    world.loaded();
}

#[test]
fn a_link_left_in_an_agent_s_state_opens_nothing_in_the_next_run() {
    let mut world = World::new();
    world.command = "claude".into();
    let skills = world.home().join(".claude/skills");
    world.write(&world.home().join(".ssh/id_ed25519"), "key").write(&world.home().join(".claude/real/x"), "");
    world.write(&world.home().join("dotfiles/skills/x"), "");
    let reads =
        |world: &World, path: &Path| world.loaded().policy.filesystem.read.iter().any(|entry| entry.value == path);
    std::os::unix::fs::symlink(world.home().join(".ssh"), &skills).unwrap();
    assert_eq!(
        refused(&world),
        "profile claude:25: path \"ROOT/home/.claude/skills\" leads to \"ROOT/home/.ssh\": the link is in \"ROOT/home/.claude\", which a jail writes"
    );
    std::fs::remove_file(&skills).unwrap();
    std::os::unix::fs::symlink("missing", &skills).unwrap();
    assert!(refused(&world).contains("the link is in"));
    std::fs::remove_file(&skills).unwrap();
    std::os::unix::fs::symlink("real", &skills).unwrap();
    assert!(reads(&world, &skills));
    std::fs::remove_file(&skills).unwrap();
    let target = world.home().join("dotfiles/skills");
    std::os::unix::fs::symlink(&target, &skills).unwrap();
    assert!(refused(&world).contains("the link is in"));
    world.flags.read = vec![world.home().join("dotfiles")];
    assert!(!reads(&world, &skills) && reads(&world, &world.home().join("dotfiles")));
    world.flags.write = vec![skills];
    assert!(refused(&world).contains("the link is in"));
}

#[test]
fn a_path_does_not_reach_around_the_workspace_s_masks() {
    for path in ["~/src", "~/src/project", "~/src/project/.git"] {
        let world = World::new().user(&format!("[filesystem]\nread = [\"{path}\"]\n"));
        assert!(refused(&world).contains("overlaps the workspace"), "{path}");
    }
    World::new().user("[filesystem]\nread = [\"~/src/project2\"]\n").loaded();
}

#[test]
fn the_agent_s_profile_is_chosen_by_name_but_never_for_a_program_of_the_project() {
    let profiles = |command: &str, world: &mut World| {
        world.command = command.to_owned();
        world.loaded().policy.profiles
    };
    let mut world = World::new();
    let own = world.root().join("bin/claude");
    world.write(&own, "");
    world.write(&world.workspace().join("claude"), "");
    std::os::unix::fs::symlink(world.workspace().join("claude"), world.root().join("bin/codex")).unwrap();
    let chosen = |profiles: Vec<String>| profiles.iter().any(|name| name == "claude" || name == "codex");
    assert!(chosen(profiles("claude", &mut world)));
    assert!(chosen(profiles(&own.display().to_string(), &mut world)));
    for inside in [
        "./claude",
        "sub/claude",
        "claude/",
        "x",
        &world.workspace().join("claude").display().to_string(),
        &world.root().join("bin/codex").display().to_string(),
    ] {
        assert!(!chosen(profiles(inside, &mut world)), "{inside}");
    }
}

#[test]
fn a_workspace_is_a_project_and_nothing_broader() {
    let world = World::new();
    let home = world.home();
    let check = |path: &Path| {
        config::check_workspace(path, &home).map_err(|error| (error.to_string(), error.hint_text().map(str::to_owned)))
    };
    check(&world.workspace()).unwrap();
    let link = home.join("link-to-root");
    std::os::unix::fs::symlink("/", &link).unwrap();
    let to_home = world.workspace().join("up");
    std::os::unix::fs::symlink(&home, &to_home).unwrap();
    let parent = home.parent().unwrap().to_path_buf();
    let existing = [
        "/",
        "/tmp",
        "/var",
        "/usr",
        "/etc",
        "/home",
        "/root",
        "/opt",
        "/proc",
        "/sys",
        "/dev",
        "/run",
        "/proc/self",
        "/sys/kernel",
        "/dev/shm",
        "/var/tmp",
    ];
    for path in existing.iter().map(PathBuf::from).chain([
        home.clone(),
        parent,
        link,
        to_home,
        home.join("missing"),
        world.workspace().join(".jail.toml"),
    ]) {
        let (message, hint) = check(&path).expect_err(&format!("{} accepted", path.display()));
        assert!(message.starts_with(&format!("workspace {}: ", path.display())), "{message}");
        assert_eq!(hint.as_deref(), Some("start in the project's own directory"));
    }
}

#[test]
fn jail_s_own_directories_are_no_workspace() {
    let world = World::new();
    for path in
        [world.own_config(), world.own_config().join("profiles"), world.home().join(".config"), world.own_state()]
    {
        std::fs::create_dir_all(&path).unwrap();
        let flags = Flags::default();
        let error = config::load(&world.places().request(&path, OsStr::new("true"), &flags)).unwrap_err();
        assert!(error.to_string().contains("where jail keeps policies and records"), "{error}");
    }
}

#[test]
fn links_do_not_hide_jail_s_directories_or_the_workspace() {
    let world = World::new();
    let dot = world.home().join("dot");
    std::fs::create_dir_all(&dot).unwrap();
    std::os::unix::fs::symlink(&dot, world.home().join(".config")).unwrap();
    for (index, path) in ["~/dot", "~/dot/jail"].into_iter().enumerate() {
        // The directory of policies need not exist: whoever can make it can fill it.
        let file = world.root().join(format!("policy-{index}.toml"));
        world.write(&file, format!("[filesystem]\nwrite = [\"{path}\"]\n"));
        let flags = Flags { policy_file: Some(file), ..Flags::default() };
        std::fs::create_dir_all(dot.join("jail")).unwrap();
        let load = || config::load(&world.places().request(&world.workspace(), OsStr::new("true"), &flags)).map(|_| ());
        assert!(load().unwrap_err().to_string().contains("where jail keeps policies and records"));
        std::fs::remove_dir(dot.join("jail")).unwrap();
        if path == "~/dot" {
            assert!(load().unwrap_err().to_string().contains("where jail keeps policies and records"));
        }
    }

    let world = World::new();
    let alias = world.root().join("alias");
    std::os::unix::fs::symlink(world.home(), &alias).unwrap();
    let inside = world.home().join(".cargo/registry/src/crate");
    std::fs::create_dir_all(&inside).unwrap();
    let places = Places { home: alias.clone(), ..world.places() };
    let flags = Flags::default();
    let policy = config::load(&places.request(&inside, OsStr::new("true"), &flags)).unwrap().policy;
    let reads = |path: PathBuf| policy.filesystem.read.iter().any(|entry| entry.value == path);
    assert!(!reads(alias.join(".cargo/registry")) && reads(alias.join(".cargo/bin")));
}
