//! Globs relative to the workspace, as `hide`, `reveal` and `protect` take them.
//!
//! A pattern without `/` matches a name at any depth; one with `/` is anchored at the workspace; a trailing `/` matches
//! directories only; `*` does not cross a `/`, `**` does.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::matcher::fold;
use crate::error::{Error, Result};
use crate::policy::Sourced;

/// A list of globs, compiled.
#[derive(Debug)]
pub struct Globs {
    patterns: Vec<Pattern>,
    names: GlobSet,
    names_of: Vec<usize>,
    paths: GlobSet,
    paths_of: Vec<usize>,
    fold: bool,
}

#[derive(Debug)]
struct Pattern {
    source: Sourced<String>,
    directories_only: bool,
}

/// Whether letter case and equivalent spellings count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// They count: for what makes more visible.
    Exact,
    /// They do not: for what hides.
    Fold,
}

impl Globs {
    /// Compiles the globs of the policy's `key`.
    ///
    /// # Errors
    /// A pattern that is no glob or leads out of the workspace, named with its place.
    pub fn compile(key: &str, patterns: &[Sourced<String>], case: Case) -> Result<Self> {
        let fold = case == Case::Fold;
        let mut names = GlobSetBuilder::new();
        let mut paths = GlobSetBuilder::new();
        let (mut names_of, mut paths_of) = (Vec::new(), Vec::new());
        let mut compiled = Vec::with_capacity(patterns.len());
        for (index, pattern) in patterns.iter().enumerate() {
            let refuse = |why: &str| {
                Error::setup(format!("filesystem.{key}: glob {:?} ({}): {why}", pattern.value, pattern.source))
            };
            let text = pattern.value.as_str();
            if text.starts_with('!') {
                return Err(refuse("a glob cannot be negated").hint("name what stays visible in `filesystem.reveal`"));
            }
            if text.starts_with('~') {
                return Err(refuse("it lies outside the workspace").hint("globs are relative to the workspace"));
            }
            let (body, directories_only) = match text.strip_suffix('/') {
                Some(body) => (body, true),
                None => (text, false),
            };
            let body = body.strip_prefix("./").unwrap_or(body);
            if body.split('/').any(|part| part == "..") {
                return Err(refuse("it leads out of the workspace"));
            }
            let anchored = body.contains('/');
            let body = body.strip_prefix('/').unwrap_or(body);
            if body.is_empty() || body.split('/').any(str::is_empty) {
                return Err(refuse("it names nothing").hint("globs are relative to the workspace, like `secrets/*`"));
            }
            let folded = String::from_utf8_lossy(&fold_path(body.as_bytes())).into_owned();
            let glob = GlobBuilder::new(if fold { &folded } else { body })
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|error| refuse(&error.kind().to_string()))?;
            compiled.push(Pattern { source: pattern.clone(), directories_only });
            if anchored {
                paths.add(glob);
                paths_of.push(index);
            } else {
                names.add(glob);
                names_of.push(index);
            }
        }
        let build = |set: GlobSetBuilder| {
            set.build().map_err(|error| Error::setup(format!("filesystem.{key}: cannot compile the globs: {error}")))
        };
        Ok(Self { patterns: compiled, names: build(names)?, names_of, paths: build(paths)?, paths_of, fold })
    }

    /// Whether there is no glob at all.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The globs with their places, in the order given.
    pub fn sources(&self) -> impl Iterator<Item = &Sourced<String>> {
        self.patterns.iter().map(|pattern| &pattern.source)
    }

    /// The index of the first glob that matches the entry `name` of `parent` (both relative to the workspace).
    pub fn find(&self, parent: &[u8], name: &[u8], directory: bool) -> Option<usize> {
        let fits = |index: &usize| directory || !self.patterns[*index].directories_only;
        let mut found = None;
        if !self.names_of.is_empty() {
            let folded;
            let name = if self.fold {
                folded = fold(name).into_owned();
                &folded
            } else {
                name
            };
            found = first(&self.names, &self.names_of, name, fits);
        }
        if !self.paths_of.is_empty() {
            let mut path = Vec::with_capacity(parent.len() + 1 + name.len());
            if !parent.is_empty() {
                path.extend_from_slice(parent);
                path.push(b'/');
            }
            path.extend_from_slice(name);
            let path = if self.fold { fold_path(&path) } else { path };
            found = min(found, first(&self.paths, &self.paths_of, &path, fits));
        }
        found
    }
}

fn first(set: &GlobSet, of: &[usize], text: &[u8], fits: impl Fn(&usize) -> bool) -> Option<usize> {
    let path = Path::new(OsStr::from_bytes(text));
    if !set.is_match(path) {
        return None;
    }
    set.matches(path).into_iter().filter_map(|at| of.get(at).copied()).filter(fits).min()
}

fn min(a: Option<usize>, b: Option<usize>) -> Option<usize> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn fold_path(path: &[u8]) -> Vec<u8> {
    let mut folded = Vec::with_capacity(path.len());
    for (index, part) in path.split(|&b| b == b'/').enumerate() {
        if index > 0 {
            folded.push(b'/');
        }
        folded.extend_from_slice(&fold(part));
    }
    folded
}
