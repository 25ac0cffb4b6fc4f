//! The online store: one packed row per (project, view version, entity), of which the greatest row time wins.
//!
//! Start at [`OnlineStore`], which [`open`] gives, and at [`get_features`], which reads feature values with their
//! statuses through it. [`row`] is the byte layout of a row.
//!
//! * Holds always: a write never replaces a greater row time (the store compares; writers need no lock); a failing
//!   store is an error and never a null; bytes from a store are checked before they are believed.
//! * Units: times in microseconds UTC, sizes in bytes.
//! * Not here: planning, what materialization loads and when, gRPC types. Builds without DataFusion.

pub mod config;
pub mod embedded;
pub mod error;
pub mod read;
pub mod redis;
pub mod row;
pub mod store;

pub use self::redis::{RedisStore, RedisUrl, RedisUrlError};
pub use config::{OnlineStoreConfig, open};
pub use embedded::EmbeddedStore;
pub use error::{OnlineError, StoreFailure};
pub use read::{
    EntityKeys, OnlineColumn, OnlineFeatures, ReadPlan, Status, get_features, view_keys,
};
pub use row::{PackedRow, RowEncodeError, RowEncoder, RowLayout};
pub use store::{Expiry, Lookup, OnlineRow, OnlineStore, StoreInfo, WriteReport};

#[cfg(test)]
mod tests;
