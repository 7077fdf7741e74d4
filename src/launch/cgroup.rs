//! A cgroup for the jail, where the machine lets this user make one; the report says what it bounds.
//!
//! Version 2 is used where a directory that this user may write to has the controllers enabled for its children (a
//! systemd user session delegates one); version 1 where its hierarchies are writable. Otherwise rlimits remain.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

use crate::policy::LimitsPolicy;

/// What the machine's cgroups bound for this run.
#[derive(Debug, Default)]
pub struct Cgroup {
    /// Version 2: the directory, and its descriptor for clone3(2).
    unified: Option<(PathBuf, OwnedFd)>,
    /// Version 1: a directory in each controller's hierarchy; init moves into it before it does anything.
    legacy: Vec<PathBuf>,
    /// Whether memory is bounded here.
    pub memory: bool,
    /// Whether the number of processes is bounded here.
    pub processes: bool,
    /// Whether processor time is bounded here.
    pub cpu: bool,
}

const PERIOD_MICROSECONDS: u64 = 100_000;

/// The names of cgroups made here begin with this.
const PREFIX: &str = "jail-";

/// A cgroup is entered within milliseconds; an empty one of this age belongs to a supervisor that was killed.
const GRACE: Duration = Duration::from_secs(2);

impl Cgroup {
    /// Makes a cgroup for the limits the policy names. None of them, or none possible: an empty value.
    pub fn create(session: &str, limits: &LimitsPolicy) -> Self {
        if limits.memory.is_none() && limits.processes.is_none() && limits.cpu.is_none() {
            return Self::default();
        }
        Self::create_unified(session, limits).or_else(|| Self::create_legacy(session, limits)).unwrap_or_default()
    }

    fn create_unified(session: &str, limits: &LimitsPolicy) -> Option<Self> {
        let (mount, own) = unified_place()?;
        // The nearest directory upwards that hands the wanted controllers to its children: those it already has, since
        // enabling one is refused while processes live in the directory itself (no internal processes).
        let wanted = wanted_controllers(limits);
        let mut parent = mount.join(own.strip_prefix("/").unwrap_or(&own));
        loop {
            let enabled = fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap_or_default();
            if wanted.iter().all(|name| enabled.split_whitespace().any(|word| word == *name)) {
                sweep(&parent);
                let directory = parent.join(format!("{PREFIX}{session}"));
                if fs::create_dir(&directory).is_ok() {
                    return Self::fill_unified(directory, limits);
                }
            }
            if parent == mount || !parent.pop() {
                return None;
            }
        }
    }

    fn fill_unified(directory: PathBuf, limits: &LimitsPolicy) -> Option<Self> {
        let set = |file: &str, value: String| fs::write(directory.join(file), value).is_ok();
        let memory = limits.memory.as_ref().is_some_and(|bytes| {
            // Without this the jail's memory would only move to swap.
            let _ = fs::write(directory.join("memory.swap.max"), "0");
            set("memory.max", bytes.value.to_string())
        });
        let processes = limits.processes.as_ref().is_some_and(|count| set("pids.max", count.value.to_string()));
        let cpu = limits
            .cpu
            .as_ref()
            .is_some_and(|share| set("cpu.max", format!("{} {PERIOD_MICROSECONDS}", quota(share.value))));
        let made = fs::File::open(&directory).ok().map(OwnedFd::from);
        let Some(descriptor) = made else {
            let _ = fs::remove_dir(&directory);
            return None;
        };
        Some(Self { unified: Some((directory, descriptor)), legacy: Vec::new(), memory, processes, cpu })
    }

