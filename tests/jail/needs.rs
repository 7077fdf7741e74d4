//! What a test needs of the machine.

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
    /// A program on the PATH.
    Program(&'static str),
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
        (Ok(()), Need::Program(program)) if !on_path(program) => Some(format!("needs {program}")),
        // The other user's run of the same suite shows these; see .ci/run.
        (Ok(()), Need::Registry) if !on_path("cargo") || crate::session::published_crate().is_none() => {
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

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|entry| entry.join(program).exists()))
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
