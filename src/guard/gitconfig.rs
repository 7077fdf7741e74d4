//! Reads a git configuration file: what git-config(1) calls its syntax, no more.

use std::borrow::Cow;

/// A variable of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Section and subsection, the section in lower case: `core`, `remote.origin`.
    pub section: String,
    /// Name of the variable in lower case.
    pub name: String,
    /// Value; a variable without one counts as `true`.
    pub value: Vec<u8>,
}

/// The line that cannot be read, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadLine(pub usize);

/// Reads the variables in their order.
///
/// # Errors
/// The first line git itself would refuse.
pub fn parse(content: &[u8]) -> Result<Vec<Variable>, BadLine> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let mut reader = Reader { rest: content, line: 1, line_ended: false };
    let mut variables = Vec::new();
    let mut section = None;
    loop {
        reader.space();
        match reader.peek() {
            None => return Ok(variables),
            Some(b'#' | b';') => reader.comment(),
            Some(b'[') => section = Some(reader.section()?),
            Some(byte) if byte.is_ascii_alphabetic() => {
                let section = section.clone().ok_or(BadLine(reader.line))?;
                variables.push(reader.variable(section)?);
            }
            Some(_) => return Err(BadLine(reader.line)),
        }
    }
}

struct Reader<'c> {
    rest: &'c [u8],
    line: usize,
    /// The last byte ended a line, and an error there belongs to that line.
    line_ended: bool,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        match self.rest {
            [b'\r', b'\n', ..] => Some(b'\n'),
            [first, ..] => Some(*first),
            [] => None,
        }
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.rest = &self.rest[if self.rest.starts_with(b"\r\n") { 2 } else { 1 }..];
        self.line_ended = byte == b'\n';
        self.line += usize::from(self.line_ended);
        Some(byte)
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_whitespace() || b == 0x0b) {
            self.next();
        }
    }

    fn comment(&mut self) {
        while self.next().is_some_and(|b| b != b'\n') {}
    }

    fn bad<T>(&self) -> Result<T, BadLine> {
        Err(BadLine(self.line - usize::from(self.line_ended)))
    }

    /// `[section]`, `[section "subsection"]` or the older `[section.subsection]`.
    fn section(&mut self) -> Result<String, BadLine> {
        self.next();
        let mut name = Vec::new();
        loop {
            match self.next() {
                Some(b']') => return Ok(lossy(&name)),
                Some(b) if b.is_ascii_alphanumeric() || b == b'-' || b == b'.' => name.push(b.to_ascii_lowercase()),
                Some(b' ' | b'\t') => break,
                _ => return self.bad(),
            }
        }
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.next();
        }
        if self.next() != Some(b'"') {
            return self.bad();
        }
        name.push(b'.');
        loop {
            match self.next() {
                Some(b'"') => break,
                Some(b'\\') => match self.next() {
                    Some(b) if b != b'\n' => name.push(b),
                    _ => return self.bad(),
                },
                Some(b) if b != b'\n' => name.push(b),
                _ => return self.bad(),
            }
        }
        match self.next() {
            Some(b']') => Ok(lossy(&name)),
            _ => self.bad(),
        }
    }

    fn variable(&mut self, section: String) -> Result<Variable, BadLine> {
        let mut name = Vec::new();
        while let Some(b) = self.peek().filter(|b| b.is_ascii_alphanumeric() || *b == b'-') {
            name.push(b.to_ascii_lowercase());
            self.next();
        }
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.next();
        }
        let value = match self.next() {
            None | Some(b'\n') => b"true".to_vec(),
            Some(b'=') => self.value()?,
            // git takes a comment right behind a bare name for an error, too.
            Some(_) => return self.bad(),
        };
        Ok(Variable { section, name: lossy(&name), value })
    }

    fn value(&mut self) -> Result<Vec<u8>, BadLine> {
        let mut value = Vec::new();
        let mut quoted = false;
        // White space is kept only when something follows it.
        let mut spaces = Vec::new();
        loop {
            let Some(byte) = self.next() else {
                return if quoted { self.bad() } else { Ok(value) };
            };
            match byte {
                b'\n' => return if quoted { self.bad() } else { Ok(value) },
                b'#' | b';' if !quoted => {
                    self.comment();
                    return Ok(value);
                }
                b if !quoted && (b.is_ascii_whitespace() || b == 0x0b) => {
                    if !value.is_empty() {
                        spaces.push(b);
                    }
                }
                _ => {
                    value.append(&mut spaces);
                    match byte {
                        b'"' => quoted = !quoted,
                        b'\\' => match self.next() {
                            Some(b'\n') => {}
                            Some(b'n') => value.push(b'\n'),
                            Some(b't') => value.push(b'\t'),
                            Some(b'b') => value.push(0x08),
                            Some(b @ (b'"' | b'\\')) => value.push(b),
                            _ => return self.bad(),
                        },
                        b => value.push(b),
                    }
                }
            }
        }
    }
}

fn lossy(bytes: &[u8]) -> String {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String, String)> {
        let variables = parse(text.as_bytes()).expect("a configuration git reads");
        variables.into_iter().map(|v| (v.section, v.name, String::from_utf8_lossy(&v.value).into_owned())).collect()
    }

    #[test]
    fn reads_what_git_reads() {
        let text = "\u{feff}; c\n[CORE] HooksPath = \"a b\"\\\n/c # no\n[Remote \"O\\\"r]\"]\n\turl=x\\ty ; z\r\n[a.B]\nflag\n  k = one  two  \n";
        assert_eq!(
            read(text),
            [
                ("core", "hookspath", "a b/c"),
                ("remote.O\"r]", "url", "x\ty"),
                ("a.b", "flag", "true"),
                ("a.b", "k", "one  two"),
            ]
            .map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()))
        );
    }

    #[test]
    fn refuses_what_git_refuses() {
        for (text, line) in
            [("[core\n", 1), ("[core]\nx = \"a\n", 2), ("x = 1\n", 1), ("[core]\n\nx = \\q\n", 3), ("[a]\n1x\n", 2)]
        {
            assert_eq!(parse(text.as_bytes()).map_err(|bad| bad.0), Err(line), "{text:?}");
        }
    }
}
