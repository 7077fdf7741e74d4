//! The new root file system, as an ordered list of plain operations.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Identity, etc, text};
use crate::error::{Error, Result};
use crate::escape::escape;
use crate::policy::{Policy, WorkspaceMode};

/// One operation on the new root. Paths are absolute, as the workload will see them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Mount {
    /// A directory on the read-only root.
    Directory {
        /// Where.
        #[serde(serialize_with = "text::path")]
        path: PathBuf,
    },
    /// A symbolic link on the read-only root.
    Symlink {
        /// Where.
        #[serde(serialize_with = "text::path")]
        path: PathBuf,
        /// What it points to.
        #[serde(serialize_with = "text::path")]
        target: PathBuf,
    },
    /// A file made for the jail, on the read-only root.
    File {
        /// Where.
        #[serde(serialize_with = "text::path")]
        path: PathBuf,
        /// What it holds.
        content: String,
    },
    /// A copy of a small file of the host, on the read-only root: cheaper than a mount.
    Copy {
        /// Where.
        #[serde(serialize_with = "text::path")]
        path: PathBuf,
        /// What, on the host.
        #[serde(serialize_with = "text::path")]
        source: PathBuf,
    },
    /// A private writable directory in memory, empty at the start.
    Private {
        /// Where.
        #[serde(serialize_with = "text::path")]
        path: PathBuf,
        /// Permission bits.
        mode: u32,
    },
    /// A file or directory of the host.
    Bind {
        /// Where.
        #[serde(serialize_with = "text::path")]
        path: PathBuf,
        /// What, on the host.
        #[serde(serialize_with = "text::path")]
        source: PathBuf,
        /// How it may be used.
        access: Access,
        /// Whether it is a directory.
        directory: bool,
        /// Who needs it, or the place in the policy that asks for it.
        why: String,
    },
}

impl Mount {
    /// Where the operation acts.
    pub fn path(&self) -> &Path {
        match self {
            Self::Directory { path }
            | Self::Symlink { path, .. }
            | Self::File { path, .. }
            | Self::Copy { path, .. }
            | Self::Private { path, .. }
            | Self::Bind { path, .. } => path,
        }
    }
}

/// How a bound tree may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Read and execute.
    ReadOnly,
    /// Read, write, execute.
    ReadWrite,
    /// The workspace, whose access is its mode's.
    Workspace,
    /// A device node: read and write, nothing else.
    Device,
}

/// Device nodes that appear inside, and who needs them. No other device of the host exists in the jail.
const DEVICES: &[(&str, &str)] = &[
    ("null", "every shell script"),
    ("zero", "dd, allocators"),
    ("full", "tests of full disks"),
    ("random", "cryptographic libraries"),
    ("urandom", "cryptographic libraries"),
    ("tty", "the controlling terminal: the jail's own, or none"),
];

/// System directories shown read-only. On most hosts the short ones are links into /usr, and stay links.
const SYSTEM: &[(&str, &str)] = &[
    ("/usr", "programs and libraries"),
    ("/bin", "programs"),
    ("/sbin", "programs"),
    ("/lib", "libraries"),
    ("/lib32", "libraries"),
    ("/lib64", "libraries and the dynamic loader"),
    ("/libx32", "libraries"),
    ("/opt", "programs outside the distribution"),
    ("/nix/store", "programs on NixOS and with nix"),
    ("/gnu/store", "programs on Guix"),
    ("/run/current-system/sw", "programs on NixOS"),
    ("/sys/devices/system/cpu", "runtimes count processors and read cache sizes"),
];

/// Files of `/etc` up to this size are copied, larger ones are mounted.
const COPY_LIMIT: u64 = 256 * 1024;

/// A path as a key that sorts as its components do, and compares as bytes.
fn order(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().iter().map(|&byte| if byte == b'/' { 0 } else { byte }).collect()
}

/// Collects operations by path; a later one for the same path replaces an earlier one.
struct Builder {
    /// By the bytes of the path with `/` before everything else, so that parents come before children.
    operations: BTreeMap<Vec<u8>, Mount>,
}

impl Builder {
    fn add(&mut self, mount: Mount) {
        self.operations.insert(order(mount.path()), mount);
    }

