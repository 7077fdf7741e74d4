//! Files: every verb that changes one, links to it, and reading.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::libc;

use super::raw::{Line, Outcome, c, call};

const CWD: usize = libc::AT_FDCWD as usize;

/// Every way to change FILE, the gentle ones first; its directory after them, the destructive ones last. The file `other`
/// beside it takes part in an exchange.
pub fn write_verbs(arguments: &[String]) {
    let [file] = arguments else { return Line::new("FS-016", "write-verbs").result("one FILE is needed") };
    let directory = Path::new(file).parent().map_or_else(|| ".".to_owned(), |parent| parent.display().to_string());
    let path = c(file);
    let path = path.as_ptr() as usize;
    let (user, group) = (nix::unistd::getuid().as_raw() as usize, nix::unistd::getgid().as_raw() as usize);
    let name = c("user.jail-attack");
    let name = name.as_ptr() as usize;
    let value = *b"1";
    let value = value.as_ptr() as usize;
    let try_ = |verb: &str, outcome: Outcome| Line::new("FS-016", verb).outcome(outcome);
    let open = |flags: i32| call(libc::SYS_openat, &[CWD, path, (flags | libc::O_CLOEXEC) as usize, 0o644]);

    try_("open O_WRONLY", open(libc::O_WRONLY));
    try_("open O_RDWR", open(libc::O_RDWR));
    try_("open O_APPEND", open(libc::O_WRONLY | libc::O_APPEND));
    try_("open O_TMPFILE", {
        let directory = c(&directory);
        call(libc::SYS_openat, &[CWD, directory.as_ptr() as usize, (libc::O_TMPFILE | libc::O_WRONLY) as usize, 0o600])
    });
    try_("openat2 O_WRONLY", {
        let how = [libc::O_WRONLY as u64, 0, 0];
        call(libc::SYS_openat2, &[CWD, path, &raw const how as usize, 24])
    });
    try_("fchmodat", call(libc::SYS_fchmodat, &[CWD, path, 0o644]));
    try_("fchmodat2", call(452, &[CWD, path, 0o644, 0]));
    try_("fchownat", call(libc::SYS_fchownat, &[CWD, path, user, group, 0]));
    try_("utimensat", call(libc::SYS_utimensat, &[CWD, path, 0, 0]));
    try_("setxattr", call(libc::SYS_setxattr, &[path, name, value, 1, 0]));
    let xattr = [value as u64, 1];
    try_("setxattrat", call(463, &[CWD, path, 0, name, &raw const xattr as usize, 16]));
    let attributes = [0_u64; 4];
    try_("file_setattr", call(469, &[CWD, path, &raw const attributes as usize, 24, 0]));
    #[cfg(target_arch = "x86_64")]
    try_("chmod", call(libc::SYS_chmod, &[path, 0o644]));
    if let Ok(reader) = File::open(file) {
        let fd = reader.as_raw_fd() as usize;
        try_("fchmod", call(libc::SYS_fchmod, &[fd, 0o644]));
        try_("fchown", call(libc::SYS_fchown, &[fd, user, group]));
        try_("fsetxattr", call(libc::SYS_fsetxattr, &[fd, name, value, 1, 0]));
        let flags = 0x40_i32; // FS_NODUMP_FL
        try_("ioctl FS_IOC_SETFLAGS", call(libc::SYS_ioctl, &[fd, 0x4008_6602, &raw const flags as usize]));
        try_("reopen /proc/self/fd", {
            let own = c(&format!("/proc/self/fd/{fd}"));
            call(libc::SYS_openat, &[CWD, own.as_ptr() as usize, libc::O_WRONLY as usize, 0])
        });
        try_("ftruncate", call(libc::SYS_ftruncate, &[fd, 0]));
        try_("mmap shared writable", call(libc::SYS_mmap, &[0, 1, 3, libc::MAP_SHARED as usize, fd, 0]));
    }
    in_directory(&directory, path);
    try_("truncate", call(libc::SYS_truncate, &[path, 1]));
    try_("open O_TRUNC", open(libc::O_WRONLY | libc::O_TRUNC));
    try_("open O_RDONLY|O_TRUNC", open(libc::O_RDONLY | libc::O_TRUNC));
    try_("fallocate", open(libc::O_WRONLY).and_then(|fd| call(libc::SYS_fallocate, &[fd as usize, 0, 0, 4096])));
    let other = c(&format!("{directory}/other"));
    try_("renameat2 EXCHANGE", call(libc::SYS_renameat2, &[CWD, path, CWD, other.as_ptr() as usize, 2]));
    let other = c(&format!("{directory}/jail-attack-renamed"));
    let other = other.as_ptr() as usize;
    for (verb, flags) in [("renameat2", 0), ("renameat2 WHITEOUT", 4)] {
        let renamed = call(libc::SYS_renameat2, &[CWD, path, CWD, other, flags]);
        Line::new("FS-011", verb).outcome(renamed);
        if renamed.is_ok() {
            let _ = call(libc::SYS_renameat2, &[CWD, other, CWD, path, 0]);
        }
    }
    try_("unlink", call(libc::SYS_unlinkat, &[CWD, path, 0]));
}

