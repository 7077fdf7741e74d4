//! Where requests may go. Decided by the proxy; until it exists every connection out is refused.

use serde::Serialize;

/// The rules about requests that leave the jail.
#[derive(Debug, Clone, Default, Serialize)]
pub struct EgressPolicy {}
