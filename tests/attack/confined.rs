//! Confines this process the way the workload is confined, and executes a command.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use caps::{CapSet, Capability};
use jail::launch::confine::{Capabilities, Confinement, apply};
use jail::plan::landlock::{Access, LandlockPlan};
use jail::plan::limits::LimitsPlan;
use jail::plan::seccomp::{Arch, compile};
use jail::policy::LimitsPolicy;

use crate::harness::landlock_abi;

/// Options before `--`: `--no-landlock`, and `--read`, `--full`, `--device`, `--optional` with a path, `--keep` with a
/// descriptor.
pub fn run(arguments: &[String]) -> ExitCode {
    match confine(arguments) {
        Ok(never) => match never {},
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "confined: {error}");
            ExitCode::from(125)
        }
    }
}

fn confine(arguments: &[String]) -> Result<std::convert::Infallible, Box<dyn std::error::Error>> {
    let mut landlock = LandlockPlan::for_abi(landlock_abi());
    if let Some(plan) = &mut landlock {
        for path in ["/usr", "/bin", "/lib", "/lib64", "/etc"] {
            plan.allow_if_present(path, Access::ReadExecute, "programs");
        }
        plan.require("/proc", Access::Read, "status");
        plan.require(std::env::current_exe()?, Access::ReadExecute, "this program");
        plan.require("/dev/null", Access::Device, "programs").require("/dev/ptmx", Access::Device, "terminals");
        plan.require("/dev/pts", Access::Device, "terminals");
    }
    let mut keep_fds = Vec::new();
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        if option == "--" {
            break;
        }
        if option == "--no-landlock" {
            landlock = None;
            continue;
        }
        let value = rest.next().ok_or("an option without its value")?;
        let rule = |plan: Option<&mut LandlockPlan>, access, optional| {
            if let Some(plan) = plan {
                if optional {
                    plan.allow_if_present(value, access, "test")
                } else {
                    plan.require(value, access, "test")
                };
            }
        };
        match option.as_str() {
            "--read" => rule(landlock.as_mut(), Access::Read, false),
            "--full" => rule(landlock.as_mut(), Access::Full, false),
            "--write" => rule(landlock.as_mut(), Access::ReadWrite, false),
            "--device" => rule(landlock.as_mut(), Access::Device, false),
            "--optional" => rule(landlock.as_mut(), Access::Full, true),
            "--keep" => keep_fds.push(value.parse()?),
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    let held = caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)?;
    let confinement = Confinement {
        limits: LimitsPlan::new(&LimitsPolicy::default(), false),
        capabilities: if held { Capabilities::Held } else { Capabilities::Absent },
        keep_fds,
        landlock,
        seccomp: compile(Arch::NATIVE.ok_or("no table for this architecture")?)?,
    };
    let command = rest.next().ok_or("a command is needed")?;
    let mut command = Command::new(command);
    command.args(rest);
    let enforced = apply(&confinement)?;
    if enforced.landlock_abi != confinement.landlock.as_ref().map(|plan| plan.abi) {
        return Err("less was enforced than planned".into());
    }
    Err(command.exec().into())
}