/// What can be made beside a file.
fn in_directory(directory: &str, file: usize) {
    let made = c(&format!("{directory}/jail-attack-made"));
    let made = made.as_ptr() as usize;
    let root = c("/");
    let remove = |flag: i32| {
        let _ = call(libc::SYS_unlinkat, &[CWD, made, flag as usize]);
    };
    let tries: [(&str, i64, [usize; 5], i32); 8] = [
        ("mkdir", libc::SYS_mkdirat, [CWD, made, 0o755, 0, 0], libc::AT_REMOVEDIR),
        ("create", libc::SYS_openat, [CWD, made, (libc::O_CREAT | libc::O_WRONLY) as usize, 0o600, 0], 0),
        ("mknodat file", libc::SYS_mknodat, [CWD, made, (libc::S_IFREG | 0o600) as usize, 0, 0], 0),
        ("mknodat fifo", libc::SYS_mknodat, [CWD, made, (libc::S_IFIFO | 0o600) as usize, 0, 0], 0),
        ("mknodat device", libc::SYS_mknodat, [CWD, made, (libc::S_IFCHR | 0o600) as usize, 0x103, 0], 0),
        ("mknodat whiteout", libc::SYS_mknodat, [CWD, made, libc::S_IFCHR as usize, 0, 0], 0),
        ("symlink", libc::SYS_symlinkat, [root.as_ptr() as usize, CWD, made, 0, 0], 0),
        ("link", libc::SYS_linkat, [CWD, file, CWD, made, 0], 0),
    ];
    #[cfg(target_arch = "x86_64")]
    for (verb, mode, device) in [("mknod device", libc::S_IFCHR | 0o600, 0x103), ("mknod whiteout", libc::S_IFCHR, 0)] {
        let outcome = call(libc::SYS_mknod, &[made, mode as usize, device]);
        Line::new("FS-016", verb).outcome(outcome);
        if outcome.is_ok() {
            remove(0);
        }
    }
    for (verb, number, args, flag) in tries {
        let outcome = call(number, &args);
        Line::new("FS-016", verb).outcome(outcome);
        if outcome.is_ok() {
            remove(flag);
        }
    }
}

/// Links SOURCE to DESTINATION in each way, and reads what DESTINATION then is.
pub fn links(arguments: &[String]) {
    let [source, destination] = arguments else {
        return Line::new("FS-009", "links").result("SOURCE and DESTINATION are needed");
    };
    let from = c(source);
    let to = c(destination);
    let to = to.as_ptr() as usize;
    let by_path = || call(libc::SYS_linkat, &[CWD, from.as_ptr() as usize, CWD, to, 0]);
    let open = || call(libc::SYS_openat, &[CWD, from.as_ptr() as usize, (libc::O_PATH | libc::O_CLOEXEC) as usize]);
    let by_descriptor = || {
        let empty = c("");
        call(libc::SYS_linkat, &[open()? as usize, empty.as_ptr() as usize, CWD, to, libc::AT_EMPTY_PATH as usize])
    };
    let by_proc = || {
        let own = c(&format!("/proc/self/fd/{}", open()?));
        call(libc::SYS_linkat, &[CWD, own.as_ptr() as usize, CWD, to, libc::AT_SYMLINK_FOLLOW as usize])
    };
    let tries: [(&str, &dyn Fn() -> Outcome); 3] =
        [("linkat", &by_path), ("linkat AT_EMPTY_PATH", &by_descriptor), ("linkat /proc/self/fd", &by_proc)];
    for (verb, attempt) in tries {
        let outcome = attempt();
        Line::new("FS-009", verb).outcome(outcome);
        if outcome.is_ok() {
            Line::new("FS-009", format!("read after {verb}")).bytes(std::fs::read(destination));
            let _ = call(libc::SYS_unlinkat, &[CWD, to, 0]);
        }
    }
}

/// Reads each path, also through another name of the same root.
pub fn read(paths: &[String]) {
    for path in paths {
        Line::new("FS-001", format!("read {path}")).bytes(std::fs::read(path));
        Line::new("FS-017", format!("stat {path}")).outcome(
            std::fs::symlink_metadata(path)
                .map(|metadata| metadata.len() as i64)
                .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0))),
        );
        Line::new("PK-006", format!("read /proc/self/root{path}"))
            .bytes(std::fs::read(format!("/proc/self/root{path}")));
        let listed = std::fs::read_dir(path).map(|entries| entries.count());
        if let Ok(count) = listed {
            Line::new("FS-017", format!("list {path}")).outcome(Ok(count as i64));
        }
        Line::new("FS-001", format!("write {path}")).io(OpenOptions::new().append(true).open(path));
    }
}

