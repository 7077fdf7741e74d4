//! Running the attack program and reading what it printed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::cases::raw::call;

/// The Landlock ABI of the kernel; 0 without Landlock.
pub fn landlock_abi() -> u32 {
    let version = call(nix::libc::SYS_landlock_create_ruleset, &[0, 0, 1]).unwrap_or(0);
    u32::try_from(version).unwrap_or(0)
}

/// What one run printed, by the text of `try`.
pub struct Lines(BTreeMap<String, Value>);

impl Lines {
    /// The result of one try.
    pub fn result(&self, attempt: &str) -> Result<&str, Failed> {
        let line = self.line(attempt)?;
        line["result"].as_str().ok_or_else(|| format!("{attempt}: no result in {line}").into())
    }

    /// The whole line of one try.
    pub fn line(&self, attempt: &str) -> Result<&Value, Failed> {
        self.0.get(attempt).ok_or_else(|| format!("{attempt} was not tried: {:?}", self.0.keys()).into())
    }

    /// All tries and their results.
    pub fn results(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(attempt, line)| (attempt.as_str(), line["result"].as_str().unwrap_or("")))
    }

    /// Fails unless the results of all these tries are among `wanted`.
    pub fn expect(&self, attempts: &[&str], wanted: &[&str]) -> Result<(), Failed> {
        for attempt in attempts {
            let result = self.result(attempt)?;
            if !wanted.contains(&result) {
                return Err(format!("{attempt}: {result}, expected {wanted:?}").into());
            }
        }
        Ok(())
    }

    /// Fails unless the try read these bytes.
    pub fn expect_bytes(&self, attempt: &str, bytes: &str) -> Result<(), Failed> {
        let line = self.line(attempt)?;
        if line["bytes"] == bytes {
            Ok(())
        } else {
            Err(format!("{attempt}: {line}, expected the bytes {bytes:?}").into())
        }
    }
}

fn program() -> PathBuf {
    PathBuf::from("/proc/self/exe").canonicalize().unwrap_or_default()
}

/// Runs `try …` outside: the positive control.
pub fn outside(arguments: &[&str]) -> Result<Lines, Failed> {
    let mut command = Command::new(program());
    command.arg("try").args(arguments);
    lines(command)
}

/// Runs `try …` confined, with options of `confined`.
pub fn confined(options: &[&str], arguments: &[&str]) -> Result<Lines, Failed> {
    let mut command = Command::new(program());
    command.arg("confined").args(options).arg("--").arg(program()).arg("try").args(arguments);
    lines(command)
}

/// Any command, confined.
pub fn confined_command(options: &[&str], command: &[&str]) -> Command {
    let mut confined = Command::new(program());
    confined.arg("confined").args(options).arg("--").args(command);
    confined
}

/// Runs a command and collects its lines.
pub fn lines(mut command: Command) -> Result<Lines, Failed> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = BTreeMap::new();
    for line in text.lines() {
        let value: Value = serde_json::from_str(line).map_err(|error| format!("{error} in {line:?}"))?;
        lines.insert(value["try"].as_str().unwrap_or_default().to_owned(), value);
    }
    if !output.status.success() || lines.is_empty() {
        return Err(format!("{}: {text} {}", output.status, String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(Lines(lines))
}

/// A trial that needs something of the machine: ignored where that is missing, unless `JAIL_TEST_REQUIRE=all`.
pub fn needs(
    available: bool,
    need: &str,
    name: &str,
    test: impl FnOnce() -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let required = std::env::var_os("JAIL_TEST_REQUIRE").is_some_and(|value| value == "all");
    let ignored = !available && !required;
    let name = if ignored { format!("{name} (needs {need})") } else { name.to_owned() };
    Trial::test(name, test).with_ignored_flag(ignored)
}

/// A trial that has nothing to show on some machines, whatever is installed there: an older kernel, another user.
/// Never required: the layer it tries is not claimed there, or the other user's run of the suite shows it.
pub fn only(
    available: bool,
    condition: &str,
    name: &str,
    test: impl FnOnce() -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let name = if available { name.to_owned() } else { format!("{name} ({condition} only)") };
    Trial::test(name, test).with_ignored_flag(!available)
}
