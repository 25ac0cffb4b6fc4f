//! The online store: one packed row per (project, view version, entity), of which the greatest row time wins.
//!
//! Start at [`OnlineStore`], which [`open`] gives, and at [`find`], which reads feature values with their
//! statuses through it. [`row`] is the byte layout of a row.
//!
//! * Holds always: a write never replaces a greater row time (the store compares; writers need no lock); a failing
//!   store is an error and never a null; bytes from a store are checked before they are believed.
//! * Units: times in microseconds UTC, sizes in bytes.
//! * Not here: planning, what materialization loads and when, gRPC types. Builds without DataFusion.
//!
//! ```
//! use vintner_core::{EntityKey, RowTime, Value};
//! use vintner_online::{EmbeddedStore, Lookup, OnlineRow, OnlineStore, RowLayout, row::Row};
//! use vintner_registry::model::Layout;
//!
//! # let runtime = tokio::runtime::Runtime::new()?;
//! # runtime.block_on(async {
//! let folder = tempfile::tempdir()?;
//! let store = EmbeddedStore::open(folder.path()).await?;
//! let layout = RowLayout::new(&Layout { fields: vec![("temp".parse()?, "float64".parse()?)] });
//! let (project, view, key) = ("flights".parse()?, "weather@1".parse()?, EntityKey::from_bytes(*b"JFK"));
//!
//! for (observed, temp) in [("2013-01-01T07:00:00Z", 39.9), ("2013-01-01T06:00:00Z", 39.2)] {
//!     let time = RowTime { event: observed.parse()?, created: observed.parse()? };
//!     let row = layout.pack(time, &[Some(Value::Float64(temp))])?;
//!     store.write(&project, &view, None, &[OnlineRow { key: key.clone(), row }]).await?;
//! }
//!
//! let rows = store.read(&project, &[Lookup { view: &view, keys: &[key], cache: None }]).await?;
//! let stored = rows[0][0].as_ref().expect("was written");
//! assert_eq!(Row::parse(&layout, stored)?.value(0)?, Some(Value::Float64(39.9))); // the newer one, though written first
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// What is shared with the fuzzer names the crate as the fuzzer does.
#[cfg(test)]
extern crate self as vintner_online;

pub mod config;
pub mod deletion;
pub mod embedded;
pub mod error;
pub mod meter;
pub mod near_cache;
pub mod read;
pub mod redis;
pub mod row;
pub mod store;
pub mod trace;

pub use self::redis::{
    Address, Login, RedisConfig, RedisServers, RedisStore, RedisUrl, RedisUrlError, SentinelConfig,
    TlsFiles,
};
pub use config::{OnlineStoreConfig, open};
pub use deletion::PacedDeletion;
pub use embedded::EmbeddedStore;
pub use error::{OnlineError, StoreFailure};
pub use meter::{Metered, StoreMeter};
pub use near_cache::{CacheStats, NearCache, ViewCacheStats};
pub use read::{
    EncodedAnswer, EntityKeys, Found, OnlineColumn, OnlineFeatures, ReadPlan, Status, StatusCounts,
    find, shown, view_keys,
};
pub use row::{PackedRow, RowEncodeError, RowEncoder, RowLayout};
pub use store::{
    Expiry, KeyCursor, KeyPage, Load, Lookup, OnlineRow, OnlineStore, Probe, Remaining,
    Replacement, StoreInfo, WriteReport,
};

#[cfg(test)]
mod tests;
