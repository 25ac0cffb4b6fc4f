//! Sources in a folder of their own, written by other writers' hands: Arrow's Parquet writer, plain text, and Delta.

mod deltas;
mod failures;
mod pushdown;
mod reading;

use std::{fs, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch},
    util::pretty::pretty_format_batches,
};
use datafusion::{error::DataFusionError, prelude::SessionContext};
use parquet::{arrow::ArrowWriter, file::properties::WriterProperties};
use tempfile::TempDir;
use vintner_registry::model::About;

use super::*;
use crate::planner::session::{EngineConfig, session};

/// A repo's folder.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn sources(&self) -> Sources {
        Sources::new(self.0.path())
    }

    fn text(&self, path: &str, content: &str) -> &Self {
        self.bytes(path, content.as_bytes())
    }

    fn bytes(&self, path: &str, content: &[u8]) -> &Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn parquet(&self, path: &str, columns: Vec<(&str, ArrayRef)>) -> &Self {
        self.bytes(path, &parquet_bytes(columns))
    }
}

fn parquet_bytes(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
            .unwrap();
    // Groups of two rows, so that pruning shows.
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(2))
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn source(path: &str, format: SourceFormat) -> Source {
    Source {
        name: "things".parse().unwrap(),
        path: path.to_owned(),
        format,
        event_timestamp: Some("at".parse().unwrap()),
        created_timestamp: None,
        is_static: false,
        columns: Vec::new(),
        about: About::default(),
    }
}

fn parquet(path: &str) -> Source {
    source(path, SourceFormat::Parquet)
}

fn csv(path: &str) -> Source {
    source(path, SourceFormat::Csv)
}

fn json(path: &str) -> Source {
    source(path, SourceFormat::Json)
}

fn engine() -> SessionContext {
    session(&EngineConfig::default()).unwrap()
}

/// The columns, as `name type`, and the ones left out.
fn shown(schema: &SourceSchema) -> String {
    let columns = schema.columns.iter().map(|(name, t)| format!("{name} {t}"));
    let left_out = schema
        .left_out
        .iter()
        .map(|l| format!("-{} {}", l.column, l.reason));
    columns.chain(left_out).collect::<Vec<_>>().join("\n")
}

async fn schema_of(folder: &Folder, source: &Source) -> String {
    match folder.sources().schema(source).await {
        Ok(schema) => shown(&schema),
        Err(error) => chain(&error),
    }
}

/// All rows of a source with the columns that it has now.
async fn rows(folder: &Folder, source: &Source) -> Result<Vec<RecordBatch>, DataFusionError> {
    let schema = folder.sources().schema(source).await?;
    rows_as(folder, source, &schema.columns, Subset::All).await
}

async fn rows_as(
    folder: &Folder,
    source: &Source,
    columns: &[(String, FeatureType)],
    subset: Subset,
) -> Result<Vec<RecordBatch>, DataFusionError> {
    let table = folder.sources().table(source, columns, subset).await?;
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let schema = table.schema();
    let found: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(found, names, "exactly the columns asked for");
    let batches = engine().read_table(table)?.collect().await?;
    for batch in &batches {
        for (column, (name, wanted)) in batch.columns().iter().zip(columns) {
            assert_eq!(*column.data_type(), wanted.arrow(), "{name}");
        }
    }
    Ok(batches)
}

/// The rows as a table in the order of their text, or the errors.
fn table_of(rows: Result<Vec<RecordBatch>, DataFusionError>) -> String {
    match rows {
        Ok(batches) => {
            let text = pretty_format_batches(&batches).unwrap().to_string();
            let mut lines: Vec<&str> = text.lines().collect();
            let end = lines.len() - 1;
            if end > 3 {
                lines[3..end].sort_unstable();
            }
            lines.join("\n")
        }
        Err(error) => chain(SourceError::within(&error).unwrap_or_else(|| panic!("{error:?}"))),
    }
}

/// An error and what is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(&format!("\n  because {error}"));
        next = error.source();
    }
    text
}

fn array<T: arrow::array::Array + 'static>(array: T) -> ArrayRef {
    Arc::new(array)
}
