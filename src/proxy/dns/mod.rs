//! The name service that the jail sees: it tells every allowed name an address of its own and asks nobody.

pub mod message;
pub mod pool;
pub mod serve;

/// Where a resolver listens.
pub const PORT: u16 = 53;
