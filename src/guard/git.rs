//! Protects git directories: nothing in them that makes the host run a program may change, and commits still work.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::fstatat;

use super::gitconfig::{self, Variable};
use super::hostrun::HostRun;
use super::{Action, Guard, Placeholder, external};
use crate::error::{Error, Result};
use crate::secrets::Reason;
use crate::sys::dirent::{Buffer, FileType};
use crate::tree::open::{beneath, read_beneath, read_through_links};
use crate::tree::{GitDir, GitKind, Hidden, Query, TreeFacts, escape};

/// Largest configuration file that is read.
const CONFIG_LIMIT: usize = 1024 * 1024;
/// Nesting of includes and of submodules that is followed, as deep as git itself goes with includes.
const DEPTH: usize = 10;

/// What every git directory holds that makes git run programs or look elsewhere.
const READ_ONLY: &[(&str, Option<Placeholder>, &str)] = &[
    ("config", Some(Placeholder::File("")), "git configuration names programs"),
    ("hooks", Some(Placeholder::Directory), "git hooks run on the host"),
    ("info", Some(Placeholder::Directory), "attributes here activate filters"),
    ("commondir", Some(Placeholder::File(".\n")), "it leads git to another configuration"),
    ("worktrees", None, "they belong to other working trees"),
];

/// Names further stores of objects. While it is missing nothing covers it, because git makes other files beside it; one
/// that appears is reported.
const ALTERNATES: &str = "objects/info/alternates";

/// What stands in for the missing parts of a git directory.
pub(super) fn stand_ins() -> impl Iterator<Item = Placeholder> {
    READ_ONLY.iter().filter_map(|(_, missing, _)| missing.clone())
}

/// Adds the guards for every git directory the pass found.
pub(super) fn apply(root: BorrowedFd<'_>, query: &Query, facts: &mut TreeFacts) -> Result<()> {
    let mut work = Work { root, query, facts };
    let git = std::mem::take(&mut work.facts.git);
    for entry in &git {
        work.entry(entry)?;
    }
    if let Some(hooks) = user_hooks_path() {
        work.hooks_path(&hooks, Path::new(""))?;
    }
    for bare in std::mem::take(&mut work.facts.bare) {
        work.facts.guards.extend(existing(root, &bare.0)?);
        work.settings(&bare.0.join("config"), &bare.0);
        work.facts.bare.push(bare);
    }
    work.facts.git = git;
    super::link_targets(query, facts);
    Ok(())
}

/// `core.hooksPath` of the user's own configuration, which applies to every repository.
fn user_hooks_path() -> Option<Vec<u8>> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let xdg = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let files = [
        home.as_ref().map(|home| home.join(".gitconfig")),
        xdg.or_else(|| home.map(|home| home.join(".config"))).map(|dir| dir.join("git/config")),
        Some(PathBuf::from("/etc/gitconfig")),
    ];
    files.into_iter().flatten().find_map(|file| {
        let variables = gitconfig::parse(&std::fs::read(file).ok()?).ok()?;
        variables.into_iter().rev().find(|v| v.section == "core" && v.name == "hookspath").map(|v| v.value)
    })
}

/// The guards for what exists of a git directory that nothing says is used.
fn existing(root: BorrowedFd<'_>, base: &Path) -> Result<Vec<Guard>> {
    let mut guards = Vec::new();
    for (name, _, why) in READ_ONLY.iter().chain(&[("config.worktree", None, "git configuration names programs")]) {
        if let Some(action) = protection(root, &base.join(name))? {
            guards.push(Guard::new(base.join(name), action, *why));
        }
    }
    Ok(guards)
}

/// How an entry that exists is protected; a placeholder of another jail counts as missing.
pub(super) fn protection(root: BorrowedFd<'_>, path: &Path) -> Result<Option<Action>> {
    Ok(match kind_of(root, path)? {
        None => None,
        Some(FileType::Symlink) => Some(Action::PinSymlink),
        Some(_) if super::placeholder::is_placeholder_at(root, path) => None,
        Some(_) => Some(Action::ReadOnly),
    })
}

