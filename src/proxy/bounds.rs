//! The bounds of the proxy in one place: how long, how many, how much. What the policy sets is in
//! [`policy::egress`](crate::policy::egress); how much a parser takes stands with the parser.

use std::time::Duration;

/// A TLS hello, a request head or a SOCKS request arrives whole within this, from its first byte or the connection's
/// start.
pub const FIRST_WORDS: Duration = Duration::from_secs(15);

/// A denied program gets so long to say in which protocol it wants to be told; after that the connection is reset.
pub const DENIED_WORDS: Duration = Duration::from_secs(1);

/// A program may take so long to read a refusal, and so many bytes of what it still sends are thrown away meanwhile.
pub const LISTEN: Duration = Duration::from_secs(1);
/// See [`LISTEN`].
pub const IGNORED: usize = 1 << 20;

/// The next address is tried beside the last one after this (RFC 8305 section 5).
pub const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// A name is resolved within this.
pub const RESOLVE: Duration = Duration::from_secs(10);

/// How long addresses of a name are kept, and that it has none.
pub const KEEP_ADDRESSES: Duration = Duration::from_secs(5);
/// See [`KEEP_ADDRESSES`].
pub const KEEP_FAILURE: Duration = Duration::from_secs(2);

/// Names whose addresses are kept.
pub const KEPT_NAMES: usize = 1024;

/// Addresses of a name that are looked at and tried.
pub const ADDRESSES: usize = 16;

/// Threads that resolve names. A resolver that hangs holds one.
pub const RESOLVER_THREADS: usize = 8;

/// A tunnel over which nothing passes ends after this when one side has said that it sends no more.
pub const IDLE_HALF_CLOSED: Duration = Duration::from_secs(10 * 60);

/// A kept HTTP connection waits so long for the next request.
pub const IDLE_HTTP: Duration = Duration::from_secs(5 * 60);

/// Connections at once. Accepting pauses when they are reached; the kernel keeps the next ones waiting.
pub const CONNECTIONS: usize = 16_384;

/// Connections to the responder at once.
pub const DNS_CONNECTIONS: usize = 64;

/// Descriptors kept for everything else than connections.
pub const SPARE_DESCRIPTORS: usize = 256;

/// Pause after accepting failed, for want of descriptors or memory.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The buffer all connections share.
pub const BUFFER: usize = 64 * 1024;

/// So much of the body of an HTTP message is put together before it is written.
pub const GATHER: usize = 32 * 1024;
/// From what size on the rest of a body or chunk is carried unseen.
pub const UNSEEN: u64 = 32 * 1024;

/// A direction that has moved so much in large pieces goes through a pipe, until several smaller ones come.
pub const BULK: usize = 64 * 1024;
/// What counts as a large piece: a TLS record is no larger.
pub const LARGE: usize = 16 * 1024;

/// Size asked for a pipe. The kernel gives an ordinary user 64 MiB of pipes altogether.
pub const PIPE: usize = 256 * 1024;

/// Pipes in use at once, and kept for later.
pub const PIPES: usize = 64;
/// See [`PIPES`].
pub const KEPT_PIPES: usize = 8;

/// Refusals that are recorded one by one in a burst, and how many more each second. The rest is counted.
pub const REFUSALS: u32 = 256;
/// See [`REFUSALS`].
pub const REFUSALS_PER_SECOND: u32 = 16;

/// Hosts whose refusal is told at once, and hosts that the summary remembers.
pub const TOLD_HOSTS: usize = 32;
/// See [`TOLD_HOSTS`].
pub const REMEMBERED_HOSTS: usize = 512;

/// Programs that the summary names beside a host.
pub const NAMED_PROGRAMS: usize = 3;

/// Connections out that may follow each other at once, and the time between two after that. Each leaves two lines in the
/// record, half a kilobyte together: a burst 100 MB, and an hour of flood 36 MB more.
pub const CONNECTIONS_IN_A_BURST: u32 = 200_000;
/// See [`CONNECTIONS_IN_A_BURST`].
pub const CONNECTION_PACE: Duration = Duration::from_millis(50);
