//! The settings of a server.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
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
    /// How much of [`Self::max_concurrent`] the online requests for one selection of features may take, so that one
    /// whose store does not answer leaves the rest to others. Default: a half.
    pub selection_share: Share,
    /// How much of [`Self::max_concurrent`] one connection may take, so that one client leaves the rest to others. Its
    /// further calls wait at the client's side. Default: a quarter.
    pub connection_share: Share,
    /// A call that takes longer than this is told of in the log, with its id. Streams are left aside. Default: 1 second.
    pub slow_call: Duration,
    /// How long calls that are being answered may take to finish when the server stops. Default: 30 seconds, which is
    /// what container platforms give by default.
    pub shutdown_grace: Duration,
}

/// A part of a whole, in percent from 1 to 100. Written `50%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u8);

/// Why a text is no [`Share`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a share; write it from 1% to 100%, like 50%")]
pub struct ShareError(String);

impl Share {
    /// So much of a whole; never nothing.
    pub fn of(self, whole: usize) -> usize {
        let percent = usize::from(self.0);
        (whole / 100 * percent + whole % 100 * percent / 100).max(1)
    }
}

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        let percent = text.strip_suffix('%').and_then(|text| text.parse().ok());
        match percent {
            Some(percent @ 1..=100) => Ok(Self(percent)),
            _ => Err(ShareError(text.to_owned())),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7600),
            max_message_bytes: 16 * 1024 * 1024,
            max_batch: 10_000,
            max_concurrent: 1024,
            max_concurrent_entities: 200_000,
            selection_share: Share(50),
            connection_share: Share(25),
            slow_call: Duration::from_secs(1),
            shutdown_grace: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage_of_which_something_is_left() {
        for (text, whole, want) in [
            ("50%", 8, 4),
            ("25%", 1024, 256),
            ("1%", 99, 1),
            ("1%", 200, 2),
            ("33%", 10, 3),
            ("100%", usize::MAX, usize::MAX),
            ("25%", 1, 1),
        ] {
            let share: Share = text.parse().unwrap();
            assert_eq!(share.of(whole), want, "{text} of {whole}");
            assert_eq!(share.to_string(), text);
        }
        for wrong in ["0%", "101%", "50", "%", "-1%", "0.5%", "50 %", "300%"] {
            wrong.parse::<Share>().unwrap_err();
        }
    }
}