/// The type of an entry, a symbolic link's own included; `None` where it does not exist or lies behind a link.
pub(super) fn kind_of(root: BorrowedFd<'_>, path: &Path) -> Result<Option<FileType>> {
    use nix::errno::Errno;
    match beneath(root, path, OFlag::O_PATH).and_then(|fd| nix::sys::stat::fstat(&fd)) {
        Ok(stat) => Ok(Some(FileType::from_mode(stat.st_mode))),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(error) => Err(Error::setup(format!("cannot look at {}: {error}", escape(path)))),
    }
}

/// The variables of a configuration file; none where there is no file.
pub(super) fn read_config(root: BorrowedFd<'_>, path: &Path) -> Result<Vec<Variable>> {
    let content = match read_beneath(root, path, CONFIG_LIMIT) {
        Ok(content) if content.len() <= CONFIG_LIMIT => content,
        Ok(_) => return Err(Error::setup(format!("git configuration {} is larger than 1 MiB", escape(path)))),
        Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ELOOP | nix::errno::Errno::ENOTDIR) => return Ok(Vec::new()),
        Err(error) => return Err(Error::setup(format!("cannot read {}: {error}", escape(path)))),
    };
    gitconfig::parse(&content)
        .map_err(|line| Error::setup(format!("cannot read git configuration {}, line {}", escape(path), line.0)))
}

/// The guards of a git directory that is in use, its submodules included; `base` is relative to `root`.
pub(super) fn protect(root: BorrowedFd<'_>, base: &Path) -> Result<Vec<Guard>> {
    let mut guards = Vec::new();
    for (name, missing, why) in READ_ONLY {
        let path = base.join(name);
        match (protection(root, &path)?, missing) {
            (Some(action), _) => guards.push(Guard::new(path, action, *why)),
            (None, Some(placeholder)) => guards.push(Guard::new(path, Action::Placeholder(placeholder.clone()), *why)),
            (None, None) => {}
        }
    }
    guards.push(worktree_config(root, base)?);
    let alternates = base.join(ALTERNATES);
    if let Some(action) = protection(root, &alternates)? {
        guards.push(Guard::new(alternates, action, "it names further stores of objects"));
    }
    modules(root, &base.join("modules"), DEPTH, &mut guards)?;
    Ok(guards)
}

/// `config.worktree` counts only when the repository turns it on, but `git sparse-checkout` may do that on any later
/// day, so it is covered also while it does not exist.
pub(super) fn worktree_config(root: BorrowedFd<'_>, base: &Path) -> Result<Guard> {
    let path = base.join("config.worktree");
    let action = protection(root, &path)?.unwrap_or(Action::Placeholder(Placeholder::File("")));
    Ok(Guard::new(path, action, "git configuration names programs"))
}

/// Submodules' git directories lie in `modules`, under their names, which may contain slashes. git takes what lies
/// there for a submodule that it clones later, so nothing new may appear; each that exists is writable in itself.
fn modules(root: BorrowedFd<'_>, path: &Path, depth: usize, guards: &mut Vec<Guard>) -> Result<()> {
    const WHY: &str = "holds git directories of submodules";
    let action = protection(root, path)?.unwrap_or(Action::Placeholder(Placeholder::Directory));
    let present = action == Action::ReadOnly;
    guards.push(Guard::new(path, action, WHY));
    if !present {
        return Ok(());
    }
    let Ok(fd) = beneath(root, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY) else { return Ok(()) };
    if depth == 0 {
        let message = format!("git directories of submodules are nested too deep at {}", escape(path));
        return Err(Error::setup(message));
    }
    let mut children = Vec::new();
    let read = Buffer::default().read(fd.as_fd(), |entry| {
        if matches!(entry.kind, FileType::Directory | FileType::Unknown) {
            children.push(path.join(OsStr::from_bytes(entry.name.to_bytes())));
        }
    });
    read.map_err(|error| Error::setup(format!("cannot read the directory {}: {error}", escape(path))))?;
    for child in children {
        let is_repository =
            kind_of(root, &child.join("HEAD"))?.is_some() && kind_of(root, &child.join("objects"))?.is_some();
        if is_repository {
            guards.push(Guard::new(&child, Action::Pin, "git directory of a submodule"));
            guards.extend(protect(root, &child)?);
        } else {
            modules(root, &child, depth - 1, guards)?;
        }
    }
    Ok(())
}

