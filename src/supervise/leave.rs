//! Ending this process the way the workload ended.

use std::process::ExitCode;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, raise};

use crate::launch::message::Ending;

impl Ending {
    /// The exit status; a workload that a signal killed makes this process die of the same signal.
    pub fn leave(self) -> ExitCode {
        match self {
            Self::Exited(status) => ExitCode::from(u8::try_from(status & 0xff).unwrap_or(u8::MAX)),
            Self::Signaled(number) => {
                if let Ok(signal) = Signal::try_from(number) {
                    // No core dump of the supervisor in the workload's name.
                    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
                    let _ = crate::sys::process::default_signal(signal);
                    let _ = raise(signal);
                }
                ExitCode::from(u8::try_from(self.status()).unwrap_or(u8::MAX))
            }
        }
    }

    /// The status as a shell shows it: 128 plus the signal.
    pub fn status(self) -> i32 {
        match self {
            Self::Exited(status) => status,
            Self::Signaled(signal) => 128 + signal,
        }
    }
}
