//! The pass over the workspace.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use jail::policy::{FilesystemPolicy, ScanMode};
use jail::secrets::Reason;
use jail::secrets::matcher::{Matcher, Verdict};
use jail::tree::{HiddenKind, Query, TreeFacts, pass};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::names::filesystem;

/// A directory without symbolic links in its path.
pub fn workspace() -> (TempDir, PathBuf) {
    // A file system in memory, where there is one: some tests make many files.
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    let dir = dir.expect("temporary directory");
    let path = dir.path().canonicalize().expect("real path");
    (dir, path)
}

pub fn write(root: &Path, path: impl AsRef<Path>, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("parent")).expect("directories");
    fs::write(path, content).expect("file");
}

pub fn facts_with(root: &Path, policy: &FilesystemPolicy) -> TreeFacts {
    pass(&Query::new(root, policy, ScanMode::Names).expect("query")).expect("pass")
}

pub fn facts(root: &Path) -> TreeFacts {
    facts_with(root, &FilesystemPolicy::default())
}

fn hidden(facts: &TreeFacts) -> Vec<&Path> {
    facts.hidden.iter().map(|hidden| hidden.path.as_path()).collect()
}

#[test]
fn odd_names_at_any_depth_are_found() {
    let (_dir, root) = workspace();
    let mut expected = BTreeSet::new();
    for depth in [0, 3, 11] {
        let parent: PathBuf = std::iter::repeat_n("d", depth).collect();
        for name in [
            &b".env"[..],
            b"a b.pem",
            b"[x].pem",
            b"new\nline.pem",
            b"-rf.pem",
            b"\xff\xfe.pem",
            b".ENV",
            b".env ",
            b".env.",
        ] {
            let path = parent.join(OsStr::from_bytes(name));
            write(&root, &path, "secret");
            expected.insert(path);
        }
        write(&root, parent.join("visible.txt"), "");
        write(&root, parent.join(".gitignore"), "*");
    }
    let facts = facts(&root);
    let found: BTreeSet<PathBuf> = facts.hidden.iter().map(|hidden| hidden.path.clone()).collect();
    assert_eq!(found, expected);
    assert_eq!((facts.files, facts.directories), (33, 12));
}

#[test]
fn a_mask_gets_size_and_time_of_the_file() {
    let (_dir, root) = workspace();
    write(&root, ".env", "KEY=1234");
    fs::create_dir(root.join(".aws")).expect("directory");
    let stat = fs::metadata(root.join(".env")).expect("stat");
    let facts = facts(&root);
    assert_eq!(hidden(&facts), [Path::new(".aws"), Path::new(".env")]);
    assert_eq!(facts.hidden[0].kind, HiddenKind::Directory);
    let kind = HiddenKind::File { size: 8, mtime: (stat.mtime(), stat.mtime_nsec()), mode: stat.mode() };
    assert_eq!(facts.hidden[1].kind, kind);
    assert_eq!((facts.hidden[1].dev, facts.hidden[1].ino), (stat.dev(), stat.ino()));
}

#[test]
fn what_lies_in_a_hidden_directory_is_covered_by_it() {
    let (_dir, root) = workspace();
    write(&root, "a/.aws/deep/.env", "x");
    assert_eq!(hidden(&facts(&root)), [Path::new("a/.aws")]);
    let policy = filesystem(&[], &[".aws"]);
    assert!(facts_with(&root, &policy).hidden.is_empty(), "a revealed directory reveals what is in it");
    let policy = filesystem(&["deep/"], &[".aws"]);
    assert_eq!(hidden(&facts_with(&root, &policy)), [Path::new("a/.aws/deep")], "what the policy hides stays hidden");
}

