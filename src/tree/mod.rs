//! One pass over the workspace before the fork: what is hidden, what is protected, what the host will execute.

mod collect;
mod links;
pub mod open;
mod sockets;
mod walk;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode};
use serde::{Serialize, Serializer};

use crate::error::{Error, Result};
use crate::guard::external::ExternalGit;
use crate::guard::hostrun::HostRun;
use crate::guard::{Guard, Protection};
use crate::policy::{FilesystemPolicy, ScanMode, Sourced};
use crate::secrets::{Matcher, Reason};

pub use crate::escape::escape;
pub(crate) use crate::escape::{escape_bytes, escaped};
pub(crate) use collect::public;
pub(crate) use links::target_is_public;
pub use sockets::sockets;

/// Hidden files in one directory from which on hiding the directory is the better answer.
pub const CROWD: usize = 1000;

/// What to look for, compiled once and used for every pass and by the watcher.
#[derive(Debug, Clone)]
pub struct Query {
    /// The workspace: absolute, without symbolic links.
    pub root: PathBuf,
    /// Which names are hidden.
    pub matcher: Arc<Matcher>,
    /// Which names are protected beside the built-in table, and which are not.
    pub protection: Arc<Protection>,
}

impl Query {
    /// Compiles the policy's globs for the workspace `root`, which must be absolute and free of symbolic links.
    ///
    /// # Errors
    /// A relative root, or a glob that cannot be compiled, named with its place.
    pub fn new(root: &Path, filesystem: &FilesystemPolicy, scan: ScanMode) -> Result<Self> {
        if !root.is_absolute() {
            return Err(Error::setup(format!("workspace {} is not an absolute path", escape(root))));
        }
        Ok(Self {
            root: root.to_path_buf(),
            matcher: Arc::new(Matcher::compile(filesystem, scan)?),
            protection: Arc::new(Protection::compile(filesystem)?),
        })
    }
}

/// A tree that was searched, and how it appears inside.
#[derive(Debug)]
pub struct Searched {
    /// Its path inside; empty for the workspace, whose paths are written relative to it.
    pub shown: PathBuf,
    /// What was looked for.
    pub query: Query,
    /// What was found.
    pub facts: TreeFacts,
}

/// What the pass found. All paths are relative to the workspace; lists are sorted, parents before children.
#[derive(Debug, Default, Serialize)]
pub struct TreeFacts {
    /// What gets a mask. Nothing in the list lies beneath a hidden directory of the list.
    pub hidden: Vec<Hidden>,
    /// Hidden files with more names than the workspace has: the others lie outside it.
    pub unresolved_links: Vec<UnresolvedLink>,
    /// Globs of `filesystem.hide` that matched nothing.
    pub unmatched: Vec<Sourced<String>>,
    /// Directories with more hidden files than [`CROWD`], with their number.
    pub crowded: Vec<(PathText, usize)>,
    /// Git directories and the files that stand for one.
    pub git: Vec<GitDir>,
    /// Directories with a repository's layout without the name `.git`.
    pub bare: Vec<PathText>,
    /// What is made read-only, pinned or covered, parents first.
    pub guards: Vec<Guard>,
    /// Lines for git's `ignore` inside: placeholders, and hidden files that are not tracked.
    pub git_ignore: Vec<String>,
    /// Lines for git's `attributes` inside, so that no stand-in is committed.
    pub git_attributes: Vec<String>,
    /// The repository outside the workspace that this linked worktree or submodule belongs to.
    pub external_git: Option<ExternalGit>,
    /// Device and inode of the searched directory itself (the empty path) and of everything in `protected` and `git`.
    #[serde(skip)]
    pub identities: BTreeMap<PathBuf, (u64, u64)>,
    /// Names of the table of protected configuration that exist, protected or not.
    pub protected: Vec<PathText>,
    /// Files the host will execute, as they are now.
    pub host_run: Vec<HostRun>,
    /// Symbolic links that lead out of the workspace.
    pub outward: Vec<PathText>,
    /// Directories this process may not read; a jailed process under the same user cannot either.
    pub unreadable: Vec<PathText>,
    /// Remarks for the user, complete sentences.
    pub notes: Vec<String>,
    /// Entries that are no directory.
    pub files: u64,
    /// Directories read, the workspace itself included.
    pub directories: u64,
}

/// A path that is serialised with every byte that is not printable ASCII or letters escaped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathText(pub PathBuf);

impl Serialize for PathText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        escaped(&self.0, serializer)
    }
}

/// A path that gets a mask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hidden {
    /// Where it is, relative to the workspace.
    #[serde(serialize_with = "escaped")]
    pub path: PathBuf,
    /// What the mask has to look like.
    pub kind: HiddenKind,
    /// Device it was on when the pass saw it.
    pub dev: u64,
    /// Its inode number when the pass saw it.
    pub ino: u64,
    /// Its change time when the pass saw it, seconds since the epoch and nanoseconds.
    pub ctime: (i64, i64),
    /// How many names it has.
    pub nlink: u64,
    /// Why it is hidden.
    pub reason: Reason,
    /// Whether it lies in a directory of installed packages (`node_modules`, a virtual environment, `target`).
    pub dependency: bool,
}

/// The shape of a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HiddenKind {
    /// An empty directory.
    Directory,
    /// A blank regular file; for a socket, FIFO or device the size is 0.
    File {
        /// Size in bytes.
        size: u64,
        /// Modification time, seconds since the epoch and nanoseconds.
        mtime: (i64, i64),
        /// `st_mode`, with the type.
        mode: u32,
    },
}

