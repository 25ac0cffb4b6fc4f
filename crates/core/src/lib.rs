//! What the whole of Vintner speaks in: names, feature types and values, view schemas, entity keys, feature
//! references, and time.
//!
//! Start at [`time`]: [`VisibilityRule`] is the one rule that decides which feature row counts for which moment.
//! [`EntityKey`] is the one byte encoding of an entity's join keys; [`Value`] is one feature value outside Arrow.
//! [`meter`] has the plain counters that the crates count with, [`waiting`] what work says it waits for.
//!
//! * Holds always: a value of a type here is valid. Text is parsed at the edge by [`FromStr`](std::str::FromStr)
//!   and can fail there; past the edge nothing is checked twice.
//! * Units: instants and durations are microseconds, instants are UTC; sizes are bytes.
//! * Not here: I/O, the query engine, gRPC types, diagnostics with a place in a file.
//!
//! ```
//! use vintner_core::{Boundary, Knowledge, RowTime, Timestamp, Ttl, VisibilityRule};
//!
//! let observed: Timestamp = "2013-01-01T06:00:00Z".parse()?;
//! let row = RowTime { event: observed, created: observed };
//! let rule = VisibilityRule { ttl: Some("6h".parse::<Ttl>()?), knowledge: Knowledge::Event, boundary: Boundary::At };
//!
//! assert!(rule.visible(row, "2013-01-01T12:00:00Z".parse()?));
//! assert!(!rule.visible(row, "2013-01-01T12:00:00.000001Z".parse()?));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod arrow_values;
pub mod byte_size;
pub mod column;
pub mod entity_key;
pub mod feature_ref;
pub mod feature_type;
pub mod ids;
pub mod meter;
pub mod name;
pub mod nearest;
pub mod schema;
pub mod time;
pub mod value;
pub mod waiting;

pub use byte_size::{ByteSize, ByteSizeError};
pub use column::{Column, ColumnError, ColumnValues};
pub use entity_key::{EntityKey, KeyColumns, KeyError, KeyType, KeyValue};
pub use feature_ref::{FeatureRef, FeatureRefError, FeatureSelector};
pub use feature_type::{FeatureType, ScalarType, UnknownType};
pub use ids::{RegistryVersion, ViewId, ViewVersion};
pub use name::{
    ColumnName, DatasetName, EntityName, FeatureName, NameError, PartName, ProjectName,
    ServiceName, SourceName, ViewName,
};
pub use schema::{FeatureField, JoinKey, KeySchema, KeySchemaError};
pub use time::{
    Boundary, Clock, FixedClock, Knowledge, RowTime, SystemClock, TimeError, Timestamp, Ttl,
    VisibilityRule,
};
pub use value::{ScalarRef, Value, ValueError};