#[test]
fn every_hard_link_of_a_hidden_file_is_hidden() {
    let (_dir, root) = workspace();
    write(&root, ".env", "SECRET");
    write(&root, "src/a.rs", "");
    write(&root, ".aws/credentials", "SECRET");
    fs::hard_link(root.join(".env"), root.join("src/notes.txt")).expect("link");
    fs::create_dir_all(root.join("node_modules/x")).expect("directory");
    fs::hard_link(root.join(".env"), root.join("node_modules/x/y")).expect("link");
    fs::hard_link(root.join(".aws/credentials"), root.join("src/todo.txt")).expect("link");
    let facts = facts(&root);
    let expected = [".aws", ".env", "node_modules/x/y", "src/notes.txt", "src/todo.txt"].map(Path::new);
    assert_eq!(hidden(&facts), expected);
    assert_eq!(facts.hidden[3].reason, Reason::HardLink(".env".into()));
    assert_eq!(facts.hidden[4].reason, Reason::HardLink(".aws/credentials".into()));
    assert!(facts.unresolved_links.is_empty());
    facts.check(false).expect("nothing to refuse");
}

#[test]
fn a_name_outside_the_workspace_refuses_the_start() {
    let (_dir, root) = workspace();
    let (_other, outside) = workspace();
    write(&root, ".env", "SECRET");
    fs::hard_link(root.join(".env"), outside.join("copy")).expect("link");
    let facts = facts(&root);
    assert_eq!((facts.unresolved_links[0].links, facts.unresolved_links[0].found), (2, 1));
    let error = facts.check(false).expect_err("a name outside");
    assert!(error.to_string().contains(".env") && error.hint_text().is_some(), "{error}");
    facts.check(true).expect("allowed");
}

#[test]
fn symbolic_links_with_a_hidden_name_hide_their_target() {
    let (_dir, root) = workspace();
    write(&root, "config/production", "SECRET");
    write(&root, "store/x", "SECRET");
    symlink("config/production", root.join(".env")).expect("link");
    symlink("../store", root.join("config/.aws")).expect("link");
    symlink("/etc/hostname", root.join("a.pem")).expect("link");
    symlink("missing", root.join("b.pem")).expect("link");
    symlink(".", root.join(".ssh")).expect("link");
    let facts = facts(&root);
    assert_eq!(hidden(&facts), ["config/production", "store"].map(Path::new));
    assert_eq!(facts.hidden[0].reason, Reason::LinkTarget(".env".into()));
}

#[test]
fn loops_and_unreadable_directories_do_not_stop_the_pass() {
    let (_dir, root) = workspace();
    write(&root, "a/.env", "x");
    symlink("..", root.join("a/up")).expect("link");
    symlink("self", root.join("self")).expect("link");
    write(&root, "closed/.env", "x");
    fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o000)).expect("mode");
    let facts = facts(&root);
    fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o700)).expect("mode");
    assert!(hidden(&facts).contains(&Path::new("a/.env")));
    // Root reads every directory; anyone else has it noted.
    let noted = facts.unreadable.iter().any(|path| path.0 == Path::new("closed"));
    assert_ne!(noted, hidden(&facts).contains(&Path::new("closed/.env")));
}

