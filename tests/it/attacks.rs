//! `docs/attacks.md` names a test or a reason for every case: `JAIL_UPDATE_DOCS=1 cargo test --test it attacks`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

const INTRODUCTION: &str = "\
# Attacks and their tests

<!-- Written by tests/it/attacks.rs; do not edit. -->

Ways in which sandboxes were escaped, what stops each here, and the tests that try it. A test's name carries the numbers of
its cases. Tests run the attack inside a real jail and, as control, outside; they lie in `tests/jail`, `tests/attack` and `tests/it`.

| case | what is tried | what stops it | tests |
|---|---|---|---|
";

/// Number, what is tried, what stops it; for a case without a test, why there is none.
const CASES: &[(&str, &str, &str, Option<&str>)] = &[
    (
        "PK-001",
        "writing sysctls, also when root starts the jail",
        "unprivileged host user; /proc/sys read-only; Landlock",
        None,
    ),
    ("PK-003", "writing knobs in /sys", "/sys is not there but for the processor list, read-only", None),
    (
        "PK-004",
        "cgroup release agents, moving to another cgroup",
        "no cgroup file system; no mount calls; cgroup namespace",
        None,
    ),
    (
        "PK-005",
        "environment, command line, descriptors of init",
        "init is wiped and not dumpable; pid namespace; covers in /proc",
        None,
    ),
    ("PK-006", "the host's root through /proc links", "pid and mount namespaces; detached old root", None),
    ("PK-007", "overwriting the program of the supervisor", "mount view; init executes nothing", None),
    ("PK-009", "writing to other processes' memory", "pid namespace; init not dumpable; Landlock; seccomp", None),
    ("PK-012", "links in place of terminals and the console", "devpts of its own; mounts by descriptor", None),
    (
        "PK-013",
        "a fake /proc that the supervisor writes to",
        "no mount calls for the workload",
        Some("the supervisor writes to the host's /proc only, before the workload exists"),
    ),
    ("PK-015", "loading of kernel modules by odd socket families", "seccomp: four families", None),
    ("PK-016", "keys of the user's session", "seccomp: keyctl, add_key, request_key", None),
    (
        "PK-017",
        "the host's layout in mountinfo",
        "mount namespace; it names the places on disk of what is shown, nothing else",
        None,
    ),
    (
        "PK-018",
        "name, machine-id and users of the host",
        "made files; UTS and network namespaces; boot_id stays visible",
        None,
    ),
    (
        "PK-019",
        "Yama settings",
        "none is relied on",
        Some("no test changes the machine's setting; the defences are those of PK-005 and SC-008"),
    ),
    ("PK-020", "tracing and perf", "no tracefs; seccomp", None),
    ("PK-021", "devices", "seven harmless nodes", None),
    ("SC-001", "32-bit entries", "seccomp: foreign architectures are killed", None),
    ("SC-002", "x32 numbers", "seccomp: ENOSYS", None),
    ("SC-003", "io_uring", "seccomp: ENOSYS", None),
    ("SC-004", "namespaces by clone3", "seccomp: ENOSYS for clone3", None),
    ("SC-005", "nested user namespaces", "seccomp", None),
    ("SC-007", "entering namespaces, taking descriptors", "seccomp; pid namespace; init not dumpable", None),
    ("SC-008", "tracing across processes", "Landlock domain; pid namespace; init not dumpable", None),
    ("SC-009", "opening by file handle", "seccomp; no capability", None),
    ("SC-010", "administration of the kernel", "seccomp; no capability", None),
    ("SC-014", "calls newer than the table", "seccomp: ENOSYS", None),
    ("SC-015", "programs without a file", "confinement is inherited", None),
    (
        "SC-016",
        "memory that changes while a supervisor reads it",
        "no call is decided from memory",
        Some("no notification is used"),
    ),
    ("SC-017", "own filters and listeners", "seccomp: EBUSY for listeners", None),
    ("SC-018", "signals and limits of others", "pid namespace; Landlock scope; seccomp", None),
    ("SC-020", "what Landlock does not cover", "mount view, seccomp; the whole ABI of the kernel is required", None),
    ("IP-001", "host sockets by path", "mount view; sockets in shown directories are covered", None),
    ("IP-002", "the service manager", "mount view; environment", None),
    ("IP-003", "container engines", "mount view; network namespace", None),
    ("IP-004", "datagrams to sockets by path", "mount view", None),
    ("IP-005", "sockets swapped after a check", "nothing is checked by path during the run", None),
    ("IP-006", "abstract sockets", "network namespace; Landlock scope", None),
    ("IP-007", "vsock", "seccomp", None),
    ("IP-008", "other socket families", "seccomp", None),
    ("IP-011", "helpers outside that act for the jail", "mount view; environment; terminal filter", None),
    ("IP-013", "the display", "mount view; network namespace; environment", None),
    ("IP-015", "another jail of the same user", "all namespaces; private directories", None),
    ("NT-004", "services on the host's loopback and network", "addresses of names are checked; an exact rule", None),
    ("NT-005", "metadata services of clouds", "a class of their own; only a pin of the user's opens one", None),
    ("NT-006", "odd spellings of addresses", "one strict parser", None),
    ("NT-007", "addresses within addresses", "both are judged", None),
    ("NT-008", "special ranges", "the whole registries of the IANA", None),
    ("NT-010", "other ports of an allowed host", "ports of the rule; one strict reader", None),
    ("DN-001", "data in names that are not allowed", "rules are asked before any resolver", None),
    ("DN-002", "data in names below an allowed pattern", "public suffixes are refused, hosting domains reported", None),
    ("DN-003", "names that lead inwards", "every address is checked", None),
    ("DN-005", "resolvers over HTTPS", "no profile reaches one", None),
    ("PX-001", "an empty or missing list", "nothing is allowed; unknown keys are errors", None),
    ("PX-004", "names that parsers read differently", "refused", None),
    ("PX-005", "spellings of one name", "one normal form in rules and requests", None),
    ("PX-011", "other protocols in a tunnel", "only TLS and HTTP, unless the rule says any bytes", None),
    ("FD-001", "descriptors of the caller", "close_range in init and before execve", None),
    ("FD-002", "reopening standard streams", "pipes relayed by the supervisor", None),
    ("FD-003", "typing into the terminal", "own terminal, own session; seccomp", None),
    ("FD-004", "the console's clipboard", "seccomp", None),
    ("FD-005", "other terminal requests", "own terminal; seccomp", None),
    ("FD-007", "the host's controlling terminal", "setsid; own terminal", None),
    ("FD-008", "escape sequences", "terminal filter", None),
    ("FD-009", "a look-alike of a question to the user", "terminal filter", Some("nothing is asked during a run")),
    ("FD-011", "directories opened before the start", "close_range", None),
    (
        "PR-001",
        "capabilities, set-user-id programs",
        "dropped sets, locked secure bits, no_new_privs, nosuid; seccomp refuses the bit",
        None,
    ),
    ("PR-003", "being started by root", "unprivileged host user, idmapped workspace", None),
    (
        "PR-004",
        "supplementary groups",
        "dropped by root; an ordinary user keeps them, and what they open is not visible",
        None,
    ),
    ("PR-006", "variables that run code", "allowlist of the environment", None),
    ("PR-007", "helpers found by PATH", "none is used", None),
    ("PR-008", "rules per program", "there are none", Some("a later version decides about hosts")),
    ("PR-009", "file capabilities", "no_new_privs, nosuid, secure bits", None),
    ("PR-010", "core dumps", "limit 0; supervisor and init not dumpable", None),
    ("PR-011", "a jail in a jail", "seccomp; a clear error", None),
    ("FS-001", "reading a hidden file", "stand-in mounted over it", None),
    ("FS-002", "globs that hide nothing", "one matcher at any depth; errors for bad globs", None),
    ("FS-003", "protected names that do not exist yet", "placeholders", None),
    ("FS-004", "secrets that appear later", "watcher", None),
    ("FS-005", "secrets saved again by rename", "watcher", None),
    ("FS-006", "renaming the directory above a mask", "the mount follows", None),
    ("FS-008", "hard links made before", "masks by inode; refusal", None),
    ("FS-009", "hard links made inside", "mounts, Landlock", None),
    ("FS-011", "moving a hidden file", "mount point", None),
    ("FS-012", "links to the outside", "mount view", None),
    ("FS-013", "links where the supervisor writes", "descriptors, no links followed", None),
    ("FS-015", "races at the start", "mounts by descriptor", None),
    ("FS-016", "every verb on read-only places", "read-only mounts; Landlock", None),
    (
        "FS-017",
        "the home directory",
        "private home",
        Some("`fs_016` in tests/attack and PS-018 look at it; the home holds nothing of the host's"),
    ),
    (
        "FS-018",
        "shared temporary directories",
        "private directories",
        Some("`ip_001_ip_004_host_sockets_by_path` and `ip_015_two_jails_share_nothing` use them"),
    ),
    ("FS-019", "workspaces that are too broad", "refused", None),
    ("FS-020", "linked worktrees and submodules", "git guard", None),
    ("FS-021", "names in other case", "folded names", None),
    ("FS-025", "overlays", "none is used", Some("the workspace has no overlay mode yet")),
    ("FS-026", "metadata of hidden files", "size and time are shown by design, bytes are not", None),
    (
        "FS-027",
        "secrets in git's objects",
        "nothing yet",
        Some("hiding history is a later version's; docs/secrets.md says so"),
    ),
    ("FS-028", "copies of secrets", "names of copies", None),
    ("FS-029", "tools that break on masks", "stand-ins of same size and time", None),
    ("FS-031", "watching files", "watches see only what is visible", None),
    (
        "FS-032",
        "shared caches",
        "tool chains are read-only",
        Some("the mounts of the profiles are read-only: tests/it/profiles.rs"),
    ),
    ("PS-001", "git hooks", "read-only guards", None),
    ("PS-002", "git configuration", "read-only guards", None),
    ("PS-003", "renaming .git", "pinned mount", None),
    ("PS-004", "commondir", "placeholder", None),
    ("PS-006", "nested repositories, submodules", "guards; report", None),
    ("PS-007", "bare repositories", "report", None),
    ("PS-008", "configured hook directories", "guards", None),
    ("PS-009", "git options that write", "guards", None),
    ("PS-010", "attributes and includes", "guards", None),
    ("PS-011", "agents' configuration", "guards", None),
    ("PS-012", "the jail's own policy", "guard; a project only tightens", None),
    ("PS-013", "editors' configuration", "guards; report", None),
    ("PS-014", "shells' and directories' hooks", "guards; report", None),
    ("PS-015", "build files", "report", None),
    ("PS-017", "outward links, odd names", "report; escapes", None),
    ("PS-018", "user directories", "private home", None),
    ("NT-001", "connecting past the proxy", "network namespace with loopback alone; nftables or routes", None),
    ("NT-002", "UDP, QUIC, multicast, raw and rare protocols", "every address is local and answers; seccomp", None),
    ("NT-004", "servers on the host's loopback", "network namespace", None),
    ("NT-013", "the same over IPv6", "the same rules for both families", None),
    ("NT-015", "being faster than the rules", "init sets them up before anything else", None),
    ("DN-005", "other resolvers", "questions to any address go to the proxy's resolver", None),
    ("PS-019", "state of earlier sessions", "private home", None),
    ("SV-003", "killing supervisor or init", "parent's end ends init, init's end ends all", None),
    ("SV-011", "daemons", "pid namespace", None),
    ("SV-015", "a switch inside", "there is none", None),
    ("SV-016", "exit status, signals, streams", "relay", None),
    ("SV-020", "replacing programs of the user", "mount view", None),
    ("RX-001", "fork bombs", "cgroup, RLIMIT_NPROC", None),
    ("RX-002", "memory", "cgroup or RLIMIT_DATA; one bounded tmpfs", None),
    ("RX-003", "time", "clock of the supervisor", None),
    ("RX-004", "descriptors", "RLIMIT_NOFILE", None),
    ("AU-002", "odd bytes in names and arguments", "escapes", None),
];

