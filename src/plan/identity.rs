//! Who the workload is: its user and group inside the jail and on the host.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::escape::escape;

/// The host user of a jail that root starts. It owns nothing on any host: far above every range that distributions
/// hand out to users and to subordinate ids. Never 0: a process of host uid 0 may write sysctls and read
/// `/etc/shadow` without any capability, whatever its user namespace says.
pub const UNPRIVILEGED_HOST_ID: u32 = 1_784_768_876;

/// Who the workload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// User id inside.
    pub inside_uid: u32,
    /// Group id inside.
    pub inside_gid: u32,
    /// User id on the host.
    pub host_uid: u32,
    /// Group id on the host.
    pub host_gid: u32,
    /// Started by root: owners on disk appear as the workload's user through idmapped mounts.
    pub idmap: Option<Idmap>,
}

/// The owner on disk that an idmapped mount shows as the workload's user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Idmap {
    /// User id on disk.
    pub disk_uid: u32,
    /// Group id on disk.
    pub disk_gid: u32,
}

impl Identity {
    /// Decides for the calling user and the workspace's owner.
    ///
    /// An ordinary user keeps its ids, so that git's index stays valid. Root becomes an unprivileged host user: with
    /// an idmapped workspace where the file system can, else as the workspace's owner when that is not root.
    pub fn decide(uid: u32, gid: u32, workspace: &Path, idmap_works: bool) -> Result<Self> {
        if uid != 0 {
            return Ok(Self { inside_uid: uid, inside_gid: gid, host_uid: uid, host_gid: gid, idmap: None });
        }
        let owner = workspace
            .metadata()
            .map_err(|error| Error::setup(format!("cannot read the workspace {}: {error}", escape(workspace))))?;
        let (disk_uid, disk_gid) = (owner.uid(), owner.gid());
        let inside_uid = if disk_uid == 0 { 1000 } else { disk_uid };
        let inside_gid = if disk_gid == 0 { 1000 } else { disk_gid };
        if idmap_works {
            return Ok(Self {
                inside_uid,
                inside_gid,
                host_uid: UNPRIVILEGED_HOST_ID,
                host_gid: UNPRIVILEGED_HOST_ID,
                idmap: Some(Idmap { disk_uid, disk_gid }),
            });
        }
        if disk_uid == 0 || disk_gid == 0 {
            return Err(Error::setup(format!(
                "cannot start as root: the file system of {} has no idmapped mounts and the workspace belongs to root",
                escape(workspace)
            ))
            .hint("start jail as an ordinary user, or give the workspace to one: chown -R USER:GROUP WORKSPACE"));
        }
        Ok(Self { inside_uid, inside_gid, host_uid: disk_uid, host_gid: disk_gid, idmap: None })
    }
}
