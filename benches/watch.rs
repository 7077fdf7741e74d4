//! Measures the watcher on a tree: memory for each directory, the time to watch all, and from a rename to its event.
//!
//! `cargo bench --bench watch -- DIRECTORY`; a scratch directory is made in it and removed.

#![allow(clippy::print_stderr, reason = "a benchmark prints its result")]

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jail::policy::{FilesystemPolicy, ScanMode};
use jail::tree::{Query, pass};
use jail::watch::Watcher;
use nix::poll::{PollFd, PollFlags, poll};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let Some(root) = arguments.next().map(PathBuf::from) else {
        return Err("name a directory: cargo bench --bench watch -- DIRECTORY".into());
    };
    let root = root.canonicalize()?;
    let scratch = tempfile::TempDir::new_in(&root)?;
    let masked = scratch.path().join(".env");
    std::fs::write(&masked, "x")?;
    let query = Query::new(&root, &FilesystemPolicy::default(), ScanMode::Names)?;
    let facts = pass(&query)?;
    let before = resident()?;
    let start = Instant::now();
    let mut watcher = Watcher::new(&query, &facts)?;
    let first = start.elapsed();
    while watcher.step(64)? {}
    let all = start.elapsed();
    let directories = watcher.directories();
    let memory = resident()?.saturating_sub(before);
    eprintln!("{directories} directories, above masks in {first:?}, all in {all:?}, {memory} KiB more resident");
    let mut times = Vec::new();
    for _ in 0..1000 {
        let new = scratch.path().join("new");
        std::fs::write(&new, "y")?;
        while watcher.read()? {
            watcher.step(64)?;
        }
        watcher.take_events();
        let writer = std::thread::spawn({
            let masked = masked.clone();
            move || {
                std::thread::sleep(Duration::from_micros(200));
                let start = Instant::now();
                std::fs::rename(new, masked).map(|()| start)
            }
        });
        let told = loop {
            poll(&mut [PollFd::new(watcher.as_fd(), PollFlags::POLLIN)], 1000u16)?;
            watcher.read()?;
            if !watcher.take_events().is_empty() {
                break Instant::now();
            }
        };
        let start = writer.join().map_err(|_| "the writer panicked")??;
        times.push(told - start);
    }
    times.sort();
    eprintln!("from before the rename to its event: median {:?}, 99th of 100 {:?}", times[500], times[990]);
    Ok(())
}

fn resident() -> Result<usize, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
