//! The Landlock and limits plans as data.

use jail::plan::landlock::{Access, LandlockPlan, LandlockScope, NEWEST_ABI};
use jail::plan::limits::{LimitsPlan, Resource};
use jail::plan::seccomp::{Arch, SeccompPlan};
use jail::policy::{LimitsPolicy, Sourced};
use serde_json::json;

#[test]
fn an_abi_that_breaks_git_is_not_used() {
    assert_eq!(LandlockPlan::for_abi(0), None);
    assert_eq!(LandlockPlan::for_abi(1), None);
}

#[test]
fn an_abi_is_used_as_far_as_it_is_known() {
    for (machine, planned) in [(2, 2), (7, 7), (NEWEST_ABI, NEWEST_ABI), (NEWEST_ABI + 5, NEWEST_ABI)] {
        assert_eq!(LandlockPlan::for_abi(machine).map(|plan| plan.abi), Some(planned));
    }
}

#[test]
fn scopes_come_with_the_abi_that_has_them() {
    let scopes = |abi| LandlockPlan::for_abi(abi).map(|plan| plan.scopes);
    assert_eq!(scopes(5), Some(vec![]));
    assert_eq!(scopes(6), Some(vec![LandlockScope::AbstractUnixSocket, LandlockScope::Signal]));
}

#[test]
fn plans_are_plain_data() {
    let mut landlock = LandlockPlan::for_abi(7).expect("ABI 7 is known");
    landlock.require("/usr", Access::ReadExecute, "programs").allow_if_present("/opt", Access::Read, "programs");
    let rule = |path: &str, access: &str, optional: bool| json!({ "path": path, "access": access, "optional": optional, "why": "programs" });
    assert_eq!(
        serde_json::to_value(landlock).expect("plain data"),
        json!({
            "abi": 7,
            "rules": [rule("/usr", "read-execute", false), rule("/opt", "read", true)],
            "scopes": ["abstract-unix-socket", "signal"],
        })
    );
    let plan = serde_json::to_value(SeccompPlan::new(Arch::X86_64)).expect("plain data");
    assert_eq!(plan["arch"], "x86_64");
    assert!(plan["by_argument"].as_array().is_some_and(|names| names.contains(&json!("socket"))));
    assert!(plan["refused"].as_array().is_some_and(|names| names.contains(&json!("mount"))));
}

fn limits(policy: LimitsPolicy, memory_in_cgroup: bool) -> Vec<(Resource, u64)> {
    LimitsPlan::new(&policy, memory_in_cgroup).rlimits.iter().map(|limit| (limit.resource, limit.value)).collect()
}

#[test]
fn core_dumps_are_off_whatever_the_policy() {
    assert_eq!(limits(LimitsPolicy::default(), false), [(Resource::Core, 0)]);
}

#[test]
fn memory_is_bounded_per_process_only_without_a_cgroup() {
    let policy = || LimitsPolicy {
        memory: Some(Sourced::default_value(1 << 30)),
        processes: Some(Sourced::default_value(100)),
        open_files: Some(Sourced::default_value(1024)),
        ..LimitsPolicy::default()
    };
    let common = [(Resource::Core, 0), (Resource::Processes, 100), (Resource::OpenFiles, 1024)];
    assert_eq!(limits(policy(), true), common);
    assert_eq!(limits(policy(), false), [&common[..], &[(Resource::Data, 1 << 30)]].concat());
}
