//! What a look into a file's content found: where the value of a secret stands, and how it may be replaced.

use std::ops::Range;
use std::sync::Arc;

use super::substitute::Shape;

/// A secret in the content of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The detector that found it, by its id.
    pub rule: Arc<str>,
    /// The bytes of the content that are the value, without name, quotes or separators.
    pub span: Range<usize>,
    /// How the value is written there.
    pub form: Form,
    /// What has to stay the same when a placeholder takes its place.
    pub shape: Shape,
    /// How much of the file is hidden.
    pub extent: Extent,
}

/// How a value is written in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// As it is.
    Plain,
    /// In UTF-16, little-endian.
    Utf16Le,
    /// In UTF-16, big-endian.
    Utf16Be,
    /// In base64, of either alphabet.
    Base64,
    /// In hexadecimal digits.
    Hex,
    /// With percent escapes, as in a URL.
    Percent,
    /// In a member of an archive or in compressed content: the span is the whole file.
    Packed,
}

/// How much of a file a finding hides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// The value alone: the rest stays readable.
    Value,
    /// All of it: a key, a key store, an archive.
    File,
}
