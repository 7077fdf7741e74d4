//! The repository outside the workspace that a linked worktree or a submodule's checkout belongs to.
//!
//! A `.git` file is text in the workspace, and a jailed process may once have written it. It counts only when the
//! repository it names says, in a file the jail never lets anyone write, that this workspace is its working tree.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, fstat};
use serde::Serialize;

use super::git::{kind_of, normal, protect, protection, read_config, worktree_config};
use super::gitconfig::Variable;
use super::{Action, Guard};
use crate::error::{Error, Result};
use crate::sys::dirent::FileType;
use crate::tree::escape;
use crate::tree::open::{beneath, read_beneath};

/// A repository that is mounted beside the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExternalGit {
    /// The repository: an absolute path without symbolic links. It is mounted writable under the guards.
    #[serde(serialize_with = "crate::tree::escaped")]
    pub common: PathBuf,
    /// This working tree's own git directory, `common` itself for a submodule.
    #[serde(serialize_with = "crate::tree::escaped")]
    pub gitdir: PathBuf,
    /// Device and inode of `common` when it was verified, to be compared when it is mounted.
    pub identity: (u64, u64),
    /// Relative to `common`, parents first.
    pub guards: Vec<Guard>,
}

const HINT: &str = "check `.git` and `git worktree list`; `git worktree repair` mends a moved worktree; or start in the main repository";

/// Verifies that the git directory `gitdir`, outside the workspace, takes the workspace for its working tree.
///
/// Returns what to mount, and the variables of its configuration.
pub(super) fn verify(workspace: BorrowedFd<'_>, root: &Path, gitdir: &Path) -> Result<(ExternalGit, Vec<Variable>)> {
    let refuse = |why: String| {
        Error::setup(format!("the repository {} named by .git is not used: {why}", escape(gitdir))).hint(HINT)
    };
    let top = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|error| Error::setup(format!("cannot open /: {error}")))?;
    let open_directory = |path: &Path| -> Result<(OwnedFd, FileStat)> {
        open_absolute(&top, path, OFlag::O_PATH | OFlag::O_DIRECTORY)
            .map_err(|error| refuse(format!("cannot open {} without following links: {error}", escape(path))))
    };
    let (own, own_stat) = open_directory(gitdir)?;
    let owner =
        fstat(workspace).map_err(|error| Error::setup(format!("cannot look at the workspace: {error}")))?.st_uid;
    if own_stat.st_uid != owner {
        return Err(refuse(format!("it belongs to user {}, the workspace to user {owner}", own_stat.st_uid)));
    }
    let pointer = |name: &str| -> Result<Option<PathBuf>> {
        match read_beneath(own.as_fd(), Path::new(name), 8192) {
            Ok(text) => Ok(Some(normal(&gitdir.join(OsStr::from_bytes(text.trim_ascii_end()))))),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(refuse(format!("cannot read its file {name}: {error}"))),
        }
    };
    let worktree = pointer("commondir")?.filter(|common| common != gitdir);
    let (common, common_fd, common_stat) = match worktree {
        Some(common) => {
            let (fd, stat) = open_directory(&common)?;
            if gitdir.parent() != Some(&common.join("worktrees")) {
                return Err(refuse("it does not lie in the directory `worktrees` of its repository".to_owned()));
            }
            let back = pointer("gitdir")?.ok_or_else(|| refuse("it names no working tree".to_owned()))?;
            let back_stat = open_absolute(&top, &back, OFlag::O_PATH).map(|(_, stat)| stat);
            let here = beneath(workspace, Path::new(".git"), OFlag::O_PATH).and_then(|fd| fstat(&fd));
            if !same(back_stat, here) {
                return Err(refuse(format!("its working tree is {}", escape(&back))));
            }
            (common, fd, stat)
        }
        None => {
            let variables = read_config(own.as_fd(), Path::new("config"))?;
            let names_tree = |v: &&Variable| v.section == "core" && v.name == "worktree";
            let tree =
                variables.iter().rev().find(names_tree).map(|v| normal(&gitdir.join(OsStr::from_bytes(&v.value))));
            let tree =
                tree.ok_or_else(|| refuse("its configuration names no working tree (core.worktree)".to_owned()))?;
            let tree_stat = open_absolute(&top, &tree, OFlag::O_PATH).map(|(_, stat)| stat);
            if !same(tree_stat, fstat(workspace)) {
                return Err(refuse(format!("its working tree is {}", escape(&tree))));
            }
            (gitdir.to_path_buf(), own, own_stat)
        }
    };
    if common_stat.st_uid != owner {
        return Err(refuse(format!("it belongs to user {}, the workspace to user {owner}", common_stat.st_uid)));
    }
    if root.starts_with(&common) && common.file_name() != Some(OsStr::new(".git")) && !common.join("worktrees").exists()
    {
        return Err(refuse("it holds the workspace itself".to_owned()));
    }
    for (name, wanted) in [("HEAD", FileType::File), ("objects", FileType::Directory), ("refs", FileType::Directory)] {
        if kind_of(common_fd.as_fd(), Path::new(name))? != Some(wanted) {
            return Err(refuse(format!("{} is no git directory: {name} is missing or a link", escape(&common))));
        }
    }
    describe(gitdir, common, common_fd.as_fd(), &common_stat)
}

fn describe(
    gitdir: &Path,
    common: PathBuf,
    fd: BorrowedFd<'_>,
    stat: &FileStat,
) -> Result<(ExternalGit, Vec<Variable>)> {
    let variables = read_config(fd, Path::new("config"))?;
    let mut guards = protect(fd, Path::new(""))?;
    if let Ok(own) = gitdir.strip_prefix(&common)
        && !own.as_os_str().is_empty()
    {
        for name in ["HEAD", "index"] {
            if let Some(action) = protection(fd, Path::new(name))? {
                guards.push(Guard::new(name, action, "it belongs to the main working tree"));
            }
        }
        guards.push(Guard::new(
            own,
            Action::Pin,
            "git directory of this working tree, writable in the read-only `worktrees`",
        ));
        for name in ["commondir", "gitdir"] {
            if let Some(action) = protection(fd, &own.join(name))? {
                guards.push(Guard::new(own.join(name), action, "it decides which repository this is"));
            }
        }
        guards.push(worktree_config(fd, own)?);
    }
    super::tidy(&mut guards);
    let identity = (stat.st_dev, stat.st_ino);
    let external = ExternalGit { common, gitdir: gitdir.to_path_buf(), identity, guards };
    Ok((external, variables))
}

fn open_absolute(top: &OwnedFd, path: &Path, flags: OFlag) -> Result<(OwnedFd, FileStat), Errno> {
    let relative = path.strip_prefix("/").map_err(|_| Errno::EINVAL)?;
    let fd = beneath(top.as_fd(), relative, flags)?;
    let stat = fstat(&fd)?;
    Ok((fd, stat))
}

fn same(a: Result<FileStat, Errno>, b: Result<FileStat, Errno>) -> bool {
    matches!((a, b), (Ok(a), Ok(b)) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}