/// Leaves a set-user-id file in DIRECTORY in every way.
pub fn set_user_id(arguments: &[String]) {
    let [directory] = arguments else { return Line::new("PR-001", "set-user-id").result("one DIRECTORY is needed") };
    let file = |name: &str| c(&format!("{directory}/{name}"));
    let mode = 0o4755_usize;
    let create = (libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC) as usize;
    let plain = |name: &str| {
        let path = file(name);
        call(libc::SYS_openat, &[CWD, path.as_ptr() as usize, create, 0o755]).map(|fd| (path, fd as usize))
    };
    let by_path = |number: i64, name: &str, at: bool| -> Outcome {
        let (path, _) = plain(name)?;
        let path = path.as_ptr() as usize;
        if at { call(number, &[CWD, path, mode, 0]) } else { call(number, &[path, mode]) }
    };
    let try_ = |verb: &str, outcome: Outcome| Line::new("PR-001", verb).outcome(outcome);
    // SAFETY: takes an integer.
    unsafe { libc::umask(0) };
    try_("fchmod", plain("fchmod").and_then(|(_, fd)| call(libc::SYS_fchmod, &[fd, mode])));
    try_("fchmodat", by_path(libc::SYS_fchmodat, "fchmodat", true));
    try_("fchmodat2", by_path(452, "fchmodat2", true));
    try_("openat", call(libc::SYS_openat, &[CWD, file("openat").as_ptr() as usize, create, mode]));
    try_("openat2", {
        let how = [create as u64, mode as u64, 0];
        call(libc::SYS_openat2, &[CWD, file("openat2").as_ptr() as usize, &raw const how as usize, 24])
    });
    try_(
        "mknodat",
        call(libc::SYS_mknodat, &[CWD, file("mknodat").as_ptr() as usize, libc::S_IFREG as usize | mode, 0]),
    );
    try_("O_TMPFILE and linkat", {
        let flags = (libc::O_TMPFILE | libc::O_WRONLY) as usize;
        call(libc::SYS_openat, &[CWD, c(directory).as_ptr() as usize, flags, mode]).and_then(|fd| {
            let own = c(&format!("/proc/self/fd/{fd}"));
            let target = file("tmpfile");
            let at = [CWD, own.as_ptr() as usize, CWD, target.as_ptr() as usize, libc::AT_SYMLINK_FOLLOW as usize];
            call(libc::SYS_linkat, &at)
        })
    });
    #[cfg(target_arch = "x86_64")]
    {
        try_("chmod", by_path(libc::SYS_chmod, "chmod", false));
        try_("open", call(libc::SYS_open, &[file("open").as_ptr() as usize, create, mode]));
        try_("creat", call(libc::SYS_creat, &[file("creat").as_ptr() as usize, mode]));
        try_("mknod", call(libc::SYS_mknod, &[file("mknod").as_ptr() as usize, libc::S_IFREG as usize | mode, 0]));
    }
}

/// Opens every file below each directory for writing, without writing; links and other processes are left out.
pub fn writable(paths: &[String]) {
    for path in paths {
        let mut tried = 0;
        open_below(Path::new(path), &mut tried);
        Line::new("PK-001", format!("files tried in {path}")).with("value", tried).result("ok");
    }
}

fn open_below(path: &Path, tried: &mut u64) {
    let Ok(found) = std::fs::symlink_metadata(path) else { return };
    if found.is_dir() {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            let process = path == Path::new("/proc") && entry.file_name().to_string_lossy().parse::<u32>().is_ok();
            if !process {
                open_below(&entry.path(), tried);
            }
        }
    } else if !found.is_symlink() {
        *tried += 1;
        let path = path.display().to_string();
        let name = c(&path);
        let flags = (libc::O_WRONLY | libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY) as usize;
        if let Ok(fd) = call(libc::SYS_openat, &[CWD, name.as_ptr() as usize, flags]) {
            let _ = call(libc::SYS_close, &[fd as usize]);
            Line::new("PK-001", format!("opened {path}")).result("ok");
        }
    }
}

/// Executes each path and reports its exit status.
pub fn execute(paths: &[String]) {
    for path in paths {
        let line = Line::new("PR-009", format!("execute {path}"));
        match Command::new(path).stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).status() {
            Ok(status) => line.outcome(Ok(i64::from(status.code().unwrap_or(-1)))),
            Err(error) => line.io::<()>(Err(error)),
        }
    }
}
