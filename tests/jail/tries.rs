//! Reading the lines that attack programs print.

use libtest_mimic::Failed;
use serde_json::Value;

/// The lines of one run of an attack program.
#[derive(Debug)]
pub struct Tries(Vec<Value>);

impl From<Vec<Value>> for Tries {
    fn from(lines: Vec<Value>) -> Self {
        Self(lines)
    }
}

impl Tries {
    /// The line of one try.
    pub fn line(&self, attempt: &str) -> Result<&Value, Failed> {
        let names = || self.0.iter().filter_map(|line| line["try"].as_str()).collect::<Vec<_>>();
        self.0
            .iter()
            .find(|line| line["try"] == attempt)
            .ok_or_else(|| format!("{attempt} was not tried, only {:?}", names()).into())
    }

    /// What came of one try.
    pub fn result(&self, attempt: &str) -> Result<&str, Failed> {
        Ok(self.line(attempt)?["result"].as_str().unwrap_or_default())
    }

    /// What a try read; empty when it failed.
    pub fn bytes(&self, attempt: &str) -> Result<&str, Failed> {
        Ok(self.line(attempt)?["bytes"].as_str().unwrap_or_default())
    }

    /// The text value of a try.
    pub fn value(&self, attempt: &str) -> Result<String, Failed> {
        let value = &self.line(attempt)?["value"];
        Ok(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    /// Fails unless these tries had one of the wanted results.
    pub fn expect(&self, attempts: &[&str], wanted: &[&str]) -> Result<(), Failed> {
        for attempt in attempts {
            let result = self.result(attempt)?;
            if !wanted.contains(&result) {
                return Err(format!("{attempt}: {}, expected {wanted:?}", self.line(attempt)?).into());
            }
        }
        Ok(())
    }

    /// Fails if any try whose name begins like this succeeded; also if there is none.
    pub fn expect_none(&self, beginning: &str) -> Result<(), Failed> {
        let mut tried = false;
        for line in &self.0 {
            if line["try"].as_str().is_some_and(|name| name.starts_with(beginning)) {
                tried = true;
                if line["result"] == "ok" {
                    return Err(format!("{line}").into());
                }
            }
        }
        if tried { Ok(()) } else { Err(format!("nothing that begins with {beginning:?} was tried").into()) }
    }

    /// The names of the tries that succeeded.
    pub fn succeeded(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|line| line["result"] == "ok").filter_map(|line| line["try"].as_str())
    }
}

/// Fails with both values unless they are the same.
pub fn same(what: &str, actual: &str, expected: &str) -> Result<(), Failed> {
    if actual == expected { Ok(()) } else { Err(format!("{what}: {actual:?}, expected {expected:?}").into()) }
}

/// Fails unless the text contains the part.
pub fn has(what: &str, text: &str, part: &str) -> Result<(), Failed> {
    if text.contains(part) { Ok(()) } else { Err(format!("{what}: {part:?} is not in {:?}", short(text)).into()) }
}

/// Fails if the text contains the part.
pub fn lacks(what: &str, text: &str, part: &str) -> Result<(), Failed> {
    let Some(at) = text.find(part) else { return Ok(()) };
    let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
    Err(format!("{what}: {part:?} is in {:?}", short(&text[line..])).into())
}

fn short(text: &str) -> String {
    text.chars().take(600).collect()
}