impl Hidden {
    pub(crate) fn from_stat(path: PathBuf, stat: &FileStat, reason: Reason, dependency: bool) -> Self {
        let kind = if stat.st_mode & nix::libc::S_IFMT == nix::libc::S_IFDIR {
            HiddenKind::Directory
        } else {
            let size = u64::try_from(stat.st_size).unwrap_or(0);
            HiddenKind::File { size, mtime: (stat.st_mtime, stat.st_mtime_nsec), mode: stat.st_mode }
        };
        #[allow(clippy::unnecessary_cast, reason = "st_nlink is narrower on some architectures")]
        let nlink = stat.st_nlink as u64;
        let ctime = (stat.st_ctime, stat.st_ctime_nsec);
        Self { path, kind, dev: stat.st_dev, ino: stat.st_ino, ctime, nlink, reason, dependency }
    }
}

/// A hidden file that has names outside the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnresolvedLink {
    /// The hidden file.
    #[serde(serialize_with = "escaped")]
    pub path: PathBuf,
    /// How many names it has.
    pub links: u64,
    /// How many of them are in the workspace.
    pub found: u64,
    /// Whether all names in the workspace lie in directories of installed packages, whose stores share files by link.
    pub dependency: bool,
}

/// A `.git` in the workspace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct GitDir {
    /// Its path; `.git` for the workspace's own.
    #[serde(serialize_with = "escaped")]
    pub path: PathBuf,
    /// What stands there.
    pub kind: GitKind,
}

/// What a `.git` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GitKind {
    /// A repository.
    Directory,
    /// A file that names the repository: a linked worktree or a submodule.
    File,
    /// A symbolic link.
    Symlink,
}

impl TreeFacts {
    /// Why a jail must not start on this tree, if there is a reason.
    ///
    /// # Errors
    /// More hidden files than the kernel lets a namespace mount, a crowded directory, or, unless `allow_links`, a hidden
    /// file with a name outside the workspace.
    pub fn check(&self, allow_links: bool) -> Result<()> {
        if let Some((directory, count)) = self.crowded.first() {
            let shown = if directory.0.as_os_str().is_empty() { ".".to_owned() } else { escape(&directory.0) };
            return Err(Error::setup(format!("{count} files to hide in the directory {shown}"))
                .hint(format!("hide the directory itself: `hide = [\"{shown}/\"]` in [filesystem]")));
        }
        let most = mount_max();
        let mounts = self.hidden.len() + self.guards.len();
        if mounts > most {
            return Err(Error::setup(format!("{mounts} files to hide or protect, the kernel allows {most} mounts"))
                .hint("hide whole directories in `filesystem.hide`, or raise fs.mount-max"));
        }
        match self.unresolved_links.iter().find(|link| !link.dependency) {
            Some(link) if !allow_links => Err(Error::setup(format!(
                "hidden file {} has {} names and only {} of them in the workspace",
                escape(&link.path),
                link.links,
                link.found
            ))
            .hint("`find / -xdev -samefile FILE` names the others; remove the link or copy the file")),
            _ => Ok(()),
        }
    }
}

/// How many more mounts the namespace may hold, leaving room for the jail's own.
fn mount_max() -> usize {
    const OWN: usize = 512;
    let read = std::fs::read_to_string("/proc/sys/fs/mount-max").ok();
    read.and_then(|text| text.trim().parse::<usize>().ok()).unwrap_or(100_000).saturating_sub(OWN)
}

/// Makes the pass. Threads are used for large trees only, and none is left afterwards.
///
/// # Errors
/// The workspace cannot be opened; a directory cannot be read for another reason than permission; a git directory that
/// cannot be protected.
pub fn pass(query: &Query) -> Result<TreeFacts> {
    let root = open_root(&query.root)?;
    let mut facts = TreeFacts::default();
    let mut found = collect::collect(root.as_fd(), query)?;
    links::hide_targets(root.as_fd(), query, &mut found)?;
    links::hide_aliases(root.as_fd(), &mut found, &mut facts)?;
    collect::finish(query, found, &mut facts);
    crate::guard::apply(root.as_fd(), query, &mut facts)?;
    Ok(facts)
}

/// Searches again after a run, for [`crate::guard::report()`]: what of git cannot be judged becomes a note, or the workload
/// could keep everything else from being reported.
///
/// # Errors
/// The workspace cannot be opened; a directory cannot be read for another reason than permission.
pub fn pass_again(query: &Query) -> Result<TreeFacts> {
    let root = open_root(&query.root)?;
    let mut facts = TreeFacts::default();
    let found = collect::collect(root.as_fd(), query)?;
    collect::finish(query, found, &mut facts);
    let (git, bare) = (facts.git.clone(), facts.bare.clone());
    if let Err(error) = crate::guard::apply(root.as_fd(), query, &mut facts) {
        facts.notes.push(format!("{error}."));
        (facts.git, facts.bare) = (git, bare);
    }
    Ok(facts)
}

/// Opens the workspace itself. Its path was resolved before; a symbolic link in it now was put there since, and would
/// lead to a directory nobody asked for.
pub(crate) fn open_root(root: &Path) -> Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let top = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
    let below = root.strip_prefix("/").unwrap_or(root);
    match top.and_then(|top| open::beneath(top.as_fd(), below, flags)) {
        Ok(fd) => Ok(fd.into()),
        Err(error @ (Errno::ELOOP | Errno::ENOTDIR)) => {
            Err(Error::setup(format!("workspace {}: {error}", escape(root)))
                .hint("name the directory itself, not a link to it"))
        }
        Err(error) => Err(Error::setup(format!("cannot open the workspace {}: {error}", escape(root)))),
    }
}
