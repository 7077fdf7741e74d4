//! Started by root: trees whose owners on disk appear as the workload's user (idmapped mounts, mount_setattr(2)).

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2, read};

use super::message::Step;
use super::rootfs::Prepared;
use super::start;
use crate::error::{Error, Result};
use crate::escape::escape;
use crate::plan::identity::Idmap;
use crate::plan::{Access, Mount, Plan};
use crate::sys::clone::{Cloned, USER_NAMESPACE, clone_into};
use crate::sys::mount;

/// Clones and idmaps every tree of the plan that belongs to the user: the workspace, agent state, tool chains.
///
/// Nothing to do for an ordinary user. Needs CAP_SYS_ADMIN in the initial user namespace.
pub fn prepare(plan: &Plan) -> Result<Prepared> {
    let mut prepared = Prepared::new();
    let Some(map) = plan.identity.idmap else { return Ok(prepared) };
    let namespace = user_namespace(map, plan.identity.host_uid, plan.identity.host_gid)?;
    for operation in &plan.mounts {
        let Mount::Bind { path, source, access, .. } = operation else { continue };
        let of_the_user = matches!(access, Access::Workspace | Access::ReadWrite)
            || source.starts_with(&plan.home)
            || source.starts_with(&plan.workspace);
        if !of_the_user {
            continue;
        }
        let tree = idmapped(source, &namespace).map_err(|errno| {
            Error::setup(format!("cannot idmap {}: {}", escape(source), errno.desc()))
                .hint("the file system has no idmapped mounts; start jail as an ordinary user")
        })?;
        prepared.insert(path.clone(), tree);
    }
    Ok(prepared)
}

/// Whether the file system of a directory can be idmapped by this process.
///
/// # Errors
/// It cannot be tried: there are no user namespaces, or the call is missing.
pub fn works(directory: &Path, disk_uid: u32, disk_gid: u32, host_id: u32) -> Result<bool> {
    let namespace = user_namespace(Idmap { disk_uid, disk_gid }, host_id, host_id)?;
    match idmapped(directory, &namespace) {
        Ok(_) => Ok(true),
        Err(errno @ (Errno::ENOSYS | Errno::EMFILE | Errno::ENFILE)) => {
            let failure = Step::Root.failed(format_args!("idmap {}", directory.display()), errno);
            Err(start::explain(&failure))
        }
        Err(_) => Ok(false),
    }
}

fn idmapped(source: &Path, namespace: &OwnedFd) -> nix::Result<OwnedFd> {
    let source = CString::new(source.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let tree = mount::clone_tree(AT_FDCWD, &source)?;
    mount::idmap(tree.as_fd(), namespace.as_fd())?;
    Ok(tree)
}

/// A user namespace whose only purpose is to hold the id map.
fn user_namespace(map: Idmap, host_uid: u32, host_gid: u32) -> Result<OwnedFd> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Error::setup(format!("cannot make a user namespace for the id map: {what}: {error}"))
    };
    let (reader, writer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|errno| failed("pipe2", &errno.desc()))?;
    match clone_into(USER_NAMESPACE, None).map_err(start::explain_clone)? {
        Cloned::Child => {
            // Lives until the parent has opened the namespace.
            drop(writer);
            let _ = read(&reader, &mut [0]);
            std::process::exit(0)
        }
        Cloned::Parent { pid, .. } => {
            drop(reader);
            let result = fs::write(format!("/proc/{pid}/uid_map"), format!("{} {host_uid} 1", map.disk_uid))
                .and_then(|()| fs::write(format!("/proc/{pid}/gid_map"), format!("{} {host_gid} 1", map.disk_gid)))
                .and_then(|()| fs::File::open(format!("/proc/{pid}/ns/user")))
                .map_err(|error| failed("id maps", &error));
            drop(writer);
            let _ = waitpid(Pid::from_raw(pid), None);
            result.map(OwnedFd::from)
        }
    }
}
