//! Declared sources, opened: Parquet, CSV, newline-delimited JSON and Delta; files, folders, globs and URLs.
//!
//! Start at [`Sources`]. What it gives the engine has exactly the columns and types asked for: [`normalise()`] is the
//! one place where other units, zones and widths become [`FeatureType`]s.
//!
//! * Holds always: a table reads exactly the files of its [`Subset`], never ones that came later.
//! * Times: microseconds UTC.
//! * Not here: which subset a run reads (that is materialization), and queries ([`crate::planner`]).

mod adapter;
mod csv;
mod delta;
mod drift;
mod error;
mod files;
mod infer;
mod json;
mod listing;
mod located;
mod location;
mod normalise;
mod text;

#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::{catalog::TableProvider, execution::SessionState};
use futures::{StreamExt, stream};
use object_store::ObjectStore;
use url::Url;
use vintner_core::{FeatureType, SourceName};
use vintner_registry::model::{Source, SourceFormat};

pub(crate) use self::{csv::is_padded, normalise::widened};
pub use self::{
    delta::{DeltaChange, DeltaFile},
    error::{SourceError, TypeIn},
    infer::{LeftOut, LeftOutReason, SourceSchema},
    listing::{SourceFile, SourceState},
    normalise::{LossyValue, normalise, normalised},
};
use self::{
    files::FilesTable,
    listing::Listing,
    located::Origin,
    location::{Location, Stores},
};
use crate::planner::{Catalog, KnownSource, session};

/// How many sources are looked at at once.
const SOURCES_AT_ONCE: usize = 8;

/// Opens the sources of one repo.
#[derive(Debug)]
pub struct Sources {
    root: PathBuf,
    stores: Stores,
    /// What footers are read with. It keeps them, so that a file's is read once.
    session: SessionState,
}

/// Which part of a source a table reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subset {
    /// All there is now.
    All,
    /// What there was when the state was listed: exactly these files, or the Delta table at that version.
    State(SourceState),
    /// These files of a source of files.
    Files(Vec<SourceFile>),
    /// These files of a Delta table, as [`Sources::delta_changes`] gives them.
    DeltaFiles(Vec<DeltaFile>),
}

impl Sources {
    /// The sources of the repo in the folder `root`, which relative paths are below.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            stores: Stores::default(),
            session: session::planning().clone(),
        }
    }

    /// Uses `store` for the URLs that begin with `base`, such as `s3://bucket`, in place of one that is made from the
    /// environment.
    #[must_use]
    pub fn with_store(self, base: &Url, store: Arc<dyn ObjectStore>) -> Self {
        self.stores.insert(base, store);
        self
    }

    /// The folder that relative paths are below.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The columns of a source as they are now, from footers and first rows.
    ///
    /// # Errors
    /// [`SourceError`] when there is no data, it cannot be read, or its files contradict each other.
    pub async fn schema(&self, source: &Source) -> Result<SourceSchema, SourceError> {
        let location = self.location(source)?;
        if source.format == SourceFormat::Delta {
            return delta::schema(source, &location, &self.session).await;
        }
        let listing = listing::list(source, &location).await?;
        let origin = origin(source, &listing);
        infer::infer(
            source,
            &location.store,
            &origin,
            &listing.files,
            &self.session,
        )
        .await
    }

    /// The columns of all declared sources, and why some could not be read, in the order of the declarations. Views
    /// over those cannot be planned.
    pub async fn catalog(
        &self,
        declared: impl IntoIterator<Item = Source>,
    ) -> (Catalog, Vec<(SourceName, SourceError)>) {
        let read = stream::iter(declared)
            .map(|source| async move {
                let schema = self.schema(&source).await;
                (source, schema)
            })
            .buffered(SOURCES_AT_ONCE)
            .collect::<Vec<_>>()
            .await;
        let mut catalog = Catalog::new();
        let mut errors = Vec::new();
        for (source, schema) in read {
            let name = source.name.clone();
            let known = match schema {
                Ok(schema) => KnownSource::read(source, schema),
                Err(error) => {
                    errors.push((name.clone(), error));
                    KnownSource::unread(source)
                }
            };
            catalog.insert(name, known);
        }
        (catalog, errors)
    }

    /// What a source holds now, without reading any of it.
    ///
    /// # Errors
    /// [`SourceError`] when there is no data or the store fails.
    pub async fn listing(&self, source: &Source) -> Result<SourceState, SourceError> {
        let location = self.location(source)?;
        if source.format == SourceFormat::Delta {
            let version = delta::version(source, &location).await?;
            return Ok(SourceState::Delta { version });
        }
        let listing = listing::list(source, &location).await?;
        Ok(SourceState::Files(listing.source_files()))
    }

    /// A table of exactly `columns`, in that order, each of exactly [`FeatureType::arrow`].
    ///
    /// Reads footers, or first rows of text, of all files of the subset; the rest is read when the table is scanned.
    ///
    /// # Errors
    /// [`SourceError`] when a file is missing or unreadable, or does not have the columns. A scan fails with the same
    /// inside its [`datafusion::error::DataFusionError`]; [`SourceError::within`] finds it.
    pub async fn table(
        &self,
        source: &Source,
        columns: &[(String, FeatureType)],
        subset: Subset,
    ) -> Result<Arc<dyn TableProvider>, SourceError> {
        let location = self.location(source)?;
        let listing = match subset {
            Subset::All if source.format == SourceFormat::Delta => {
                return delta::table(source, &location, columns, None, &self.session).await;
            }
            Subset::State(SourceState::Delta { version }) => {
                return delta::table(source, &location, columns, Some(version), &self.session)
                    .await;
            }
            Subset::DeltaFiles(files) => {
                return delta::files(source, &location, columns, &files, &self.session).await;
            }
            Subset::All => listing::list(source, &location).await?,
            Subset::State(SourceState::Files(files)) | Subset::Files(files) => {
                listing::resolve(source, &location, &files)?
            }
        };
        self.files_table(source, &location, columns, listing).await
    }

    /// What has happened to a Delta source since a version of it.
    ///
    /// # Errors
    /// [`SourceError`] when the table or its log cannot be read.
    pub async fn delta_changes(
        &self,
        source: &Source,
        from_version: u64,
    ) -> Result<DeltaChange, SourceError> {
        delta::changes(source, &self.location(source)?, from_version).await
    }

    async fn files_table(
        &self,
        source: &Source,
        location: &Location,
        columns: &[(String, FeatureType)],
        listing: Listing,
    ) -> Result<Arc<dyn TableProvider>, SourceError> {
        let origin = origin(source, &listing);
        let (store, files) = (&location.store, listing.files);
        let look = infer::Look::Names;
        let found =
            infer::file_columns(source, store, &origin, &files, &self.session, look).await?;
        drift::check(source, columns, &found)?;
        Ok(Arc::new(FilesTable {
            origin: Arc::new(origin),
            schema: table_schema(columns),
            store: Arc::clone(store),
            store_url: location.store_url.clone(),
            files,
        }))
    }

    fn location(&self, source: &Source) -> Result<Location, SourceError> {
        location::locate(source, &self.root, &self.stores)
    }
}

fn origin(source: &Source, listing: &Listing) -> Origin {
    Origin {
        name: source.name.clone(),
        format: source.format,
        base: listing.base.clone(),
        shown_base: listing.shown_base.clone(),
    }
}

/// The schema of a source's table with these columns.
pub fn table_schema(columns: &[(String, FeatureType)]) -> SchemaRef {
    let fields = columns
        .iter()
        .map(|(name, feature_type)| Field::new(name, feature_type.arrow(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
