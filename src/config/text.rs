//! The text of a policy file, and messages that point into it.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::libc;

use crate::error::{Error, Result};
use crate::policy::{Origin, Source};

/// No policy needs more; a larger file is a mistake or an attempt to stall the start.
const MAX_LEN: u64 = 1024 * 1024;

/// Whether the last component of a path may be a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// The user's own files, which often are links into a repository of settings.
    Follow,
    /// Files in a workspace: whoever can place a link there decides what is read.
    Refuse,
}

/// Reads a regular file of at most 1 MiB; `None` when there is none.
///
/// # Errors
/// A symbolic link where none may be, a FIFO, socket or device, a larger file, a file that everyone may write, or an
/// I/O error.
pub fn read_regular(path: &Path, links: Links) -> Result<Option<Vec<u8>>> {
    let refuse = |what: String| Error::setup(format!("{}: {what}", crate::escape::escape(path)));
    // O_NONBLOCK: opening a FIFO for reading would wait for a writer.
    let mut flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    if links == Links::Refuse {
        flags |= OFlag::O_NOFOLLOW;
    }
    let file = match File::options().read(true).custom_flags(flags.bits()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(refuse("is a symbolic link".into()).hint("put a regular file in its place"));
        }
        Err(error) => {
            return Err(refuse(format!("cannot be opened: {error}")).hint("make it readable, or remove it"));
        }
    };
    let metadata = file.metadata().map_err(|error| refuse(format!("fstat: {error}")))?;
    if !metadata.is_file() {
        return Err(refuse("is not a regular file".into()).hint("put a regular file in its place, or remove it"));
    }
    if links == Links::Follow && metadata.mode() & 0o002 != 0 {
        return Err(refuse("everyone may write this file".into()).hint(format!("chmod o-w {}", path.display())));
    }
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a file that grows meanwhile is noticed too.
    file.take(MAX_LEN + 1).read_to_end(&mut bytes).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_LEN {
        return Err(
            refuse("is larger than 1 MiB".into()).hint("a policy is a few hundred lines; is this the right file?")
        );
    }
    Ok(Some(bytes))
}

/// A policy file's text with what is needed to name places in it.
#[derive(Debug)]
pub struct SourceText {
    /// Which of the ordered sources it is.
    pub origin: Origin,
    /// The file.
    pub path: PathBuf,
    text: String,
    /// Byte offsets at which lines start.
    lines: Vec<usize>,
}

impl SourceText {
    /// Takes the bytes of a file.
    ///
    /// # Errors
    /// Anything but UTF-8 without a byte order mark.
    pub fn new(origin: Origin, path: PathBuf, bytes: Vec<u8>) -> Result<Self> {
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
            Error::setup(format!("{}:{line}: not UTF-8", path.display())).hint("save the file as UTF-8")
        })?;
        if text.starts_with('\u{feff}') {
            return Err(Error::setup(format!("{}:1:1: the file starts with a byte order mark", path.display()))
                .hint("save the file as UTF-8 without a byte order mark"));
        }
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Ok(Self { origin, path, text, lines })
    }

    /// The part before the first place where these words stand; all of it where they do not.
    #[must_use]
    pub fn before(mut self, words: &str) -> Self {
        if let Some(at) = self.text.find(words) {
            self.text.truncate(at);
        }
        self
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The place of a span, for the values that come from it.
    pub fn source(&self, span: &Range<usize>) -> Source {
        let (line, column) = self.position(span.start);
        Source { origin: self.origin.clone(), file: Some(self.path.clone()), line, column }
    }

    /// Line and column, both counted from 1, the column in characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let before = self.text.get(self.lines[line - 1]..offset).unwrap_or_default();
        (line, before.chars().count() + 1)
    }

    /// The error for a problem, with the line it is in and a caret.
    pub fn error(&self, problem: &Problem) -> Error {
        let (line, column) = self.position(problem.span.start);
        let start = self.lines[line - 1];
        let shown = self.text[start..].lines().next().unwrap_or_default();
        let marked = self.text.get(problem.span.clone()).unwrap_or_default();
        let marked = marked.lines().next().unwrap_or_default().chars().count().max(1);
        // A single line of a minified or hostile file must not fill the terminal.
        const WIDTH: usize = 100;
        let skip = column.saturating_sub(WIDTH / 2);
        let line_text: String =
            shown.chars().skip(skip).take(WIDTH).map(|c| if is_unsafe(c) { '\u{fffd}' } else { c }).collect();
        let carets = "^".repeat(marked.min(WIDTH - (column - skip).min(WIDTH - 1)));
        let gutter = line.to_string();
        let pad = " ".repeat(gutter.len());
        let caret_pad = " ".repeat((column - 1).saturating_sub(skip));
        let error = Error::setup(format!(
            "{}:{line}:{column}: {}\n{pad} |\n{gutter} | {}\n{pad} | {caret_pad}{carets}",
            printable(&self.path.display().to_string()),
            printable(&problem.message),
            line_text.trim_end(),
        ));
        match &problem.hint {
            Some(hint) => error.hint(printable(hint)),
            None => error,
        }
    }
}

/// What is wrong at a place.
#[derive(Debug)]
pub struct Problem {
    /// Where, in bytes.
    pub span: Range<usize>,
    /// What, lower case, with what was expected.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem at a place.
    pub fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), hint: None }
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The text with characters that steer a terminal, hide or reorder text written as escapes: names and policy files in
/// a workspace are someone else's text.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
