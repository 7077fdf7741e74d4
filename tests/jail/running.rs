//! A jail that keeps running while a test looks at it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::scene::Scene;

/// A supervisor whose workload has said `ready`. Dropped, it is killed and reaped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// The session's name.
    pub session: String,
}

impl Running {
    /// Runs a shell script that must print `ready` on a line of its own when it is where the test wants it.
    pub fn start(scene: &Scene, flags: &[&str], script: &str) -> Result<Self, Failed> {
        let mut command = scene.run_with(flags);
        command.args(["sh", "-c", script]);
        Self::spawn(scene, command)
    }

    /// The same with any command.
    pub fn spawn(scene: &Scene, mut command: Command) -> Result<Self, Failed> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let mut running = Self { child, stdout: BufReader::new(stdout), session: String::new() };
        while running.line()? != "ready" {}
        running.session = running.find(scene)?;
        Ok(running)
    }

    fn find(&self, scene: &Scene) -> Result<String, Failed> {
        let sessions: Vec<serde_json::Value> = serde_json::from_slice(&scene.jail(&["ps", "--json"]).output()?.stdout)?;
        let own = sessions.iter().find(|session| session["pid"] == self.child.id());
        own.and_then(|session| Some(session["session"].as_str()?.to_owned()))
            .ok_or_else(|| format!("not in ps: {sessions:?}").into())
    }

    /// The next line the workload prints.
    pub fn line(&mut self) -> Result<String, Failed> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            return Err(format!("ended: {:?}", self.child.wait()?).into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// The supervisor.
    pub fn supervisor(&self) -> i32 {
        self.child.id() as i32
    }

    /// Init, seen from the host.
    pub fn init(&self) -> Result<i32, Failed> {
        descendants(self.supervisor()).first().copied().ok_or_else(|| "no init".into())
    }

    /// Every process below the supervisor, seen from the host.
    pub fn processes(&self) -> Vec<i32> {
        descendants(self.supervisor())
    }

    /// Sends a signal to the supervisor.
    pub fn signal(&self, signal: Signal) -> Result<(), Failed> {
        Ok(kill(Pid::from_raw(self.supervisor()), signal)?)
    }

    /// Waits for the supervisor; an error when it takes longer.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus, Failed> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > patience {
                return Err("the supervisor does not end".into());
            }
            sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processes below one, parents first.
pub fn descendants(pid: i32) -> Vec<i32> {
    let mut all = Vec::new();
    let mut next = vec![pid];
    while let Some(parent) = next.pop() {
        let text = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        for child in text.split_whitespace().filter_map(|word| word.parse().ok()) {
            all.push(child);
            next.push(child);
        }
    }
    all
}

/// Whether a process is there and no zombie.
pub fn lives(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with(['Z', 'X'])))
}

/// Waits until a condition holds.
pub fn eventually(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) -> Result<(), Failed> {
    let start = Instant::now();
    while !holds() {
        if start.elapsed() > patience {
            return Err(format!("not within {patience:?}: {what}").into());
        }
        sleep(Duration::from_millis(5));
    }
    Ok(())
}
