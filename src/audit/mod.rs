//! The record of a session: one JSON object per line, written as it happens, outside the jail's view.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::escape;
use crate::guard::report::Change;

/// Something that was decided or done.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event<'a> {
    /// The jail is about to be launched.
    SessionStart {
        /// The version of `jail`.
        version: &'a str,
        /// The command as typed.
        command: Vec<String>,
        /// The workspace.
        workspace: String,
        /// Profiles that took part in the policy.
        profiles: &'a [String],
        /// Names of hidden paths, relative to the workspace.
        hidden: Vec<String>,
    },
    /// A path was hidden during the run.
    Masked {
        /// Relative to the workspace.
        path: String,
        /// Why it could not be hidden, if so.
        error: Option<&'a str>,
    },
    /// The value of a credential was loaded.
    Credential {
        /// Its name in the policy.
        name: &'a str,
        /// The environment it belongs to.
        #[serde(skip_serializing_if = "Option::is_none")]
        environment: Option<&'a str>,
    },
    /// Another command was started in the jail.
    Exec {
        /// The command as typed.
        command: Vec<String>,
    },
    /// The workload changed something that the host will execute.
    Planted {
        /// Relative to the workspace.
        path: String,
        /// What happened to it.
        what: Change,
    },
    /// A connection out was let through and is about to carry its first byte.
    EgressOpen(Egress<'a>),
    /// A connection out was refused, did not come about, or has ended.
    Egress(Egress<'a>),
    /// The run ended.
    SessionEnd {
        /// Exit status, or 128 plus the signal.
        status: i32,
    },
}

/// A connection out of the jail, as far as it is known. Never what was said on it.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Egress<'a> {
    /// Joins the two lines of a connection that was let through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// By which way the program came: `transparent`, `connect`, `forward`, `socks` or `dns`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<&'a str>,
    /// The program, where it is known: the file name of its executable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<&'a str>,
    /// Its process's number inside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// The host it asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<&'a str>,
    /// The port it asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The address that was dialled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// `allow` or `deny`.
    pub verdict: &'a str,
    /// A stable code.
    pub reason: &'a str,
    /// The rule that decided, as `FILE:LINE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<&'a str>,
    /// What more there is to say of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'a str>,
    /// Bytes out of the jail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_up: Option<u64>,
    /// Bytes into the jail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_down: Option<u64>,
    /// Requests of plain HTTP on this connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// From the first byte to the end, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Refusals before this one that were counted and not written, because there were too many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub more_refused: Option<u64>,
}

/// Appends events; every write reaches the file before the call returns.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    file: File,
    session: String,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    session: &'a str,
    #[serde(flatten)]
    event: &'a Event<'a>,
}

impl Recorder {
    /// Creates `STATE/sessions/SESSION.jsonl`, readable by this user only.
    pub fn create(state: &Path, session: &str) -> Result<Self> {
        let directory = state.join("sessions");
        let path = directory.join(format!("{session}.jsonl"));
        let failed = |error: std::io::Error| {
            Error::setup(format!("cannot create the record {}: {error}", path.display()))
                .hint("the record is kept before anything runs; make room or set XDG_STATE_HOME")
        };
        DirBuilder::new().mode(0o700).recursive(true).create(&directory).map_err(failed)?;
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(failed)?;
        Ok(Self { path, file, session: session.to_owned() })
    }

    /// Where the record is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one event. A record that cannot be written is an error the caller must not ignore: the run ends.
    pub fn append(&mut self, event: &Event<'_>) -> Result<()> {
        let line = Line { time: now(), session: &self.session, event };
        let text = serde_json::to_string(&line)
            .map_err(|error| Error::setup(format!("cannot encode an event for the record: {error}")))?;
        let mut text = escape::json(&text).into_bytes();
        text.push(b'\n');
        self.file.write_all(&text).map_err(|error| {
            Error::setup(format!("cannot write the record {}: {error}", self.path.display()))
                .hint("nothing runs unrecorded; make room and start again")
        })
    }
}

/// A record that several threads write to.
pub type SharedRecorder = Arc<Mutex<Recorder>>;

/// Appends one event to a shared record. See [`Recorder::append`].
pub fn append(recorder: &SharedRecorder, event: &Event<'_>) -> Result<()> {
    recorder.lock().unwrap_or_else(PoisonError::into_inner).append(event)
}

/// Longest word of a command in the record, in bytes, and the most words.
const WORD: usize = 4096;
const WORDS: usize = 256;

/// A command for the record. What is too long is cut, and says so.
pub fn command(words: &[impl AsRef<OsStr>]) -> Vec<String> {
    let word = |word: &OsStr| {
        let bytes = word.as_bytes();
        let kept = &bytes[..bytes.len().min(WORD)];
        let mut text = String::from_utf8_lossy(kept).into_owned();
        if bytes.len() > WORD {
            text.push_str(&format!("… and {} bytes more", bytes.len() - WORD));
        }
        text
    };
    let mut command: Vec<String> = words.iter().take(WORDS).map(|each| word(each.as_ref())).collect();
    if words.len() > WORDS {
        command.push(format!("… and {} words more", words.len() - WORDS));
    }
    command
}

/// The current time, RFC 3339 in UTC with milliseconds.
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
