//! The ways in: one for programs that connect to a host, one for those that ask for a proxy. All of them end in
//! [`speak`], and all decisions are the gate's.

pub mod body;
pub mod exchange;
pub mod explicit;
pub mod plain;
pub mod socks;
pub mod speak;
pub mod transparent;
