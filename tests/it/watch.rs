//! What the watcher tells of changes on the host.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jail::policy::{FilesystemPolicy, ScanMode};
use jail::secrets::Reason;
use jail::sys::dirent::FileType;
use jail::tree::{Query, pass};
use jail::watch::{Event, Watcher};
use nix::poll::{PollFd, PollFlags, poll};
use std::os::fd::AsFd;

use crate::tree::{workspace, write};

fn watcher(root: &Path) -> Watcher {
    let query = Query::new(root, &FilesystemPolicy::default(), ScanMode::Names).expect("query");
    Watcher::new(&query, &pass(&query).expect("pass")).expect("watcher")
}

fn everything(root: &Path) -> Watcher {
    let mut watcher = watcher(root);
    while watcher.step(16).expect("step") {}
    assert_eq!(watcher.take_events(), [], "nothing happened yet");
    watcher
}

/// Waits for the kernel and returns what is told.
fn told(watcher: &mut Watcher) -> Vec<Event> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let mut ready = [PollFd::new(watcher.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, 1000u16).expect("poll");
        while watcher.read().expect("read") {
            watcher.step(16).expect("step");
        }
        let events = watcher.take_events();
        if !events.is_empty() || Instant::now() > deadline {
            return events;
        }
    }
}

fn replaced(path: &str) -> Event {
    Event::Replaced { path: path.into() }
}

fn appeared(path: &str, kind: FileType, reason: &'static str) -> Event {
    Event::Appeared { path: path.into(), kind, reason: Reason::Table(reason) }
}

#[test]
fn a_secret_that_was_moved_before_the_watch_began_is_told_of() {
    let (_dir, root) = workspace();
    write(&root, "sub/.env", "OLD");
    write(&root, "other/.env", "OLD");
    let query = Query::new(&root, &FilesystemPolicy::default(), ScanMode::Names).expect("query");
    let facts = pass(&query).expect("pass");
    fs::rename(root.join("sub"), root.join("moved")).expect("rename");
    fs::rename(root.join("other/.env"), root.join("other/visible")).expect("rename");
    let mut watcher = Watcher::new(&query, &facts).expect("watcher");
    let vanished = |path: &str| Event::Vanished { path: path.into() };
    assert_eq!(watcher.take_events(), [vanished("sub/.env"), vanished("other/.env")]);
    while watcher.step(16).expect("step") {}
    assert_eq!(watcher.take_events(), [appeared("moved/.env", FileType::File, "dotenv")]);
}

#[test]
fn an_editors_save_over_a_masked_file_is_told_at_once() {
    let (_dir, root) = workspace();
    write(&root, "sub/.env", "OLD");
    // Before any step: the directories above masked files are watched first.
    let mut watcher = watcher(&root);
    let mut times = Vec::new();
    for _ in 0..100 {
        write(&root, "sub/new", "NEW");
        fs::rename(root.join("sub/new"), root.join("sub/.env")).expect("rename");
        let start = Instant::now();
        assert_eq!(told(&mut watcher), [replaced("sub/.env")]);
        times.push(start.elapsed());
    }
    times.sort();
    assert!(times[50] < Duration::from_millis(50), "median {:?}", times[50]);
    // The kernel may give the new file the number of the old one.
    fs::remove_file(root.join("sub/.env")).expect("remove");
    assert_eq!(told(&mut watcher), [Event::Vanished { path: "sub/.env".into() }]);
    write(&root, "sub/.env", "AGAIN");
    assert_eq!(told(&mut watcher), [appeared("sub/.env", FileType::File, "dotenv")]);
    write(&root, "sub/.env", "in place: the mask stays");
    write(&root, "sub/other", "");
    write(&root, ".env", "");
    assert_eq!(told(&mut watcher), [appeared(".env", FileType::File, "dotenv")]);
}

#[test]
fn a_change_between_the_pass_and_the_watch_is_told() {
    let (_dir, root) = workspace();
    write(&root, "a/.env", "OLD");
    write(&root, "b/.env", "OLD");
    let query = Query::new(&root, &FilesystemPolicy::default(), ScanMode::Names).expect("query");
    let facts = pass(&query).expect("pass");
    write(&root, "new", "NEW");
    fs::rename(root.join("new"), root.join("a/.env")).expect("rename");
    fs::remove_file(root.join("b/.env")).expect("remove");
    write(&root, "late/deep/x.key", "");
    let mut watcher = Watcher::new(&query, &facts).expect("watcher");
    let mut events = watcher.take_events();
    while watcher.step(1).expect("step") {}
    events.extend(watcher.take_events());
    events.sort_by_key(|event| format!("{event:?}"));
    let late = appeared("late/deep/x.key", FileType::File, "key");
    assert_eq!(events, [late, replaced("a/.env"), Event::Vanished { path: "b/.env".into() }]);
}

