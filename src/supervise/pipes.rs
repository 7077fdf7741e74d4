//! The pipes between the host's standard descriptors and the workload's.

use std::os::fd::OwnedFd;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::terminal::stdio::{StdioKind, StdioPlan};
use crate::error::{Error, Result};
use crate::launch::message::Stdio;
use crate::launch::start::OPEN_FILES;

/// Both ends of the pipes for standard descriptors that are relayed.
#[derive(Debug)]
pub struct Pipes {
    /// What each standard descriptor of the workload is.
    pub kinds: [Stdio; 3],
    /// The workload's ends.
    pub inside: [Option<OwnedFd>; 3],
    /// The relay's ends.
    pub outside: [Option<OwnedFd>; 3],
}

impl Pipes {
    /// Pipes where the host's descriptor is neither a terminal nor /dev/null.
    pub fn open(plan: &StdioPlan) -> Result<Self> {
        let mut pipes = Self { kinds: [Stdio::Null; 3], inside: [None, None, None], outside: [None, None, None] };
        for (number, kind) in plan.each.iter().enumerate() {
            if number == 2 && plan.merged {
                let shared = pipes.inside[1].as_ref().map(OwnedFd::try_clone).transpose();
                pipes.inside[2] = shared
                    .map_err(|error| Error::setup(format!("cannot duplicate a pipe: {error}")).hint(OPEN_FILES))?;
                pipes.kinds[2] = Stdio::Pipe;
                continue;
            }
            pipes.kinds[number] = match kind {
                StdioKind::Terminal => Stdio::Terminal,
                StdioKind::Null => Stdio::Null,
                StdioKind::Relay => {
                    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| {
                        Error::setup(format!("cannot open a pipe: {}", errno.desc())).hint(OPEN_FILES)
                    })?;
                    let (inside, outside) = if number == 0 { (reader, writer) } else { (writer, reader) };
                    pipes.inside[number] = Some(inside);
                    pipes.outside[number] = Some(outside);
                    Stdio::Pipe
                }
            };
        }
        Ok(pipes)
    }
}
