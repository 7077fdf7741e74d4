//! The other names of what is hidden: targets of symbolic links, and hard links.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{fstat, fstatat};
use nix::sys::statfs::{FsType, fstatfs};

use super::collect::{DEPENDENCY, DEPENDENCY_DIRECTORIES, Found, Linked, collect_interior, prune};
use super::open::{beneath, read_beneath};
use super::walk::{Dir, Task, Visitor, to_path, walk};
use super::{Hidden, HiddenKind, Query, TreeFacts, UnresolvedLink};
use crate::error::Result;
use crate::secrets::names::Unless;
use crate::secrets::{Reason, content};
use crate::sys::dirent::{Entry, FileType};

/// Hides what symbolic links with a hidden name lead to, where that is in the workspace.
///
/// What lies outside is not visible in the jail, and the link itself holds nothing.
pub(super) fn hide_targets(root: BorrowedFd<'_>, query: &Query, found: &mut Found) -> Result<()> {
    for (link, unless) in std::mem::take(&mut found.links) {
        let Ok(resolved) = std::fs::canonicalize(query.root.join(&link)) else { continue };
        let Ok(target) = resolved.strip_prefix(&query.root) else { continue };
        // A link to a directory that it lies in itself would hide the work, not a secret.
        if link.starts_with(target) || target_is_public(root, target, unless) {
            continue;
        }
        let Ok(fd) = beneath(root, target, OFlag::O_PATH) else { continue };
        let Ok(stat) = fstat(&fd) else { continue };
        let dependency = in_dependency(target);
        let hidden = Hidden::from_stat(target.to_path_buf(), &stat, Reason::LinkTarget(link), dependency);
        if hidden.kind == HiddenKind::Directory {
            found.interior.extend(collect_interior(root, query, target.as_os_str().as_bytes().to_vec())?);
        }
        found.hidden.push(hidden);
    }
    Ok(())
}

/// Whether the content of what a link leads to lets it stay visible.
pub(crate) fn target_is_public(root: BorrowedFd<'_>, target: &Path, unless: Unless) -> bool {
    let read = |limit| read_beneath(root, target, limit).ok();
    match unless {
        Unless::PublicPem => read(content::LIMIT).is_some_and(|content| content::public_pem(&content)),
        Unless::NoCredential => read(content::SETTINGS_LIMIT).is_some_and(|content| content::no_credential(&content)),
        Unless::Never | Unless::Example | Unless::Venv => false,
    }
}

fn in_dependency(path: &Path) -> bool {
    let known = |name: &[u8]| DEPENDENCY_DIRECTORIES.iter().any(|known| known.as_bytes() == name);
    path.components().any(|part| known(part.as_os_str().as_bytes()))
}

/// Hides every other name of hidden files, and notes the files that have names outside the workspace.
///
/// A directory records inode numbers but no link counts, so this costs a second walk, made only when a hidden file has
/// more than one name.
pub(super) fn hide_aliases(root: BorrowedFd<'_>, found: &mut Found, facts: &mut TreeFacts) -> Result<()> {
    let mut wanted: BTreeMap<(u64, u64), Linked> = BTreeMap::new();
    let hidden = found.hidden.iter().filter(|h| h.nlink > 1 && h.kind != HiddenKind::Directory).map(|h| Linked {
        dev: h.dev,
        ino: h.ino,
        nlink: h.nlink,
        path: h.path.clone(),
        dependency: h.dependency,
    });
    for linked in hidden.chain(std::mem::take(&mut found.interior)) {
        wanted.entry((linked.dev, linked.ino)).or_insert(linked);
    }
    if !wanted.is_empty() {
        let inodes: HashSet<u64> = wanted.keys().map(|&(_, ino)| ino).collect();
        let start = Task { path: Vec::new(), flags: 0 };
        let parts = walk(root, start, &|| Aliases { inodes: &inodes, wanted: &wanted, names: Vec::new(), here: None })?;
        let mut names: Vec<Hidden> = parts.into_iter().flat_map(|part| part.names).collect();
        names.sort_by(|a, b| (a.dev, a.ino, &a.path).cmp(&(b.dev, b.ino, &b.path)));
        for same in names.chunk_by(|a, b| (a.dev, a.ino) == (b.dev, b.ino)) {
            let Some(first) = wanted.remove(&(same[0].dev, same[0].ino)) else { continue };
            let count = same.len() as u64;
            if count < same[0].nlink {
                let dependency = same.iter().all(|name| name.dependency);
                facts.unresolved_links.push(UnresolvedLink {
                    path: first.path,
                    links: same[0].nlink,
                    found: count,
                    dependency,
                });
            }
        }
        // A name that vanished between the two walks: the file may live on under another.
        for (_, gone) in wanted {
            let Linked { path, nlink, dependency, .. } = gone;
            facts.unresolved_links.push(UnresolvedLink { path, links: nlink, found: 0, dependency });
        }
        let known: HashSet<PathBuf> = found.hidden.iter().map(|hidden| hidden.path.clone()).collect();
        found.hidden.extend(names.into_iter().filter(|name| !known.contains(&name.path)));
    }
    prune(&mut found.hidden);
    Ok(())
}

struct Aliases<'w> {
    inodes: &'w HashSet<u64>,
    wanted: &'w BTreeMap<(u64, u64), Linked>,
    names: Vec<Hidden>,
    /// Whether `d_ino` of the directory being read, by its path, is `st_ino`.
    here: Option<(Vec<u8>, bool)>,
}

/// File systems whose directories record the inode numbers that stat(2) shows.
const EXACT_INODES: &[i64] = &[0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0xf2f5_2010];

impl Aliases<'_> {
    fn exact(&mut self, dir: &Dir<'_>) -> bool {
        match &self.here {
            Some((path, exact)) if path == dir.path => *exact,
            _ => {
                let kind = fstatfs(dir.fd).map(|stat| stat.filesystem_type());
                #[allow(clippy::unnecessary_cast, reason = "the type differs between architectures")]
                let exact = kind.is_ok_and(|FsType(kind)| EXACT_INODES.contains(&(kind as i64)));
                self.here = Some((dir.path.to_vec(), exact));
                exact
            }
        }
    }
}

impl Visitor for Aliases<'_> {
    fn entry(&mut self, dir: &Dir<'_>, entry: &Entry<'_>) -> Result<Option<u8>> {
        if entry.kind == FileType::Directory {
            let known = DEPENDENCY_DIRECTORIES.iter().any(|known| known.as_bytes() == entry.name.to_bytes());
            return Ok(Some(if known { dir.flags | DEPENDENCY } else { dir.flags }));
        }
        if (self.inodes.contains(&entry.ino) || !self.exact(dir))
            && let Ok(stat) = fstatat(dir.fd.as_fd(), entry.name, AtFlags::AT_SYMLINK_NOFOLLOW)
            && let Some(first) = self.wanted.get(&(stat.st_dev, stat.st_ino))
        {
            let path = to_path(&dir.join(entry.name.to_bytes()));
            let reason = Reason::HardLink(first.path.clone());
            self.names.push(Hidden::from_stat(path, &stat, reason, dir.flags & DEPENDENCY != 0));
        }
        Ok(None)
    }
}
