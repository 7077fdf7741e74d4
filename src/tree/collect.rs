//! What a thread of the pass gathers, and how the parts become [`TreeFacts`].

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, fstat, fstatat};

use super::open::{beneath, read_at};
use super::walk::{Dir, Task, Visitor, to_path, walk};
use super::{CROWD, GitDir, GitKind, Hidden, HiddenKind, PathText, Query, TreeFacts};
use crate::error::{Error, Result};
use crate::guard::hostrun::{self, HostRun, Outward, outward};
use crate::guard::placeholder::is_placeholder;
use crate::guard::{placeholder_contents, protects};
use crate::secrets::matcher::{Verdict, fold};
use crate::secrets::names::Unless;
use crate::secrets::{Reason, content};
use crate::sys::dirent::{Entry, FileType};

/// The directory lies in one that the policy reveals.
const REVEALED: u8 = 1;
/// The directory lies in a hidden one: only the inodes of its files matter.
pub(super) const INTERIOR: u8 = 2;
/// The directory lies in one of installed packages.
pub(super) const DEPENDENCY: u8 = 4;
/// Everything in the directory is executed by the host.
const RECORD: u8 = 8;

/// Directories of installed packages and build output: tools make them anew, so what lies there is hidden and reported
/// but not protected, or no tool could remove it.
pub(super) const DEPENDENCY_DIRECTORIES: &[&str] = &[
    "node_modules",
    "target",
    ".venv",
    "venv",
    "site-packages",
    ".tox",
    ".nox",
    "bower_components",
    ".yarn",
    ".pnpm-store",
];

/// An inode with more than one name that has to be hidden under all of them.
#[derive(Debug, Clone)]
pub(super) struct Linked {
    pub dev: u64,
    pub ino: u64,
    pub nlink: u64,
    pub path: PathBuf,
    pub dependency: bool,
}

/// What the walk found, still unsorted.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub hidden: Vec<Hidden>,
    /// Symbolic links with a hidden name.
    pub links: Vec<(PathBuf, Unless)>,
    /// Files in hidden directories that have further names.
    pub interior: Vec<Linked>,
    pub git: Vec<GitDir>,
    pub bare: Vec<PathBuf>,
    pub protected: Vec<PathBuf>,
    /// Of these, the ones outside directories of installed packages.
    pub guarded: Vec<(PathBuf, FileType)>,
    pub host_run: Vec<HostRun>,
    pub outward: Vec<PathBuf>,
    pub unreadable: Vec<PathBuf>,
    pub matched: BTreeSet<usize>,
    pub crowded: Vec<(PathBuf, usize)>,
    pub files: u64,
    pub directories: u64,
}

impl Found {
    fn append(&mut self, mut other: Self) {
        self.hidden.append(&mut other.hidden);
        self.links.append(&mut other.links);
        self.interior.append(&mut other.interior);
        self.git.append(&mut other.git);
        self.bare.append(&mut other.bare);
        self.protected.append(&mut other.protected);
        self.guarded.append(&mut other.guarded);
        self.host_run.append(&mut other.host_run);
        self.outward.append(&mut other.outward);
        self.unreadable.append(&mut other.unreadable);
        self.matched.append(&mut other.matched);
        self.crowded.append(&mut other.crowded);
        self.files += other.files;
        self.directories += other.directories;
    }
}

struct Collector<'q> {
    query: &'q Query,
    found: Found,
    /// Of the directory being read: parts of a repository's layout seen, and files hidden.
    layout: u8,
    hidden_here: usize,
}

const HEAD: u8 = 1;
const OBJECTS: u8 = 2;
const REFS: u8 = 4;
const COMMONDIR: u8 = 8;

