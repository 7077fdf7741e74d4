//! What the supervisor still can once it has given up what it does not need: `jail-tests harden DIRECTORY [give-up]` tries.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use jail::plan::seccomp::native_arch;
use jail::supervise::harden;
use libtest_mimic::Failed;

use crate::needs::{Needing, test};
use crate::scene::{Scene, succeeded};
use crate::tries::same;

/// The tests of this file.
pub fn trials() -> Vec<Needing> {
    vec![test("sv_018_a_taken_over_supervisor_starts_and_writes_nothing", starts_and_writes_nothing)]
}

/// Tries, and prints one line for each try.
#[allow(clippy::print_stdout, reason = "what the test reads")]
pub fn run(arguments: &[String]) -> ExitCode {
    let Some(directory) = arguments.first().map(Path::new) else { return ExitCode::FAILURE };
    let gives_up = arguments.get(1).is_some_and(|word| word == "give-up");
    if gives_up {
        let applied = native_arch().and_then(|arch| harden::apply(3, arch, &[directory.join("own")]));
        if let Err(error) = applied {
            println!("cannot: {error}");
            return ExitCode::FAILURE;
        }
    }
    let told = |what: &str, result: std::io::Result<()>| {
        println!("{what}: {}", result.map_or_else(|error| format!("{:?}", error.kind()), |()| "ok".to_owned()));
    };
    // In a thread, because the proxy is one.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            told("write", fs::write(directory.join("there"), "changed"));
            told("make", fs::write(directory.join("new"), "made"));
            told("make a directory", fs::create_dir(directory.join("directory")));
            told("rename", fs::rename(directory.join("there"), directory.join("renamed")));
            told("execute", Command::new("/bin/true").status().map(drop));
            told("read", fs::read(directory.join("there")).map(drop));
            told("write its own", fs::write(directory.join("own/file"), "record"));
            told("clean up", fs::remove_file(directory.join("gone")));
            told("connect", std::net::TcpListener::bind("127.0.0.1:0").map(drop));
        });
    });
    ExitCode::SUCCESS
}

fn starts_and_writes_nothing() -> Result<(), Failed> {
    let scene = Scene::bare()?;
    let directory = scene.outside("held");
    let tries = |how: &[&str]| -> Result<String, Failed> {
        fs::create_dir_all(directory.join("own"))?;
        fs::write(directory.join("there"), "as it was")?;
        fs::write(directory.join("gone"), "")?;
        let output = scene.host(std::env::current_exe()?).arg("harden").arg(&directory).args(how).output()?;
        succeeded("harden", &output)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let told = tries(&["give-up"])?;
    let refused = ["write", "make", "make a directory", "rename", "execute"];
    let kept = ["read", "write its own", "clean up", "connect"];
    let lines = refused.iter().map(|what| format!("{what}: PermissionDenied\n"));
    let expected: String = lines.chain(kept.iter().map(|what| format!("{what}: ok\n"))).collect();
    same("given up", &told, &expected)?;
    same("file", &fs::read_to_string(directory.join("there"))?, "as it was")?;
    // The control. What was renamed cannot be read by its old name.
    let told = tries(&[])?;
    let expected = expected.replace("PermissionDenied", "ok").replace("read: ok", "read: NotFound");
    same("control", &told, &expected)
}
