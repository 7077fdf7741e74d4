//! A value that is shown nowhere.

use std::fmt;

use zeroize::Zeroizing;

use crate::sys::memory;

/// The value of a credential: overwritten when it is dropped, kept out of swap where the kernel lets us. It has neither
/// `Clone` nor `Serialize`, and its `Debug` says nothing.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes over a value; no copy is made.
    pub fn new(value: Zeroizing<Vec<u8>>) -> Self {
        memory::keep_out_of_swap(&value);
        Self(value)
    }

    /// The value. Whoever asks has to see to it that it goes where it may, and wipes every copy.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
