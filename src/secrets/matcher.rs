//! Says of a name whether it is hidden, and why.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Serialize, Serializer};
use unicode_normalization::UnicodeNormalization;

use super::glob::{Case, Globs};
use super::names::{COPY_ENDINGS, EXAMPLE_WORDS, ROWS, Row, Unless};
use crate::error::Result;
use crate::policy::{FilesystemPolicy, ScanMode, Sourced};

/// Why a path is hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A row of the built-in table, by its id.
    Table(&'static str),
    /// A glob of the policy, with its place.
    Glob(Arc<Sourced<String>>),
    /// Another name of this hidden file.
    HardLink(PathBuf),
    /// The target of this symbolic link, whose name is hidden.
    LinkTarget(PathBuf),
    /// A socket: whoever listens on it is outside.
    Socket,
    /// A directory that nobody could look into: the workload may own it and open it.
    Unreadable,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(id) => write!(f, "built-in name {id}"),
            Self::Glob(glob) => write!(f, "hide {:?} ({})", glob.value, glob.source),
            Self::HardLink(of) => write!(f, "another name of {}", crate::tree::escape(of)),
            Self::LinkTarget(link) => write!(f, "target of {}", crate::tree::escape(link)),
            Self::Socket => f.write_str("socket of a process outside"),
            Self::Unreadable => f.write_str("directory that cannot be searched for secrets"),
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What the matcher says of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing hides it.
    Visible,
    /// The policy reveals it, and if it is a directory all in it that only the table would hide.
    Revealed,
    /// It is hidden unless the condition, which needs a look at the file, holds.
    Hidden(Reason, Unless),
}

/// The built-in table and the globs of a policy, compiled.
#[derive(Debug)]
pub struct Matcher {
    table: Option<Table>,
    hide: Globs,
    sources: Vec<Arc<Sourced<String>>>,
    reveal: Globs,
}

impl Matcher {
    /// Compiles the policy's globs and, unless `scan` is off, the built-in table.
    ///
    /// # Errors
    /// A glob that cannot be compiled, named with its place.
    pub fn compile(filesystem: &FilesystemPolicy, scan: ScanMode) -> Result<Self> {
        let hide = Globs::compile("hide", &filesystem.hide, Case::Fold)?;
        let table = match scan {
            ScanMode::Off => None,
            ScanMode::Names => Some(Table::compile()),
        };
        let sources = hide.sources().cloned().map(Arc::new).collect();
        Ok(Self { table, sources, hide, reveal: Globs::compile("reveal", &filesystem.reveal, Case::Exact)? })
    }

    /// The `hide` globs by index, as [`Matcher::hide_index`] counts them.
    pub fn hide_globs(&self) -> &[Arc<Sourced<String>>] {
        &self.sources
    }

    /// Which `hide` glob a reason names.
    pub fn hide_index(&self, reason: &Reason) -> Option<usize> {
        match reason {
            Reason::Glob(glob) => self.sources.iter().position(|source| Arc::ptr_eq(source, glob)),
            _ => None,
        }
    }

    /// Judges the entry `name` of the directory `parent` (relative to the workspace, empty for itself).
    ///
    /// `revealed` says that a directory above is revealed; then only the policy's own `hide` counts.
    pub fn verdict(&self, parent: &[u8], name: &[u8], directory: bool, revealed: bool) -> Verdict {
        if !self.hide.is_empty()
            && let Some(glob) = self.hide.find(parent, name, directory).and_then(|index| self.sources.get(index))
        {
            return Verdict::Hidden(Reason::Glob(Arc::clone(glob)), Unless::Never);
        }
        let row = self.table.as_ref().filter(|_| !revealed).and_then(|table| table.find(parent, name, directory));
        if !self.reveal.is_empty()
            && (directory || row.is_some())
            && self.reveal.find(parent, name, directory).is_some()
        {
            return Verdict::Revealed;
        }
        row.map_or(Verdict::Visible, |row| Verdict::Hidden(Reason::Table(row.id), row.unless))
    }

    /// Whether the policy reveals this entry, whatever would hide it but its own `hide`.
    pub fn reveals(&self, parent: &[u8], name: &[u8]) -> bool {
        !self.reveal.is_empty() && self.reveal.find(parent, name, false).is_some()
    }

