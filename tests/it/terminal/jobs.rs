//! Job control with real process groups: this test starts itself as a small shell, and that as a relay.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::Duration;

use jail::supervise::terminal::filter::Charset;
use jail::supervise::terminal::relay::{InnerEnds, Relay};
use jail::supervise::terminal::stdio::{OuterEnds, classify};
use nix::pty::OpenptyResult;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgrp, setsid, tcsetpgrp, ttyname};

use super::{alone, pty, read_until, write};

const ROLE: &str = "JAIL_TEST_JOBS_ROLE";
const NAME: &str = "terminal::jobs::a_stopped_run_gives_the_terminal_back_and_takes_it_again";

fn role(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--exact", NAME, "--nocapture", "--quiet"]).env(ROLE, role);
    command
}

#[test]
fn a_stopped_run_gives_the_terminal_back_and_takes_it_again() {
    match std::env::var(ROLE).as_deref() {
        Ok("relay") => return as_relay(),
        Ok(tty) => return as_shell(tty),
        Err(_) => {}
    }
    let _alone = alone();
    let OpenptyResult { master, slave } = pty();
    let name = ttyname(&slave).expect("a name");
    let shell =
        role(name.to_str().expect("text")).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("a shell");
    // The relay says so when it has the terminal; the shell then sees it stop, and continues it.
    read_until(&master, |got| got.ends_with(b"ready"));
    assert!(is_raw(&slave));
    write(&master, b"z");
    read_until(&master, |got| got.ends_with(b"again"));
    assert!(is_raw(&slave), "raw again after the stop");
    write(&master, b"x");
    let output = shell.wait_with_output().expect("the shell");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && output.status.signal().is_none(), "{said}");
    assert!(said.contains("background, cooked true, stopped, cooked true, continued, exited 0, cooked true"), "{said}");
}

fn is_raw(tty: impl AsFd) -> bool {
    !tcgetattr(tty).expect("modes").local_flags.contains(LocalFlags::ICANON)
}

/// A shell with one job, on the terminal named.
#[expect(clippy::zombie_processes, reason = "waited for by its id, because it also stops")]
fn as_shell(tty: &str) {
    setsid().expect("a session");
    // The first terminal a session leader opens becomes the controlling one.
    let tty = std::fs::File::options().read(true).write(true).open(tty).expect("the terminal");
    let end = || Stdio::from(tty.try_clone().expect("a duplicate"));
    let job = role("relay").stdin(end()).stdout(end()).stderr(end()).process_group(0).spawn().expect("a job");
    let pid = Pid::from_raw(i32::try_from(job.id()).expect("a pid"));
    // As a shell does, so that it may take the foreground back.
    SigSet::from(Signal::SIGTTOU).thread_block().expect("a mask");
    std::thread::sleep(Duration::from_millis(300));
    let mut said = format!("background, cooked {}, ", !is_raw(&tty));
    tcsetpgrp(&tty, pid).expect("the foreground");
    loop {
        match waitpid(pid, Some(WaitPidFlag::WUNTRACED)).expect("a child") {
            WaitStatus::Stopped(_, signal) => {
                assert_eq!(signal, Signal::SIGTSTP);
                tcsetpgrp(&tty, getpgrp()).expect("the foreground");
                said += &format!("stopped, cooked {}, ", !is_raw(&tty));
                std::thread::sleep(Duration::from_millis(100));
                tcsetpgrp(&tty, pid).expect("the foreground");
                kill(pid, Signal::SIGCONT).expect("a job");
                said += "continued, ";
            }
            WaitStatus::Exited(_, status) => {
                said += &format!("exited {status}, cooked {}", !is_raw(&tty));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    writeln!(std::io::stdout(), "{said}").expect("stdout");
}

/// A supervisor whose workload is a few lines: it stops when it reads `z` and ends when it reads `x`.
fn as_relay() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let OpenptyResult { master, slave } = pty();
        let inner = InnerEnds { pty: Some(master), ..InnerEnds::default() };
        let outer = OuterEnds::duplicate().expect("duplicates");
        let mut relay = Relay::between(&classify(), outer, inner, Charset::Utf8).expect("a relay");
        super::set_raw(&slave);
        // It is started in the background, and takes the terminal when it comes to the foreground.
        while !is_raw(std::io::stdin()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        write(&slave, b"ready");
        read_until(&slave, |got| got.ends_with(b"z"));
        relay.suspend().expect("a stop");
        write(&slave, b"again");
        read_until(&slave, |got| got.ends_with(b"x"));
        drop(slave);
        relay.drain().await;
    });
}
