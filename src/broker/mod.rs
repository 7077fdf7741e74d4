//! Holds the values of credentials, outside the jail and nowhere else.
//!
//! They are loaded after init was cloned and before the supervisor confines itself: no process of the jail ever has a
//! copy of this memory. What goes in are [placeholders](crate::secrets::substitute).

mod command;
mod file;
mod keyring;
pub mod load;
pub mod secret;

pub use load::{Ground, Held, load};
pub use secret::Secret;
