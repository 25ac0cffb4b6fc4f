//! Whether files still have the columns that were there at `apply`.
//!
//! A type may have become narrower (`int32` where `int64` was applied), since every value still fits. Anything else
//! is an error: a run must not guess.

use arrow::datatypes::DataType;
use vintner_core::{FeatureType, nearest::nearest};
use vintner_registry::model::{Source, SourceFormat};

use super::{error::SourceError, infer::FileColumns, normalise::widened};

/// Checks every file against the wanted columns.
pub(super) fn check(
    source: &Source,
    wanted: &[(String, FeatureType)],
    files: &[FileColumns],
) -> Result<(), SourceError> {
    for (column, was) in wanted {
        let mut absent = None;
        let mut present = None;
        for file in files {
            match file.schema.field_with_name(column) {
                Ok(field) => {
                    present = Some(file);
                    check_type(source, file, column, *was, field.data_type())?;
                }
                Err(_) => absent = Some(file),
            }
        }
        match (absent, present) {
            (None, _) => {}
            // A field that a JSON object does not have is null; one that no object has, in any file, is gone.
            (Some(_), Some(_)) if source.format == SourceFormat::Json => {}
            (Some(absent), Some(present)) => {
                return Err(SourceError::DifferentColumns {
                    name: source.name.clone(),
                    column: column.clone(),
                    present: present.file.clone(),
                    missing: absent.file.clone(),
                });
            }
            (Some(absent), None) => return Err(vanished(source, absent, column)),
        }
    }
    Ok(())
}

fn check_type(
    source: &Source,
    file: &FileColumns,
    column: &str,
    was: FeatureType,
    found: &DataType,
) -> Result<(), SourceError> {
    // Text has no types of its own: each value is read as what was applied, and a wrong one is named with its line.
    if matches!(source.format, SourceFormat::Csv | SourceFormat::Json) {
        return Ok(());
    }
    match FeatureType::holding(found) {
        Ok(now) if widened(was, now) == Some(was) => Ok(()),
        now => Err(SourceError::TypeChanged {
            name: source.name.clone(),
            column: column.to_owned(),
            was,
            now: now.map_or_else(|_| found.to_string(), |now| now.to_string()),
            file: file.file.clone(),
        }),
    }
}

fn vanished(source: &Source, file: &FileColumns, column: &str) -> SourceError {
    let names = file
        .schema
        .fields()
        .iter()
        .map(|field| field.name().as_str());
    SourceError::Vanished {
        name: source.name.clone(),
        column: column.to_owned(),
        file: file.file.clone(),
        nearest: nearest(column, names).map(str::to_owned),
    }
}