impl Collector<'_> {
    fn stat(dir: &Dir<'_>, entry: &Entry<'_>) -> Option<FileStat> {
        fstatat(dir.fd, entry.name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()
    }

    fn interior(&mut self, dir: &Dir<'_>, entry: &Entry<'_>) -> Option<u8> {
        if entry.kind == FileType::Directory {
            return Some(dir.flags);
        }
        if let Some(stat) = Self::stat(dir, entry)
            && stat.st_nlink > 1
        {
            let (dev, ino, nlink) = (stat.st_dev, stat.st_ino, stat.st_nlink);
            let path = to_path(&dir.join(entry.name.to_bytes()));
            #[allow(clippy::useless_conversion, reason = "st_nlink is narrower on some architectures")]
            let nlink = nlink.into();
            self.found.interior.push(Linked { dev, ino, nlink, path, dependency: dir.flags & DEPENDENCY != 0 });
        }
        None
    }

    /// Whether the entry gets a mask; then it is recorded.
    fn hide(&mut self, dir: &Dir<'_>, entry: &Entry<'_>, reason: Reason, unless: Unless) -> bool {
        if let Some(index) = self.query.matcher.hide_index(&reason) {
            self.found.matched.insert(index);
        }
        if public(dir.fd, entry.name, entry.kind, unless) {
            return false;
        }
        let path = to_path(&dir.join(entry.name.to_bytes()));
        if entry.kind == FileType::Symlink {
            self.found.links.push((path, unless));
            return true;
        }
        let Some(stat) = Self::stat(dir, entry) else {
            // Gone, or in a directory that can be listed and not searched, which its owner can change.
            self.found.unreadable.push(to_path(dir.path));
            return true;
        };
        self.hidden_here += 1;
        self.found.hidden.push(Hidden::from_stat(path, &stat, reason, dir.flags & DEPENDENCY != 0));
        true
    }

    fn host_run(&mut self, dir: &Dir<'_>, entry: &Entry<'_>) {
        if let Some(stat) = Self::stat(dir, entry) {
            self.found.host_run.push(HostRun::new(to_path(&dir.join(entry.name.to_bytes())), &stat));
        }
    }

    fn git(&mut self, dir: &Dir<'_>, entry: &Entry<'_>) {
        let kind = match entry.kind {
            FileType::Directory => GitKind::Directory,
            FileType::Symlink => GitKind::Symlink,
            _ => GitKind::File,
        };
        self.found.git.push(GitDir { path: to_path(&dir.join(entry.name.to_bytes())), kind });
    }
}

