//! Where one server listens.

use std::fmt;

/// Host and port of a server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// A name or an IP address, the latter without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Shown as `host:port`, an IPv6 address in brackets.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Address {
    /// An address as Redis writes it: the port after the last colon, no brackets. Without a host, the host is `asked`:
    /// a node of a cluster that does not know its own address means the one at which it was reached.
    pub(super) fn from_server(text: &str, asked: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Self {
            host: if host.is_empty() { asked } else { host }.to_owned(),
            port: port.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_say_is_read_and_shown() {
        for (text, want) in [
            ("10.0.0.1:7000", Some("10.0.0.1:7000")),
            ("::1:7000", Some("[::1]:7000")),
            ("redis-1.internal:6379", Some("redis-1.internal:6379")),
            (":7000", Some("asked:7000")),
            ("10.0.0.1", None),
            ("10.0.0.1:port", None),
            ("10.0.0.1:70000", None),
            ("", None),
        ] {
            let got = Address::from_server(text, "asked").map(|address| address.to_string());
            assert_eq!(got.as_deref(), want, "{text:?}");
        }
    }
}
