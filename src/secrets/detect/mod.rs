//! Secrets by content: a table of detectors, and the engine that looks for all of them at once.
//!
//! A search for keywords comes first and passes over most content. Where a keyword stands, the expression of its row is
//! tried there and nowhere else; what it matches is judged (boundaries, checksum, entropy, words that mark a
//! placeholder). Nothing is compiled before it is needed, and nothing is read: callers bring the content.

mod assign;
pub mod judge;
mod prefilter;
pub mod row;
pub mod table;
mod verify;
mod wide;

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use regex::bytes::{Regex, RegexBuilder};
use sha2::{Digest, Sha256};

use super::finding::{Finding, Form};
use super::substitute::Shape;
use crate::error::Result;
use prefilter::Prefilter;
use row::{How, Row};

/// Changes when the engine finds something else with the same table.
const ENGINE: u32 = 2;

/// What the user adds to the table, and what is left out.
#[derive(Debug, Default)]
pub struct Settings {
    /// SHA-256 of values that are public and never reported.
    pub known_public: Vec<[u8; 32]>,
    /// What the version is keyed with, so that it tells nothing of the values: random, kept with the cache.
    pub key: [u8; 32],
}

/// All detectors. Cheap to make: what a scan needs is compiled at the first scan.
pub struct Detectors {
    rows: Vec<Entry>,
    public: Vec<[u8; 32]>,
    keywords: OnceLock<Keywords>,
    version: [u8; 16],
}

struct Entry {
    id: Arc<str>,
    row: Row,
    regex: OnceLock<Option<Regex>>,
}

struct Keywords {
    search: Prefilter,
    /// Row and length of each keyword.
    rows: Vec<(usize, usize)>,
}

impl fmt::Debug for Detectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Detectors({} rows)", self.rows.len())
    }
}

impl Detectors {
    /// The built-in table with what the user adds.
    ///
    /// # Errors
    /// None yet; rules of the user may be wrong.
    pub fn new(settings: Settings) -> Result<Self> {
        let rows: Vec<Entry> =
            table::rows().map(|row| Entry { id: row.id.into(), row, regex: OnceLock::new() }).collect();
        let version = version(&rows, &settings);
        Ok(Self { rows, public: settings.known_public, keywords: OnceLock::new(), version })
    }

    /// Names what is looked for: two engines of the same version find the same in the same content.
    pub fn version(&self) -> [u8; 16] {
        self.version
    }

    /// What is secret in `content`. `path` is relative to where the search began; its name says what may be expected.
    ///
    /// Spans are sorted and do not overlap. Content in UTF-16 is copied to memory that is wiped; nothing else is copied.
    pub fn scan(&self, _path: &[u8], content: &[u8]) -> Vec<Finding> {
        let Some((narrowed, form)) = wide::narrow(content) else { return self.scan_bytes(content) };
        let mut found = self.scan_bytes(&narrowed);
        for finding in &mut found {
            (finding.span, finding.form) = (wide::widen(&finding.span), form);
            // Placeholders are made byte by byte, and a prefix takes two for each of its characters.
            finding.shape = Shape { prefix: finding.shape.prefix * 2, ..Shape::default() };
        }
        found
    }

    fn scan_bytes(&self, content: &[u8]) -> Vec<Finding> {
        let keywords = self.keywords.get_or_init(|| self.compile());
        let mut found: Vec<(Range<usize>, usize)> = Vec::new();
        keywords.search.each(content, |keyword, at| {
            let (index, len) = keywords.rows[keyword];
            if let Some(span) = self.rows[index].find(content, at, len)
                && !self.is_public(&content[span.clone()])
            {
                found.push((span, index));
            }
        });
        self.resolve(found)
    }

    fn compile(&self) -> Keywords {
        let words = || {
            self.rows
                .iter()
                .enumerate()
                .flat_map(|(index, entry)| entry.row.keywords.iter().map(move |word| (index, *word)))
        };
        let rows = words().map(|(index, word)| (index, word.len())).collect();
        Keywords { search: Prefilter::new(words().map(|(_, word)| word)), rows }
    }

    fn is_public(&self, value: &[u8]) -> bool {
        !self.public.is_empty() && self.public.contains(&value_hash(value))
    }

    /// Of findings that overlap the first row of the table counts, and covers what both cover.
    fn resolve(&self, mut found: Vec<(Range<usize>, usize)>) -> Vec<Finding> {
        found.sort_by_key(|(span, index)| (span.start, *index));
        let mut merged: Vec<(Range<usize>, usize)> = Vec::with_capacity(found.len());
        for (span, index) in found {
            match merged.last_mut() {
                Some((last, first)) if span.start < last.end => {
                    last.end = last.end.max(span.end);
                    *first = (*first).min(index);
                }
                _ => merged.push((span, index)),
            }
        }
        merged.into_iter().map(|(span, index)| self.rows[index].finding(span)).collect()
    }
}

