//! Delta tables as sources: their columns, what was added since a version, and the tables over either.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{
    catalog::TableProvider,
    datasource::{ViewTable, provider_as_source},
    error::DataFusionError,
    execution::SessionState,
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder},
    prelude::ident,
};
use deltalake::{
    DeltaTable, DeltaTableError,
    kernel::Action,
    logstore::{StorageConfig, default_logstore, get_actions},
};
use object_store::{ObjectStore, path::Path, prefix::PrefixStore};
use serde::{Deserialize, Serialize};
use vintner_core::FeatureType;
use vintner_registry::model::Source;

use super::{
    drift,
    error::SourceError,
    infer::{FileColumns, LeftOut, LeftOutReason, SourceSchema},
    listing::store_error,
    location::{Location, Target},
    normalise::normalised,
    table_schema,
};

/// What has happened to a Delta source since a version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeltaChange {
    /// Nothing: it is the version it was.
    Unchanged,
    /// Only rows were added, all of them in these files; none when a commit changed no data.
    Appended {
        /// The version up to which that is so.
        to_version: u64,
        /// The files, in the order in which they were added.
        files: Vec<DeltaFile>,
    },
    /// Rows were changed or removed, or the log no longer says what happened: only reading all of it is right.
    Rewritten {
        /// The version it has now.
        to_version: u64,
    },
}

/// A file that was added to a Delta table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeltaFile {
    /// Its path below the table's folder.
    pub path: String,
    /// A version of the table that the file is part of: compaction may have replaced it since.
    pub version: u64,
}

/// The columns of the table as it is now.
pub(super) async fn schema(
    source: &Source,
    location: &Location,
    session: &SessionState,
) -> Result<SourceSchema, SourceError> {
    let table = open(source, location).await?;
    let provider = provider(source, &table, None, None, session).await?;
    let mut found = SourceSchema::default();
    for field in provider.schema().fields() {
        match FeatureType::holding(field.data_type()) {
            Ok(feature_type) => found.columns.push((field.name().clone(), feature_type)),
            Err(_) => found.left_out.push(LeftOut {
                column: field.name().clone(),
                reason: LeftOutReason::Type(field.data_type().to_string()),
            }),
        }
    }
    Ok(found)
}

/// The version of the table now.
pub(super) async fn version(source: &Source, location: &Location) -> Result<u64, SourceError> {
    let table = open(source, location).await?;
    latest(source, &table).await
}

/// The table as it is now, or was at a version.
pub(super) async fn table(
    source: &Source,
    location: &Location,
    columns: &[(String, FeatureType)],
    version: Option<u64>,
    session: &SessionState,
) -> Result<Arc<dyn TableProvider>, SourceError> {
    let table = open(source, location).await?;
    let provider = provider(source, &table, version, None, session).await?;
    let plan = normalised_scan(source, provider, columns)?;
    view(source, plan.build())
}

/// A table of just these files, each read as it was in its version.
pub(super) async fn files(
    source: &Source,
    location: &Location,
    columns: &[(String, FeatureType)],
    files: &[DeltaFile],
    session: &SessionState,
) -> Result<Arc<dyn TableProvider>, SourceError> {
    let table = open(source, location).await?;
    let mut by_version: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for file in files {
        by_version
            .entry(file.version)
            .or_default()
            .push(file.path.clone());
    }
    let mut union: Option<LogicalPlanBuilder> = None;
    for (version, paths) in by_version {
        let provider = provider(source, &table, Some(version), Some(paths), session).await?;
        let part = normalised_scan(source, provider, columns)?;
        union = Some(match union {
            None => part,
            Some(union) => {
                let part = part.build().map_err(|error| failed(source, error))?;
                union.union(part).map_err(|error| failed(source, error))?
            }
        });
    }
    match union {
        Some(union) => view(source, union.build()),
        None => Ok(Arc::new(datafusion::datasource::empty::EmptyTable::new(
            table_schema(columns),
        ))),
    }
}

/// What has happened since `from`.
pub(super) async fn changes(
    source: &Source,
    location: &Location,
    from: u64,
) -> Result<DeltaChange, SourceError> {
    let table = open(source, location).await?;
    let to_version = latest(source, &table).await?;
    if to_version == from {
        return Ok(DeltaChange::Unchanged);
    }
    // A table that was dropped and made again starts over.
    if to_version < from {
        return Ok(DeltaChange::Rewritten { to_version });
    }
    let mut files: Vec<DeltaFile> = Vec::new();
    for version in from + 1..=to_version {
        let commit = table.log_store().read_commit_entry(version).await;
        let Some(commit) = commit.map_err(|error| failed(source, error))? else {
            return Ok(DeltaChange::Rewritten { to_version });
        };
        let actions = get_actions(version, &commit).map_err(|error| failed(source, error))?;
        if !replay(&actions, version, &mut files) {
            return Ok(DeltaChange::Rewritten { to_version });
        }
    }
    for file in &mut files {
        file.version = file.version.min(to_version);
    }
    Ok(DeltaChange::Appended { to_version, files })
}

