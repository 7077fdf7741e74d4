//! Builds the new root from the plan's operations and enters it. Runs in init, in its own mount namespace.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, fstatat, mkdirat};
use nix::unistd::{fchdir, pivot_root, symlinkat};

use super::message::{Failure, Step};
use crate::escape::escape;
use crate::plan::{Access, Mount, Plan};
use crate::sys::mount::{self, Attributes};

/// Memory for the blanks of all stand-ins. There may be as many as the kernel allows mounts, so that bounds their number.
const MASKS_SIZE: &CStr = c"64m";

/// Trees that root's supervisor cloned and idmapped before the launch, by their path inside.
pub type Prepared = HashMap<PathBuf, OwnedFd>;

/// The root under construction, and what init keeps of it for the run.
#[derive(Debug)]
pub struct Root {
    /// The root directory.
    pub root: OwnedFd,
    /// The tmpfs that mask files live on: reachable only through this descriptor.
    pub masks: OwnedFd,
    /// The workspace as the workload sees it.
    pub workspace: OwnedFd,
}

impl Root {
    /// The root directory.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// Converts a path below the root to the form that descriptor-relative calls take.
pub fn relative(path: &Path) -> Result<CString, Errno> {
    let path = path.strip_prefix("/").unwrap_or(path);
    let bytes = if path.as_os_str().is_empty() { b"." } else { path.as_os_str().as_bytes() };
    CString::new(bytes).map_err(|_| Errno::EINVAL)
}

/// Builds everything up to, not including, masks and guards.
pub fn build(plan: &Plan, mut prepared: Prepared) -> Result<Root, Failure> {
    let fail = |what: &str| {
        let what = what.to_owned();
        move |errno| Step::Root.failed(what, errno)
    };
    // The namespace's copies of the host's mounts must not follow later mounts on the host.
    nix::mount::mount(
        None::<&str>,
        "/",
        None::<&str>,
        nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .map_err(fail("mount --make-rprivate /"))?;

    let secure = Attributes::NO_SUID.with(Attributes::NO_DEV);
    let root = mount::new_filesystem(c"tmpfs", &[(c"mode", c"755"), (c"size", c"16m")], secure)
        .map_err(fail("tmpfs for the new root"))?;
    mount::attach(root.as_fd(), AT_FDCWD, c"/").map_err(fail("attach the new root"))?;
    let mut parents = Parents { root: root.as_fd(), made: HashSet::new() };

    // One tmpfs serves all private directories, so that one size bounds them all. It and the masks' tmpfs are
    // attached below /proc, where the proc file system then covers them: the workload has no path to either.
    parents.directory(Path::new("/proc")).map_err(fail("/proc"))?;
    let size = CString::new(plan.scratch_bytes.to_string()).map_err(|_| fail("scratch size")(Errno::EINVAL))?;
    let scratch = mount::new_filesystem(c"tmpfs", &[(c"mode", c"755"), (c"size", &size)], secure)
        .map_err(fail("tmpfs for private directories"))?;
    mount::attach(scratch.as_fd(), root.as_fd(), c"proc").map_err(fail("attach private directories"))?;

    for (number, operation) in plan.mounts.iter().enumerate() {
        let what = || escape(operation.path());
        apply(operation, number, &mut parents, scratch.as_fd(), &mut prepared)
            .map_err(|errno| Step::Root.failed(what(), errno))?;
    }

    // Masks and guards were chosen for these directories. Whoever may write above a workspace could have put a link in
    // its place since, and what it leads to would appear without any.
    for (path, searched) in &plan.searched {
        let flags = (OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits();
        let found = relative(path)
            .and_then(|path| mount::open_beneath(root.as_fd(), &path, flags, 0))
            .and_then(|found| nix::sys::stat::fstat(&found))
            .map_err(fail(&path.display().to_string()))?;
        if (found.st_dev, found.st_ino) != *searched {
            return Err(fail(&format!("{} was replaced while the jail was built", path.display()))(Errno::ESTALE));
        }
    }

    let devpts = mount::new_filesystem(
        c"devpts",
        &[(c"newinstance", c""), (c"ptmxmode", c"0666"), (c"mode", c"0620")],
        Attributes::NO_SUID.with(Attributes::NO_EXEC),
    )
    .map_err(fail("/dev/pts"))?;
    mount::attach(devpts.as_fd(), root.as_fd(), c"dev/pts").map_err(fail("attach /dev/pts"))?;

    let options = [(c"mode", c"755"), (c"size", MASKS_SIZE), (c"nr_inodes", c"0")];
    let masks =
        mount::new_filesystem(c"tmpfs", &options, secure.with(Attributes::NO_EXEC)).map_err(fail("tmpfs for masks"))?;
    // On top of the scratch tmpfs, whose own attachment nothing needs any more.
    mount::attach(masks.as_fd(), scratch.as_fd(), c"").map_err(fail("attach masks"))?;

    let workspace = relative(&plan.workspace)
        .and_then(|path| mount::open_beneath(root.as_fd(), &path, (OFlag::O_PATH | OFlag::O_DIRECTORY).bits(), 0))
        .map_err(fail(&escape(&plan.workspace)))?;
    Ok(Root { root, masks, workspace })
}

fn apply(
    operation: &Mount,
    number: usize,
    parents: &mut Parents<'_>,
    scratch: BorrowedFd<'_>,
    prepared: &mut Prepared,
) -> nix::Result<()> {
    let target = relative(operation.path())?;
    match operation {
        Mount::Directory { path } => parents.directory(path),
        Mount::Symlink { path, target } => {
            parents.of(path)?;
            let (parent, name) = parents.open(path)?;
            symlinkat(target.as_path(), parent, name.as_c_str())
        }
        Mount::File { path, content } => {
            parents.of(path)?;
            write_new_file(parents.root, &target, content.as_bytes(), 0o444).map(drop)
        }
        Mount::Private { path, mode } => {
            parents.directory(path)?;
            let name = CString::new(number.to_string()).map_err(|_| Errno::EINVAL)?;
            mkdirat(scratch, name.as_c_str(), Mode::from_bits_truncate(*mode))?;
            // The mode given to mkdir passes the umask; sticky and world-writable bits must not.
            nix::sys::stat::fchmodat(
                scratch,
                name.as_c_str(),
                Mode::from_bits_truncate(*mode),
                nix::sys::stat::FchmodatFlags::FollowSymlink,
            )?;
            let tree = mount::clone_tree(scratch, &name)?;
            attach_directory(tree.as_fd(), parents, path)
        }
        Mount::Copy { path, source } => {
            let content = match std::fs::read(source) {
                Ok(content) => content,
                // What this user may not read, or what has just gone, is not there inside either.
                Err(_) => return Ok(()),
            };
            parents.of(path)?;
            write_new_file(parents.root, &target, &content, 0o444).map(drop)
        }
        Mount::Bind { path, source, access, directory, .. } => {
            let tree = match prepared.remove(path) {
                Some(tree) => tree,
                None => {
                    let source = CString::new(source.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
                    mount::clone_tree(AT_FDCWD, &source)?
                }
            };
            mount::add_attributes(tree.as_fd(), attributes(*access), true)?;
            if *directory {
                parents.directory(path)?;
                return attach_directory(tree.as_fd(), parents, path);
            }
            parents.of(path)?;
            match write_new_file(parents.root, &target, b"", 0o444) {
                Ok(point) => mount::attach(tree.as_fd(), point.as_fd(), c""),
                Err(Errno::EEXIST) => attach_without_links(tree.as_fd(), parents.root, &target),
                Err(errno) => Err(errno),
            }
        }
    }
}

/// Attaches a tree at a directory below the root.
fn attach_directory(tree: BorrowedFd<'_>, parents: &mut Parents<'_>, path: &Path) -> nix::Result<()> {
    let target = relative(path)?;
    if parents.made.remove(path) {
        // Every component was made here, so none can be a link.
        return mount::attach(tree, parents.root, &target);
    }
    attach_without_links(tree, parents.root, &target)
}

/// A directory of the host that was bound earlier could hold a link that leads elsewhere.
fn attach_without_links(tree: BorrowedFd<'_>, root: BorrowedFd<'_>, target: &CStr) -> nix::Result<()> {
    let point = mount::open_beneath(root, target, (OFlag::O_PATH | OFlag::O_NOFOLLOW).bits(), 0)?;
    mount::attach(tree, point.as_fd(), c"")
}

fn attributes(access: Access) -> Attributes {
    let secure = Attributes::NO_SUID.with(Attributes::NO_DEV);
    match access {
        Access::ReadOnly => secure.with(Attributes::READ_ONLY),
        Access::ReadWrite | Access::Workspace => secure,
        // Writing to a device does not write to the file system it lies on.
        Access::Device => Attributes::NO_SUID.with(Attributes::NO_EXEC).with(Attributes::READ_ONLY),
    }
}

/// Creates missing directories below the root.
struct Parents<'a> {
    root: BorrowedFd<'a>,
    /// Directories on the root itself, made here, with nothing mounted on them.
    made: HashSet<PathBuf>,
}

impl Parents<'_> {
    /// Makes the directories above a path.
    fn of(&mut self, path: &Path) -> nix::Result<()> {
        match path.parent() {
            Some(parent) if parent != Path::new("/") => self.directory(parent),
            _ => Ok(()),
        }
    }

    /// Makes a directory and those above it.
    fn directory(&mut self, path: &Path) -> nix::Result<()> {
        if path == Path::new("/") || self.made.contains(path) {
            return Ok(());
        }
        self.of(path)?;
        let mode = Mode::from_bits_truncate(0o755);
        let on_root = path.parent().is_none_or(|parent| parent == Path::new("/") || self.made.contains(parent));
        let made = if on_root {
            mkdirat(self.root, relative(path)?.as_c_str(), mode)
        } else {
            let (parent, name) = self.open(path)?;
            mkdirat(parent, name.as_c_str(), mode)
        };
        match made {
            Ok(()) if on_root => {
                self.made.insert(path.to_owned());
                Ok(())
            }
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// The directory above a path, and its name in there. Without links: what was bound earlier can be written to by the
    /// command of an earlier run, and a link in it would have something made on the host, where it leads.
    fn open(&self, path: &Path) -> nix::Result<(OwnedFd, CString)> {
        let parent = relative(path.parent().unwrap_or(Path::new("/")))?;
        let name = CString::new(path.file_name().unwrap_or_default().as_bytes()).map_err(|_| Errno::EINVAL)?;
        let flags = (OFlag::O_PATH | OFlag::O_DIRECTORY).bits();
        Ok((mount::open_beneath(self.root, &parent, flags, 0)?, name))
    }
}

/// Creates a file that must not exist yet and fills it.
pub fn write_new_file(dir: BorrowedFd<'_>, name: &CStr, content: &[u8], mode: u32) -> nix::Result<OwnedFd> {
    let file = mount::open_beneath(dir, name, (OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL).bits(), mode)?;
    write_all(&file, content)?;
    Ok(file)
}

/// Writes everything.
pub fn write_all(file: &OwnedFd, content: &[u8]) -> nix::Result<()> {
    let mut rest = content;
    while !rest.is_empty() {
        match nix::unistd::write(file.as_fd(), rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Entries of /proc that are not about processes of the jail and that no program needs: covered by something empty.
const PROC_HIDDEN: &[(&str, &str)] = &[
    ("acpi", "hardware"),
    ("asound", "hardware"),
    ("bus", "hardware: raw access to devices"),
    ("cmdline", "the host's boot parameters: installers put passwords there"),
    ("diskstats", "host activity"),
    ("driver", "hardware"),
    ("dynamic_debug", "kernel log"),
    ("fs", "host file systems and their names"),
    ("interrupts", "side channel: keystroke timing"),
    ("iomem", "physical memory"),
    ("ioports", "hardware"),
    ("irq", "interrupt routing"),
    ("kallsyms", "kernel addresses"),
    ("kcore", "kernel memory"),
    ("key-users", "host keyrings"),
    ("keys", "host keyrings"),
    ("kmsg", "kernel log"),
    ("kpagecgroup", "physical memory"),
    ("kpagecount", "physical memory"),
    ("kpageflags", "physical memory"),
    ("latency_stats", "host activity"),
    ("modules", "kernel modules"),
    ("mtrr", "memory types"),
    ("pagetypeinfo", "physical memory"),
    ("partitions", "names of the host's disks"),
    ("pressure", "host activity; a writer makes the kernel work for it"),
    ("sched_debug", "names of host processes"),
    ("schedstat", "host activity"),
    ("scsi", "hardware"),
    ("slabinfo", "kernel allocator"),
    ("softirqs", "side channel, as interrupts"),
    ("sysrq-trigger", "reboots and crashes the host"),
    ("sysvipc", "covered for symmetry with the private IPC namespace"),
    ("timer_list", "host activity"),
    ("timer_stats", "host activity"),
    ("tty", "host terminals"),
    ("vmallocinfo", "kernel addresses"),
    ("vmstat", "host activity"),
    ("zoneinfo", "physical memory"),
];

/// Mounts a fresh /proc while the host's is still there: without a visible one the kernel refuses (EPERM).
pub fn mount_proc(root: &Root) -> Result<(), Failure> {
    let attributes = Attributes::NO_SUID.with(Attributes::NO_DEV).with(Attributes::NO_EXEC);
    let fail = |what: &'static str| move |errno| Step::Proc.failed(what, errno);
    let own = nix::unistd::geteuid().as_raw();
    let proc = mount::new_filesystem(c"proc", &[], attributes).map_err(fail("fsmount proc"))?;
    mount::attach(proc.as_fd(), root.masks.as_fd(), c"").map_err(fail("attach /proc"))?;

    let sys = mount::clone_tree(proc.as_fd(), c"sys").map_err(fail("/proc/sys"))?;
    mount::add_attributes(sys.as_fd(), attributes.with(Attributes::READ_ONLY), true).map_err(fail("/proc/sys"))?;
    mount::attach(sys.as_fd(), proc.as_fd(), c"sys").map_err(fail("/proc/sys"))?;

    // The covers lie on the masks' tmpfs, which /proc has just covered itself.
    let masks = root.masks.as_fd();
    write_new_file(masks, c"empty", b"", 0o444).map_err(fail("cover"))?;
    mkdirat(masks, c"none", Mode::from_bits_truncate(0o555)).map_err(fail("cover"))?;
    let (mut file, mut directory) = (None::<CString>, None::<CString>);
    for (name, _) in PROC_HIDDEN {
        let name = CString::new(*name).map_err(|_| fail("cover")(Errno::EINVAL))?;
        let stat = match fstatat(proc.as_fd(), name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::ENOENT) => continue,
            Err(errno) => return Err(Step::Proc.failed(format!("/proc/{}", name.to_string_lossy()), errno)),
        };
        // The workload is never the host's root, so what only that may open is closed already.
        if stat.st_mode & 0o077 == 0 && stat.st_uid != own {
            continue;
        }
        let (model, source) = match stat.st_mode & libc::S_IFMT {
            libc::S_IFDIR => (&mut directory, c"none"),
            _ => (&mut file, c"empty"),
        };
        // A clone of a cover in place is read-only from the start.
        let cover = match model {
            Some(model) => mount::clone_tree(proc.as_fd(), model),
            None => mount::clone_tree(masks, source).and_then(|cover| {
                mount::add_attributes(cover.as_fd(), attributes.with(Attributes::READ_ONLY), false)?;
                Ok(cover)
            }),
        };
        cover
            .and_then(|cover| mount::attach(cover.as_fd(), proc.as_fd(), &name))
            .map_err(|errno| Step::Proc.failed(format!("/proc/{}", name.to_string_lossy()), errno))?;
        model.get_or_insert(name);
    }
    Ok(())
}

/// Makes the root read-only and the only thing that exists.
pub fn enter(root: &Root) -> Result<(), Failure> {
    let fail = |what: &'static str| move |errno| Step::Pivot.failed(what, errno);
    mount::add_attributes(root.root.as_fd(), Attributes::READ_ONLY, false).map_err(fail("read-only root"))?;
    fchdir(root.root.as_fd()).map_err(fail("fchdir"))?;
    // With both arguments the same directory the old root ends up stacked on the new one (pivot_root(2)) ...
    pivot_root(".", ".").map_err(fail("pivot_root"))?;
    // ... from where it is detached with everything below it.
    umount2(".", MntFlags::MNT_DETACH).map_err(fail("umount the old root"))?;
    nix::unistd::chdir("/").map_err(fail("chdir /"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_made_where_a_link_leads() {
        let outside = tempfile::TempDir::new().expect("temporary directory");
        let inside = tempfile::TempDir::new().expect("temporary directory");
        std::fs::create_dir(inside.path().join("bound")).expect("directory");
        for (link, target) in [("absolute", outside.path().to_owned()), ("relative", PathBuf::from("../elsewhere"))] {
            std::os::unix::fs::symlink(target, inside.path().join("bound").join(link)).expect("link");
        }
        std::fs::create_dir(inside.path().join("elsewhere")).expect("directory");
        let root: OwnedFd = std::fs::File::open(inside.path()).expect("root").into();
        let mut parents = Parents { root: root.as_fd(), made: HashSet::new() };
        for link in ["/bound/absolute", "/bound/relative"] {
            let path = Path::new(link).join("new");
            // The positive control: a call that follows links makes it.
            mkdirat(root.as_fd(), relative(&path).expect("path").as_c_str(), Mode::S_IRWXU).expect("control");
            std::fs::remove_dir(inside.path().join(&link[1..]).join("new")).expect("control");

            assert_eq!(parents.directory(&path), Err(Errno::ELOOP));
            assert_eq!(parents.directory(&path.join("deeper")), Err(Errno::ELOOP));
            let link = Mount::Symlink { path: path.clone(), target: "target".into() };
            let made = apply(&link, 0, &mut parents, root.as_fd(), &mut Prepared::new());
            assert_eq!(made, Err(Errno::ELOOP));
            let file = Mount::File { path, content: "content".to_owned() };
            assert_eq!(apply(&file, 0, &mut parents, root.as_fd(), &mut Prepared::new()), Err(Errno::ELOOP));
        }
        for directory in [outside.path().to_owned(), inside.path().join("elsewhere")] {
            assert_eq!(std::fs::read_dir(directory).expect("directory").count(), 0);
        }
        assert_eq!(parents.directory(Path::new("/bound/a/b")), Ok(()));
        assert!(inside.path().join("bound/a/b").is_dir());
    }
}
