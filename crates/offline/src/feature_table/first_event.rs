//! The first event time of a table's rows, exactly.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray},
    compute::min,
    datatypes::TimestampMicrosecondType,
};
use datafusion::error::{DataFusionError, Result};
use parquet::{
    arrow::arrow_reader::statistics::StatisticsConverter, errors::ParquetError,
    file::metadata::RowGroupMetaData,
};
use vintner_core::{ScalarType, Timestamp};

use super::{
    FeatureFile, FeatureTable,
    read::{UnitRows, WantedColumn},
    units::{OpenFile, Unit},
};

impl FeatureTable {
    /// The first event time that a row has; none when there are no rows.
    ///
    /// The log's bounds are cut off to milliseconds, so they only say which files to ask: those that can have an earlier
    /// row than was found. A file answers from its statistics where these are exact, else from its rows.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(crate) async fn first_event(&self, column: &str) -> Result<Option<Timestamp>> {
        let mut files: Vec<&FeatureFile> = self.files.iter().collect();
        // Files of which the log says nothing come first.
        files.sort_by_key(|file| file.events.map(|(first, _)| first));
        let mut first = None;
        for file in files {
            let bound = file.events.map(|(bound, _)| bound);
            if let (Some(first), Some(bound)) = (first, bound)
                && first <= bound
            {
                break;
            }
            let found = self.first_event_in(file, column).await?;
            first = [first, found].into_iter().flatten().min();
        }
        Ok(first)
    }

    async fn first_event_in(&self, file: &FeatureFile, column: &str) -> Result<Option<Timestamp>> {
        let file = Arc::new(self.open(file.clone()).await?);
        let groups = file.metadata.metadata().row_groups();
        let known = exact_minima(&file, column).map_err(|e| self.read_error(&file.path, e))?;
        let mut first = None;
        for (row_group, (metadata, known)) in groups.iter().zip(known).enumerate() {
            let found = match known {
                Some(known) => Some(known),
                None => {
                    self.first_event_of(&file, row_group, metadata, column)
                        .await?
                }
            };
            first = [first, found].into_iter().flatten().min();
        }
        Ok(first)
    }

    /// From the rows of a row group.
    async fn first_event_of(
        &self,
        file: &Arc<OpenFile>,
        row_group: usize,
        metadata: &RowGroupMetaData,
        column: &str,
    ) -> Result<Option<Timestamp>> {
        let rows = usize::try_from(metadata.num_rows())
            .map_err(|e| DataFusionError::External(Box::new(e)))?;
        let unit = Unit {
            file: Arc::clone(file),
            row_group,
            rows,
            selection: None,
        };
        let column = WantedColumn {
            name: column.to_owned(),
            data_type: ScalarType::Timestamp.arrow(),
        };
        let mut rows = UnitRows::open(self, &unit, &[column].into())?;
        let mut first = None;
        while let Some((columns, _)) = rows.next().await? {
            for times in &columns {
                let found = times
                    .as_primitive_opt::<TimestampMicrosecondType>()
                    .and_then(min);
                first = [first, found].into_iter().flatten().min();
            }
            tokio::task::consume_budget().await;
        }
        Ok(first.map(Timestamp::from_micros))
    }
}

/// The least event time of each row group, where the file's statistics say it exactly.
fn exact_minima(file: &OpenFile, column: &str) -> Result<Vec<Option<Timestamp>>, ParquetError> {
    let groups = || file.metadata.metadata().row_groups().iter();
    let (schema, parquet) = (file.metadata.schema(), file.metadata.parquet_schema());
    let statistics = StatisticsConverter::try_new(column, schema, parquet)?;
    let (minima, exact) = (
        statistics.row_group_mins(groups())?,
        statistics.row_group_is_min_value_exact(groups())?,
    );
    let Some(minima) = minima.as_primitive_opt::<TimestampMicrosecondType>() else {
        return Ok(vec![None; groups().count()]);
    };
    let known = (0..minima.len()).map(|group| {
        let is_exact = exact.is_valid(group) && exact.value(group);
        (is_exact && minima.is_valid(group)).then(|| Timestamp::from_micros(minima.value(group)))
    });
    Ok(known.collect())
}
