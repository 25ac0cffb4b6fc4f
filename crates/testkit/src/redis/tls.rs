//! Certificates, which `tls/README.md` tells of, and a server that asks for them.

use std::path::PathBuf;

use super::{RedisServer, free_port};

/// A file of the folder `tls`: `ca.crt`, `client.key` and so on.
///
/// # Panics
/// When there is none of this name.
pub fn file(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tls")
        .join(name);
    assert!(path.is_file(), "there is no {}", path.display());
    path
}

impl RedisServer {
    /// Starts a server that speaks TLS on a port of its own, which is given too, and lets only clients in that show a
    /// certificate of `ca.crt`. On its other port it speaks as ever.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_with_tls() -> (Self, u16) {
        let path = |name: &str| file(name).to_string_lossy().into_owned();
        let port = free_port(usize::MAX);
        let options = [
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &path("server.crt"),
            "--tls-key-file",
            &path("server.key"),
            "--tls-ca-cert-file",
            &path("ca.crt"),
        ];
        (Self::start_with(&options), port)
    }
}
