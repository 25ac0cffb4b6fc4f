//! The settings of a server.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

/// How a server listens, and what it bears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where to listen. Only a loopback address is taken, as long as there is no authentication. Port 0 takes any free
    /// port. Default: 127.0.0.1:7600.
    pub listen: SocketAddr,
    /// The most bytes one message of a request may have: an online request, a repo, one record batch of entity rows.
    /// Default: 16 MiB, eight times what Flight clients send at once, and enough for any repo.
    pub max_message_bytes: usize,
    /// The most entities one online request may ask for. Default: 10,000, which the embedded store answers in well under
    /// a second.
    pub max_batch: usize,
    /// The most calls that are answered at once; a call beyond them is refused. Default: 1,024.
    pub max_concurrent: usize,
    /// The most entities that all online requests together may look up at once; a request beyond them is refused.
    /// Default: 200,000, so that answers on their way take at most some hundred megabytes.
    pub max_concurrent_entities: usize,
    /// A call that takes longer than this is told of in the log, with its id. Streams are left aside. Default: 1 second.
    pub slow_call: Duration,
    /// How long calls that are being answered may take to finish when the server stops. Default: 30 seconds, which is
    /// what container platforms give by default.
    pub shutdown_grace: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7600),
            max_message_bytes: 16 * 1024 * 1024,
            max_batch: 10_000,
            max_concurrent: 1024,
            max_concurrent_entities: 200_000,
            slow_call: Duration::from_secs(1),
            shutdown_grace: Duration::from_secs(30),
        }
    }
}
