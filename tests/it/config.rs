//! Policy files: what they say, what is refused and with which words.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use jail::config::{self, Flags, Loaded, Request};
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
        config::load(&Request {
            home: &self.home(),
            system_file: &self.system_file(),
            config_home: &self.home().join(".config"),
            state_home: &self.home().join(".local/state"),
            workspace: &self.workspace(),
            command: OsStr::new(&self.command),
            flags: &self.flags,
        })
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
    assert_eq!(policy.filesystem.hide[0].value, "**/*.tfstate");
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
