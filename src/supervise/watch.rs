//! Keeps masks and guards in place while the jail runs: what the watchers see becomes a message to init.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use tokio::io::unix::AsyncFd;

use super::jail::Jail;
use crate::error::{Error, Result};
use crate::plan::{GuardAction, Plan};
use crate::sys::dirent::FileType;
use crate::sys::readiness;
use crate::tree::{Query, TreeFacts};
use crate::watch::guards::GuardWatcher;
use crate::watch::{Event, Watcher};

/// Directories that are looked at before anything else gets its turn: about a millisecond.
const SLICE: usize = 64;
/// How often everything is looked at again where the user's inotify watches ran out.
const RESCAN: Duration = Duration::from_secs(2);

/// Both watchers of a run.
#[derive(Debug)]
pub struct Watch<'p> {
    plan: &'p Plan,
    secrets: Watcher,
    secrets_ready: AsyncFd<OwnedFd>,
    guards: GuardWatcher,
    guards_ready: AsyncFd<OwnedFd>,
    /// Directories wait to be looked at.
    more: bool,
    /// How many paths were hidden since the start.
    pub hidden: usize,
}

impl<'p> Watch<'p> {
    /// Watches the directories of everything hidden and protected; the others follow in [`Watch::turn`]. Needs a
    /// running tokio.
    pub fn new(plan: &'p Plan, query: &Query, facts: &TreeFacts) -> Result<Self> {
        let failed = |error: std::io::Error| Error::setup(format!("cannot watch a descriptor: {error}"));
        let secrets = Watcher::new(query, facts)?;
        let guards = GuardWatcher::new(&plan.workspace, plan.guards.iter().map(|guard| guard.path.as_path()))?;
        Ok(Self {
            plan,
            secrets_ready: secrets.as_fd().try_clone_to_owned().and_then(readiness::readable).map_err(failed)?,
            guards_ready: guards.as_fd().try_clone_to_owned().and_then(readiness::readable).map_err(failed)?,
            secrets,
            guards,
            more: true,
            hidden: 0,
        })
    }

    /// Waits until something happened, or looks at the next directories. Cancel-safe.
    pub async fn turn(&mut self) -> Result<()> {
        let failed = |error: std::io::Error| Error::setup(format!("cannot poll: {error}"));
        let limited = self.secrets.limited() && !self.more;
        tokio::select! {
            biased;
            ready = self.guards_ready.readable() => ready.map_err(failed)?.clear_ready(),
            ready = self.secrets_ready.readable() => {
                ready.map_err(failed)?.clear_ready();
                self.more |= self.secrets.read()?;
            }
            () = tokio::task::yield_now(), if self.more => self.more = self.secrets.step(SLICE)?,
            () = tokio::time::sleep(RESCAN), if limited => {
                self.secrets.rescan();
                self.more = true;
            }
        }
        Ok(())
    }

    /// Whether the user's inotify watches do not suffice: new secrets are then found only every two seconds.
    pub fn limited(&self) -> bool {
        self.secrets.limited()
    }

    /// Has init renew what fell off and hide what appeared.
    pub fn renew(&mut self, jail: &Jail<'_>) -> Result<()> {
        for event in self.secrets.take_events() {
            match event {
                Event::Replaced { path } => jail.mask(path.as_os_str().as_bytes(), false)?,
                Event::Appeared { path, kind, .. } => {
                    self.hidden += 1;
                    jail.mask(path.as_os_str().as_bytes(), kind == FileType::Directory)?;
                }
                Event::Vanished { .. } => {}
            }
        }
        for path in self.guards.read()? {
            let pin = self
                .plan
                .guards
                .iter()
                .any(|guard| guard.path == path && matches!(guard.action, GuardAction::Pin));
            jail.guard(path.as_os_str().as_bytes(), pin)?;
        }
        Ok(())
    }
}
