//! Keeps masks and guards in place while the jail runs: what the watchers see becomes a message to init.

use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::task::Poll;
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use tokio::io::unix::AsyncFd;

use super::jail::Jail;
use crate::error::{Error, Result};
use crate::guard::placeholder::is_placeholder;
use crate::plan::{Guard, GuardAction, Plan};
use crate::sys::readiness;
use crate::sys::release::{self, Holder};
use crate::tree::{Searched, escape};
use crate::watch::guards::GuardWatcher;
use crate::watch::{Event, Watcher};

/// Directories that are looked at before anything else gets its turn: about a millisecond.
const SLICE: usize = 64;
/// How often everything is looked at again where the user's inotify watches ran out.
const RESCAN: Duration = Duration::from_secs(2);

/// The watchers of a run.
#[derive(Debug)]
pub struct Watch<'p> {
    plan: &'p Plan,
    trees: Vec<Tree>,
    guards: GuardWatcher,
    guards_ready: AsyncFd<OwnedFd>,
    rescan: tokio::time::Interval,
    /// What init is to be asked for: what took the place of a masked file first, because that was hidden before.
    urgent: VecDeque<Ask>,
    later: VecDeque<Ask>,
    /// Something left its place: everything is looked at before the workload starts or goes on.
    doubting: bool,
    /// What was hidden since the start.
    pub hidden: HiddenLater,
    /// Last: it is dropped after the watchers, and the run's end does not wait for the kernel to forget them.
    holder: Option<Holder>,
}

/// What was hidden after the start.
#[derive(Debug, Default)]
pub struct HiddenLater {
    /// How many paths.
    pub count: usize,
    /// The first of them, relative to the workspace or absolute, printable.
    pub first: Vec<String>,
}

impl HiddenLater {
    /// So many names are kept.
    const KEPT: usize = 12;

    fn add(&mut self, path: &Path) {
        self.count += 1;
        if self.first.len() < Self::KEPT {
            self.first.push(escape(path));
        }
    }
}

/// One thing to ask init for.
#[derive(Debug)]
enum Ask {
    Mask(PathBuf),
    Guard(PathBuf, bool),
}

/// The watcher of one searched tree.
#[derive(Debug)]
struct Tree {
    /// How the tree appears inside; empty for the workspace.
    shown: PathBuf,
    watcher: Watcher,
    ready: AsyncFd<OwnedFd>,
    /// Directories wait to be looked at.
    more: bool,
}

impl<'p> Watch<'p> {
    /// Watches the directories of everything hidden and protected; the others follow in [`Watch::turn`]. Needs a
    /// running tokio.
    pub fn new(plan: &'p Plan, roots: &[Searched]) -> Result<Self> {
        let failed = |error: std::io::Error| Error::setup(format!("cannot watch a descriptor: {error}"));
        let guards = GuardWatcher::new(&plan.workspace, plan.guards.iter().map(|guard| guard.path.as_path()))?;
        let mut trees = Vec::with_capacity(roots.len());
        for root in roots {
            let watcher = Watcher::new(&root.query, &root.facts)?;
            let ready = watcher.as_fd().try_clone_to_owned().and_then(readiness::readable).map_err(failed)?;
            trees.push(Tree { shown: root.shown.clone(), watcher, ready, more: true });
        }
        let mut rescan = tokio::time::interval(RESCAN);
        rescan.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        Ok(Self {
            plan,
            trees,
            guards_ready: guards.as_fd().try_clone_to_owned().and_then(readiness::readable).map_err(failed)?,
            guards,
            rescan,
            urgent: VecDeque::new(),
            later: VecDeque::new(),
            doubting: false,
            hidden: HiddenLater::default(),
            holder: None,
        })
    }

    /// The jail stands: forgets what init itself put into the workspace meanwhile, which is covered.
    pub fn stands(&mut self) -> Result<()> {
        for path in self.guards.read()? {
            let guard = self.plan.guards.iter().find(|guard| guard.path == path);
            let Some(guard) = guard.filter(|guard| !self.is_placed(guard)) else { continue };
            self.urgent.push_back(Ask::Guard(path, matches!(guard.action, GuardAction::Pin)));
        }
        Ok(())
    }

    /// Whether a placeholder is where the plan wants one.
    fn is_placed(&self, guard: &Guard) -> bool {
        let content = match &guard.action {
            GuardAction::PlaceholderDirectory => None,
            GuardAction::PlaceholderFile { content } => Some(content.as_str()),
            _ => return false,
        };
        let path = self.plan.workspace.join(&guard.path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return false };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let (Ok(parent), Ok(name)) = (open(parent, flags, Mode::empty()), CString::new(name.as_bytes())) else {
            return false;
        };
        is_placeholder(parent.as_fd(), &name, content)
    }

