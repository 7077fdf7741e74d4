//! A value in the kernel's keyrings.

use std::ffi::CString;

use nix::errno::Errno;
use zeroize::Zeroizing;

use super::load::{Failure, MOST};
use crate::sys;

/// Reads the key of type `user` with this description.
pub(super) fn read(description: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let add = "add it, such as with `keyctl padd user NAME @u`";
    let name = CString::new(description).map_err(|_| Failure::new("its description holds a NUL", add))?;
    let mut value = Zeroizing::new(vec![0; MOST.saturating_add(3)]);
    let length = sys::keyring::read_user_key(&name, &mut value).map_err(|errno| match errno {
        Errno::ENOKEY => Failure::new("there is no such key", add),
        Errno::EKEYEXPIRED | Errno::EKEYREVOKED => Failure::new(format!("the key is of no use: {}", errno.desc()), add),
        Errno::ENOSYS | Errno::EPERM => Failure::new(
            "the kernel's keyrings cannot be used here",
            "a container's filter hides them; use a `file` or a `command`",
        ),
        _ => Failure::new(errno.desc(), add),
    })?;
    if length > value.len() {
        return Err(Failure::new(format!("it is longer than {MOST} bytes"), "name the value alone"));
    }
    value.truncate(length);
    Ok(value)
}
