//! HTTP/1 between a client inside and a server outside (RFC 9110, RFC 9112), read strictly.
//!
//! [`request::Request`] and [`response::Exchange`] decide everything about a message before a byte of it is passed on:
//! where it goes, how long its body is, which fields belong to the connection. What is passed on is written anew from
//! that decision, so that the next program reads what was decided here.

pub mod body;
pub mod head;
pub mod hop;
pub mod request;
pub mod response;
