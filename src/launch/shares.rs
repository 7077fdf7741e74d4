//! What init needs for placeholders, handed over while it builds the root: the supervisor takes the locks and writes the
//! journal meanwhile.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::lease::{Directory, Lease};
use super::message::{Channel, ToInit};
use super::spares::Spares;

/// Leases in one message: each has two descriptors, and a message carries 253.
const AT_ONCE: usize = 100;

/// Shares in the directories that get placeholders, and directories that become some.
#[derive(Debug, Default)]
pub struct Shares {
    /// By the directory.
    pub leases: Vec<Lease>,
    /// Where placeholders are kept between runs.
    pub spares: Option<Spares>,
}

/// The part of the spares that is no descriptor.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kept {
    /// Names of the directories, as bytes.
    pub names: Vec<Vec<u8>>,
    /// Distinguishes those that are given back.
    pub session: String,
}

impl Shares {
    /// Hands them to init.
    ///
    /// # Errors
    /// EPIPE when init is gone, which then has said why.
    pub fn send(&self, channel: &Channel) -> nix::Result<()> {
        for leases in self.leases.chunks(AT_ONCE) {
            let directories = leases.iter().map(|lease| lease.directory).collect();
            let descriptors: Vec<BorrowedFd<'_>> = leases.iter().flat_map(Lease::descriptors).collect();
            channel.send(&ToInit::Leases(directories), &descriptors)?;
        }
        let kept = self.spares.as_ref().map(Spares::kept);
        let pool = self.spares.as_ref().map(AsFd::as_fd);
        channel.send(&ToInit::Shared(kept), pool.as_slice())
    }

    /// Waits for them, in init.
    ///
    /// # Errors
    /// EPIPE when the supervisor is gone; ECANCELED when it wants no jail any more; EBADMSG for anything else.
    pub fn receive(channel: &Channel) -> nix::Result<Self> {
        let mut leases = Vec::new();
        loop {
            let (message, descriptors) = channel.receive::<ToInit>()?;
            match message {
                ToInit::Leases(directories) => leases.extend(paired(directories, descriptors)?),
                ToInit::Shared(kept) => {
                    let spares = kept.zip(descriptors.into_iter().next());
                    let spares = spares.map(|(kept, pool)| {
                        let names = kept.names.into_iter().filter_map(|name| CString::new(name).ok()).collect();
                        Spares::new(pool, names, kept.session)
                    });
                    return Ok(Self { leases, spares });
                }
                ToInit::End => return Err(Errno::ECANCELED),
                _ => return Err(Errno::EBADMSG),
            }
        }
    }
}

/// The directories with their descriptors, two for each.
fn paired(directories: Vec<Directory>, descriptors: Vec<OwnedFd>) -> nix::Result<Vec<Lease>> {
    let mut descriptors = descriptors.into_iter();
    let lease = |directory| {
        let (file, place) = (descriptors.next()?, descriptors.next()?);
        Some(Lease::new(directory, file.into(), place))
    };
    directories.into_iter().map(lease).collect::<Option<_>>().ok_or(Errno::EBADMSG)
}
