//! The columns of a source, from footers and first rows: no data is read in full.

use std::{collections::BTreeSet, io::Cursor, sync::Arc};

use arrow::{
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
    json::reader::infer_json_schema,
};
use bytes::{Bytes, BytesMut};
use datafusion::{
    datasource::file_format::{FileFormat, parquet::ParquetFormat},
    error::DataFusionError,
    execution::SessionState,
};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use vintner_core::{FeatureType, ScalarType};
use vintner_registry::model::{Source, SourceFormat};

use super::{
    csv::{csv_line, first_types, header},
    error::{SourceError, TypeIn},
    json::json_reason,
    listing::store_error,
    located::Origin,
    normalise::widened,
};

/// How many rows of a file of text show its columns' types.
const SAMPLE_ROWS: usize = 2_000;
/// How many bytes of a file of text are looked at, at most.
const SAMPLE_BYTES: usize = 1 << 20;
/// How many files are looked at once.
const FILES_AT_ONCE: usize = 16;
/// How many files of a folder are looked at to learn a source's columns: the first ones, and the last ones by path,
/// which in most layouts are the oldest and the newest. Every file is checked again when it is read.
const FILES_LOOKED_AT: usize = 64;

/// The columns of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceSchema {
    /// The columns that queries can use, in the source's order, and the types they are read as.
    pub columns: Vec<(String, FeatureType)>,
    /// The columns that queries cannot use.
    pub left_out: Vec<LeftOut>,
}

/// A column that queries cannot use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name.
    pub column: String,
    /// Why.
    pub reason: LeftOutReason,
}

/// Why queries cannot use a column.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeftOutReason {
    /// No feature type holds the column's type.
    #[error("has the type {0}, which no feature can have")]
    Type(String),
    /// The first rows have no value in it, so its type is not known.
    #[error("has no value in its first rows, so its type is not known")]
    NoValues,
    /// Some files do not have it.
    #[error("is in `{present}` and not in `{missing}`")]
    NotInEveryFile {
        /// A file that has it.
        present: String,
        /// A file that has not.
        missing: String,
    },
    /// Two columns have the name.
    #[error("is there twice")]
    Twice,
}

/// What is looked for in files of text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// The columns and their types, as the first rows show them.
    Types,
    /// The columns only. Wrong rows are left to the scan, which names their lines.
    Names,
}

/// What one file says of its columns.
#[derive(Clone, Debug)]
pub(super) struct FileColumns {
    /// The file as the repo would write it.
    pub(super) file: String,
    pub(super) schema: SchemaRef,
}

/// The columns of these files of one source.
pub(super) async fn infer(
    source: &Source,
    store: &Arc<dyn ObjectStore>,
    origin: &Origin,
    files: &[ObjectMeta],
    session: &SessionState,
) -> Result<SourceSchema, SourceError> {
    let files = sampled(files);
    let columns = file_columns(source, store, origin, &files, session, Look::Types).await?;
    let merged = merge(source, &columns)?;
    if merged.columns.is_empty() && merged.left_out.is_empty() {
        return Err(SourceError::EmptyFile {
            name: source.name.clone(),
            file: columns
                .first()
                .map_or_else(|| source.path.clone(), |c| c.file.clone()),
        });
    }
    Ok(merged)
}

fn sampled(files: &[ObjectMeta]) -> Vec<ObjectMeta> {
    if files.len() <= FILES_LOOKED_AT {
        return files.to_vec();
    }
    let half = FILES_LOOKED_AT / 2;
    let (first, last) = (&files[..half], &files[files.len() - half..]);
    first.iter().chain(last).cloned().collect()
}

/// The columns of each file, in the files' order.
pub(super) async fn file_columns(
    source: &Source,
    store: &Arc<dyn ObjectStore>,
    origin: &Origin,
    files: &[ObjectMeta],
    session: &SessionState,
    look: Look,
) -> Result<Vec<FileColumns>, SourceError> {
    // Owned, since a closure over borrowed items makes a future that is not known to be `Send`.
    stream::iter(files.to_vec())
        .map(|meta| async move {
            let meta = &meta;
            let file = origin.shown(&meta.location);
            let schema = match source.format {
                SourceFormat::Parquet | SourceFormat::Delta => {
                    footer(source, store, origin, &file, meta, session).await?
                }
                SourceFormat::Csv | SourceFormat::Json => {
                    first_rows(source, store.as_ref(), &file, meta, look).await?
                }
            };
            Ok(FileColumns { file, schema })
        })
        .buffered(FILES_AT_ONCE)
        .try_collect()
        .await
}

