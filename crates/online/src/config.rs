//! Which online store a deployment uses.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    embedded::EmbeddedStore,
    error::OnlineError,
    meter::{Metered, StoreMeter},
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
/// to. Redis is not contacted yet: one that is down is an error of the first call that needs it. `meter` counts round
/// trips, so what the near cache answers is not among them.
///
/// # Errors
/// [`OnlineError`] when the embedded store cannot be opened, or files for TLS cannot be used.
pub async fn open(
    config: &OnlineStoreConfig,
    root: &Path,
    meter: &Arc<StoreMeter>,
) -> Result<Arc<dyn OnlineStore>, OnlineError> {
    let meter = Arc::clone(meter);
    Ok(match config {
        OnlineStoreConfig::Embedded { path } => {
            let store = EmbeddedStore::open(&root.join(path)).await?;
            let name = store.name();
            Arc::new(Metered::new(store, &name, meter))
        }
        OnlineStoreConfig::Redis(config) => {
            let store = RedisStore::new(RedisConfig {
                servers: config.servers.clone(),
                tls: config.tls.as_ref().map(|files| files.below(root)),
            })?;
            let name = config.to_string();
            let store = Metered::new(store, &name, meter);
            Arc::new(NearCache::new(Arc::new(store)))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::{FailureKind, Operation};

    #[tokio::test]
    async fn a_relative_path_is_relative_to_the_root_and_redis_is_not_contacted_yet() {
        let root = tempfile::tempdir().unwrap();
        let meter = Arc::new(StoreMeter::default());
        let embedded = OnlineStoreConfig::Embedded {
            path: ".vintner/online".into(),
        };
        open(&embedded, root.path(), &meter).await.unwrap();
        assert!(root.path().join(".vintner/online/data.mdb").is_file());
        let redis = OnlineStoreConfig::Redis("redis://127.0.0.1:1".parse().unwrap());
        let store = open(&redis, root.path(), &meter).await.unwrap();
        assert!(matches!(
            store.check().await,
            Err(OnlineError::Unavailable { .. })
        ));
        let checks = meter.operation(Operation::Check);
        assert_eq!(checks.times.read().count(), 1);
        for kind in FailureKind::ALL {
            let failures = u64::from(kind == FailureKind::Unavailable);
            assert_eq!(checks.failures(kind).get(), failures, "{kind:?}");
        }
    }
}
