//! What a test needs of the machine.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use libtest_mimic::{Failed, Trial};

/// A test and what it needs.
pub struct Needing {
    name: &'static str,
    need: Need,
    body: fn() -> Result<(), Failed>,
}

/// What a test needs beside a jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// A program on the PATH, or among those for administrators.
    Program(&'static str),
    /// Several of them.
    Programs(&'static [&'static str]),
    /// A module of python3 as it is inside a jail.
    Python(&'static str),
    /// The compiler. Never missing: whoever builds this program has it, and another user that only runs it has nothing
    /// to show.
    Compiler,
    /// cargo and a published crate that it has downloaded. Never missing: whoever builds this program has both, and
    /// another user that only runs it has nothing to show.
    Registry,
    /// To be root on the host.
    Root,
    /// To be an ordinary user on the host. Never missing: as root such a test has nothing to show.
    Ordinary,
}

/// A test that needs a jail.
pub fn test(name: &'static str, body: fn() -> Result<(), Failed>) -> Needing {
    Needing { name, need: Need::Nothing, body }
}

/// A test that needs a jail and something else.
pub fn test_with(name: &'static str, need: Need, body: fn() -> Result<(), Failed>) -> Needing {
    Needing { name, need, body }
}

/// Makes a trial: ignored with its reason where something is missing, failed if everything is required.
pub fn apply(test: Needing) -> Trial {
    let root = nix::unistd::geteuid().is_root();
    let missing = match (jail_works(), test.need) {
        (Err(reason), _) => Some(reason.clone()),
        (Ok(()), Need::Program(program)) => lacking(&[program]),
        (Ok(()), Need::Programs(programs)) => lacking(programs),
        (Ok(()), Need::Python(module)) if !has_module(module) => Some(format!("needs {module} for python3")),
        (Ok(()), Need::Compiler) if program("rustc").is_none() || !compiles() => {
            return Trial::test(format!("{} (as a user of the compiler only)", test.name), || Ok(()))
                .with_ignored_flag(true);
        }
        // The other user's run of the same suite shows these; see .ci/run.
        (Ok(()), Need::Registry) if program("cargo").is_none() || crate::session::published_crate().is_none() => {
            return Trial::test(format!("{} (as a user of cargo only)", test.name), || Ok(())).with_ignored_flag(true);
        }
        (Ok(()), Need::Root) if !root => {
            return Trial::test(format!("{} (as root only)", test.name), || Ok(())).with_ignored_flag(true);
        }
        (Ok(()), Need::Ordinary) if root => {
            return Trial::test(format!("{} (as an ordinary user only)", test.name), || Ok(())).with_ignored_flag(true);
        }
        _ => None,
    };
    let Some(reason) = missing else { return Trial::test(test.name, test.body) };
    if std::env::var_os("JAIL_TEST_REQUIRE").is_some_and(|value| value == "all") {
        return Trial::test(test.name, move || Err(format!("required, but {reason}").into()));
    }
    Trial::test(format!("{} ({reason})", test.name), || Ok(())).with_ignored_flag(true)
}

/// Where a program is.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let administrators = ["/usr/local/sbin", "/usr/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(administrators).map(|entry| entry.join(name)).find(|path| path.exists())
}

fn lacking(programs: &[&str]) -> Option<String> {
    let missing: Vec<&str> = programs.iter().copied().filter(|name| program(name).is_none()).collect();
    if missing.is_empty() { None } else { Some(format!("needs {}", missing.join(", "))) }
}

/// Whether the compiler is more than a front that knows no tool chain.
fn compiles() -> bool {
    Command::new("rustc").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Asked of the system's python3: what a version manager installs in a home is not there inside.
fn has_module(module: &str) -> bool {
    let mut command = Command::new("python3");
    command.args(["-c", &format!("import {module}")]).env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command.output().is_ok_and(|output| output.status.success())
}

/// Whether this machine can hold a jail, asked of the program itself.
fn jail_works() -> &'static Result<(), String> {
    static WORKS: OnceLock<Result<(), String>> = OnceLock::new();
    WORKS.get_or_init(|| {
        let doctor =
            Command::new(env!("CARGO_BIN_EXE_jail")).arg("doctor").output().map_err(|error| error.to_string())?;
        if doctor.status.success() {
            return Ok(());
        }
        Err(format!("this machine cannot hold a jail:\n{}", String::from_utf8_lossy(&doctor.stdout)))
    })
}
