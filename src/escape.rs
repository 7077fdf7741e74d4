//! Names of the host and of the workload as text that neither a terminal nor a log takes for anything else.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::Serializer;

/// The path with every byte that a terminal or a log could take for something else as an escape.
///
/// Printable characters stay; control characters, backslashes, quotes, invisible and bidirectional characters and bytes
/// that are no UTF-8 become `\n`, `\\`, `\u{202e}` or `\xff`.
pub fn escape(path: &Path) -> String {
    escape_bytes(path.as_os_str().as_bytes())
}

pub(crate) fn escape_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            // `escape_debug` leaves quotes alone that it escapes here too, and knows what is printable.
            text.extend(c.escape_debug());
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

pub(crate) fn escaped<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&escape(path))
}

/// JSON in which nothing but printable characters is left: serde escapes control characters of ASCII only, and a
/// terminal obeys the others too. Outside strings JSON has none, so each may be written as an escape.
pub fn json(json: &str) -> String {
    let hidden = |c: char| {
        c == '\u{7f}'
            || ('\u{80}'..='\u{9f}').contains(&c)
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    if !json.contains(hidden) {
        return json.to_owned();
    }
    let mut text = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        if hidden(c) {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text
}