    fn create_legacy(session: &str, limits: &LimitsPolicy) -> Option<Self> {
        let mut cgroup = Self::default();
        let mut make = |controller: &str, values: &[(&str, String)]| -> bool {
            let Some(parent) = legacy_place(controller) else { return false };
            sweep(&parent);
            let directory = parent.join(format!("{PREFIX}{session}"));
            if fs::create_dir(&directory).is_err() {
                return false;
            }
            if values.iter().all(|(file, value)| fs::write(directory.join(file), value).is_ok()) {
                cgroup.legacy.push(directory);
                return true;
            }
            let _ = fs::remove_dir(&directory);
            false
        };
        let memory = limits
            .memory
            .as_ref()
            .is_some_and(|bytes| make("memory", &[("memory.limit_in_bytes", bytes.value.to_string())]));
        let processes =
            limits.processes.as_ref().is_some_and(|count| make("pids", &[("pids.max", count.value.to_string())]));
        let cpu = limits.cpu.as_ref().is_some_and(|share| {
            make(
                "cpu",
                &[
                    ("cpu.cfs_period_us", PERIOD_MICROSECONDS.to_string()),
                    ("cpu.cfs_quota_us", quota(share.value).to_string()),
                ],
            )
        });
        (cgroup.memory, cgroup.processes, cgroup.cpu) = (memory, processes, cpu);
        if cgroup.legacy.is_empty() { None } else { Some(cgroup) }
    }

    /// The version 2 directory for clone3(2): the jail is in it from its first instruction.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(|(_, descriptor)| descriptor.as_fd())
    }

    /// Moves the calling process into the version 1 directories: init, before it does anything else. It has one thread, and
    /// moves itself through `tasks`: moving another process, or one by `cgroup.procs`, takes a lock that waits for every
    /// processor of the machine (cgroups(7); some 15 ms).
    ///
    /// # Errors
    /// The directory that refused, and why.
    pub fn enter(&self) -> Result<(), (PathBuf, Errno)> {
        for directory in &self.legacy {
            fs::write(directory.join("tasks"), "0")
                .map_err(|error| (directory.clone(), Errno::from_raw(error.raw_os_error().unwrap_or_default())))?;
        }
        Ok(())
    }

    /// What is bounded, for people.
    pub fn describe(&self) -> String {
        let bounded: Vec<&str> = [(self.memory, "memory"), (self.processes, "processes"), (self.cpu, "cpu")]
            .iter()
            .filter_map(|(is, name)| is.then_some(*name))
            .collect();
        match (&self.unified, bounded.is_empty()) {
            (_, true) => "no cgroup; rlimits bound each process".to_owned(),
            (Some(_), false) => format!("cgroup v2: {}", bounded.join(", ")),
            (None, false) => format!("cgroup v1: {}", bounded.join(", ")),
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let unified = self.unified.as_ref().map(|(directory, _)| directory);
        for directory in unified.into_iter().chain(&self.legacy) {
            // The kernel may need a moment until the last process is gone from it.
            for _ in 0..20 {
                if fs::remove_dir(directory).is_ok() || !directory.exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Removes what killed supervisors left: the kernel refuses to remove a cgroup with processes in it.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let left = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX))
            && entry
                .metadata()
                .and_then(|found| found.modified())
                .is_ok_and(|made| made.elapsed().is_ok_and(|age| age > GRACE));
        if left {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn wanted_controllers(limits: &LimitsPolicy) -> Vec<&'static str> {
    let mut wanted = Vec::new();
    if limits.memory.is_some() {
        wanted.push("memory");
    }
    if limits.processes.is_some() {
        wanted.push("pids");
    }
    if limits.cpu.is_some() {
        wanted.push("cpu");
    }
    wanted
}

/// Processor time per period in microseconds.
fn quota(share: f64) -> u64 {
    (share * PERIOD_MICROSECONDS as f64) as u64
}

/// The version 2 mount and this process's place in it.
fn unified_place() -> Option<(PathBuf, PathBuf)> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .iter()
        .map(Path::new)
        .find(|mount| mount.join("cgroup.subtree_control").exists() || mount.join("cgroup.procs").exists())
        .map(|mount| (mount.to_owned(), PathBuf::from(own)))
}

/// This process's directory in a version 1 hierarchy, if it is writable.
fn legacy_place(controller: &str) -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        controllers.split(',').any(|name| name == controller).then(|| fields.next())?
    })?;
    let directory = Path::new("/sys/fs/cgroup").join(controller).join(path.trim_start_matches('/'));
    directory.join("cgroup.procs").exists().then_some(directory)
}
