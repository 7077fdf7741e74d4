//! Policy + facts → what will be done on this machine: plain, serialisable data without descriptors.

pub mod landlock;
pub mod limits;
pub mod seccomp;
