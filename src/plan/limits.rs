//! Resource limits of the workload's processes (getrlimit(2)). What the cgroup bounds is not repeated here.

use serde::Serialize;

use crate::policy::LimitsPolicy;

/// The limits a process of the workload starts with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LimitsPlan {
    /// Applied in order; soft and hard limit are the same, so that the workload cannot raise them.
    pub rlimits: Vec<Limit>,
}

/// One resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// Of what.
    pub resource: Resource,
    /// The most there may be; never raised above the limit `jail` itself was started with.
    pub value: u64,
    /// What it stops.
    pub why: &'static str,
}

/// The resources that are limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resource {
    /// Size of a core dump, in bytes.
    Core,
    /// Processes and threads of the user in the jail's user namespace. Not enforced for the host's root.
    Processes,
    /// Open descriptors of one process.
    OpenFiles,
    /// Private writable memory of one process, in bytes.
    Data,
}

impl LimitsPlan {
    /// Turns the policy into limits. `memory_in_cgroup`: the cgroup bounds the memory of the whole jail; where it cannot,
    /// each process is bounded on its own, which is weaker.
    pub fn new(policy: &LimitsPolicy, memory_in_cgroup: bool) -> Self {
        let mut rlimits = vec![Limit {
            resource: Resource::Core,
            value: 0,
            why: "a crash writes no memory to a file, nor to the host's core-dump handler",
        }];
        if let Some(processes) = &policy.processes {
            rlimits.push(Limit {
                resource: Resource::Processes,
                value: processes.value,
                why: "a fork bomb stays in the jail",
            });
        }
        if let Some(open_files) = &policy.open_files {
            rlimits.push(Limit {
                resource: Resource::OpenFiles,
                value: open_files.value,
                why: "one process cannot take all of the host's file table",
            });
        }
        if let (Some(memory), false) = (&policy.memory, memory_in_cgroup) {
            rlimits.push(Limit {
                resource: Resource::Data,
                value: memory.value,
                why: "no cgroup bounds the jail's memory: at least no single process takes more",
            });
        }
        Self { rlimits }
    }
}