/// Words in quotation marks and names of functions in the tests that begin like a case.
fn names() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut names = BTreeSet::new();
    for directory in ["jail", "attack", "it"] {
        for entry in fs::read_dir(root.join(directory)).unwrap().flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|ending| ending != "rs") || path.ends_with("it/attacks.rs") {
                continue;
            }
            let text = fs::read_to_string(path).unwrap();
            let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
            names.extend(words.filter(|word| carries_a_case(word)).map(str::to_owned));
        }
    }
    names
}

/// `fs_001_…`: two letters, three digits, more.
fn carries_a_case(word: &str) -> bool {
    let parts: Vec<&str> = word.splitn(3, '_').collect();
    matches!(parts[..], [group, number, _] if group.len() == 2 && number.len() == 3 && number.parse::<u16>().is_ok())
}

fn tests_of<'a>(case: &str, names: &'a BTreeSet<String>) -> Vec<&'a str> {
    let part = case.to_lowercase().replace('-', "_");
    let carries = |name: &&String| name.starts_with(&format!("{part}_")) || name.contains(&format!("_{part}_"));
    names.iter().filter(carries).map(String::as_str).collect()
}

fn reference(names: &BTreeSet<String>) -> String {
    let mut text = INTRODUCTION.to_owned();
    for (case, tried, stopped, reason) in CASES {
        let tests: Vec<String> = tests_of(case, names).iter().map(|name| format!("`{name}`")).collect();
        let tests = if tests.is_empty() { reason.unwrap_or_default().to_owned() } else { tests.join(" ") };
        let _ = writeln!(text, "| {case} | {tried} | {stopped} | {tests} |");
    }
    text
}

#[test]
fn every_case_has_a_test_or_a_reason() {
    let names = names();
    let without: Vec<_> = CASES.iter().filter(|case| case.3.is_none() && tests_of(case.0, &names).is_empty()).collect();
    assert!(without.is_empty(), "neither test nor reason: {without:?}");
}

#[test]
fn the_table_names_tests_that_exist() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/attacks.md");
    let names = names();
    if std::env::var_os("JAIL_UPDATE_DOCS").is_some() {
        fs::write(&path, reference(&names)).unwrap();
    }
    let text = fs::read_to_string(&path).unwrap();
    for (case, ..) in CASES {
        assert!(text.contains(&format!("| {case} |")), "docs/attacks.md lacks {case}; run with JAIL_UPDATE_DOCS=1");
    }
    for word in text.split('`').skip(1).step_by(2).filter(|word| carries_a_case(word)) {
        assert!(names.contains(word), "docs/attacks.md names {word}, which is no test; run with JAIL_UPDATE_DOCS=1");
    }
}
