//! Assignments to telling names, read by hand: the words stand everywhere in source code, and an expression tried at each
//! would cost more than the rest of the search.

use std::ops::Range;

use super::judge;

/// Ends of a name that say that its value is not the secret itself.
const OTHERWISE: &[&[u8]] = &[
    b"id",
    b"name",
    b"type",
    b"url",
    b"uri",
    b"file",
    b"path",
    b"dir",
    b"length",
    b"len",
    b"size",
    b"count",
    b"field",
    b"label",
    b"hint",
    b"policy",
    b"arn",
    b"ref",
    b"hash",
    b"digest",
    b"expiry",
    b"expires",
    b"ttl",
    b"regex",
    b"pattern",
    b"header",
    b"prefix",
    b"endpoint",
    b"version",
    b"fingerprint",
    b"public",
    b"limit",
    b"index",
];

/// The value assigned to the name in which a keyword of `len` bytes stands at `at`, without its quotes.
///
/// `words` takes passwords, which may be short; other values have to look made by a machine.
pub(super) fn find(content: &[u8], at: usize, len: usize, words: bool) -> Option<Range<usize>> {
    let mut place = at + len;
    let name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let end = content.len().min(place + 40);
    while place < end && name(content[place]) {
        place += 1;
    }
    let suffix = &content[at + len..place];
    let last = suffix.rsplit(|byte| matches!(byte, b'_' | b'-' | b'.')).next().unwrap_or(suffix);
    if OTHERWISE.iter().any(|word| last.eq_ignore_ascii_case(word)) || suffix.len() >= 40 {
        return None;
    }
    let before_operator = skip(content, place, b"\"'`\\] \t", 8);
    let operator = content.get(before_operator..)?;
    let width = [&b"=>"[..], b":=", b"==", b"=", b":"].iter().find(|sign| operator.starts_with(sign))?.len();
    if operator.starts_with(b"==") || operator.starts_with(b"::") {
        return None;
    }
    let start = skip(content, before_operator + width, b" \t", 8);
    let escaped = content.get(start) == Some(&b'\\');
    let open = content.get(start + usize::from(escaped)).copied()?;
    let quoted = matches!(open, b'"' | b'\'' | b'`');
    let start = if quoted { start + 1 + usize::from(escaped) } else { start };
    let stops = |byte: u8| {
        if quoted {
            byte == open || byte == b'\\' || byte == b'\n'
        } else {
            byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'`' | b',' | b';' | b'&' | b'<' | b'>' | b'|')
        }
    };
    let most = content.len().min(start + 512);
    let stop = start + content[start..most].iter().position(|byte| stops(*byte)).unwrap_or(most - start);
    let value = &content[start..stop];
    let closed = !quoted || content.get(stop).is_some_and(|byte| *byte == open || *byte == b'\\');
    (closed && looks_secret(value, words, quoted)).then_some(start..stop)
}

fn skip(content: &[u8], from: usize, over: &[u8], most: usize) -> usize {
    let rest = content.get(from..).unwrap_or_default();
    from + rest.iter().take(most).take_while(|byte| over.contains(byte)).count()
}

/// Whether a value is one that a person or a machine chose as a secret, and no word, path, call or reference.
fn looks_secret(value: &[u8], words: bool, quoted: bool) -> bool {
    let least = if words { 8 } else { 16 };
    if value.len() < least || value.iter().any(|byte| !(b'!'..=b'~').contains(byte)) {
        return false;
    }
    let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
    let letters = value.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    let marks = value.len() - digits - letters;
    if digits == 0 || letters == 0 && digits < 12 || marks > value.len() / 2 {
        return false;
    }
    // Code and references: a call, an index, a path, a variable.
    let code: &[u8] = if quoted { b"{}$<>" } else { b"()[]{}$<>" };
    if value.iter().any(|byte| code.contains(byte)) || b"/.~%@#".contains(&value[0]) {
        return false;
    }
    if value.windows(3).any(|part| part == b"://") || value.windows(2).any(|part| part == b"::") {
        return false;
    }
    if !quoted && !words && letters + digits < value.len() * 3 / 4 {
        return false;
    }
    let least = if words { 2.6 } else { 3.2 };
    judge::entropy(value) >= least && !judge::is_placeholder(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(line: &str, keyword: &str, words: bool) -> Option<String> {
        let at = line.find(keyword).expect("the keyword");
        find(line.as_bytes(), at, keyword.len(), words).map(|span| line[span].to_owned())
    }

    #[test]
    fn values_are_found_without_their_quotes() {
        for line in
            ["password = \"tr0ub4dor-and-3\"", "PASSWORD=tr0ub4dor-and-3", "{\"password\": \"tr0ub4dor-and-3\"}"]
        {
            let keyword = if line.contains("PASS") { "PASSW" } else { "passw" };
            assert_eq!(value(line, keyword, true).as_deref(), Some("tr0ub4dor-and-3"), "{line}");
        }
        let escaped = r#""source": ["api_key = \"9fK2mQ7xW4vT8zR1bN6c\"\n"]"#;
        assert_eq!(value(escaped, "api_key", false).as_deref(), Some("9fK2mQ7xW4vT8zR1bN6c"));
    }

    #[test]
    fn words_references_and_code_are_no_values() {
        for line in [
            "password = getpass.getpass()",
            "password: ${DB_PASSWORD_1}",
            "password = \"changeme123\"",
            "password_hash = \"9fK2mQ7xW4vT8zR1bN6c\"",
            "password == \"9fK2mQ7xW4vT8zR1\"",
            "password = os.environ[\"PASSWORD1\"]",
            "password = \"correct horse battery 9\"",
            "password=<your-password-1>",
        ] {
            assert_eq!(value(line, "passw", true), None, "{line}");
        }
    }
}