    /// Judges a whole path relative to the workspace: the first component that is hidden decides.
    pub fn path_verdict(&self, path: &Path, directory: bool) -> Verdict {
        let bytes = path.as_os_str().as_bytes();
        let mut revealed = false;
        let mut start = 0;
        loop {
            let end = bytes[start..].iter().position(|&b| b == b'/').map_or(bytes.len(), |at| start + at);
            let last = end == bytes.len();
            let parent = &bytes[..start.saturating_sub(1)];
            match self.verdict(parent, &bytes[start..end], directory || !last, revealed) {
                Verdict::Visible if last => return Verdict::Visible,
                Verdict::Revealed if last => return Verdict::Revealed,
                Verdict::Visible => {}
                Verdict::Revealed => revealed = true,
                hidden => return hidden,
            }
            start = end + 1;
        }
    }
}

/// FNV-1a: the keys are ours and short, and a pass looks up every name of the tree.
#[derive(Debug, Clone, Copy)]
pub struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn write_usize(&mut self, _length: usize) {}
}

/// A map from folded names.
pub type NameMap<K, V> = HashMap<K, V, BuildHasherDefault<Fnv>>;

/// The table, arranged so that a name costs two look-ups.
#[derive(Debug)]
struct Table {
    /// Whole names, with the parent they need.
    exact: NameMap<&'static [u8], Vec<Wanted>>,
    /// By what stands behind the last dot.
    by_extension: NameMap<&'static [u8], Extension>,
    /// `prefix*`.
    prefixes: Vec<(&'static [u8], &'static Row)>,
}

#[derive(Debug, Clone, Copy)]
struct Wanted {
    parent: &'static [u8],
    directory: bool,
    row: &'static Row,
}

#[derive(Debug, Default)]
struct Extension {
    /// An ending that marks a copy.
    copy: bool,
    /// Whole endings, longest first.
    suffixes: Vec<(&'static [u8], &'static Row)>,
    /// Patterns with further wildcards that end in this extension.
    wild: Vec<&'static Row>,
}

impl Table {
    fn compile() -> Self {
        let mut table = Self { exact: NameMap::default(), by_extension: NameMap::default(), prefixes: Vec::new() };
        for row in ROWS {
            let (pattern, directory) = match row.pattern.strip_suffix('/') {
                Some(pattern) => (pattern, true),
                None => (row.pattern, false),
            };
            let (parent, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
            if !name.contains('*') {
                let wanted = Wanted { parent: parent.as_bytes(), directory, row };
                table.exact.entry(name.as_bytes()).or_default().push(wanted);
                continue;
            }
            if let Some(prefix) = name.strip_suffix('*').filter(|prefix| !prefix.contains('*')) {
                table.prefixes.push((prefix.as_bytes(), row));
                continue;
            }
            let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
            match name.strip_prefix('*').filter(|suffix| !suffix.contains('*')) {
                Some(suffix) => {
                    let slot = table.by_extension.entry(extension.as_bytes()).or_default();
                    slot.suffixes.push((suffix.as_bytes(), row));
                }
                None => table.by_extension.entry(extension.as_bytes()).or_default().wild.push(row),
            }
        }
        for ending in COPY_ENDINGS {
            table.by_extension.entry(ending.as_bytes()).or_default().copy = true;
        }
        table
    }

    fn find(&self, parent: &[u8], name: &[u8], directory: bool) -> Option<&'static Row> {
        let folded = fold(name);
        if directory {
            return self.exact(parent, &folded, true);
        }
        let mut name: &[u8] = &folded;
        // Each turn takes one mark of a copy off; a name has few.
        for _ in 0..4 {
            if let Some(found) = self.file(parent, name) {
                return found;
            }
            name = self.original(name)?;
        }
        None
    }