async fn footer(
    source: &Source,
    store: &Arc<dyn ObjectStore>,
    origin: &Origin,
    file: &str,
    meta: &ObjectMeta,
    session: &SessionState,
) -> Result<SchemaRef, SourceError> {
    if meta.size == 0 {
        return Err(empty(source, file));
    }
    let options = session.config_options().execution.parquet.clone();
    let format = ParquetFormat::new()
        .with_force_view_types(options.schema_force_view_types)
        .with_coerce_int96(options.coerce_int96);
    let schema = format
        .infer_schema(session, store, std::slice::from_ref(meta))
        .await;
    schema.map_err(|error| unreadable(source, origin, file, error))
}

/// The error of reading a footer, as the source's.
fn unreadable(source: &Source, origin: &Origin, file: &str, error: DataFusionError) -> SourceError {
    match error {
        DataFusionError::ObjectStore(error) => store_error(source, file, *error),
        DataFusionError::ParquetError(cause) => SourceError::Corrupt {
            name: source.name.clone(),
            file: file.to_owned(),
            format: origin.format,
            cause,
        },
        other => SourceError::Read {
            name: source.name.clone(),
            file: file.to_owned(),
            cause: Box::new(other),
        },
    }
}

fn empty(source: &Source, file: &str) -> SourceError {
    SourceError::EmptyFile {
        name: source.name.clone(),
        file: file.to_owned(),
    }
}

async fn first_rows(
    source: &Source,
    store: &dyn ObjectStore,
    file: &str,
    meta: &ObjectMeta,
    look: Look,
) -> Result<SchemaRef, SourceError> {
    let beginning = beginning(store, meta)
        .await
        .map_err(|error| store_error(source, file, error))?;
    let schema = match (source.format, look) {
        (SourceFormat::Csv, _) if beginning.iter().all(u8::is_ascii_whitespace) => {
            return Err(empty(source, file));
        }
        (SourceFormat::Csv, Look::Names) => {
            let names = header(&beginning).map_err(|error| wrong_csv(source, file, error))?;
            let field = |name: &String| Field::new(name, DataType::Utf8, true);
            Schema::new(names.iter().map(field).collect::<Vec<_>>())
        }
        (SourceFormat::Csv, Look::Types) => {
            let types = first_types(&beginning, SAMPLE_ROWS);
            types.map_err(|error| wrong_csv(source, file, error))?
        }
        (_, look) => {
            let names = json_names(source, file, &beginning)?;
            match look {
                Look::Names => {
                    let field = |name: &String| Field::new(name, DataType::Null, true);
                    Schema::new(names.iter().map(field).collect::<Vec<_>>())
                }
                Look::Types => {
                    let rows = infer_json_schema(Cursor::new(&beginning), Some(SAMPLE_ROWS));
                    rows.map_err(|error| corrupt(source, file, error))?.0
                }
            }
        }
    };
    Ok(Arc::new(with_times(source, &schema)))
}

fn wrong_csv(source: &Source, file: &str, error: ArrowError) -> SourceError {
    match csv_line(&error) {
        Some((line, reason)) => SourceError::Line {
            name: source.name.clone(),
            file: file.to_owned(),
            line,
            reason,
        },
        None => corrupt(source, file, error),
    }
}

/// The fields of the objects in the first lines.
fn json_names(
    source: &Source,
    file: &str,
    beginning: &[u8],
) -> Result<BTreeSet<String>, SourceError> {
    let mut names = BTreeSet::new();
    let lines = beginning.split(|byte| *byte == b'\n').enumerate();
    for (at, line) in lines.filter(|(_, line)| !line.iter().all(u8::is_ascii_whitespace)) {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(line)
            .map_err(|error| SourceError::Line {
                name: source.name.clone(),
                file: file.to_owned(),
                line: at + 1,
                reason: format!(
                    "it is not a JSON object: {}",
                    json_reason(&error.to_string())
                ),
            })?;
        names.extend(object.into_iter().map(|(name, _)| name));
    }
    Ok(names)
}

fn corrupt(source: &Source, file: &str, cause: ArrowError) -> SourceError {
    SourceError::Corrupt {
        name: source.name.clone(),
        file: file.to_owned(),
        format: source.format,
        cause: Box::new(cause),
    }
}

/// The first rows of a file, whole ones only.
async fn beginning(store: &dyn ObjectStore, meta: &ObjectMeta) -> object_store::Result<Bytes> {
    let mut chunks = store.get(&meta.location).await?.into_stream();
    let mut beginning = BytesMut::new();
    while let Some(chunk) = chunks.try_next().await? {
        beginning.extend_from_slice(&chunk);
        if beginning.len() >= SAMPLE_BYTES {
            let end = beginning.iter().rposition(|byte| *byte == b'\n');
            beginning.truncate(end.map_or(beginning.len(), |end| end + 1));
            break;
        }
    }
    Ok(beginning.freeze())
}

