//! What was typed, and one file per subcommand.

pub mod init;
pub mod profile;
pub mod schema;
pub mod trust;
