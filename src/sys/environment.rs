//! The names of this process's variables without a copy of their values.

use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

unsafe extern "C" {
    static environ: *const *const libc::c_char;
}

/// The names of all variables. `std::env::vars_os` copies every value to the heap, where it stays after it was freed: in
/// the supervisor, and so in init, which is a copy of it.
pub fn names() -> Vec<OsString> {
    let mut names = Vec::new();
    // SAFETY: environ(7) is an array of C strings that ends with a null pointer. Nothing in this program changes the
    // environment, so the array does not move under our hands.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let bytes = CStr::from_ptr(*entry).to_bytes();
            // As the standard library does: a name may begin with `=`.
            if let Some(at) = bytes.iter().skip(1).position(|byte| *byte == b'=') {
                names.push(OsStr::from_bytes(&bytes[..=at]).to_owned());
            }
            entry = entry.add(1);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_those_of_the_standard_library() {
        let mut own = super::names();
        let mut known: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
        own.sort();
        known.sort();
        assert_eq!(own, known);
    }
}
