//! Which online store a deployment uses.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    embedded::EmbeddedStore,
    error::OnlineError,
    near_cache::NearCache,
    redis::{RedisConfig, RedisStore},
    store::OnlineStore,
};

/// An online store and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnlineStoreConfig {
    /// In a folder of this machine.
    Embedded {
        /// The folder; relative to the folder of `vintner.yaml`.
        path: PathBuf,
    },
    /// In Redis. Paths in it are relative to the folder of `vintner.yaml`.
    Redis(RedisConfig),
}

/// Opens the online store, one in Redis with a near cache in front of it. `root` is what relative paths are relative
/// to. Redis is not contacted yet: one that is down is an error of the first call that needs it.
///
/// # Errors
/// [`OnlineError`] when the embedded store cannot be opened, or files for TLS cannot be used.
pub async fn open(
    config: &OnlineStoreConfig,
    root: &Path,
) -> Result<Arc<dyn OnlineStore>, OnlineError> {
    Ok(match config {
        OnlineStoreConfig::Embedded { path } => {
            Arc::new(EmbeddedStore::open(&root.join(path)).await?)
        }
        OnlineStoreConfig::Redis(config) => {
            let store = RedisStore::new(RedisConfig {
                servers: config.servers.clone(),
                tls: config.tls.as_ref().map(|files| files.below(root)),
            })?;
            Arc::new(NearCache::new(Arc::new(store)))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_relative_path_is_relative_to_the_root_and_redis_is_not_contacted_yet() {
        let root = tempfile::tempdir().unwrap();
        let embedded = OnlineStoreConfig::Embedded {
            path: ".vintner/online".into(),
        };
        open(&embedded, root.path()).await.unwrap();
        assert!(root.path().join(".vintner/online/data.mdb").is_file());
        let redis = OnlineStoreConfig::Redis("redis://127.0.0.1:1".parse().unwrap());
        let store = open(&redis, root.path()).await.unwrap();
        assert!(matches!(
            store.check().await,
            Err(OnlineError::Unavailable { .. })
        ));
    }
}
