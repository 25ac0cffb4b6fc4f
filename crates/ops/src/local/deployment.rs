//! From what `vintner.yaml` says of the online store to what opens it.

use vintner_online::{
    Address, Login, OnlineStoreConfig, RedisConfig, RedisServers, RedisUrl, SentinelConfig,
    TlsFiles,
};
use vintner_repo::{self as repo, Secret};

use crate::error::{Fault, OpsError};

/// The online store of a deployment. Paths stay as they are written.
pub(super) fn online_config(
    config: &repo::OnlineStoreConfig,
) -> Result<OnlineStoreConfig, OpsError> {
    Ok(match config {
        repo::OnlineStoreConfig::Embedded { path } => {
            OnlineStoreConfig::Embedded { path: path.into() }
        }
        repo::OnlineStoreConfig::Redis(redis) => OnlineStoreConfig::Redis(RedisConfig {
            servers: servers(&redis.servers)?,
            tls: redis.tls.as_ref().map(tls),
        }),
    })
}

fn servers(servers: &repo::RedisServers) -> Result<RedisServers, OpsError> {
    Ok(match servers {
        repo::RedisServers::One(one) => RedisServers::One(url(one)?),
        repo::RedisServers::Cluster(seeds) => {
            RedisServers::Cluster(seeds.iter().map(url).collect::<Result<_, _>>()?)
        }
        repo::RedisServers::Sentinel(sentinel) => RedisServers::Sentinel(SentinelConfig {
            master: sentinel.master.clone(),
            nodes: sentinel.nodes.iter().map(address).collect(),
            login: login(&sentinel.user, &sentinel.password),
            sentinel_login: login(&sentinel.sentinel_user, &sentinel.sentinel_password),
        }),
    })
}

fn url(url: &repo::RedisUrl) -> Result<RedisUrl, OpsError> {
    url.reveal()
        .parse()
        .map_err(|error| OpsError::from_error(Fault::Request, error))
}

fn address((host, port): &(String, u16)) -> Address {
    Address {
        host: host.clone(),
        port: *port,
    }
}

fn login(user: &Option<String>, password: &Option<Secret>) -> Login {
    Login {
        user: user.clone(),
        password: password
            .as_ref()
            .map(|password| password.reveal().to_owned()),
    }
}

fn tls(files: &repo::TlsFiles) -> TlsFiles {
    TlsFiles {
        ca: files.ca.as_ref().map(Into::into),
        identity: files
            .identity
            .as_ref()
            .map(|(cert, key)| (cert.into(), key.into())),
    }
}