/// JSON has no times and CSV's may be in a form that is not recognised, so the two columns that the source declares
/// as times are read as such when they are text.
fn with_times(source: &Source, schema: &Schema) -> Schema {
    let declared = [&source.event_timestamp, &source.created_timestamp];
    let is_time = |name: &str| {
        declared
            .iter()
            .any(|c| c.as_ref().is_some_and(|c| c.as_str() == name))
    };
    let fields = schema.fields().iter().map(|field| {
        let time =
            is_time(field.name()) && matches!(field.data_type(), DataType::Utf8 | DataType::Null);
        let data_type = if time {
            ScalarType::Timestamp.arrow()
        } else {
            field.data_type().clone()
        };
        field.as_ref().clone().with_data_type(data_type)
    });
    Schema::new(fields.collect::<Vec<_>>())
}

/// One column in one file.
enum Seen {
    Typed(FeatureType),
    Untyped(LeftOutReason),
}

fn seen(file: &FileColumns, column: &str) -> Option<Seen> {
    let mut fields = file
        .schema
        .fields()
        .iter()
        .filter(|field| field.name() == column);
    let field = fields.next()?;
    if fields.next().is_some() {
        return Some(Seen::Untyped(LeftOutReason::Twice));
    }
    Some(
        match (field.data_type(), FeatureType::holding(field.data_type())) {
            (_, Ok(feature_type)) => Seen::Typed(feature_type),
            (DataType::Null, _) => Seen::Untyped(LeftOutReason::NoValues),
            (other, _) => Seen::Untyped(LeftOutReason::Type(other.to_string())),
        },
    )
}

fn merge(source: &Source, files: &[FileColumns]) -> Result<SourceSchema, SourceError> {
    let mut names: Vec<&str> = Vec::new();
    for field in files.iter().flat_map(|file| file.schema.fields()) {
        if !names.contains(&field.name().as_str()) {
            names.push(field.name());
        }
    }
    let mut merged = SourceSchema::default();
    for column in names {
        match merge_column(source, files, column)? {
            Ok(feature_type) => merged.columns.push((column.to_owned(), feature_type)),
            Err(reason) => merged.left_out.push(LeftOut {
                column: column.to_owned(),
                reason,
            }),
        }
    }
    Ok(merged)
}

fn merge_column(
    source: &Source,
    files: &[FileColumns],
    column: &str,
) -> Result<Result<FeatureType, LeftOutReason>, SourceError> {
    let mut typed: Option<(FeatureType, &str)> = None;
    let mut untyped = None;
    let (mut present, mut missing) = (None, None);
    for file in files {
        match seen(file, column) {
            None => missing = Some(&file.file),
            Some(Seen::Untyped(LeftOutReason::NoValues)) => present = Some(&file.file),
            Some(Seen::Untyped(reason)) => untyped = Some(reason),
            Some(Seen::Typed(feature_type)) => {
                present = Some(&file.file);
                typed = Some(match typed {
                    None => (feature_type, &file.file),
                    Some((before, first)) => {
                        match text_widened(source.format, before, feature_type) {
                            Some(wider) => (wider, first),
                            None => {
                                return Err(SourceError::DifferentTypes {
                                    name: source.name.clone(),
                                    column: column.to_owned(),
                                    first: Box::new(TypeIn {
                                        feature_type: before,
                                        file: first.to_owned(),
                                    }),
                                    second: Box::new(TypeIn {
                                        feature_type,
                                        file: file.file.clone(),
                                    }),
                                });
                            }
                        }
                    }
                });
            }
        }
    }
    if let Some(reason) = untyped {
        return Ok(Err(reason));
    }
    // In JSON, a field that is not there is null.
    if let (Some(present), Some(missing)) = (present, missing)
        && source.format != SourceFormat::Json
    {
        return Ok(Err(LeftOutReason::NotInEveryFile {
            present: present.clone(),
            missing: missing.clone(),
        }));
    }
    Ok(typed
        .map(|(feature_type, _)| feature_type)
        .ok_or(LeftOutReason::NoValues))
}

/// As [`widened`]; and text that reads as a whole number in one file may be a fraction in the next.
fn text_widened(format: SourceFormat, a: FeatureType, b: FeatureType) -> Option<FeatureType> {
    use ScalarType::{Float64, Int64};
    let text = matches!(format, SourceFormat::Csv | SourceFormat::Json);
    match (a, b) {
        (FeatureType::Scalar(Int64), FeatureType::Scalar(Float64))
        | (FeatureType::Scalar(Float64), FeatureType::Scalar(Int64))
            if text =>
        {
            Some(FeatureType::Scalar(Float64))
        }
        _ => widened(a, b),
    }
}
