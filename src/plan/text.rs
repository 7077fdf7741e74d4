//! Serialising operating-system strings, which need not be UTF-8: invalid bytes appear as replacement characters.

use std::ffi::OsString;
use std::path::Path;

use serde::Serializer;
use serde::ser::SerializeSeq;

/// A path as text.
pub fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// A list of words as text.
pub fn words<S: Serializer>(words: &[OsString], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(words.iter().map(|word| word.to_string_lossy().into_owned()))
}

/// Variables as `NAME=value`.
pub fn pairs<S: Serializer>(pairs: &[(OsString, OsString)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut sequence = serializer.serialize_seq(Some(pairs.len()))?;
    for (name, value) in pairs {
        sequence.serialize_element(&format!("{}={}", name.to_string_lossy(), value.to_string_lossy()))?;
    }
    sequence.end()
}
