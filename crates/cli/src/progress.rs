//! Bars on a terminal while a run or a join goes on; nothing in a pipe. indicatif draws on stderr, and only on a
//! terminal.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::TryStreamExt as _;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use vintner_core::ViewId;
use vintner_ops::api::{EntityRows, MaterializeEvent, Phase};

use crate::output;

/// One line per view that is being materialized.
pub(crate) struct Bars {
    all: MultiProgress,
    views: Mutex<HashMap<ViewId, ProgressBar>>,
}

impl Bars {
    pub(crate) fn new() -> Self {
        Self {
            all: MultiProgress::new(),
            views: Mutex::default(),
        }
    }

    /// Shows an event.
    pub(crate) fn event(&self, event: &MaterializeEvent) {
        let Ok(mut views) = self.views.lock() else {
            return;
        };
        match event {
            MaterializeEvent::Started { view, plan } => {
                let bar = spinner("{spinner} {prefix} {human_pos} rows, {per_sec} {wide_msg}");
                let bar = self.all.add(bar);
                bar.set_prefix(view.to_string());
                bar.set_message(plan.clone());
                views.insert(view.clone(), bar);
            }
            MaterializeEvent::Progress { view, phase, rows } => {
                if let Some(bar) = views.get(view) {
                    bar.set_position(*rows);
                    bar.set_message(match phase {
                        Phase::Offline => "to the offline store",
                        Phase::Online => "to the online store",
                    });
                }
            }
            MaterializeEvent::Finished(run) => {
                if let Some(bar) = views.remove(&run.view) {
                    bar.finish_and_clear();
                }
            }
        }
    }
}

/// One line for training rows: first the entity rows that have been read, then the rows that have been written.
#[derive(Clone)]
pub(crate) struct RowsProgress {
    bar: ProgressBar,
    /// The result has as many rows as there are entity rows.
    total: Option<u64>,
    written: Arc<AtomicU64>,
}

impl RowsProgress {
    /// For so many rows, if that is known.
    pub(crate) fn new(total: Option<u64>) -> Self {
        Self {
            bar: spinner("{spinner} {prefix} {human_pos}{msg} rows, {per_sec}"),
            total,
            written: Arc::default(),
        }
    }

    /// The same entity rows, which are counted as they are taken.
    pub(crate) fn reading(&self, rows: EntityRows) -> EntityRows {
        let (progress, mut read) = (self.clone(), 0);
        let batches = rows.batches.inspect_ok(move |batch| {
            read += batch.num_rows() as u64;
            progress.read(read);
        });
        EntityRows {
            schema: rows.schema,
            batches: Box::pin(batches),
        }
    }

    /// What is to be told how many rows have been written each time.
    pub(crate) fn writing(&self) -> impl Fn(usize) + Send + use<> {
        let progress = self.clone();
        move |rows| progress.wrote(rows as u64)
    }

    /// Takes the line away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn read(&self, rows: u64) {
        // A join in chunks reads on after it has begun to write; the line does not go back.
        if self.written.load(Ordering::Relaxed) == 0 {
            self.say("read");
            self.bar.set_position(rows);
        }
    }

    fn wrote(&self, rows: u64) {
        if self.written.fetch_add(rows, Ordering::Relaxed) == 0 {
            // The rate is that of writing from here on.
            self.bar.reset();
            self.say("wrote");
        }
        self.bar.inc(rows);
    }

    fn say(&self, what: &'static str) {
        self.bar.set_prefix(what);
        if let Some(total) = self.total {
            self.bar
                .set_message(format!(" of {}", output::count(total)));
        }
    }
}

/// A line that counts rows.
fn spinner(template: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{ArrayRef, Int64Array, RecordBatch},
        datatypes::Schema,
    };
    use futures::StreamExt as _;

    use super::*;

    fn shown(progress: &RowsProgress) -> String {
        let bar = &progress.bar;
        format!("{} {}{}", bar.prefix(), bar.position(), bar.message())
    }

    #[tokio::test]
    async fn rows_are_counted_as_they_are_read_and_then_as_they_are_written() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
        let batches = futures::stream::iter([Ok(batch.clone()), Ok(batch)]).boxed();
        let schema = Arc::new(Schema::empty());
        let progress = RowsProgress::new(Some(6_000));
        let mut rows = progress.reading(EntityRows { schema, batches });
        let write = progress.writing();
        let mut lines = Vec::new();
        rows.batches.next().await.unwrap().unwrap();
        lines.push(shown(&progress));
        write(2);
        lines.push(shown(&progress));
        // The next chunk of a join.
        rows.batches.next().await.unwrap().unwrap();
        lines.push(shown(&progress));
        write(4);
        lines.push(shown(&progress));
        progress.finish();
        assert_eq!(
            lines,
            [
                "read 3 of 6,000",
                "wrote 2 of 6,000",
                "wrote 2 of 6,000",
                "wrote 6 of 6,000"
            ]
        );
    }
}
