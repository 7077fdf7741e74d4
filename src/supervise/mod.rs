//! What runs beside the jail on the host.

pub mod terminal;
