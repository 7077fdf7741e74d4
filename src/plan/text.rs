//! Serialising operating-system strings, which need not be UTF-8: what is no printable text appears as escapes.

use std::ffi::OsString;
use std::path::Path;

use serde::Serializer;
use serde::ser::SerializeSeq;

use crate::escape::escape;

/// A path as text.
pub fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&escape(path))
}

/// A list of words as text.
pub fn words<S: Serializer>(words: &[OsString], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(words.iter().map(|word| escape(Path::new(word))))
}

/// Variables as `NAME=value`.
pub fn pairs<S: Serializer>(pairs: &[(OsString, OsString)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut sequence = serializer.serialize_seq(Some(pairs.len()))?;
    for (name, value) in pairs {
        sequence.serialize_element(&format!("{}={}", escape(Path::new(name)), escape(Path::new(value))))?;
    }
    sequence.end()
}