/// Adds the files of one commit; false when it changed or removed rows.
fn replay(actions: &[Action], version: u64, files: &mut Vec<DeltaFile>) -> bool {
    for action in actions {
        match action {
            Action::Remove(remove) if remove.data_change => return false,
            // Compaction: the rows are the same, and the file can be read in the version before.
            Action::Remove(remove) => {
                let removed = relative(&remove.path);
                for file in files.iter_mut().filter(|file| file.path == removed) {
                    file.version = file.version.min(version - 1);
                }
            }
            Action::Add(add) if add.data_change => files.push(DeltaFile {
                path: relative(&add.path),
                version: u64::MAX,
            }),
            _ => {}
        }
    }
    true
}

/// A file's path as file selections are given.
fn relative(path: &str) -> String {
    match url::Url::parse(path) {
        Ok(_) => path.to_owned(),
        Err(_) => String::from(Path::from(path)),
    }
}

async fn open(source: &Source, location: &Location) -> Result<DeltaTable, SourceError> {
    let Target::Path(root) = &location.target else {
        return Err(SourceError::Path {
            name: source.name.clone(),
            path: source.path.clone(),
            reason: "a Delta table is one folder, not a glob".to_owned(),
        });
    };
    let store = Arc::clone(&location.store);
    let below: Arc<dyn ObjectStore> = Arc::new(PrefixStore::new(Arc::clone(&store), root.clone()));
    let log = default_logstore(below, store, &location.url, &StorageConfig::default());
    let table = DeltaTable::new(log);
    match table.verify_deltatable_existence().await {
        Ok(true) => Ok(table),
        Ok(false) => Err(absent(source, location, root).await),
        Err(DeltaTableError::ObjectStore { source: error }) => {
            Err(store_error(source, &source.path, error))
        }
        Err(error) => Err(failed(source, error)),
    }
}

async fn absent(source: &Source, location: &Location, root: &Path) -> SourceError {
    let there = location.store.list_with_delimiter(Some(root)).await;
    let name = source.name.clone();
    let path = source.path.clone();
    match there {
        Ok(list) if list.objects.is_empty() && list.common_prefixes.is_empty() => {
            SourceError::Missing { name, path }
        }
        Err(object_store::Error::NotFound { .. }) => SourceError::Missing { name, path },
        Err(error) => store_error(source, &source.path, error),
        Ok(_) => SourceError::NotDelta { name, path },
    }
}

async fn latest(source: &Source, table: &DeltaTable) -> Result<u64, SourceError> {
    let version = table.log_store().get_latest_version(0).await;
    match version {
        Ok(version) => Ok(version),
        // The first commits may be gone; a checkpoint says where the log goes on.
        Err(_) => {
            let mut table = table.clone();
            table.load().await.map_err(|error| failed(source, error))?;
            Ok(table.version().unwrap_or_default())
        }
    }
}

async fn provider(
    source: &Source,
    table: &DeltaTable,
    version: Option<u64>,
    files: Option<Vec<String>>,
    session: &SessionState,
) -> Result<Arc<dyn TableProvider>, SourceError> {
    let mut builder = table
        .table_provider()
        .with_session(Arc::new(session.clone()))
        .with_table_version(version);
    if let Some(files) = files {
        builder = builder.with_file_paths(files);
    }
    builder.await.map_err(|error| failed(source, error))
}

/// The scan with exactly the wanted columns and types.
fn normalised_scan(
    source: &Source,
    provider: Arc<dyn TableProvider>,
    columns: &[(String, FeatureType)],
) -> Result<LogicalPlanBuilder, SourceError> {
    let schema = provider.schema();
    let found = FileColumns {
        file: source.path.clone(),
        schema: Arc::clone(&schema),
    };
    drift::check(source, columns, &[found])?;
    let exprs: Vec<Expr> = columns
        .iter()
        .filter_map(|(name, wanted)| {
            let field = schema.field_with_name(name).ok()?;
            let read = normalised(ident(name.as_str()), field.data_type(), *wanted, name);
            Some(read.alias(name))
        })
        .collect();
    LogicalPlanBuilder::scan(source.name.as_str(), provider_as_source(provider), None)
        .and_then(|scan| scan.project(exprs))
        .map_err(|error| failed(source, error))
}

fn view(
    source: &Source,
    plan: Result<LogicalPlan, DataFusionError>,
) -> Result<Arc<dyn TableProvider>, SourceError> {
    let plan = plan.map_err(|error| failed(source, error))?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}

fn failed(source: &Source, error: impl std::error::Error + Send + Sync + 'static) -> SourceError {
    SourceError::Delta {
        name: source.name.clone(),
        path: source.path.clone(),
        cause: Box::new(error),
    }
}