    /// Shows a path of the host, if it exists. A symbolic link on the host stays one when `keep_links`.
    fn show(&mut self, path: &Path, access: Access, why: &str, keep_links: bool) -> Result<bool> {
        let Ok(found) = fs::symlink_metadata(path) else { return Ok(false) };
        let mut source = path.to_owned();
        let mut kind = found;
        if kind.is_symlink() {
            if keep_links && let Ok(target) = fs::read_link(path) {
                self.add(Mount::Symlink { path: path.to_owned(), target });
                return Ok(true);
            }
            let Ok(real) = fs::canonicalize(path) else { return Ok(false) };
            kind = fs::metadata(&real)
                .map_err(|error| Error::setup(format!("cannot look at {}: {error}", escape(&real))))?;
            source = real;
        }
        let directory = kind.is_dir();
        if kind.file_type().is_socket() {
            return Err(Error::setup(format!("refusing to show the socket {}", escape(&source)))
                .hint(format!("a socket is a way out of the jail; remove it from the policy ({why})")));
        }
        self.add(Mount::Bind { path: path.to_owned(), source, access, directory, why: why.to_owned() });
        Ok(true)
    }
}

/// What the caller knows beside the policy.
#[derive(Debug)]
pub struct Place<'a> {
    /// The workspace: absolute, without symbolic links.
    pub workspace: &'a Path,
    /// The user's home directory on the host.
    pub home: &'a Path,
    /// Host name inside.
    pub hostname: &'a str,
    /// What `/etc/resolv.conf` holds.
    pub resolver: String,
    /// What `JAIL_BRIEF` names: a short text for the agent.
    pub brief: &'a str,
    /// Files for git in the private home, relative to it.
    pub git_files: Vec<(&'static str, String)>,
    /// Files of the private home that are filled later, with what stands for a credential.
    pub held_files: Vec<PathBuf>,
    /// The repository outside the workspace that this linked worktree or submodule belongs to.
    pub external_git: Option<&'a Path>,
}

/// Where the text for the agent appears inside.
pub const BRIEF_PATH: &str = "/run/jail/brief.md";

/// Lists the operations that make the new root, parents before children.
pub fn build(policy: &Policy, identity: &Identity, place: &Place<'_>) -> Result<Vec<Mount>> {
    let mut builder = Builder { operations: BTreeMap::new() };
    for (path, why) in SYSTEM {
        builder.show(Path::new(path), Access::ReadOnly, why, true)?;
    }
    for (name, why) in etc::SHOWN {
        let path = Path::new("/etc").join(name);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() && found.len() <= COPY_LIMIT => {
                builder.add(Mount::Copy { source: path.clone(), path });
            }
            Ok(_) => drop(builder.show(&path, Access::ReadOnly, why, true)?),
            Err(_) => {}
        }
    }
    for (path, content) in made_files(identity, place) {
        builder.add(Mount::File { path: path.into(), content });
    }
    for (name, why) in DEVICES {
        builder.show(&Path::new("/dev").join(name), Access::Device, why, false)?;
    }
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
        ("/dev/ptmx", "pts/ptmx"),
        ("/etc/mtab", "/proc/self/mounts"),
        ("/var/run", "/run"),
    ] {
        builder.add(Mount::Symlink { path: link.into(), target: target.into() });
    }
    for path in ["/proc", "/dev/pts", "/var/lib", "/var/cache", "/var/log", "/srv", "/mnt", "/media"] {
        builder.add(Mount::Directory { path: path.into() });
    }
    for (path, mode) in [("/tmp", 0o1777), ("/var/tmp", 0o1777), ("/run", 0o755), ("/dev/shm", 0o1777)] {
        builder.add(Mount::Private { path: path.into(), mode });
    }
    builder.add(Mount::Private { path: place.home.to_owned(), mode: 0o700 });
    for (name, content) in &place.git_files {
        builder.add(Mount::File { path: place.home.join(name), content: content.clone() });
    }
    for path in &place.held_files {
        builder.add(Mount::File { path: path.clone(), content: String::new() });
    }

    let filesystem = &policy.filesystem;
    for (paths, access) in [(&filesystem.read, Access::ReadOnly), (&filesystem.write, Access::ReadWrite)] {
        for path in paths {
            let shown = builder.show(&path.value, access, &path.source.to_string(), false)?;
            if !shown && matches!(path.source.origin, crate::policy::Origin::Flag(_)) {
                return Err(Error::setup(format!("{} does not exist ({})", escape(&path.value), path.source))
                    .hint("create it first, or leave the flag out"));
            }
        }
    }
    let access = match policy.workspace.mode.value {
        WorkspaceMode::Direct => Access::Workspace,
        WorkspaceMode::ReadOnly => Access::ReadOnly,
    };
    builder.add(Mount::Bind {
        path: place.workspace.to_owned(),
        source: place.workspace.to_owned(),
        access,
        directory: true,
        why: "the workspace".to_owned(),
    });
    if let Some(common) = place.external_git {
        builder.add(Mount::Bind {
            path: common.to_owned(),
            source: common.to_owned(),
            access,
            directory: true,
            why: "the repository of this worktree".to_owned(),
        });
    }
    Ok(drop_redundant(builder.operations.into_values().collect()))
}