impl Visitor for Collector<'_> {
    fn entry(&mut self, dir: &Dir<'_>, entry: &Entry<'_>) -> Result<Option<u8>> {
        let directory = entry.kind == FileType::Directory;
        if directory {
            self.found.directories += 1;
        } else {
            self.found.files += 1;
        }
        if dir.flags & INTERIOR != 0 {
            return Ok(self.interior(dir, entry));
        }
        let name = entry.name.to_bytes();
        let matcher = &self.query.matcher;
        let revealed = dir.flags & REVEALED != 0;
        let mut verdict = matcher.verdict(dir.path, name, directory, revealed);
        if entry.kind == FileType::Symlink && verdict == Verdict::Visible {
            // The name of a link to a directory is a directory's name.
            verdict = matcher.verdict(dir.path, name, true, revealed);
        }
        let mut flags = dir.flags & (REVEALED | DEPENDENCY | RECORD);
        match verdict {
            // Another jail's: it holds nothing, and this one takes it over.
            Verdict::Hidden(..)
                if dir.path.is_empty()
                    && protects(dir.path, &fold(name))
                    && is_placeholder(dir.fd, entry.name, placeholder_contents()) =>
            {
                return Ok(None);
            }
            Verdict::Hidden(reason, unless) => {
                if self.hide(dir, entry, reason, unless) {
                    // A mask protects it as well; a new one is reported all the same.
                    let folded = fold(name);
                    if protects(dir.path, &folded) {
                        self.found.protected.push(to_path(&dir.join(name)));
                    }
                    let dependency = dir.flags & DEPENDENCY != 0;
                    if !directory && hostrun::runs(dir.path, &folded, false, dependency) {
                        self.host_run(dir, entry);
                    }
                    return Ok(directory.then_some(INTERIOR | dir.flags & DEPENDENCY));
                }
                if unless == Unless::Venv {
                    flags |= DEPENDENCY;
                }
            }
            Verdict::Revealed => flags |= REVEALED,
            Verdict::Visible if entry.kind == FileType::Socket && !revealed && !matcher.reveals(dir.path, name) => {
                self.hide(dir, entry, Reason::Socket, Unless::Never);
                return Ok(None);
            }
            Verdict::Visible => {}
        }
        let folded = fold(name);
        match &*folded {
            b".git" => {
                self.git(dir, entry);
                return Ok(None);
            }
            b"head" => self.layout |= HEAD,
            b"objects" => self.layout |= OBJECTS,
            b"refs" => self.layout |= REFS,
            b"commondir" => self.layout |= COMMONDIR,
            _ => {}
        }
        if entry.kind == FileType::Symlink {
            let target = nix::fcntl::readlinkat(dir.fd, entry.name);
            if let Ok(target) = target
                && outward(&self.query.root, dir.path, &target) == Outward::Yes
            {
                self.found.outward.push(to_path(&dir.join(name)));
            }
        }
        let dependency = dir.flags & DEPENDENCY != 0;
        let protection = &self.query.protection;
        if protects(dir.path, &folded) || protection.also(dir.path, name, directory) {
            if is_placeholder(dir.fd, entry.name, placeholder_contents()) {
                return Ok(None);
            }
            let path = to_path(&dir.join(name));
            if !dependency {
                self.found.guarded.push((path.clone(), entry.kind));
            }
            if protection.lifted(&path) && directory {
                flags |= RECORD;
            }
            self.found.protected.push(path);
        }
        let runs = hostrun::runs(dir.path, &folded, directory, dependency);
        if directory {
            if runs {
                flags |= RECORD;
            }
            if DEPENDENCY_DIRECTORIES.iter().any(|known| known.as_bytes() == &*folded) {
                flags |= DEPENDENCY;
            }
            return Ok(Some(flags));
        }
        if runs || dir.flags & RECORD != 0 {
            self.host_run(dir, entry);
        }
        Ok(None)
    }

    fn leave(&mut self, dir: &Dir<'_>) {
        if self.layout & HEAD != 0 && (self.layout & (OBJECTS | REFS) == OBJECTS | REFS || self.layout & COMMONDIR != 0)
        {
            self.found.bare.push(to_path(dir.path));
        }
        if self.hidden_here > CROWD {
            self.found.crowded.push((to_path(dir.path), self.hidden_here));
        }
        self.layout = 0;
        self.hidden_here = 0;
    }

    fn unreadable(&mut self, path: &[u8], _error: Errno) {
        self.found.unreadable.push(to_path(path));
    }
}