struct Work<'a, 'q> {
    root: BorrowedFd<'a>,
    query: &'q Query,
    facts: &'a mut TreeFacts,
}

impl Work<'_, '_> {
    fn entry(&mut self, git: &GitDir) -> Result<()> {
        let tree = git.path.parent().unwrap_or(Path::new("")).to_path_buf();
        let top = tree.as_os_str().is_empty();
        match git.kind {
            GitKind::Directory => self.repository(&git.path, &tree),
            GitKind::Symlink => {
                self.guard(&git.path, Action::PinSymlink, "it decides which repository this is");
                let resolved = std::fs::canonicalize(self.query.root.join(&git.path)).ok();
                match resolved.as_deref().and_then(|path| path.strip_prefix(&self.query.root).ok()) {
                    Some(target) if !target.as_os_str().is_empty() => {
                        let target = target.to_path_buf();
                        match kind_of(self.root, &target)? {
                            Some(FileType::Directory) => self.repository(&target, &tree),
                            _ => self.git_file(&target, &tree, top),
                        }
                    }
                    _ if top && resolved.is_some() => {
                        Err(Error::setup("the workspace's .git is a symbolic link that leads out of the workspace")
                            .hint("start in the repository itself, or make a linked worktree with `git worktree add`"))
                    }
                    _ => {
                        self.note(format!(
                            "{} leads out of the workspace; its repository is not visible.",
                            escape(&git.path)
                        ));
                        Ok(())
                    }
                }
            }
            GitKind::File => self.git_file(&git.path, &tree, top),
        }
    }

    /// A `.git` file: `gitdir: PATH`.
    fn git_file(&mut self, path: &Path, tree: &Path, top: bool) -> Result<()> {
        self.guard(path, Action::ReadOnly, "it decides which repository this is");
        let content = read_beneath(self.root, path, 8192).unwrap_or_default();
        let target = content.strip_prefix(b"gitdir:").map(<[u8]>::trim_ascii);
        let Some(target) = target.filter(|target| !target.is_empty()) else {
            self.note(format!("{} is no file git understands.", escape(path)));
            return Ok(());
        };
        let absolute = normal(&self.query.root.join(tree).join(OsStr::from_bytes(target)));
        match absolute.strip_prefix(&self.query.root) {
            Ok(inside) => {
                let inside = inside.to_path_buf();
                self.gitdir_inside(&inside, tree)
            }
            Err(_) if top => {
                let (external, variables) = external::verify(self.root, &self.query.root, &absolute)?;
                self.facts.external_git = Some(external);
                for variable in variables {
                    self.variable(&variable, Path::new(""), None, DEPTH)?;
                }
                Ok(())
            }
            Err(_) => {
                self.note(format!("the repository of {} lies outside the workspace and is not visible.", escape(path)));
                Ok(())
            }
        }
    }

    /// The git directory of a submodule or linked worktree, inside the workspace.
    fn gitdir_inside(&mut self, gitdir: &Path, tree: &Path) -> Result<()> {
        if kind_of(self.root, gitdir)?.is_none() {
            return Ok(());
        }
        let common = read_beneath(self.root, &gitdir.join("commondir"), 8192).ok();
        let common =
            common.map(|text| normal(&self.query.root.join(gitdir).join(OsStr::from_bytes(text.trim_ascii()))));
        let common = common.and_then(|path| path.strip_prefix(&self.query.root).ok().map(Path::to_path_buf));
        match common.filter(|common| common != gitdir) {
            Some(common) => {
                for name in ["commondir", "gitdir", "config.worktree"] {
                    if let Some(action) = protection(self.root, &gitdir.join(name))? {
                        self.guard(&gitdir.join(name), action, "it decides which repository this is");
                    }
                }
                // Its own directory stays writable beneath the read-only `worktrees`.
                self.guard(gitdir, Action::Pin, "git directory of this working tree");
                self.repository(&common, tree)
            }
            None => self.repository(gitdir, tree),
        }
    }