impl Entry {
    /// The value of this row's kind where a keyword stands at `at`.
    fn find(&self, content: &[u8], at: usize, len: usize) -> Option<Range<usize>> {
        let row = &self.row;
        if row.how == How::Assigned {
            return assign::find(content, at, len, row.words);
        }
        if row.how == How::At && !begins_word(content, at) {
            return None;
        }
        let from = if let How::Within(back) = row.how { at.saturating_sub(back) } else { at };
        let window = &content[from..content.len().min(at + row.window)];
        let captures = self.regex()?.captures(window)?;
        let group = captures.get(1).or_else(|| captures.get(0))?;
        let span = from + group.start()..from + group.end();
        let next = content.get(span.end).copied().unwrap_or(b' ');
        if row.how == How::At && (next.is_ascii_alphanumeric() || next == b'_') {
            return None;
        }
        self.accepts(&content[span.clone()]).then_some(span)
    }

    fn accepts(&self, value: &[u8]) -> bool {
        let row = &self.row;
        let body = &value[row.prefix.min(value.len())..];
        let enough = row.words || judge::entropy(body) * 10.0 >= f64::from(row.entropy);
        enough && !judge::is_placeholder(body) && verify::holds(row.verify, body)
    }

    /// The expression, compiled when it is first needed. The table's are all compiled by a test.
    fn regex(&self) -> Option<&Regex> {
        let compile = || compile(&self.row).ok();
        self.regex.get_or_init(compile).as_ref()
    }

    fn finding(&self, span: Range<usize>) -> Finding {
        let shape = Shape { prefix: self.row.prefix, checksum: self.row.checksum() };
        Finding { rule: self.id.clone(), span, form: Form::Plain, shape, extent: self.row.extent }
    }
}

fn compile(row: &Row) -> Result<Regex, regex::Error> {
    let anchor = if matches!(row.how, How::Within(_)) { "" } else { "^" };
    RegexBuilder::new(&format!("{anchor}(?:{})", row.regex)).unicode(false).build()
}

/// What a value is known by where it must not be written itself: its SHA-256.
pub fn value_hash(value: &[u8]) -> [u8; 32] {
    Sha256::digest(value).into()
}

/// Whether a token may begin here: no letter, digit or `_` before, unless it belongs to an escape (`\n`, `%3D`).
fn begins_word(content: &[u8], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).map_or(b' ', |place| content[place]);
    let one = before(1);
    if !(one.is_ascii_alphanumeric() || one == b'_') {
        return true;
    }
    let escaped = before(2) == b'\\' && b"nrt".contains(&one);
    escaped || before(3) == b'%' && before(2).is_ascii_hexdigit() && one.is_ascii_hexdigit()
}

fn version(rows: &[Entry], settings: &Settings) -> [u8; 16] {
    let mut hash = Sha256::new().chain_update(settings.key).chain_update(ENGINE.to_le_bytes());
    for Entry { row, .. } in rows {
        for part in [row.id, row.regex].iter().chain(row.keywords) {
            hash.update(part);
            hash.update([0]);
        }
        hash.update(format!("{:?}{:?}{:?}{:?}", row.how, row.verify, row.extent, row.words));
        for number in [row.prefix, usize::from(row.entropy), row.window] {
            hash.update(number.to_le_bytes());
        }
    }
    settings.known_public.iter().for_each(|public| hash.update(public));
    let digest = hash.finalize();
    let mut version = [0; 16];
    version.copy_from_slice(&digest[..16]);
    version
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expression_compiles_and_every_name_is_used_once() {
        let detectors = Detectors::new(Settings::default()).expect("the table");
        let mut names = std::collections::BTreeSet::new();
        for Entry { row, .. } in &detectors.rows {
            assert!(names.insert(row.id), "{} twice", row.id);
            assert!(!row.keywords.is_empty() && row.keywords.iter().all(|word| word.len() >= 3), "{}", row.id);
            if row.how != How::Assigned {
                assert!(compile(row).is_ok(), "{}", row.id);
            }
        }
    }

    #[test]
    fn a_token_is_found_where_it_stands_and_a_wrong_checksum_is_none() {
        let detectors = Detectors::new(Settings::default()).expect("the table");
        let body = b"q7Zt2LmX0vBn5RkYw8Hc3JdPs6FgTa";
        let token = [b"ghp_".as_slice(), body, &crate::secrets::substitute::crc32_base62(body)].concat();
        let content = [b"x = \"".as_slice(), &token, b"\"\n"].concat();
        let found = detectors.scan(b"a.py", &content);
        assert_eq!(found.len(), 1);
        assert_eq!((&*found[0].rule, found[0].span.clone()), ("github-token", 5..45));
        let wrong = [b"ghp_".as_slice(), body, b"000000"].concat();
        assert_eq!(detectors.scan(b"a.py", &wrong), []);
        let public = Settings { known_public: vec![value_hash(&token)], ..Settings::default() };
        let detectors = Detectors::new(public).expect("the table");
        assert_eq!(detectors.scan(b"a.py", &content), []);
    }
}
