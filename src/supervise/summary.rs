//! What is said at the end of a run.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::proxy::ledger::{Totals, TurnedHost};

/// So many lines of a kind are shown.
const SHOWN: usize = 12;

/// What is said at the end of a run.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The session's name.
    pub session: String,
    /// Exit status, or 128 plus the signal.
    pub status: i32,
    /// How many paths were hidden at the start.
    pub hidden: usize,
    /// How many were hidden during the run.
    pub hidden_later: usize,
    /// The first of these.
    pub hidden_later_paths: Vec<String>,
    /// What the workload changed that the host will execute.
    pub planted: Vec<String>,
    /// What was let out and what was refused.
    pub egress: Totals,
    /// What bounded the run.
    pub limits: String,
    /// Where the record is.
    pub record: PathBuf,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {}: {} hidden", self.session, self.hidden + self.hidden_later)?;
        if self.planted.is_empty() {
            write!(f, ", nothing changed that the host executes")?;
        } else {
            write!(f, ", {} changed that the host executes:", self.planted.len())?;
        }
        for line in self.planted.iter().take(SHOWN) {
            write!(f, "\n  {line}")?;
        }
        if self.planted.len() > SHOWN {
            write!(f, "\n  and {} more, see {}", self.planted.len() - SHOWN, self.record.display())?;
        }
        self.write_egress(f)?;
        // Otherwise a test that writes a key and reads it back fails without a word of why.
        if self.hidden_later > 0 {
            write!(f, "\nhidden when it appeared, so the command could not read it (`jail explain PATH` tells more):")?;
        }
        for path in &self.hidden_later_paths {
            write!(f, "\n  {path}")?;
        }
        if self.hidden_later > self.hidden_later_paths.len() {
            write!(f, "\n  and {} more", self.hidden_later - self.hidden_later_paths.len())?;
        }
        Ok(())
    }
}

impl Summary {
    fn write_egress(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { allowed, denied, denied_hosts, failed, failed_hosts, more_hosts, .. } = &self.egress;
        if *allowed > 0 {
            write!(f, "\n{allowed} {} allowed", if *allowed == 1 { "connection" } else { "connections" })?;
        }
        if *denied > 0 {
            // For some there is nothing: a rule that denies is there on purpose.
            let remedies = denied_hosts.iter().take(SHOWN).any(|host| host.remedy.is_some());
            let with = if remedies { ", with what would allow it" } else { "" };
            write!(f, "\n{denied} refused on the way out{with}:")?;
            self.write_hosts(f, denied_hosts, *more_hosts)?;
        }
        if *failed > 0 {
            write!(f, "\n{failed} allowed, and not reached:")?;
            self.write_hosts(f, failed_hosts, *more_hosts)?;
        }
        Ok(())
    }

    fn write_hosts(&self, f: &mut fmt::Formatter<'_>, hosts: &[TurnedHost], more: bool) -> fmt::Result {
        for TurnedHost { host, port, reason, count, programs, remedy } in hosts.iter().take(SHOWN) {
            let port = port.map_or_else(String::new, |port| format!(":{port}"));
            let programs = if programs.is_empty() { String::new() } else { format!("{}: ", programs.join(", ")) };
            write!(f, "\n  {programs}{host}{port}: {}", reason.sentence())?;
            if *count > 1 {
                write!(f, " ({count} times)")?;
            }
            if let Some(remedy) = remedy {
                write!(f, ": {remedy}")?;
            }
        }
        if hosts.len() > SHOWN || more {
            write!(f, "\n  and more, see {}", self.record.display())?;
        }
        Ok(())
    }
}
