//! Times the search for secrets in a tree's contents held in memory, and counts what each detector finds.
//!
//! `cargo bench --bench secrets -- DIRECTORY`; at most 200 MB are read.

#![allow(clippy::print_stderr, reason = "a benchmark prints its result")]

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jail::secrets::detect::{Detectors, Settings};

/// Bytes that are read.
const MOST: usize = 200_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let Some(root) = arguments.next() else {
        return Err("name a directory: cargo bench --bench secrets -- DIRECTORY".into());
    };
    let (mut files, mut total) = (Vec::new(), 0);
    read(Path::new(&root), &mut files, &mut total);
    let start = Instant::now();
    let detectors = Detectors::new(Settings::default())?;
    let made = start.elapsed();
    let first = Instant::now();
    detectors.scan(b"", b"");
    eprintln!("made in {made:?}, keywords compiled in {:?}", first.elapsed());
    for _ in 0..2 {
        let mut found: BTreeMap<String, usize> = BTreeMap::new();
        let start = Instant::now();
        for (path, content) in &files {
            for finding in detectors.scan(path.as_os_str().as_bytes(), content) {
                *found.entry(finding.rule.to_string()).or_default() += 1;
            }
        }
        let speed = total as f64 / 1e9 / start.elapsed().as_secs_f64();
        eprintln!("{} files, {} MB: {speed:.2} GB/s; {found:?}", files.len(), total / 1_000_000);
    }
    Ok(())
}

fn read(directory: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>, total: &mut usize) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
        if *total > MOST {
            return;
        }
        if kind.is_dir() {
            read(&path, files, total);
        } else if let (true, Ok(content)) = (kind.is_file(), std::fs::read(&path)) {
            *total += content.len();
            files.push((path, content));
        }
    }
}
