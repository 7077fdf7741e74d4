//! Where this user's files are: from the real environment only, never from a file.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};

use super::{Flags, Request};
use crate::error::{Error, Result};

/// The administrator's policy.
const SYSTEM_FILE: &str = "/etc/jail/policy.toml";

/// The directories of the user who runs `jail`.
#[derive(Debug, Clone)]
pub struct Places {
    /// `$HOME`, or the home directory of the user database.
    pub home: PathBuf,
    /// `/etc/jail/policy.toml`.
    pub system_file: PathBuf,
    /// `$XDG_CONFIG_HOME`, or `~/.config`.
    pub config_home: PathBuf,
    /// `$XDG_STATE_HOME`, or `~/.local/state`.
    pub state_home: PathBuf,
}

impl Places {
    /// Asks the environment. Relative values are ignored, as the XDG specification says.
    ///
    /// # Errors
    /// No home directory is known.
    pub fn detect() -> Result<Self> {
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let database =
            || User::from_uid(Uid::current()).ok().flatten().map(|user| user.dir).filter(|dir| dir.is_absolute());
        let home: PathBuf = variable("HOME")
            .or_else(database)
            .ok_or_else(|| Error::setup("the home directory is not known").hint("set HOME to an absolute path"))?
            .components()
            .collect();
        Ok(Self {
            system_file: SYSTEM_FILE.into(),
            config_home: variable("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")),
            state_home: variable("XDG_STATE_HOME").unwrap_or_else(|| home.join(".local/state")),
            home,
        })
    }

    /// A request with these directories.
    pub fn request<'a>(&'a self, workspace: &'a Path, command: &'a OsStr, flags: &'a Flags) -> Request<'a> {
        Request {
            home: &self.home,
            system_file: &self.system_file,
            config_home: &self.config_home,
            state_home: &self.state_home,
            workspace,
            command,
            flags,
        }
    }

    /// `jail`'s own directory for policies.
    pub fn own_config(&self) -> PathBuf {
        self.config_home.join("jail")
    }

    /// `jail`'s own directory for trust and records.
    pub fn own_state(&self) -> PathBuf {
        self.state_home.join("jail")
    }
}
