//! Which files hold secrets: by name with a documented table, by the user's globs, and what a public copy looks like.

pub mod content;
pub mod detect;
pub mod finding;
pub mod glob;
pub mod matcher;
pub mod names;
pub mod substitute;

pub use matcher::{Matcher, Reason, Verdict};
pub use names::{ROWS, Row};