/// Whether a path is the directory or lies below it; both in normal form, so that bytes can be compared.
fn lies_in(path: &Path, directory: &Path) -> bool {
    let rest = path.as_os_str().as_bytes().strip_prefix(directory.as_os_str().as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Leaves out what a recursive bind of a parent with the same access already shows at the same place.
fn drop_redundant(mounts: Vec<Mount>) -> Vec<Mount> {
    let mut kept: Vec<Mount> = Vec::with_capacity(mounts.len());
    for mount in mounts {
        let redundant = match &mount {
            // Sorted: whatever is above a path comes before it, and the nearest last. Only that one counts: it covers
            // what lies further up.
            Mount::Bind { path, source, access, .. } => {
                match kept.iter().rev().find(|other| lies_in(path, other.path())) {
                    Some(Mount::Bind {
                        path: above, source: above_source, access: above_access, directory, ..
                    }) => {
                        *directory
                            && above_access == access
                            && path.strip_prefix(above).is_ok_and(|rest| above_source.join(rest) == *source)
                    }
                    _ => false,
                }
            }
            _ => false,
        };
        if !redundant {
            kept.push(mount);
        }
    }
    kept
}

/// Files made for the jail instead of the host's: they would tell who and where the host is.
fn made_files(identity: &Identity, place: &Place<'_>) -> Vec<(&'static str, String)> {
    let Identity { inside_uid: uid, inside_gid: gid, .. } = *identity;
    let home = place.home.to_string_lossy().replace([':', '\n'], "_");
    let root = if uid == 0 { String::new() } else { "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n".to_owned() };
    let root_group = if gid == 0 { "" } else { "root:x:0:\n" };
    vec![
        (
            "/etc/passwd",
            format!(
                "{root}agent:x:{uid}:{gid}:agent:{home}:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
            ),
        ),
        ("/etc/group", format!("{root_group}agent:x:{gid}:\nnogroup:x:65534:\n")),
        ("/etc/hostname", format!("{}\n", place.hostname)),
        ("/etc/hosts", format!("127.0.0.1 localhost {0}\n::1 localhost {0}\n", place.hostname)),
        ("/etc/machine-id", "00000000000000000000000000000000\n".to_owned()),
        ("/etc/resolv.conf", place.resolver.clone()),
        (BRIEF_PATH, place.brief.to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bind_is_left_out_only_where_the_nearest_one_above_shows_the_same() {
        let bind = |path: &str, access| Mount::Bind {
            path: path.into(),
            source: path.into(),
            access,
            directory: true,
            why: String::new(),
        };
        let all = vec![
            bind("/opt", Access::ReadOnly),
            bind("/opt/seen", Access::ReadOnly),
            bind("/opt/state", Access::ReadWrite),
            bind("/opt/state/settings", Access::ReadOnly),
        ];
        let kept = drop_redundant(all);
        let kept: Vec<&Path> = kept.iter().map(Mount::path).collect();
        assert_eq!(kept, ["/opt", "/opt/state", "/opt/state/settings"].map(Path::new));
    }
}
