//! What can go wrong between a caller and an online store.

use vintner_core::{ColumnError, EntityKey, KeyError, ProjectName, ViewId};

use crate::row::RowDecodeError;

/// Why an online store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum OnlineError {
    /// The store cannot be reached or does not answer in time. The same call can be made again.
    #[error(
        "the online store {store} is not available; check that it runs and can be reached, then try again"
    )]
    Unavailable {
        /// The store, without secrets.
        store: String,
        /// What the store's client says.
        source: StoreFailure,
    },
    /// The store does not let this process in, or not do that.
    #[error(
        "the online store {store} denies access; check the user, the password and the certificate that vintner.yaml \
         gives, and what that user may do"
    )]
    Denied {
        /// The store, without secrets.
        store: String,
        /// What the store's client says.
        source: StoreFailure,
    },
    /// The store has no room left.
    #[error("the online store {store} is full; give it more room or delete views, then try again")]
    Full {
        /// The store, without secrets.
        store: String,
        /// What the store's client says.
        source: StoreFailure,
    },
    /// The store was reached and did not do it. The same call fails again until someone has looked.
    #[error("the online store {store} could not {action}")]
    Failed {
        /// The store, without secrets.
        store: String,
        /// What was asked of it.
        action: String,
        /// What the store's client says.
        source: StoreFailure,
    },
    /// Rows that were written may be gone again. The same load can be made again.
    #[error(
        "the online store {store} was started again or emptied while {view} was loaded, so that rows may be \
         missing; materialize again"
    )]
    LostRows {
        /// The store, without secrets.
        store: String,
        /// The view version.
        view: ViewId,
    },
    /// The store has another format than this program reads.
    #[error(
        "the online store {store} has the format `{found}`, and this program reads `{known}`; \
         use the program that wrote it, or another path"
    )]
    Format {
        /// The store.
        store: String,
        /// The format that was found.
        found: String,
        /// The format that this program reads.
        known: &'static str,
    },
    /// A row that the registry version at hand has no layout for: a newer one has.
    #[error(
        "an online row of {view} is written in layout {fingerprint:08x}, which this version of the registry \
         does not have; load the newest registry and read again"
    )]
    UnknownLayout {
        /// The view version.
        view: ViewId,
        /// The layout that the row names.
        fingerprint: u32,
    },
    /// A row that cannot be read.
    #[error(
        "the online row of {view} in the project {project} for {entity} cannot be read; \
         materialize the view again to replace it"
    )]
    CorruptRow {
        /// The project.
        project: ProjectName,
        /// The view version.
        view: ViewId,
        /// The row's entity, for people: `origin=JFK`.
        entity: String,
        /// What is wrong with the row.
        source: RowDecodeError,
    },
    /// Two long entity keys have one hash, which is not a thing that happens.
    #[error("the online store {store} holds another entity where {key:?} of {view} belongs")]
    KeyCollision {
        /// The store.
        store: String,
        /// The view version.
        view: ViewId,
        /// The entity that was asked for.
        key: EntityKey,
    },
    /// A default that is not of its feature's type, which `apply` does not let in.
    #[error("the default of the column `{column}` of {view} is not of its type")]
    Default {
        /// The view version.
        view: ViewId,
        /// The column.
        column: String,
        /// What is wrong with it.
        source: ColumnError,
    },
    /// Entities whose join keys are not the view's.
    #[error("the entities do not fit {view}")]
    Keys {
        /// The view version.
        view: ViewId,
        /// What does not fit.
        source: KeyError,
    },
    /// Another number of entities for one view than for another.
    #[error("{view} was given {found} entities, and the request has {wanted}")]
    EntityCount {
        /// The view version.
        view: ViewId,
        /// The number of entities of the request.
        wanted: usize,
        /// How many came for this view.
        found: usize,
    },
}

/// What a store's client says.
#[derive(Debug, thiserror::Error)]
pub enum StoreFailure {
    /// Redis, or the way to it. Its message says what its source says, so the source is not given again.
    #[error("{0}")]
    Redis(redis::RedisError),
    /// LMDB.
    #[error(transparent)]
    Lmdb(#[from] heed::Error),
    /// The file system.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

impl From<redis::RedisError> for StoreFailure {
    fn from(err: redis::RedisError) -> Self {
        Self::Redis(err)
    }
}
