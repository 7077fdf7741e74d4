//! Which projects' policies the user has agreed to, by the hash of the file.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::text::{Links, read_regular};
use crate::error::{Error, Result};

/// The list of agreed policies, `trust.json` in `jail`'s state directory.
#[derive(Debug)]
pub struct TrustStore {
    path: PathBuf,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// The workspace, to be read by people; the key decides.
    workspace: String,
    /// SHA-256 of the policy file that was agreed to.
    sha256: String,
    /// When, in UTC.
    time: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    trusted: BTreeMap<String, Entry>,
}

/// The hexadecimal SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The hexadecimal SHA-256 of a workspace's canonical path.
pub fn workspace_key(workspace: &Path) -> String {
    sha256(workspace.as_os_str().as_bytes())
}

impl TrustStore {
    /// Reads the list; a missing file is an empty one.
    ///
    /// # Errors
    /// A file that is not what this program wrote. It is not treated as empty, so that damage is noticed.
    pub fn load(own_state: &Path) -> Result<Self> {
        let path = own_state.join("trust.json");
        let Some(bytes) = read_regular(&path, Links::Follow)? else {
            return Ok(Self { path, entries: BTreeMap::new() });
        };
        let damaged = |what: String| {
            Error::setup(format!("{}: {what}", path.display()))
                .hint("remove the file and run `jail trust` again in the projects you trust")
        };
        let stored: Stored = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if stored.version != 1 {
            return Err(damaged(format!("version {} is unknown", stored.version)));
        }
        Ok(Self { path, entries: stored.trusted })
    }

    /// Whether exactly this file was agreed to in this workspace.
    pub fn trusts(&self, workspace: &Path, sha256: &str) -> bool {
        self.entries.get(&workspace_key(workspace)).is_some_and(|entry| entry.sha256 == sha256)
    }

    /// Records the user's agreement and writes the list.
    ///
    /// # Errors
    /// An I/O error; the list on disk is then unchanged.
    pub fn record(&mut self, workspace: &Path, sha256: &str) -> Result<()> {
        let entry = Entry {
            workspace: workspace.display().to_string(),
            sha256: sha256.to_owned(),
            time: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        };
        self.entries.insert(workspace_key(workspace), entry);
        self.save()
    }

    /// Takes the agreement back and writes the list; says whether there was one.
    ///
    /// # Errors
    /// An I/O error; the list on disk is then unchanged.
    pub fn revoke(&mut self, workspace: &Path) -> Result<bool> {
        let had = self.entries.remove(&workspace_key(workspace)).is_some();
        if had {
            self.save()?;
        }
        Ok(had)
    }

    fn save(&mut self) -> Result<()> {
        let stored = Stored { version: 1, trusted: std::mem::take(&mut self.entries) };
        let text = serde_json::to_vec_pretty(&stored);
        self.entries = stored.trusted;
        let text = text.map_err(|error| Error::setup(format!("{}: {error}", self.path.display())))?;
        write_private(&self.path, &text)
    }
}

/// Replaces a file as a whole, readable by its owner only; its directories are made.
///
/// # Errors
/// An I/O error; the old file is then unchanged.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed =
        |path: &Path, what: &str, error: std::io::Error| Error::setup(format!("{}: {what}: {error}", path.display()));
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| failed(directory, "cannot be made", error))?;
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let written = std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&new, path));
    written.map_err(|error| {
        // The error is reported; a leftover of our own name must not be in the way of the next attempt.
        let _ = std::fs::remove_file(&new);
        failed(path, "cannot be written", error)
    })
}