/// Whether the file's content or the directory's shape lets it stay visible.
pub(crate) fn public(dir: BorrowedFd<'_>, name: &CStr, kind: FileType, unless: Unless) -> bool {
    let read = |limit| (kind == FileType::File).then(|| read_at(dir, name, limit).ok()).flatten();
    match unless {
        Unless::Never | Unless::Example => false,
        Unless::PublicPem => read(content::LIMIT).is_some_and(|content| content::public_pem(&content)),
        Unless::NoCredential => read(content::SETTINGS_LIMIT).is_some_and(|content| content::no_credential(&content)),
        Unless::Venv => {
            let config = [name.to_bytes(), b"/pyvenv.cfg"].concat();
            fstatat(dir, config.as_slice(), AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
        }
    }
}

/// Walks the workspace.
pub(super) fn collect(root: BorrowedFd<'_>, query: &Query) -> Result<Found> {
    let mut found = walk_from(root, query, Task { path: Vec::new(), flags: 0 })?;
    found.directories += 1;
    let (here, below): (Vec<_>, Vec<_>) =
        std::mem::take(&mut found.unreadable).into_iter().partition(|path| path.as_os_str().is_empty());
    if !here.is_empty() {
        return Err(Error::setup(format!("cannot search all of {} for secrets", super::escape(&query.root)))
            .hint("make it readable for yourself: chmod u+rx"));
    }
    found.hidden.extend(below.iter().filter_map(|path| closed(root, path)));
    found.unreadable = below;
    Ok(found)
}

/// Hides a directory that this user cannot look into: who owns it opens it with chmod(2), and a jail that moved a secret
/// there could have closed it.
fn closed(root: BorrowedFd<'_>, path: &Path) -> Option<Hidden> {
    let looked = beneath(root, path, OFlag::O_PATH).and_then(|fd| fstat(&fd));
    match looked {
        Ok(stat) if FileType::from_mode(stat.st_mode) == FileType::Directory => {
            Some(Hidden::from_stat(path.to_owned(), &stat, Reason::Unreadable, false))
        }
        Err(Errno::EACCES | Errno::EPERM) => Some(Hidden {
            path: path.to_owned(),
            kind: HiddenKind::Directory,
            dev: 0,
            ino: 0,
            ctime: (0, 0),
            nlink: 1,
            reason: Reason::Unreadable,
            dependency: false,
        }),
        _ => None,
    }
}

/// Walks a directory that is hidden as a whole for the inodes in it.
pub(super) fn collect_interior(root: BorrowedFd<'_>, query: &Query, path: Vec<u8>) -> Result<Vec<Linked>> {
    Ok(walk_from(root, query, Task { path, flags: INTERIOR })?.interior)
}

fn walk_from(root: BorrowedFd<'_>, query: &Query, start: Task) -> Result<Found> {
    let make = || Collector { query, found: Found::default(), layout: 0, hidden_here: 0 };
    let mut found = Found::default();
    for part in walk(root, start, &make)? {
        found.append(part.found);
    }
    Ok(found)
}

/// Sorts what was found into the facts.
pub(super) fn finish(query: &Query, mut found: Found, facts: &mut TreeFacts) {
    found.git.sort();
    found.host_run.sort_by(|a, b| a.path.cmp(&b.path));
    found.guarded.sort_by(|a, b| a.0.cmp(&b.0));
    found.crowded.sort();
    facts.crowded = found.crowded.into_iter().map(|(path, count)| (PathText(path), count)).collect();
    facts.hidden = found.hidden;
    facts.git = found.git;
    facts.bare = texts(found.bare);
    facts.protected = texts(found.protected);
    facts.guards = query.protection.guards(&found.guarded);
    facts.host_run = found.host_run;
    facts.outward = texts(found.outward);
    facts.unreadable = texts(found.unreadable);
    let globs = query.matcher.hide_globs().iter().enumerate();
    facts.unmatched =
        globs.filter(|(index, _)| !found.matched.contains(index)).map(|(_, glob)| (**glob).clone()).collect();
    facts.files = found.files;
    facts.directories = found.directories;
}

fn texts(mut paths: Vec<PathBuf>) -> Vec<PathText> {
    paths.sort();
    paths.into_iter().map(PathText).collect()
}

/// Removes what lies beneath a hidden directory: its mask covers it. The list is sorted afterwards.
pub(super) fn prune(hidden: &mut Vec<Hidden>) {
    hidden.sort_by(|a, b| a.path.cmp(&b.path));
    let mut above: Option<PathBuf> = None;
    hidden.retain(|entry| {
        if above.as_deref().is_some_and(|above: &Path| entry.path.starts_with(above)) {
            return false;
        }
        if entry.kind == super::HiddenKind::Directory {
            above = Some(entry.path.clone());
        }
        true
    });
    hidden.dedup_by(|a, b| a.path == b.path);
}
