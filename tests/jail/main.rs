//! Real jails around real repositories: what holds, tried from inside, with a positive control outside.
//!
//! `jail-tests try GROUP [ARGUMENT…]` runs the attack programs of `tests/attack`; the tests start this very program
//! inside and outside. What this machine lacks shows as *ignored* with the reason, and fails under
//! `JAIL_TEST_REQUIRE=all`.

#![allow(clippy::print_stderr, reason = "a test program has nobody else to tell")]

mod audit;
mod bad_input;
mod basics;
mod callers;
mod canary;
#[path = "../attack/cases/mod.rs"]
mod cases;
mod checks;
mod containers;
mod crash;
mod credentials;
mod descriptors;
mod egress;
mod evade;
mod faults;
mod faults_crowd;
mod git;
mod granted;
mod harden;
mod hidden;
mod interactive;
mod layers;
mod leaks;
mod lifecycle;
mod links;
mod messages;
mod needs;
mod network;
mod origin;
mod persist;
mod places;
mod privilege;
mod proc;
mod programs;
mod programs_nginx;
mod programs_registries;
mod proxied;
mod pty;
mod publish;
mod readme;
mod record;
mod running;
mod say;
mod scene;
mod session;
mod sockets;
mod syscalls;
mod tries;
mod watching;
mod without;
mod worktree;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "try") {
        return cases::run(&arguments[1..]);
    }
    if arguments.first().is_some_and(|first| first == "say") {
        return say::run(&arguments[1..]);
    }
    if arguments.first().is_some_and(|first| first == "harden") {
        return harden::run(&arguments[1..]);
    }
    if arguments.first().is_some_and(|first| first == "without") {
        return without::run(&arguments[1..]);
    }
    if arguments.first().is_some_and(|first| first == "proxied") {
        return proxied::run(&arguments[1..]);
    }
    if arguments.first().is_some_and(|first| first == "crowd") {
        return faults_crowd::run(&arguments[1..]);
    }
    if arguments.first().is_some_and(|first| first == "set-up") {
        return proxied::set_up();
    }
    if arguments.first().is_some_and(|first| first == "soak") {
        return match crash::soak(&arguments[1..]) {
            Ok(_) => ExitCode::SUCCESS,
            Err(failed) => {
                eprintln!("{}", failed.message().unwrap_or("failed"));
                ExitCode::FAILURE
            }
        };
    }
    let trials = [
        audit::trials(),
        bad_input::trials(),
        basics::trials(),
        callers::trials(),
        containers::trials(),
        crash::trials(),
        credentials::trials(),
        egress::trials(),
        evade::trials(),
        faults::trials(),
        git::trials(),
        descriptors::trials(),
        granted::trials(),
        harden::trials(),
        hidden::trials(),
        lifecycle::trials(),
        privilege::trials(),
        interactive::trials(),
        layers::trials(),
        leaks::trials(),
        links::trials(),
        messages::trials(),
        network::trials(),
        persist::trials(),
        places::trials(),
        proc::trials(),
        programs::trials(),
        programs_nginx::trials(),
        programs_registries::trials(),
        publish::trials(),
        readme::trials(),
        session::trials(),
        record::trials(),
        sockets::trials(),
        syscalls::trials(),
        watching::trials(),
        worktree::trials(),
    ]
    .into_iter()
    .flatten()
    .map(needs::apply)
    .collect();
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), trials).exit_code()
}
