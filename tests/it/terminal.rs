//! The user's terminal: what the filter lets through, raw mode and back, and the byte pumps.

mod filter;