#[test]
fn public_content_stays_visible() {
    let (_dir, root) = workspace();
    write(&root, "ca.pem", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n");
    write(&root, "server.pem", "-----BEGIN CERTIFICATE-----\n-----BEGIN EC PRIVATE KEY-----\n");
    write(&root, ".npmrc", "save-exact=true\n");
    write(&root, "x/.npmrc", "//r.example.com/:_authToken=abc\n");
    write(&root, "venv/.env/pyvenv.cfg", "home = /usr\n");
    symlink("ca.pem", root.join("current.pem")).expect("link");
    assert_eq!(hidden(&facts(&root)), ["server.pem", "x/.npmrc"].map(Path::new));
}

#[test]
fn what_was_looked_at_is_not_left_in_memory() {
    use std::io::{Read, Seek, SeekFrom};
    // The canary is never in this process as it is: it is made, and compared, byte by byte.
    let canary = |index: usize| b'a' + u8::try_from((index * 7 + 3) % 23).expect("a letter");
    const LENGTH: usize = 64;
    let (_dir, root) = workspace();
    for (name, before) in [("a.pem", "-----BEGIN PRIVATE KEY-----\n"), (".npmrc", "_authToken=")] {
        let mut file = fs::File::create(root.join(name)).expect("file");
        std::io::Write::write_all(&mut file, before.as_bytes()).expect("write");
        for index in 0..LENGTH {
            std::io::Write::write_all(&mut file, &[canary(index)]).expect("write");
        }
    }
    let copies = || {
        let mut memory = fs::File::open("/proc/self/mem").expect("memory");
        let maps = fs::read_to_string("/proc/self/maps").expect("maps");
        let mut found = 0;
        let mut page = vec![0u8; 4096];
        for line in maps.lines().filter(|line| line.contains(" rw")) {
            let (from, to) = line.split_once(' ').and_then(|(range, _)| range.split_once('-')).expect("range");
            let (from, to) = (u64::from_str_radix(from, 16).expect("hex"), u64::from_str_radix(to, 16).expect("hex"));
            let mut matched = 0;
            for at in (from..to).step_by(page.len()) {
                if memory.seek(SeekFrom::Start(at)).and_then(|_| memory.read_exact(&mut page)).is_err() {
                    break;
                }
                for &byte in &page {
                    matched = if byte == canary(matched) { matched + 1 } else { usize::from(byte == canary(0)) };
                    if matched == LENGTH {
                        found += 1;
                        matched = 0;
                    }
                }
            }
            page.fill(0);
        }
        found
    };
    let held = fs::read(root.join("a.pem")).expect("read");
    assert!(copies() > 0, "the search finds what is there");
    let mut held = held;
    held.fill(0);
    assert_eq!(std::hint::black_box(held).iter().filter(|byte| **byte != 0).count(), 0);
    assert_eq!(copies(), 0, "nothing is left before the pass");
    assert_eq!(hidden(&facts(&root)), [".npmrc", "a.pem"].map(Path::new));
    assert_eq!(copies(), 0);
}

#[test]
fn sockets_are_hidden_unless_revealed() {
    let (_dir, root) = workspace();
    let _listener = std::os::unix::net::UnixListener::bind(root.join("app.sock")).expect("socket");
    assert_eq!(facts(&root).hidden[0].reason, Reason::Socket);
    assert!(facts_with(&root, &filesystem(&[], &["*.sock"])).hidden.is_empty());
}

#[test]
fn a_glob_that_matches_nothing_is_told() {
    let (_dir, root) = workspace();
    write(&root, "a/x.dump", "");
    let facts = facts_with(&root, &filesystem(&["*.dump", "typo/*"], &[]));
    assert_eq!(facts.unmatched.iter().map(|glob| glob.value.as_str()).collect::<Vec<_>>(), ["typo/*"]);
}

#[test]
fn a_hundred_thousand_hidden_files_are_refused_with_a_hint() {
    let (_dir, root) = workspace();
    for directory in 0..100 {
        let parent = root.join(format!("d{directory}"));
        fs::create_dir(&parent).expect("directory");
        for file in 0..1000 {
            fs::File::create(parent.join(format!("{file}.key"))).expect("file");
        }
    }
    let facts = facts(&root);
    assert_eq!(facts.hidden.len(), 100_000);
    let error = facts.check(false).expect_err("too many");
    assert!(error.to_string().contains("100"), "{error}");
    fs::File::create(root.join("d7/more.key")).expect("file");
    let error = self::facts(&root).check(false).expect_err("crowded");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("d7/")), "{error}");
}

#[test]
fn paths_longer_than_the_kernel_takes_are_walked() {
    let (_dir, root) = workspace();
    let name = "d".repeat(200);
    let here = fs::File::open(&root).expect("root");
    let mut at: std::os::fd::OwnedFd = here.into();
    let mut path = PathBuf::new();
    for _ in 0..30 {
        nix::sys::stat::mkdirat(&at, name.as_str(), nix::sys::stat::Mode::S_IRWXU).expect("directory");
        at = nix::fcntl::openat(&at, name.as_str(), nix::fcntl::OFlag::O_PATH, nix::sys::stat::Mode::empty())
            .expect("open");
        path.push(&name);
    }
    let flags = nix::fcntl::OFlag::O_CREAT | nix::fcntl::OFlag::O_WRONLY;
    drop(nix::fcntl::openat(&at, ".env", flags, nix::sys::stat::Mode::S_IRUSR).expect("file"));
    assert_eq!(hidden(&facts(&root)), [path.join(".env")]);
}