#[test]
fn secrets_that_appear_late_are_told_wherever_they_are() {
    let (_dir, root) = workspace();
    write(&root, "src/deep/a.rs", "");
    write(&root, ".git/HEAD", "");
    let mut watcher = everything(&root);
    write(&root, "src/deep/.env.local", "K=1");
    assert_eq!(told(&mut watcher), [appeared("src/deep/.env.local", FileType::File, "dotenv")]);
    write(&root, "new/one/two/id_rsa", "");
    assert_eq!(told(&mut watcher), [appeared("new/one/two/id_rsa", FileType::File, "id-rsa")]);
    write(&root, "new/one/two/.aws/credentials", "");
    assert_eq!(told(&mut watcher), [appeared("new/one/two/.aws", FileType::Directory, "aws-dir")]);
    write(&root, "src/prod", "SECRET");
    symlink("../src/prod", root.join("new/.env")).expect("link");
    let reason = Reason::LinkTarget("new/.env".into());
    assert_eq!(told(&mut watcher), [Event::Appeared { path: "src/prod".into(), kind: FileType::File, reason }]);
    fs::hard_link(root.join("src/prod"), root.join("notes.txt")).expect("link");
    let reason = Reason::HardLink("src/prod".into());
    assert_eq!(told(&mut watcher), [Event::Appeared { path: "notes.txt".into(), kind: FileType::File, reason }]);
    // A certificate that is still being written cannot be told from a key.
    write(&root, "x.pem", "-----BEGIN CERTIFICATE-----");
    assert_eq!(told(&mut watcher), [appeared("x.pem", FileType::File, "pem")]);
}

#[test]
fn directories_that_move_keep_their_watches() {
    let (_dir, root) = workspace();
    let (_other, outside) = workspace();
    write(&root, "a/b/.env", "");
    write(&root, "c/x", "");
    let mut watcher = everything(&root);
    fs::rename(root.join("a"), root.join("c/moved")).expect("rename");
    write(&root, "c/moved/b/new", "");
    fs::rename(root.join("c/moved/b/new"), root.join("c/moved/b/.env")).expect("rename");
    let events = told(&mut watcher);
    assert!(events.contains(&replaced("c/moved/b/.env")), "{events:?}");
    let known = watcher.directories();
    fs::rename(root.join("c/moved"), outside.join("gone")).expect("rename");
    assert_eq!(told(&mut watcher), [Event::Vanished { path: "c/moved/b/.env".into() }]);
    assert_eq!(watcher.directories(), known - 2);
    write(&outside, "gone/b/.env.local", "");
    write(&root, "c/.env", "");
    assert_eq!(told(&mut watcher), [appeared("c/.env", FileType::File, "dotenv")]);
}

#[test]
fn after_lost_events_everything_is_looked_at_again() {
    let (_dir, root) = workspace();
    write(&root, "a/.env", "");
    write(&root, "b/x", "");
    let mut watcher = everything(&root);
    let most: usize =
        fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("limit").trim().parse().expect("number");
    for _ in 0..=most {
        // Alternating names: the kernel merges equal events.
        fs::rename(root.join("b/x"), root.join("b/y")).expect("rename");
        fs::rename(root.join("b/y"), root.join("b/x")).expect("rename");
    }
    write(&root, "a/new", "");
    fs::rename(root.join("a/new"), root.join("a/.env")).expect("rename");
    write(&root, "lost/.env", "");
    let events = told(&mut watcher);
    assert!(events.contains(&replaced("a/.env")), "{events:?}");
    assert!(events.contains(&appeared("lost/.env", FileType::File, "dotenv")), "{events:?}");
}

#[test]
fn a_sweep_forgets_what_is_gone() {
    let (_dir, root) = workspace();
    write(&root, "a/b/c/x", "");
    let mut watcher = everything(&root);
    assert_eq!(watcher.directories(), 4);
    fs::remove_dir_all(root.join("a/b")).expect("remove");
    watcher.rescan();
    while watcher.step(1).expect("step") {}
    assert_eq!(watcher.directories(), 2);
    assert!(!watcher.limited());
}

#[test]
fn a_sweep_tells_of_a_file_with_the_old_number() {
    let (_dir, root) = workspace();
    write(&root, "a/.env", "OLD");
    let mut watcher = everything(&root);
    // A file that got the inode number of the removed one differs in its change time only, as this one does now.
    fs::set_permissions(root.join("a/.env"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("mode");
    watcher.rescan();
    while watcher.step(1).expect("step") {}
    assert_eq!(watcher.take_events(), [replaced("a/.env")]);
}

#[test]
fn large_trees_stay_small_in_memory() {
    let (_dir, root) = workspace();
    let mut directories: Vec<PathBuf> = Vec::new();
    for a in 0..50 {
        for b in 0..100 {
            directories.push(root.join(format!("package-{a}/module-{b}")));
        }
    }
    directories.iter().for_each(|directory| fs::create_dir_all(directory).expect("directory"));
    let mut watcher = watcher(&root);
    while watcher.step(64).expect("step") {}
    assert_eq!(watcher.directories(), 5051);
    write(&root, "package-49/module-99/.env", "");
    assert_eq!(told(&mut watcher), [appeared("package-49/module-99/.env", FileType::File, "dotenv")]);
}