    /// A git directory in use by the working tree `tree`.
    fn repository(&mut self, base: &Path, tree: &Path) -> Result<()> {
        if base.as_os_str().is_empty() {
            return Ok(());
        }
        self.guard(base, Action::Pin, "renaming it would let another repository take its place");
        let variables = match self.config(base) {
            Ok(variables) => variables,
            // git refuses it as well, so nothing in it runs, and it stays as it is.
            Err(error) if !tree.as_os_str().is_empty() => {
                self.note(format!("{error}."));
                Vec::new()
            }
            Err(error) => return Err(error.hint("`git config --list` names what is wrong")),
        };
        let guards = protect(self.root, base)?;
        self.facts.guards.extend(guards);
        self.left_over(base)?;
        let worktree = read_config(self.root, &base.join("config.worktree")).unwrap_or_default();
        for variable in variables.iter().chain(&worktree) {
            self.variable(variable, tree, Some(base), DEPTH)?;
        }
        Ok(())
    }

    /// The configuration of a repository in use, wherever a symbolic link in its place leads.
    fn config(&self, base: &Path) -> Result<Vec<Variable>> {
        let path = base.join("config");
        if kind_of(self.root, &path)? != Some(FileType::Symlink) {
            return read_config(self.root, &path);
        }
        let content = read_through_links(&self.query.root.join(&path), CONFIG_LIMIT)
            .map_err(|error| Error::setup(format!("cannot read {}: {error}", escape(&path))))?;
        if content.len() > CONFIG_LIMIT {
            return Err(Error::setup(format!("git configuration {} is larger than 1 MiB", escape(&path))));
        }
        gitconfig::parse(&content)
            .map_err(|line| Error::setup(format!("cannot read git configuration {}, line {}", escape(&path), line.0)))
    }

    /// The variables of a configuration that may not be in use: errors are no reason to stop.
    fn settings(&mut self, config: &Path, base: &Path) {
        for variable in read_config(self.root, config).unwrap_or_default() {
            if let Err(error) = self.variable(&variable, base, Some(base), DEPTH) {
                self.note(format!("{error}."));
            }
        }
    }

    /// Sockets of git's helpers, other stores of objects, and commands that wait in an unfinished rebase.
    fn left_over(&mut self, base: &Path) -> Result<()> {
        let Ok(fd) = beneath(self.root, base, OFlag::O_RDONLY | OFlag::O_DIRECTORY) else { return Ok(()) };
        let mut sockets = Vec::new();
        let read = Buffer::default().read(fd.as_fd(), |entry| {
            if entry.kind == FileType::Socket
                && let Ok(stat) = fstatat(fd.as_fd(), entry.name, AtFlags::AT_SYMLINK_NOFOLLOW)
            {
                let path = base.join(OsStr::from_bytes(entry.name.to_bytes()));
                sockets.push(Hidden::from_stat(path, &stat, Reason::Socket, false));
            }
        });
        read.map_err(|error| Error::setup(format!("cannot read the directory {}: {error}", escape(base))))?;
        self.facts.hidden.extend(sockets);
        self.facts.hidden.sort_by(|a, b| a.path.cmp(&b.path));
        for name in [ALTERNATES, "rebase-merge/git-rebase-todo", "rebase-apply/applying", "sequencer/todo"] {
            self.host_run(&base.join(name));
        }
        Ok(())
    }

    fn host_run(&mut self, path: &Path) {
        let stat = beneath(self.root, path, OFlag::O_PATH).and_then(|fd| nix::sys::stat::fstat(&fd));
        if let Ok(stat) = stat
            && FileType::from_mode(stat.st_mode) == FileType::File
            && !self.facts.host_run.iter().any(|known| known.path == path)
        {
            self.facts.host_run.push(HostRun::new(path.to_path_buf(), &stat));
        }
    }