    /// Waits until something happened, or looks at the next directories. Cancel-safe.
    pub async fn turn(&mut self) -> Result<()> {
        let failed = |error: std::io::Error| Error::setup(format!("cannot poll: {error}"));
        let more = self.trees.iter().any(|tree| tree.more);
        let limited = self.limited() && !more;
        tokio::select! {
            biased;
            ready = self.guards_ready.readable() => ready.map_err(failed)?.clear_ready(),
            told = told(&self.trees) => {
                let tree = &mut self.trees[told.map_err(failed)?];
                tree.more |= tree.watcher.read()?;
            }
            () = tokio::task::yield_now(), if more => {}
            _ = self.rescan.tick(), if limited => {
                for tree in self.trees.iter_mut().filter(|tree| tree.watcher.limited()) {
                    tree.watcher.rescan();
                    tree.more = true;
                }
            }
        }
        // Every time: a command that makes events without pause may not keep the rest from being looked at.
        for tree in self.trees.iter_mut().filter(|tree| tree.more) {
            tree.more = tree.watcher.step(SLICE)?;
        }
        Ok(())
    }

    /// What was to be hidden was not where it was seen: it may be gone, or somewhere else by now, with a directory that
    /// was moved. So nothing counts as hidden any more, and everything is looked at again.
    pub fn doubt(&mut self) {
        self.doubting = true;
        for tree in &mut self.trees {
            tree.watcher.doubt();
            tree.more = true;
        }
    }

    /// Whether the user's inotify watches do not suffice: new secrets are then found only every two seconds.
    pub fn limited(&self) -> bool {
        self.trees.iter().any(|tree| tree.watcher.limited())
    }

    /// Has init renew what fell off and hide what appeared, as much at once as it can be asked for. Call it again
    /// whenever init answered.
    pub fn renew(&mut self, jail: &Jail<'_>) -> Result<()> {
        let placeholder = |path: &Path| {
            let placed = |action: &GuardAction| {
                matches!(action, GuardAction::PlaceholderDirectory | GuardAction::PlaceholderFile { .. })
            };
            self.plan.guards.iter().any(|guard| guard.path == path && placed(&guard.action))
        };
        for tree in &mut self.trees {
            for event in tree.watcher.take_events() {
                match event {
                    // The jail's own, which is covered already. What the host puts in its place is told of as replaced.
                    Event::Appeared { path, .. } if placeholder(&tree.shown.join(&path)) => {}
                    Event::Replaced { path } => self.urgent.push_back(Ask::Mask(tree.shown.join(path))),
                    Event::Appeared { path, .. } => {
                        let path = tree.shown.join(path);
                        self.hidden.add(&path);
                        self.later.push_back(Ask::Mask(path));
                    }
                    Event::Vanished { .. } => self.doubting = true,
                }
            }
        }
        for path in self.guards.read()? {
            let pin =
                self.plan.guards.iter().any(|guard| guard.path == path && matches!(guard.action, GuardAction::Pin));
            self.urgent.push_back(Ask::Guard(path, pin));
        }
        while jail.has_room() {
            match self.urgent.pop_front().or_else(|| self.later.pop_front()) {
                Some(Ask::Mask(path)) => jail.mask(path.as_os_str().as_bytes())?,
                Some(Ask::Guard(path, pin)) => jail.guard(path.as_os_str().as_bytes(), pin)?,
                None => break,
            }
        }
        Ok(())
    }

    /// Whether everything that was seen is hidden, and what is not where it was seen was looked for. Only then may the
    /// workload start or go on.
    pub fn is_settled(&mut self, jail: &Jail<'_>) -> bool {
        self.doubting &= self.trees.iter().any(|tree| tree.more);
        !self.doubting && self.urgent.is_empty() && self.later.is_empty() && jail.has_answered()
    }

    /// Looks at everything the kernel has to tell, at once: after a time in which nobody looked.
    pub fn catch_up(&mut self) -> Result<()> {
        for tree in &mut self.trees {
            tree.more |= tree.watcher.read()?;
            // New directories that were too many to be looked at at once.
            self.doubting |= tree.more;
        }
        Ok(())
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let mut watchers = vec![self.guards.as_fd()];
        watchers.extend(self.trees.iter().map(|tree| tree.watcher.as_fd()));
        self.holder = release::hold(&watchers).ok();
    }
}

/// Waits until the kernel has something to tell of one of the trees; its index.
async fn told(trees: &[Tree]) -> std::io::Result<usize> {
    std::future::poll_fn(|context| {
        for (index, tree) in trees.iter().enumerate() {
            if let Poll::Ready(ready) = tree.ready.poll_read_ready(context) {
                return Poll::Ready(ready.map(|mut ready| {
                    ready.clear_ready();
                    index
                }));
            }
        }
        Poll::Pending
    })
    .await
}
