//! What `jail` says to people: the only place that writes to standard error.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use crate::config::text::printable;
use crate::error::Error;

/// How messages are written.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    quiet: bool,
    colour: bool,
    /// A terminal that the relay has put into raw mode does not return the carriage by itself.
    end: &'static str,
}

impl Report {
    /// Colour only on a terminal and without `NO_COLOR`; `quiet` leaves out everything but errors and warnings.
    pub fn new(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { quiet, colour, end: if terminal { "\r\n" } else { "\n" } }
    }

    /// An error and its hint.
    pub fn error(self, error: &Error) {
        self.line("31;1", "error:", &error);
        if let Some(layer) = error.missing_layer() {
            self.line(
                "31;1",
                "missing:",
                &format_args!("{}: without it {}; nothing was started", layer.name(), layer.promise()),
            );
        }
        if let Some(hint) = error.hint_text() {
            self.line("36;1", "hint:", &hint);
        }
    }

    /// Something the user should know although the run goes on.
    pub fn warning(self, message: impl Display) {
        self.line("33;1", "warning:", &message);
    }

    /// A line about the run; left out with `--quiet`.
    pub fn note(self, message: impl Display) {
        if !self.quiet {
            self.line("2", "jail:", &message);
        }
    }

    /// A value as one line of JSON on standard error.
    pub fn json(self, value: &impl serde::Serialize) {
        if let Ok(text) = serde_json::to_string(value) {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
    }

    fn line(self, colour: &str, label: &str, message: &dyn Display) {
        // Paths and names come from whoever made the files. Line ends stay: messages about policies have several lines.
        let end = self.end;
        let message: Vec<String> = message.to_string().split('\n').map(printable).collect();
        let message = message.join(end);
        let mut stderr = std::io::stderr().lock();
        // A closed standard error must not end the run.
        let _ = if self.colour {
            write!(stderr, "\x1b[{colour}m{label}\x1b[0m {message}{end}")
        } else {
            write!(stderr, "{label} {message}{end}")
        };
    }
}

/// A number with its noun.
pub fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
