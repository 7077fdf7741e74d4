//! Times the pass over a tree side by side with `rg --files --hidden --no-ignore`.
//!
//! `cargo bench --bench tree -- DIRECTORY [RUNS]`; the runs alternate, so that both see the same machine.

#![allow(clippy::print_stderr, reason = "a benchmark prints its result")]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jail::policy::{FilesystemPolicy, ScanMode};
use jail::tree::{Query, pass};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let Some(root) = arguments.next().map(PathBuf::from) else {
        return Err("name a directory: cargo bench --bench tree -- DIRECTORY [RUNS]".into());
    };
    let runs: usize = arguments.next().map_or(Ok(20), |runs| runs.parse())?;
    let root = root.canonicalize()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..=runs {
        let start = Instant::now();
        let query = Query::new(&root, &FilesystemPolicy::default(), ScanMode::Names)?;
        let compiled = start.elapsed();
        let facts = pass(&query)?;
        ours.push((start.elapsed(), compiled, facts));
        let start = Instant::now();
        let listed = Command::new("rg")
            .args(["--files", "--hidden", "--no-ignore"])
            .current_dir(&root)
            .stdout(Stdio::null())
            .status();
        if listed.is_ok() {
            theirs.push(start.elapsed());
        }
    }
    if let Some((_, compiled, facts)) = ours.last() {
        let counts = (facts.files, facts.directories, facts.hidden.len(), facts.host_run.len());
        eprintln!("files, directories, hidden, host-run: {counts:?}; names compiled in {compiled:?}");
    }
    let ours: Vec<Duration> = ours.into_iter().skip(1).map(|(time, ..)| time).collect();
    eprintln!("jail {:?}, rg {:?} (medians of {runs})", median(ours), median(theirs.into_iter().skip(1).collect()));
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Option<Duration> {
    times.sort();
    times.get(times.len() / 2).copied()
}