    /// What a variable makes git read or run inside the workspace.
    fn variable(&mut self, variable: &Variable, tree: &Path, base: Option<&Path>, depth: usize) -> Result<()> {
        match (variable.section.as_str(), variable.name.as_str()) {
            ("core", "hookspath") => self.hooks_path(&variable.value, tree),
            (section, "path") if section == "include" || section.starts_with("includeif.") => {
                match base.and_then(|base| self.inside(&variable.value, base)) {
                    Some(file) => self.include(&file, tree, depth),
                    None => Ok(()),
                }
            }
            (section, name) if names_a_program(section, name) => {
                let value = variable.value.strip_prefix(b"!").unwrap_or(&variable.value).trim_ascii_start();
                let word = value.split(u8::is_ascii_whitespace).next().unwrap_or_default();
                if word.contains(&b'/')
                    && let Some(path) = self.inside(word, tree)
                {
                    self.host_run(&path);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The path in the workspace that git means, or `None` where it lies elsewhere.
    fn inside(&self, value: &[u8], base: &Path) -> Option<PathBuf> {
        let value = match value.strip_prefix(b"~/") {
            Some(rest) => {
                let mut home = std::env::var_os("HOME")?.into_vec();
                home.push(b'/');
                home.extend_from_slice(rest);
                home
            }
            None => value.to_vec(),
        };
        let path = self.query.root.join(base).join(OsStr::from_bytes(&value));
        // Symbolic links above it count as they are now; they lie in the workspace or are not writable from it.
        let real = std::fs::canonicalize(&path).unwrap_or_else(|_| normal(&path));
        real.strip_prefix(&self.query.root).ok().map(Path::to_path_buf)
    }

    fn hooks_path(&mut self, value: &[u8], tree: &Path) -> Result<()> {
        let Some(hooks) = self.inside(value, tree) else { return Ok(()) };
        if hooks.as_os_str().is_empty() {
            return Err(Error::setup("core.hooksPath names the workspace itself, so any file in it can be a git hook")
                .hint("keep the hooks in a directory of their own"));
        }
        self.read_only(&hooks, Placeholder::Directory, "core.hooksPath: git hooks run on the host")
    }

    fn include(&mut self, file: &Path, tree: &Path, depth: usize) -> Result<()> {
        self.read_only(file, Placeholder::File(""), "git configuration includes it")?;
        let Some(depth) = depth.checked_sub(1) else { return Ok(()) };
        let base = file.parent().unwrap_or(Path::new("")).to_path_buf();
        for variable in read_config(self.root, file)? {
            self.variable(&variable, tree, Some(&base), depth)?;
        }
        Ok(())
    }

    /// Makes a path read-only, or covers it while it is missing, and keeps the directories above it in place.
    fn read_only(&mut self, path: &Path, missing: Placeholder, why: &'static str) -> Result<()> {
        let mut above = PathBuf::new();
        for part in path.components() {
            above.push(part);
            let last = above == path;
            match protection(self.root, &above)? {
                Some(action) if last => self.guard(&above, action, why),
                Some(_) => {
                    self.guard(&above, Action::Pin, "holds what the host executes; renaming it would uncover that")
                }
                None => {
                    let stand_in = if last { missing } else { Placeholder::Directory };
                    self.guard(&above, Action::Placeholder(stand_in), why);
                    break;
                }
            }
        }
        Ok(())
    }

    fn guard(&mut self, path: &Path, action: Action, why: &'static str) {
        self.facts.guards.push(Guard::new(path, action, why));
    }

    fn note(&mut self, note: String) {
        self.facts.notes.push(note);
    }
}

/// Variables whose value is a command line.
fn names_a_program(section: &str, name: &str) -> bool {
    let group = section.split('.').next().unwrap_or_default();
    matches!(
        (group, name),
        ("core", "fsmonitor" | "sshcommand" | "editor" | "pager" | "askpass" | "gitproxy" | "alternaterefscommand")
            | ("sequence", "editor")
            | ("diff", "external" | "command" | "textconv")
            | ("filter", "clean" | "smudge" | "process")
            | ("merge", "driver")
            | ("mergetool" | "difftool", "cmd" | "path")
            | ("gpg", "program")
            | ("credential", "helper")
            | ("remote", "uploadpack" | "receivepack")
            | ("uploadpack", "packobjectshook")
            | ("interactive", "difffilter")
            | ("alias" | "pager", _)
    )
}

/// The path without `.` and `..`, by its text alone.
pub(super) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}
