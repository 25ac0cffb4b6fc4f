//! Rows in batches of one size, whatever the sizes they came in. How a file is cut into pages and blocks depends on its
//! writer's batches, and the same rows must make the same file.

use arrow::{array::RecordBatch, compute::concat_batches, datatypes::SchemaRef, error::ArrowError};

/// Rows in a batch. Batches of just this size, as the join gives them, are passed on without a copy.
pub(crate) const EVEN_ROWS: usize = 32 * 1024;

/// Rows that wait until there are enough.
#[derive(Debug)]
pub(crate) struct EvenBatches {
    schema: SchemaRef,
    waiting: Vec<RecordBatch>,
    rows: usize,
}

impl EvenBatches {
    pub(crate) fn new(schema: SchemaRef) -> Self {
        Self {
            schema,
            waiting: Vec::new(),
            rows: 0,
        }
    }

    /// Takes rows; gives all whole batches that there are now.
    ///
    /// # Errors
    /// When the rows have other columns than those before.
    pub(crate) fn push(&mut self, mut batch: RecordBatch) -> Result<Vec<RecordBatch>, ArrowError> {
        let mut whole = Vec::new();
        while self.rows + batch.num_rows() >= EVEN_ROWS {
            let taken = EVEN_ROWS - self.rows;
            let rest = batch.slice(taken, batch.num_rows() - taken);
            self.add(batch.slice(0, taken));
            whole.extend(self.rest()?);
            batch = rest;
        }
        self.add(batch);
        Ok(whole)
    }

    /// The rows that wait, if any.
    pub(crate) fn rest(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        self.rows = 0;
        match std::mem::take(&mut self.waiting).as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one.clone())),
            several => concat_batches(&self.schema, several).map(Some),
        }
    }

    fn add(&mut self, batch: RecordBatch) {
        if batch.num_rows() > 0 {
            self.rows += batch.num_rows();
            self.waiting.push(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    #[test]
    fn batches_come_out_the_same_however_they_went_in() {
        let rows = 2 * EVEN_ROWS + 5;
        let numbers = Int64Array::from_iter_values(0..i64::try_from(rows).unwrap());
        let numbers: ArrayRef = Arc::new(numbers);
        let whole = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
        for size in [1000, EVEN_ROWS - 1, EVEN_ROWS, EVEN_ROWS + 1, rows] {
            let mut even = EvenBatches::new(whole.schema());
            let mut found = Vec::new();
            for from in (0..rows).step_by(size) {
                let batch = whole.slice(from, size.min(rows - from));
                found.extend(even.push(batch).unwrap());
            }
            found.extend(even.rest().unwrap());
            let sizes: Vec<_> = found.iter().map(RecordBatch::num_rows).collect();
            assert_eq!(sizes, [EVEN_ROWS, EVEN_ROWS, 5], "batches of {size}");
            assert_eq!(concat_batches(&whole.schema(), &found).unwrap(), whole);
        }
    }
}