#[test]
fn a_directory_swapped_for_a_link_does_not_lead_the_pass_out() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let (_dir, root) = workspace();
    let (_other, outside) = workspace();
    write(&outside, "canary.pem", "SECRET");
    write(&outside, "inner/canary.pem", "SECRET");
    write(&root, "sub/.env", "x");
    write(&root, "sub/inner/.env", "x");
    symlink(&outside, root.join("link")).expect("link");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let racer = scope.spawn(|| {
            let mut swaps = 0u64;
            while !stop.load(Ordering::Relaxed) {
                let exchange = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
                let (a, b) = (root.join("sub"), root.join("link"));
                nix::fcntl::renameat2(nix::fcntl::AT_FDCWD, &a, nix::fcntl::AT_FDCWD, &b, exchange).expect("exchange");
                swaps += 1;
            }
            swaps
        });
        let led_out = (0..300).any(|_| hidden(&facts(&root)).iter().any(|path| path.ends_with("canary.pem")));
        stop.store(true, Ordering::Relaxed);
        assert!(racer.join().expect("racer") > 300);
        assert!(!led_out, "a file outside the workspace was found");
    });
}

#[test]
fn no_thread_is_left_after_a_large_tree() {
    // The other tests of this binary run threads of their own, so the pass is made alone in a child process.
    let output = std::process::Command::new(std::env::current_exe().expect("self"))
        .args(["--exact", "tree::single_threaded_alone", "--ignored", "--test-threads=1"])
        .output()
        .expect("child");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "needs a process of its own; no_thread_is_left_after_a_large_tree runs it"]
fn single_threaded_alone() {
    let (_dir, root) = workspace();
    for directory in 0..100 {
        write(&root, format!("{directory}/.env"), "");
    }
    let threads = || fs::read_dir("/proc/self/task").expect("/proc").count();
    let before = threads();
    for _ in 0..50 {
        assert_eq!(facts(&root).hidden.len(), 100);
        assert_eq!(threads(), before);
    }
}

#[test]
fn names_in_reports_cannot_talk_to_a_terminal() {
    let path = Path::new(OsStr::from_bytes(b"a\x1b[31m\n\xff\xe2\x80\xae\"\\ b"));
    assert_eq!(jail::tree::escape(path), "a\\u{1b}[31m\\n\\xff\\u{202e}\\\"\\\\ b");
}

/// What a plain walk with the same table finds.
fn naive(root: &Path, at: &Path, matcher: &Matcher, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(root.join(at)).expect("directory") {
        let entry = entry.expect("entry");
        let path = at.join(entry.file_name());
        let directory = entry.file_type().expect("type").is_dir();
        if let Verdict::Hidden(..) = matcher.path_verdict(&path, directory) {
            found.insert(path);
        } else if directory && entry.file_name() != ".git" {
            naive(root, &path, matcher, found);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_pass_finds_what_a_plain_walk_finds(
        paths in proptest::collection::btree_set(
            proptest::collection::vec(
                prop_oneof![
                    Just(".env".to_owned()), Just(".Env.bak".to_owned()), Just(".aws".to_owned()), Just("id_rsa".to_owned()),
                    Just("src".to_owned()), Just("node_modules".to_owned()), Just("x.tfstate".to_owned()), Just("data".to_owned()),
                    Just(".git".to_owned()), Just("a.dump".to_owned()), "[a-cA-C.~ ]{1,4}",
                ],
                1..6,
            ),
            1..60,
        ),
    ) {
        let (_dir, root) = workspace();
        for path in &paths {
            let path: PathBuf = path.iter().filter(|part| *part != "." && *part != "..").collect();
            if path.as_os_str().is_empty() || path.components().any(|part| part.as_os_str() == ".git") {
                continue;
            }
            if let Some(parent) = root.join(&path).parent() && fs::create_dir_all(parent).is_ok() && !root.join(&path).exists() {
                let _ = fs::write(root.join(&path), "");
            }
        }
        let policy = filesystem(&["*.dump", "src/data", "node_modules/a*/"], &["src/.env"]);
        let matcher = Matcher::compile(&policy, ScanMode::Names).expect("globs");
        let mut expected = BTreeSet::new();
        naive(&root, Path::new(""), &matcher, &mut expected);
        let found: BTreeSet<PathBuf> = facts_with(&root, &policy).hidden.into_iter().map(|hidden| hidden.path).collect();
        prop_assert_eq!(found, expected);
    }
}