    /// `Some(None)`: the name is known to be public.
    fn file(&self, parent: &[u8], name: &[u8]) -> Option<Option<&'static Row>> {
        if let Some(row) = self.exact(parent, name, false) {
            return Some(Some(row));
        }
        for (prefix, row) in &self.prefixes {
            if name.starts_with(prefix) {
                return self.unless_example(name, row);
            }
        }
        let slot = self.by_extension.get(extension(name)?)?;
        for (suffix, row) in &slot.suffixes {
            if name.len() > suffix.len() && name.ends_with(suffix) {
                return self.unless_example(name, row);
            }
        }
        let row = slot.wild.iter().find(|row| wildcard(row.pattern.as_bytes(), name))?;
        Some(Some(row))
    }

    /// An example's name is public, but `.env.example.bak` is looked at again without its ending.
    fn unless_example(&self, name: &[u8], row: &'static Row) -> Option<Option<&'static Row>> {
        if row.unless != Unless::Example {
            return Some(Some(row));
        }
        let is_example = |name: &[u8]| {
            let words = name.split(|&b| b == b'.').filter(|word| !word.is_empty());
            let known =
                |word: Option<&[u8]>| word.is_some_and(|word| EXAMPLE_WORDS.iter().any(|e| e.as_bytes() == word));
            let mut words = words.peekable();
            let first = words.peek().copied();
            known(words.last()) || !name.starts_with(b".") && known(first)
        };
        let mut original = name;
        loop {
            if is_example(original) {
                return Some(None);
            }
            match self.original(original) {
                Some(next) => original = next,
                None => return Some(Some(row)),
            }
        }
    }

    fn exact(&self, parent: &[u8], name: &[u8], directory: bool) -> Option<&'static Row> {
        let wanted = self.exact.get(name)?;
        wanted.iter().find(|w| w.directory == directory && ends_with_path(parent, w.parent)).map(|w| w.row)
    }

    /// The name this one is an editor's or a person's copy of.
    fn original<'n>(&self, name: &'n [u8]) -> Option<&'n [u8]> {
        if let Some(base) = name.strip_suffix(b"~") {
            return Some(base);
        }
        if let Some(base) = name.strip_prefix(b".#") {
            return Some(base);
        }
        if let Some(base) = name.strip_prefix(b"#").and_then(|name| name.strip_suffix(b"#")) {
            return Some(base);
        }
        let ending = extension(name)?;
        let base = &name[..name.len() - ending.len() - 1];
        let number = !ending.is_empty() && ending.iter().all(u8::is_ascii_digit);
        if !number && !self.by_extension.get(ending).is_some_and(|slot| slot.copy) {
            return None;
        }
        // vim: `.id_rsa.swp` is the swap file of `id_rsa`, `.env.swp` that of `.env`.
        let swap = ending.len() == 3 && ending.starts_with(b"sw");
        match base.strip_prefix(b".") {
            Some(bare) if swap && self.file(b"", base).is_none() => Some(bare),
            _ => Some(base),
        }
    }
}

/// Matches a pattern whose only wildcard is `*`.
fn wildcard(pattern: &[u8], name: &[u8]) -> bool {
    let mut parts = pattern.split(|&b| b == b'*');
    let first = parts.next().unwrap_or_default();
    let last = parts.next_back().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else { return false };
    parts.all(|part| {
        let at = rest.windows(part.len().max(1)).position(|window| window == part);
        at.inspect(|at| rest = &rest[at + part.len()..]).is_some()
    })
}

/// What stands behind the last dot; `None` without a dot, or when the name only begins with one.
fn extension(name: &[u8]) -> Option<&[u8]> {
    let dot = name.iter().rposition(|&b| b == b'.')?;
    (dot > 0).then(|| &name[dot + 1..])
}

/// Whether the last components of `path` are `tail`, which is folded.
fn ends_with_path(path: &[u8], tail: &[u8]) -> bool {
    if tail.is_empty() {
        return true;
    }
    let mut path = path.rsplit(|&b| b == b'/');
    tail.rsplit(|&b| b == b'/').all(|part| path.next().is_some_and(|name| *fold(name) == *part))
}

/// The form names are compared in: lower case, composed, without what Unicode or some file systems ignore.
pub fn fold(name: &[u8]) -> Cow<'_, [u8]> {
    if name.is_ascii() {
        let trimmed = trim(name);
        if trimmed.iter().any(u8::is_ascii_uppercase) {
            return Cow::Owned(trimmed.to_ascii_lowercase());
        }
        return Cow::Borrowed(trimmed);
    }
    match std::str::from_utf8(name) {
        Ok(text) => {
            let folded: String = text
                .nfd()
                .filter(|c| !ignorable(*c))
                .flat_map(char::to_lowercase)
                .map(|c| if c == 'ſ' { 's' } else { c })
                .nfc()
                .collect();
            let bytes = folded.into_bytes();
            let length = trim(&bytes).len();
            Cow::Owned(bytes[..length].to_vec())
        }
        Err(_) => Cow::Owned(trim(&name.to_ascii_lowercase()).to_vec()),
    }
}

/// Without the dots and spaces at the end that 9p, SMB and Windows drives ignore.
fn trim(name: &[u8]) -> &[u8] {
    match name.iter().rposition(|&b| b != b'.' && b != b' ') {
        Some(last) => &name[..=last],
        None => name,
    }
}

/// Unicode's default-ignorable code points, which case-folding ext4 and f2fs directories ignore.
fn ignorable(c: char) -> bool {
    matches!(u32::from(c),
        0xAD | 0x34F | 0x61C | 0x115F..=0x1160 | 0x17B4..=0x17B5 | 0x180B..=0x180F | 0x200B..=0x200F | 0x202A..=0x202E
        | 0x2060..=0x206F | 0x3164 | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0 | 0xFFF0..=0xFFF8 | 0x1BCA0..=0x1BCA3
        | 0x1D173..=0x1D17A | 0xE0000..=0xE0FFF)
}
